"""Choose RMIA's gamma and a for each target, on a shadow model as a mock target.

Neither the target nor its partner is used in any way: what is chosen is known before the attack.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_array, check_number
from confsim.membership.rmia import (
    GAMMAS,
    OFFLINE_AS,
    check_holdout,
    dominated,
    log_mean_of_two,
    log_mean_of_views,
    log_prior,
    log_probability,
    z_kind,
)
from confsim.membership.shadow import each_target, make_design, views_of
from confsim.statistics import auc

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RmiaTuning:
    """What :func:`tune_rmia` chose for each target.

    Attributes
    ----------
    gamma, a : ndarray, (trials,)
    mock : ndarray of int64, (trials,)
        The shadow model that was attacked in the target's place.
    auc : ndarray, (trials,)
        Of that attack; NaN where it was not possible and the defaults stay.
    """

    gamma: FloatArray
    a: FloatArray
    mock: IntArray
    auc: FloatArray


def tune_rmia(
    log_odds: ArrayLike,
    is_member: ArrayLike,
    *,
    holdout_log_odds: ArrayLike | None = None,
    z: str | None = None,
    online: bool = True,
    gammas: Sequence[float] = GAMMAS,
    offline_as: Sequence[float] = OFFLINE_AS,
    partner: ArrayLike | None = None,
    n_threads: int | None = None,
) -> RmiaTuning:
    """Choose gamma and a of ``rmia`` for each target, on a shadow model as a mock target.

    The mock target is the next trial that may vote on the target. It is attacked with every pair of
    ``gammas`` and ``offline_as`` and the shadow models that are left, and the pair of the largest
    AUC is taken, the first among equals. Neither the target nor its partner is used in any way.

    Parameters
    ----------
    log_odds, is_member, holdout_log_odds, z, online, partner, n_threads
        As in :func:`confsim.membership.rmia.rmia`.
    gammas, offline_as : sequence of float
        To choose from; online there is no ``a``.
    """
    values = as_array("log_odds", log_odds)
    design = make_design("log_odds", values, is_member, partner)
    points = check_holdout(holdout_log_odds, values)
    kind = z_kind(z, points)
    choices = offline_as if not online else offline_as[:1]
    grid = [(g, a) for a in choices for g in gammas]
    for g, a in grid:
        check_number("gammas", g, above=0)
        check_number("offline_as", a, minimum=0, maximum=1)
    gamma, share = np.ones(design.trials), np.full(design.trials, 0.3)
    mocks, best = np.full(design.trials, -1), np.full(design.trials, np.nan)

    def work(target: int) -> None:
        voters = design.voters(target)
        if len(voters) < 2:
            return
        mock = int(voters[np.searchsorted(voters, target) % len(voters)])
        mocks[target] = mock
        shadow = np.setdiff1d(voters, [mock] if design.partner is None else design.partner[mock])
        shadow = shadow[shadow != mock]
        found = _mock_aucs(values, points, design.is_member, kind, mock, shadow, online, grid)
        if not np.isnan(found).all():
            choice = int(np.nanargmax(found))
            (gamma[target], share[target]), best[target] = grid[choice], found[choice]

    each_target(design, work, n_threads)
    return RmiaTuning(gamma, share, mocks, best)


def _mock_aucs(
    values: NDArray[Any],
    points: NDArray[Any] | None,
    is_member: BoolArray,
    kind: str,
    mock: int,
    shadow: IntArray,
    online: bool,
    grid: Sequence[tuple[float, float]],
) -> FloatArray:
    """Return the AUC of attacking the mock target with each pair of settings."""
    held, member = is_member[shadow], is_member[mock]
    found = np.full(len(grid), np.nan)
    if not len(shadow) or not member.any() or member.all():
        return found
    ratios: dict[float, tuple[FloatArray, FloatArray | None]] = {}
    for i, (gamma, a) in enumerate(grid):
        if a not in ratios:
            others = None
            if points is not None and kind == "holdout":
                others = _one_target(points, mock, shadow, None, online, a)
            ratios = {a: (_one_target(values, mock, shadow, held, online, a), others)}
        x, others = ratios[a]
        own = None
        if others is None:
            own = ~member if kind == "non-members" else np.ones(len(member), dtype=bool)
        zs = x[own] if others is None else others
        score = dominated(x[None], zs[None], own, float(np.log(gamma)))
        known = ~np.isnan(score)
        if member[known].any() and not member[known].all():
            found[i] = auc(score[known], member[known])
    return found


def _one_target(
    values: NDArray[Any],
    target: int,
    shadow: IntArray,
    held: BoolArray | None,
    online: bool,
    a: float,
) -> FloatArray:
    """Return one target's mean ratios from the shadow models named; no ``held``: all are out."""
    ratios = []
    for k in range(views_of(values)):
        view = values if values.ndim == 2 else values[..., k]
        log_p = log_probability(np.asarray(view[target], dtype=np.float64))
        shadow_p = log_probability(np.asarray(view[shadow], dtype=np.float64))
        out = np.ones(shadow_p.shape, dtype=bool) if held is None else ~held
        prior = _log_mean(shadow_p, out)
        if not online:
            prior = log_prior(prior, np.asarray(a))
        elif held is not None:
            prior = log_mean_of_two(_log_mean(shadow_p, held), prior)
        ratios.append(log_p - prior)
    found: FloatArray = log_mean_of_views(np.stack(ratios))[0]
    return found


def _log_mean(log_p: FloatArray, chosen: BoolArray) -> FloatArray:
    count = chosen.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = np.logaddexp.reduce(np.where(chosen, log_p, -np.inf), axis=0)
        return np.where(count > 0, total - np.log(count), np.nan)
