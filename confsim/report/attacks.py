"""Figures of membership inference: attacks, vulnerability, memorisation, classes."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from confsim.membership.run_attacks import needs_others
from confsim.report.canvas import (
    MARKERS,
    MEMBERS,
    MUTED,
    NON_MEMBERS,
    SERIES,
    Canvas,
    FigureText,
    colour_bar,
    dot_rows,
    heat,
    legend_below,
)
from confsim.report.classes import class_rows
from confsim.report.context import ReportContext
from confsim.report.numbers import number, shorten, with_interval
from confsim.report.registry import figure, has_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

#: More classes than this, and only the most and the least exposed are drawn.
_MANY_CLASSES = 24

_RATES = {"1pct": "1%", "0.1pct": "0.1%"}

#: How an attack is called where people read it.
NAMES = {
    "confidence": "confidence",
    "loss": "loss",
    "modified_entropy": "modified entropy",
    "entropy": "entropy",
    "correctness": "correctness",
    "closeness": "closeness, excluding self",
    "closeness_matched": "closeness, matched",
    "leverage": "leverage",
    "lira_online": "LiRA, online",
    "lira_offline": "LiRA, offline",
    "lira_online_fixed_variance": "LiRA, online, fixed variance",
    "lira_online_own_variance": "LiRA, online, own variance",
    "lira_offline_fixed_variance": "LiRA, offline, fixed variance",
    "lira_offline_own_variance": "LiRA, offline, own variance",
    "rmia_online": "RMIA, online",
    "rmia_offline": "RMIA, offline",
    "lira_online_shrunken_variance": "LiRA, online, shrunken variance",
    "lira_online_augmented": "LiRA, online, augmented",
    "lira_offline_augmented": "LiRA, offline, augmented",
    "attack_p": "Attack-P",
    "attack_r": "Attack-R",
    "base_online": "BASE, online",
    "base_offline": "BASE, offline",
    "lt_iqr": "LT-IQR",
    "final_minus_mean": "trace, final minus mean",
    "lira": "LiRA",
    "rmia": "RMIA",
}


#: What guessing is drawn as.
NULL_STYLE: dict[str, Any] = {"color": MUTED, "linewidth": 0.9, "linestyle": (0, (4, 3))}

#: Each attack keeps its colour and its dashes in every figure; variants differ in dashes.
_CURVES: dict[str, tuple[str, Any]] = {
    "confidence": (SERIES[0], "-"),
    "loss": (SERIES[3], "-"),
    "modified_entropy": (SERIES[3], (0, (1, 1))),
    "closeness": (SERIES[4], "-"),
    "statistic": (SERIES[0], "-"),
    "correctness": (SERIES[0], (0, (1, 1))),
    "final_minus_mean": (SERIES[5], (0, (4, 1.5))),
    "attack_p": (SERIES[5], (0, (1, 1))),
    "lira_online": (SERIES[1], "-"),
    "lira_online_fixed_variance": (SERIES[1], "-"),
    "lira_online_own_variance": (SERIES[1], (0, (8, 1, 1, 1))),
    "lira_online_shrunken_variance": (SERIES[1], (0, (3, 1, 1, 1, 1, 1))),
    "lira_online_augmented": (SERIES[1], (0, (1, 1))),
    "lira_offline_fixed_variance": (SERIES[1], (0, (4, 1.5))),
    "lira_offline_own_variance": (SERIES[1], (0, (4, 1.5, 1, 1.5))),
    "lira_offline_augmented": (SERIES[1], (0, (1, 2))),
    "rmia_online": (SERIES[2], "-"),
    "rmia_offline": (SERIES[2], (0, (4, 1.5))),
    "base_offline": (SERIES[5], (0, (4, 1.5))),
    "attack_r": (SERIES[5], (0, (1, 1))),
    "difficulty_calibration": (SERIES[5], (0, (4, 1.5, 1, 1.5))),
    "class_thresholds": (SERIES[5], (0, (8, 1, 1, 1))),
}

#: A rise of a mean curve by this much more than the axis from one point to the next is a step of
#: tied scores.
_TIE = 0.05


def curve_style(name: str) -> dict[str, Any]:
    """Return how an attack's curve is drawn."""
    colour, dashes = _CURVES.get(name, (SERIES[5], "-"))
    return {"color": colour, "linestyle": dashes}


def attack_name(name: str) -> str:
    """Return an attack's name for people."""
    return NAMES.get(name, name.replace("_", " "))


def main_attacks(context: ReportContext) -> tuple[str, ...]:
    """Return the main attack of each kind; of LiRA, that whose curve is kept of every run."""
    curves = context.tables.get("roc")
    names = [] if curves is None else list(dict.fromkeys(curves["attack"]))
    lira = [name for name in names if re.fullmatch("lira_online_(fixed|own)_variance", name)]
    return ("lira_online", *lira[:1], "rmia_online", "loss", "statistic")


#: What figures of an example are called where they are no attacks.
_FIGURES = {
    "distance_excluding_self": "distance to another training point",
    "distance_out": "distance when out",
    "distance_in": "distance when in",
    "fixed_distance": "distance in a fixed space",
    "density_distance": "mean distance to 20 nearest others",
    "memorization": "memorisation",
}

#: Words that may be names, no parts of paths, options or calls.
_WORDS = re.compile(r"(?<![\w./-])[a-z][a-z0-9]*(?:_[a-z0-9]+)*(?![\w./(])")


def plain(text: str) -> str:
    """Return a note with attacks and figures of examples as people call them.

    Examples
    --------
    >>> from confsim.report.attacks import plain
    >>> plain("lira, quantile_regression: skipped, no features.npy; see confsim.lira_scores")
    'LiRA, quantile regression: skipped, no features.npy; see confsim.lira_scores'
    >>> plain("rmia_online, rmia_offline: skipped, they need more trials")
    'RMIA, online; RMIA, offline: skipped, they need more trials'
    """
    head, colon, rest = text.partition(": ")
    names = head.split(", ")
    if colon and all(_WORDS.fullmatch(name) for name in names):
        called = [_plain_word(name) for name in names]
        mark = "; " if any("," in name for name in called) else ", "
        return f"{mark.join(called)}: {plain(rest)}"
    return _WORDS.sub(lambda found: _plain_word(found[0]), text)


def _plain_word(word: str) -> str:
    return _FIGURES.get(word) or attack_name(word)


# ---- how well attacks do -----------------------------------------------------------------------


def best_attack(
    context: ReportContext, column: str, target: str = "mean"
) -> "pd.Series[Any] | None":
    """Return the row of the attack that does best by a column, ``None`` if there is none.

    Where there are targets enough, it was chosen on one half of them, and the row holds its figure
    on the others: the largest of many numbers is too large.
    """
    chosen = context.tables.get("best_attack")
    if target == "mean" and chosen is not None and (chosen["figure"] == column).any():
        found = chosen[chosen["figure"] == column].iloc[0]
        value = {"": "value", "_low": "value_low", "_high": "value_high"}
        named: pd.Series[Any] = found.rename({o: f"{column}{e}" for e, o in value.items()})
        return named
    table = context.tables.get("attacks")
    if table is None or table.empty or column not in table:
        return None
    rows = table[(table["target"].astype(str) == target) & table[column].notna()]
    return None if rows.empty else rows.loc[rows[column].idxmax()]


def rate_axes(axis: "Axes", start: float) -> None:
    """Make both axes logarithmic rates, in percent."""
    axis.set(xscale="log", yscale="log", xlim=(start, 1), ylim=(start, 1.05))
    for side in (axis.xaxis, axis.yaxis):
        percent_ticks(side)


def percent_ticks(axis: "Axis") -> None:
    """Label rates in percent."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if axis.get_scale() == "log":  # two marks in a decade will do, and are drawn far sooner
        axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g}%"))


@figure("How well can membership be told?", has_table("roc"))
def roc(context: ReportContext, canvas: Canvas) -> FigureText:
    """Draw ROC curves with both axes logarithmic."""
    curves = context.tables["roc"]
    present = list(dict.fromkeys(curves["attack"]))
    groups = [[name for name in present if needs_others(name) == kind] for kind in (False, True)]
    titles = ("one threshold for all", "learned from other models")
    shown = [(t, g) for t, g in zip(titles, groups, strict=True) if g]
    axes = canvas.panels(len(shown), height=3.6, sharey=not canvas.narrow)
    tied = []
    for axis, (title, names) in zip(axes, shown, strict=True):
        tied += roc_panel(axis, curves, names)
        axis.set_title(title)
        legend_below(axis, 1 if canvas.narrow else 2 if len(shown) > 1 else 4)
        if canvas.narrow or axis is axes[0]:
            axis.set_ylabel("true-positive rate")
    targets = int(curves["targets"].max())
    best = best_attack(context, "auc")
    over = (
        f"ROC curves, each {context.unit} a target ({targets}): mean over targets of the largest "
        "true-positive rate at a false-positive rate of at most that on the axis; bands hold the "
        "middle 80% of targets."
    )
    if targets == 1:
        over = (
            "ROC curves: largest true-positive rate at a false-positive rate of at most that on "
            "the axis."
        )
    return FigureText(
        f"{over} Dashed: guessing. Both axes are logarithmic, because an attack "
        "matters where it is rarely wrong."
        + (f" Squares: steps of tied scores ({'; '.join(tied)})." if tied else ""),
        "ROC curves of membership-inference attacks."
        + (
            ""
            if best is None
            else f" Best AUC {number(best['auc'])}: {attack_name(best['attack'])}."
        ),
    )


def roc_panel(axis: "Axes", curves: "pd.DataFrame", names: Sequence[str]) -> list[str]:
    """Draw some attacks' curves; say of those with tied scores how many are tied."""
    start, tied = float(curves["fpr"].min()), []
    axis.plot([start, 1], [start, 1], **NULL_STYLE)
    for name in names:
        rows, style = curves[curves["attack"] == name], curve_style(name)
        x, floor = rows["fpr"].to_numpy(), start / 3
        low, mean, high = (
            np.maximum(rows[c].to_numpy(), floor) for c in ("tpr_low", "tpr", "tpr_high")
        )
        axis.fill_between(x, low, high, step="post", color=style["color"], alpha=0.15, lw=0)
        axis.plot(x, mean, drawstyle="steps-post", label=attack_name(name), **style)
        steps = np.flatnonzero(np.diff(mean) - 3 * np.diff(x) > _TIE) + 1
        if len(steps) and _many_tied(rows):
            axis.plot(x[steps], mean[steps], "s", color=style["color"], markersize=3.5)
            tied.append(f"{attack_name(name)}{_share_tied(rows)}")
    rate_axes(axis, start)
    axis.set_xlabel("false-positive rate")
    return tied


def _many_tied(rows: "pd.DataFrame") -> bool:
    """Whether ties, not single examples of a small target, can make steps."""
    return bool(rows["tied"].iloc[0] > max(2.0, _TIE * rows["scored"].iloc[0] / 4))


def _share_tied(rows: "pd.DataFrame") -> str:
    tied, scored = float(rows["tied"].iloc[0]), float(rows["scored"].iloc[0])
    return f": {tied:,.0f} of {scored:,.0f} examples share one score"


def _needs_rates(context: ReportContext) -> str | None:
    reason = has_table("attacks", *(f"tpr_at_fpr_{r}" for r in _RATES), examples=False)(context)
    return reason or ("no attack is possible" if best_attack(context, "auc") is None else None)


@figure("How many members are told, at few false alarms?", _needs_rates)
def low_rates(context: ReportContext, canvas: Canvas) -> FigureText:
    """Draw true-positive rates at low false-positive rates, with intervals."""
    rows = _by_rate(context)
    axes = canvas.panels(2, height=0.9 + 0.19 * len(rows), sharey=not canvas.narrow)
    for axis, key, colour in zip(axes, _RATES, SERIES, strict=False):
        rates_panel(axis, context, key, colour)
    best = rows.iloc[0]
    few = any("0.1pct" in str(text).split() for text in rows["few_false_positives"])
    over = ": mean over targets, with 95% intervals over targets"
    if len(context.trials) == 1:
        over = ", with 95% intervals over examples"
    return FigureText(
        "Share of members that an attack tells at a false-positive rate (FPR) of at most 1% and "
        f"0.1%{over}, on a logarithmic scale. Triangles: less than its left end. Dashed: "
        "guessing."
        + (" At 0.1%, fewer than five false positives are expected per target." if few else ""),
        f"Best at 1%: {attack_name(best['attack'])}, true-positive rate "
        f"{number(best['tpr_at_fpr_1pct'])}.",
    )


def _by_rate(context: ReportContext) -> "pd.DataFrame":
    """Return the attacks' figures over targets, the best at 1% first."""
    table = context.tables["attacks"]
    rows = table[table["target"].astype(str) == "mean"]
    by = ["tpr_at_fpr_1pct", "attack"]
    ordered: pd.DataFrame = rows.sort_values(by, ascending=[False, True])
    return ordered


def rates_panel(axis: "Axes", context: ReportContext, key: str, colour: str = SERIES[0]) -> None:
    """Draw every attack's true-positive rate at one of the low false-positive rates."""
    rows, name, level = _by_rate(context), f"tpr_at_fpr_{key}", float(_RATES[key][:-1]) / 100
    floor = level / 10  # where the axis begins
    value, low, high = (rows[f"{name}{end}"].to_numpy() for end in ("", "_low", "_high"))
    shown = np.where(value > floor, value, np.nan)
    ends = (np.maximum(end, floor) for end in (low, high))
    dot_rows(axis, [attack_name(attack) for attack in rows["attack"]], shown, *ends, colour=colour)
    places = np.arange(len(rows))[::-1][value <= floor]
    if len(places):  # nothing, unclipped, has no extent, and a layout would fail
        axis.plot(np.full(len(places), floor), places, "<", color=colour, clip_on=False)
    axis.axvline(level, **NULL_STYLE)
    axis.set_title(f"FPR \u2264 {_RATES[key]}")
    axis.set_xlabel("true-positive rate")
    axis.set_xscale("log")
    axis.set_xlim(left=floor)
    percent_ticks(axis.xaxis)


# ---- vulnerability by similarity ---------------------------------------------------------------

#: In the model's own space first, and beside it in one that no training has changed.
_BY = {
    "distance_out": "mean distance to training set when out",
    "fixed_distance": "distance to nearest other, fixed space",
    "density_distance": "mean distance to 20 nearest others",
    "leverage": "leverage, fixed space",
}

#: What their panels are called in the caption.
_SPACES = {
    "distance_out": "mean distance to the nearest training example, in {own}, in the trials that "
    "did not train on the example",
    "fixed_distance": "distance to the nearest other example in a fixed space",
    "density_distance": "mean distance to the 20 nearest others in a fixed space",
    "leverage": "leverage in a ridge fit on all examples in a fixed space",
}

#: From this training accuracy on, the model's own space is shaped by its fit to the labels.
_INTERPOLATES = 0.999


def collapse_caveat(context: ReportContext) -> str:
    """Say what distances in the model's own space are worth where it fits all of its training set.

    Near a training accuracy of 1, features of a class collapse onto its mean (Papyan, Han & Donoho
    2020). Empty otherwise, and for runs without a space of the model's own.
    """
    found = context.headline.means.get("member_accuracy")
    if found is None or not found.value >= _INTERPOLATES or not context.own_space:
        return ""
    return (
        "models fit their training sets (accuracy "
        f"{number(found.value)}), so features of a class collapse onto its mean and confidence and "
        "distance in the model's own space are tied by geometry: read both spaces side by side"
    )


def similarity_rows(context: ReportContext) -> list[tuple[str, dict[str, Any]]]:
    """Return what relates exposure to distance in each space, with what the space is called."""
    table = context.tables.get("vulnerability_correlations")
    if table is None or table.empty:
        return []
    rows = table[
        (table["vulnerability"] == "exposure")
        & (table["scope"] == "overall")
        & (table["examples"] == "all")
        & table["spearman"].notna()
    ].set_index("similarity")
    names = {"distance_out": "the model's own space", "fixed_distance": "a fixed space"}
    if not context.own_space:
        names = {
            "distance_out": "the fixed space, counting training examples",
            "fixed_distance": "the fixed space, counting all examples",
        }
    return [(words, dict(rows.loc[key])) for key, words in names.items() if key in rows.index]


def similarity_sentences(context: ReportContext) -> list[str]:
    """Say whether examples unlike the others are more exposed, a sentence for each space."""
    told = []
    for space, row in similarity_rows(context):
        value, low, high = (float(row[f"spearman{end}"]) for end in ("", "_low", "_high"))
        if np.isnan(low) or low <= 0 <= high:
            what = "neither clearly more nor clearly less exposed"
        else:
            what = "more exposed" if value > 0 else "less exposed"
        told.append(
            f"In {space}, examples far from the others are {what}: Spearman correlation "
            f"{with_interval(value, low, high)}."
        )
    return told


def _needs_bins(context: ReportContext) -> str | None:
    reason = has_table("vulnerability_bins", "by", "auc")(context)
    if reason is None and not set(context.tables["vulnerability_bins"]["by"]) & set(_BY):
        return "there is neither a distance nor a density to sort examples by"
    return reason


#: Measures of an attack's power: what they are called, guessing, and colour.
_POWER = {
    "auc": ("AUC", 0.5, SERIES[0]),
    "tpr_at_fpr_1pct": ("true-positive rate at 1%", 0.01, SERIES[1]),
}


def bins_panel(axis: "Axes", context: ReportContext, kind: str, column: str) -> None:
    """Draw one measure of power in bins of one kind of distance."""
    table = context.tables["vulnerability_bins"]
    label, guessing, colour = _POWER[column]
    rows = table[table["by"] == kind]
    centres = (rows["value_low"] + rows["value_high"]) / 2
    axis.axhline(guessing, **NULL_STYLE)
    axis.hlines(rows[column], rows["value_low"], rows["value_high"], color=colour, alpha=0.45)
    axis.vlines(centres, rows[f"{column}_low"], rows[f"{column}_high"], color=colour)
    axis.plot(centres, rows[column], "o", color=colour)
    axis.set_xlabel(_BY[kind])
    axis.set_ylabel(label)


@figure("Are examples far from all others more exposed?", _needs_bins)
def vulnerability_bins(context: ReportContext, canvas: Canvas) -> FigureText:
    """Draw attack power in bins of distance and of density."""
    table = context.tables["vulnerability_bins"]
    kinds = [kind for kind in _BY if (table["by"] == kind).any()][:2]
    figures = tuple(_POWER)
    axes = canvas.panels(2 * len(kinds), height=2.1, columns=len(kinds))
    for i, axis in enumerate(axes):
        # Wide: a row for each figure; narrow: the panels of one kind follow one another.
        kind = kinds[i // 2 if canvas.narrow else i % len(kinds)]
        bins_panel(axis, context, kind, figures[i % 2 if canvas.narrow else i // len(kinds)])
    own = "the model's own space" if context.own_space else "the fixed space"
    spaces = [context.called(_SPACES[kind].format(own=own)) for kind in kinds]
    bars = "Horizontal bars span a bin."
    if table["auc_low"].notna().any():
        bars = (
            "Horizontal bars span a bin; vertical ones are 95% intervals of a two-way bootstrap "
            f"over {context.unit}s and examples."
        )
    caveat = collapse_caveat(context) if "distance_out" in kinds else ""
    caveat = f" {caveat[0].upper()}{caveat[1:]}." if caveat else ""
    return FigureText(
        f"Power of LiRA among examples of similar {', and of similar '.join(spaces)}, in tenths of "
        f"the examples. {bars} Dashed: guessing.{caveat}",
        "Attack power by distance. " + " ".join(similarity_sentences(context)),
    )


_MEASURES = {
    "exposure": "exposure",
    "exposure_lira": "exposure to LiRA",
    "effect_size": "effect size",
    "memorization": "memorisation",
}
_SIMILARITY = {
    "distance_out": "distance when out",
    "distance_in": "distance when in",
    "fixed_distance": "distance, fixed space",
    "fixed_distance_other_group": "duplicates apart",
    "density_distance": "density",
    "leverage": "leverage, fixed space",
}


@figure(
    "Does vulnerability rise with distance?",
    has_table("vulnerability_correlations", "spearman"),
)
def vulnerability_correlations(context: ReportContext, canvas: Canvas) -> FigureText:
    """Draw rank correlations of vulnerability and distance with their intervals."""
    table = context.tables["vulnerability_correlations"]
    table = table[table["examples"] == "all"]
    known = set(table["vulnerability"][table["spearman"].notna()])
    measures = [m for m in _MEASURES if m in known]
    wide, classes = not canvas.narrow, len(_scopes(context)) > 1
    axes = canvas.panels(len(measures), height=2.3, sharex=wide, sharey=wide)
    for axis, measure in zip(axes, measures, strict=True):
        correlations_panel(axis, context, measure)
    if classes:
        handles, labels = axes[0].get_legend_handles_labels()
        canvas.figure.legend(handles, labels, loc="outside lower center", ncols=2)
    over = "over examples and over ranks within each class" if classes else "over examples"
    return FigureText(
        "Spearman correlation of measures of vulnerability with measures of distance from other "
        f"examples, {over}. Right of zero, distant examples are more exposed. Bars are 95% "
        f"intervals over examples; that examples share {context.unit}s is not accounted for.",
        " ".join(similarity_sentences(context)) or "Correlations of vulnerability and distance.",
    )


def _scopes(context: ReportContext) -> tuple[str, ...]:
    """Return which examples correlations are shown of; where there are no classes, of all."""
    table = context.tables.get("vulnerability")
    if table is not None and "label" in table and not (table["label"] >= 0).any():
        return ("overall",)
    return ("overall", "within class")


def correlations_panel(axis: "Axes", context: ReportContext, measure: str) -> None:
    """Draw rank correlations of one measure of vulnerability with every kind of distance."""
    table = context.tables["vulnerability_correlations"]
    rows = table[(table["examples"] == "all") & (table["vulnerability"] == measure)]
    kinds = [kind for kind in _SIMILARITY if (rows["similarity"] == kind).any()]
    axis.axvline(0, color=MUTED, linewidth=0.9)
    scopes = _scopes(context)
    for i, scope in enumerate(scopes):
        part = rows[rows["scope"] == scope].set_index("similarity").reindex(kinds)
        dot_rows(
            axis,
            [_SIMILARITY[kind] for kind in kinds],
            part["spearman"],
            part["spearman_low"],
            part["spearman_high"],
            colour=SERIES[i],
            marker=MARKERS[i],
            offset=0.14 - 0.28 * i if len(scopes) > 1 else 0.0,
            label=scope,
        )
    axis.set_title(_MEASURES[measure])
    axis.set_xlabel("correlation")


# ---- memorisation ------------------------------------------------------------------------------


@figure("Which examples are memorised?", has_table("memorization", "memorization"))
def memorization(context: ReportContext, canvas: Canvas) -> FigureText:
    """Draw how memorisation is distributed, and against distance where there is one."""
    table = context.tables["memorization"]
    values = table["memorization"].to_numpy(dtype=np.float64)
    joined = _with_distance(context, table)
    axes = canvas.panels(1 if joined is None else 2, height=2.4)
    memorization_panel(axes[0], values)
    if joined is not None:
        distance, memorised = joined
        edges = (_steps(distance, 40), np.linspace(-1, 1, 41))
        counts = np.histogram2d(distance, memorised, bins=edges)[0]
        drawn = _counts_map(axes[1], edges, counts)
        axes[1].axhline(0, color=MUTED, linewidth=0.9)
        axes[1].set_ylim(*_span(memorised))
        axes[1].set_xlabel(_BY["distance_out"])
        axes[1].set_ylabel("memorisation")
        colour_bar(canvas.figure, drawn, axes[1], "examples")
    known = values[~np.isnan(values)]
    unreliable = int(np.count_nonzero(~table["reliable"].to_numpy(dtype=bool)))
    return FigureText(
        f"Memorisation of an example: accuracy on it over the {context.unit}s that trained on it, "
        f"minus that over the {context.unit}s that did not (Feldman & Zhang 2020)."
        + (
            f" {unreliable:,} of {len(table):,} examples have fewer than 20 {context.unit}s on a "
            "side: their figure is unreliable."
            if unreliable
            else ""
        ),
        f"Mean memorisation {number(float(known.mean()) if len(known) else np.nan)}; "
        f"{np.mean(known >= 0.5) if len(known) else 0:.1%} of examples at 0.5 or more.",
    )


def memorization_panel(axis: "Axes", values: Any) -> None:
    """Draw how memorisation is distributed."""
    known = values[~np.isnan(values)]
    axis.hist(known, bins=np.linspace(-1, 1, 41).tolist(), color=SERIES[0], linewidth=0)
    axis.axvline(0, color=MUTED, linewidth=0.9)
    axis.set(xlabel="memorisation", ylabel="examples", yscale="log", xlim=_span(known))


def _span(memorised: Any) -> tuple[float, float]:
    """Return ends of an axis of memorisation, whole bins about all that there is, and about 0."""
    low, high = (float(end(memorised, initial=0)) for end in (np.min, np.max))
    return max(-1.0, low - 0.05), min(1.0, high + 0.05)


def _with_distance(context: ReportContext, table: "pd.DataFrame") -> tuple[Any, Any] | None:
    vulnerable = context.tables.get("vulnerability")
    if vulnerable is None or "distance_out" not in vulnerable:
        return None
    joined = table[["id", "memorization"]].merge(vulnerable[["id", "distance_out"]], on="id")
    joined = joined.dropna()
    if joined.empty:
        return None
    return joined["distance_out"].to_numpy(), joined["memorization"].to_numpy()


def _steps(values: Any, count: int) -> Any:
    low, high = float(np.min(values)), float(np.quantile(values, 0.999))
    return np.linspace(low, high if high > low else low + 1, count + 1)


def _counts_map(axis: "Axes", edges: Any, counts: Any) -> Any:
    from matplotlib.colors import LogNorm

    shown = np.ma.masked_equal(counts.T, 0)
    axis.grid(visible=False)
    norm = LogNorm(vmin=1, vmax=max(2.0, float(counts.max())))
    return heat(axis, edges[0], edges[1], shown, norm=norm)


# ---- classes -----------------------------------------------------------------------------------


@figure("Which classes are exposed?", has_table("memorization", "accuracy_in"))
def classes(context: ReportContext, canvas: Canvas) -> FigureText:
    """Draw accuracy and attack power of each class."""
    rows, dropped = _shown_classes(context)
    attacked = all("auc" in row for row in rows)
    labels = [str(row["class"]) for row in rows]
    height = 0.9 + 0.17 * len(rows)
    axes = canvas.panels(2 if attacked else 1, height=height, sharey=not canvas.narrow)
    classes_panel(axes[0], context, "accuracy")
    legend_below(axes[0], 1 if canvas.narrow else 2)
    if attacked:
        classes_panel(axes[1], context, "auc")
    what = "the AUC of LiRA" if attacked else ""
    if any(not np.isnan(row.get("auc_low", np.nan)) for row in rows):
        what += ", with 95% intervals of a two-way bootstrap"
    return FigureText(
        f"Classes, the most exposed first: accuracy over the {context.unit}s that trained on an "
        f"example and over those that did not{'; beside it, ' + what if what else ''}."
        + (f" {dropped} classes in between are left out here." if dropped > 0 else ""),
        f"Most exposed: class {labels[0]}; least: class {labels[-1]}.",
    )


def _shown_classes(context: ReportContext) -> tuple[list[dict[str, Any]], int]:
    """Return the classes to draw, the most exposed first, and how many in between are not."""
    rows = class_rows(context)
    dropped = len(rows) - _MANY_CLASSES
    if dropped <= 0:
        return rows, 0
    return rows[: _MANY_CLASSES // 2] + rows[-_MANY_CLASSES // 2 :], dropped


def classes_panel(axis: "Axes", context: ReportContext, figure: str) -> None:
    """Draw each class's ``accuracy``, in and out, or the ``auc`` of LiRA."""
    rows, _ = _shown_classes(context)
    labels = [shorten(str(row["class"]), 14) for row in rows]

    def column(name: str) -> Any:
        return np.array([row.get(name, np.nan) for row in rows], dtype=np.float64)

    if figure == "accuracy":
        for name, colour, marker, label in (
            ("accuracy_out", NON_MEMBERS, "o", "as non-members"),
            ("accuracy_in", MEMBERS, "s", "as members"),
        ):
            values = column(name)
            dot_rows(
                axis, labels, values, values, values, colour=colour, marker=marker, label=label
            )
        axis.set_xlabel("accuracy")
    else:
        dot_rows(axis, labels, *map(column, ("auc", "auc_low", "auc_high")), colour=SERIES[2])
        axis.axvline(0.5, **NULL_STYLE)
        axis.set_xlabel("AUC of LiRA")


FIGURES = (
    roc,
    low_rates,
    vulnerability_bins,
    vulnerability_correlations,
    memorization,
    classes,
)
