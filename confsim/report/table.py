"""What a table of the report is: its columns, its rows, its CSV file and its cells in the page."""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from confsim.report.numbers import number
from confsim.report.numbers import with_interval as shown_with_interval
from confsim.store import artifacts


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
    """

    key: str
    title: str
    meaning: str


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
    """

    name: str
    title: str
    columns: list[Column]
    rows: list[dict[str, Any]]
    note: str = ""

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

    def cells(self) -> list[list[tuple[str, bool]]]:
        """Return for the page each row's cells: the text, and whether it is a number."""
        return [[_cell(row, column.key) for column in self.columns] for row in self.rows]

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


def _cell(row: dict[str, Any], key: str) -> tuple[str, bool]:
    value = row.get(key)
    if isinstance(value, str):
        return value, False
    if isinstance(value, (bool, np.bool_)):
        return ("yes" if value else "no"), False
    if value is None:
        return "", False
    if isinstance(value, (int, np.integer)):
        return f"{value:,}", True
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    if low is None or high is None:
        return number(float(value)), True
    return shown_with_interval(float(value), float(low), float(high)), True
