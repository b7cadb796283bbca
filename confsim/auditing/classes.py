"""Which class each column of logits or probabilities stands for, and what classes are called."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim._errors import check_finite

Array = NDArray[Any]
Int64Array = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Classes:
    """The classes of a classifier.

    Attributes
    ----------
    numbers : ndarray of int64, (classes,)
        The class of each column of outputs, ascending.
    names : tuple of str
        What the classes are called, by number; empty where they are numbers.
    named_columns : bool
        Whether the columns of outputs are called by the names.
    """

    numbers: Int64Array
    names: tuple[str, ...] = ()
    named_columns: bool = False

    @classmethod
    def of(
        cls,
        labels: Array | None,
        count: int | None,
        columns: Sequence[int] | Sequence[str] | None = None,
    ) -> "Classes":
        """Work out the classes from what is known of them.

        Parameters
        ----------
        labels : ndarray of numbers or text, optional
            All true classes that are known.
        count : int, optional
            Number of columns of outputs, if there are any.
        columns : sequence of int or str, optional
            What a file calls these columns.

        Raises
        ------
        ValueError
            If it cannot be told which column belongs to which name.
        """
        if columns is not None and len(columns) and isinstance(columns[0], str):
            names = tuple(str(name) for name in columns)
            if labels is not None and labels.dtype.kind != "U":
                raise ValueError(
                    f"label holds numbers, but the columns of classes are called {_few(names)}"
                )
            return cls(np.arange(len(names)), names, named_columns=True)
        if labels is not None and labels.dtype.kind == "U":
            names = tuple(np.unique(labels[labels != ""]).tolist())
            if count is not None and len(names) != count:
                raise ValueError(
                    f"label holds {len(names)} names ({_few(names)}) for {count} classes: which is "
                    "which cannot be told; give numbers from 0, or call columns by class, as in "
                    f"logit_{names[0] if names else 'cat'}"
                )
            return cls(np.arange(len(names)), names)
        if columns is not None:
            return cls(np.array(columns, dtype=np.int64))
        return cls(np.arange(count or 0))

    def note(self) -> list[str]:
        """Say in which order names were taken, where columns have no names of their own."""
        if not self.names or self.named_columns:
            return []
        return [
            "classes are numbered in alphabetical order: "
            + _few([f"{number} is {name}" for number, name in enumerate(self.names)])
        ]

    def label_numbers(self, name: str, labels: Array) -> Int64Array:
        """Return the number of each label: as given, or that of its name."""
        if labels.dtype.kind != "U":
            return whole_numbers(name, labels)
        if not self.names:
            raise TypeError(f"{name} must be numbers, as label, not text")
        order = np.argsort(self.names)
        at = np.searchsorted(self.names, labels, sorter=order)
        found = order[np.minimum(at, len(order) - 1)]
        wrong = np.array(self.names)[found] != labels
        if wrong.any():
            row = int(np.argmax(wrong))
            if labels[row] == "":
                raise ValueError(f"{name} must not be missing, but row {row} is")
            raise ValueError(
                f"{name} must be one of {_few(self.names)}, but row {row} is {str(labels[row])!r}"
            )
        return found.astype(np.int64)

    def columns(self, name: str, labels: Array) -> Int64Array:
        """Return the column of outputs that belongs to each label.

        Raises
        ------
        ValueError
            If a label has none: the message names the row.
        """
        numbers = self.label_numbers(name, labels)
        at = np.searchsorted(self.numbers, numbers)
        at = np.minimum(at, len(self.numbers) - 1)
        wrong = self.numbers[at] != numbers
        if wrong.any():
            row, last = int(np.argmax(wrong)), int(self.numbers[-1])
            if last == len(self.numbers) - 1:
                hint = "; classes count from 0" if numbers.min() == 1 else ""
                raise ValueError(
                    f"{name} must be below {last + 1}, but row {row} is {labels[row]}{hint}"
                )
            raise ValueError(
                f"{name} must be one of the classes that have columns, "
                f"{_few(self.numbers.tolist())}, but row {row} is {labels[row]}"
            )
        return at.astype(np.int64)


def whole_numbers(name: str, values: Array) -> Int64Array:
    """Return values as int64, or say which is no whole number that fits.

    Raises
    ------
    ValueError
        If a value is negative, no whole number, or beyond what its type holds exactly.
    """
    if values.dtype.kind == "f":
        check_finite(name, values)
        _refuse(name, values, values != np.floor(values), "must be whole numbers")
        _refuse(name, values, np.abs(values) > 2**53, "must be below 2**53 where it is of floats")
    elif values.dtype.kind == "u":
        _refuse(name, values, values >= np.uint64(2**63), "must be below 2**63")
    found: Int64Array = values.astype(np.int64)
    _refuse(name, found, found < 0, "must be at least 0")
    return found


def _refuse(name: str, values: Array, wrong: Array, words: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{name} {words}, but row {row} is {values[row]}")


def _few(names: Sequence[Any]) -> str:
    shown = [str(name) for name in names[:6]]
    return ", ".join(shown) + (", ..." if len(names) > 6 else "")
