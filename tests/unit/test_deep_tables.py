"""The deep pipeline on tables: members decide what is subtracted, missing numbers are means."""

import importlib.util

import numpy as np
import pandas as pd
import pytest

import confsim
from confsim.cli.deep import main
from confsim.deep import backend as backends
from confsim.deep import datasets
from confsim.deep.experiment import DeepExperiment
from confsim.membership import membership_tables

BACKEND = next(
    (
        name
        for name in backends.BACKENDS
        if all(importlib.util.find_spec(package) for package in (name, "keras"))
    ),
    None,
)
needs_keras = pytest.mark.skipif(BACKEND is None, reason="no Keras backend is installed")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Write 200 people: numbers with gaps, two categories, and a label that both decide."""
    rng = np.random.default_rng(1)
    age, work = rng.normal(40, 12, 200), rng.choice(["office", "field", ""], 200)
    rich = age + 20 * (work == "office") + rng.normal(0, 4, 200) > 45
    age[::9] = np.nan
    frame = pd.DataFrame({"who": [f"p{i}" for i in range(200)], "age": age, "work": work})
    frame["income"] = np.where(rich, ">50K", "<=50K")
    found = tmp_path_factory.mktemp("table") / "people.csv"
    frame.to_csv(found, index=False, sep=";", decimal=",")
    return found


@needs_keras
def test_groups_of_a_table_are_slices_of_its_results(path, tmp_path):
    run = confsim.deep.run(
        dataset=f"table:{path}",
        label="income",
        id="who",
        group="work",
        drop=("work",),
        model="softmax",
        epochs=2,
        batch_size=20,
        limit=150,
        trials=4,
        backend=BACKEND,
        workers=1,
        out=tmp_path / "run",
    )
    population = run.population().set_index("name")["group"].astype(str)
    table = pd.read_csv(path, sep=";", decimal=",").set_index("who")["work"]
    assert len(population) == 150
    assert population.to_dict() == table[population.index].fillna("").to_dict()
    tables = membership_tables(run).tables
    for name in ("group_attacks", "group_similarity"):
        assert set(tables[name]["group"]) == set(population) - {""}
    words = run.manifest["capabilities"]["repeat"]
    assert words[words.index("--group") + 1] == "work"


def test_groups_are_part_of_the_data_and_not_learnt_from_where_they_are_left_out(path):
    given = {"label": "income", "drop": ("who", "work")}
    plain = datasets.load(f"table:{path}", **given)
    told = datasets.load(f"table:{path}", group="work", **given)
    assert np.array_equal(plain.images, told.images, equal_nan=True)
    assert plain.own_groups is None
    assert told.fingerprint() != plain.fingerprint()
    learnt = datasets.load(f"table:{path}", label="income", drop=("who",), group="work")
    assert learnt.image_shape > plain.image_shape


@needs_keras
@pytest.mark.parametrize("model", ["mlp", "softmax"])
def test_a_table_is_learnt(model, path, tmp_path):
    run = confsim.deep.run(
        dataset=f"table:{path}",
        label="income",
        id="who",
        model=model,
        epochs=60,
        batch_size=20,
        learning_rate=0.01,
        early_stopping="off",
        trials=2,
        save_model=True,
        backend=BACKEND,
        workers=1,
        out=tmp_path / "run",
    )
    assert run.summary()["non_member_accuracy"].min() > 0.75
    population = run.population()
    assert population["name"].tolist() == [f"p{i}" for i in range(200)]
    assert set(population["label_name"]) == {">50K", "<=50K"}
    table = pd.read_csv(path, sep=";", decimal=",")
    for trial in run.trials:
        weights = run.trial(trial).arrays("model")
        ages = table["age"][weights["training_ids"]]
        assert weights["mean"][0] == pytest.approx(ages.mean(), rel=1e-6)
        assert weights["scale"][0] == pytest.approx(1 / ages.std(ddof=0), rel=1e-6)
    words = run.manifest["capabilities"]["repeat"]
    assert words[words.index("--label") + 1] == "income"
    assert "--drop" not in words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--dataset table:FILE", "needs --label COLUMN"),
        ("--dataset table:FILE --label incom", "has no column 'incom': did you mean 'income'?"),
        ("--dataset table:FILE --label age", "column age must not be missing, but row 0 is"),
        ("--dataset table:FILE --label who", "every class must have at least two examples"),
        ("--dataset table:nowhere.csv --label y", "nowhere.csv cannot be read: No such file"),
        ("--label income", "label is for dataset 'table:FILE', not 'digits'"),
        ("--drop age", "drop is for dataset 'table:FILE'"),
        ("--group site", "group is for dataset 'table:FILE'"),
        ("--dataset table:FILE --label income --group jobs", "has no column 'jobs'"),
        ("--dataset purchase100", "purchase100 is not downloaded: get dataset_purchase.tgz"),
        ("--dataset texas100 --data-dir nowhere", "data_dir nowhere is no folder"),
        pytest.param(
            "--dataset table:FILE --label income --drop who",
            "model 'cnn' needs images, but table:FILE has rows of 3 values: use mlp, softmax",
            marks=needs_keras,
        ),
    ],
)
def test_bad_input_is_one_line(words, message, path, tmp_path, capsys):
    out = tmp_path / "run"
    given = [word.replace("FILE", str(path)) for word in words.split()]
    assert main([*given, "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert message.replace("table:FILE has", f"table:{path} has") in said
    assert said.splitlines()[-1].startswith("confsim-deep: error: ")
    assert not out.exists()


def test_the_identity_is_of_the_data_and_not_of_its_place(path, tmp_path):
    other = tmp_path / "moved.parquet"
    table = pd.read_csv(path, sep=";", decimal=",")
    table.to_parquet(other)
    found = [
        DeepExperiment(
            dataset=f"table:{place}", label="income", drop=("who",), model="mlp", backend="torch"
        ).identity()
        for place in (path, other)
    ]
    assert found[0] == found[1]
    assert found[0]["dataset"] == "table"
