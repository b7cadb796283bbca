"""RMIA, the relative membership-inference attack (Zarifzadeh et al. 2024), on arrays.

Every trial is in turn the target, the others are its shadow models (see ``shadow``). An example is
compared with points ``z`` of which it is known that the target was not trained on them, by ratios
of the target's probability to that of models in general. Ratios are logarithms throughout, so that
nothing underflows; points are compared by sorting, never pair by pair, but for a majority vote.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_array, check_choice, check_number, check_size
from confsim.membership.shadow import (
    Design,
    Side,
    block_views,
    counts_below,
    each_block,
    each_target,
    make_design,
    room_for_scores,
    views_of,
)
from confsim.statistics import FPR_LEVELS
from confsim.statistics.order import ascending

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

#: Where the points z come from.
Z_KINDS = ("holdout", "non-members", "population")

#: What ``tune_rmia`` chooses from.
GAMMAS = (1.0, 1.1, 1.25, 1.5, 2.0, 4.0)
OFFLINE_AS = tuple(i / 10 for i in range(11))

#: Examples of a majority vote at once.
_VOTE_CELLS = 1 << 24


def rmia(
    log_odds: ArrayLike,
    is_member: ArrayLike,
    *,
    holdout_log_odds: ArrayLike | None = None,
    z: str | None = None,
    online: bool = True,
    gamma: ArrayLike = 1.0,
    a: ArrayLike = 0.3,
    cut: float = 0.0,
    views: str = "mean",
    partner: ArrayLike | None = None,
    trim: bool = False,
    seed: int = 0,
    reading: str = "confsim",
    n_threads: int | None = None,
    out: FloatArray | None = None,
) -> FloatArray:
    r"""Relative membership inference (Zarifzadeh et al. 2024), every trial in turn the target.

    The score of ``x`` is the fraction of points ``z`` with
    :math:`\frac{p(x|\theta)/p(x)}{p(z|\theta)/p(z)} \ge \gamma`, where ``p(x|theta)`` is the
    target's probability of the true class. Online, ``p(x)`` is the mean of its means over models in
    and models out; offline :math:`((1 + a) p_{out} + 1 - a) / 2`.

    Parameters
    ----------
    log_odds : array_like, (trials, examples[, augmentations])
        Log-odds of the true class, of any float type, memory-mapped or not;
        :func:`class_log_odds` makes them from logits with a temperature or by Taylor softmax.
    is_member : array_like of bool or 0/1, (trials, examples)
    holdout_log_odds : array_like, (trials, points[, augmentations]), optional
        The same of points that no trial was trained on.
    z : {"holdout", "non-members", "population"}, optional
        The points ``z``: the holdout; the target's non-members without ``x``; or every other
        example, members of the target among them, as in the paper's experiments. By default the
        holdout where there is one, else the non-members. :func:`rmia_resolution` says which
        false-positive rates so many points can resolve.
    online : bool
    gamma : float or array_like, (trials,)
        Above 0; one number, or one for each target.
    a : float or array_like, (trials,)
        In [0, 1]; offline only. :func:`tune_rmia` chooses both without looking at the target.
    cut : float
        Share of models, in [0, 0.5), cut off at either end of the average that ``p(x)`` is: a
        trimmed mean, taken within models in and within models out, so that their counts tell
        nothing of the target.
    views : {"mean", "majority"}
        How augmentations are put together: each ratio is the mean of those of its views; or a point
        ``z`` counts where more than half of the views say so, which compares all pairs (O(N M)
        for each view and target).
    partner, trim, seed, n_threads
        As in :func:`lira`.
    reading : {"confsim", "privacy-meter"}
        ``"privacy-meter"``: the scores of that program (version 2, ``run_rmia``) with all shadow
        models. Offline; gamma 1 must be exceeded; trials 2k and 2k + 1 are never each other's
        shadow models; with ``m`` shadow models ``p`` is averaged over the ``m // 2`` largest
        signals only, which for points that no model was trained on is the larger half of them.
        Needs the holdout; one view.
    out : ndarray of float64, (trials, examples), optional
        Where scores are written, memory-mapped perhaps.

    Returns
    -------
    ndarray, (trials, examples)
        Higher means "member"; NaN where ``p(x)`` has no model of a kind that it needs.

    Notes
    -----
    Assumes that the points ``z`` are drawn like the examples that are attacked. The score is a rank
    among them, no probability of membership.

    With ``gamma`` 1 the score is the rank of the target's ratio for ``x`` among its ratios for the
    points: whatever they are, it orders the examples of one target alike, and its AUC is that of
    ``p(x | theta) / p(x)`` (of :func:`base`). Points matter for how fine the score is, and for the
    other ``gamma``; ``>`` for ``>=``, and a ``p(z)`` that is not scaled by ``a``, for neither.

    Defaults were chosen by measurement, on 32 trials on the digits, a CNN for 12 epochs and an MLP
    for 20 (``--early-stopping off``; mean AUC over targets). Online, ``gamma`` 1: 0.564 and 0.591
    with each kind of ``z``, where LiRA has 0.539 and 0.567; ``gamma`` 2 with 180 points of holdout:
    0.534 and 0.549, for most examples tie at 0. ``a`` offline, 0, 0.3 and 1: 0.560, 0.563, 0.564
    and 0.543, 0.562, 0.587; elsewhere the order was the opposite, and 0.3, the paper's for
    CIFAR-10, stays: choose it by :func:`tune_rmia`. ``cut`` 0.2, as in the published experiments:
    0.565 and 0.590; the plain mean stays because it is the definition. The true-positive rate at 1%
    was 0.017 and 0.030 with the holdout, 0.024 and 0.039 with the non-members: resolution.

    Examples
    --------
    >>> import numpy as np
    >>> from confsim.membership import rmia
    >>> from confsim.statistics import auc
    >>> rng = np.random.default_rng(0)
    >>> member = rng.random((16, 500)) < 0.5
    >>> log_odds = 3 * rng.normal(size=500) + 1.5 * member + rng.normal(size=member.shape)
    >>> bool(auc(rmia(log_odds, member), member) > auc(log_odds, member) + 0.1)
    True
    """
    values = as_array("log_odds", log_odds)
    check_choice("reading", reading, ("confsim", "privacy-meter"))
    check_choice("views", views, ("mean", "majority"))
    design = make_design("log_odds", values, is_member, partner, trim, seed)
    points = check_holdout(holdout_log_odds, values)
    scores = room_for_scores(design, out, np.nan)
    if reading == "privacy-meter":
        scores[...] = _privacy_meter(values, points, design, a)
        return scores
    kind = z_kind(z, points)
    setting = _Setting(
        online,
        _per_target("gamma", gamma, design, above=0),
        _per_target("a", a, design, minimum=0, maximum=1),
        _check_cut(cut),
    )
    majority = views == "majority" and views_of(values) > 1
    # Where a target has one ratio of each example, its scores take their place.
    examples = np.empty((views_of(values), *scores.shape)) if majority else scores[None]
    _example_ratios(values, design, setting, majority, n_threads, examples)
    others = None
    if points is not None and kind == "holdout":
        others = _holdout_ratios(points, design, setting, majority, n_threads)

    def work(target: int) -> None:
        x = examples[:, target]
        zs, own = (x, None) if others is None else (others[:, target], None)
        if kind == "non-members":
            own = ~design.is_member[target]
            zs = x[:, own]
        elif kind == "population":
            own = np.ones(x.shape[1], dtype=bool)
        scores[target] = dominated(x, zs, own, float(np.log(setting.gamma[target])))

    each_target(design, work, n_threads)
    return scores


@dataclass(frozen=True, eq=False)
class _Setting:
    """How ``p(x)`` is estimated and what exceeds it; numbers of each target."""

    online: bool
    gamma: FloatArray
    a: FloatArray
    cut: float


def _per_target(name: str, value: ArrayLike, design: Design, **bounds: Any) -> FloatArray:
    if np.ndim(value) == 0:
        number = value.item() if isinstance(value, np.ndarray) else value
        return np.full(design.trials, check_number(name, number, **bounds))
    found = np.asarray(value, dtype=np.float64)
    if found.shape != (design.trials,):
        raise ValueError(f"{name} must be a number or one for each trial, not {found.shape}")
    for number in found.tolist():
        check_number(name, number, **bounds)
    return found


def _check_cut(cut: float) -> float:
    if check_number("cut", cut, minimum=0) >= 0.5:
        raise ValueError(f"cut must be less than 0.5, not {cut:g}")
    return float(cut)


def z_kind(z: str | None, holdout: NDArray[Any] | None) -> str:
    """Return where the points z come from, or say that there is no holdout."""
    if z is None:
        return "non-members" if holdout is None else "holdout"
    if check_choice("z", z, Z_KINDS) == "holdout" and holdout is None:
        raise ValueError('z="holdout" needs holdout_log_odds')
    return z


def check_holdout(holdout_log_odds: ArrayLike | None, values: NDArray[Any]) -> NDArray[Any] | None:
    """Return what the holdout's values are, with the trials and views of ``values``."""
    if holdout_log_odds is None:
        return None
    found = as_array("holdout_log_odds", holdout_log_odds)
    if found.ndim not in (2, 3) or len(found) != len(values) or views_of(found) != views_of(values):
        raise ValueError(
            "holdout_log_odds must have the trials and augmentations of log_odds, not the shape "
            f"{found.shape}"
        )
    if found.shape[1] == 0:
        raise ValueError("holdout_log_odds must hold at least one point")
    check_size("holdout_log_odds", found)
    return found


# ---- ratios ------------------------------------------------------------------------------------


def log_probability(log_odds: FloatArray) -> FloatArray:
    """Return log(sigmoid(log_odds)), stably."""
    found = np.abs(log_odds)
    np.negative(found, out=found)
    np.log1p(np.exp(found, out=found), out=found)
    found += np.maximum(-log_odds, 0.0)
    return np.negative(found, out=found)


def log_ratios(
    log_odds: FloatArray, sides: tuple[Side, Side], online: bool, a: ArrayLike, cut: float = 0.0
) -> FloatArray:
    """Return log(p(x | theta) / p(x)) of one view of a block, for every target."""
    log_p = log_probability(log_odds)
    log_out = _average(log_p, sides[1], cut)
    if online:
        prior = log_mean_of_two(_average(log_p, sides[0], cut), log_out)
    else:
        prior = log_prior(log_out, np.asarray(a, dtype=np.float64))
    log_p -= prior
    return log_p


def _average(log_p: FloatArray, side: Side, cut: float) -> FloatArray:
    return side.log_trimmed_mean(log_p, cut) if cut else side.log_mean(log_p)


def log_prior(log_out: FloatArray, a: FloatArray) -> FloatArray:
    """Return the log of the offline estimate of p(x) from that of its mean over models out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: FloatArray = np.logaddexp(np.log1p(a) + log_out, np.log(1 - a)) - np.log(2)
    return found


def log_mean_of_two(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return log((exp(a) + exp(b)) / 2), NaN where either is; several times faster than NumPy's."""
    found = np.abs(a - b)
    np.negative(found, out=found)
    np.log1p(np.exp(found, out=found), out=found)
    found += np.maximum(a, b)
    found -= np.log(2)
    return found


def _example_ratios(
    values: NDArray[Any],
    design: Design,
    setting: _Setting,
    each_view: bool,
    n_threads: int | None,
    found: FloatArray,
) -> None:
    """Write the ratios of all examples: of each view (views, trials, examples), or their mean."""

    def work(block: slice) -> None:
        sides, a = design.sides(block), setting.a[:, None]
        ratios = np.stack(
            [
                log_ratios(view, sides, setting.online, a, setting.cut)
                for view in block_views(values, block)
            ]
        )
        found[:, :, block] = ratios if each_view else log_mean_of_views(ratios)

    each_block(design, work, n_threads)


def log_mean_of_views(ratios: FloatArray) -> FloatArray:
    """Return the log of the mean ratio over views, the first axis, which stays with length 1."""
    if len(ratios) == 1:
        return ratios
    top = ratios.max(axis=0)
    total = np.exp(np.subtract(ratios, top, out=ratios), out=ratios).mean(axis=0)
    found: FloatArray = np.log(total) + top
    return found[None]


def _holdout_ratios(
    points: NDArray[Any], design: Design, setting: _Setting, each_view: bool, n_threads: int | None
) -> FloatArray:
    """Return the ratios (views, trials, points) of the holdout: every model is out."""
    if design.shadow_models < 1:
        return np.full((1, design.trials, points.shape[1]), np.nan)
    # Seen as a design in which nothing was ever learned.
    nothing = Design(np.zeros(points.shape[:2], dtype=bool))
    views = views_of(points) if each_view else 1
    found = np.empty((views, *points.shape[:2]))

    def work(block: slice) -> None:
        ratios = np.stack(
            [_holdout_view(view, design, setting) for view in block_views(points, block)]
        )
        found[:, :, block] = ratios if each_view else log_mean_of_views(ratios)

    each_block(nothing, work, n_threads)
    return found


def _holdout_view(log_odds: FloatArray, design: Design, setting: _Setting) -> FloatArray:
    log_p = log_probability(log_odds)
    log_out = _holdout_average(log_p, design, setting.cut)
    prior = log_out if setting.online else log_prior(log_out, setting.a[:, None])
    found: FloatArray = log_p - prior
    return found


def _holdout_average(log_p: FloatArray, design: Design, cut: float) -> FloatArray:
    if design.partner is None:
        return _average(log_p, Side(np.ones(log_p.shape, dtype=bool)), cut)
    if not cut:
        first = np.flatnonzero(np.arange(design.trials) < design.partner)
        second = design.partner[first]
        pairs = np.logaddexp(log_p[first], log_p[second]) - np.log(2)
        found = np.empty_like(log_p)
        found[first] = Side(np.ones(pairs.shape, dtype=bool)).log_mean(pairs)
        found[second] = found[first]
        return found
    everyone = np.empty_like(log_p)
    for target in range(design.trials):
        voters = log_p[design.voters(target)]
        nobody = np.full(voters.shape, -1)
        side = Side(np.ones(voters.shape, dtype=bool), nobody)
        everyone[target] = side.log_trimmed_mean(voters, cut)[0]
    return everyone


# ---- dominance ---------------------------------------------------------------------------------


def dominated(x: FloatArray, zs: FloatArray, own: BoolArray | None, log_gamma: float) -> FloatArray:
    """Return the fraction of ``z`` whose ratio that of each example exceeds by the factor gamma.

    Parameters
    ----------
    x, zs : ndarray, (views, examples) and (views, points)
    own : ndarray of bool, (examples,), optional
        Which examples are themselves among the points.
    log_gamma : float

    Notes
    -----
    Where all examples are among the points, each is no ``z`` of its own. Where only some are, that
    must not show: one point fewer for non-members would tell them from members by the denominator
    alone. With gamma 1 the order is that of the ratios even so, as long as a member that equals a
    non-member gets its score; else an example keeps its place among the points.
    """
    zs = zs[:, ~np.isnan(zs[0])]
    known = ~np.isnan(x[0])
    size = zs.shape[1]
    if size < (1 if own is None else 2):
        return np.full(x.shape[1], np.nan)
    count = _votes(x, zs, log_gamma) if len(x) > 1 else _below(x[0], zs[0], log_gamma)
    alone = np.zeros(x.shape[1], dtype=bool)
    if own is not None and own.all():
        alone = own
    elif own is not None and log_gamma == 0:
        alone = own | _equals_any(x, zs)
    count = count - (alone & (log_gamma <= 0))
    return np.where(known, count / (size - alone), np.nan)


def _equals_any(x: FloatArray, zs: FloatArray) -> BoolArray:
    """Return which examples have a point with the same ratio, in all views."""
    if len(x) == 1:
        return np.isin(x[0], zs[0])
    points = {point.tobytes() for point in np.ascontiguousarray(zs.T)}
    return np.array([row.tobytes() in points for row in np.ascontiguousarray(x.T)])


def _below(x: FloatArray, zs: FloatArray, log_gamma: float) -> IntArray:
    return counts_below(ascending(zs), x - log_gamma, "right")[0]


def _votes(x: FloatArray, zs: FloatArray, log_gamma: float) -> IntArray:
    """Count the points that most views of an example exceed."""
    count = np.empty(x.shape[1], dtype=np.int64)
    rows = max(1, _VOTE_CELLS // max(1, zs.shape[1]))
    for start in range(0, x.shape[1], rows):
        part = x[:, start : start + rows] - log_gamma
        votes = np.zeros((part.shape[1], zs.shape[1]), dtype=np.uint16)
        for view, points in zip(part, zs, strict=True):
            votes += view[:, None] >= points
        count[start : start + rows] = np.count_nonzero(votes > len(x) / 2, axis=1)
    return count


# ---- what so many points can resolve -----------------------------------------------------------


@dataclass(frozen=True)
class Resolution:
    """How fine a score that is a rank among ``points`` points can be.

    Attributes
    ----------
    z : str
        Where the points come from.
    points : int
        The fewest that any target has.
    """

    z: str
    points: int

    @property
    def levels(self) -> int:
        """Values that the score can take."""
        return self.points + 1

    @property
    def finest_fpr(self) -> float:
        """About the share of non-members that tie at the highest score if nothing leaks."""
        return 1 / self.levels

    def unresolved(
        self, non_members: int, levels: Sequence[float] = FPR_LEVELS
    ) -> tuple[float, ...]:
        """Return those false-positive rates that the score is too coarse for.

        With few non-members no rate below ``1 / non_members`` is asked for.
        """
        return tuple(a for a in levels if max(a, 1 / max(1, non_members)) < self.finest_fpr)


def rmia_resolution(
    is_member: ArrayLike, *, z: str | None = None, holdout_points: int | None = None
) -> Resolution:
    """Return how many points z the scores of :func:`rmia` stand on.

    Examples
    --------
    >>> import numpy as np
    >>> from confsim.membership import rmia_resolution
    >>> found = rmia_resolution(np.eye(4, 2000, dtype=bool), holdout_points=180)
    >>> found.z, found.levels, found.unresolved(1999)
    ('holdout', 181, (0.001, 0.0001, 0.0))
    """
    from confsim.statistics import check_membership

    member = check_membership(is_member)
    holdout = None if holdout_points is None else np.empty(holdout_points)
    kind = z_kind(z, holdout)
    if holdout is not None and kind == "holdout":
        return Resolution(kind, len(holdout))
    if kind == "population":
        return Resolution(kind, member.shape[1] - 1)
    return Resolution(kind, int((~member).sum(axis=1).min()) - 1)


# ---- another program's reading -----------------------------------------------------------------


def _privacy_meter(
    values: NDArray[Any], points: NDArray[Any] | None, design: Design, a: ArrayLike
) -> FloatArray:
    """Score as ``run_rmia`` of Privacy Meter does, in its arithmetic."""
    if points is None:
        raise ValueError('reading="privacy-meter" needs holdout_log_odds, its population')
    if views_of(values) > 1:
        raise ValueError('reading="privacy-meter" has one view of each example')
    share = check_number("a", a, minimum=0, maximum=1)
    x, z = (v.reshape(v.shape[:2]) for v in (values, points))
    none = np.zeros(z.shape, dtype=bool)
    scores = np.full(design.is_member.shape, np.nan)
    for target in range(design.trials):
        other = target ^ 1 if design.partner is None else int(design.partner[target])
        columns = [i for i in range(design.trials) if i not in (target, other)]
        count = len(columns) // 2
        if count == 0:
            continue
        columns = columns[: 2 * count]
        ratio_x = _meter_ratios(x, design.is_member, target, columns, share)
        ratio_z = np.sort(_meter_ratios(z, none, target, columns, share))
        scores[target] = np.searchsorted(ratio_z, ratio_x, side="left") / len(ratio_z)
    return scores


def _meter_ratios(
    log_odds: NDArray[Any], is_member: BoolArray, target: int, columns: list[int], a: float
) -> FloatArray:
    from scipy.special import expit

    signals = expit(log_odds[columns].astype(np.float64).T) * ~is_member[columns].T
    largest = -np.sort(-signals, axis=1)[:, : len(columns) // 2]
    mean = (1 + a) / 2 * np.mean(largest, axis=1) + (1 - a) / 2
    found: FloatArray = expit(log_odds[target].astype(np.float64)) / mean
    return found
