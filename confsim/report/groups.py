"""What is known of each group of the user's own: a figure and two tables, and what to beware of."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from confsim.report.attacks import NULL_STYLE, attack_name, main_attacks
from confsim.report.canvas import MUTED, SERIES, Canvas, FigureText, dot_rows, letters
from confsim.report.classes import known, records
from confsim.report.context import ReportContext
from confsim.report.numbers import number, shorten
from confsim.report.registry import figure, has_table
from confsim.report.sentences import widened
from confsim.report.summary import Estimate
from confsim.report.table import Column, Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: More groups than this, and only the most and the least exposed are drawn.
_MANY_GROUPS = 24

#: With more rows than this, the page's table holds only the main attacks.
_MANY_ROWS = 60

#: How figures of similarity are called.
_FIGURES = {
    "mean exposure": "mean exposure",
    "mean memorization": "mean memorisation",
    "mean distance_out": "mean distance when out, model's space",
    "mean fixed_distance": "mean distance to nearest other, fixed space",
    "mean density_distance": "mean distance to 20 nearest others",
    "spearman exposure distance_out": "Spearman correlation of exposure and distance when out",
    "spearman exposure fixed_distance": "Spearman correlation of exposure and distance, fixed "
    "space",
}


def _ranked(context: ReportContext) -> "pd.DataFrame":
    """Return the rows of the attack that groups are ranked by, the most exposed first."""
    table = context.tables["group_attacks"]
    if "auc" not in table:
        empty: pd.DataFrame = table.iloc[:0]
        return empty
    table = table[table["auc"].notna()]
    present = list(dict.fromkeys(table["attack"]))
    name = next((n for n in (*main_attacks(context), "confidence", *present) if n in present), "")
    rows = table[table["attack"] == name]
    ordered: pd.DataFrame = rows.sort_values(["auc", "group"], ascending=[False, True])
    return ordered


def _needs_groups(context: ReportContext) -> str | None:
    reason = has_table("group_attacks", "auc")(context)
    if reason is not None:
        return "examples have no column group" if "group_attacks" not in context.tables else reason
    return "no group has both members and others" if _ranked(context).empty else None


@figure("Which groups are exposed?", _needs_groups)
def groups(context: ReportContext, canvas: Canvas) -> FigureText:
    """Draw the power of an attack in each group, beside that in all."""
    rows = _shown(context)
    height = 0.9 + 0.19 * len(rows)
    axes = canvas.panels(2, height=height, sharey=not canvas.narrow)
    for axis, measure in zip(axes, _MEASURES, strict=True):
        groups_panel(axis, context, measure)
    dropped = len(_ranked(context)) - len(rows)
    attack = attack_name(str(rows["attack"].iloc[0]))
    intervals = (
        f", with 95% intervals of a two-way bootstrap over {context.unit}s and examples"
        if rows["auc_low"].notna().any()
        else ""
    )
    ends = rows.iloc[[0, -1] if len(rows) > 1 else [0]]
    said = [f"{row['group']}, AUC {number(float(row['auc']))}" for row in records(ends)]
    return FigureText(
        f"Power of {attack} in each group, of the scores of all {context.unit}s together"
        f"{intervals}. "
        f"Dashed: guessing; solid: all examples. {multiplicity(context)}"
        + (f" {dropped} groups in between are left out here." if dropped else ""),
        "; least: ".join([f"Most exposed: {said[0]}", *said[1:]]) + ".",
    )


#: What is drawn of each group: what it is called, and guessing.
_MEASURES = {"auc": ("AUC", 0.5), "tpr_at_fpr_1pct": ("true-positive rate at FPR \u2264 1%", 0.01)}


def groups_panel(axis: "Axes", context: ReportContext, measure: str) -> None:
    """Draw one measure of an attack's power in each group."""
    rows = _shown(context)
    labels = [shorten(str(name), letters(axis, 30, 18)) for name in rows["group"]]
    ends = (rows[f"{measure}{end}"] for end in ("", "_low", "_high"))
    dot_rows(axis, labels, *ends, colour=SERIES[list(_MEASURES).index(measure)])
    title, guessing = _MEASURES[measure]
    axis.axvline(guessing, **NULL_STYLE)
    whole = _whole(context, str(rows["attack"].iloc[0]), measure)
    if not np.isnan(whole):
        axis.axvline(whole, color=MUTED, linewidth=0.9)
    axis.set_xlabel(title)


def _shown(context: ReportContext) -> "pd.DataFrame":
    rows = _ranked(context)
    if len(rows) <= _MANY_GROUPS:
        return rows
    half = _MANY_GROUPS // 2
    shown: pd.DataFrame = rows.iloc[[*range(half), *range(len(rows) - half, len(rows))]]
    return shown


def _whole(context: ReportContext, attack: str, measure: str) -> float:
    """Return an attack's figure of all examples together, NaN where there is none."""
    table = context.tables["attacks"]
    rows = table[(table["attack"] == attack) & (table["target"].astype(str) == "pooled")]
    return float(rows[measure].iloc[0]) if len(rows) and measure in rows else float("nan")


def multiplicity(context: ReportContext) -> str:
    """Say how many intervals stand side by side, and which groups differ all the same."""
    rows = _ranked(context)
    count, attack = len(rows), str(rows["attack"].iloc[0])
    if count < 2:
        return ""
    start = (
        f"{count} groups are looked at, and intervals are not widened for that: of 20 of them, one "
        "misses by chance. "
    )
    whole = _whole(context, attack, "auc")
    if np.isnan(whole) or rows["auc_low"].isna().all():
        return ""  # nothing is compared
    differ = [str(row["group"]) for row in records(rows) if _is_outside(row, whole, count, context)]
    told = _listed(differ) if differ else "none"
    return f"{start}Different from all examples also with intervals widened (Bonferroni): {told}."


def _is_outside(row: dict[str, Any], whole: float, count: int, context: ReportContext) -> bool:
    value, low, high = (float(row[f"auc{end}"]) for end in ("", "_low", "_high"))
    low, high = widened(Estimate(value, low, high, len(context.trials)), count)
    return whole < low or whole > high


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - 8} more" if len(every) > 8 else ""
    return ", ".join(every[:8]) + more


# ---- tables ------------------------------------------------------------------------------------


def group_attacks(context: ReportContext) -> Table | None:
    """List how well every attack does in each group."""
    if _needs_groups(context) is not None:
        return None
    table = context.tables["group_attacks"]
    main = table[table["attack"].isin(main_attacks(context))]
    whole = len(table) <= _MANY_ROWS or main.empty
    rank = {str(name): i for i, name in enumerate(_ranked(context)["group"])}
    rows = [
        {**row, "attack": attack_name(str(row["attack"]))}
        for row in records(table if whole else main)
    ]
    rows.sort(key=lambda row: (rank.get(str(row["group"]), len(rank)), -known(row.get("auc"))))
    interval = "[95%, two-way bootstrap over trials and examples]"
    return Table(
        "group_attacks_summary",
        "Attacks in each group",
        [
            Column("group", "group", "of the column group of the data"),
            Column("attack", "attack", "as in the table of attacks"),
            Column("auc", "AUC", f"of the group's scores of all trials together {interval}"),
            Column("tpr_at_fpr_1pct", "TPR at 1%", f"of the same scores {interval}"),
            Column("tpr_at_fpr_0.1pct", "TPR at 0.1%", f"of the same scores {interval}"),
            Column("examples", "examples", "of the group", folded=True),
            Column("members", "members", "scores of members, over all trials", folded=True),
        ],
        rows,
        multiplicity(context)
        + ("" if whole else " The other attacks are in tables/group_attacks.csv."),
    )


def group_similarity(context: ReportContext) -> Table | None:
    """List how similar a group's examples are to others, and whether that matters in it."""
    table = context.tables.get("group_similarity")
    if table is None or table.empty:
        return None
    rows: dict[str, dict[str, Any]] = {}
    for row in records(table):
        made = rows.setdefault(
            str(row["group"]), {"group": str(row["group"]), "examples": row["examples"]}
        )
        key = str(row["figure"]).replace(" ", "_")
        made |= {f"{key}{end}": row[f"value{end}"] for end in ("", "_low", "_high")}
    own = "" if context.own_space else ", model's space"  # what no model has is not said
    titles = {figure: title.removesuffix(own) for figure, title in _FIGURES.items()}
    columns = [
        Column(
            figure.replace(" ", "_"),
            title,
            f"{title} [95%, over examples of the group]",
        )
        for figure, title in titles.items()
    ]
    return Table(
        "group_similarity_summary",
        "Similarity and exposure in each group",
        [
            Column("group", "group", "of the column group of the data"),
            Column("examples", "examples", "of the group"),
            *columns,
        ],
        list(rows.values()),
    )


FIGURES = (groups,)
