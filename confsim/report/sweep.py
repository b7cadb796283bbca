"""Several runs compared: what differs between them, and each headline number against it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from confsim.report.attacks import NULL_STYLE, attack_name, best_attack, percent_ticks
from confsim.report.canvas import (
    BOTTOM,
    DASHES,
    MARKERS,
    MUTED,
    SERIES,
    TOP,
    Canvas,
    FigureText,
    plain_ticks,
)
from confsim.report.context import ReportContext
from confsim.report.numbers import with_interval
from confsim.report.registry import FigureKind
from confsim.report.sentences import share_of_members
from confsim.report.summary import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Differences that say where a run was made, not what was asked of it.
_INCIDENTAL = ("highs", "backend_versions", "data_sha256", "ensemble", "threads_per_trial", "save")

#: Points between the intervals of numbers that share a place.
_APART = 5

#: From this ratio of the largest to the smallest value on, the axis is logarithmic.
_LOGARITHMIC = 10


@dataclass(frozen=True)
class Measure:
    """A headline number that runs are compared by.

    Attributes
    ----------
    name : str
        Of its figure's files.
    title : str
        What it is called.
    said : str
        What its last line is called in a sentence.
    lines : dict of str to str
        Entries of :func:`estimates` by their labels.
    unit : str
    """

    name: str
    title: str
    said: str
    lines: dict[str, str]
    unit: str = ""

    @property
    def label(self) -> str:
        """What its axis is called; shares have their sign at their numbers."""
        return self.title if self.unit in ("", "%") else f"{self.title}, {self.unit}"

    def text(self, found: Estimate) -> str:
        """Return a number with as many digits as its interval supports, and its unit."""
        factor = 100 if self.unit == "%" else 1
        value, low, high = (factor * x for x in (found.value, found.low, found.high))
        told = with_interval(value, low, high, 3).partition(" ")[0]
        return f"{told}{self.unit}" if self.unit in ("", "%") else f"{told} {self.unit}"


MEASURES = (
    Measure("best_attack", "members recognised at 1% false alarms",
            "share of members recognised at 1% false alarms", {"": "best_tpr_at_fpr_1pct"}, "%"),
    Measure("distance", "mean distance to another training point",
            "mean distance of the most confident to another training point",
            {"least confident": "bottom_distance_mean_other",
             "most confident": "top_distance_mean_other"}),
    Measure("membership_rate", "share of members, times that of all",
            "share of members among the most confident, relative to that of all,",
            {"least confident": "bottom_ratio", "most confident": "top_ratio"}),
    Measure("correlation", "Spearman correlation of confidence and distance",
            "Spearman correlation of confidence and distance", {"": "spearman_other"}),
    Measure("auc", "AUC for membership", "AUC of closeness for membership",
            {"confidence": "auc_confidence", "closeness": "auc_closeness_other"}),
    Measure("angle", "angle to the ideal hyperplane", "angle to the ideal hyperplane",
            {"": "angle_degrees"}, "degrees"),
    Measure("training_error", "training error", "training error", {"": "training_error"}),
    Measure("accuracy", "accuracy", "accuracy on non-members",
            {"members": "member_accuracy", "non-members": "non_member_accuracy"}),
)  # fmt: skip

_COLOURS = {"least confident": BOTTOM, "most confident": TOP}

#: The two extremes are drawn here as in every figure.
_DASHES = {"least confident": (0, (5, 1.5)), "most confident": "-"}


@dataclass(frozen=True)
class Sweep:
    """Runs in the order of what was swept.

    Attributes
    ----------
    key : str
        The setting that takes the most values.
    values : list
        Its value in each run.
    series : list of str
        For each run, what else sets it apart from others of the same value.
    contexts : list of ReportContext
    differing : list of str
        All settings that differ.
    """

    key: str
    values: list[Any]
    series: list[str]
    contexts: list[ReportContext]
    differing: list[str]

    @property
    def numeric(self) -> bool:
        """Whether the swept setting is a number."""
        return all(
            isinstance(value, (int, float)) and not isinstance(value, bool) for value in self.values
        )


def arrange(contexts: Sequence[ReportContext]) -> Sweep:
    """Find out what runs differ in.

    Raises
    ------
    ValueError
        If they are of different commands, or two are the same run.
    """
    commands = {m.run.manifest["command"] for m in contexts}
    if len(commands) > 1:
        first, second = (
            contexts[0],
            next(
                m
                for m in contexts
                if m.run.manifest["command"] != contexts[0].run.manifest["command"]
            ),
        )
        raise ValueError(
            f"{first.run.path} and {second.run.path} cannot be compared: one is a run of "
            f"{first.run.manifest['command']}, the other of {second.run.manifest['command']}"
        )
    seen: dict[str, ReportContext] = {}
    for context in contexts:
        twin = seen.setdefault(context.run.identity_hash, context)
        if twin is not context:
            raise ValueError(
                f"{twin.run.path} and {context.run.path} cannot be compared: their settings are "
                "the same"
            )
    identities = [m.run.manifest["identity"] for m in contexts]
    keys = list(dict.fromkeys(key for identity in identities for key in identity))
    differing = [k for k in keys if len({repr(i.get(k)) for i in identities}) > 1]
    meant = [k for k in differing if k not in _INCIDENTAL] or differing
    key = max(meant, key=lambda k: len({repr(i.get(k)) for i in identities}))
    others = _separators(identities, key, meant)
    rows = [
        (i.get(key), ", ".join(f"{k} {_short(i.get(k))}" for k in others), m)
        for i, m in zip(identities, contexts, strict=True)
    ]
    rows.sort(key=lambda row: (row[1], not _is_number(row[0]), _order(row[0])))
    values, series, ordered = (list(column) for column in zip(*rows, strict=True))
    return Sweep(key, [_short(v) for v in values], series, ordered, meant)


def _separators(identities: Sequence[dict[str, Any]], key: str, keys: Sequence[str]) -> list[str]:
    """Return the settings, besides ``key``, that it takes to tell the runs apart.

    Default weights follow from the dimensions, and say nothing more once these are named.
    """

    def distinct(names: Sequence[str]) -> int:
        return len({repr([i.get(name) for name in names]) for i in identities})

    chosen = [key]
    for candidate in keys:
        if distinct([*chosen, candidate]) > distinct(chosen):
            chosen.append(candidate)
    return chosen[1:]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _order(value: Any) -> Any:
    return value if _is_number(value) else repr(value)


def _short(value: Any) -> Any:
    if _is_number(value):
        return value
    text = str(value)
    return text if len(text) <= 24 else text[:23] + "…"


def estimates(context: ReportContext) -> dict[str, Estimate]:
    """Return a run's headline numbers by name."""
    found = context.headline
    best = best_attack(context, "tpr_at_fpr_1pct")
    more = {}
    if best is not None and context.has("examples.parquet"):
        low, high = (float(best.get(f"tpr_at_fpr_1pct_{end}", np.nan)) for end in ("low", "high"))
        value = float(best["tpr_at_fpr_1pct"])
        more["best_tpr_at_fpr_1pct"] = Estimate(value, low, high, found.trials)
    base = share_of_members(context)
    for side, rate in found.membership.items():
        if base > 0:
            value, low, high = (x / base for x in (rate.value, rate.low, rate.high))
            more[f"{side}_ratio"] = Estimate(value, low, high, rate.trials)
    return {**found.means, **found.membership, **more}


def measures(sweep: Sweep) -> list[Measure]:
    """Return what at least one run has a number for that is not 0 everywhere."""
    found = [estimates(context) for context in sweep.contexts]

    def says_something(key: str) -> bool:
        values = [row[key].value for row in found if key in row]
        return any(value and not np.isnan(value) for value in values)

    return [m for m in MEASURES if all(says_something(key) for key in m.lines.values())]


def sentence(sweep: Sweep) -> str:
    """Say what changes between the two ends of the sweep, by the first number that is there."""
    chosen = measures(sweep)
    label = label_of(sweep.key)
    if not chosen:
        return f"The runs differ in {label}; they have no number to be compared by."
    told = [_told(sweep, measure) for measure in chosen]
    clear = [text for text, is_clear in told if is_clear]
    return clear[0] if clear else told[0][0]


def _told(sweep: Sweep, measure: Measure) -> tuple[str, bool]:
    """Return a sentence about one number, and whether it clearly changes."""
    key = list(measure.lines.values())[-1]
    rows = zip(sweep.values, sweep.series, map(estimates, sweep.contexts), strict=True)
    found = [(value, series, row[key]) for value, series, row in rows if key in row]
    known = [row for row in found if not np.isnan(row[2].value)]
    if not sweep.numeric or len(set(sweep.series)) > 1 or len(known) < 2:
        return _largest(sweep, measure, known)
    (first, _, before), (last, _, after) = known[0], known[-1]
    change, end = _change(before, after), measure.text(after)
    start = measure.text(before).removesuffix(f" {measure.unit}")  # said once, at the end
    said = {
        "rises": f"rises from {start} to {end}",
        "falls": f"falls from {start} to {end}",
        "overlaps": f"does not clearly change: {end} against {start}",
        "unknown": f"is {end} instead of {start}; too few trials to tell that from chance",
    }
    which = _instead(sweep.key, first, last)
    return f"With {which}, the {measure.said} {said[change]}.", change in _CLEAR


def _largest(
    sweep: Sweep, measure: Measure, known: Sequence[tuple[Any, str, Estimate]]
) -> tuple[str, bool]:
    """Return a sentence about where a number is largest, and whether it clearly is."""
    told = [
        (found, f"{measure.text(found)} with {', '.join(filter(None, (name, series)))}")
        for value, series, found in sorted(known, key=lambda row: -row[2].value)
        for name in [f"{label_of(sweep.key)} {value}"]
    ]
    (best, said), *others = told
    if not others:
        return f"The {measure.said} is known of one run only: {said}.", False
    if all(best.low > other.high > other.low for other, _ in others):
        return f"The {measure.said} is largest: {said}, against {others[0][1]}.", True
    return f"The {measure.said} does not clearly differ: {said}; {others[-1][1]}.", False


#: Changes that are told from none.
_CLEAR = ("rises", "falls")

#: Settings of which there are more, not larger ones.
_COUNTED = ("n", "queries", "dimensions", "epochs", "examples", "canaries")


def _instead(key: str, first: float, last: float) -> str:
    """Say which values of a setting are compared."""
    start, end, label = f"{first:,}", f"{last:,}", label_of(key)
    if key in _COUNTED:
        return f"{end} {label} instead of {start}"
    article = "an" if label[0].lower() in "aeiou" else "a"
    return f"{article} {label} of {end} instead of {start}"


def _change(before: Estimate, after: Estimate) -> str:
    """Say which way a number went, if its ends have intervals that do not overlap.

    An interval of no width is none: where all trials give the same, nothing says how far others go.
    """
    if np.isnan([before.low, after.low]).any():
        return "unknown"
    alike = before.low <= after.high and after.low <= before.high
    if alike or before.low == before.high or after.low == after.high:
        return "overlaps"
    return "rises" if after.value > before.value else "falls"


def figures(sweep: Sweep) -> list[FigureKind]:
    """Return a figure for each headline number."""
    return [
        FigureKind(
            f"sweep_{measure.name}",
            f"{measure.title[0].upper()}{measure.title[1:]}",
            lambda _: None,
            partial(_draw, sweep, measure),
        )
        for measure in measures(sweep)
    ]


def _draw(sweep: Sweep, measure: Measure, _: ReportContext, canvas: Canvas) -> FigureText:
    """Draw a headline number against what was swept."""
    found = [estimates(context) for context in sweep.contexts]
    (axis,) = canvas.panels(1, height=2.6)
    x = np.array(sweep.values, dtype=np.float64) if sweep.numeric else _places(sweep.values)
    for i, (label, key) in enumerate(measure.lines.items()):
        _draw_line(axis, sweep, x, [row.get(key) for row in found], i, label, len(measure.lines))
    axis.set_ylabel("\n".join(_lines(measure.label)))
    lows = np.array([row[key].low for row in found for key in measure.lines.values() if key in row])
    if measure.name == "membership_rate":
        axis.axhline(1, **NULL_STYLE)
    _scale(axis, measure, lows)
    _finish(axis, sweep, x)
    handles, labels = axis.get_legend_handles_labels()
    if len(handles) > 1:
        columns = 1 if canvas.narrow else 3
        canvas.figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    caption = _caption(sweep, measure, intervals=not np.isnan(lows).all())
    return FigureText(caption, _listed(sweep, measure, found))


def _scale(axis: "Axes", measure: Measure, lows: Any) -> None:
    """Choose the scale and the marks of the vertical axis."""
    least = float(np.min(lows))
    if least > 0 and axis.get_ylim()[1] > _LOGARITHMIC * least:
        axis.set_yscale("log")
        (percent_ticks if measure.unit == "%" else plain_ticks)(axis.yaxis)
    elif measure.unit == "%":
        percent_ticks(axis.yaxis)


def _caption(sweep: Sweep, measure: Measure, *, intervals: bool) -> str:
    """Say what a figure's numbers and bars are."""
    if measure.name == "membership_rate":
        return (
            "Pooled over trials, with exact binomial 95% intervals, as multiples of the share of "
            "members among all; at 1 an extreme has as many as any other points."
        )
    told = "Means over trials, too few for intervals."
    if intervals:
        told = "Means over trials with 95% Student-t intervals."
    if measure.name != "best_attack":
        return told
    rows = [best_attack(context, "tpr_at_fpr_1pct") for context in sweep.contexts]
    best = {attack_name(str(row["attack"])) for row in rows if row is not None}
    return f"{told} Best attacks: {'; '.join(sorted(best))}."


#: Runs whose numbers are told of a figure that is not seen.
_TOLD = 8


def _listed(sweep: Sweep, measure: Measure, found: Sequence[dict[str, Estimate]]) -> str:
    """Say a figure's numbers, of the last line, run by run; of many runs, where they are."""
    start = f"The {measure.said.rstrip(',')} by {label_of(sweep.key)}"
    if len(found) > _TOLD:
        return f"{start}, of {len(found)} runs; the numbers are in the table below."
    key = list(measure.lines.values())[-1]
    rows = zip(sweep.values, sweep.series, found, strict=True)
    told = [
        f"{', '.join(filter(None, (str(value), series)))}: {measure.text(row[key])}"
        for value, series, row in rows
        if key in row
    ]
    return f"{start}. {'; '.join(told)}."


def _lines(text: str, most: int = 30) -> list[str]:
    """Wrap a text into as few lines as hold it, of lengths as alike as possible."""
    wrapped = [wrap(text, width) for width in range(max(map(len, text.split())), most + 1)]
    return min(wrapped, key=lambda lines: (len(lines), max(map(len, lines))))


def _places(values: Sequence[Any]) -> Any:
    names = list(dict.fromkeys(str(value) for value in values))
    return np.array([names.index(str(value)) for value in values], dtype=np.float64)


def _draw_line(
    axis: "Axes",
    sweep: Sweep,
    x: Any,
    found: Sequence[Estimate | None],
    which: int,
    label: str,
    lines: int,
) -> None:
    """Draw one number of each run, a little beside the others of the same run."""
    from matplotlib.transforms import ScaledTranslation

    several = list(dict.fromkeys(sweep.series))
    count = lines * len(several)
    for at, series in enumerate(several):
        rows = [i for i, s in enumerate(sweep.series) if s == series and found[i] is not None]
        values = [found[i] for i in rows]
        place = x[rows]
        style = at if len(several) > 1 else which
        colour = _COLOURS.get(label, SERIES[style % len(SERIES)])
        dashes = _DASHES.get(label, DASHES[style % len(DASHES)])
        low, value, high = ([getattr(v, name) for v in values] for name in ("low", "value", "high"))
        points = _APART * (which * len(several) + at - (count - 1) / 2)
        assert axis.figure is not None
        beside = ScaledTranslation(points / 72, 0, axis.figure.dpi_scale_trans)
        bars = axis.vlines(place, low, high, color=colour, linewidth=1.3)
        (line,) = axis.plot(
            place,
            value,
            color=colour,
            marker=MARKERS[style % len(MARKERS)],
            linestyle=dashes if sweep.numeric else "none",
            label=", ".join(part for part in (label, series) if part) or None,
        )
        for drawn in (bars, line):  # only now, so that the axes span the data as they are
            drawn.set_transform(axis.transData + beside)


def _finish(axis: "Axes", sweep: Sweep, x: Any) -> None:
    axis.set_xlabel(label_of(sweep.key))
    if not sweep.numeric:
        names = list(dict.fromkeys(str(value) for value in sweep.values))
        axis.set_xticks(range(len(names)), names)
        for tick in axis.get_xticklabels():
            tick.set_parse_math(False)
        axis.set_xlim(-0.5, len(names) - 0.5)
    elif x.min() > 0 and x.max() / x.min() >= _LOGARITHMIC:
        axis.set_xscale("log")
    if sweep.numeric and len(set(x)) <= 6:
        ticks = sorted(set(x))
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
    if axis.get_yscale() == "linear" and axis.get_ylim()[0] < 0 < axis.get_ylim()[1]:
        axis.axhline(0, color=MUTED, linewidth=0.7)


def label_of(key: str) -> str:
    """Return a setting's name for people."""
    return {"n": "training points", "train_ratio": "train ratio", "C": "C"}.get(
        key, key.replace("_", " ")
    )
