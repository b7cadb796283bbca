"""The tables: the same rows as CSV files and in the page, and the meaning of every column."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confsim import recipes
from confsim._errors import ConfsimError
from confsim.report import bin_tables, evidence, groups
from confsim.report.attacks import attack_name, plain
from confsim.report.classes import class_rows, known, records
from confsim.report.context import ReportContext
from confsim.report.pictures import most_vulnerable, noise_note
from confsim.report.sentences import paired_difference
from confsim.report.summary import MEANS, TOTALS, Estimate
from confsim.report.sweep import Sweep, estimates, label_of
from confsim.report.table import Column, Table
from confsim.store import artifacts

if TYPE_CHECKING:
    import pandas as pd

#: Rows of the table of vulnerable examples.
_MOST = 20


def with_interval(key: str, found: Estimate) -> dict[str, float]:
    """Return an estimate as entries of a row."""
    return {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high}


# ---- tables of one run -------------------------------------------------------------------------


def run_tables(context: ReportContext) -> list[Table]:
    """Return the tables that a run allows, in the order of the page."""
    makers: tuple[Callable[[ReportContext], Table | None], ...] = (
        evidence.blind,
        published,
        extremes,
        relations,
        model,
        attacks,
        evidence.transferred,
        evidence.agreement,
        evidence.epsilon,
        bin_tables.success,
        bin_tables.epsilon,
        per_class,
        groups.group_attacks,
        groups.group_similarity,
        vulnerable,
    )
    made = [table.says_something for make in makers if (table := make(context)) is not None]
    return [table for table in made if table.rows]


_OVER_TRIALS = "mean over trials [95% Student-t interval, on a scale that keeps it possible]"


def extremes(context: ReportContext) -> Table:
    """Compare the least and the most confident queries."""
    means, rates = context.headline.means, context.headline.membership
    rows = []
    for figure in ("mean", "median"):
        for kind, words in (("self", "including self"), ("other", "excluding self")):
            names = [f"{side}_distance_{figure}_{kind}" for side in ("bottom", "top")]
            if not all(name in means for name in names):
                continue
            row: dict[str, Any] = {"figure": f"{figure} distance, {words}"}
            for side, name in zip(("bottom", "top"), names, strict=True):
                row |= with_interval(side, means[name])
            if figure == "mean":
                row |= with_interval("difference", paired_difference(context, kind))
            rows.append(row)
    rates_row: dict[str, Any] = {"figure": "membership rate"}
    for side in ("bottom", "top"):
        rates_row |= with_interval(side, rates[side])
    rows.append(rates_row)
    percent = f"{context.percent:g}%"
    return Table(
        "extremes_summary",
        "The least and the most confident",
        [
            Column("figure", "", "distance: normalised distance to the nearest training point "
                   "(no unit), of each trial's mean or median; membership rate: share of members"),
            Column("bottom", f"least confident {percent}", f"{_OVER_TRIALS}; membership rate: "
                   "pooled over trials [exact binomial, approximate]"),
            Column("top", f"most confident {percent}", "the same for the most confident"),
            Column("difference", "most minus least", "mean over trials of the difference within a "
                   "trial [95% Student-t interval]; negative: confident points are closer"),
        ],
        rows,
    )  # fmt: skip


_RELATIONS = (
    ("Pearson correlation", "pearson_self", "pearson_other"),
    ("Spearman correlation", "spearman_self", "spearman_other"),
    ("AUC of closeness for membership", "auc_closeness_self", "auc_closeness_other"),
    ("the same if membership meant nothing", None, "auc_closeness_other_null"),
    ("AUC of confidence for membership", "auc_confidence", None),
)


def _closeness(context: ReportContext) -> float:
    found = context.headline.means.get("auc_closeness_other")
    return math.nan if found is None else found.value


def relations(context: ReportContext) -> Table:
    """Relate confidence, distance and membership."""
    means = context.headline.means
    rows = []
    for label, including, excluding in _RELATIONS:
        row: dict[str, Any] = {"figure": label}
        if excluding == "auc_closeness_other_null" and math.isnan(_closeness(context)):
            continue  # there is nothing that it would be the same as
        for key, name in (("including", including), ("excluding", excluding)):
            if name in means:
                row |= with_interval(key, means[name])
        if len(row) > 1:
            rows.append(row)
    if not context.knows_distances:  # and there is no self of any
        return Table(
            "correlations",
            "Confidence and membership",
            [
                Column("figure", "", "AUC: probability that a member has the higher confidence "
                       "than a non-member, ties counting half"),
                Column("including", "value", _OVER_TRIALS),
            ],
            rows,
        )  # fmt: skip
    return Table(
        "correlations",
        "Confidence, distance and membership",
        [
            Column("figure", "", "correlations of confidence with distance over a trial's queries; "
                   "AUC: probability that a member has the higher confidence (is closer) than a "
                   "non-member, ties counting half"),
            Column("including", "including self", f"members are at distance 0 from themselves; "
                   f"{_OVER_TRIALS}"),
            Column("excluding", "excluding self", "a member's own training row does not count; "
                   f"{_OVER_TRIALS}. A member then has one candidate fewer than a non-member, so "
                   "without any leak this AUC is a little below 0.5: the row below says how much"),
        ],
        rows,
    )  # fmt: skip


def model(context: ReportContext) -> Table | None:
    """List everything else that the trials' summaries hold."""
    shown = {name for _, *names in _RELATIONS for name in names}
    found = context.headline
    rows: list[dict[str, Any]] = [
        {"figure": MEANS[key], **with_interval("value", value)}
        for key, value in found.means.items()
        if key not in shown
        and not key.startswith(("bottom_", "top_"))
        and not (key == "distance_scale" and value.value == 1)  # angles have none
    ]
    rows += [{"figure": TOTALS[key], "value": value} for key, value in found.totals.items()]
    if not rows:
        return None
    return Table(
        "models",
        "The models",
        [
            Column("figure", "", "what is averaged; accuracies and rates are shares, losses in "
                   "nats, the distance scale in the units of the data"),
            Column("value", "value", f"{_OVER_TRIALS}; counts: total over trials"),
        ],
        rows,
    )  # fmt: skip


def published(context: ReportContext) -> Table | None:
    """Set what a recipe's source published beside what was measured here."""
    name = context.run.manifest["identity"].get("recipe")
    if name is None or "attacks" not in context.tables:
        return None
    rows: list[dict[str, Any]] = []
    try:
        found = recipes.compare(context.run, context.tables["attacks"])
    except (ValueError, ConfsimError) as error:
        note = f"Nothing is compared: {error}."
    else:
        differences = "; ".join(found.attrs["differences"])
        note = f"Recipe {name}. It differs from its source: {differences}."
        for row in records(found):
            made = {"figure": row["name"], "published": row["published"]}
            ends = {"measured_low": row["low"], "measured_high": row["high"]}
            rows.append(made | {"measured": row["measured"]} | ends)
    return Table(
        "published",
        "Published and measured",
        [
            Column("figure", "", "what was published"),
            Column("published", "published", "as its source states it"),
            Column("measured", "here", _OVER_TRIALS),
        ],
        rows,
        note,
    )


_LEVELS = {"1pct": "1%", "0.1pct": "0.1%", "10pct": "10%", "0pct": "0"}

#: Those that a reader looks for.
_FIRST = ("1pct", "0.1pct")


def attacks(context: ReportContext) -> Table | None:
    """List how well every attack does, on average and pooled."""
    table = context.tables.get("attacks")
    if table is None or table.empty:
        return None
    levels = {k: v for k, v in _LEVELS.items() if f"tpr_at_fpr_{k}" in table}
    # Of a single target, its own figure and the pooled one are the same.
    over = ("mean", "pooled") if len(context.trials) > 1 else ("mean",)
    chosen = table[table["target"].astype(str).isin(over)]
    if chosen.empty:
        return None
    kept = ["auc", "advantage", *(f"tpr_at_fpr_{key}" for key in levels)]
    rows = []
    for row in records(chosen):
        made = {"attack": attack_name(str(row["attack"])), "over": str(row["target"])}
        for key in kept:
            for name in (key, f"{key}_low", f"{key}_high"):
                if name in row:
                    made[name] = row[name]
        made["null_auc"] = row.get("null_auc", 0.5)
        if known(row.get("auc_new_examples_low")) >= 0:
            made["auc_new_examples"] = row["auc"]
            made |= {k: row[k] for k in ("auc_new_examples_low", "auc_new_examples_high")}
        if isinstance(row.get("z"), str):
            made["z"] = row["z"]
        made["few"] = _few(row.get("few_false_positives"))
        rows.append(made)
    rows.sort(key=lambda row: (row["over"], -known(row.get("tpr_at_fpr_1pct"))))

    def rate(key: str) -> Column:
        return Column(
            f"tpr_at_fpr_{key}",
            f"TPR at {levels[key]}",
            "largest true-positive rate at a realised false-positive rate of at most "
            f"{levels[key]}, no interpolation",
            folded=key not in _FIRST,
        )

    return Table(
        "attacks_summary",
        "Attacks",
        [
            Column("attack", "attack", "LiRA: likelihood ratio from the other trials (Carlini et "
                   "al. 2022); RMIA: relative to other examples (Zarifzadeh et al. 2024); others: "
                   "one threshold on the model's output or on closeness for all examples"),
            Column("auc", "AUC", "area under the ROC curve"),
            *(rate(key) for key in levels if key in _FIRST),
            Column("over", "over", "mean: of the targets' own figures [95% Student-t interval over "
                   "targets; of a single one: over its examples]; pooled: one threshold for all "
                   "targets [two-way bootstrap over trials "
                   "and examples, shared shadow models not accounted for]", folded=len(over) == 1),
            Column("auc_new_examples", "AUC, new examples", "the same AUC, its interval over "
                   "trials and examples drawn anew (crossed)", folded=True),
            Column("null_auc", "AUC of guessing", "0.5, but another where a member has one "
                   "candidate fewer than a non-member", folded=True),
            Column("advantage", "advantage", "largest TPR minus FPR over thresholds", folded=True),
            *(rate(key) for key in levels if key not in _FIRST),
            Column("few", "too few at", "false-positive rates at which fewer than five false "
                   "positives are expected: read these TPRs with care", folded=True),
            evidence.Z,
        ],
        rows,
        _impossible(table),
    )  # fmt: skip


def _impossible(table: "pd.DataFrame") -> str:
    """List the attacks that could not be computed, with the reasons."""
    if "reason" not in table:
        return ""
    rows = table[table["target"].astype(str) == "none"]
    told: dict[str, list[str]] = {}
    for row in records(rows):
        told.setdefault(plain(str(row["reason"])), []).append(attack_name(str(row["attack"])))
    said = "; ".join(f"{'; '.join(names)}: {reason}" for reason, names in told.items())
    return f"Not computed: {said}." if said else ""


def _few(text: Any) -> str:
    if not isinstance(text, str):
        return ""
    return " ".join(f"{name[:-3]}%" for name in text.split())


def per_class(context: ReportContext) -> Table | None:
    """List accuracy, memorisation and attack power of every class."""
    if "memorization" not in context.tables or context.tables["memorization"].empty:
        return None
    rows = class_rows(context)
    columns = [
        Column("class", "class", "the examples' true class"),
        Column("examples", "examples", "examples of the class in the population"),
        Column("accuracy_in", "accuracy, in", "share of right predictions by models that were "
               "trained on the example"),
        Column("accuracy_out", "accuracy, out", "the same by models that were not"),
        Column("memorization", "memorisation", "mean over examples of accuracy in minus out"),
    ]  # fmt: skip
    if any("auc" in row for row in rows):
        interval = "LiRA's scores within the class [95% two-way bootstrap interval]"
        columns += [
            Column("auc", "AUC", f"area under the ROC curve of {interval}"),
            Column("tpr_at_fpr_1pct", "TPR at 1%", "largest true-positive rate at a false-positive "
                   f"rate of at most 1% of {interval}"),
        ]  # fmt: skip
    return Table("classes", "Classes, the most exposed first", columns, rows)


def vulnerable(context: ReportContext) -> Table | None:
    """List the examples whose membership is easiest to tell."""
    table = context.tables.get("vulnerability")
    if table is None or "exposure" not in table:
        return None
    names = context.label_names
    keys = [
        "id", "exposure", "exposure_lira", "effect_size", "memorization", "distance_out",
        "density_distance", "leverage",
    ]  # fmt: skip
    rows = []
    for row in records(table.iloc[most_vulnerable(context)[:_MOST]]):
        made = {key: row[key] for key in keys if key in row}
        rows.append(made)
        if row["label"] >= 0:  # else there are no classes
            made["class"] = names.get(int(row["label"]), str(row["label"]))
    intervals = _memorization_intervals(context)
    for row in rows:
        row |= intervals.get(int(row["id"]), {}) | {"id": str(row["id"])}
    columns = [
        Column("id", "id", "the example's number in the data"),
        Column("class", "class", "its true class"),
        Column("exposure", "exposure", "AUC of the log-odds of its class, trials in against trials "
               "out: 0.5 where nothing leaks; one example has no interval of its own here"),
        Column("exposure_lira", "exposure to LiRA", "the same for LiRA's scores, fitted on one "
               "half of the trials and scored on the other"),
        Column("effect_size", "effect size", "difference of the median log-odds in and out, in "
               "standard deviations"),
        Column("memorization", "memorisation", "accuracy in minus accuracy out [95%, Agresti-Caffo]"
               ),
        Column("distance_out", "distance when out", "mean angular distance to the nearest training "
               "example in trials without it, as a fraction of a half turn"),
        Column("density_distance", "density", "mean distance to its 20 nearest others in a fixed "
               "space, after normalisation"),
        Column("leverage", "leverage", "how far a ridge fit on all examples in that space bends "
               "towards it"),
    ]  # fmt: skip
    present = {key for row in rows for key in row}
    return Table(
        "most_vulnerable",
        "The most vulnerable examples",
        [column for column in columns if column.key in present],
        rows,
        noise_note(context).strip(),
    )


def _memorization_intervals(context: ReportContext) -> dict[int, dict[str, float]]:
    table = context.tables.get("memorization")
    if table is None or "memorization_low" not in table:
        return {}
    return {
        int(row["id"]): {k: row[k] for k in ("memorization_low", "memorization_high")}
        for row in records(table[["id", "memorization_low", "memorization_high"]])
    }


# ---- a table of several runs -------------------------------------------------------------------


_COMPARED = {
    "best_tpr_at_fpr_1pct": ("best TPR at 1%", "of all attacks, mean over targets"),
    "bottom_distance_mean_other": ("distance, least confident", "mean, own rows left out"),
    "top_distance_mean_other": ("distance, most confident", "mean, own rows left out"),
    "bottom": ("membership rate, least confident", "pooled over trials"),
    "bottom_ratio": ("the same, times that of all", "1: as many members as elsewhere"),
    "top": ("membership rate, most confident", "pooled over trials"),
    "top_ratio": ("the same, times that of all", "1: as many members as elsewhere"),
    "spearman_other": ("Spearman correlation", "of confidence and distance, own rows left out"),
    "auc_confidence": ("AUC of confidence", "chance that a member is more confident"),
    "auc_closeness_other": ("AUC of closeness", "chance that a member is closer"),
    "angle_degrees": ("angle, degrees", "between learned and ideal hyperplane"),
    "accuracy_gap": ("accuracy gap", "accuracy of members minus that of non-members"),
}


def comparison(sweep: Sweep) -> Table:
    """List the headline numbers of several runs, a column for each."""
    found = [estimates(context) for context in sweep.contexts]
    heads = [
        ", ".join(filter(None, (f"{label_of(sweep.key)} {value}", series)))
        for value, series in zip(sweep.values, sweep.series, strict=True)
    ]
    rows: list[dict[str, Any]] = []
    for key, (title, meaning) in _COMPARED.items():
        if not any(key in row for row in found):
            continue
        made: dict[str, Any] = {"figure": title, "meaning": meaning}
        for i, row in enumerate(found):
            if key in row:
                made |= with_interval(f"run_{i + 1}", row[key])
        rows.append(made)
    trials: dict[str, Any] = {"figure": "trials", "meaning": "finished ones that are reported"}
    rows.append(trials | {f"run_{i + 1}": len(m.trials) for i, m in enumerate(sweep.contexts)})
    columns = [
        Column("figure", "", "what is compared"),
        *(
            Column(f"run_{i + 1}", head, f"run {context.run.path.name}; {_OVER_TRIALS}")
            for i, (head, context) in enumerate(zip(heads, sweep.contexts, strict=True))
        ),
        Column("meaning", "meaning", "how it is counted", folded=True),
    ]
    return Table("comparison", "The runs", columns, rows)


def trial_table(context: ReportContext, folder: Path) -> str:
    """Write every number of every trial as CSV; return the file's name."""
    table = artifacts.with_texts(context.summary, artifacts.csv_text)
    artifacts.write(folder / "trials.csv", table.to_csv(index=False).encode())
    return "trials.csv"
