"""Groups of the user's own: what they may be, and what is measured in each."""

import numpy as np
import pandas as pd
import pytest

import confsim
from confsim.membership import membership_tables
from confsim.membership.vulnerability import power_by
from confsim.own_groups import MOST_GROUPS, own_groups
from confsim.report.build import gather, report
from confsim.report.groups import multiplicity


def given(models=10, examples=240, lift=(0.0, 4.0)):
    """Models that give away the second site far more than the first."""
    rng = np.random.default_rng(0)
    site = np.array(["here", "there", ""])[np.arange(examples) % 3]
    member = rng.random((models, examples)) < 0.5
    label = rng.integers(0, 3, examples)
    strength = np.where(site == "there", lift[1], lift[0])
    logits = rng.normal(size=(models, examples, 3))
    logits += (1 + strength * member)[..., None] * np.eye(3)[label]
    return {
        "is_member": member,
        "label": label,
        "logits": logits,
        "features": rng.normal(size=(examples, 4)),
        "group": site,
    }


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    return confsim.audit(given(), design="independent", out=tmp_path_factory.mktemp("own") / "run")


def test_tables_of_one_model_without_distances_are_made_once(tmp_path):
    data = {**given(), "is_member": given()["is_member"][:1], "logits": given()["logits"][:1]}
    del data["features"]
    run = confsim.audit(data, design="independent", out=tmp_path / "run")
    membership_tables(run)
    assert not membership_tables(run).made


def test_groups_are_kept_with_the_population_and_decide_nothing(audited, tmp_path):
    assert audited.population()["group"].astype(str).tolist() == given()["group"].tolist()
    without = {key: value for key, value in given().items() if key != "group"}
    plain = confsim.audit(without, design="independent", out=tmp_path / "plain")
    ours, theirs = membership_tables(audited).tables, membership_tables(plain).tables
    assert {"group_attacks", "group_similarity"} == set(ours) - set(theirs)
    pd.testing.assert_frame_equal(ours["attacks"], theirs["attacks"])


def test_every_attack_has_its_power_in_each_group(audited):
    tables = membership_tables(audited).tables
    sliced, attacks = tables["group_attacks"], tables["attacks"]
    done = attacks[attacks["target"].astype(str) == "pooled"]["attack"]
    assert set(sliced["attack"]) == set(done)
    assert set(sliced["group"]) == {"here", "there"}
    # The literal version: the scores of the group's examples alone.
    examples = audited.examples()
    chosen = examples[examples["id"] % 3 == 1]
    scores = chosen.pivot_table(index="trial", columns="id", values="log_odds_true").to_numpy()
    member = chosen.pivot_table(index="trial", columns="id", values="is_member").to_numpy() > 0.5
    (expected,) = power_by(np.zeros(scores.shape[1]), scores, member, bins=None)
    (row,) = sliced[(sliced["attack"] == "loss") & (sliced["group"] == "there")].to_dict("records")
    assert row["examples"] == 80
    assert row["members"] == member.sum()
    for name in ("auc", "auc_low", "auc_high", "tpr_at_fpr_1pct"):
        assert row[name] == pytest.approx(expected[name])


def test_similarity_in_each_group_is_that_of_its_examples(audited):
    tables = membership_tables(audited).tables
    found = tables["group_similarity"].set_index(["group", "figure"])
    whole = tables["vulnerability"]
    inside = whole[whole["id"] % 3 == 0]
    for name in ("exposure", "distance_out"):
        value, low, high = found.loc[("here", f"mean {name}"), ["value", "value_low", "value_high"]]
        assert value == pytest.approx(inside[name].mean())
        assert low < value < high
    related = found.loc[("here", "spearman exposure distance_out"), "value"]
    assert related == pytest.approx(
        inside[["exposure", "distance_out"]].corr(method="spearman").iloc[0, 1]
    )


def test_the_report_warns_of_many_groups_and_names_those_that_differ(audited, tmp_path):
    page = report([audited.path], out=tmp_path / "report").page.read_text()
    assert "Which groups are exposed?" in page
    assert "2 groups are looked at, and intervals are not widened for that" in page
    assert "Bonferroni): there" in page
    noise = confsim.audit(given(lift=(0.0, 0.0)), design="independent", out=tmp_path / "noise")
    context = gather(noise)
    context.tables = dict(membership_tables(noise).tables)
    assert multiplicity(context).endswith("(Bonferroni): none.")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array(["", "", "", ""]), "group holds nothing: leave it out"),
        (np.array([1.0, np.nan]), r"group must have shape \(4,\), not \(2,\)"),
    ],
)
def test_what_is_no_column_of_groups_is_refused(values, said):
    with pytest.raises(ValueError, match=said):
        own_groups("group", values, 4)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (np.array([1.0, np.inf, np.nan]), ("", "1", "inf")),
        (np.array(["None", "Former", ""]), ("", "Former", "None")),
        (np.array([1.0, 2.0, None], dtype=object), ("", "1", "2")),
        (np.array([b"a", b"b", b"a"]), ("a", "b")),
        (np.array([True, False, True]), ("False", "True")),
    ],
)
def test_names_of_groups(values, names):
    assert own_groups("group", values, len(values)).names == names


def test_ids_are_no_groups():
    many = np.arange(MOST_GROUPS + 1)
    with pytest.raises(ValueError, match="group holds 201 groups, and at most 200"):
        own_groups("group", many, len(many))
    assert len(own_groups("group", many[1:], MOST_GROUPS).names) == MOST_GROUPS


def test_missing_groups_are_none_and_whole_numbers_keep_their_names():
    found = own_groups("group", np.array([2.0, np.nan, 10.0]), 3)
    assert [found.names[code] for code in found.codes] == ["2", "", "10"]
    found = own_groups("group", np.array(["a", None, float("nan"), " a "], dtype=object), 4)
    assert [found.names[code] for code in found.codes] == ["a", "", "", "a"]


def test_a_table_of_several_models_may_lack_groups(tmp_path):
    columns = given(models=2, examples=24)
    rows = [
        pd.DataFrame(
            {
                "trial": trial,
                "id": np.arange(24),
                "is_member": columns["is_member"][trial],
                "loss": np.random.default_rng(trial).random(24),
                "group": np.where(np.arange(24) % 2, 7.0, np.nan),
            }
        )
        for trial in range(2)
    ]
    run = confsim.audit(pd.concat(rows), out=tmp_path / "run")
    assert run.population()["group"].astype(str).tolist() == ["", "7"] * 12


@pytest.mark.parametrize("dropped", [False, True])
def test_groups_of_a_table_for_estimators(tmp_path, dropped):
    from confsim import labelled_tables

    path = tmp_path / "table.csv"
    pd.DataFrame({"x": [1, 2, 3], "sex": ["f", "m", "f"], "y": [0, 1, 0]}).to_csv(path, index=False)
    found = labelled_tables.read(path, label="y", group="sex", drop=["sex"] if dropped else [])
    assert found.group.tolist() == ["f", "m", "f"]
    assert list(found.X.columns) == (["x"] if dropped else ["x", "sex"])
    with pytest.raises(ValueError, match="has no column 'site'"):
        labelled_tables.read(path, label="y", group="site")


def test_groups_of_a_task_are_part_of_the_data_and_of_the_report(tmp_path):
    pytest.importorskip("sklearn")
    from sklearn.naive_bayes import GaussianNB

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 3)), np.arange(80) % 2
    site = np.array(["a", "b"])[np.arange(80) // 2 % 2]
    options = {"estimator": GaussianNB(), "X": X, "y": y, "trials": 4}
    run = confsim.shadow.run(**options, group=site, out=tmp_path / "run")
    population = run.population()
    assert population["group"].astype(str).tolist() == site.tolist()
    assert set(membership_tables(run).tables["group_attacks"]["group"]) == {"a", "b"}
    with pytest.raises(ValueError, match="group must have 80 rows as X, not 3"):
        confsim.shadow.run(**options, group=site[:3], out=tmp_path / "other")
