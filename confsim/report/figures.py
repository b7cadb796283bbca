"""Figures of any run: confidence against distance, extremes, membership, and trial by trial."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confsim.report.canvas import (
    BOTTOM,
    MARKERS,
    MEMBERS,
    MUTED,
    NON_MEMBERS,
    SERIES,
    SURFACE,
    TOP,
    Canvas,
    FigureText,
    band,
    colour_bar,
    heat,
)
from confsim.report.context import ReportContext, plural
from confsim.report.numbers import number, share
from confsim.report.registry import figure, has_joint
from confsim.statistics import FEWEST_TRIALS, clopper_pearson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]

#: Fewer points than this on a panel are shown in fewer, larger bins.
_SPARSE = 20_000

#: Points that a median is drawn of: of a large bin, and of a small one, beside many others.
_ENOUGH, _PRECISE = 20, 100

_DISTANCE = "distance to nearest training point"


# ---- joint density -----------------------------------------------------------------------------


@figure("How do confidence and distance go together?", has_joint)
def joint(context: ReportContext, canvas: Canvas) -> FigureText:
    """Draw the joint density of confidence and distance."""
    axes = canvas.panels(2, height=3.0, sharex=not canvas.narrow, sharey=not canvas.narrow)
    for axis, members in zip(axes, (False, True), strict=True):
        drawn = joint_panel(axis, context, members=members)
        if drawn is not None:
            colour_bar(canvas.figure, drawn, axis, "pairs")
        _mark_extremes(axis, context)
    for axis in axes if canvas.narrow else axes[:1]:
        axis.set_ylabel(_DISTANCE)
    handles, labels = axes[0].get_legend_handles_labels()
    columns = 2 if canvas.narrow else 3
    canvas.figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    return _joint_words(context)


def joint_panel(axis: "Axes", context: ReportContext, *, members: bool) -> Any:
    """Draw the density of members or of non-members; return it for a colour bar."""
    found = context.joint
    counts = found.excluding[0, 0 if members else 1]
    drawn = _density(axis, context, counts)
    _median_line(axis, context, counts)
    ends = _occupied(found.excluding[0].sum(axis=0))
    axis.set_xlim(*_edge_range(found.confidence_edges, ends[0]))
    axis.set_ylim(*_edge_range(found.distance_edges, ends[1]))
    axis.set_title(
        f"{'members' if members else 'non-members'}\n{plural(int(counts.sum()), 'pair')}"
    )
    axis.set_xlabel(context.confidence_label)
    return drawn


def _joint_words(context: ReportContext) -> FigureText:
    means = context.headline.means
    columns = (counts.any(axis=1) for counts in context.joint.excluding[0, ::-1])
    alike = [
        f" All {kind} lie in one bin of confidence."
        for kind, filled in zip(("non-members", "members"), columns, strict=True)
        if np.count_nonzero(filled) == 1
    ]
    s, o = means["spearman_self"], means["spearman_other"]
    return FigureText(
        f"Pairs of a query and a {context.unit}, by the model's confidence and by the normalised "
        "distance to the nearest training point; a member's own row does not count. Brighter is "
        "denser, on a logarithmic scale of each panel's own. The line is the median distance at "
        "each confidence. Bars on the axis span the central 90% of the "
        f"{context.percent:g}% least and most confident. The last bin of distance also holds what "
        f"lies beyond.{''.join(alike)}",
        f"Two heat maps of confidence against distance. Spearman correlation {number(s.value)} "
        f"including self and {number(o.value)} excluding self.",
    )


def _occupied(counts: NDArray[Any]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the first and last bins that hold anything, by confidence and by distance."""
    ranges = []
    for axis in (1, 0):
        filled = np.flatnonzero(counts.sum(axis=axis))
        first, last = (filled[0], filled[-1]) if len(filled) else (0, counts.shape[1 - axis] - 1)
        ranges.append((int(first), int(last) + 1))
    return ranges[0], ranges[1]


def _edge_range(edges: FloatArray, bins: tuple[int, int]) -> tuple[float, float]:
    return float(edges[bins[0]]), float(edges[min(bins[1], len(edges) - 1)])


def _density(axis: "Axes", context: ReportContext, counts: NDArray[Any]) -> Any:
    from matplotlib.colors import LogNorm

    found = context.joint
    total = int(counts.sum())
    if total == 0:
        axis.text(0.5, 0.5, "none", ha="center", transform=axis.transAxes, color=MUTED)
        return None
    across, up = (_step(total, end - start) for start, end in _occupied(counts))
    coarse = counts.reshape(128 // across, across, 128 // up, up).sum(axis=(1, 3))
    shown = np.ma.masked_equal(coarse.T.astype(np.float64), 0)
    norm = LogNorm(vmin=max(1.0, float(shown.max()) * 1e-4), vmax=max(2.0, float(shown.max())))
    axis.grid(visible=False)
    edges = found.confidence_edges[::across], found.distance_edges[::up]
    return heat(axis, *edges, shown, norm=norm)


def _step(total: int, bins: int) -> int:
    """Return how many bins make one that is shown, so that some 20 remain of those occupied."""
    if total >= _SPARSE:
        return 1
    return next((step for step in (4, 2) if bins // step >= 20), 1)


def _median_line(axis: "Axes", context: ReportContext, counts: NDArray[Any]) -> None:
    """Draw the median distance where a bin of confidence holds enough for one."""
    found = context.joint
    step = 1 if counts.sum() >= _SPARSE else 8
    coarse = counts.reshape(128 // step, step, 128).sum(axis=1).astype(np.float64)
    total = coarse.sum(axis=1)
    enough = total >= (_PRECISE if step == 1 else _ENOUGH)
    if np.count_nonzero(enough) < 2:
        return
    below = np.cumsum(coarse[enough], axis=1) / total[enough, None]
    bins = np.argmax(below >= 0.5, axis=1)
    centres = (found.distance_edges[1:] + found.distance_edges[:-1]) / 2
    x = (found.confidence_edges[:-1:step] + found.confidence_edges[step::step]) / 2
    axis.plot(x[enough], centres[bins], color=SURFACE, linewidth=2.6)
    axis.plot(x[enough], centres[bins], color=SERIES[1], linewidth=1.3, label="median distance")


def _mark_extremes(axis: "Axes", context: ReportContext) -> None:
    found = context.joint
    names = (("least confident", BOTTOM), ("most confident", TOP))
    for side, (name, colour) in enumerate(names, start=1):
        by_confidence = found.including[side].sum(axis=(0, 2)).astype(np.float64)
        if not by_confidence.any():
            continue
        below = np.cumsum(by_confidence) / by_confidence.sum()
        low, high = np.searchsorted(below, (0.05, 0.95))
        ends = found.confidence_edges[low], found.confidence_edges[min(high + 1, 128)]
        axis.plot(
            ends,
            (0, 0),
            color=colour,
            linewidth=4,
            solid_capstyle="butt",
            label=name,
            transform=axis.get_xaxis_transform(),
            clip_on=False,
        )


# ---- extremes ----------------------------------------------------------------------------------


@figure("Are the most confident points closer to the training set?", has_joint)
def extremes(context: ReportContext, canvas: Canvas) -> FigureText:
    """Draw how distances are distributed in the two extremes."""
    kinds = _kinds(context)
    axes = canvas.panels(len(kinds), height=2.8)
    for axis, kind in zip(axes, kinds, strict=True):
        extremes_panel(axis, context, kind)
    handles, labels = axes[0].get_legend_handles_labels()
    columns = 1 if canvas.narrow else 2
    canvas.figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    for axis in axes if canvas.narrow else axes[:1]:
        axis.set_ylabel(CUMULATIVE)
    return _extremes_words(context)


#: What the axis of a cumulative distribution is called.
CUMULATIVE = "share at this distance or closer"


def extremes_panel(axis: "Axes", context: ReportContext, kind: str) -> None:
    """Draw cumulative distributions, with members' own rows (``self``) or without (``other``)."""
    from matplotlib.ticker import PercentFormatter

    edges = context.joint.distance_edges
    counts = context.joint.distances[("self", "other").index(kind)]
    filled = np.flatnonzero(counts.sum(axis=(0, 1)))
    bins = max(0, int(filled.min(initial=127)) - 2), int(filled.max(initial=0)) + 2
    for side, (name, colour, dash) in enumerate(_SIDES):
        mean, low, high = _mean_cumulative(counts[:, side])
        band(axis, edges, low, high, colour)
        axis.plot(edges, mean, color=colour, linestyle=dash, label=f"{name} {_p(context)}")
    axis.set_title(_KINDS[kind])
    axis.set_xlabel(_DISTANCE)
    axis.set_xlim(*_edge_range(edges, bins))
    axis.set_ylim(0, 1.02)
    axis.yaxis.set_major_formatter(PercentFormatter(1))


#: How the two extremes are drawn in every figure.
_SIDES = (("least confident", BOTTOM, (0, (5, 1.5))), ("most confident", TOP, "-"))

_KINDS = {"self": "members' own rows count", "other": "members' own rows left out"}


def _kinds(context: ReportContext) -> list[str]:
    """Return which distances to show: those with members' own rows where they differ visibly."""
    means = context.headline.means
    pairs = [
        [means.get(f"{side}_distance_mean_{kind}") for kind in ("self", "other")]
        for side in ("bottom", "top")
    ]
    differ = any(
        a is not None and b is not None and abs(a.value - b.value) > 0.02 * abs(b.value)
        for a, b in pairs
    )
    return ["other", "self"] if differ else ["other"]


def _mean_cumulative(counts: NDArray[Any]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return at each edge the mean share at or below it over trials, and its interval.

    Parameters
    ----------
    counts : ndarray, (trials, bins)
    """
    total = counts.sum(axis=1)
    below = np.cumsum(counts[total > 0], axis=1) / total[total > 0, None]
    share = np.concatenate([np.zeros((len(below), 1)), below], axis=1)
    if not len(share):
        nothing = np.full(share.shape[1], np.nan)
        return nothing, nothing, nothing
    mean = share.mean(axis=0)
    if len(share) < FEWEST_TRIALS:
        return mean, mean, mean
    from scipy.special import stdtrit

    half = stdtrit(len(share) - 1, 0.975) * share.std(axis=0, ddof=1) / np.sqrt(len(share))
    return mean, np.maximum(mean - half, 0), np.minimum(mean + half, 1)


def _p(context: ReportContext) -> str:
    return f"{context.percent:g}%"


def _extremes_words(context: ReportContext) -> FigureText:
    means = context.headline.means
    bottom, top = (means[f"{side}_distance_mean_other"] for side in ("bottom", "top"))
    return FigureText(
        f"Of the {_p(context)} least and most confident queries of a {context.unit}, the share "
        "at a normalised distance of at most that on the axis: mean over "
        f"{context.unit}s, with pointwise 95% Student-t intervals. The higher curve is closer to "
        "the training set. Where their own rows count, members are at distance 0 from themselves.",
        "Cumulative distributions of distance. Mean distance excluding self "
        f"{number(bottom.value)} for the least and {number(top.value)} for the most confident.",
    )


# ---- membership --------------------------------------------------------------------------------


def _needs_members(context: ReportContext) -> str | None:
    reason = has_joint(context)
    if reason is None and not context.joint.including[0, 0].any():
        return "no member is among the queries"
    return reason


@figure("Are confident points, or close ones, members?", _needs_members)
def membership(context: ReportContext, canvas: Canvas) -> FigureText:
    """Draw the membership rate against confidence and against distance."""
    axes = canvas.panels(2, height=2.4, sharey=True)
    for axis, by in zip(axes, ("confidence", "distance"), strict=True):
        base = membership_panel(axis, context, by)
    for axis in axes if canvas.narrow else axes[:1]:
        axis.set_ylabel("share of members,\ntimes that of all")
    return _membership_words(context, base)


def membership_panel(axis: "Axes", context: ReportContext, by: str) -> float:
    """Draw the membership rate by ``confidence`` or by ``distance``; return that of all."""
    found = context.joint
    counts = found.excluding[0].astype(np.int64)
    base = float(counts[0].sum() / max(1, counts.sum()))
    if by == "confidence":
        (members, others), edges = counts.sum(axis=2), found.confidence_edges
        axis.set_xlabel(context.confidence_label)
    else:
        (members, others), edges = counts.sum(axis=1), found.distance_edges
        axis.set_xlabel(f"{_DISTANCE},\nown row left out")
    groups = _equal_groups(members + others)
    hits = np.add.reduceat(members, groups[:-1])
    total = np.add.reduceat(members + others, groups[:-1])
    _ratios(axis, (edges[groups[:-1]] + edges[groups[1:]]) / 2, hits, total, base)
    return base


#: Ratios that an axis of ratios begins and ends with at least, and at most.
_RATIO_SPANS = ((0.5, 2.0), (0.02, 50.0))


def _ratios(axis: "Axes", x: Any, hits: Any, total: Any, base: float) -> None:
    """Draw shares as multiples of the share of all, on a logarithmic axis about 1."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = (ends / base for ends in clopper_pearson(hits, total))
    value = hits / total / base
    (least, most), (lowest, highest) = _RATIO_SPANS
    bottom = max(lowest, min(least, 0.8 * float(np.min(np.where(low > 0, low, 1.0)))))
    top = min(highest, max(most, 1.25 * float(np.max(high))))
    if axis.get_yscale() == "log":  # shared with a panel that was drawn before
        bottom, top = min(axis.get_ylim()[0], bottom), max(axis.get_ylim()[1], top)
    axis.set_yscale("log")
    axis.set_ylim(bottom, top)
    axis.axhline(1, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    axis.vlines(x, np.maximum(low, lowest / 10), high, color=MEMBERS, linewidth=1.2)
    some = hits > 0
    axis.plot(x[some], value[some], "o", color=MEMBERS)
    below, foot = x[~some & (high <= axis.get_ylim()[0])], axis.get_xaxis_transform()
    marks = axis.plot(below, 0 * below, "v", color=MEMBERS, clip_on=False, transform=foot)
    marks[0].set_in_layout(False)  # else what lies outside of an axis takes all room
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def _equal_groups(counts: NDArray[Any], groups: int = 16) -> NDArray[np.int64]:
    """Return edges of neighbouring bins that hold about equally many, none empty."""
    below = np.concatenate([[0], np.cumsum(counts)])
    wanted = np.linspace(0, below[-1], groups + 1)[1:-1]
    cuts = np.unique(np.searchsorted(below, wanted))
    first, last = np.flatnonzero(counts)[[0, -1]]
    inner = cuts[(cuts > first) & (cuts <= last)]
    return np.concatenate([[first], inner, [last + 1]]).astype(np.int64)


def _membership_words(context: ReportContext, base: float) -> FigureText:
    rates, means = context.headline.membership, context.headline.means
    confidence = means["auc_confidence"].value
    return FigureText(
        "Share of members among pairs of similar confidence, and of similar distance to the "
        "nearest other training point, as multiples of their share among all pairs (dashed: "
        f"{share(base)}), in groups of about equally many. Bars are exact binomial 95% intervals "
        f"on pooled counts, approximate because {context.unit}s share queries; a bar without a "
        "point, or a triangle at the foot, holds no member.",
        f"Membership rate {number(rates['bottom'].value)} among the least and "
        f"{number(rates['top'].value)} among the most confident; AUC of confidence "
        f"{number(confidence)}.",
    )


# ---- trial by trial ----------------------------------------------------------------------------


def _needs_two_trials(context: ReportContext) -> str | None:
    if len(context.trials) < 2:
        return "it needs more than one trial"
    known = context.column("top_distance_mean_self")
    return "no distance to a training point is known" if np.isnan(known).all() else None


@figure("Does every trial say the same?", _needs_two_trials)
def trials(context: ReportContext, canvas: Canvas) -> FigureText:
    """Draw each trial's mean distance in one extreme against that in the other."""
    kinds = _kinds(context)
    axes = canvas.panels(len(kinds), height=2.75 if canvas.narrow else 3.2)
    closer = [trials_panel(axis, context, kind) for axis, kind in zip(axes, kinds, strict=True)]
    return FigureText(
        f"Each point is a {context.unit}: mean normalised distance among its least confident "
        "queries (across) and among its most confident ones (up). Below the dashed line the most "
        "confident are closer to the training set.",
        f"In {closer[0]:.0%} of {plural(len(context.trials), context.unit)} the most "
        "confident queries are closer to the training set than the least confident.",
    )


def trials_panel(axis: "Axes", context: ReportContext, kind: str) -> float:
    """Draw each trial as a point; return the share whose most confident queries are closer."""
    from matplotlib.ticker import MaxNLocator

    x = context.column(f"bottom_distance_mean_{kind}")
    y = context.column(f"top_distance_mean_{kind}")
    known = ~(np.isnan(x) | np.isnan(y))
    closer = float(np.mean(y[known] < x[known])) if known.any() else np.nan
    ends = _padded(np.concatenate([x[known], y[known]]))
    axis.plot(ends, ends, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    axis.plot(x, y, MARKERS[0], color=NON_MEMBERS, alpha=0.75)
    axis.set(xlim=ends, ylim=ends, aspect="equal")
    for side in (axis.xaxis, axis.yaxis):  # of the same ends, so with the same numbers
        side.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axis.set_title(f"{_KINDS[kind]}\ncloser in {closer:.0%} of {context.unit}s")
    axis.set_xlabel(f"mean distance, least confident {_p(context)}")
    axis.set_ylabel(f"mean distance,\nmost confident {_p(context)}")
    return closer


def _padded(values: FloatArray) -> tuple[float, float]:
    if len(values) == 0:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    pad = 0.06 * (high - low) or 0.05
    return low - pad, high + pad


FIGURES = (joint, extremes, membership, trials)
