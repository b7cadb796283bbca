"""What a reader returns, and how labels become numbers."""

from typing import Any, NamedTuple

import numpy as np

from confsim.deep.data.limits import DataError
from confsim.experiment import Coded


class Images(NamedTuple):
    """What a reader returns.

    Attributes
    ----------
    images : ndarray of uint8 or float32
        (n, height, width, channels), or (n, features) for plain arrays.
    labels : ndarray of int64
        (n,), 0..K-1.
    ids : ndarray of int64
        (n,), ascending.
    names : tuple of str
        The K names of the labels.
    notes : tuple of str
        What the owner of the data should know about how they were read: a line each.
    id_names : tuple of str
        What examples are called where they have names; empty where they are numbered.
    own_groups : Coded or None
        Groups of the user's own.
    """

    images: "np.ndarray[Any, Any]"
    labels: "np.ndarray[Any, Any]"
    ids: "np.ndarray[Any, Any]"
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    id_names: tuple[str, ...] = ()
    own_groups: Coded | None = None


def encode_labels(labels: "np.ndarray[Any, Any]") -> tuple["np.ndarray[Any, Any]", tuple[str, ...]]:
    """Map labels of any sortable kind to 0..K-1 in sorted order, and return the K names."""
    if labels.dtype.kind not in "iubUSf" or (
        labels.dtype.kind == "f" and not np.isfinite(labels).all()
    ):
        raise DataError("labels must be integers, text, booleans or finite numbers")
    values, codes = np.unique(labels, return_inverse=True)
    return codes.reshape(-1).astype(np.int64), tuple(map(_name, values.tolist()))


def _name(value: Any) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise DataError(f"label {value!r} is not UTF-8: store labels as text") from None
