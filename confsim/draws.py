"""Who is what: the holdout of a run and the members of its trials.

Pure functions of labels, groups and addressed random streams, shared by every pipeline that draws
training sets from a population of examples. Examples without labels have label 0 throughout, and
are then simply drawn at random.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.seeds import Purpose, stream

Rows = NDArray[np.int64]

#: With more coins than this none of a run's trials has them all alike: 2**-200 is no chance.
_FEW_COINS = 200


def stratified(labels: NDArray[Any], count: int, rng: np.random.Generator) -> NDArray[Any]:
    """Draw ``count`` rows at random, each class in its share.

    Shares are rounded by largest remainder, equal remainders at random. Returns row numbers, class
    by class.
    """
    sizes = np.bincount(labels)
    quotas = sizes * count // len(labels)
    remainders = sizes * count % len(labels)
    shuffled = rng.permutation(len(sizes))
    largest = shuffled[np.argsort(-remainders[shuffled], kind="stable")]
    quotas[largest[: count - quotas.sum()]] += 1
    return np.concatenate(
        [
            rng.permutation(np.flatnonzero(labels == label))[: quotas[label]]
            for label in range(len(sizes))
        ]
    )


def holdout_rows(labels: Rows, groups: Rows, fraction: float, seed: int) -> Rows:
    """Draw the holdout: a stratified part of the data that splits no duplicate group.

    Groups are taken in random order while they fit into what is left of their classes' shares, so
    no class exceeds its share and images without duplicates fill it up.

    Returns
    -------
    ndarray of int64
        Rows, ascending.
    """
    rng = stream(seed, Purpose.HOLDOUT)
    count = round(fraction * len(labels))
    left = np.bincount(labels[stratified(labels, count, rng)], minlength=int(labels.max()) + 1)
    by_group = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[by_group], prepend=-1))
    members = np.split(by_group, starts[1:])
    taken = []
    for group in rng.permutation(len(members)):
        needed = np.bincount(labels[members[group]], minlength=len(left))
        if (needed <= left).all():
            left -= needed
            taken.append(members[group])
    return np.sort(np.concatenate(taken)) if taken else np.empty(0, np.int64)


def member_rows(
    labels: Rows, ratio: float, design: str, seed: int, trial: int, *, canaries: Rows | None = None
) -> Rows:
    """Draw the members of a trial from a population with these ``labels``; rows, ascending.

    ``independent``: a stratified random fraction. ``balanced``: a half for an even trial, and the
    other half for the next. ``coin``: see :func:`coin_rows`, which alone knows ``canaries``.
    """
    if design == "coin":
        return coin_rows(len(labels), canaries, seed, trial, ratio)
    count = round(ratio * len(labels))
    first = trial - trial % 2 if design == "balanced" else trial
    drawn = np.sort(stratified(labels, count, stream(seed, Purpose.DESIGN, first)))
    if trial == first:
        return drawn
    return np.setdiff1d(np.arange(len(labels)), drawn, assume_unique=True)


def canary_rows(population: int, count: int, seed: int) -> Rows:
    """Draw the examples of a population whose membership is left to coins; rows, ascending."""
    rng = stream(seed, Purpose.CANARIES)
    return np.sort(rng.choice(population, count, replace=False)).astype(np.int64)


def coin_rows(
    population: int, canaries: Rows | None, seed: int, trial: int, ratio: float = 0.5
) -> Rows:
    """Draw the members of a trial by independent coins; rows, ascending.

    Coins are never thrown again, whatever they show: see :func:`check_coins`.

    Parameters
    ----------
    population : int
        Its size.
    canaries : ndarray of int64, optional
        The rows that coins decide on; the others are always members. Default: all.
    seed, trial : int
    ratio : float
        How often a coin says "member"; at one half it is fair, as bounds on epsilon assume.
    """
    decided = np.arange(population, dtype=np.int64) if canaries is None else canaries
    member = np.ones(population, dtype=bool)
    member[decided] = _heads(len(decided), seed, trial, ratio)
    return np.flatnonzero(member).astype(np.int64)


def _heads(coins: int, seed: int, trial: int, ratio: float) -> NDArray[np.bool_]:
    heads: NDArray[np.bool_] = stream(seed, Purpose.COIN, trial).random(coins) < ratio
    return heads


def check_coins(coins: int, seed: int, trials: int, ratio: float = 0.5) -> None:
    """Refuse few coins that all fall alike in a trial: nothing is told apart there.

    Throwing them again would do, but they would no longer be independent, which bounds on epsilon
    assume.

    Parameters
    ----------
    coins : int
        Examples that coins decide on.
    seed, trials : int
    ratio : float

    Raises
    ------
    ValueError
        If it happens in one of the trials.
    """
    if coins > _FEW_COINS and ratio == 0.5:
        return
    for trial in range(trials):
        heads = _heads(coins, seed, trial, ratio)
        if heads.all() or not heads.any():
            raise ValueError(
                f"design 'coin': the coins of all {coins} examples fall alike in trial {trial}, "
                "and to throw them again would bias bounds on epsilon; have more canaries or "
                "examples decided by coins, or take another seed"
            )
