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

#: Draws of coins that may come up all alike before that is no accident.
_ATTEMPTS = 1000


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
        return coin_rows(len(labels), canaries, seed, trial, ratio, attempts=1)[0]
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
    population: int,
    canaries: Rows | None,
    seed: int,
    trial: int,
    ratio: float = 0.5,
    attempts: int = _ATTEMPTS,
) -> tuple[Rows, int]:
    """Draw the members of a trial by independent coins.

    Coins that come up all alike leave nothing to compare; they are thrown again, ``attempts`` times
    at most. Thrown again, few coins are no longer independent.

    Parameters
    ----------
    population : int
        Its size.
    canaries : ndarray of int64, optional
        The rows that coins decide on; the others are always members. Default: all.
    seed, trial : int
    ratio : float
        How often a coin says "member"; at one half it is fair, as bounds on epsilon assume.

    Returns
    -------
    members : ndarray of int64
        Rows, ascending.
    redraws : int
        How often the coins were thrown again.
    """
    decided = np.arange(population, dtype=np.int64) if canaries is None else canaries
    for attempt in range(attempts):
        heads = stream(seed, Purpose.COIN, trial, attempt).random(len(decided)) < ratio
        if heads.any() and not heads.all():
            break
    member = np.ones(population, dtype=bool)
    member[decided] = heads
    return np.flatnonzero(member).astype(np.int64), attempt
