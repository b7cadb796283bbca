"""Several runs compared: what differs between them, and each headline number against it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from confsim.report.attacks import attack_name, best_attack
from confsim.report.canvas import (
    BOTTOM,
    DASHES,
    MARKERS,
    MUTED,
    SERIES,
    SURFACE,
    TOP,
    Canvas,
    Words,
)
from confsim.report.material import Material
from confsim.report.summary import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Differences that say where a run was made, not what was asked of it.
_INCIDENTAL = ("highs", "backend_versions", "data_sha256", "ensemble", "threads_per_trial", "save")

#: From this ratio of the largest to the smallest value on, the axis is logarithmic.
_LOGARITHMIC = 10

_PANELS = (
    ("mean distance, including self", {"least confident": "bottom_distance_mean_self",
                                       "most confident": "top_distance_mean_self"}),
    ("mean distance, excluding self", {"least confident": "bottom_distance_mean_other",
                                       "most confident": "top_distance_mean_other"}),
    ("membership rate", {"least confident": "bottom", "most confident": "top"}),
    ("Spearman correlation of\nconfidence and distance", {"including self": "spearman_self",
                                                          "excluding self": "spearman_other"}),
    ("AUC for membership", {"confidence": "auc_confidence",
                            "closeness, excluding self": "auc_closeness_other"}),
    ("angle to ideal, degrees", {"": "angle_degrees"}),
    ("training error", {"": "training_error"}),
    ("accuracy", {"members": "member_accuracy", "non-members": "non_member_accuracy"}),
    ("best TPR at 1% FPR", {"": "best_tpr_at_fpr_1pct"}),
)  # fmt: skip

_COLOURS = {"least confident": BOTTOM, "most confident": TOP}


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
    materials : list of Material
    differing : list of str
        All settings that differ.
    """

    key: str
    values: list[Any]
    series: list[str]
    materials: list[Material]
    differing: list[str]

    @property
    def numeric(self) -> bool:
        """Whether the swept setting is a number."""
        return all(
            isinstance(value, (int, float)) and not isinstance(value, bool) for value in self.values
        )


def arrange(materials: Sequence[Material]) -> Sweep:
    """Find out what runs differ in.

    Raises
    ------
    ValueError
        If they are of different commands, or two are the same run.
    """
    commands = {m.run.manifest["command"] for m in materials}
    if len(commands) > 1:
        first, second = (
            materials[0],
            next(
                m
                for m in materials
                if m.run.manifest["command"] != materials[0].run.manifest["command"]
            ),
        )
        raise ValueError(
            f"{first.run.path} and {second.run.path} cannot be compared: one is a run of "
            f"{first.run.manifest['command']}, the other of {second.run.manifest['command']}"
        )
    seen: dict[str, Material] = {}
    for material in materials:
        twin = seen.setdefault(material.run.identity_hash, material)
        if twin is not material:
            raise ValueError(
                f"{twin.run.path} and {material.run.path} cannot be compared: their settings are "
                "the same"
            )
    identities = [m.run.manifest["identity"] for m in materials]
    keys = list(dict.fromkeys(key for identity in identities for key in identity))
    differing = [k for k in keys if len({repr(i.get(k)) for i in identities}) > 1]
    meant = [k for k in differing if k not in _INCIDENTAL] or differing
    key = max(meant, key=lambda k: len({repr(i.get(k)) for i in identities}))
    others = _separators(identities, key, meant)
    rows = [
        (i.get(key), ", ".join(f"{k} {_short(i.get(k))}" for k in others), m)
        for i, m in zip(identities, materials, strict=True)
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


def estimates(material: Material) -> dict[str, Estimate]:
    """Return a run's headline numbers by name."""
    found = material.headline
    best = best_attack(material, "tpr_at_fpr_1pct")
    more = {}
    if best is not None and material.has("examples.parquet"):
        low, high = (float(best.get(f"tpr_at_fpr_1pct_{end}", np.nan)) for end in ("low", "high"))
        value = float(best["tpr_at_fpr_1pct"])
        more["best_tpr_at_fpr_1pct"] = Estimate(value, low, high, found.trials)
    return {**found.means, **found.membership, **more}


def draw(sweep: Sweep, canvas: Canvas) -> Words:
    """Draw each headline number against what was swept."""
    found = [estimates(material) for material in sweep.materials]
    panels = [
        (title, lines)
        for title, lines in _PANELS
        if all(any(key in row for row in found) for key in lines.values())
        and any(row[key].value for row in found for key in lines.values() if key in row)
    ]
    axes = canvas.panels(len(panels), height=2.0, columns=3)
    x = np.array(sweep.values, dtype=np.float64) if sweep.numeric else _places(sweep.values)
    for axis, (title, lines) in zip(axes, panels, strict=True):
        axis.set_title(title)
        for i, (label, key) in enumerate(lines.items()):
            _draw_line(axis, sweep, x, [row.get(key) for row in found], i, label)
        _finish(axis, sweep, x)
        if len(lines) > 1 and not len(set(sweep.series)) > 1:
            axis.legend(loc="best", handlelength=1.6)
    _legend(canvas, axes, sweep)
    best = {
        attack_name(str(row["attack"]))
        for m in sweep.materials
        if m.has("examples.parquet") and (row := best_attack(m, "tpr_at_fpr_1pct")) is not None
    }
    return Words(
        f"Headline numbers against {label_of(sweep.key)}: means over trials with 95% Student-t "
        "intervals; membership rates pooled over trials, with exact binomial intervals."
        + (f" Best attacks: {', '.join(sorted(best))}." if best else ""),
        f"Comparison of {len(sweep.materials)} runs by {label_of(sweep.key)}; the numbers are in "
        "the table below.",
    )


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
) -> None:
    several = list(dict.fromkeys(sweep.series))
    for number, series in enumerate(several):
        rows = [i for i, s in enumerate(sweep.series) if s == series and found[i] is not None]
        values = [found[i] for i in rows]
        place = x[rows]
        style = number if len(several) > 1 else which
        colour = _COLOURS.get(label, SERIES[which])
        low, value, high = ([getattr(v, name) for v in values] for name in ("low", "value", "high"))
        axis.vlines(place, low, high, color=colour, linewidth=1.3)
        axis.plot(
            place,
            value,
            color=colour,
            marker=MARKERS[style % len(MARKERS)],
            linestyle=DASHES[style % len(DASHES)] if sweep.numeric else "none",
            markeredgecolor=SURFACE,
            label=", ".join(part for part in (label, series) if part) or None,
        )


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
    if axis.get_ylim()[0] < 0 < axis.get_ylim()[1]:
        axis.axhline(0, color=MUTED, linewidth=0.7)


def _legend(canvas: Canvas, axes: "Sequence[Axes]", sweep: Sweep) -> None:
    if len(set(sweep.series)) < 2:
        return
    entries: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    canvas.figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=1 if canvas.narrow else 3,
    )


def label_of(key: str) -> str:
    """Return a setting's name for people."""
    return {"n": "training points", "train_ratio": "train ratio", "C": "C"}.get(
        key, key.replace("_", " ")
    )
