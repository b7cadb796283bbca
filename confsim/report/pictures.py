"""The images themselves: most and least confident, most vulnerable, each with its neighbour."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confsim.report.canvas import MUTED, Canvas, FigureText, letters
from confsim.report.context import ReportContext
from confsim.report.numbers import number, shorten
from confsim.report.registry import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: With a lower reliability a ranking owes more to the draw of trials than to the examples.
MOSTLY_NOISE = 0.5

#: Kinds of images that are shown.
WHICH = ("vulnerable", "confident", "unsure")

#: Images of a kind.
_EACH = 8

#: Pairs in a row: of the wide figure, and of the narrow one.
_ACROSS, _ACROSS_NARROW = 4, 2

#: Inches for what stands above and below an image, and for the title of a kind.
_AROUND, _TITLE = 0.46, 0.24

_CAPTION = (
    "Each pair: an image of the population and, to its right, the training image that is nearest "
    "to it in most trials, never itself, in the model's own feature space. Above: their ids, and "
    "the mean angular distance of the two, as a fraction of a half turn; below: their classes."
)


def _needs_images(context: ReportContext) -> str | None:
    if not context.has("examples.parquet"):
        return "the run has no table of examples"
    return None if context.has_images else "the run keeps no images"


def _needs_vulnerability(context: ReportContext) -> str | None:
    table = context.tables.get("vulnerability")
    if (reason := _needs_images(context)) is not None:
        return reason
    if table is None or "exposure" not in table:
        return "there is no table of vulnerability, which needs at least three trials"
    return None


@figure("Which images is the model sure of?", _needs_images, photographs=True)
def confident_images(context: ReportContext, canvas: Canvas) -> FigureText:
    """Show the images with the highest and the lowest mean confidence."""
    found = context.examples
    chosen = tuple(
        (title, _chosen(context, which)[:_EACH])
        for title, which in (("most confident", "confident"), ("least confident", "unsure"))
    )
    _pairs(context, canvas, chosen)
    low, high = (float(np.mean(found.softmax[rows])) for _, rows in reversed(chosen))
    return FigureText(
        f"Images by mean confidence over all trials, as members or not. {_CAPTION}",
        f"Image pairs. Mean largest probability {number(high)} among the most confident images "
        f"shown, {number(low)} among the least confident.",
    )


def images_panel(axis: "Axes", context: ReportContext, which: str, count: int) -> None:
    """Draw pairs of one kind, each side by side, in rows within one panel."""
    chosen, images = _chosen(context, which)[:count], context.run.images()
    labels, position = _labels(context)
    axis.axis("off")
    rows = max(1, -(-len(chosen) // _ACROSS))
    for i, row in enumerate(chosen):
        left, below = (i % _ACROSS) / _ACROSS, 1 - (i // _ACROSS + 0.85) / rows
        frames = [
            axis.inset_axes((left + part * 0.45 / _ACROSS, below, 0.42 / _ACROSS, 0.7 / rows))
            for part in (0, 1)
        ]
        _pair(frames[0], frames[1], context, int(row), images, position, labels)


def _chosen(context: ReportContext, which: str) -> NDArray[np.int64]:
    """Return rows of the examples, those that belong to a kind first."""
    if which == "vulnerable":
        ids = context.tables["vulnerability"]["id"].to_numpy()[most_vulnerable(context)]
        rows: NDArray[np.int64] = np.searchsorted(context.examples.ids, ids)
        return rows
    order = np.argsort(context.examples.log_odds, kind="stable")
    return order[::-1] if which == "confident" else order


def _labels(context: ReportContext) -> tuple[NDArray[Any], dict[int, int]]:
    """Return the labels of the population, and each example's place in it."""
    population = context.run.population(["id", "label"])
    position = {int(i): row for row, i in enumerate(population["id"])}
    return population["label"].to_numpy(), position


@figure("Which images does the model give away?", _needs_vulnerability, photographs=True)
def vulnerable_images(context: ReportContext, canvas: Canvas) -> FigureText:
    """Show the images whose membership is easiest to tell."""
    _pairs(context, canvas, (("", _chosen(context, "vulnerable")[:_EACH]),))
    return FigureText(
        "Images whose membership shows most in the log-odds of their class: ranked by the AUC of "
        "trials that were trained on them against trials that were not, then by effect size. "
        f"{noise_note(context)}{_CAPTION}",
        "Image pairs: the most vulnerable images, each with its usual nearest training image.",
    )


def noise_note(context: ReportContext) -> str:
    """Say how far a ranking by exposure can be trusted; empty where that is unknown."""
    table = context.tables.get("vulnerability_reliability")
    if table is None:
        return ""
    rows = table[table["vulnerability"] == "exposure"]["reliability"].to_numpy(dtype=np.float64)
    if not len(rows) or np.isnan(found := float(rows[0])):
        return ""
    told = f"Split-half reliability of exposure over these {context.unit}s: {found:.2f}"
    if found < MOSTLY_NOISE:
        others = f"other {context.unit}s would give another one"
        return f"{told}: the list is mostly noise, and {others}. "
    return f"{told}. "


def most_vulnerable(context: ReportContext) -> NDArray[np.int64]:
    """Return rows of the table of vulnerability, the most vulnerable first; NaN is left out."""
    table = context.tables["vulnerability"]
    area = table["exposure"].to_numpy(dtype=np.float64)
    effect = np.nan_to_num(table["effect_size"].to_numpy(dtype=np.float64), nan=-np.inf)
    order = np.lexsort((table["id"].to_numpy(), -effect, -area))
    known: NDArray[np.int64] = order[~np.isnan(area[order])]
    return known


def _pairs(
    context: ReportContext, canvas: Canvas, groups: tuple[tuple[str, NDArray[np.int64]], ...]
) -> None:
    images = context.run.images()
    labels, position = _labels(context)
    across = _ACROSS_NARROW if canvas.narrow else _ACROSS
    rows = [group[i : i + across] for _, group in groups for i in range(0, len(group), across)]
    titles = [
        title if i == 0 else "" for title, group in groups for i in range(0, len(group), across)
    ]
    side = canvas.width / across * 0.42
    heights = [side + _AROUND + (_TITLE if title else 0.0) for title in titles]
    canvas.panels(1, height=sum(heights))
    canvas.figure.clear()
    canvas.figure.set_layout_engine("none")
    top, total = 0.0, sum(heights)
    for title, chosen, height in zip(titles, rows, heights, strict=True):
        if title:
            canvas.figure.text(0, 1 - (top + 0.12) / total, title, va="top", fontsize=9)
        base = 1 - (top + height - 0.2) / total
        for i, row in enumerate(chosen):
            # The two of a pair touch almost; between pairs is room.
            places = [
                (i / across + part * (side + 0.04) / canvas.width, base, side / canvas.width,
                 side / total)
                for part in (0, 1)
            ]  # fmt: skip
            frames = [canvas.figure.add_axes(place) for place in places]
            _pair(frames[0], frames[1], context, int(row), images, position, labels)
        top += height


def _pair(
    left: "Axes",
    right: "Axes",
    context: ReportContext,
    row: int,
    images: NDArray[Any],
    position: dict[int, int],
    labels: NDArray[Any],
) -> None:
    found, names = context.examples, context.label_names
    neighbour, distance = found.usual_neighbour(row)
    for axis, identity in ((left, int(found.ids[row])), (right, neighbour)):
        axis.axis("off")
        if identity not in position:
            continue
        at = position[identity]
        _picture(axis, images[at])
        name = shorten(names.get(int(labels[at]), str(int(labels[at]))), letters(axis, 10, 9))
        below = axis.text(0, -0.04, name, transform=axis.transAxes, fontsize=7.5)
        below.set(va="top", parse_math=False)
        above = f"{identity}" if axis is left else f"{identity}, {distance:.3f}"
        axis.text(0, 1.03, above, transform=axis.transAxes, va="bottom", fontsize=7.5, color=MUTED)


def _picture(axis: "Axes", image: NDArray[Any]) -> None:
    grey = image.shape[-1] == 1
    axis.imshow(
        image[..., 0] if grey else image[..., :3],
        cmap="gray" if grey else None,
        vmin=0,
        vmax=255,
        interpolation="nearest",
    )


FIGURES = (confident_images, vulnerable_images)
