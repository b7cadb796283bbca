"""Headline numbers of a run: means over trials with their intervals.

Means carry Student-t intervals over trials, on a scale that keeps them possible. Membership rates
are pooled over trials, with exact binomial (Clopper-Pearson) intervals, approximate because trials
share queries.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confsim.statistics import (
    CORRELATION,
    POSITIVE,
    RATE,
    clopper_pearson,
    mean_interval,
)

if TYPE_CHECKING:
    from confsim.store import Run

FloatArray = NDArray[np.float64]

LEVEL = 0.95

SIDES = ("bottom", "top")

#: Labels of the entries of a trial's summary that are averaged, in the order of the table.
MEANS = {
    "bottom_distance_mean_self": "distance, bottom, including self",
    "top_distance_mean_self": "distance, top, including self",
    "bottom_distance_mean_other": "distance, bottom, excluding self",
    "top_distance_mean_other": "distance, top, excluding self",
    "bottom_distance_median_self": "median distance, bottom, including self",
    "top_distance_median_self": "median distance, top, including self",
    "bottom_distance_median_other": "median distance, bottom, excluding self",
    "top_distance_median_other": "median distance, top, excluding self",
    "pearson_self": "Pearson, including self",
    "pearson_other": "Pearson, excluding self",
    "spearman_self": "Spearman, including self",
    "spearman_other": "Spearman, excluding self",
    "auc_confidence": "AUC of confidence",
    "auc_closeness_self": "AUC of closeness, including self",
    "auc_closeness_other": "AUC of closeness, excluding self",
    "auc_closeness_other_null": "the same if membership meant nothing",
    "training_error": "training error",
    "right_side": "queries on the right side",
    "angle_degrees": "angle to the ideal hyperplane, degrees",
    "objective_value": "objective value",
    "distance_scale": "distance scale",
    "member_accuracy": "accuracy, members",
    "non_member_accuracy": "accuracy, non-members",
    "holdout_accuracy": "accuracy, holdout",
    "accuracy_gap": "accuracy gap",
    "member_loss": "loss, members",
    "non_member_loss": "loss, non-members",
    "holdout_loss": "loss, holdout",
    "epochs": "epochs",
}

#: What an entry can be, by the beginning of its name.
_BOUNDS = {
    "pearson": CORRELATION,
    "spearman": CORRELATION,
    "accuracy_gap": CORRELATION,
    "auc": RATE,
    "training_error": RATE,
    "right_side": RATE,
    "member_accuracy": RATE,
    "non_member_accuracy": RATE,
    "holdout_accuracy": RATE,
    "angle_degrees": (0.0, 180.0),
}

#: Entries that are counted over trials.
TOTALS = {"redraws": "training sets drawn again", "degenerate": "degenerate fits"}


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval.

    Attributes
    ----------
    value, low, high : float
        NaN where unknown; an interval needs three trials, or one that has its own.
    trials : int
        Trials with a value.
    """

    value: float
    low: float
    high: float
    trials: int


@dataclass(frozen=True)
class Headline:
    """Headline numbers of a run.

    Attributes
    ----------
    trials : int
    means : dict of str to Estimate
        By entry of :data:`MEANS`.
    membership : dict of str to Estimate
        Pooled membership rate of the ``bottom`` and the ``top`` extreme.
    totals : dict of str to int
        By entry of :data:`TOTALS`.
    """

    trials: int
    means: dict[str, Estimate]
    membership: dict[str, Estimate]
    totals: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return plain values; NaN becomes None."""
        plain: dict[str, Any] = _without_nan(asdict(self))
        return plain


def headline(summaries: Iterable[Mapping[str, Any]]) -> Headline:
    """Combine the trials' summaries.

    Parameters
    ----------
    summaries : iterable of mapping
        One a trial, as ``summary.json`` holds them.
    """
    rows = list(summaries)
    present = _wanted(len(rows)).intersection(key for row in rows for key in row)
    columns = {key: np.array([_or_nan(row.get(key)) for row in rows]) for key in present}
    return _combined(columns, len(rows))


def headline_of(run: "Run", trials: Sequence[int]) -> Headline:
    """Combine the summaries of a run's trials, of which only what is needed is read."""
    return _combined(run.numbers(trials, _wanted(len(trials))), len(trials))


def _wanted(trials: int) -> set[str]:
    """Return what is read of summaries: the interval of one trial is its own."""
    ends = {f"{key}_{end}" for key in MEANS for end in ("low", "high")} if trials == 1 else set()
    return ends | {
        *MEANS,
        *TOTALS,
        *(f"{side}_{name}" for side in SIDES for name in ("membership_rate", "count")),
    }


def _combined(columns: Mapping[str, FloatArray], trials: int) -> Headline:
    return Headline(
        trials=trials,
        means={key: _mean(key, columns) for key in MEANS if key in columns},
        membership={
            side: _pooled(columns[f"{side}_membership_rate"], columns[f"{side}_count"])
            for side in SIDES
            if trials
        },
        totals={key: int(np.nansum(columns[key])) for key in TOTALS if key in columns},
    )


def _mean(key: str, columns: Mapping[str, FloatArray]) -> Estimate:
    values = columns[key]
    known = values[~np.isnan(values)].tolist()
    if not known:
        return Estimate(math.nan, math.nan, math.nan, 0)
    if len(values) == 1:
        low, high = (columns.get(f"{key}_{end}", [math.nan])[0] for end in ("low", "high"))
        return Estimate(known[0], float(low), float(high), 1)
    bounds = next((b for name, b in _BOUNDS.items() if key.startswith(name)), POSITIVE)
    return Estimate(*mean_interval(known, bounds, level=LEVEL), len(known))


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _pooled(rates: FloatArray, counts: FloatArray) -> Estimate:
    hits, total = int(np.round(rates * counts).sum()), int(counts.sum())
    low, high = clopper_pearson(hits, total, level=LEVEL)
    return Estimate(hits / total, float(low), float(high), len(counts))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
