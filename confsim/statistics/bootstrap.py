"""The two-way bootstrap of a score matrix: rows and columns are both resampled."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_float64, check_integer
from confsim.seeds import Purpose, stream
from confsim.statistics.checks import check_level, check_membership, check_row_groups
from confsim.statistics.curves import FPR_LEVELS, Curve, percent_name
from confsim.statistics.order import ascending
from confsim.statistics.pooled import Allocate, SortedRows

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: Fewest rows, groups or columns that are resampled.
FEWEST_RESAMPLED = 4

#: A bootstrap sees scores through at most this many thresholds.
_BOOTSTRAP_THRESHOLDS = 8192

#: Columns that are resampled at once: their weights stay in the cache.
_COLUMNS_AT_ONCE = 1 << 16

#: What a reader of a two-way interval must be told.
BOOTSTRAP_CAPTION = (
    "two-way bootstrap over trials and examples of precomputed scores; that targets share shadow "
    "models is not accounted for"
)


def two_way_bootstrap(
    scores: FloatArray,
    is_member: ArrayLike,
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
    scores : ndarray, (rows, columns)
        NaN ones are left out.
    is_member : array_like of bool, (rows, columns)
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
    check_integer("replicates", replicates, minimum=2)
    check_level(level)
    scores, member = as_float64("scores", scores), check_membership(is_member)
    if scores.ndim != 2 or scores.shape != member.shape:
        raise ValueError(
            "scores and is_member must both have shape (rows, columns), not "
            f"{scores.shape} and {member.shape}"
        )
    return bootstrap_bounds(
        scores,
        member,
        pooled_curve(scores, member, n_threads),
        levels=levels,
        row_groups=row_groups,
        replicates=replicates,
        seed=seed,
        level=level,
        n_threads=n_threads,
    )


def pooled_curve(
    scores: FloatArray,
    is_member: BoolArray,
    n_threads: int | None = None,
    *,
    columns: NDArray[np.int64] | None = None,
    empty: Allocate = np.empty,
) -> Curve:
    """Return the curve of all scores that are known, of some columns; either side may be empty.

    ``empty`` allocates a copy of the scores, row by row in order.
    """
    from confsim._kernels import resolve_threads

    width = scores.shape[1] if columns is None else len(columns)
    rows = SortedRows(len(scores), width, empty)

    def put(row: int) -> None:
        values, member = scores[row], is_member[row]
        if columns is not None:
            values, member = values[columns], member[columns]
        known = ~np.isnan(values)
        rows.put(row, ascending(values[known & member]), ascending(values[known & ~member]))

    with ThreadPoolExecutor(resolve_threads(n_threads)) as pool:
        list(pool.map(put, range(len(scores))))
    return curve_of(rows, n_threads)


def curve_of(rows: SortedRows, n_threads: int | None = None) -> Curve:
    """Return the curve of all scores together, from which thresholds of a bootstrap can be had."""
    return rows.curve(
        _threshold_ranks(rows.total(members=True), rows.total(members=False)), n_threads
    )


def bootstrap_bounds(
    scores: FloatArray,
    member: BoolArray,
    curve: Curve,
    *,
    columns: NDArray[np.int64] | None = None,
    levels: Sequence[float] = FPR_LEVELS,
    row_groups: ArrayLike | None = None,
    replicates: int = 400,
    seed: int = 0,
    level: float = 0.95,
    n_threads: int | None = None,
) -> dict[str, tuple[float, float]]:
    """Do what :func:`two_way_bootstrap` does where the curve of all known scores is known.

    ``columns`` says which of them are meant; default: all.
    """
    width = scores.shape[1] if columns is None else len(columns)
    group = check_row_groups(row_groups, len(scores))
    groups = int(group.max()) + 1
    names = [
        "auc",
        "advantage",
        "balanced_accuracy",
        *(f"tpr_at_fpr_{percent_name(a)}" for a in levels),
    ]
    if min(groups, width) < FEWEST_RESAMPLED:
        return dict.fromkeys(names, (float("nan"), float("nan")))
    thresholds = _thresholds(curve)
    by_group, by_column = _draws(groups, width, replicates, seed)
    by_row = np.ascontiguousarray(by_group[:, group])
    bins = len(thresholds) + 1
    counts = np.zeros((replicates, 2 * bins + 1), dtype=np.int64)
    for start in range(0, width, _COLUMNS_AT_ONCE):
        block = slice(start, min(start + _COLUMNS_AT_ONCE, width))
        chosen: Any = block if columns is None else columns[block]
        part = scores[:, chosen], member[:, chosen], thresholds, by_row, by_column[:, block]
        counts += _resampled(*part, n_threads)
    # From the highest score down; the last code is that of NaN scores.
    paired = counts[:, : 2 * bins].reshape(replicates, bins, 2)[:, ::-1]
    parts = [  # of as many replicates as fit into the cache
        _resampled_figures(part[..., 1], part[..., 0], levels)
        for part in np.array_split(paired, max(1, replicates // 16))
    ]
    figures = [np.concatenate(found) for found in zip(*parts, strict=True)]
    low, high = _widened_percentiles(min(groups, width), level)
    return {
        name: tuple(np.nanquantile(values, (low, high)).tolist())
        for name, values in zip(names, figures, strict=True)
    }


def _resampled(
    scores: FloatArray,
    is_member: BoolArray,
    thresholds: FloatArray,
    by_row: NDArray[Any],
    by_column: NDArray[Any],
    n_threads: int | None,
) -> NDArray[np.int64]:
    """Count the scores of some columns between thresholds, in each replicate."""
    from confsim._kernels import resolve_isa, resolve_threads
    from confsim._kernels.stats import resample_counts

    threads = resolve_threads(n_threads)
    codes = _threshold_codes(scores, is_member, thresholds, threads)
    weights = np.ascontiguousarray(by_column, dtype=np.uint16)
    bins = 2 * (len(thresholds) + 1) + 1
    return resample_counts(codes, by_row, weights, bins, threads, resolve_isa())


@lru_cache(maxsize=1)
def _draws(
    groups: int, columns: int, replicates: int, seed: int
) -> tuple[NDArray[np.uint16], NDArray[Any]]:
    """Return how often each replicate holds each group, and each column.

    The same for all attacks on one run, and kept from one to the next.
    """
    rng = stream(seed, Purpose.BOOTSTRAP)
    by_group = _multiplicities(groups, replicates, rng)
    return by_group.astype(np.uint16), _multiplicities(columns, replicates, rng)


def _multiplicities(count: int, replicates: int, rng: np.random.Generator) -> NDArray[Any]:
    """Return numbers of draws (replicates, count) in as few bytes as they fit into."""
    found: NDArray[Any] = np.empty((replicates, count), dtype=np.uint8)
    for i in range(replicates):
        drawn = np.bincount(rng.integers(count, size=count), minlength=count)
        if drawn.max() > np.iinfo(np.uint16).max:  # with a probability below 10**-280000
            raise OverflowError("a resample holds one row more than 65535 times")
        if drawn.max() > np.iinfo(found.dtype).max:  # with a probability below 10**-500
            found = found.astype(np.uint16)
        found[i] = drawn
    found.flags.writeable = False
    return found


def _threshold_codes(
    scores: FloatArray, is_member: BoolArray, thresholds: FloatArray, threads: int
) -> NDArray[np.uint16]:
    """Return 2 * bin + is_member for each score, 2 * bins for NaN."""
    from confsim._kernels.stats import threshold_codes

    codes = np.empty(scores.shape, dtype=np.uint16)
    kinds = is_member.view(np.uint8)

    def code(i: int) -> None:
        row, kind = np.ascontiguousarray(scores[i]), np.ascontiguousarray(kinds[i])
        threshold_codes(row, kind, thresholds, codes[i])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(code, range(len(scores))))
    return codes


def _threshold_ranks(members: int, non_members: int) -> dict[bool, NDArray[np.int64]]:
    """Return the ranks of the scores that thresholds are made of, among members and others."""
    if non_members + members <= _BOOTSTRAP_THRESHOLDS:
        return {True: np.arange(members), False: np.arange(non_members)}
    none = np.empty(0, dtype=np.int64)
    if not non_members:
        return {True: none, False: none}
    half = _BOOTSTRAP_THRESHOLDS // 2
    rare = np.unique(np.geomspace(1, non_members, half).astype(np.int64))
    even = np.linspace(0, members - 1, half).astype(np.int64) if members else none
    return {True: even, False: non_members - rare}


def _thresholds(curve: Curve) -> FloatArray:
    ranks = _threshold_ranks(curve.members, curve.non_members)
    held, others = (curve.scores_at(ranks[side], members=side) for side in (True, False))
    if curve.members + curve.non_members > _BOOTSTRAP_THRESHOLDS:
        # Just above a non-member's score is where a threshold excludes it: the next larger float.
        others = np.nextafter(others, np.inf)
    return np.unique(np.concatenate([others, held]))[:_BOOTSTRAP_THRESHOLDS]


def _resampled_figures(
    members: NDArray[np.int64], non_members: NDArray[np.int64], levels: Sequence[float]
) -> list[FloatArray]:
    """Return AUC, advantage, balanced accuracy and TPRs of histograms (replicates, bins)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        hits = np.cumsum(members, axis=1) / members.sum(axis=1, keepdims=True)
        alarms = np.cumsum(non_members, axis=1) / non_members.sum(axis=1, keepdims=True)
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
