"""The data behind the page's explorer: every example's figures, packed for a page to hold.

Numbers travel as 16-bit steps between a column's least and largest value, log-odds of single trials
as 7-bit steps with membership in the eighth: enough for what a screen can show. The tables beside
the page hold all digits. Nothing is packed that is not shown, and text is packed as JSON strings.
"""

import base64
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from confsim.report.context import ReportContext, plural
from confsim.report.pictures import MOSTLY_NOISE, most_vulnerable

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: More examples than this are sampled.
MOST_EXAMPLES = 60_000

#: Of a larger population: so many from either end of each figure are always kept.
_EXTREME = 500

#: Bytes of log-odds (one a trial and example) and of pictures that a page may take.
_ODDS_BYTES = 5_000_000
_PICTURE_BYTES = 1_600_000

#: Pixels of a picture's longer side; larger ones are averaged down.
_PICTURE_SIDE = 48

_MISSING = 65535

#: Examples that are worked on at a time.
_BLOCK = 1024


@dataclass(frozen=True)
class Explorer:
    """What the page needs for its explorer.

    Attributes
    ----------
    data : str
        JSON, safe inside a script element.
    sentences : list of str
        What is shown, and how.
    classes : int
        How many classes the examples have.
    """

    data: str
    sentences: list[str]
    classes: int


class _Figure(NamedTuple):
    """A figure of every example.

    ``axis`` says on which it may be chosen; ``kind`` is ``""``, ``"percent"``, ``"flag"`` or
    ``"hidden"`` (part of another figure's text).
    """

    key: str
    title: str = ""
    meaning: str = ""
    axis: str = ""
    kind: str = ""


_FOUND = "share of its trials as member in which the attack finds it, at thresholds chosen on other"

#: What it is where the models have a space of their own.
_OWN_SPACE = "distance, model's space"

_FIGURES = (
    _Figure("exposure", "exposure (AUC)", "AUC of the log-odds, trials in against trials out; 0.5 "
            "where nothing leaks", "y"),
    _Figure("exposure_lira", "exposure to LiRA (AUC)", "the same of LiRA's scores, fitted on the "
            "other half of the trials", "y"),
    _Figure("effect_size", "effect size", "difference of the median log-odds in and out, in "
            "standard deviations", "y"),
    _Figure("memorization", "memorisation", "accuracy in minus accuracy out [95%, Agresti-Caffo]",
            "y"),
    _Figure("memorization_low", kind="hidden"),
    _Figure("memorization_high", kind="hidden"),
    _Figure("distance_out", f"{_OWN_SPACE} (half turns)", "mean angular distance to the "
            "nearest training example in trials without it", "x"),
    _Figure("distance_in", "distance when in (half turns)", "the same in trials with it, its own "
            "row left out", "x"),
    _Figure("fixed_distance", "distance, fixed space (half turns)", "angular distance to the "
            "nearest other example in a space that no training changes", "x"),
    _Figure("density_distance", "mean distance to 20 nearest, fixed space", "Euclidean, after "
            "normalisation", "x"),
    _Figure("leverage", "leverage", "in the fixed space", "x"),
    _Figure("rate", "share of trials as member", "trials that trained on it", kind="percent"),
    _Figure("duplicates", "has a duplicate", "an equal example is in the population", kind="flag"),
    _Figure("found_loss", "found by loss", f"{_FOUND} trials for 1% false positives",
            kind="percent"),
    _Figure("found_statistic", "found by the statistic", f"{_FOUND} trials for 1% false positives",
            kind="percent"),
    _Figure("found_lira_online", "found by LiRA", f"{_FOUND} trials for 1% false positives",
            kind="percent"),
    _Figure("found_rmia_online", "found by RMIA", f"{_FOUND} trials for 1% false positives",
            kind="percent"),
    *(_Figure(key, kind="hidden") for key in ("mean_in", "sd_in", "mean_out", "sd_out")),
)  # fmt: skip


def why_not(context: ReportContext) -> str | None:
    """Return why there is nothing to explore, ``None`` if there is."""
    if not context.has("examples.parquet"):
        return "the run has no table of examples; runs over a lattice never have"
    table = context.tables.get("vulnerability")
    if table is None or "exposure" not in table or table["exposure"].isna().all():
        return "there is no figure of each example, which needs at least three trials"
    if not _keys(table, "x"):
        return "examples have no distance to be shown against"
    return None


def _keys(table: "pd.DataFrame", axis: str) -> list[str]:
    return [
        f.key
        for f in _FIGURES
        if f.axis == axis and f.key in table and not table[f.key].isna().all()
    ]


def explorer(context: ReportContext) -> Explorer:
    """Pack what the explorer shows; :func:`why_not` first."""
    table = _joined(context)
    rows = _chosen(context, table)
    part = table.iloc[rows]
    found, at = context.examples, context.example_rows(part["id"].to_numpy())
    member, odds = found.is_member[:, at], found.signal[:, at]
    values = {f.key: part[f.key].to_numpy(dtype=np.float64) for f in _FIGURES if f.key in part}
    values |= {"rate": member.mean(axis=0)} | _normals(odds, member)
    if "has_duplicate" in part and part["has_duplicate"].any():
        values["duplicates"] = part["has_duplicate"].to_numpy(dtype=np.float64)
    ids = part["id"].to_numpy()
    neighbours = _neighbours(found.usual_neighbours(at), ids)
    names = context.label_names
    classes, labels = np.unique(part["label"].to_numpy(), return_inverse=True)
    packed, said = _odds(odds, member, context)
    pictures, pictured = _pictures(context, ids, _by_interest(context, ids), neighbours)
    data = {
        "count": len(ids),
        "ids": [str(identity) for identity in ids.tolist()],
        "names": [names.get(int(label), str(label)) for label in classes.tolist()],
        "groups": _groups(context, ids),
        "labels": _text(labels.astype("<u2")),
        "neighbours": _text(neighbours.astype("<i4")),
        "columns": _columns(values, context),
        "unit": context.unit,
        "x": _keys(table, "x"),
        "y": _keys(table, "y"),
        "odds": packed,
        "pictures": pictures,
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    told = [_count_sentence(len(ids), len(table)), *said, *pictured]
    return Explorer(text, told, len(classes))


def _groups(context: ReportContext, ids: IntArray) -> dict[str, Any] | None:
    """Pack groups of the user's own, ``None`` where there are none."""
    if not context.run.has("population.parquet"):
        return None
    table = context.run.population()
    if "group" not in table:
        return None
    own = table["id"].to_numpy()
    order = np.argsort(own, kind="stable")
    text = table["group"].astype(str).to_numpy()[order[np.searchsorted(own[order], ids)]]
    names, codes = np.unique(text, return_inverse=True)
    return {"names": names.tolist(), "codes": _text(codes.reshape(-1).astype(np.uint8))}


def _joined(context: ReportContext) -> "pd.DataFrame":
    """Return the table of vulnerability with the intervals of memorisation."""
    table = context.tables["vulnerability"]
    memorised = context.tables.get("memorization")
    if memorised is None or "memorization_low" not in memorised:
        return table
    columns = ["id", "memorization_low", "memorization_high"]
    joined: pd.DataFrame = table.merge(memorised[columns], on="id", how="left")
    return joined


def _chosen(context: ReportContext, table: "pd.DataFrame") -> IntArray:
    """Return the rows that are packed: all, or both ends of every figure and a random rest."""
    if len(table) <= MOST_EXAMPLES:
        return np.arange(len(table))
    kept: set[int] = set()
    for key in (*_keys(table, "x"), *_keys(table, "y")):
        column = table[key].to_numpy(dtype=np.float64)
        order = np.argsort(column, kind="stable")
        order = order[~np.isnan(column[order])]
        kept.update(order[:_EXTREME].tolist(), order[-_EXTREME:].tolist())
    rest = np.setdiff1d(np.arange(len(table)), np.fromiter(kept, np.int64, len(kept)))
    # The sample is the same whenever the page is made: any fixed seed will do.
    drawn = np.random.default_rng(0).choice(rest, MOST_EXAMPLES - len(kept), replace=False)
    return np.sort(np.concatenate([drawn, np.fromiter(kept, np.int64, len(kept))]))


def _count_sentence(shown: int, total: int) -> str:
    if shown == total:
        return f"All {plural(total, 'example')} are here."
    return (
        f"{shown:,} of {total:,} examples are here: the {_EXTREME} at either end of every figure, "
        "and a random sample of the others."
    )


def _normals(odds: NDArray[np.float32], member: NDArray[np.bool_]) -> dict[str, FloatArray]:
    """Return means and standard deviations of each example's log-odds, in and out."""
    found: dict[str, FloatArray] = {
        f"{name}_{side}": np.full(odds.shape[1], np.nan)
        for name in ("mean", "sd")
        for side in ("in", "out")
    }
    for start in range(0, odds.shape[1], _BLOCK):  # what fits a cache
        block = slice(start, start + _BLOCK)
        values = odds[:, block].astype(np.float64)
        known = np.isfinite(values)
        values[~known] = 0.0
        for side, chosen in (("in", member[:, block]), ("out", ~member[:, block])):
            used = (chosen & known).astype(np.float64)
            count = used.sum(axis=0)
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = np.einsum("ij,ij->j", values, used) / count
                offset = (values - mean) * used
                spread = np.sqrt(np.einsum("ij,ij->j", offset, offset) / (count - 1))
            found[f"mean_{side}"][block] = mean
            found[f"sd_{side}"][block] = np.where(count > 1, spread, np.nan)
    return found


def _odds(
    odds: NDArray[np.float32], member: NDArray[np.bool_], context: ReportContext
) -> tuple[dict[str, Any] | None, list[str]]:
    """Pack the log-odds of single trials, of as many trials as there is room for."""
    trials, examples = odds.shape
    known = odds[np.isfinite(odds)]
    if not len(known):
        return None, []
    fit = min(trials, _ODDS_BYTES // examples)
    rows = np.unique(np.linspace(0, trials - 1, fit).round().astype(np.int64))
    low, high = (float(end) for end in np.quantile(known, (0.0005, 0.9995)))
    high = high if high > low else low + 1.0
    chosen = odds[rows]
    steps = np.clip(np.round((chosen - low) / (high - low) * 126), 0, 126)
    packed = np.where(np.isfinite(chosen), steps, 127).astype(np.uint8)
    packed |= member[rows].astype(np.uint8) << 7
    title = "statistic" if context.statistic else "log-odds of the true class"
    told = {"trials": len(rows), "low": low, "high": high, "title": title}
    said = []
    if fit < trials:
        shown = f"{len(rows)} of {trials} {context.unit}s"
        said = [f"Cards mark the values of {shown}; the curves use all."]
    return told | {"data": _text(np.ascontiguousarray(packed.T))}, said


def _neighbours(nearest: IntArray, ids: IntArray) -> IntArray:
    """Return the place of each example's usual neighbour among those packed, -1 without one."""
    order = np.argsort(ids, kind="stable")
    place = np.minimum(np.searchsorted(ids[order], nearest), len(ids) - 1)
    found: IntArray = np.where(ids[order][place] == nearest, order[place], -1)
    return found


def _columns(values: dict[str, FloatArray], context: ReportContext) -> list[dict[str, Any]]:
    found, reliabilities = [], _reliabilities(context)
    for key, title, meaning, _, kind in _FIGURES:
        if key not in values:
            continue
        if not context.own_space:
            title = title.replace(_OWN_SPACE, "distance to training")
        called = context.called
        column: dict[str, Any] = {"key": key, "title": called(title), "meaning": called(meaning)}
        column |= {kind: True} if kind else {}
        if not np.isnan(noise := reliabilities.get(key, np.nan)):
            column["reliability"] = noise
        found.append(column | _quantised(values[key]))
    return found


def _quantised(values: FloatArray) -> dict[str, Any]:
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    with np.errstate(invalid="ignore"):
        share = (values - low) / (high - low) if high > low else np.where(values == low, 0, np.nan)
    steps = np.where(np.isfinite(share), np.round(share * (_MISSING - 1)), _MISSING)
    return {"low": low, "high": high, "data": _text(steps.astype("<u2"))}


def _reliabilities(context: ReportContext) -> dict[str, float]:
    table = context.tables.get("vulnerability_reliability")
    if table is None:
        return {}
    return dict(zip(table["vulnerability"], table["reliability"].astype(float), strict=True))


def _by_interest(context: ReportContext, ids: IntArray) -> IntArray:
    """Return places among those packed, the most exposed first, the unknown last."""
    ranked = context.tables["vulnerability"]["id"].to_numpy()[most_vulnerable(context)]
    order = np.argsort(ids, kind="stable")
    place = np.minimum(np.searchsorted(ids[order], ranked), len(ids) - 1)
    there = order[place[ids[order][place] == ranked]]
    return np.concatenate([there, np.setdiff1d(np.arange(len(ids)), there)])


def _pictures(
    context: ReportContext, ids: IntArray, order: IntArray, neighbours: IntArray
) -> tuple[dict[str, Any] | None, list[str]]:
    """Pack pictures of the most exposed examples and their neighbours into one image."""
    if not context.has_images:
        return None, []
    images = context.run.images()
    step = -(-max(images.shape[1:3]) // _PICTURE_SIDE)
    height, width = (-(-size // step) for size in images.shape[1:3])
    channels = 1 if images.shape[3] == 1 else 3
    room = _PICTURE_BYTES // (height * width * channels)
    pairs = np.column_stack([order, neighbours[order]]).ravel()
    pairs = pairs[pairs >= 0]
    first = np.sort(np.unique(pairs, return_index=True)[1])[:room]
    chosen = pairs[first]
    if not len(chosen):
        return None, []
    population = context.run.population(["id"])["id"].to_numpy()
    by_id = np.argsort(population, kind="stable")
    at = by_id[np.searchsorted(population[by_id], ids[chosen])]
    across = int(np.ceil(np.sqrt(len(chosen))))
    down = -(-len(chosen) // across)
    atlas = np.zeros((down * height, across * width, channels), np.uint8)
    for k, row in enumerate(at.tolist()):
        y, x = k // across * height, k % across * width
        atlas[y : y + height, x : x + width] = _small(images[row][..., :channels], step)
    tiles = np.full(len(ids), -1, np.int64)
    tiles[chosen] = np.arange(len(chosen))
    packed = {"width": width, "height": height, "across": across, "url": _png(atlas),
              "tiles": _text(tiles.astype("<i4"))}  # fmt: skip
    said = "" if len(chosen) == len(ids) else f"{plural(len(chosen), 'picture')} are in the page: "
    return packed, [f"{said}those of the most exposed and their neighbours."] if said else []


def _small(image: NDArray[Any], step: int) -> NDArray[np.uint8]:
    """Return an image averaged over squares of ``step`` pixels, those at the edges smaller."""
    if step == 1:
        return np.asarray(image, np.uint8)
    pad = [(0, -image.shape[axis] % step) for axis in (0, 1)]
    padded = np.pad(image.astype(np.float64), [*pad, (0, 0)], mode="edge")
    down, across = (size // step for size in padded.shape[:2])
    blocks = padded.reshape(down, step, across, step, -1).mean(axis=(1, 3))
    return np.asarray(np.round(blocks), np.uint8)


def _png(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _text(array: "NDArray[Any]") -> str:
    return base64.b64encode(array.tobytes()).decode()


def reliability_words(found: float) -> str:
    """Say what a reliability means for a list of single examples."""
    if found < MOSTLY_NOISE:
        return "mostly noise: another time, others would be named"
    return "mostly a property of the examples" if found < 0.8 else "a property of the examples"
