"""ROC curves, rank correlations and intervals: arrays in, numbers out; no files, no models.

Conventions. A higher score says "member". Equal scores are one step of a ROC curve: no threshold
separates them. Nothing is interpolated: every operating point is one that a threshold realises.
Scores must not be NaN; infinite ones are fine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from warnings import warn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import ConfsimWarning, check_integer, check_number

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: False-positive rates at which attacks are compared.
FPR_LEVELS = (0.1, 0.01, 0.001, 0.0001, 0.0)

#: Shares of members among those attacked, for precision.
PRIORS = (0.5, 0.1, 0.01)

#: Below this many expected false positives, a TPR at that FPR rests on luck.
FEW_FALSE_POSITIVES = 5

#: Fewest trials for an interval over trials.
FEWEST_TRIALS = 4

#: A bootstrap sees scores through at most this many thresholds.
_BOOTSTRAP_THRESHOLDS = 8192


# ---- ROC curves --------------------------------------------------------------------------------


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


@dataclass(frozen=True, eq=False)
class Roc:
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
    def auc(self) -> float:
        """Probability that a member scores higher than a non-member, ties counting half."""
        below = np.searchsorted(self.non_member_scores, self.member_scores, side="left")
        up_to = np.searchsorted(self.non_member_scores, self.member_scores, side="right")
        return (int(below.sum()) + int(up_to.sum())) / (2 * self.members * self.non_members)

    @cached_property
    def advantage(self) -> float:
        """Largest TPR - FPR over thresholds (Yeom et al. 2018)."""
        # The difference can only grow where a member is passed: other thresholds need no look.
        hits = 1 - np.searchsorted(self.member_scores, self.member_scores) / self.members
        alarms = 1 - np.searchsorted(self.non_member_scores, self.member_scores) / self.non_members
        return max(0.0, float(np.max(hits - alarms)))

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
        refused = -np.inf  # the highest score that must not be called a member
        if allowed < self.non_members:
            refused = self.non_member_scores[self.non_members - 1 - allowed]
        side: Any = "right" if allowed < self.non_members else "left"
        start = int(np.searchsorted(self.member_scores, refused, side=side))
        true_positives = self.members - start
        false_positives, threshold = 0, np.inf
        if true_positives:
            threshold = self.member_scores[start]
            below = np.searchsorted(self.non_member_scores, threshold, side="left")
            false_positives = self.non_members - int(below)
        return OperatingPoint(
            level=level,
            threshold=float(threshold),
            true_positives=true_positives,
            members=self.members,
            false_positives=false_positives,
            non_members=self.non_members,
        )


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
    return Roc(np.sort(scores[is_member]), np.sort(scores[~is_member]))


def _check_scores(scores: ArrayLike, is_member: ArrayLike) -> tuple[NDArray[Any], BoolArray]:
    found, member = np.asarray(scores), np.asarray(is_member)
    if found.dtype.kind not in "fiub":
        raise TypeError(f"scores must be numbers, not {found.dtype}")
    if member.dtype != np.bool_:
        if member.dtype.kind not in "fiu" or not np.isin(member, (0, 1)).all():
            raise ValueError("is_member must be boolean, or hold only 0 and 1")
        member = member.astype(np.bool_)
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


def auc_by_column(scores: FloatArray, is_member: BoolArray) -> FloatArray:
    """Return the AUC of each column of a matrix; NaN scores are left out.

    Parameters
    ----------
    scores, is_member : ndarray, (rows, columns)

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
    known = ~np.isnan(scores)
    order = np.argsort(scores, axis=0)  # NaN last
    ordered = np.take_along_axis(scores, order, axis=0)
    member = np.take_along_axis(is_member & known, order, axis=0)
    ranks = _ranks_of_sorted(ordered)
    members = np.count_nonzero(member, axis=0)
    others = np.count_nonzero(known, axis=0) - members
    rank_sum = np.sum(ranks, axis=0, where=member)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: FloatArray = (rank_sum - members * (members + 1) / 2) / (members * others)
    return found


def _ranks_of_sorted(ordered: NDArray[Any]) -> FloatArray:
    """Return 1-based ranks along axis 0 of sorted values, tied ones sharing their mean."""
    rows = np.arange(len(ordered)).reshape(-1, *[1] * (ordered.ndim - 1))
    new = np.ones(ordered.shape, dtype=bool)
    new[1:] = ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(new, rows, 0), axis=0)
    last_here = np.ones(ordered.shape, dtype=bool)
    last_here[:-1] = new[1:]
    last = np.where(last_here, rows, len(ordered))
    last = np.minimum.accumulate(last[::-1], axis=0)[::-1]
    ranks: FloatArray = (first + last) / 2 + 1
    return ranks


# ---- intervals ---------------------------------------------------------------------------------


def _check_level(level: float) -> float:
    level = check_number("level", level, above=0, maximum=1)
    if level == 1:
        raise ValueError("level must be below 1")
    return level


def clopper_pearson(
    successes: ArrayLike, trials: ArrayLike, level: float = 0.95
) -> tuple[Any, Any]:
    """Return the exact binomial interval of a rate (Clopper & Pearson 1934), elementwise.

    Without trials nothing is known: (0, 1).

    Examples
    --------
    >>> from confsim.statistics import clopper_pearson
    >>> low, high = clopper_pearson(0, 100)
    >>> round(float(low), 4), round(float(high), 4)
    (0.0, 0.0362)
    """
    from scipy.special import betaincinv

    tail = (1 - _check_level(level)) / 2
    k, n = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    if not np.all((k >= 0) & (k <= n)):
        raise ValueError("successes must be between 0 and trials")
    low = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, tail), 0.0)
    high = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail), 1.0)
    return low[()], high[()]


def student_t_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Return the mean of values of independent trials, with its Student-t interval.

    NaN values (trials in which the figure is undefined) are left out; with fewer than two others
    the bounds are NaN.

    Returns
    -------
    mean, low, high : float

    Examples
    --------
    >>> from confsim.statistics import student_t_interval
    >>> [round(x, 3) for x in student_t_interval([1.0, 2.0, 3.0, 4.0])]
    [2.5, 0.446, 4.554]
    """
    from scipy.special import stdtrit

    tail = (1 - _check_level(level)) / 2
    found = np.asarray(values, dtype=np.float64).reshape(-1)
    found = found[~np.isnan(found)]
    n = len(found)
    mean = float(np.mean(found)) if n else float("nan")
    if n < 2:
        return mean, float("nan"), float("nan")
    half = float(stdtrit(n - 1, 1 - tail) * np.std(found, ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


def agresti_caffo(
    successes_a: ArrayLike,
    trials_a: ArrayLike,
    successes_b: ArrayLike,
    trials_b: ArrayLike,
    level: float = 0.95,
) -> tuple[FloatArray, FloatArray]:
    """Return an interval of the difference of two rates, a - b (Agresti & Caffo 2000), elementwise.

    Examples
    --------
    >>> from confsim.statistics import agresti_caffo
    >>> low, high = agresti_caffo(9, 10, 3, 10)
    >>> round(float(low), 3), round(float(high), 3)
    (0.16, 0.84)
    """
    from scipy.special import ndtri

    z = float(ndtri((1 + _check_level(level)) / 2))
    n_a, n_b = np.asarray(trials_a) + 2.0, np.asarray(trials_b) + 2.0
    a, b = (np.asarray(successes_a) + 1) / n_a, (np.asarray(successes_b) + 1) / n_b
    half = z * np.sqrt(a * (1 - a) / n_a + b * (1 - b) / n_b)
    return np.maximum(a - b - half, -1.0), np.minimum(a - b + half, 1.0)


# ---- rank correlation --------------------------------------------------------------------------


@dataclass(frozen=True)
class Correlation:
    """A correlation of ``pairs`` pairs, with its interval."""

    value: float
    low: float
    high: float
    pairs: int


def average_ranks(values: ArrayLike, groups: ArrayLike | None = None) -> FloatArray:
    """Return 1-based ranks, tied values sharing their mean; within each group where there are any.

    Examples
    --------
    >>> from confsim.statistics import average_ranks
    >>> average_ranks([5, 1, 1]).tolist()
    [3.0, 1.5, 1.5]
    >>> average_ranks([5, 1, 1], groups=[0, 0, 1]).tolist()
    [2.0, 1.0, 1.0]
    """
    found = np.asarray(values)
    if groups is None:
        order = np.argsort(found, kind="stable")
        ranks = np.empty(len(found))
        ranks[order] = _ranks_of_sorted(found[order])
        return ranks
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    kinds, dense = np.unique(found, return_inverse=True)
    key = group.astype(np.int64) * len(kinds) + dense  # rises with (group, value), ties with both
    order = np.argsort(key, kind="stable")
    sizes = np.bincount(group)
    before = np.cumsum(sizes) - sizes
    ranks = np.empty(len(found))
    ranks[order] = _ranks_of_sorted(key[order]) - before[group[order]]
    return ranks


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Return Spearman's rank correlation; pairs with NaN are left out, NaN where it is undefined.

    Examples
    --------
    >>> from confsim.statistics import spearman
    >>> spearman([1, 2, 3, 4], [1, 8, 27, 64])
    1.0
    """
    return spearman_interval(x, y).value


def spearman_interval(
    x: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None, level: float = 0.95
) -> Correlation:
    """Return Spearman's rank correlation with an interval over independent pairs.

    With ``groups``, values are ranked within each group, the ranks are centred and divided by the
    group's size, and all groups are pooled: what remains is the association inside groups.

    The interval is Fisher's, with the variance ``(1 + r**2 / 2) / (n - 3)`` of Bonett & Wright
    (2000); each group costs one of the n. Pairs with NaN are left out.

    Parameters
    ----------
    x, y : array_like, (n,)
    groups : array_like, (n,), optional
    level : float

    Examples
    --------
    Opposite trends between the groups and within them:

    >>> from confsim.statistics import spearman_interval
    >>> x, y, group = [1, 2, 3, 11, 12, 13], [3, 2, 1, 13, 12, 11], [0, 0, 0, 1, 1, 1]
    >>> round(spearman_interval(x, y).value, 3), round(spearman_interval(x, y, group).value, 3)
    (0.543, -1.0)
    """
    from scipy.special import ndtri

    z = float(ndtri((1 + _check_level(level)) / 2))
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"x and y must be equally long, not {a.shape} and {b.shape}")
    known = ~(np.isnan(a) | np.isnan(b))
    label = np.zeros(len(a), dtype=np.int64) if groups is None else np.asarray(groups)
    if label.shape != a.shape:
        raise ValueError(f"groups must be as long as x, {len(a)}, not {label.shape}")
    a, b, (kinds, group) = a[known], b[known], np.unique(label[known], return_inverse=True)
    n = len(a)
    if n == 0:
        return Correlation(float("nan"), float("nan"), float("nan"), 0)
    size = np.bincount(group)[group]
    u = (average_ranks(a, group) - (size + 1) / 2) / size
    v = (average_ranks(b, group) - (size + 1) / 2) / size
    spread = float(np.sum(u * u)) * float(np.sum(v * v))
    if spread == 0:
        return Correlation(float("nan"), float("nan"), float("nan"), n)
    r = float(np.clip(np.sum(u * v) / np.sqrt(spread), -1, 1))
    free = n - (len(kinds) - 1)
    if free <= 3:
        return Correlation(r, float("nan"), float("nan"), n)
    with np.errstate(divide="ignore"):
        centre = np.arctanh(r)
    half = z * np.sqrt((1 + r * r / 2) / (free - 3))
    return Correlation(r, float(np.tanh(centre - half)), float(np.tanh(centre + half)), n)


# ---- the two-way bootstrap ---------------------------------------------------------------------

#: What a reader of a two-way interval must be told.
BOOTSTRAP_CAPTION = (
    "two-way bootstrap over trials and examples of precomputed scores; that targets share shadow "
    "models is not accounted for"
)


def two_way_bootstrap(
    scores: FloatArray,
    is_member: BoolArray,
    *,
    levels: Sequence[float] = FPR_LEVELS,
    row_groups: ArrayLike | None = None,
    replicates: int = 400,
    seed: int = 0,
    level: float = 0.95,
    n_threads: int | None = None,
) -> dict[str, tuple[float, float]]:
    """Return intervals of pooled figures of a score matrix: rows and columns are both resampled.

    Rows (targets) and columns (examples) are drawn with replacement, independently of each other
    (the pigeonhole bootstrap, Owen 2007); scores are never made again. Percentiles are widened for
    the number of rows as in Hesterberg (2015). Beyond 8,192 distinct scores, thresholds are fixed
    beforehand: quantiles of the scores, dense where false positives are rare.

    Parameters
    ----------
    scores, is_member : ndarray, (rows, columns)
        NaN scores are left out.
    levels : sequence of float
        False-positive rates.
    row_groups : array_like, (rows,), optional
        Rows of one group are drawn together: the pairs of a balanced design.
    replicates, seed : int
    level : float
    n_threads : int, optional

    Returns
    -------
    dict of (low, high)
        ``auc``, ``advantage``, ``balanced_accuracy`` and ``tpr_at_fpr_...`` for each of ``levels``,
        named by :func:`percent_name`. NaN with fewer than 4 rows, groups or columns.

    Examples
    --------
    >>> import numpy as np
    >>> from confsim.statistics import two_way_bootstrap
    >>> rng = np.random.default_rng(0)
    >>> member = rng.random((16, 200)) < 0.5
    >>> low, high = two_way_bootstrap(rng.normal(size=member.shape) + member, member)["auc"]
    >>> low < 0.76 < high
    True
    """
    from confsim._kernels import resolve_threads
    from confsim._kernels.resample import resample_counts

    check_integer("replicates", replicates, minimum=2)
    _check_level(level)
    rows, columns = scores.shape
    group = np.arange(rows) if row_groups is None else np.asarray(row_groups)
    group = np.unique(group, return_inverse=True)[1]
    groups = int(group.max()) + 1
    names = [
        "auc",
        "advantage",
        "balanced_accuracy",
        *(f"tpr_at_fpr_{percent_name(a)}" for a in levels),
    ]
    if min(groups, columns) < FEWEST_TRIALS:
        return dict.fromkeys(names, (float("nan"), float("nan")))
    codes, bins = _threshold_codes(scores, is_member)
    rng = np.random.Generator(np.random.PCG64(seed))
    by_group = _multiplicities(groups, replicates, rng)
    by_column = _multiplicities(columns, replicates, rng)
    counts = resample_counts(
        codes,
        np.ascontiguousarray(by_group[:, group]),
        by_column,
        2 * bins + 1,
        resolve_threads(n_threads),
    )
    # From the highest score down; the last code is that of NaN scores.
    paired = counts[:, : 2 * bins].reshape(replicates, bins, 2)[:, ::-1]
    figures = _resampled_figures(paired[..., 1], paired[..., 0], levels)
    low, high = _widened_percentiles(min(groups, columns), level)
    return {
        name: tuple(np.nanquantile(values, (low, high)).tolist())
        for name, values in zip(names, figures, strict=True)
    }


def _multiplicities(count: int, replicates: int, rng: np.random.Generator) -> NDArray[np.int32]:
    drawn = (
        np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(replicates)
    )
    return np.stack([d.astype(np.int32) for d in drawn])


def _threshold_codes(scores: FloatArray, is_member: BoolArray) -> tuple[NDArray[np.uint16], int]:
    """Return 2 * bin + is_member for each score, 2 * bins for NaN; and the number of bins."""
    thresholds = _thresholds(scores, is_member)
    bins = len(thresholds) + 1
    codes = np.empty(scores.shape, dtype=np.uint16)
    for i, row in enumerate(scores):
        found = 2 * np.searchsorted(thresholds, row, side="right") + is_member[i]
        codes[i] = np.where(np.isnan(row), 2 * bins, found)
    return codes, bins


def _thresholds(scores: FloatArray, is_member: BoolArray) -> FloatArray:
    known = ~np.isnan(scores)
    strangers = np.sort(scores[known & ~is_member])
    members = np.sort(scores[known & is_member])
    if len(strangers) + len(members) <= _BOOTSTRAP_THRESHOLDS:
        return np.unique(np.concatenate([strangers, members]))
    if not len(strangers):
        return strangers
    half = _BOOTSTRAP_THRESHOLDS // 2
    rare = np.unique(np.geomspace(1, len(strangers), half).astype(np.int64))
    even = np.linspace(0, len(members) - 1, half).astype(np.int64)
    # Just above a non-member's score is where a threshold excludes it: the next larger float.
    tail = np.nextafter(strangers[len(strangers) - rare], np.inf)
    chosen = [tail] if not len(members) else [tail, members[even]]
    return np.unique(np.concatenate(chosen))[:_BOOTSTRAP_THRESHOLDS]


def _resampled_figures(
    members: NDArray[np.int64], strangers: NDArray[np.int64], levels: Sequence[float]
) -> list[FloatArray]:
    """Return AUC, advantage, balanced accuracy and TPRs of histograms (replicates, bins)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        hits = np.cumsum(members, axis=1) / members.sum(axis=1, keepdims=True)
        alarms = np.cumsum(strangers, axis=1) / strangers.sum(axis=1, keepdims=True)
    start = np.zeros((len(hits), 1))
    hits, alarms = np.hstack([start, hits]), np.hstack([start, alarms])
    area = np.sum(np.diff(alarms) * (hits[:, 1:] + hits[:, :-1]), axis=1) / 2
    advantage = np.max(hits - alarms, axis=1)
    rates = [np.max(np.where(alarms <= a, hits, 0.0), axis=1) for a in levels]
    return [area, advantage, (1 + advantage) / 2, *rates]


def _widened_percentiles(n: int, level: float) -> tuple[float, float]:
    """Return the percentiles of Hesterberg (2015): those of Student's t, for a bootstrap of n."""
    from scipy.special import ndtr, stdtrit

    tail = (1 - level) / 2
    low = float(ndtr(-np.sqrt(n / (n - 1)) * stdtrit(n - 1, 1 - tail)))
    return low, 1 - low


def percent_name(rate: float) -> str:
    """Return a rate as it stands in a column's name.

    Examples
    --------
    >>> from confsim.statistics import percent_name
    >>> [percent_name(rate) for rate in (0.1, 0.001, 0.0)]
    ['10pct', '0.1pct', '0pct']
    """
    return f"{100 * rate:g}pct"
