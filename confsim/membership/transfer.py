"""Thresholds that an attacker could really choose: on other models, and applied to the target.

A threshold chosen on the target's own labels is an oracle: its rates are upper bounds on what an
attacker gets. Here each target's threshold comes from the other trials as mock targets, whose
members an attacker who trained them knows.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import check_number
from confsim.membership.shadow import Design, check_scores
from confsim.statistics import (
    FEW_FALSE_POSITIVES,
    FPR_LEVELS,
    RATE,
    clopper_pearson,
    mean_interval,
    percent_name,
    roc,
)
from confsim.statistics.checks import check_targets
from confsim.statistics.order import ascending, ascending_order

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

#: Scores that a threshold is looked for among, before all are counted.
_SAMPLED = 1 << 17

#: Shares of members among those attacked, for precision.
PRIORS = (0.5, 0.1, 0.01, 0.001)

TARGET_INTERVAL = (
    "Clopper-Pearson: this target and threshold, examples drawn anew; precision with both rates at "
    "97.5% bounds"
)
MEAN_INTERVAL = "Student-t over targets, on the logit scale: these examples, trials drawn anew"


def transferred_thresholds(
    scores: ArrayLike,
    is_member: ArrayLike,
    *,
    levels: Sequence[float] = FPR_LEVELS,
    partner: ArrayLike | None = None,
) -> FloatArray:
    """Return each target's thresholds, chosen on the other trials.

    The pooled scores of the non-members of all trials but the target and its partner are put in
    order; the threshold for a false-positive rate is the smallest at which no more than that share
    of them is called a member. A score at or above it says "member".

    Parameters
    ----------
    scores : array_like, (trials, examples)
        Higher means "member"; NaN where the attack has no answer.
    is_member : array_like of bool or 0/1, (trials, examples)
    levels : sequence of float
        False-positive rates, in [0, 1].
    partner : array_like of int, (trials,), optional
        In a balanced design, the trial trained on the complement: no mock target.

    Returns
    -------
    ndarray, (trials, levels)
        NaN where no mock target has a non-member.

    Notes
    -----
    Assumes that scores of the same value mean the same for every target, as for attacks with shadow
    models they roughly do. The mock targets' scores were made with the target among their shadow
    models; an attacker without access to its training would leave it out.

    Examples
    --------
    >>> from confsim.membership import transferred_thresholds
    >>> scores = [[3.0, 1.0, 2.0], [1.0, 2.0, 4.0]]
    >>> transferred_thresholds(scores, [[1, 0, 0], [0, 0, 1]], levels=[0.5, 0]).round(6).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    values, member = check_scores(scores, is_member)
    allowed = [check_number("levels", a, minimum=0, maximum=1) for a in levels]
    design = Design(member, None if partner is None else np.asarray(partner, dtype=np.int64))

    def others() -> Iterator[FloatArray]:
        for row, held in zip(values, member, strict=True):
            yield row[~held & ~np.isnan(row)]

    return thresholds_of(others, design, allowed)


#: Yields each trial's known scores of non-members, as often as it is asked.
_Rows = Callable[[], Iterable[FloatArray]]


def thresholds_of(others: _Rows, design: Design, levels: Sequence[float]) -> FloatArray:
    """Do what :func:`transferred_thresholds` does, from the scores of non-members alone.

    Parameters
    ----------
    others : callable
        Yields each trial's known scores of non-members, in any order. It is asked several times,
        so that they need not all be in memory.
    design : Design
    levels : sequence of float
    """
    trials = np.arange(design.trials)
    silent = [np.setdiff1d(trials, design.voters(target)) for target in trials.tolist()]
    return _Pool.of(others, silent, levels).thresholds(silent, levels)


@dataclass(frozen=True, eq=False)
class _Pool:
    """The highest scores of non-members of all trials: as many as thresholds can depend on.

    Attributes
    ----------
    scores : ndarray
        In descending order.
    places : list of ndarray of int64
        Places of each trial's scores among them, ascending.
    counts : ndarray of int64, (trials,)
        How many scores of non-members each trial has, the lower ones, too.
    """

    scores: FloatArray
    places: list[IntArray]
    counts: IntArray

    @classmethod
    def of(cls, others: _Rows, silent: list[IntArray], levels: Sequence[float]) -> "_Pool":
        counts = np.array([len(row) for row in others()])
        total = int(counts.sum())
        deepest = 0
        for trials in silent:
            known = total - int(counts[trials].sum())
            allowed = [_largest_count(level, known) for level in levels if known]
            # All scores of the silent trials may be above the one that is looked for.
            deepest = max([deepest, *(total - known + n + 1 for n in allowed if n < known)])
        lowest = _lowest_of(others, deepest, total)
        rows = [row[row >= lowest] for row in others()]
        sizes, pool = [len(row) for row in rows], np.concatenate(rows)
        del rows
        order = ascending_order(pool)[::-1]  # equal scores in any order: thresholds are between
        numbers = np.arange(len(sizes), dtype=np.min_scalar_type(len(sizes)))
        by_row = np.argsort(np.repeat(numbers, sizes)[order], kind="stable")
        return cls(pool[order], np.split(by_row, np.cumsum(sizes)[:-1]), counts)

    def thresholds(self, silent: list[IntArray], levels: Sequence[float]) -> FloatArray:
        """Return each target's thresholds (trials, levels) without its own silent trials."""
        found = np.full((len(silent), len(levels)), np.nan)
        for target, trials in enumerate(silent):
            excluded = np.sort(np.concatenate([self.places[trial] for trial in trials]))
            total = int(self.counts.sum() - self.counts[trials].sum())
            for k, level in enumerate(levels):
                if total:
                    count = _largest_count(level, total)
                    found[target, k] = self._without(excluded, count) if count < total else -np.inf
        return found

    def _without(self, excluded: IntArray, count: int) -> float:
        """Return the smallest threshold that at most ``count`` of those not excluded reach."""
        # Of those before an excluded place so many count: the next one that counts is after it.
        before = np.searchsorted(excluded - np.arange(len(excluded)), count, side="right")
        return float(np.nextafter(self.scores[count + before], np.inf))


def _lowest_of(others: _Rows, count: int, total: int) -> float:
    """Return a score that at least ``count`` of ``total`` scores reach, and not many more."""
    step = max(1, total // _SAMPLED)
    sample = ascending(np.concatenate([row[::step] for row in others()]))
    share = count / max(1, total)
    while step > 1 and share < 1 / 2:
        share += 0.01
        lowest = float(sample[int((1 - share) * len(sample))])
        if sum(int(np.count_nonzero(row >= lowest)) for row in others()) >= count:
            return lowest
    return -np.inf


def _largest_count(level: float, total: int) -> int:
    """Return the largest count with ``count / total <= level`` as these floats compare."""
    count = min(total, int(level * total) + 1)
    while count / total > level:
        count -= 1
    return count


def transfer(
    scores: ArrayLike,
    is_member: ArrayLike,
    *,
    levels: Sequence[float] = FPR_LEVELS,
    priors: Sequence[float] = PRIORS,
    partner: ArrayLike | None = None,
    targets: ArrayLike | None = None,
) -> list[dict[str, Any]]:
    """Evaluate an attack at thresholds chosen on the other trials.

    Parameters
    ----------
    scores, is_member, levels, partner
        As in :func:`transferred_thresholds`.
    priors : sequence of float
        Shares of members among those attacked, in (0, 1).
    targets : array_like of int, (trials,), optional
        Their numbers; default: 0, 1, ...

    Returns
    -------
    list of dict
        For each target and level, and for the ``mean`` over targets: ``target``, ``level`` (the
        false-positive rate wanted), ``threshold``, ``tpr``, ``realised_fpr``, and
        ``precision_prior_p`` (NaN where nothing is called a member; of the mean rates, without
        interval, for ``mean``), with ``_low`` and ``_high``;
        ``oracle_tpr``: with the best threshold for the target itself, an upper bound;
        ``few_false_positives``: whether fewer than 5 are expected among the target's non-members;
        ``interval``: what the intervals are about. Targets without a member or without a non-member
        are left out.

    Notes
    -----
    An attacker gets the realised false-positive rate, which he does not know: a true-positive rate
    next to a rate above the one wanted says nothing by itself.
    """
    values, member = check_scores(scores, is_member)
    thresholds = transferred_thresholds(values, member, levels=levels, partner=partner)
    return transfer_at(thresholds, values, member, levels, priors, partner, targets)


def transfer_at(
    thresholds: FloatArray,
    values: FloatArray,
    member: BoolArray,
    levels: Sequence[float] = FPR_LEVELS,
    priors: Sequence[float] = PRIORS,
    partner: ArrayLike | None = None,
    targets: ArrayLike | None = None,
) -> list[dict[str, Any]]:
    """Evaluate an attack as :func:`transfer` does, at known thresholds (trials, levels)."""
    shares = [check_number("priors", p, above=0, maximum=1) for p in priors]
    numbers = check_targets(targets, len(values))
    rows: list[dict[str, Any]] = []
    for i, number in enumerate(numbers.tolist()):
        known = ~np.isnan(values[i])
        s, m = values[i, known], member[i, known]
        if np.isnan(thresholds[i]).any() or not m.any() or m.all():
            continue
        curve = roc(s, m)
        for level, threshold in zip(levels, thresholds[i].tolist(), strict=True):
            called = s >= threshold
            row = {"target": number, "level": level, "threshold": threshold}
            row |= _rates(called, m, shares) | {"oracle_tpr": curve.at_fpr(level).tpr}
            few = 0 < level * np.count_nonzero(~m) < FEW_FALSE_POSITIVES
            rows.append(row | {"few_false_positives": bool(few), "interval": TARGET_INTERVAL})
    groups = None if partner is None else np.minimum(np.arange(len(values)), np.asarray(partner))
    by_number = dict(zip(numbers.tolist(), range(len(values)), strict=True))
    return rows + [
        _mean([row for row in rows if row["level"] == level], groups, by_number, shares)
        for level in levels
        if rows
    ]


def _rates(called: BoolArray, member: BoolArray, priors: list[float]) -> dict[str, Any]:
    hits, false = np.count_nonzero(called & member), np.count_nonzero(called & ~member)
    members, others = np.count_nonzero(member), np.count_nonzero(~member)
    row: dict[str, Any] = {
        "members": int(members),
        "non_members": int(others),
        "tpr": hits / members,
        "realised_fpr": false / others,
    }
    for name, count, total in (("tpr", hits, members), ("realised_fpr", false, others)):
        low, high = clopper_pearson(count, total)
        row |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    # Both rates are right at once with 95%: each at 97.5%.
    tpr = [float(v) for v in clopper_pearson(hits, members, 0.975)]
    fpr = [float(v) for v in clopper_pearson(false, others, 0.975)]
    for p in priors:
        name = f"precision_prior_{percent_name(p)}"
        row |= {
            name: _precision(row["tpr"], row["realised_fpr"], p),
            f"{name}_low": _precision(tpr[0], fpr[1], p),
            f"{name}_high": _precision(tpr[1], fpr[0], p),
        }
    return row


def _precision(tpr: float, fpr: float, prior: float) -> float:
    hits, false = prior * tpr, (1 - prior) * fpr
    return hits / (hits + false) if hits + false > 0 else float("nan")


def _mean(
    rows: list[dict[str, Any]],
    groups: NDArray[Any] | None,
    place: dict[int, int],
    priors: list[float],
) -> dict[str, Any]:
    """Average over targets; the intervals are over independent ones, that is over pairs."""
    mean: dict[str, Any] = {
        "target": "mean",
        "level": rows[0]["level"],
        "few_false_positives": any(row["few_false_positives"] for row in rows),
        "interval": MEAN_INTERVAL,
    }
    group = np.array([place[row["target"]] for row in rows])
    group = np.unique(group if groups is None else groups[group], return_inverse=True)[1]
    for name in rows[0]:
        if name in mean or name.startswith(("threshold", "precision")):
            continue
        if name.endswith(("_low", "_high")):
            continue
        values = np.array([row[name] for row in rows], dtype=np.float64)
        known = ~np.isnan(values)
        mean[name] = float(values[known].mean()) if known.any() else float("nan")
        if name in ("tpr", "realised_fpr"):
            by_group = np.bincount(group, values) / np.bincount(group)
            _, low, high = mean_interval(by_group, RATE)
            mean |= {f"{name}_low": low, f"{name}_high": high}
    # Of the mean rates: a mean of precisions is ruled by targets with few positives.
    for p in priors:
        name = f"precision_prior_{percent_name(p)}"
        mean[name] = _precision(mean["tpr"], mean["realised_fpr"], p)
    return mean
