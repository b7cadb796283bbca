"""ROC curves: how well scores tell members from non-members.

A higher score says "member". Equal scores are one step of a curve: no threshold separates them.
Nothing is interpolated: every operating point is one that a threshold realises. Scores must not be
NaN; infinite ones are fine.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from warnings import warn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import ConfsimWarning, as_array, check_number
from confsim.statistics.checks import check_membership
from confsim.statistics.intervals import clopper_pearson, placement_interval
from confsim.statistics.order import ascending, counts_below

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: False-positive rates at which attacks are compared.
FPR_LEVELS = (0.1, 0.01, 0.001, 0.0001, 0.0)

#: Shares of members among those attacked, for precision.
PRIORS = (0.5, 0.1, 0.01)

#: So many members are compared with non-members at once.
_AT_ONCE = 1 << 17

#: Below this many expected false positives, a TPR at that FPR rests on luck.
FEW_FALSE_POSITIVES = 5


@dataclass(frozen=True)
class OperatingPoint:
    """One threshold of an attack: a score at or above it says "member".

    Attributes
    ----------
    level : float
        The largest false-positive rate that was allowed.
    threshold : float
        The lowest score that is called a member, ``inf`` when none is.
    true_positives, members, false_positives, non_members : int
    """

    level: float
    threshold: float
    true_positives: int
    members: int
    false_positives: int
    non_members: int

    @property
    def tpr(self) -> float:
        """True-positive rate."""
        return self.true_positives / self.members

    @property
    def fpr(self) -> float:
        """Realised false-positive rate, at most ``level``."""
        return self.false_positives / self.non_members

    @property
    def few_false_positives(self) -> bool:
        """Whether fewer than 5 false positives are expected at a positive ``level``."""
        return 0 < self.level * self.non_members < FEW_FALSE_POSITIVES

    def precision(self, prior: float) -> float:
        """Return ``pi TPR / (pi TPR + (1 - pi) FPR)``; NaN when nothing is called a member."""
        return _precision(self.tpr, self.fpr, prior)

    def precision_bound(self, prior: float, level: float = 0.95) -> float:
        """Return the precision with the FPR at its Clopper-Pearson upper bound."""
        _, upper = clopper_pearson(self.false_positives, self.non_members, level)
        return _precision(self.tpr, float(upper), prior)


def _precision(tpr: float, fpr: float, prior: float) -> float:
    hits, misses = prior * tpr, (1 - prior) * fpr
    return hits / (hits + misses) if hits + misses > 0 else float("nan")


class Curve(ABC):
    """Figures of a curve, from how many scores there are below one another; see :class:`Roc`."""

    @property
    @abstractmethod
    def members(self) -> int:
        """Number of members."""

    @property
    @abstractmethod
    def non_members(self) -> int:
        """Number of non-members."""

    @abstractmethod
    def scores_at(self, ranks: NDArray[np.int64], *, members: bool) -> NDArray[Any]:
        """Return the scores of members, or of non-members, that have these ranks; from 0, upwards.

        Parameters
        ----------
        ranks : ndarray of int64
        members : bool
            Of whom.
        """

    @abstractmethod
    def count(self, score: float, *, members: bool, up_to: bool) -> int:
        """Count members, or non-members, that are below a score, or not above it."""

    @property
    @abstractmethod
    def _compared(self) -> tuple[int, float]:
        """Non-members below each member, plus those not above it, added up; and the advantage."""

    @property
    def auc(self) -> float:
        """Probability that a member scores higher than a non-member, ties counting half."""
        return self._compared[0] / (2 * self.members * self.non_members)

    @property
    def advantage(self) -> float:
        """Largest TPR - FPR over thresholds (Yeom et al. 2018)."""
        return self._compared[1]

    @property
    def balanced_accuracy(self) -> float:
        """Accuracy of the best threshold when half of those attacked are members."""
        return (1 + self.advantage) / 2

    def at_fpr(self, level: float) -> OperatingPoint:
        """Return the threshold with the largest TPR among those whose FPR is at most ``level``.

        Parameters
        ----------
        level : float
            In [0, 1].
        """
        level = check_number("level", level, minimum=0, maximum=1)
        allowed = _largest_count(level, self.non_members)
        start = 0
        if allowed < self.non_members:
            # The highest score that must not be called a member.
            refused = self._score_at(self.non_members - 1 - allowed, members=False)
            start = self.count(refused, members=True, up_to=True)
        true_positives = self.members - start
        false_positives, threshold = 0, np.inf
        if true_positives:
            threshold = self._score_at(start, members=True)
            below = self.count(threshold, members=False, up_to=False)
            false_positives = self.non_members - below
        return OperatingPoint(
            level=level,
            threshold=threshold,
            true_positives=true_positives,
            members=self.members,
            false_positives=false_positives,
            non_members=self.non_members,
        )

    def _score_at(self, rank: int, *, members: bool) -> float:
        return float(self.scores_at(np.array([rank]), members=members)[0])


@dataclass(frozen=True, eq=False)
class Roc(Curve):
    """How the scores of members and of non-members separate; made by :func:`roc`.

    Attributes
    ----------
    member_scores, non_member_scores : ndarray
        Both in ascending order.
    """

    member_scores: NDArray[Any]
    non_member_scores: NDArray[Any]

    @property
    def members(self) -> int:
        """Number of members."""
        return len(self.member_scores)

    @property
    def non_members(self) -> int:
        """Number of non-members."""
        return len(self.non_member_scores)

    def scores_at(self, ranks: NDArray[np.int64], *, members: bool) -> NDArray[Any]:
        """Return the scores of these ranks; see :meth:`Curve.scores_at`."""
        found: NDArray[Any] = (self.member_scores if members else self.non_member_scores)[ranks]
        return found

    def count(self, score: float, *, members: bool, up_to: bool) -> int:
        """Count scores below another; see :meth:`Curve.count`."""
        scores = self.member_scores if members else self.non_member_scores
        return int(np.searchsorted(scores, score, side="right" if up_to else "left"))

    @cached_property
    def thresholds(self) -> FloatArray:
        """Distinct scores, descending, after ``inf``: one for each point of the curve."""
        scores = np.unique(np.concatenate([self.member_scores, self.non_member_scores]))
        return np.concatenate([[np.inf], scores[::-1]]).astype(np.float64)

    @cached_property
    def tpr(self) -> FloatArray:
        """True-positive rate at each threshold, from 0 to 1."""
        return _share_above(self.member_scores, self.thresholds)

    @cached_property
    def fpr(self) -> FloatArray:
        """False-positive rate at each threshold, from 0 to 1."""
        return _share_above(self.non_member_scores, self.thresholds)

    @cached_property
    def _below(self) -> NDArray[np.int64]:
        """Non-members below each member."""
        return counts_below(self.non_member_scores, self.member_scores)

    @cached_property
    def _up_to(self) -> NDArray[np.int64]:
        """Non-members below each member or equal to it."""
        others, members = self.non_member_scores, self.member_scores
        tied = others[np.minimum(self._below, len(others) - 1)] == members
        if not tied.any():
            return self._below
        found: NDArray[np.int64] = self._below.copy()
        found[tied] = counts_below(others, members[tied], up_to=True)
        return found

    @cached_property
    def _compared(self) -> tuple[int, float]:
        parts: Iterable[tuple[int, int, NDArray[np.int64], NDArray[np.int64]]]
        if self.members <= _AT_ONCE:
            parts = [(0, self.members, self._below, self._up_to)]
        else:  # nothing as long as all members is made
            parts = self._in_parts()
        total, largest, first = 0, 0.0, 0
        for start, end, below, up_to in parts:
            total += int(below.sum()) + int(up_to.sum())
            firsts = first_of_equals(self.member_scores[start:end]) + start
            if start and self.member_scores[start] == self.member_scores[start - 1]:
                firsts[firsts == start] = first
            first = int(firsts[-1])
            largest = max(largest, largest_difference(firsts, below, self))
        return total, largest

    def _in_parts(self) -> Iterator[tuple[int, int, NDArray[np.int64], NDArray[np.int64]]]:
        for start in range(0, self.members, _AT_ONCE):
            part = Roc(self.member_scores[start : start + _AT_ONCE], self.non_member_scores)
            yield start, start + part.members, part._below, part._up_to

    def auc_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return DeLong's interval over examples; see :func:`delong_interval`."""
        return placement_interval(*self.placements(), level)[1:]

    def placements(self) -> tuple[FloatArray, FloatArray]:
        """Return the share of non-members below each member, and of members above each non-member.

        Ties count half; both in the order of the sorted scores. The mean of either is the AUC.
        """
        members, others = self.member_scores, self.non_member_scores
        below = up_to = counts_below(members, others)
        if self._up_to is not self._below:  # there are ties
            up_to = counts_below(members, others, up_to=True)
        return (
            (self._below + self._up_to) / (2 * self.non_members),
            1 - (below + up_to) / (2 * self.members),
        )


def first_of_equals(ordered: NDArray[Any]) -> NDArray[np.int64]:
    """Return the place of the first of the scores that each of these, in order, is equal to."""
    firsts = np.arange(len(ordered))
    firsts[1:][ordered[1:] == ordered[:-1]] = 0
    found: NDArray[np.int64] = np.maximum.accumulate(firsts, out=firsts)
    return found


def largest_difference(firsts: NDArray[np.int64], below: NDArray[np.int64], curve: Curve) -> float:
    """Return the largest TPR - FPR of thresholds at members' scores.

    It can only grow where a member is passed: other thresholds need no look.

    Parameters
    ----------
    firsts, below : ndarray of int64
        Members, and non-members, that have a lower score than each.
    curve : Curve
        For how many there are.
    """
    hits, alarms = 1 - firsts / curve.members, 1 - below / curve.non_members
    return float(np.max(hits - alarms))


def _largest_count(level: float, total: int) -> int:
    """Largest count with ``count / total <= level`` as these floats compare."""
    count = min(total, int(level * total) + 1)
    while count / total > level:
        count -= 1
    return count


def _share_above(scores: NDArray[Any], thresholds: FloatArray) -> FloatArray:
    found: FloatArray = 1 - np.searchsorted(scores, thresholds, side="left") / len(scores)
    if scores[-1] == np.inf:
        found[0] = 0.0  # the curve starts before all scores, also before infinite ones
    return found


def roc(scores: ArrayLike, is_member: ArrayLike) -> Roc:
    """Sort out members and non-members by score.

    Parameters
    ----------
    scores : array_like
        Higher means "member". Any shape: all pairs are pooled.
    is_member : array_like of bool, same shape

    Returns
    -------
    Roc

    Raises
    ------
    ValueError
        If shapes differ, a score is NaN, or there are no members or no non-members.

    Examples
    --------
    Two of the scores are tied, so the diagonal step counts half:

    >>> from confsim.statistics import roc
    >>> curve = roc([0.9, 0.5, 0.5, 0.1], [True, True, False, False])
    >>> curve.auc
    0.875
    >>> list(zip(curve.fpr.tolist(), curve.tpr.tolist()))
    [(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)]
    >>> curve.at_fpr(0.1).tpr, curve.at_fpr(0.5).tpr
    (0.5, 1.0)
    """
    scores, is_member = _check_scores(scores, is_member)
    if np.isnan(scores).any():
        row = int(np.argmax(np.isnan(scores)))
        raise ValueError(f"scores must not be NaN, but entry {row} is")
    return Roc(ascending(scores[is_member]), ascending(scores[~is_member]))


def _check_scores(scores: ArrayLike, is_member: ArrayLike) -> tuple[NDArray[Any], BoolArray]:
    found, member = as_array("scores", scores), check_membership(is_member)
    if found.dtype.kind not in "fiub":
        raise TypeError(f"scores must be numbers, not {found.dtype}")
    if found.shape != member.shape:
        raise ValueError(
            f"scores and is_member must have the same shape, not {found.shape} and {member.shape}"
        )
    found, member = found.reshape(-1), member.reshape(-1)
    members = int(np.count_nonzero(member))
    if members == 0 or members == len(member):
        missing = "member" if members == 0 else "non-member"
        raise ValueError(f"is_member must hold both classes, but there is no {missing}")
    return (found.astype(np.float64) if found.dtype.kind in "iub" else found), member


def auc(scores: ArrayLike, is_member: ArrayLike) -> float:
    """Return the probability that a member scores higher than a non-member, ties counting half.

    Examples
    --------
    >>> from confsim.statistics import auc
    >>> auc([3, 2, 2, 1], [1, 1, 0, 0])
    0.875
    """
    return roc(scores, is_member).auc


def tpr_at_fpr(scores: ArrayLike, is_member: ArrayLike, level: float) -> OperatingPoint:
    """Return the best threshold whose realised false-positive rate is at most ``level``.

    Warns
    -----
    ConfsimWarning
        If fewer than 5 false positives are expected at a positive ``level``.

    Examples
    --------
    >>> from confsim.statistics import tpr_at_fpr
    >>> point = tpr_at_fpr([4, 3, 2, 1], [1, 0, 1, 0], 0)
    >>> point.tpr, point.fpr, point.threshold
    (0.5, 0.0, 4.0)
    """
    point = roc(scores, is_member).at_fpr(level)
    if point.few_false_positives:
        warn(
            f"at a false-positive rate of {level:g}, {level * point.non_members:.2g} of the "
            f"{point.non_members} non-members are expected above the threshold: fewer than "
            f"{FEW_FALSE_POSITIVES}",
            ConfsimWarning,
            stacklevel=2,
        )
    return point


def auc_by_column(scores: FloatArray, is_member: ArrayLike) -> FloatArray:
    """Return the AUC of each column of a matrix; NaN scores are left out.

    Parameters
    ----------
    scores : ndarray, (rows, columns)
    is_member : array_like of bool, (rows, columns)

    Returns
    -------
    ndarray, (columns,)
        NaN where a class is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from confsim.statistics import auc_by_column
    >>> scores = np.array([[2.0, 1.0], [1.0, 1.0], [0.0, 2.0]])
    >>> auc_by_column(scores, np.array([[True, True], [True, False], [False, False]]))
    array([1.  , 0.25])
    """
    held = check_membership(is_member)
    if scores.ndim != 2 or held.shape != scores.shape:
        raise ValueError(
            f"scores and is_member must both have shape (rows, columns), not {scores.shape} and "
            f"{held.shape}"
        )
    from confsim._kernels import resolve_isa, stats

    values = np.ascontiguousarray(scores, dtype=np.float64)
    return stats.auc_by_column(values, np.ascontiguousarray(held).view(np.uint8), resolve_isa())


def percent_name(rate: float) -> str:
    """Return a rate as it stands in a column's name.

    Examples
    --------
    >>> from confsim.statistics import percent_name
    >>> [percent_name(rate) for rate in (0.1, 0.001, 0.0)]
    ['10pct', '0.1pct', '0pct']
    """
    return f"{100 * rate:g}pct"
