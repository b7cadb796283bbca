"""The report's tables and sentences of what is made of scores."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from confsim.report import evidence
from confsim.report.attacks import best_attack, collapse_caveat, similarity_sentences
from confsim.report.context import ReportContext
from confsim.report.sentences import Signal, signals, verdict
from confsim.report.summary import Estimate, Headline


def context(means: Any = None, **tables: Any) -> ReportContext:
    """A run of which only its membership tables and headline are known."""
    trial = SimpleNamespace(has=lambda name: False)
    run: Any = SimpleNamespace(
        has=trial.has, trial=lambda number: trial, manifest={"command": "confsim-audit"}
    )
    made = ReportContext(run, list(range(8)))
    made.tables = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    made.__dict__["headline"] = Headline(8, means or {}, {}, {})
    made.__dict__["rows"] = [{} for _ in range(8)]
    return made


ATTACKS = [
    {"attack": "lucky", "target": "mean", "auc": 0.7, "auc_low": 0.6, "auc_high": 0.8},
    {"attack": "loss", "target": "mean", "auc": 0.6, "auc_low": 0.55, "auc_high": 0.65},
    {"attack": "entropy", "target": "mean", "auc": 0.4, "auc_low": 0.35, "auc_high": 0.45},
]
BEST = [
    {
        "figure": "auc",
        "attack": "loss",
        "value": 0.58,
        "value_low": 0.53,
        "value_high": 0.63,
        "chosen_on": 4,
        "quoted_on": 4,
        "naive": 0.7,
    }
]


def test_the_best_attack_is_the_one_quoted_on_the_other_half():
    found = best_attack(context(attacks=ATTACKS, best_attack=BEST), "auc")
    assert (found["attack"], found["auc"], found["auc_low"]) == ("loss", 0.58, 0.53)
    plain = best_attack(context(attacks=ATTACKS), "auc")
    assert (plain["attack"], plain["auc"]) == ("lucky", 0.7)


def test_the_verdict_names_it_and_not_the_luckiest():
    found = signals(context(attacks=ATTACKS, best_attack=BEST))
    assert {signal.name for signal in found} == {"loss", "entropy"}
    loss = next(signal for signal in found if signal.name == "loss")
    assert loss.value == pytest.approx(0.58)
    assert loss.low < 0.53
    assert "most by entropy, turned round" in verdict(found)
    assert {s.name for s in signals(context(attacks=ATTACKS))} == {"lucky", "loss", "entropy"}
    assert dataclasses.is_dataclass(Signal)


BLIND = [
    {"target": "0", "classifier": "logistic regression", "auc": 0.5, "auc_low": 0.4,
     "auc_high": 0.6, "tells_members": False, "uses": "label"},
    {"target": "0", "classifier": "gradient boosting", "auc": 0.7, "auc_low": 0.6,
     "auc_high": 0.8, "tells_members": True, "uses": "label"},
]  # fmt: skip


def test_what_the_examples_alone_tell_is_said():
    made = context(blind=BLIND)
    said = evidence.blind_sentence(made)
    assert "gradient boosting on class tells members" in said
    assert "AUC 0.70 [0.60, 0.80]" in said
    assert "not a leak" in said
    assert len(evidence.blind(made).rows) == 2
    nothing = evidence.blind_sentence(context(blind=BLIND[:1]))
    assert "no better than guessing" in nothing
    assert evidence.blind_sentence(context()) == ""
    unfit = [{"target": "0", "reason": "too few"}]
    assert evidence.blind_sentence(context(blind=unfit)) == ""
    assert evidence.blind(context(blind=unfit)) is None


def test_tables_of_scores_hold_the_rows_that_matter():
    columns = ("realised_fpr", "tpr", "oracle_tpr", "precision_prior_50pct", "precision_prior_1pct")
    rows = [
        {"attack": "loss", "target": target, "level": level, **dict.fromkeys(columns, 0.5)}
        for target in ("0", "mean")
        for level in (0.1, 0.01, 0.001)
    ]
    table = evidence.transferred(context(transfer=rows))
    assert [row["wanted"] for row in table.rows] == ["1%", "0.1%"]
    agree = {"attack": "loss", "level": 0.01, "coverage": 0.3, "stability": 0.1,
             "jaccard_trials": 0.2, "jaccard_trials_chance": 0.01}  # fmt: skip
    pair = {"attack": "loss", "other": "rmia_online", "jaccard": 0.25}
    table = evidence.agreement(context(agreement=[agree], agreement_pairs=[pair]))
    assert "loss and RMIA, online: 0.25" in table.note
    assert all(row[c.key] is not None for row in table.rows for c in table.columns)
    bounds = [
        {"attack": "loss", "method": "one-run", "target": t, "epsilon": 1.0, "delta": 1e-5,
         "canaries": 50.0}
        for t in ("0", "1", "mean", "canary 3")
    ]  # fmt: skip
    table = evidence.epsilon(context(epsilon=bounds))
    assert [row["target"] for row in table.rows] == ["mean", "canary 3"]
    refused = [{"attack": "all", "target": "none", "reason": "no coins"}]
    assert evidence.epsilon(context(epsilon=refused)) is None
    assert all(f(context()) is None for f in (evidence.transferred, evidence.agreement))


@pytest.mark.parametrize(("accuracy", "said"), [(1.0, True), (0.98, False), (np.nan, False)])
def test_the_caveat_of_the_models_own_space(accuracy, said):
    means = {"member_accuracy": Estimate(accuracy, np.nan, np.nan, 8)}
    assert ("collapse" in collapse_caveat(context(means))) is said
    assert collapse_caveat(context()) == ""


def test_a_fixed_space_is_not_called_the_models_own():
    row = {"vulnerability": "exposure", "similarity": "distance_out", "scope": "overall"}
    row |= {"examples": "all", "spearman": 0.3, "spearman_low": 0.2, "spearman_high": 0.4}
    means = {"member_accuracy": Estimate(1.0, np.nan, np.nan, 8)}
    for space, name in (("model", "model's own"), ("fixed", "the fixed space, counting training")):
        made = context(means, vulnerability_correlations=[row])
        made.__dict__["rows"] = [{"space": space}] * 8
        (sentence,) = similarity_sentences(made)
        assert name in sentence
        assert ("collapse" in collapse_caveat(made)) is (space == "model")
