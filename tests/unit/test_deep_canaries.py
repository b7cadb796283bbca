"""Canaries of the deep pipeline, and traces: who they are, that coins decide, what is refused."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

import confsim
from confsim.canary_ids import read_ids
from confsim.cli.deep import main
from confsim.deep import backend as backends
from confsim.deep import design
from confsim.deep.canaries import Canaries
from confsim.deep.datasets import Dataset
from confsim.deep.experiment import DeepExperiment
from confsim.experiment import Coded

BACKEND = next(
    (
        name
        for name in backends.BACKENDS
        if all(importlib.util.find_spec(package) for package in (name, "keras"))
    ),
    None,
)

QUICK = {
    "limit": 300,
    "model": "mlp",
    "epochs": 4,
    "batch_size": 50,
    "hidden": 8,
    "backend": BACKEND,
    "seed": 7,
    "early_stopping": "off",
    "design": "coin",
}


def data(n=200, classes=5):
    rng = np.random.default_rng(0)
    groups = np.arange(n)
    groups[1] = 0  # two images are duplicates
    return Dataset(
        rng.integers(0, 255, (n, 4, 4, 1)).astype(np.uint8),
        np.arange(n) % classes,
        np.arange(n) * 3,
        tuple("abcde"[:classes]),
        groups,
    )


def test_mislabelled_canaries_have_another_label_and_nothing_else_changes():
    given, population = data(), np.arange(150)
    made, rows = Canaries("mislabelled", 100).put_into(given, population, 3)
    assert len(np.unique(rows)) == 100
    assert np.isin(rows, population).all()
    assert not {0, 1} & set(rows)
    assert (made.labels[rows] != given.labels[rows]).all()
    others = np.setdiff1d(np.arange(200), rows)
    assert np.array_equal(made.labels[others], given.labels[others])
    assert made.images is given.images
    again, same = Canaries("mislabelled", 100).put_into(given, population, 3)
    assert np.array_equal(rows, same)
    assert np.array_equal(made.labels, again.labels)
    assert not np.array_equal(rows, Canaries("mislabelled", 100).put_into(given, population, 4)[1])


def test_every_other_class_is_drawn_equally_often():
    given = data(20_000)
    made, rows = Canaries("mislabelled", 19_000).put_into(given, np.arange(20_000), 0)
    steps = np.bincount((made.labels[rows] - given.labels[rows]) % 5, minlength=5)
    assert steps[0] == 0
    assert np.abs(steps[1:] - 19_000 / 4).max() < 5 * np.sqrt(19_000 * 3 / 16)


def test_blank_canaries_are_added():
    given = data()
    made, rows = Canaries("blank", 30).put_into(given, np.arange(150), 3)
    assert rows.tolist() == list(range(200, 230))
    assert not made.images[rows].any()
    assert np.array_equal(made.images[:200], given.images)
    assert len(np.unique(made.ids)) == 230
    assert made.ids[200] == given.ids.max() + 1
    assert len(np.unique(made.groups[rows])) == 1
    assert not np.isin(made.groups[rows], given.groups).any()
    assert set(made.labels[rows]) == set(range(5))


def test_blank_canaries_are_of_no_group():
    own = Coded(np.arange(200) % 2, ("a", "b"))
    made, rows = Canaries("blank", 30).put_into(replace(data(), own_groups=own), np.arange(150), 3)
    names = np.array(made.own_groups.names)[made.own_groups.codes]
    assert (names[rows] == "").all()
    assert names[:200].tolist() == ["a", "b"] * 100


def test_given_canaries_are_those_of_the_file(tmp_path):
    file = tmp_path / "ids.csv"
    file.write_text("id,why\n30,a\n3,b\n")
    assert read_ids(str(file)) == (3, 30)
    made, rows = Canaries("given", 2, (3, 30)).put_into(data(), np.arange(150), 0)
    assert rows.tolist() == [1, 10]
    assert made.labels[10] == data().labels[10]


@pytest.mark.parametrize(
    ("ids", "words"), [((0, 4), "4 is no image"), ((597,), "597 is in the holdout")]
)
def test_ids_outside_the_population_are_refused(ids, words):
    with pytest.raises(ValueError, match=words):
        Canaries("given", len(ids), ids).put_into(data(), np.arange(150), 0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("id\n", "a row for each canary"),
        ("name\n1\n", "column id"),
        ("id\n1.5\n", "integers"),
        ("id\n1\n\nx\n", "integers"),
        ("id\n4\n4\n", "id 4 comes more than once"),
        ("", "cannot be read"),
    ],
)
def test_bad_files_of_ids(tmp_path, content, words):
    file = tmp_path / "ids.csv"
    file.write_text(content)
    with pytest.raises(ValueError, match=words):
        read_ids(str(file))


def test_too_many_canaries():
    with pytest.raises(ValueError, match="at most the 148 images of the population"):
        Canaries("mislabelled", 149).put_into(data(), np.arange(150), 0)


def test_coins_decide_on_canaries_alone():
    labels, canaries = np.zeros(500, np.int64), np.arange(100, 300)
    member = np.array(
        [
            np.isin(
                np.arange(500), design.member_rows(labels, 0.5, "coin", 3, t, canaries=canaries)
            )
            for t in range(400)
        ]
    )
    others = np.setdiff1d(np.arange(500), canaries)
    assert member[:, others].all()
    coins = member[:, canaries]
    assert abs(coins.mean() - 0.5) < 4 * 0.5 / np.sqrt(coins.size)
    # Numbers of members vary as sums of independent fair coins do.
    assert coins.sum(axis=1).var() == pytest.approx(200 / 4, rel=0.35)
    assert np.abs(np.corrcoef(coins.T)[np.triu_indices(200, 1)]).mean() < 0.05


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"canaries": 20, "design": "independent"}, "canaries need design 'coin'"),
        ({"canaries": 20, "train_ratio": 0.4}, "train_ratio must be 0.5"),
        ({"canary": "blank"}, "needs canaries"),
        ({"canary": "given"}, "needs canary_ids"),
        ({"canary": "given", "canaries": 5}, "needs canary_ids"),
        ({"canary": "blank", "canary_ids": "x.csv"}, "canary_ids is for canary 'given'"),
        ({"canary": "nonsense", "canaries": 5}, "canary must be"),
        ({"canaries": 20, "early_stopping": "nonmembers"}, "would watch the canaries"),
        ({"canaries": 1}, "canaries must be at least 2"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(ValueError, match=words):
        DeepExperiment(**{**QUICK, "backend": "tensorflow", **settings})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    if BACKEND is None:
        pytest.skip("no Keras backend is installed")
    out = tmp_path_factory.mktemp("canaries") / "run"
    return confsim.deep.run(trials=4, out=out, workers=1, canaries=60, traces=True, **QUICK)


def test_population_says_who_is_a_canary(run):
    table = run.population()
    canary = table["is_canary"].to_numpy()
    assert canary.sum() == 60
    assert (table["split"][canary] == "population").all()
    changed = table["label"] != table["label_before"]
    assert np.array_equal(changed, canary)
    examples = run.examples()
    held = set(table["id"][canary])
    for _, rows in examples.groupby("trial"):
        out = set(rows["id"][~rows["is_member"]])
        assert out < held
        assert 10 < len(out) < 50
        labels = rows.merge(table, on="id")
        assert (labels["label_x"] == labels["label_y"]).all()


def test_traces_end_with_the_models_own_log_odds(run):
    for trial in range(4):
        traces = run.trial(trial).table("traces")
        examples = run.trial(trial).table("examples")
        assert traces["log_odds_true"].dtype == np.float32
        assert traces["epoch"].tolist() == np.repeat([1, 2, 3, 4], len(examples)).tolist()
        last = traces[traces["epoch"] == 4]
        assert np.array_equal(last["id"], examples["id"])
        expected = examples["log_odds_true"].astype(np.float32)
        assert np.array_equal(last["log_odds_true"].to_numpy(), expected.to_numpy())


def test_identity_knows_canaries_and_traces(run):
    identity = run.manifest["identity"]
    assert identity["canary"] == "mislabelled"
    assert identity["canaries"] == 60
    assert identity["save"] == ["traces"]
    plain = DeepExperiment(**QUICK).identity()
    assert "canaries" not in plain
    assert plain["save"] == []


@pytest.mark.skipif(BACKEND is None, reason="no Keras backend is installed")
def test_a_missing_file_of_ids_is_one_line(tmp_path, capsys):
    words = ["--design", "coin", "--canary-ids", str(tmp_path / "none.csv"), "--trials", "2"]
    with pytest.raises(SystemExit) as stopped:
        raise SystemExit(main([*words, "--out", str(tmp_path / "run"), "--limit", "300"]))
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "canary_ids" in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(BACKEND is None, reason="no Keras backend is installed")
def test_coins_that_all_fall_alike_are_refused():
    with pytest.raises(ValueError, match=r"coins of all 2 examples fall alike in trial \d"):
        DeepExperiment(**QUICK, canaries=2).check(20)
    DeepExperiment(**QUICK, canaries=60).check(20)
