"""Tables for an estimator, of every usual kind; which column is the label, which the id."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from confsim import tabular
from confsim._suggest import did_you_mean
from confsim.given_files import given_path, load_npz

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Data:
    """What an estimator is fitted to.

    Attributes
    ----------
    X : DataFrame or ndarray
        Text as categories, the same for every trial.
    y : ndarray
    ids : ndarray or None
    """

    X: Any
    y: Any
    ids: Any


def read(path: str, *, label: str | None, id_column: str | None, drop: Sequence[str]) -> Data:
    """Read a table.

    Raises
    ------
    ValueError
        If it cannot be read, or has no such column: the message lists those that there are.
    """
    if label is None:
        raise ValueError("--data needs --label COLUMN, the classes or values to predict")
    file = given_path(path)
    if file.suffix == ".npz":
        return _from_arrays(path, load_npz(file), label, id_column, drop)
    table = _frame(file, (label, *([] if id_column is None else [id_column]), *drop))
    names = [str(name) for name in table.columns]
    table.columns = names
    for name in (label, id_column, *drop):
        if name is not None:
            _check_column(path, name, names)
    y = table[label]
    if y.isna().any():
        row = int(np.argmax(y.isna().to_numpy()))
        raise ValueError(f"{path}: column {label} must not be missing, but row {row} is")
    used = [n for n in names if n not in (label, id_column, *drop)]
    if not used:
        raise ValueError(f"{path} has no column beside {label} to learn from")
    X = table[used].copy()
    for name in used:
        X[name] = _usable(path, name, X[name])
    ids = None if id_column is None else table[id_column].to_numpy()
    return Data(X, y.to_numpy(), ids)


def _frame(file: Path, wanted: Sequence[str]) -> "pd.DataFrame":
    if file.suffix == ".parquet":
        return tabular.parquet_frame(file)
    if file.suffix in (".feather", ".arrow"):
        return tabular.feather_frame(file)
    found = tabular.csv_frame(
        file,
        known=lambda name: name.strip() in wanted,
        missing=lambda name: ("",) if name.strip() in wanted else tabular.MISSING,
    )
    table: pd.DataFrame = found.table.rename(columns=lambda name: str(name).strip())
    if found.separator == ",":
        for name in table.columns:
            if table[name].dtype.kind not in "biuf" and _all_numbers(table[name]):
                tabular.check_decimal_commas(name, map(str, table[name]))
    return table


def _all_numbers(column: "pd.Series[Any]") -> bool:
    """Whether every value of a column of text is a number with a decimal comma."""
    values = [str(v).strip() for v in column.dropna()]
    return bool(values) and all(
        tabular.DECIMAL_COMMA.fullmatch(v) or v.lstrip("+-").isdecimal() for v in values
    )


def _usable(path: str, name: str, column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return a column as estimators take them: numbers, or categories."""
    if column.dtype.kind in "biufM" or str(column.dtype) == "category":
        return column
    if column.dropna().map(lambda v: isinstance(v, (list, tuple, dict, np.ndarray))).any():
        raise ValueError(f"{path}: column {name} holds lists: leave it out with --drop {name}")
    if _all_numbers(column):
        return column.map(lambda v: float(str(v).replace(",", ".")), na_action="ignore").astype(
            "float64"
        )
    return column.astype("category")


def _check_column(path: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        hint = did_you_mean(name, names) or ""
        shown = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
        raise ValueError(f"{path} has no column {name!r}{hint}; it has {shown}")


def _from_arrays(
    path: str, arrays: dict[str, Any], label: str, id_column: str | None, drop: Sequence[str]
) -> Data:
    """Return the arrays of an npz file: the label, and the one other that is left."""
    for name in (label, id_column, *drop):
        if name is not None:
            _check_column(path, name, list(arrays))
    left = [n for n in arrays if n not in (label, id_column, *drop)]
    if len(left) != 1:
        raise ValueError(
            f"{path} must hold one array to learn from, not {', '.join(left) or 'none'}: leave the "
            "others out with --drop"
        )
    return Data(arrays[left[0]], arrays[label], None if id_column is None else arrays[id_column])
