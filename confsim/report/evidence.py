"""Tables of what is made of scores: without the model, thresholds to be chosen, agreement, epsilon.

Rows come from the membership tables; here they are chosen, named and explained.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from confsim.report.attacks import attack_name
from confsim.report.classes import records
from confsim.report.context import ReportContext
from confsim.report.numbers import number, with_interval
from confsim.report.table import Column, Table

if TYPE_CHECKING:
    import pandas as pd

#: False-positive rates that thresholds are chosen for.
_LEVELS = (0.01, 0.001)

#: What classifiers are given, for people.
_USED = {
    "label": "class",
    "fixed_distance": "distance to the nearest other",
    "density_distance": "density",
}


#: Which points an attack compares an example with, in tables with a row for each attack.
Z = Column(
    "z",
    "compared with",
    "of RMIA and Attack-P: the holdout, or the target's other non-members",
    folded=True,
)


def _rows(context: ReportContext, name: str) -> "pd.DataFrame | None":
    table = context.tables.get(name)
    if table is None or table.empty:
        return None
    found: pd.DataFrame = table.fillna({"z": ""}) if "z" in table else table.assign(z="")
    return found


def blind(context: ReportContext) -> Table | None:
    """List how well members are told from others without the model."""
    table = _rows(context, "blind")
    if table is None or "classifier" not in table:
        return None
    known = table[table["classifier"].notna()]
    return Table(
        "blind_summary",
        "Without the model",
        [
            Column("target", context.unit, "whose members are told from others"),
            Column("classifier", "classifier", "cross-validated, on the examples alone: it never "
                   "sees what the model says"),
            Column("auc", "AUC", "mean over folds [95% Student-t interval over folds]; 0.5 is "
                   "guessing. What is above it is how members differ by themselves, and an "
                   "attack's success up to there says nothing of the model"),
            Column("uses", "uses", "what it is given of each example"),
        ],
        [{**row, "target": str(row["target"]), "uses": _used(row)} for row in records(known)],
        "Membership was not drawn at random here, so this comes before every attack.",
    )  # fmt: skip


def _used(row: "Mapping[str, Any] | pd.Series[Any]") -> str:
    """Say what a classifier is given."""
    *others, last = (_USED.get(name, name) for name in str(row["uses"]).split(", "))
    return f"{', '.join(others)} and {last}" if others else last


def blind_sentence(context: ReportContext) -> str:
    """Say what is told without the model; empty where membership was drawn at random."""
    table = _rows(context, "blind")
    if table is None or "auc" not in table or table["auc"].isna().all():
        return ""
    row = table.sort_values("auc").dropna(subset="auc").iloc[-1]
    value, low, high = (float(row.get(f"auc{end}", math.nan)) for end in ("", "_low", "_high"))
    told = (
        f"Without the model, {row['classifier']} on {_used(row)} tells members from others with "
        f"AUC {with_interval(value, low, high, 2)}"
    )
    if bool(table["tells_members"].fillna(value=False).astype(bool).any()):
        return f"{told}: attacks that do no better show how members differ, not a leak. "
    return f"{told}, no better than guessing. "


def transferred(context: ReportContext) -> Table | None:
    """List what attacks find at thresholds that an attacker could choose."""
    table = _rows(context, "transfer")
    if table is None:
        return None
    chosen = table[(table["target"].astype(str) == "mean") & table["level"].isin(_LEVELS)]
    if chosen.empty:
        return None
    rows = [
        {**row, "attack": attack_name(str(row["attack"])), "wanted": f"{100 * row['level']:g}%"}
        for row in records(chosen)
    ]
    return Table(
        "transfer_summary",
        "Thresholds chosen on other trials",
        [
            Column("attack", "attack", "the main attack of each kind"),
            Column("wanted", "FPR wanted", "the false-positive rate that the threshold keeps to on "
                   "the other trials' non-members"),
            Column("realised_fpr", "FPR realised", "on the target, mean over targets [95% "
                   "Student-t interval over targets]"),
            Column("tpr", "TPR", "true-positive rate at that threshold, likewise"),
            Column("oracle_tpr", "TPR, oracle", "with the threshold chosen on the target's own "
                   "labels: an upper bound on what an attacker gets"),
            Column("precision_prior_50pct", "precision at 50%", "share of members among those "
                   "called members where half of the examples asked about are members"),
            Column("precision_prior_1pct", "precision at 1%", "where a hundredth are"),
            Z,
        ],
        rows,
    )  # fmt: skip


def agreement(context: ReportContext) -> Table | None:
    """List whether attacks find the same members, trial after trial."""
    table = _rows(context, "agreement")
    if table is None:
        return None
    rows = [{**row, "attack": attack_name(str(row["attack"]))} for row in records(table)]
    pairs = _rows(context, "agreement_pairs")
    return Table(
        "agreement_summary",
        f"Which members are found at a false-positive rate of {100 * float(rows[0]['level']):g}%",
        [
            Column("attack", "attack", "the main attack of each kind"),
            Column("coverage", "coverage", "share of examples found in at least one of the trials "
                   "that they were members of"),
            Column("stability", "stability", "share found in every such trial"),
            Column("jaccard_trials", "Jaccard", "mean over pairs of trials: found in both "
                   "over found in either, among members of both"),
            Column("jaccard_trials_chance", "Jaccard by chance", "the same if finds "
                   "fell anywhere"),
            Z,
        ],
        rows,
        _pairs_note(pairs),
    )  # fmt: skip


def _pairs_note(pairs: "pd.DataFrame | None") -> str:
    if pairs is None or "jaccard" not in pairs:
        return ""
    told = [
        f"{attack_name(str(row['attack']))} and {attack_name(str(row['other']))}: "
        f"{number(float(row['jaccard']), 3)}"
        for row in records(pairs)
    ]
    return f"Jaccard index between attacks on the same targets: {'; '.join(told)}."


def epsilon(context: ReportContext) -> Table | None:
    """List lower bounds on epsilon."""
    table = _rows(context, "epsilon")
    if table is None or "epsilon" not in table or table["epsilon"].isna().all():
        return None
    chosen = table[table["epsilon"].notna()]
    if (chosen["target"] == "mean").any():
        single = chosen["target"].str.startswith("canary")
        chosen = chosen[(chosen["target"] == "mean") | single]
    rows: list[dict[str, Any]] = [
        {
            **row,
            "attack": attack_name(str(row["attack"])),
            "delta": number(float(row["delta"])),
            "canaries": int(row["canaries"]),
        }
        for row in records(chosen)
    ]
    return Table(
        "epsilon_summary",
        "Lower bounds on epsilon",
        [
            Column("attack", "attack", "whose scores guess who is a member"),
            Column("method", "method", "one-run: many canaries of one training run (Steinke et al. "
                   "2023), -fdp: by its trade-off curve; clopper-pearson and gdp: one canary, one "
                   "run a score"),
            Column("target", "of", "mean: of every trial's own bound, itself no bound; canary: "
                   "the one with the lowest id, chosen before any score"),
            Column("epsilon", "epsilon", "no smaller with 95% confidence, for each trial of "
                   "epsilon.csv by itself: the largest of many is no bound"),
            Column("delta", "delta", "at which it holds"),
            Column("canaries", "scores", "canaries of a trial, or trials of a canary; half of them "
                   "choose the threshold"),
            Z,
        ],
        rows,
        "Membership of each canary was drawn by an independent fair coin. A bound of 0 says that "
        "nothing was found, not that nothing leaks.",
    )  # fmt: skip
