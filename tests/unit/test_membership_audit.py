"""What tables say of how membership was drawn: epsilon, the blind baseline, the best attack."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from report_runs import FakeDeep, FakeSession, publish
from sklearn.tree import DecisionTreeClassifier

import confsim
from confsim import audit
from confsim.experiment import RunData
from confsim.membership import best_attack, epsilon_lower_bound, membership_tables, trace_scores
from confsim.membership.audit import DELTA, epsilon_bins, epsilon_rows, refusal
from confsim.membership.best import best_rows
from confsim.membership.blind import blind_rows
from confsim.membership.fixed_space import fixed_space
from confsim.membership.leverage import leverage_among


class TestEpsilon:
    def test_each_trial_has_the_bound_of_its_own_scores(self):
        rng = np.random.default_rng(0)
        member = rng.random((3, 400)) < 0.5
        log_odds = rng.normal(size=member.shape) + 3 * member
        rows = epsilon_rows(
            {"loss": log_odds}, log_odds, member, targets=[4, 5, 9], ids=np.arange(400)[::-1]
        )
        table = pd.DataFrame(rows)
        mine = table[(table["target"] == "9") & (table["method"] == "one-run")].iloc[0]
        bound = epsilon_lower_bound(log_odds[2], member[2], delta=DELTA, method="one-run")
        assert mine["epsilon"] == bound.epsilon > 0.5
        assert mine["evaluated"] == bound.evaluated
        own = table[(table["method"] == "one-run") & table["target"].isin(["4", "5", "9"])]
        mean = table[(table["method"] == "one-run") & (table["target"] == "mean")].iloc[0]
        assert mean["epsilon"] == pytest.approx(own["epsilon"].mean())
        assert math.isnan(mean["confidence"])
        over = table[table["target"] == "canary 0"]
        assert set(over["method"]) == {"clopper-pearson", "gdp"}

    def test_nothing_is_found_where_nothing_leaks(self):
        """At most 5% of one-run bounds may be above the true epsilon, 0."""
        rng = np.random.default_rng(1)
        member = rng.random((300, 200)) < 0.5
        noise = rng.normal(size=member.shape)
        rows = epsilon_rows({"loss": noise}, noise, member, targets=range(300), ids=np.arange(200))
        found = [r["epsilon"] > 0 for r in rows if r["method"] == "one-run" and "guesses" in r]
        assert len(found) == 300
        assert np.mean(found) < 0.08

    @pytest.mark.parametrize(
        ("design", "ratio", "words"),
        [
            ("coin", 0.3, "chance 0.3"),
            ("independent", 0.5, "stratified"),
            ("balanced", 0.5, "complement"),
            (None, 0.5, "nothing says"),
            ("unknown", 0.5, "nothing says"),
        ],
    )
    def test_other_draws_are_refused(self, design, ratio, words):
        assert words in refusal(design, ratio)

    def test_fair_coins_are_not(self):
        assert refusal("coin", 0.5) is None


class TestEpsilonBins:
    def test_each_bin_is_bounded_by_its_own_canaries(self):
        rng = np.random.default_rng(9)
        member = rng.random((3, 600)) < 0.5
        label = np.arange(600) % 2
        scores = rng.normal(size=member.shape) + 6 * member * (label == 0)
        columns = {"label": label, "fixed_distance": rng.random(600)}
        rows = epsilon_bins({"loss": scores}, member, columns, targets=[0, 1, 2])
        assert [row["by"] for row in rows] == ["label"] * 2 + ["fixed_distance"] * 5
        for row in rows[:2]:
            own = label == row["value_low"]
            bounds = [
                epsilon_lower_bound(s[own], m[own], delta=DELTA, method="one-run").epsilon
                for s, m in zip(scores, member, strict=True)
            ]
            assert row["epsilon"] == pytest.approx(np.mean(bounds))
            assert (row["canaries"], row["trials"]) == (300, 3)
        assert rows[0]["epsilon"] > 2
        assert rows[1]["epsilon"] < 0.3
        assert sum(row["canaries"] for row in rows[2:]) == 600

    def test_canaries_that_are_all_alike_are_one_bin(self):
        member = np.random.default_rng(0).random((2, 40)) < 0.5
        rows = epsilon_bins(
            {"loss": member + 0.0}, member, {"fixed_distance": np.zeros(40)}, targets=[0, 1]
        )
        assert [(row["bin"], row["canaries"]) for row in rows] == [(0, 40)]

    def test_bins_without_both_kinds_say_why(self):
        member = np.tile(np.arange(40) < 20, (2, 1))
        rows = epsilon_bins(
            {"loss": np.zeros((2, 40))}, member, {"label": np.arange(40) // 20}, targets=[0, 1]
        )
        assert [row["trials"] for row in rows] == [0, 0]
        assert "no non-member" in rows[0]["reason"]


class TestBlind:
    def test_shift_is_found_and_chance_is_not(self):
        rng = np.random.default_rng(2)
        member = rng.random((2, 2000)) < 0.5
        rows = blind_rows(
            {"fixed_distance": rng.normal(size=2000) + member[0], "gone": np.full(2000, np.nan)},
            np.zeros(2000, int),
            member,
            targets=[0, 7],
        )
        table = pd.DataFrame(rows).set_index(["target", "classifier"])
        assert set(table["uses"]) == {"label, fixed_distance"}
        assert table.loc["0", "tells_members"].all()
        assert (abs(table.loc["7", "auc"] - 0.5) < 0.05).all()

    def test_duplicates_are_kept_together(self):
        """A classifier that has seen an example's duplicate would know it again."""
        rng = np.random.default_rng(3)
        group = np.repeat(np.arange(300), 2)
        member = np.repeat(rng.random(300) < 0.5, 2)
        value = np.repeat(rng.normal(size=300), 2)
        rows = blind_rows({"x": value}, group * 0, member[None], targets=[0], groups=group)
        assert all(abs(row["auc"] - 0.5) < 0.12 for row in rows)

    def test_too_few_of_a_class(self):
        (row,) = blind_rows({}, np.zeros(9, int), np.arange(9)[None] < 2, targets=[0])
        assert "at least 5 of either class" in row["reason"]


def test_best_of_a_table_is_that_of_its_figures():
    rng = np.random.default_rng(4)
    auc = {"a": rng.random(6), "b": rng.random(6), "partly": np.r_[rng.random(5), np.nan]}
    rows = [
        {"attack": name, "target": str(t), "auc": value}
        for name, values in auc.items()
        for t, value in enumerate(values)
    ]
    rows.append({"attack": "a", "target": "mean", "auc": 9.0})
    (found,) = best_rows(rows, range(6), seed=1)
    best = best_attack({"a": auc["a"], "b": auc["b"]}, seed=1)
    assert (found["attack"], found["value"]) == (best.attack, best.value)
    assert (found["chosen_on"], found["quoted_on"]) == (3, 3)


@dataclass(frozen=True)
class Canaried(FakeDeep):
    """A hundred canaries; their log-odds leak, and all others are members."""

    command: ClassVar[str] = "confsim-deep"
    design: str = "coin"
    early_stopping: str = "off"
    lengths: tuple[int, ...] = (5, 5, 5, 5, 5, 5)

    def run_data(self):
        data = super().run_data()
        table = {**data.tables["population"]}
        table["is_canary"] = np.arange(len(table["id"])) < 100
        return RunData({"population": table}, data.arrays)

    def open(self, threads, device=None):
        return CanariedSession(self)


class CanariedSession(FakeSession):
    def result(self, trial):
        found = super().result(trial)
        n = self.experiment.examples
        found.tables["examples"]["is_member"][100:] = True
        found.tables["examples"]["log_odds_true"][100:] = 50.0
        rng = np.random.default_rng(trial)
        found.tables["traces"] = [
            {
                "id": np.arange(n),
                "epoch": np.full(n, epoch, np.int16),
                "log_odds_true": rng.normal(size=n).astype(np.float32),
            }
            for epoch in range(self.experiment.lengths[trial])
        ]
        return found


def test_attacks_of_runs_with_canaries_are_about_them(tmp_path):
    run = publish(tmp_path / "run", Canaried(), 6)
    made = membership_tables(run)
    attacks = made["attacks"].set_index(["attack", "target"])
    row = attacks.loc[("loss", "0")]
    assert row["members"] + row["non_members"] == 100
    # Every other example would be told by its log-odds of 50.
    assert 0.5 < attacks.loc[("loss", "mean"), "auc"] < 0.9
    assert len(made["vulnerability"]) == 100
    epsilon = made["epsilon"]
    assert set(epsilon["attack"]) == {"loss", "lira_online", "rmia_online"}
    assert (epsilon["canaries"].dropna() > 5).all()
    # Surroundings are those among all examples, which no coin decides.
    held = run.population()["split"] == "holdout"
    whole = fixed_space(run.images()[~held], run.population()["duplicate_group"][~held])
    whole["leverage"] = leverage_among(run.images()[~held])
    for name in ("fixed_distance", "density_distance", "leverage"):
        assert made["vulnerability"][name].to_numpy() == pytest.approx(whole[name][:100])
    bins = made["epsilon_bins"]
    spaces = {"fixed_distance", "density_distance", "leverage"}
    assert set(bins["by"].dropna()) == {"all", "label", *spaces}
    assert (bins.dropna(subset=["by"]).groupby(["attack", "by"])["canaries"].sum() == 100).all()
    # Every attack with scores; those that know the target's coins prove nothing, and say why.
    assert set(bins["attack"]) == set(made["attacks"].dropna(subset=["auc"])["attack"])
    refused = dict(bins.dropna(subset=["reason"])[["attack", "reason"]].to_numpy())
    assert set(refused) == {"closeness"}
    assert "which no model gave" in refused["closeness"]
    for attack in ("loss", "lira_online"):
        name = attack.replace("lira_online", "lira_online_fixed_variance")
        whole = bins[(bins["attack"] == name) & (bins["by"] == "all")].iloc[0]
        mean = epsilon[(epsilon["attack"] == attack) & (epsilon["method"] == "one-run")]
        mean = mean[mean["target"] == "mean"].iloc[0]
        assert (whole["canaries"], whole["trials"]) == (100, 6)
        assert whole["epsilon"] == pytest.approx(mean["epsilon"])
    assert "blind" not in made.tables
    assert any("100 canaries" in note for note in made.notes)


def test_scores_that_know_the_coins_prove_nothing(tmp_path):
    rng = np.random.default_rng(0)
    run = confsim.shadow.run(
        estimator=DecisionTreeClassifier(max_depth=4),
        X=rng.normal(size=(80, 3)),
        y=np.arange(80) % 3,
        trials=4,
        design="coin",
        holdout=0,
        out=tmp_path / "run",
    )
    made = membership_tables(run)
    for table, attacks in (
        ("epsilon", {"rmia_online"}),
        ("epsilon_bins", {"rmia_online", "rmia_offline", "attack_p"}),
    ):
        rows = made[table].dropna(subset=["attack"])
        refused = rows[rows["reason"].astype(str).str.contains("no holdout")]
        assert set(refused["attack"]) == attacks
        assert refused["epsilon"].isna().all()
        assert refused["z"].isna().all() if "z" in refused else True
    points = made["transfer"].set_index("attack")["z"]
    assert set(points["rmia_online"]) == {"non-members"}
    assert points["loss"].isna().all()
    pairs = made["agreement_pairs"]
    assert ((pairs["z"] == "non-members") == (pairs["other"] == "rmia_online")).all()


def test_attacks_on_traces_are_in_the_table(tmp_path):
    run = publish(tmp_path / "run", Canaried(lengths=(5, 5, 3, 5, 1, 5)), 6)
    made = membership_tables(run)
    attacks = made["attacks"]
    rows = attacks[attacks["attack"] == "lt_iqr"]
    assert {"0", "2", "mean"} <= set(rows["target"])
    assert "4" not in set(rows["target"])
    table = run.trial(2).table("traces")
    traces = table["log_odds_true"].to_numpy().reshape(3, -1)[:, :100]
    member = run.trial(2).table("examples")["is_member"].to_numpy()[:100]
    score = trace_scores(traces)["lt_iqr"]
    expected = np.mean(
        (score[member][:, None] > score[~member]) + 0.5 * (score[member][:, None] == score[~member])
    )
    assert rows.set_index("target").loc["2", "auc"] == pytest.approx(expected)
    assert any("1 to 5 epochs" in note and "trials [4]" in note for note in made.notes)


def test_runs_without_traces_and_coins_say_so(tmp_path):
    made = membership_tables(publish(tmp_path / "run", FakeDeep(), 4))
    reasons = made["attacks"].dropna(subset=["reason"]).set_index("attack")["reason"]
    assert "--traces" in reasons["lt_iqr"]
    assert "needs a holdout of 500 points" in reasons["quantile_regression"]
    assert "stratified" in made["epsilon"]["reason"][0]
    assert set(made["best_attack"]["figure"]) >= {"auc"}
    assert "blind" not in made.tables


def test_a_design_that_nobody_knows_has_its_blind_baseline(tmp_path):
    made = membership_tables(publish(tmp_path / "run", FakeDeep(design="unknown"), 4))
    blind = made["blind"]
    assert set(blind["classifier"]) == {"logistic regression", "gradient boosting"}
    assert "fixed_distance" in blind["uses"][0]
    assert "nothing says" in made["epsilon"]["reason"][0]


def test_an_attack_that_knows_no_score_is_no_row_of_what_is_found(tmp_path):
    rng = np.random.default_rng(0)
    member, label = rng.random((3, 300)) < 0.5, rng.integers(0, 3, 300)
    logits = rng.normal(size=(3, 300, 3)) + member[..., None] * np.eye(3)[label]
    run = audit(is_member=member, label=label, logits=logits, out=tmp_path / "run")
    made = membership_tables(run)
    attacks = made["attacks"].set_index("attack")
    assert "no score is known" in attacks.loc["lira_online_fixed_variance", "reason"]
    for name in ("agreement", "transfer"):
        assert set(made[name]["attack"]) == {"loss"}
    assert "found_lira_online" not in made["vulnerability"]
