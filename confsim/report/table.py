"""What a table of the report is: its columns, its rows, its CSV file and its cells in the page."""

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from confsim.report.numbers import number
from confsim.report.numbers import with_interval as shown_with_interval
from confsim.store import artifacts

#: Significant digits where no interval says how many there should be.
_DIGITS = 3

#: Numbers of a column have as many decimals as each other if none is so many times another.
_SIMILAR = 30


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    key : str
        Its name in the CSV file. With ``key_low`` and ``key_high`` beside it: an interval.
    title : str
        Its head in the page.
    meaning : str
        What it holds, with its unit and what its interval is.
    folded : bool
        Whether the page shows it on demand only; print and pages without scripts always do.
    """

    key: str
    title: str
    meaning: str
    folded: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of the page.

    Attributes
    ----------
    text : str
    value : str
        The number that it is sorted by, empty for texts and unknown numbers.
    """

    text: str
    value: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    name : str
        Of its CSV file.
    title : str
    columns : list of Column
    rows : list of dict
        By the columns' keys; ``KEY_low`` and ``KEY_high`` hold a value's interval.
    note : str
    folded : bool
        Whether the page shows it on demand only.
    """

    name: str
    title: str
    columns: list[Column]
    rows: list[dict[str, Any]]
    note: str = ""
    folded: bool = False

    @property
    def fields(self) -> list[str]:
        """Columns of the CSV file."""
        found = []
        for column in self.columns:
            found.append(column.key)
            ends = [f"{column.key}_low", f"{column.key}_high"]
            if any(end in row for row in self.rows for end in ends):
                found += ends
        return found

    def cells(self) -> list[list[tuple[Column, Cell]]]:
        """Return for the page each row's cells, each with its column."""
        places = [self._places(column.key) for column in self.columns]
        return [
            [(c, _cell(row, c.key, p)) for c, p in zip(self.columns, places, strict=True)]
            for row in self.rows
        ]

    def _places(self, key: str) -> int | None:
        """Return how many decimals the numbers of a column share, ``None`` where each has its own.

        They do where all are of the same kind, have no intervals, and are of similar size.
        """
        found = [row[key] for row in self.rows if isinstance(row.get(key), float)]
        sizes = [abs(value) for value in found if value and math.isfinite(value)]
        of_a_kind = self.columns[0].key != "figure" and f"{key}_low" not in self.fields
        if not of_a_kind or len(sizes) < 2 or max(sizes) > _SIMILAR * min(sizes):
            return None
        # One that is 1 has as many as those just below it.
        return max(0, _DIGITS - 1 - math.floor(math.log10(0.999 * max(sizes))))

    @property
    def says_something(self) -> "Table":
        """The table without rows that hold nothing but their names, and without empty columns."""
        columns = [c for c in self.columns if any(_known(row.get(c.key)) for row in self.rows)]
        rows = [
            row
            for row in self.rows
            if any(_known(row.get(c.key)) and not isinstance(row[c.key], str) for c in columns)
        ]
        return replace(self, columns=columns or self.columns, rows=rows)

    def of(self, called: Callable[[str], str]) -> "Table":
        """Return the table with its title, note and what it says of its columns in other words."""
        columns = [
            replace(c, title=called(c.title), meaning=called(c.meaning)) for c in self.columns
        ]
        note = called(self.note)
        return replace(self, title=called(self.title), columns=columns, note=note)

    def write(self, folder: Path) -> str:
        """Write the CSV file; return its name."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.fields, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows({k: _plain(v) for k, v in row.items()} for row in self.rows)
        path = folder / f"{self.name}.csv"
        artifacts.write(path, text.getvalue().encode(errors="backslashreplace"))
        return path.name


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return artifacts.csv_text(value)
    return "" if isinstance(value, float) and math.isnan(value) else value


def _known(value: Any) -> bool:
    return value is not None and value != "" and not (isinstance(value, float) and value != value)


def _cell(row: dict[str, Any], key: str, places: int | None = None) -> Cell:
    value = row.get(key)
    if isinstance(value, str):
        return Cell(value)
    if isinstance(value, (bool, np.bool_)):
        return Cell("yes" if value else "no")
    if value is None:
        return Cell("")
    sorted_by = "" if math.isnan(value) else repr(float(value))
    if isinstance(value, (int, np.integer)):
        return Cell(f"{value:,}", sorted_by)
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    if places is not None and sorted_by and value:
        return Cell(f"{value:,.{places}f}", sorted_by)
    if low is None or high is None:
        return Cell(number(float(value), _DIGITS), sorted_by)
    return Cell(shown_with_interval(float(value), float(low), float(high), _DIGITS), sorted_by)
