"""Arguments that many functions share: membership, numbers and groups of trials, levels."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import check_number

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


def check_level(level: float) -> float:
    """Return a confidence level, which must be above 0 and below 1."""
    level = check_number("level", level, above=0, maximum=1)
    if level == 1:
        raise ValueError("level must be below 1")
    return level


def check_membership(is_member: ArrayLike, name: str = "is_member") -> BoolArray:
    """Return membership as booleans, of any shape.

    Parameters
    ----------
    is_member : array_like
        Boolean, or numbers that are all 0 or 1. Nothing is guessed: NaN, -1, 0.9, None, text and
        masked entries say nothing about membership.
    name : str
        The argument that an error names.

    Raises
    ------
    ValueError
        If an entry is anything else; the message names the first one and its row.

    Examples
    --------
    >>> from confsim.statistics import check_membership
    >>> check_membership([1, 0, 0.0]).tolist()
    [True, False, False]
    >>> check_membership([[1, 0], [-1, 1]])
    Traceback (most recent call last):
    ...
    ValueError: is_member must be boolean, or hold only 0 and 1, but row 1, column 0 holds -1
    """
    found = np.asarray(is_member)
    if found.dtype == np.bool_ and not np.ma.isMaskedArray(is_member):
        return found
    if found.dtype == np.bool_:
        known = np.ones(found.shape, dtype=np.bool_)
    elif found.dtype.kind in "iuf":
        known = (found == 0) | (found == 1)
    elif found.dtype.kind == "O":
        known = np.array([_is_zero_or_one(value) for value in found.flat], dtype=np.bool_)
        known = known.reshape(found.shape)
    else:
        known = np.zeros(found.shape, dtype=np.bool_)
    known = known & ~np.ma.getmaskarray(is_member) if np.ma.isMaskedArray(is_member) else known
    if not known.all():
        at = np.unravel_index(int(np.argmin(known)), known.shape)
        place = ", ".join(f"{kind} {i}" for kind, i in zip(("row", "column"), at, strict=False))
        value = np.ma.asarray(is_member)[at] if np.ma.isMaskedArray(is_member) else found[at]
        shown = repr(value.item() if isinstance(value, np.generic) else value)
        raise ValueError(
            f"{name} must be boolean, or hold only 0 and 1, but {place or 'it'} holds {shown}"
        )
    member: BoolArray = found if found.dtype == np.bool_ else found.astype(np.bool_)
    return member


def check_targets(targets: ArrayLike | None, trials: int) -> IntArray:
    """Return the number of each trial, 0, 1, ... by default.

    Raises
    ------
    ValueError
        If there is not one number for each trial, or one comes twice.
    """
    if targets is None:
        return np.arange(trials)
    found = np.asarray(targets)
    if found.shape != (trials,) or found.dtype.kind not in "iu":
        raise ValueError(
            f"targets must be a whole number for each of the {trials} trials, not {found.dtype} "
            f"of shape {found.shape}"
        )
    if len(np.unique(found)) < trials:
        raise ValueError(f"targets must be distinct, not {found.tolist()[:10]}")
    return found.astype(np.int64)


def check_row_groups(row_groups: ArrayLike | None, rows: int) -> IntArray:
    """Return the group of each row, numbered from 0; by default each row is one of its own.

    Raises
    ------
    ValueError
        If there is not one group for each row.
    """
    if row_groups is None:
        return np.arange(rows)
    found = np.asarray(row_groups)
    if found.shape != (rows,):
        raise ValueError(
            f"row_groups must have one group for each of the {rows} rows, not shape {found.shape}"
        )
    known = found == found  # NaN is no group
    if found.dtype.kind == "O":
        known = known & np.array([group is not None for group in found], dtype=np.bool_)
    if not known.all():
        raise ValueError(f"row_groups must not be missing, but row {int(np.argmin(known))} is")
    return np.unique(found, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _is_zero_or_one(value: object) -> bool:
    numeric = isinstance(value, (bool, int, float, np.bool_, np.number))
    return numeric and value in (0, 1)
