"""Figures of what an attacker gets: thresholds chosen on other models, and which members are found.

Drawn from the membership tables ``transfer``, ``agreement`` and ``agreement_pairs``.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from confsim.report.attacks import attack_name, percent_ticks
from confsim.report.canvas import MARKERS, MUTED, SERIES, Canvas, FigureText, dot_rows, legend_below
from confsim.report.context import ReportContext
from confsim.report.numbers import number
from confsim.report.registry import figure, has_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: False-positive rates that thresholds are chosen for.
_LEVELS = (0.1, 0.01, 0.001)

#: Panels of transferred thresholds: column, the one it is held against, title, axis, colour.
RATES = {
    "fpr": ("realised_fpr", "level", "false-positive rate", "realised (diamond: wanted)",
            SERIES[1]),
    "tpr": ("tpr", "oracle_tpr", "true-positive rate", "transferred (diamond: oracle)", SERIES[0]),
}  # fmt: skip

#: Panels of agreement, and what their axes show.
MEASURES = {"share": "share of members found", "jaccard": "Jaccard index"}

#: How what a number is held against is drawn.
_HOLLOW: dict[str, Any] = {
    "marker": MARKERS[3], "linestyle": "none", "markerfacecolor": "none",
    "markeredgecolor": MUTED, "markeredgewidth": 0.8, "markersize": 6,
}  # fmt: skip


def _of_means(context: ReportContext) -> "pd.DataFrame":
    table = context.tables["transfer"]
    chosen = table["level"].isin(_LEVELS) & (table["target"].astype(str) == "mean")
    ordered: pd.DataFrame = table[chosen].sort_values("level", ascending=False, kind="stable")
    return ordered


def _needs_transfer(context: ReportContext) -> str | None:
    reason = has_table("transfer", "realised_fpr_low", "oracle_tpr")(context)
    return reason or ("no target has both members and others" if _of_means(context).empty else None)


@figure("What does an attacker get who chooses thresholds on other models?", _needs_transfer)
def transfer(context: ReportContext, canvas: Canvas) -> FigureText:
    """Draw the realised false-positive rate beside the one wanted, and the rate of detection."""
    rows = _of_means(context)
    axes = canvas.panels(2, height=0.9 + 0.21 * len(rows), sharey=not canvas.narrow)
    for axis, rate in zip(axes, RATES, strict=True):
        transfer_panel(axis, context, rate)
    worst = rows.iloc[int(np.argmax(np.abs(np.log(_ratio(rows)))))]
    return FigureText(
        f"Thresholds chosen for a false-positive rate of 10%, 1% and 0.1% on the other "
        f"{context.unit}s as mock targets, and applied to each target: what is realised there, "
        f"mean over targets with 95% intervals (these examples, {context.unit}s drawn anew). "
        "Diamonds: the rate that was wanted, "
        "and what the best threshold for the target itself would detect, an upper bound on what an "
        "attacker gets. Logarithmic scales, whose left end stands for less, too.",
        f"Farthest from the rate wanted: {attack_name(str(worst['attack']))}, wanted "
        f"{100 * worst['level']:g}%, realised {number(100 * float(worst['realised_fpr']))}%.",
    )


def transfer_panel(axis: "Axes", context: ReportContext, rate: str) -> None:
    """Draw the realised ``fpr`` beside that wanted, or the ``tpr`` beside the oracle's."""
    rows, (name, hollow, title, label, colour) = _of_means(context), RATES[rate]
    labels = [
        f"{attack_name(str(attack))}, {100 * level:g}%"
        for attack, level in zip(rows["attack"], rows["level"], strict=True)
    ]
    floor = float(rows["level"].min()) / 10
    ends = (np.maximum(rows[f"{name}{end}"], floor) for end in ("", "_low", "_high"))
    axis.plot(np.maximum(rows[hollow], floor), np.arange(len(rows))[::-1], **_HOLLOW)
    dot_rows(axis, labels, *ends, colour=colour)
    # Marks at both ends are seen whole.
    axis.set(xscale="log", xlim=(floor / 1.4, 1.4), xlabel=label)
    axis.set_title(title)
    percent_ticks(axis.xaxis)


def _ratio(rows: "pd.DataFrame") -> Any:
    return np.maximum(rows["realised_fpr"], 1e-9) / rows["level"]


@figure("Do attacks find the same members, trial after trial?", has_table("agreement", "coverage"))
def agreement(context: ReportContext, canvas: Canvas) -> FigureText:
    """Draw shares of members found always, on average and once, and what trials have in common."""
    rows = context.tables["agreement"]
    axes = canvas.panels(2, height=1.35 + 0.3 * len(rows), sharey=not canvas.narrow)
    for axis, measure in zip(axes, MEASURES, strict=True):
        agreement_panel(axis, context, measure)
        legend_below(axis, 1 if canvas.narrow else 2)
    level = f"{100 * float(rows['level'].iloc[0]):g}%"
    best = rows.iloc[int(rows["coverage"].to_numpy().argmax())]
    told = context.called(
        f"Which members attacks find at a false-positive rate of {level}, with thresholds chosen "
        "on the other trials. Share of members: of the examples that were members, the share found "
        "in every trial that they were members of, in a trial on average, and at least once. "
        "Jaccard index: found in both of two trials over found in either, among members of both, "
        "beside what finds that fell anywhere would give: far above it, the attack singles out the "
        "same examples."
    )
    return FigureText(
        told + _between(context),
        f"{attack_name(str(best['attack']))} finds {number(100 * float(best['coverage']))}% of "
        f"members at least once and {number(100 * float(best['stability']))}% always.",
    )


def agreement_panel(axis: "Axes", context: ReportContext, measure: str) -> None:
    """Draw the ``share`` of members found, or the ``jaccard`` index of two trials."""
    rows = context.tables["agreement"]
    labels = [attack_name(str(attack)) for attack in rows["attack"]]
    places = np.arange(len(rows))[::-1]
    if measure == "share":
        dot_rows(
            axis, labels, rows["tpr"], rows["stability"], rows["coverage"],
            colour=SERIES[0], label=f"a {context.unit}, on average",
        )  # fmt: skip
        for column, marker, colour, label in (
            ("stability", MARKERS[1], SERIES[2], f"in every {context.unit}"),
            ("coverage", MARKERS[2], SERIES[1], "at least once"),
        ):
            axis.plot(rows[column], places, marker, color=colour, label=label)
        largest = float(rows["coverage"].max())
    else:
        chance, found = rows["jaccard_trials_chance"], rows["jaccard_trials"]
        axis.hlines(places, chance, found, color=MUTED, linewidth=1.0)
        axis.plot(chance, places, label="by chance", **_HOLLOW)
        dot_rows(axis, labels, found, found, found, colour=SERIES[1], label=f"two {context.unit}s")
        largest = float(np.nanmax([chance, found]))
    axis.set_xlabel(MEASURES[measure])
    top = 1.1 * largest if 0 < largest < 0.9 else 1.0
    axis.set_xlim(-0.03 * top, 1.03 * top)


def _between(context: ReportContext) -> str:
    pairs = context.tables.get("agreement_pairs")
    if pairs is None or pairs.empty or "jaccard" not in pairs:
        return ""
    told = [
        f"{attack_name(str(a))} and {attack_name(str(b))}: {number(float(j), 3)}"
        for a, b, j in zip(pairs["attack"], pairs["other"], pairs["jaccard"], strict=True)
    ]
    return f" Jaccard index of two attacks on the same target: {'; '.join(told)}."


FIGURES = (transfer, agreement)
