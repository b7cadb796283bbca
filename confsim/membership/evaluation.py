"""How well an attack does: for each target, on average, and pooled, with intervals.

One row a target, then a row ``mean`` and a row ``pooled``. Each kind of row has its own kind of
interval, named in its column ``interval``.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import check_integer
from confsim._kernels import resolve_threads
from confsim.membership.shadow import check_scores
from confsim.statistics import (
    BOOTSTRAP_CAPTION,
    FEW_FALSE_POSITIVES,
    FEWEST_RESAMPLED,
    FEWEST_TRIALS,
    FPR_LEVELS,
    PRIORS,
    RATE,
    CrossedAuc,
    Roc,
    clopper_pearson,
    mean_interval,
    percent_name,
)
from confsim.statistics.bootstrap import bootstrap_bounds, curve_of
from confsim.statistics.checks import check_row_groups, check_targets
from confsim.statistics.crossed import CrossedPart, crossed_part
from confsim.statistics.curves import Curve
from confsim.statistics.order import ascending_order
from confsim.statistics.pooled import Allocate, SortedRows

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

_TARGET_INTERVAL = (
    "this target, examples drawn anew: DeLong (AUC), Clopper-Pearson at the realised threshold"
)
_MEAN_INTERVAL = (
    "Student-t over targets, on the logit scale: these examples, trials drawn anew; "
    "auc_new_examples: examples drawn anew, too"
)
_NO_INTERVAL = "none: fewer than {} targets"
_BOUNDED = (
    "auc",
    "advantage",
    "balanced_accuracy",
    *(f"tpr_at_fpr_{percent_name(level)}" for level in FPR_LEVELS),
)


def evaluate(
    scores: ArrayLike,
    is_member: ArrayLike,
    *,
    targets: ArrayLike | None = None,
    row_groups: ArrayLike | None = None,
    replicates: int = 200,
    seed: int = 0,
    n_threads: int | None = None,
) -> list[dict[str, Any]]:
    """Evaluate an attack on every target.

    Parameters
    ----------
    scores : array_like, (trials, examples)
        Higher means "member"; NaN where the attack has no answer: left out, and counted.
    is_member : array_like of bool, (trials, examples)
    targets : array_like of int, (trials,), optional
        Their numbers; default: 0, 1, ...
    row_groups : array_like, (trials,), optional
        Trials of one group, the pairs of a balanced design, count as one in intervals.
    replicates, seed, n_threads
        Of :func:`confsim.statistics.two_way_bootstrap`.

    Returns
    -------
    list of dict
        ``target`` (a number, ``mean`` or ``pooled``), ``members``, ``non_members``, ``unanswered``
        (pairs left out), ``auc``, ``advantage``, ``balanced_accuracy``; for each false-positive
        rate ``a`` of 10%, 1%, 0.1%, 0.01% and 0: ``tpr_at_fpr_a`` with ``_low`` and ``_high``,
        ``realised_fpr_at_fpr_a``, ``threshold_at_fpr_a`` (in units of the score),
        ``precision_at_fpr_a_prior_p`` for shares ``p`` of members of 50%, 10% and 1%, and at FPR 0
        ``precision_bound_...``, with the FPR at its upper 95% bound; ``few_false_positives``: the
        rates at which fewer than 5 distinct examples are expected as false positives;
        ``interval``: what the intervals are about; of a single target they are over its examples in
        every row. In the row ``mean``, ``auc_new_examples_low`` and ``_high`` are an interval for
        new trials *and* new examples (:class:`confsim.statistics.CrossedAuc`). A target whose known
        scores are all of one class is left out.

    Raises
    ------
    ValueError
        If shapes differ, ``is_member`` is neither boolean nor 0 and 1, or there is not one of
        ``targets`` or ``row_groups`` for each trial.

    Examples
    --------
    >>> import numpy as np
    >>> from confsim.membership import evaluate
    >>> rng = np.random.default_rng(0)
    >>> member = rng.random((4, 1000)) < 0.5
    >>> rows = evaluate(rng.normal(size=member.shape) + member, member)
    >>> [row["target"] for row in rows]
    [0, 1, 2, 3, 'mean', 'pooled']
    >>> round(rows[-1]["auc"], 2), rows[-1]["few_false_positives"]
    (0.76, '0.1pct 0.01pct')
    """
    values, member = check_scores(scores, is_member)
    check_integer("replicates", replicates, minimum=2)
    numbers = check_targets(targets, len(values))
    groups = check_row_groups(row_groups, len(values))
    found = evaluated(
        values, member, numbers, groups, replicates=replicates, seed=seed, n_threads=n_threads
    )
    return found.rows


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluated` found.

    Attributes
    ----------
    rows : list of dict
        Those of :func:`evaluate`.
    looks : list
        What was asked of each target's curve, for targets that have one, in their order.
    ordered : SortedRows
        The scores.
    """

    rows: list[dict[str, Any]]
    looks: list[Any]
    ordered: SortedRows


def evaluated(
    scores: FloatArray,
    is_member: BoolArray,
    targets: IntArray,
    groups: IntArray,
    *,
    replicates: int = 200,
    seed: int = 0,
    n_threads: int | None = None,
    look: Callable[[Roc], Any] | None = None,
    empty: Allocate = np.empty,
) -> Evaluation:
    """Evaluate an attack as :func:`evaluate` does, with checked arguments.

    Parameters
    ----------
    scores, is_member, targets, groups, replicates, seed, n_threads
        As of :func:`evaluate`.
    look : callable, optional
        Is given each target's curve, several at a time.
    empty : callable
        Allocates a copy of the scores, row by row in order.
    """
    by_target = TargetRows(scores.shape[1], look)
    ordered = SortedRows(len(scores), scores.shape[1], empty)
    by_target.add_all(scores, is_member, targets, groups, n_threads, ordered)
    if not by_target.rows:
        return Evaluation([], [], ordered)
    place = {number: i for i, number in enumerate(targets.tolist())}
    order = sorted(range(len(by_target.rows)), key=lambda i: place[by_target.rows[i]["target"]])
    rows = [by_target.rows[i] for i in order]
    mean = by_target.mean()
    curve = curve_of(ordered, n_threads)
    pooled = _figures(curve)
    if len(rows) == 1:
        pooled |= _bounds(rows[0])
    else:
        pooled |= _bootstrap_bounds(scores, is_member, curve, groups, replicates, seed, n_threads)
    unanswered = scores.size - curve.members - curve.non_members
    # The same non-member in many trials is one example: its scores rise and fall together.
    distinct = int(np.count_nonzero(by_target.non_members))
    pooled["few_false_positives"] = " ".join(
        percent_name(level) for level in FPR_LEVELS if 0 < level * distinct < FEW_FALSE_POSITIVES
    )
    summary = {"target": "pooled", "unanswered": unanswered, **pooled}
    looks = [by_target.looks[i] for i in order if look]
    return Evaluation([*rows, mean, summary], looks, ordered)


@dataclass(frozen=True)
class _Group:
    """The rows of targets that are not independent, and what else is made of them."""

    rows: list[dict[str, Any]]
    looks: list[Any]
    part: CrossedPart | None
    non_members: BoolArray


class TargetRows:
    """The rows of targets and of their mean, from scores that are given one group after another.

    Parameters
    ----------
    examples : int
    look : callable, optional
        Is given each target's curve.

    Attributes
    ----------
    rows : list of dict
        Those of :func:`evaluate` for each target that was added and has known scores of both
        classes.
    looks : list
        What ``look`` returned, for each of them.
    non_members : ndarray of bool, (examples,)
        Which examples have a known score as a non-member.
    """

    def __init__(self, examples: int, look: Callable[[Roc], Any] | None = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self.looks: list[Any] = []
        self.non_members = np.zeros(examples, dtype=bool)
        self._look = look
        self._group_of_row: list[int] = []
        self._examples, self._groups = examples, 0
        self._crossed = CrossedAuc(examples)

    def add(self, scores: FloatArray, is_member: BoolArray, numbers: ArrayLike) -> None:
        """Add the targets of one group: arrays (targets, examples), and their numbers."""
        self._keep(self._measured(scores, is_member, np.asarray(numbers)))

    def add_all(
        self,
        scores: FloatArray,
        is_member: BoolArray,
        numbers: NDArray[Any],
        groups: NDArray[Any],
        n_threads: int | None,
        ordered: SortedRows,
    ) -> None:
        """Add the targets of all groups, several groups at a time; fill in ``ordered``."""
        by_group = [np.flatnonzero(groups == group) for group in np.unique(groups)]

        def measured(chosen: IntArray) -> _Group:
            def keep(place: int, members: FloatArray, others: FloatArray) -> None:
                ordered.put(int(chosen[place]), members, others)

            return self._measured(scores[chosen], is_member[chosen], numbers[chosen], keep)

        with ThreadPoolExecutor(resolve_threads(n_threads)) as pool:
            for found in pool.map(measured, by_group):
                self._keep(found)

    def _measured(
        self,
        scores: FloatArray,
        is_member: BoolArray,
        numbers: NDArray[Any],
        keep: Callable[[int, FloatArray, FloatArray], None] | None = None,
    ) -> _Group:
        curves, rows, looks = [], [], []
        non_members = np.zeros(self._examples, dtype=bool)
        for i, (row, member, number) in enumerate(zip(scores, is_member, numbers, strict=True)):
            curve, *places = _ordered(row, member)
            non_members[places[1]] = True
            if keep is not None:
                keep(i, curve.member_scores, curve.non_member_scores)
            if curve.members and curve.non_members:
                curves.append((curve, places[0], places[1]))
                rows.append(_target_row(curve, int(number), self._examples))
                looks += [] if self._look is None else [self._look(curve)]
        part = crossed_part(curves, self._examples) if curves else None
        return _Group(rows, looks, part, non_members)

    def _keep(self, found: _Group) -> None:
        self.rows += found.rows
        self.looks += found.looks
        self.non_members |= found.non_members
        self._group_of_row += [self._groups] * len(found.rows)
        self._groups += 1
        if found.part is not None:
            self._crossed.keep(found.part)

    def mean(self) -> dict[str, Any]:
        """Return the row ``mean``."""
        _, low, high = self._crossed.interval()
        mean = _mean_row(self.rows, np.array(self._group_of_row))
        return mean | {"auc_new_examples_low": low, "auc_new_examples_high": high}


def _ordered(scores: FloatArray, member: BoolArray) -> tuple[Roc, IntArray, IntArray]:
    """Return a target's curve, and the examples that its members and its others are."""
    order = ascending_order(scores)[: np.count_nonzero(~np.isnan(scores))]  # NaN is last
    held = member[order]
    members, others = order[np.flatnonzero(held)], order[np.flatnonzero(~held)]
    return Roc(scores[members], scores[others]), members, others


def _bounds(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row's intervals, and what they are."""
    return {k: v for k, v in row.items() if k == "interval" or k.endswith(("_low", "_high"))}


def _figures(curve: Curve) -> dict[str, Any]:
    """Return the figures of one curve, without intervals."""
    row: dict[str, Any] = {
        "members": curve.members,
        "non_members": curve.non_members,
        "auc": curve.auc,
        "advantage": curve.advantage,
        "balanced_accuracy": curve.balanced_accuracy,
    }
    few = []
    for level in FPR_LEVELS:
        point, name = curve.at_fpr(level), f"at_fpr_{percent_name(level)}"
        row |= {
            f"tpr_{name}": point.tpr,
            f"realised_fpr_{name}": point.fpr,
            f"threshold_{name}": point.threshold,
        }
        for prior in PRIORS:
            suffix = f"{name}_prior_{percent_name(prior)}"
            row[f"precision_{suffix}"] = point.precision(prior)
            if level == 0:
                row[f"precision_bound_{suffix}"] = point.precision_bound(prior)
        if point.few_false_positives:
            few.append(percent_name(level))
    return row | {"few_false_positives": " ".join(few)}


def _target_row(curve: Roc, number: int, examples: int) -> dict[str, Any]:
    unanswered = examples - curve.members - curve.non_members
    row = {"target": number, "unanswered": unanswered, **_figures(curve)}
    row["interval"] = _TARGET_INTERVAL
    found = [curve.at_fpr(level).true_positives for level in FPR_LEVELS]
    bounds = zip(*clopper_pearson(found, curve.members), strict=True)
    for level, (below, above) in zip(FPR_LEVELS, bounds, strict=True):
        name = f"tpr_at_fpr_{percent_name(level)}"
        row |= {f"{name}_low": float(below), f"{name}_high": float(above)}
    low, high = curve.auc_interval()
    return row | {"auc_low": low, "auc_high": high}


def _mean_row(rows: list[dict[str, Any]], groups: NDArray[Any]) -> dict[str, Any]:
    """Average over targets; the intervals are over independent ones, that is over groups."""
    _, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group)
    enough = len(sizes) >= FEWEST_TRIALS
    mean: dict[str, Any] = {
        "target": "mean",
        "interval": _MEAN_INTERVAL if enough else _NO_INTERVAL.format(FEWEST_TRIALS),
        "few_false_positives": " ".join(
            percent_name(level)
            for level in FPR_LEVELS
            if any(percent_name(level) in row["few_false_positives"].split() for row in rows)
        ),
    }
    for name in rows[0]:
        if name in mean or name.startswith("threshold") or name.endswith(("_low", "_high")):
            continue
        values = np.array([row[name] for row in rows], dtype=np.float64)
        defined = values[~np.isnan(values)]
        mean[name] = float(defined.mean()) if len(defined) else float("nan")
        if name in _BOUNDED:
            by_group = np.bincount(group, weights=values) / sizes
            _, low, high = mean_interval(by_group, RATE)
            mean |= {f"{name}_low": low, f"{name}_high": high}
    return mean | _bounds(rows[0]) if len(rows) == 1 else mean


def _bootstrap_bounds(
    scores: FloatArray,
    is_member: BoolArray,
    curve: Curve,
    row_groups: ArrayLike | None,
    replicates: int,
    seed: int,
    n_threads: int | None,
) -> dict[str, Any]:
    found: dict[str, Any] = {"interval": BOOTSTRAP_CAPTION}
    bounds = bootstrap_bounds(
        scores,
        is_member,
        curve,
        row_groups=row_groups,
        replicates=replicates,
        seed=seed,
        n_threads=n_threads,
    )
    for name, (low, high) in bounds.items():
        found |= {f"{name}_low": low, f"{name}_high": high}
    if np.isnan(bounds["auc"][0]):
        found["interval"] = _NO_INTERVAL.format(FEWEST_RESAMPLED)
    return found
