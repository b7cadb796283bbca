"""Who is what: the holdout of a run, the members of a trial, the order of an epoch.

Pure functions of labels, groups and addressed random streams.
"""

import numpy as np
from numpy.typing import NDArray

from confsim.deep.datasets import stratified
from confsim.seeds import Purpose, stream

DESIGNS = ("independent", "balanced", "coin")
AUGMENTATIONS = ("none", "mirror", "weak")

Rows = NDArray[np.int64]


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
    other half for the next. ``coin``: each example by an independent coin that says "member" with
    probability ``ratio``; at 0.5 what bounds on epsilon assume. The number of members varies. With
    ``canaries`` (rows of the population) only they have coins, and all others are members.
    """
    if design == "coin":
        tossed = np.arange(len(labels)) if canaries is None else canaries
        coins = stream(seed, Purpose.DESIGN, trial).random(len(tossed))
        return np.setdiff1d(np.arange(len(labels)), tossed[coins >= ratio], assume_unique=True)
    count = round(ratio * len(labels))
    first = trial - trial % 2 if design == "balanced" else trial
    drawn = np.sort(stratified(labels, count, stream(seed, Purpose.DESIGN, first)))
    if trial == first:
        return drawn
    return np.setdiff1d(np.arange(len(labels)), drawn, assume_unique=True)


def epoch_batches(
    members: Rows, batch_size: int, seed: int, trial: int, epoch: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Shuffle the members into equal batches for one epoch.

    Returns
    -------
    rows : ndarray of int32, (steps, batch_size)
        The last batch is filled up with rows from the start of the epoch, so that every batch has
        one shape and layers with batch statistics see only training images.
    weights : ndarray of float32, (steps, batch_size)
        1, and 0 for what was filled up: every member counts once an epoch.
    """
    order = stream(seed, Purpose.ORDER, trial, epoch).permutation(members)
    steps = -(-len(order) // batch_size)
    weights = np.zeros(steps * batch_size, np.float32)
    weights[: len(order)] = 1
    rows = np.resize(order, steps * batch_size).astype(np.int32)
    return rows.reshape(steps, batch_size), weights.reshape(steps, batch_size)


def augmentation(
    kind: str,
    shape: tuple[int, ...],
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    cutout: bool = False,
) -> NDArray[np.int32]:
    """Draw, for images of ``shape`` (height, width), where their pixels come from.

    ``mirror`` flips half of the images; ``weak`` also shifts them by up to an eighth, reflecting at
    the border. With ``cutout`` a square around a uniformly drawn pixel is blanked, as far as it is
    in the image (DeVries & Taylor 2017).

    Returns
    -------
    ndarray of int32, (*size, 3), with ``cutout`` (*size, 5)
        Whether mirrored, rows down, columns right; the row and the column of the square's centre.
        Images are moved on the device: these few numbers are all that goes there.
    """
    flips = rng.random(size) < (0.0 if kind == "none" else 0.5)
    reach = [max(1, extent // 8) if kind == "weak" else 0 for extent in shape[:2]]
    drawn = [flips, *(rng.integers(-r, r + 1, size) for r in reach)]
    if cutout:
        drawn += [rng.integers(0, extent, size) for extent in shape[:2]]
    return np.stack(drawn, axis=-1).astype(np.int32)


#: Shifts of query augmentation in units of a sixteenth of the image, nearest first.
_SHIFTS = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]

#: Each shift as it is and mirrored.
MAX_QUERY_AUGMENT = 2 * len(_SHIFTS)


def query_sources(shape: tuple[int, ...], index: int) -> NDArray[np.int32] | None:
    """Return where the pixels of query augmentation ``index`` come from; ``None`` for 0, itself.

    Odd ones are mirrored; 2k and 2k+1 share the k-th shift. As :func:`augmentation`, of shape (3,).
    """
    if index == 0:
        return None
    steps = [max(1, extent // 16) for extent in shape[:2]]
    down, right = _SHIFTS[index // 2]
    return np.array([index % 2, down * steps[0], right * steps[1]], np.int32)
