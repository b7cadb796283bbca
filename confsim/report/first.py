"""The first screen: one headline in plain words, a few tiles, and a small ROC curve.

It judges by the best attack against guessing, and nothing else of a run; what the attack's figure
leans on stands in the tile below it.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from confsim.report.attacks import (
    NULL_STYLE,
    attack_name,
    best_attack,
    curve_style,
    rate_axes,
    similarity_rows,
)
from confsim.report.canvas import Canvas, FigureText
from confsim.report.context import ReportContext, plural
from confsim.report.explorer import reliability_words
from confsim.report.numbers import number, share, with_interval
from confsim.report.registry import FigureKind, has_table
from confsim.report.sentences import (
    best_signal,
    paired_difference,
    share_of_members,
    signals,
    widened,
)
from confsim.report.summary import Estimate

if TYPE_CHECKING:
    import pandas as pd

#: The false-positive rate that the headline is about.
LEVEL = 0.01
_COLUMN = "tpr_at_fpr_1pct"


@dataclass(frozen=True)
class Tile:
    """One number of the first screen.

    Attributes
    ----------
    title : str
        What it is.
    value, interval : str
    note : str
        How to read it.
    """

    title: str
    value: str
    interval: str
    note: str


@dataclass(frozen=True)
class FirstScreen:
    """What a reader sees before anything else.

    Attributes
    ----------
    headline : str
    tiles : list of Tile
    """

    headline: str
    tiles: list[Tile]


def first_screen(context: ReportContext) -> FirstScreen:
    """Return the headline and the tiles of a run."""
    makers = (_attack_tile, _low_side_tile, _similarity_tile, _reliability_tile)
    tiles = [tile for make in makers if (tile := make(context)) is not None]
    return FirstScreen(headline(context), tiles)


# ---- the headline ------------------------------------------------------------------------------


def best_rate(context: ReportContext) -> "tuple[str, Estimate, pd.Series[Any]] | None":
    """Return the best attack at 1% false positives: its name, its figure, and its row.

    Where it was not chosen on other targets, its interval is widened for how many there were.
    """
    row = best_attack(context, _COLUMN)
    if row is None or math.isnan(float(row[_COLUMN])):
        return None
    low, high = (float(row.get(f"{_COLUMN}_{end}", math.nan)) for end in ("low", "high"))
    targets = int(row["quoted_on"]) if "quoted_on" in row else len(context.trials)
    found = Estimate(float(row[_COLUMN]), low, high, targets)
    if "quoted_on" not in row:
        table = context.tables["attacks"]
        count = int((table["target"].astype(str) == "mean").sum())
        low, high = widened(found, max(1, count))
        found = replace(found, low=low, high=high)
    return str(row["attack"]), found, row


def chance_rate(context: ReportContext, attack: str) -> float:
    """Return what guessing achieves at 1% false alarms, with as many non-members as targets have.

    The largest true-positive rate with at most ``k`` of ``n`` non-members above the threshold is
    ``(k + 1) / (n + 1)`` on average where scores mean nothing: more than 1% where ``n`` is small.
    """
    table = context.tables["attacks"]
    if "non_members" not in table:
        return LEVEL
    single = ~table["target"].astype(str).isin(("mean", "pooled", "none", "model"))
    counts = table[single & (table["attack"] == attack)]["non_members"].dropna()
    if not len(counts):
        return LEVEL
    n = counts.to_numpy(dtype=np.float64)
    return float(np.mean((np.floor(LEVEL * n + 1e-9) + 1) / (n + 1)))


def headline(context: ReportContext) -> str:
    """Say in plain words how well members are told from others."""
    best = best_rate(context)
    signal = best_signal(signals(context))
    if best is not None and best[1].low > (chance := chance_rate(context, best[0])):
        return (
            f"An attacker recognises {_rounded(best[1], 100)}% of members at 1% false alarms: "
            f"{_rounded(best[1], 1 / chance)} times guessing"
        )
    models = plural(len(context.trials), context.unit)
    unknown = best is not None and math.isnan(best[1].low)
    if signal is None or (unknown and not signal.strength):
        if context.unit == "model" and len(context.trials) == 1:
            return "One model alone does not tell whether membership shows"
        return f"{models} are too few to say whether membership shows"
    if unknown:
        return f"Membership shows; {models} are too few to say how many members an attack tells"
    if signal.strength:
        return "Membership shows, but no attack beats guessing at 1% false alarms"
    return "No attack tells members from others better than guessing"


def _rounded(found: Estimate, factor: float) -> str:
    """Return a multiple with two digits, or with fewer where its interval supports no more."""
    value, low, high = (factor * x for x in (found.value, found.low, found.high))
    short = f"{value:.0f}" if value >= 9.95 else f"{value:.2g}"
    return min(short, with_interval(value, low, high, 3).partition(" ")[0], key=len)


# ---- tiles -------------------------------------------------------------------------------------


def _ends(found: Estimate, factor: float = 1.0, unit: str = "") -> tuple[str, str]:
    """Return a number and its interval apart, each with as many digits as the interval supports."""
    text = with_interval(factor * found.value, factor * found.low, factor * found.high, 3)
    value, _, interval = text.partition(" [")
    ends = interval.rstrip("]").replace(", ", " to ")
    return value + unit, f"{ends}{unit}" if ends else ""


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def _attack_tile(context: ReportContext) -> Tile | None:
    best = best_rate(context)
    if best is None:
        means = context.headline.means
        if "auc_confidence" not in means:
            return None
        value, interval = _ends(means["auc_confidence"])
        return Tile("AUC of confidence", value, interval, "0.5 is guessing.")
    name, found, row = best
    value, interval = _ends(found, 100, "%")
    called = _capitalised(attack_name(name))
    chance = f"guessing gets {100 * chance_rate(context, name):.2g}%"
    note = f"{called}; {chance}."
    if "quoted_on" in row:
        note = (
            f"{called}, chosen on {plural(int(row['chosen_on']), 'target')} and measured on "
            f"{plural(int(row['quoted_on']), 'other')}; {chance}."
        )
    return Tile("Members recognised at 1% false alarms", value, interval, note)


def _low_side_tile(context: ReportContext) -> Tile | None:
    found, base = context.headline.membership.get("bottom"), share_of_members(context)
    if found is None or math.isnan(found.value):
        return None
    text = share(found.value, found.low, found.high)
    value, interval = (text.partition(" [")[i].rstrip("]") for i in (0, 2))
    unit = value.lstrip("0123456789.,-")
    interval = f"{interval.replace(', ', ' to ')}{unit}" if interval else ""
    whole = f"{100 * base:.3g}%" if unit == "%" else f"{1e6 * base:.3g} per million"
    against = "" if math.isnan(base) else f"; {whole} of all are"
    note = f"Share of members among the {context.percent:g}% least confident{against}."
    return Tile("Members among the least confident", value, interval, note)


def _similarity_tile(context: ReportContext) -> Tile | None:
    rows = similarity_rows(context)
    if rows:
        (first, row), *others = rows
        value, interval = _ends(_correlation(row))
        note = f"Spearman correlation of exposure with distance in {first}"
        if others:
            note += f"; {_ends(_correlation(others[0][1]))[0]} in {others[0][0]}"
        return Tile(
            "Unlike the others, more exposed?", value, interval, f"{note}. 0 is no relation."
        )
    difference = paired_difference(context, "other")
    if math.isnan(difference.value):
        return None
    value, interval = _ends(difference)
    return Tile(
        "Distance, most minus least confident",
        value,
        interval,
        "Normalised distance to the nearest other training point; below 0, confident points are "
        "closer.",
    )


def _correlation(row: dict[str, Any]) -> Estimate:
    value, low, high = (float(row[f"spearman{end}"]) for end in ("", "_low", "_high"))
    return Estimate(value, low, high, 0)


def _reliability_tile(context: ReportContext) -> Tile | None:
    table = context.tables.get("vulnerability_reliability")
    if table is None:
        return None
    rows = table[table["vulnerability"] == "exposure"]["reliability"].to_numpy(dtype=np.float64)
    if not len(rows) or np.isnan(rows[0]):
        return None
    found = float(rows[0])
    return Tile(
        "Reliability of each example's risk",
        f"{found:.2f}",
        "",
        f"A list of the most exposed is {reliability_words(found)}. 1 is perfect.",
    )


# ---- the small ROC curve -----------------------------------------------------------------------


def _draw(context: ReportContext, canvas: Canvas) -> FigureText:
    curves = context.tables["roc"]
    best = best_attack(context, _COLUMN)
    assert best is not None
    name = str(best["attack"])
    rows = curves[curves["attack"] == name]
    (axis,) = canvas.panels(1, height=2.1)
    start = float(rows["fpr"].min())
    x = rows["fpr"].to_numpy()
    axis.plot([start, 1], [start, 1], **NULL_STYLE)
    colour = curve_style(name)["color"]
    axis.plot(x, np.maximum(rows["tpr"], start / 3), drawstyle="steps-post", color=colour)
    rate_axes(axis, start)
    axis.set(xlabel="false-alarm rate", ylabel="members recognised")
    axis.text(0.62, 0.42, "guessing", transform=axis.transAxes, va="top", color="#6b6b6a")
    count = int(rows["targets"].max())
    called, over = _capitalised(attack_name(name)), "one target"
    if count > 1:
        over = f"mean over {plural(count, 'target')}"
    return FigureText(
        f"{called}, {over}; both axes logarithmic.",
        f"Small ROC curve of {attack_name(name)}: true-positive rate "
        f"{number(float(np.interp(LEVEL, x, rows['tpr'])), 3)} at a false-positive rate of 1%.",
    )


def _needs_curve(context: ReportContext) -> str | None:
    reason = has_table("roc")(context)
    best = None if reason else best_attack(context, _COLUMN)
    return reason or ("no attack is possible" if best is None else None)


SMALL_ROC = FigureKind("first", "The best attack", _needs_curve, _draw)
