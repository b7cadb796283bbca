"""The images themselves: most and least confident, most vulnerable, each with its neighbour."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confsim.report.canvas import MUTED, Canvas, Words
from confsim.report.material import Examples, Material
from confsim.report.numbers import number
from confsim.report.registry import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: With a lower reliability a ranking owes more to the draw of trials than to the examples.
MOSTLY_NOISE = 0.5

#: Images of a kind.
_EACH = 6

_CAPTION = (
    "Each pair is an image of the population (left) and, beside it, the training image that is "
    "nearest to it in most trials, never itself, in the model's own feature space (right). Below: "
    "their classes; above: the mean angular distance, as a fraction of a half turn."
)


def _needs_images(material: Material) -> str | None:
    if not material.has("examples.parquet"):
        return "the run has no table of examples"
    return None if material.has_images else "the run keeps no images"


def _needs_vulnerability(material: Material) -> str | None:
    table = material.tables.get("vulnerability")
    if (reason := _needs_images(material)) is not None:
        return reason
    if table is None or "exposure" not in table:
        return "there is no table of vulnerability, which needs at least three trials"
    return None


@figure("Which images is the model sure of?", _needs_images, photographs=True)
def confident_images(material: Material, canvas: Canvas) -> Words:
    """Show the images with the highest and the lowest mean confidence."""
    found = material.examples
    order = np.argsort(found.log_odds, kind="stable")
    chosen = (("most confident", order[::-1][:_EACH]), ("least confident", order[:_EACH]))
    _pairs(material, canvas, chosen)
    low, high = (float(np.mean(found.softmax[rows])) for _, rows in reversed(chosen))
    return Words(
        f"Images by mean confidence over all trials, as members or not. {_CAPTION}",
        f"Image pairs. Mean largest probability {number(high)} among the most confident images "
        f"shown, {number(low)} among the least confident.",
    )


@figure("Which images does the model give away?", _needs_vulnerability, photographs=True)
def vulnerable_images(material: Material, canvas: Canvas) -> Words:
    """Show the images whose membership is easiest to tell."""
    order = most_vulnerable(material)
    rows = np.searchsorted(material.examples.ids, material.tables["vulnerability"]["id"])[order]
    _pairs(material, canvas, (("most vulnerable", rows[: 2 * _EACH]),))
    return Words(
        "Images whose membership shows most in the log-odds of their class: ranked by the AUC of "
        "trials that were trained on them against trials that were not, then by effect size. "
        f"{noise_note(material)}{_CAPTION}",
        "Image pairs: the most vulnerable images, each with its usual nearest training image.",
    )


def noise_note(material: Material) -> str:
    """Say how far a ranking by exposure can be trusted; empty where that is unknown."""
    table = material.tables.get("vulnerability_reliability")
    if table is None:
        return ""
    rows = table[table["vulnerability"] == "exposure"]["reliability"].to_numpy(dtype=np.float64)
    if not len(rows) or np.isnan(found := float(rows[0])):
        return ""
    told = f"Split-half reliability of exposure over these trials: {found:.2f}"
    if found < MOSTLY_NOISE:
        return f"{told}: the list is mostly noise, and other trials would give another one. "
    return f"{told}. "


def most_vulnerable(material: Material) -> NDArray[np.int64]:
    """Return rows of the table of vulnerability, the most vulnerable first; NaN is left out."""
    table = material.tables["vulnerability"]
    area = table["exposure"].to_numpy(dtype=np.float64)
    effect = np.nan_to_num(table["effect_size"].to_numpy(dtype=np.float64), nan=-np.inf)
    order = np.lexsort((table["id"].to_numpy(), -effect, -area))
    known: NDArray[np.int64] = order[~np.isnan(area[order])]
    return known


def _pairs(
    material: Material, canvas: Canvas, groups: tuple[tuple[str, NDArray[np.int64]], ...]
) -> None:
    found, images = material.examples, material.run.images()
    population = material.run.population(["id", "label"])
    position = {int(i): row for row, i in enumerate(population["id"])}
    labels = population["label"].to_numpy()
    names = material.label_names
    across = 3 if canvas.narrow else _EACH
    rows = [group[i : i + across] for _, group in groups for i in range(0, len(group), across)]
    titles = [
        title if i == 0 else "" for title, group in groups for i in range(0, len(group), across)
    ]
    canvas.panels(len(rows), height=0.78 * canvas.width / across + 0.1, columns=1)
    canvas.figure.clear()
    frames = canvas.figure.subfigures(len(rows), 1, squeeze=False).ravel()
    for frame, title, chosen in zip(frames, titles, rows, strict=True):
        if title:
            frame.suptitle(title, x=0.01, ha="left", fontsize=8.5)
        grid = frame.subplots(1, 2 * across, squeeze=False).ravel()
        for axis in grid:
            axis.axis("off")
        for i, row in enumerate(chosen):
            _pair(grid[2 * i], grid[2 * i + 1], found, int(row), images, position, labels, names)


def _pair(
    left: "Axes",
    right: "Axes",
    found: Examples,
    row: int,
    images: NDArray[Any],
    position: dict[int, int],
    labels: NDArray[Any],
    names: dict[int, str],
) -> None:
    neighbour, distance = found.usual_neighbour(row)
    for axis, identity in ((left, int(found.ids[row])), (right, neighbour)):
        if identity not in position:
            continue
        at = position[identity]
        _picture(axis, images[at])
        name = _short(names.get(int(labels[at]), str(int(labels[at]))))
        text = axis.text(0.5, -0.04, name, transform=axis.transAxes, fontsize=6.5)
        text.set(ha="center", va="top", parse_math=False)
    right.text(
        1.0,
        1.03,
        f"{distance:.3f}",
        transform=right.transAxes,
        ha="right",
        va="bottom",
        fontsize=6,
        color=MUTED,
    )


def _short(name: str) -> str:
    return name if len(name) <= 10 else name[:9] + "…"


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
