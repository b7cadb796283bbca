"""Random streams: one seed a run, one independent generator for each (purpose, trial, attempt).

Trial 17 draws the same numbers whether it runs first, last, alone or on another machine, because
its streams are addressed and never shared. The codes below are part of every run's identity: they
are never changed and never used twice.
"""

from enum import IntEnum

import numpy as np

from confsim._errors import check_integer


class Purpose(IntEnum):
    """What a stream is for."""

    QUERIES = 1
    TRAINING = 2
    LABEL_NOISE = 3
    HOLDOUT = 4
    DESIGN = 5
    WEIGHTS = 6
    ORDER = 7
    DROPOUT = 8
    AUGMENT = 9
    LIMIT = 10
    BOOTSTRAP = 11
    MATCHED = 12
    CHANCE = 13
    CANARIES = 15


def sequence(
    seed: int, purpose: Purpose, trial: int = 0, attempt: int = 0
) -> np.random.SeedSequence:
    """Return the seed sequence of an address; see :func:`stream`."""
    check_integer("seed", seed, minimum=0)
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), trial, attempt))


def stream(seed: int, purpose: Purpose, trial: int = 0, attempt: int = 0) -> np.random.Generator:
    """Return the generator of an address.

    Parameters
    ----------
    seed : int
        The run's seed, at least 0.
    purpose : Purpose
        What the numbers are for.
    trial, attempt : int
        The trial's number, and how many draws of it were rejected before this one.

    Raises
    ------
    ValueError
        If ``seed`` is negative.
    """
    return np.random.Generator(np.random.PCG64(sequence(seed, purpose, trial, attempt)))
