"""What pandas says of columns that it holds: which class each column of outputs stands for.

Arrays have positions only. The names of a frame's columns say more, where they are the classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from confsim.auditing.columns import PER_CLASS, Given, check_names, clean, clean_all

_OUTPUTS = tuple(name for name in PER_CLASS if name != "features")


def from_columns(given: Mapping[str, Any]) -> Given:
    """Return columns that were given by name: arrays, lists, objects of pandas.

    Raises
    ------
    ValueError, TypeError
        If a column is unknown or holds something else, or two of them are in different orders.
    """
    check_names(given)
    columns = dict(given)
    found: Sequence[Any] | None = None
    for name in _OUTPUTS:
        called = _classes(name, columns)
        if called is None:
            continue
        classes = sorted(called)
        if len(classes) < columns[name].shape[1]:
            raise ValueError(f"{name} has two columns for one class")
        if found is not None and classes != found:
            raise ValueError(f"{name} has columns for {classes}, and other outputs for {found}")
        columns[name], found = columns[name][[called[c] for c in classes]], classes
    plain = found is None or found == list(range(len(found)))
    return Given(clean_all(columns), classes=None if plain else found)


def _classes(name: str, columns: Mapping[str, Any]) -> dict[Any, Any] | None:
    """Return the columns of a frame by their classes, where that is what they are called by."""
    frame: Any = columns.get(name)
    if not hasattr(frame, "iloc") or frame.ndim != 2 or frame.shape[1] < 2:
        return None
    names = list(frame.columns)
    if all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in names):
        return {int(n): n for n in names}
    labels = columns.get("holdout_label" if name.startswith("holdout") else "label")
    if labels is None or not all(isinstance(n, str) for n in names):
        return None
    text = clean("label", labels)
    if text.dtype.kind != "U" and all(n.isdecimal() and n.isascii() for n in names):
        return {int(n): n for n in names}
    known = text.dtype.kind == "U" and np.isin(text[text != ""], names).all()
    return {n: n for n in names} if known else None
