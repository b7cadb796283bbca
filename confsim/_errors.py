"""Checks of arguments, so that every error names the argument, what it was and what was expected.

``ValueError`` and ``TypeError`` are for callers of the Python API; a command prints their message
as one line and exits with 2.
"""

import inspect
import itertools
import math
import shlex
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import numpy as np

from confsim._suggest import did_you_mean

#: Scores beyond this are of no model, and their squares overflow in attacks.
_LARGEST_SCORE = 1e100


class ConfsimError(Exception):
    """A failure that is no bad argument: one clear line for the user, exit code 1."""


class ConfsimWarning(UserWarning):
    """Something a user should know about a result."""


def how_to_install(extra: str) -> str:
    """Return the command that installs what an optional part of confsim needs beside it.

    It names the packages themselves, which works wherever confsim was installed from.
    """
    needed = [line.split(";") for line in requires("confsim") or ()]
    packages = [name.strip() for name, *only in needed if f'"{extra}"' in "".join(only)]
    return "pip install " + " ".join(f"'{name}'" for name in sorted(packages))


def to_copy(*words: object) -> str:
    """Return a command line that a shell takes apart into ``words`` again, whatever is in them.

    Examples
    --------
    >>> to_copy("confsim-report", Path("my run"))
    "confsim-report 'my run'"
    >>> to_copy("confsim-report", Path("-run"))
    'confsim-report ./-run'
    """
    return shlex.join(_no_flag(word) if isinstance(word, Path) else str(word) for word in words)


def _no_flag(path: Path) -> str:
    """Return a path as an argument that no command takes for one of its flags."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def check_integer(name: str, value: Any, *, minimum: int | None = None) -> int:
    """Return ``value`` as an ``int``, or say what is wrong with argument ``name``."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    number = int(value)
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, not {number}")
    return number


def check_number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
) -> float:
    """Return ``value`` as a finite ``float`` in the bounds, or say what is wrong with ``name``."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} must be a number, not {value!r}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, not {number}")
    if above is not None and not number > above:
        raise ValueError(f"{name} must be greater than {above:g}, not {number:g}")
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} must be at least {minimum:g}, not {number:g}")
    if maximum is not None and number > maximum:
        raise ValueError(f"{name} must be at most {maximum:g}, not {number:g}")
    return number


def check_boolean(name: str, value: Any) -> bool:
    """Return ``value`` if it is true or false; text such as ``"no"`` would count as true."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise TypeError(f"{name} must be True or False, not {value!r}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``choices``, or list them."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return str(value)


def check_mapping(name: str, value: Any) -> None:
    """Raise ``TypeError`` for arrays that have no names."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping of names to arrays, not {type(value).__name__}")


def check_keywords(
    name: str, function: Callable[..., Any], given: Iterable[str], settings: Iterable[str]
) -> None:
    """Raise ``TypeError`` where ``given`` are not among the ``**settings`` of a function."""
    named = inspect.signature(function).parameters.values()
    known = sorted({*settings, *(p.name for p in named if p.kind is p.KEYWORD_ONLY)})
    for keyword in given:
        if keyword not in known:
            remedy = did_you_mean(keyword, known) or f": it has {', '.join(known)}"
            raise TypeError(f"{name} has no argument {keyword}{remedy}")


def check_same_order(given: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` if objects of pandas hold the same rows in different orders.

    Values are taken by position. Indexes of other rows say nothing about the order.
    """
    indexes = [
        (name, value.index)
        for name, value in given.items()
        if hasattr(getattr(value, "index", None), "equals")  # lists have a method of that name
    ]
    for (other, known), (name, index) in itertools.combinations(indexes, 2):
        if len(index) != len(known) or index.equals(known):
            continue
        if index.isin(known).all() and known.isin(index).all():
            raise ValueError(
                f"{name} and {other} have the same index in different orders: give "
                f"{name}.loc[{other}.index], or to_numpy() of both if the rows fit as they are"
            )


def as_array(name: str, given: Any) -> "np.ndarray[Any, Any]":
    """Return what was given as an array: lists, DataFrames, tensors of other frameworks.

    Raises
    ------
    TypeError, ValueError
        If it cannot be one (a tensor on a GPU), or has masked entries, which would come back.
    """
    if np.ma.is_masked(given):
        raise ValueError(f"{name} has masked entries: fill or leave them out")
    try:
        array: np.ndarray[Any, Any] = np.asarray(given)
        if array.dtype.kind == "O" and hasattr(given, "to_numpy"):
            # Nullable columns of pandas; what is missing is NaN.
            array = given.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise TypeError(f"{name} cannot be read as an array: {why}") from None
    return array


def as_reals(name: str, given: Any) -> "np.ndarray[Any, Any]":
    """Return :func:`as_array` of real numbers that float64 holds; see there."""
    array = as_array(name, given)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"{name} must be real numbers (float32, float64), not {array.dtype}")
    return array


def as_float64(name: str, given: Any) -> "np.ndarray[Any, Any]":
    """Return :func:`as_reals` in float64."""
    return as_reals(name, given).astype(np.float64, copy=False)


def check_finite(name: str, array: "np.ndarray[Any, Any]") -> None:
    """Raise ``ValueError`` naming the first row of ``array`` that holds NaN or infinity."""
    # A sum is finite when all terms are and nothing overflows: one pass without a temporary.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.sum(array)):
            return
    finite = np.isfinite(array)
    if not finite.all():
        row = int(np.argmin(finite.reshape(len(array), -1).all(axis=1)))
        raise ValueError(f"{name} must be finite, but row {row} holds NaN or infinity")


def check_size(name: str, array: "np.ndarray[Any, Any]") -> None:
    """Raise ``ValueError`` naming the first row that is not finite or overflows in attacks."""
    check_finite(name, array)
    if array.dtype.kind != "f" or array.dtype.itemsize < 8 or not array.size:
        return
    if max(abs(array.min()), abs(array.max())) > _LARGEST_SCORE:
        largest = np.abs(array).reshape(len(array), -1).max(axis=1)
        row = int(np.argmax(largest > _LARGEST_SCORE))
        raise ValueError(
            f"{name} must be at most {_LARGEST_SCORE:g} in size, but row {row} holds "
            f"{array[row].flat[np.abs(array[row]).argmax()]:g}"
        )
