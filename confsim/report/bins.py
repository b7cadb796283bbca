"""Who is found: attacks, confidence and proven leakage among examples alike in something."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from confsim.report.attacks import (
    NULL_STYLE,
    attack_name,
    curve_style,
    main_attacks,
    percent_ticks,
)
from confsim.report.canvas import (
    DASHES,
    MARKERS,
    SERIES,
    Canvas,
    FigureText,
    legend_below,
    plain_ticks,
)
from confsim.report.context import ReportContext
from confsim.report.numbers import number
from confsim.report.registry import figure, has_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: What examples are sorted by, and what that is called on an axis.
_BY = {
    "distance_out": "mean distance to training set when out",
    "fixed_distance": "distance to nearest other, fixed space",
    "density_distance": "mean distance to 20 nearest others",
    "leverage": "leverage, fixed space",
}

#: Panels of a figure at most: in the model's own space and in a fixed one.
_PANELS = 2


def _drawn(context: ReportContext, name: str) -> "pd.DataFrame":
    """Return the rows of a table of the attacks that are drawn: the main one of each kind."""
    table = context.tables[name]
    found: pd.DataFrame = table[table["attack"].isin(main_attacks(context))]
    return found


def _kinds(table: "pd.DataFrame") -> list[str]:
    present = set(table["by"])
    return [kind for kind in _BY if kind in present][:_PANELS]


# ---- members found, by distance ----------------------------------------------------------------


def _needs_success(context: ReportContext) -> str | None:
    reason = has_table("success_bins", "by", "tpr")(context)
    if reason is None and not _kinds(context.tables["success_bins"]):
        return "there is neither a distance nor a density to sort examples by"
    return reason


def _draw_kinds(
    canvas: Canvas,
    context: ReportContext,
    kinds: list[str],
    panel: "Callable[[Axes, ReportContext, str], None]",
    label: str,
) -> None:
    """Draw a panel for each kind of distance, side by side where there is room."""
    axes = canvas.panels(len(kinds), height=2.7, sharey=not canvas.narrow)
    for axis, kind in zip(axes, kinds, strict=True):
        panel(axis, context, kind)
        legend_below(axis, 1 if canvas.narrow else 3)
    for axis in axes if canvas.narrow else axes[:1]:
        axis.set_ylabel(label)


@figure("Which members do attacks find: those far from others?", _needs_success)
def success(context: ReportContext, canvas: Canvas) -> FigureText:
    """Draw the share of members that attacks find, by distance."""
    table = _drawn(context, "success_bins")
    kinds = _kinds(table)
    _draw_kinds(canvas, context, kinds, success_panel, "share of members found")
    level = 100 * float(table["level"].iloc[0])
    return FigureText(
        f"Share of members that an attack finds in a {context.unit}, in tenths of the examples by "
        f"distance, at thresholds chosen on the other {context.unit}s for a false-positive rate "
        f"of {level:g}% (dashed). Bars: 95% intervals of these {context.unit}s, examples drawn "
        "anew.",
        _success_words(table, kinds[0]),
    )


def _success_words(table: "pd.DataFrame", kind: str) -> str:
    rows = table[table["by"] == kind]
    ends = rows[rows["bin"].isin((rows["bin"].min(), rows["bin"].max()))]
    best = rows.groupby("attack", sort=False)["tpr"].mean().idxmax()
    near, far = ends[ends["attack"] == best].sort_values("bin")["tpr"]
    return (
        f"{attack_name(str(best))} finds {number(100 * float(near), 3)}% of members among the "
        f"closest tenth and {number(100 * float(far), 3)}% among the farthest."
    )


def _from_zero(axis: "Axes", table: "pd.DataFrame", columns: list[str]) -> None:
    """Let an axis hold all panels' values, which may share it, and marks at 0 whole."""
    top = float(table[table["by"].isin(_BY)][columns].max(axis=None)) or 1.0
    axis.set_ylim(-0.04 * top, 1.05 * top)


def success_panel(axis: "Axes", context: ReportContext, kind: str) -> None:
    """Draw the share of members that each attack finds in bins of one kind of distance."""
    every = _drawn(context, "success_bins")
    table = every[every["by"] == kind]
    names = list(dict.fromkeys(table["attack"]))
    span = float(table["value_high"].max() - table["value_low"].min())
    axis.axhline(float(table["level"].iloc[0]), **NULL_STYLE)
    for i, name in enumerate(names):
        rows = table[table["attack"] == name]
        x = (rows["value_low"] + rows["value_high"]) / 2
        x = x + 0.006 * span * (i - (len(names) - 1) / 2)  # bars side by side
        colour = curve_style(name)["color"]
        axis.vlines(x, rows["tpr_low"], rows["tpr_high"], color=colour, linewidth=1.0)
        axis.plot(
            x, rows["tpr"], MARKERS[i % len(MARKERS)], color=colour, linestyle=DASHES[i % 3],
            linewidth=0.8, label=attack_name(name),
        )  # fmt: skip
    _from_zero(axis, every, ["tpr", "tpr_high"])
    axis.set_xlabel(_BY[kind])
    percent_ticks(axis.yaxis)


# ---- what canaries prove, by distance ----------------------------------------------------------


def _needs_epsilon(context: ReportContext) -> str | None:
    if context.has("examples.parquet") and "epsilon_bins" not in context.tables:
        return "it needs membership that was drawn by independent coins (--design coin)"
    reason = has_table("epsilon_bins", "by", "epsilon")(context)
    if reason is None:
        table = _drawn(context, "epsilon_bins")
        if not _kinds(table[table["epsilon"].notna()]):
            return "no bin of distances has canaries enough for a bound"
        if not (table["epsilon"] > 0).any():
            return "no bin proves more than an epsilon of 0"
    return reason


@figure("Do examples far from others prove more leakage?", _needs_epsilon)
def epsilon(context: ReportContext, canvas: Canvas) -> FigureText:
    """Draw lower bounds on epsilon of the examples in bins of distance."""
    table = _drawn(context, "epsilon_bins")
    kinds = _kinds(table[table["epsilon"].notna()])
    _draw_kinds(canvas, context, kinds, epsilon_panel, "lower bound on epsilon,\nmean over trials")
    known = table[table["epsilon"].notna()]
    top = known.loc[known["epsilon"].idxmax()]
    return FigureText(
        "Lower bounds on epsilon that the examples of a bin prove alone, each trial's with 95% "
        "confidence; their mean over trials, which is drawn, is no bound itself. Horizontal bars "
        "span a bin. 0: nothing is proved, which is not that nothing leaks; few examples in a bin "
        "prove little.",
        f"Largest mean of bounds {number(float(top['epsilon']), 3)}, by "
        f"{attack_name(str(top['attack']))}.",
    )


def epsilon_panel(axis: "Axes", context: ReportContext, kind: str) -> None:
    """Draw the bounds of each attack in bins of one kind of distance."""
    every = _drawn(context, "epsilon_bins")
    table = every[(every["by"] == kind) & every["epsilon"].notna()]
    for i, name in enumerate(dict.fromkeys(table["attack"])):
        rows = table[table["attack"] == name]
        colour = curve_style(name)["color"]
        x = (rows["value_low"] + rows["value_high"]) / 2
        axis.hlines(
            rows["epsilon"], rows["value_low"], rows["value_high"], color=colour, alpha=0.45
        )
        axis.plot(
            x, rows["epsilon"], MARKERS[i % len(MARKERS)], color=colour, label=attack_name(name)
        )
    _from_zero(axis, every, ["epsilon"])
    axis.set_xlabel(_BY[kind])


# ---- leverage of linear models -----------------------------------------------------------------


def _needs_leverage(context: ReportContext) -> str | None:
    if context.has("examples.parquet"):
        return "only runs over a lattice fit such models; elsewhere leverage is among the distances"
    reason = has_table("leverage_bins", "auc_confidence", examples=False)(context)
    if reason is None and _known_leverage(context).empty:
        return "no bin of leverage holds members"
    return reason


@figure("Does confidence give away those that the fit bends towards?", _needs_leverage)
def leverage(context: ReportContext, canvas: Canvas) -> FigureText:
    """Draw how well confidence tells members in bins of leverage."""
    (axis,) = canvas.panels(1, height=2.5)
    leverage_panel(axis, context)
    return FigureText(
        "How well confidence tells members among queries of similar leverage, one training point "
        "left out: of a member itself, of a non-member a random one. Leverage is how far the "
        "linear fit bends towards a point. Horizontal bars span a bin, vertical ones are 95% "
        "Student-t intervals over trials; dashed: guessing. Bins without members in any trial "
        "are not drawn.",
        _leverage_words(context),
    )


def leverage_panel(axis: "Axes", context: ReportContext) -> None:
    """Draw the AUC of confidence in bins of leverage, on a logarithmic axis."""
    rows = _known_leverage(context)
    axis.axhline(0.5, **NULL_STYLE)
    low, high = rows["leverage_low"], rows["leverage_high"]
    centre = np.sqrt(low * high)
    axis.hlines(rows["auc_confidence"], low, high, color=SERIES[0], alpha=0.45)
    axis.vlines(centre, rows["auc_confidence_low"], rows["auc_confidence_high"], color=SERIES[0])
    axis.plot(centre, rows["auc_confidence"], "o", color=SERIES[0])
    axis.set_xscale("log")
    plain_ticks(axis.xaxis)
    axis.set_xlabel("leverage, one training point left out")
    axis.set_ylabel("AUC of confidence")


def _known_leverage(context: ReportContext) -> "pd.DataFrame":
    table = context.tables["leverage_bins"]
    found: pd.DataFrame = table[table["auc_confidence"].notna() & (table["leverage_low"] > 0)]
    return found


def _leverage_words(context: ReportContext) -> str:
    rows = _known_leverage(context)
    first, last = (float(rows["auc_confidence"].iloc[i]) for i in (0, -1))
    return (
        f"AUC of confidence {number(first, 3)} among the least and {number(last, 3)} among the "
        "most leveraged queries."
    )


FIGURES = (success, epsilon, leverage)
