"""Lists of examples called members, with a bound on the share of them that is wrong."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_array, as_float64, check_choice, check_number
from confsim.membership.lira import lira
from confsim.membership.population import models_below
from confsim.membership.shadow import check_scores, each_block, make_design, room_for_scores
from confsim.statistics import clopper_pearson
from confsim.statistics.checks import check_targets

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: P-values that are compared with their ranks at once.
_BLOCK = 1 << 20


def p_values(
    log_odds: ArrayLike,
    is_member: ArrayLike,
    *,
    kind: str = "rank",
    partner: ArrayLike | None = None,
    trim: bool = False,
    seed: int = 0,
    n_threads: int | None = None,
    out: FloatArray | None = None,
) -> FloatArray:
    r"""Test for each target and example that the target was not trained on it.

    Parameters
    ----------
    log_odds : array_like, (trials, examples)
        Log-odds of the true class, or any statistic that is higher for members.
    is_member : array_like of bool or 0/1, (trials, examples)
        Of the shadow models; a target's own is not used.
    kind : {"rank", "normal"}
        ``"rank"``: :math:`(1 + b) / (1 + n)`, where ``b`` of ``n`` shadow models without the
        example have a value at least the target's: exact whatever the distribution, never below
        ``1 / (n + 1)``. ``"normal"``: the upper tail of the normal distribution that LiRA fits to
        them (its offline score): finer, and only as right as that fit.
    partner, trim, seed, n_threads
        As in :func:`lira`.
    out : ndarray of float64, (trials, examples), optional
        Where p-values are written, memory-mapped perhaps.

    Returns
    -------
    ndarray, (trials, examples)
        Small means "member"; NaN where there are too few models out.

    Examples
    --------
    >>> from confsim.membership import p_values
    >>> p_values([[5.0], [1.0], [6.0], [2.0]], [[1], [0], [0], [0]]).tolist()
    [[0.5], [1.0], [0.3333333333333333], [0.6666666666666666]]
    """
    check_choice("kind", kind, ("rank", "normal"))
    values = as_array("log_odds", log_odds)
    if values.ndim != 2:
        raise ValueError(f"log_odds must have shape (trials, examples), not {values.shape}")
    design = make_design("log_odds", values, is_member, partner, trim, seed)
    if kind == "normal":
        from scipy.special import ndtr

        how: dict[str, Any] = {"partner": partner, "trim": trim, "seed": seed}
        z = lira(values, design.is_member, online=False, n_threads=n_threads, out=out, **how)
        found: FloatArray = ndtr(np.negative(z, out=z), out=z)
        return found
    scores = room_for_scores(design, out, np.nan)

    def work(block: slice) -> None:
        _, out = design.sides(block)
        counts = out.counts
        above = counts - models_below(values[:, block].astype(np.float64), out)
        scores[:, block] = np.where(counts > 0, (1 + above) / (1 + counts), np.nan)

    each_block(design, work, n_threads)
    return scores


def benjamini_hochberg(p: ArrayLike) -> FloatArray:
    """Return adjusted p-values: those of at most ``q`` are a list with a false share of at most q.

    Parameters
    ----------
    p : array_like
        In [0, 1]; NaN is left out and stays NaN. Any shape: all are one family.

    Returns
    -------
    ndarray
        The smallest ``q`` at which each is on the list (Benjamini & Hochberg 1995).

    Notes
    -----
    The false share is expected to be at most ``q`` where p-values are independent or positively
    dependent; for non-members that share shadow models they are nearly so.

    Examples
    --------
    >>> from confsim.membership import benjamini_hochberg
    >>> benjamini_hochberg([0.01, 0.02, 0.03, 0.5]).round(4).tolist()
    [0.04, 0.04, 0.04, 0.5]
    """
    values = as_float64("p", p)
    _check_p(values)
    known = ~np.isnan(values)
    given = values[known]
    order = np.argsort(given, kind="stable")
    scaled = given[order] * len(given) / np.arange(1, len(given) + 1)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    found = np.full(values.shape, np.nan)
    found[known] = adjusted
    return found


def discoveries(
    p: ArrayLike, is_member: ArrayLike, *, q: float = 0.1, targets: ArrayLike | None = None
) -> list[dict[str, Any]]:
    """Flag examples as members with an expected false share of at most ``q``, and check it.

    Parameters
    ----------
    p : array_like, (trials, examples)
        Of :func:`p_values`.
    is_member : array_like of bool or 0/1, (trials, examples)
        To check against.
    q : float
        In (0, 1).
    targets : array_like of int, (trials,), optional
        Their numbers; default: 0, 1, ...

    Returns
    -------
    list of dict
        For each target, and ``pooled`` over all as one family: ``target``, ``q``, ``flagged``,
        ``expected_false`` (at most, of them), ``false``, ``false_share`` with ``_low`` and
        ``_high`` (Clopper-Pearson; NaN where nothing is flagged), ``tpr``, ``smallest_p``, and
        ``needed``: how many must be as small as that before any can be flagged.

    Notes
    -----
    ``q`` bounds the false share in expectation over targets, with every example that is not a
    member counted: where half are members it is about half of ``q``. A single list may be worse.
    """
    values, member = check_scores(p, is_member)
    _check_p(values)
    q = check_number("q", q, above=0)
    if q >= 1:
        raise ValueError(f"q must be in (0, 1), not {q:g}")
    numbers = check_targets(targets, len(values))
    rows = [
        {"target": number, **_row(values[i], member[i], q)}
        for i, number in enumerate(numbers.tolist())
    ]
    return [*rows, {"target": "pooled", **_row(values, member, q)}]


def _check_p(values: FloatArray) -> None:
    # NaN is neither.
    if np.fmin.reduce(values, axis=None, initial=0) < 0 or (
        np.fmax.reduce(values, axis=None, initial=1) > 1
    ):
        raise ValueError("p must be in [0, 1]")


def _largest_flagged(p: FloatArray, q: float) -> float:
    """Return the p-value up to which ``benjamini_hochberg(p) <= q``, -1 where it is so of none.

    That is the largest p that is small for its rank. A p-value above ``q`` is small for no rank.
    """
    rows = np.atleast_2d(p)
    total = sum(int(np.count_nonzero(~np.isnan(row))) for row in rows)
    # Room for rounding; NaN is not.
    small = np.sort(np.concatenate([row[row <= q * (1 + 1e-9)] for row in rows]))
    for end in range(len(small), 0, -_BLOCK):
        start = max(0, end - _BLOCK)
        passing = np.flatnonzero(small[start:end] * total / np.arange(start + 1, end + 1) <= q)
        if len(passing):
            return float(small[start + passing[-1]])
    return -1.0


def _row(p: FloatArray, member: BoolArray, q: float) -> dict[str, Any]:
    last = _largest_flagged(p, q)
    count = false = members = total = 0
    smallest = np.inf
    for row, held in zip(np.atleast_2d(p), np.atleast_2d(member), strict=True):
        known, flagged = ~np.isnan(row), row <= last
        count += int(np.count_nonzero(flagged))
        false += int(np.count_nonzero(flagged & ~held))
        members += int(np.count_nonzero(held & known))
        total += int(np.count_nonzero(known))
        smallest = min(smallest, float(np.fmin.reduce(row, initial=np.inf)))
    low, high = clopper_pearson(false, count) if count else (np.nan, np.nan)
    smallest = smallest if total else float("nan")
    return {
        "q": q,
        "flagged": count,
        "expected_false": q * count,
        "false": false,
        "false_share": false / count if count else float("nan"),
        "false_share_low": float(low),
        "false_share_high": float(high),
        "tpr": (count - false) / members if members else float("nan"),
        "smallest_p": smallest,
        "needed": float(np.ceil(smallest * total / q)),
    }
