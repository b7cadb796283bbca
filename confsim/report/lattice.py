"""A map of the two-dimensional lattice for one trial."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confsim.report.canvas import (
    INK,
    MEMBERS,
    SERIES,
    SURFACE,
    Canvas,
    FigureText,
    colour_bar,
    heat,
)
from confsim.report.context import ReportContext
from confsim.report.numbers import number
from confsim.report.registry import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]

#: Cells of the map along each axis.
_CELLS = 220

#: More training points than this are drawn small, and of more than the second some are left out:
#: they would hide the map.
_MANY, _MOST = 400, 1000


def _needs_plane(context: ReportContext) -> str | None:
    if "grid_size" not in context.config:
        return "only runs over a lattice have a map"
    dimensions = context.config.get("dimensions")
    if dimensions != 2:
        return f"a map needs two dimensions, and the lattice has {dimensions}"
    return None if context.has("model.npz") else "the trials hold no models"


@figure("Where is the model sure, and where are its training points?", _needs_plane)
def lattice_map(context: ReportContext, canvas: Canvas) -> FigureText:
    """Draw confidence and distance over the lattice, with the hyperplanes and training points."""
    trial = _typical(context)
    axes = canvas.panels(2, height=2.2 if canvas.narrow else 2.9)
    for axis, field in zip(axes, FIELDS, strict=True):
        drawn = map_panel(axis, context, field)
        colour_bar(canvas.figure, drawn, axis, FIELDS[field], shrink=0.92)
    handles, labels = axes[0].get_legend_handles_labels()
    canvas.figure.legend(
        handles, labels, loc="outside lower center", ncols=1 if canvas.narrow else 4
    )
    return _words(context, trial)


#: What is drawn over the lattice, and what its colour bar says.
FIELDS = {"confidence": "boundary confidence", "distance": "distance, lattice units"}


def map_panel(axis: "Axes", context: ReportContext, field: str) -> Any:
    """Draw one of :data:`FIELDS` over the lattice, for the typical trial; return what was drawn."""
    from confsim.confidence import boundary_confidence
    from confsim.linear.lattice import Lattice
    from confsim.neighbors import nearest_training

    model = context.run.trial(_typical(context)).model()
    size = float(context.config["grid_size"])
    lattice = Lattice(size, float(context.config["granularity"]), 2)
    training = lattice.points(model["training_ids"])
    edges = np.linspace(0, size, _CELLS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    grid = np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(-1, 2)
    weights, bias = model["weights"], float(model["bias"])
    if field == "confidence":
        values = boundary_confidence(grid @ weights + bias, weights, bias, size)
    else:
        values = nearest_training(grid, training).distance
    drawn = heat(axis, edges, edges, values.reshape(_CELLS, _CELLS).T)
    _draw_model(axis, model, training, size)
    return drawn


def _typical(context: ReportContext) -> int:
    """Return the trial with the median angle between learned and ideal hyperplane."""
    angles = context.column("angle_degrees")
    known = np.flatnonzero(~np.isnan(angles))
    if len(known) == 0:
        return context.trials[0]
    order = known[np.argsort(angles[known], kind="stable")]
    return context.trials[int(order[(len(order) - 1) // 2])]


def _draw_model(axis: "Axes", model: dict[str, Any], training: FloatArray, size: float) -> None:
    from matplotlib import patheffects

    halo = [patheffects.withStroke(linewidth=3.2, foreground=SURFACE)]
    lines = (
        ("ideal_weights", "ideal_bias", "ideal hyperplane", INK, (0, (4, 2))),
        ("weights", "bias", "learned hyperplane", MEMBERS, "-"),
    )
    for weights, bias, label, colour, dash in lines:
        ends = _in_box(model[weights], float(model[bias]), size)
        if ends is not None:
            axis.plot(
                *ends.T, color=colour, linestyle=dash, label=label, path_effects=halo, linewidth=1.4
            )
    step = _shown_step(len(training))
    training, labels = training[::step], model["training_labels"][::step]
    markersize = 5.0 if len(labels) <= _MANY else 2.2
    for value, marker, colour in ((1, "^", SERIES[4]), (-1, "o", SURFACE)):
        chosen = training[labels == value]
        axis.plot(
            *chosen.T,
            marker,
            color=colour,
            markersize=markersize,
            markeredgecolor=INK,
            markeredgewidth=0.6 if len(labels) <= _MANY else 0.3,
            label=f"training point, class {value:+d}",
        )
    axis.set(xlim=(0, size), ylim=(0, size), aspect="equal")
    axis.set(xlabel="first coordinate", ylabel="second coordinate")
    axis.grid(visible=False)


def _shown_step(count: int) -> int:
    """Return of how many training points one is drawn; they are in the order of the lattice."""
    return -(-count // _MOST)


def _in_box(weights: FloatArray, bias: float, size: float) -> FloatArray | None:
    """Return the ends of a line's part in the box, ``None`` if it misses it."""
    points = []
    for axis in (0, 1):
        other = 1 - axis
        if weights[other] == 0:
            continue
        for at in (0.0, size):
            crossing = -(bias + weights[axis] * at) / weights[other]
            if -1e-9 * size <= crossing <= size * (1 + 1e-9):
                points.append((at, crossing) if axis == 0 else (crossing, at))
    if len(points) < 2:
        return None
    found = np.array(points)
    lengths = np.linalg.norm(found[:, None] - found[None], axis=-1)
    first, second = np.unravel_index(np.argmax(lengths), lengths.shape)
    return found[[first, second]]


def _words(context: ReportContext, trial: int) -> FigureText:
    summary = context.run.trial(trial).summary()
    angle = summary.get("angle_degrees")
    angle = math.nan if angle is None else float(angle)
    count = int(context.config["n"])
    shown = "training points" if _shown_step(count) == 1 else f"some of {count:,} training points"
    return FigureText(
        f"Trial {trial}, the one with the median angle between learned and ideal hyperplane "
        f"({number(angle, 2)} degrees). One panel shows boundary confidence, the distance to the "
        "learned hyperplane as a fraction of the largest one, the other Euclidean distance to the "
        f"nearest training point. Triangles and circles are {shown}, with the labels that the "
        "model saw.",
        f"Two maps of the lattice for trial {trial}: confidence grows away from the learned "
        "hyperplane, distance grows away from the training points.",
    )


FIGURES = (lattice_map,)
