"""Every attack is in the table of a run and of an audit: with its rows, or with a reason."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB

import confsim
from confsim.membership import attack_p, membership_tables, quantile_regression
from confsim.statistics import auc

ATTACKS = {
    "confidence", "loss", "modified_entropy", "entropy", "correctness", "closeness",
    "attack_p", "attack_r", "difficulty_calibration", "class_thresholds", "quantile_regression",
    "base_online", "base_offline", "rmia_online", "rmia_offline", "lt_iqr", "final_minus_mean",
    "lira_online_fixed_variance", "lira_online_own_variance", "lira_online_shrunken_variance",
    "lira_offline_fixed_variance", "lira_offline_own_variance",
    "lira_online_augmented", "lira_offline_augmented",
}  # fmt: skip

RNG = np.random.default_rng(3)
Y = RNG.integers(0, 2, 1200)
X = RNG.normal(size=(1200, 3)) + 0.5 * Y[:, None]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return confsim.shadow.run(
        estimator=GaussianNB(),
        X=X,
        y=Y,
        trials=4,
        design="coin",
        holdout=0.45,
        out=tmp_path_factory.mktemp("named") / "run",
        workers=1,
    )


def single(tmp_path, **given):
    member = RNG.random(60) < 0.5
    return confsim.audit(is_member=member, **given, out=tmp_path / "one")


def regressions(tmp_path):
    return confsim.shadow.run(
        estimator=LinearRegression(), X=X[:60], y=X[:60, 0], trials=4, out=tmp_path / "r", workers=1
    )


def trimmed(tmp_path):
    member = np.argsort(RNG.random((8, 60)), axis=0) < 4
    return confsim.audit(
        is_member=member,
        label=RNG.integers(0, 3, 60),
        logits=RNG.normal(size=(8, 60, 3)),
        out=tmp_path / "t",
    )


KINDS = {
    "one model": lambda p: single(p, label=[0, 1] * 30, logits=RNG.normal(size=(60, 2))),
    "a score of one model": lambda p: single(p, statistic=RNG.normal(size=60)),
    "confidence alone": lambda p: single(p, confidence=RNG.random(60)),
    "regressions": regressions,
    "equally many in and out": trimmed,
}


@pytest.mark.parametrize("kind", ["shadow models", *KINDS])
def test_each_attack_has_rows_or_a_reason(kind, run, tmp_path):
    table = membership_tables(run if kind == "shadow models" else KINDS[kind](tmp_path))["attacks"]
    named = table.groupby("attack")
    assert set(named.groups) >= ATTACKS
    for name, rows in named:
        if "none" in set(rows["target"]):
            assert len(rows) == 1, name
            assert len(rows["reason"].iloc[0]) > 10
        else:
            assert rows["auc"].notna().any(), name


def test_quantile_regression_and_its_points_in_a_run(run):
    table = membership_tables(run)["attacks"].set_index(["attack", "target"])
    population = run.population().set_index("id")
    examples, held = run.examples([2]), run.trial(2).table("holdout")
    space = run.features()
    scores = quantile_regression(
        [run.examples([t])["log_odds_true"].to_numpy() for t in run.trials],
        space[population.index.get_indexer(examples["id"])],
        examples["label"],
        holdout_log_odds=[run.trial(t).table("holdout")["log_odds_true"] for t in run.trials],
        holdout_features=space[population.index.get_indexer(held["id"])],
        holdout_labels=held["label"],
        fpr=0.1,
    )[2]
    expected = auc(scores, examples["is_member"])
    assert table.loc[("quantile_regression", "2"), "auc"] == pytest.approx(expected)
    assert table.loc[("rmia_online", "2"), "z"] == "holdout"
    assert table.loc[("attack_p", "mean"), "z"] == "holdout"
    assert table["z"].drop(["rmia_online", "rmia_offline", "attack_p"], level=0).isna().all()


def test_attack_p_needs_one_model(tmp_path):
    found = KINDS["one model"](tmp_path)
    examples = found.examples()
    member = examples["is_member"].to_numpy()
    scores = attack_p(examples["log_odds_true"].to_numpy()[None], member[None])[0]
    row = membership_tables(found)["attacks"].set_index(["attack", "target"]).loc[("attack_p", "0")]
    assert row["auc"] == pytest.approx(auc(scores, member))
    assert row["z"] == "non-members"


def test_bounds_on_epsilon_state_what_they_assume(run):
    tables = membership_tables(run)
    known = tables["epsilon"].query("target != 'mean'").dropna(subset=["epsilon"])
    stated = ["delta", "confidence", "rule", "canaries", "assumptions"]
    assert len(known)
    assert known[stated].notna().all(axis=None)
    assert known["assumptions"].str.contains("independent fair coin").all()
    bins = tables["epsilon_bins"].dropna(subset=["epsilon"])
    assert len(bins)
    assert (bins["confidence_each"] == 0.95).all()
    assert bins["assumptions"].str.contains("one training run").all()
