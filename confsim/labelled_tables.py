"""Tables whose rows are examples: which column is the label, which the id, and what is learnt from.

Estimators get columns as they are, text as categories; networks get one number or several for each
column. Nothing here standardises, draws or trains.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confsim import tabular
from confsim._suggest import did_you_mean
from confsim.given_files import first_twice, given_path, load_npz

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]

#: Categories of a column that become numbers, the commonest first.
MAX_CATEGORIES = 100

#: Of fewer rows it is no wonder if most texts differ.
_MANY_ROWS = 10

#: float32 holds whole numbers up to here.
_WHOLE = 1 << 24


@dataclass(frozen=True, eq=False)
class LabelledTable:
    """Examples and what is to be predicted of them.

    Attributes
    ----------
    X : DataFrame or ndarray
        Text as categories, the same for every trial.
    y : ndarray
    ids : ndarray or None
    notes : tuple of str
        What the owner of the data should know of how they were read.
    group : ndarray or None
        Groups that results are told apart by.
    """

    X: Any
    y: Any
    ids: Any
    notes: tuple[str, ...] = field(default=())
    group: Any = None


def read(
    path: str | Path,
    *,
    label: str | None,
    id_column: str | None = None,
    drop: Sequence[str] = (),
    group: str | None = None,
    limit: int | None = None,
) -> LabelledTable:
    """Read a table: CSV of every usual dialect, Parquet, Feather or npz.

    Parameters
    ----------
    path : path
    label, id_column : str or None
        Columns, or arrays of an npz file.
    drop : sequence of str
        Columns that are not used.
    group : str, optional
        Column of groups that results are told apart by; it is learnt from like any other, unless it
        is in ``drop``.
    limit : int, optional
        Bytes that the file may unpack to.

    Raises
    ------
    ValueError
        If it cannot be read, or has no such column: the message lists those that there are.
    """
    if label is None:
        raise ValueError(f"{path} needs --label COLUMN (label), the classes or values to predict")
    file = given_path(path)
    named = (label, *([] if id_column is None else [id_column]), *drop)
    twice = first_twice(named)
    if twice is not None:
        raise ValueError(f"{path}: column {twice!r} is named twice among label, id and drop")
    if file.suffix == ".npz":
        return _from_arrays(path, load_npz(file, limit), label, id_column, drop, group)
    asked = (*named, *([] if group is None else [group]))
    table, notes = _frame(file, asked, limit)
    names = [str(name) for name in table.columns]
    twice = first_twice(names)
    if twice is not None:
        raise ValueError(f"{path}: column {twice!r} is there twice")
    table.columns = names
    for name in asked:
        _check_column(path, name, names)
    if len(table) == 0:
        raise ValueError(f"{path} has no rows")
    y = table[label]
    if y.isna().any():
        row = int(np.argmax(y.isna().to_numpy()))
        raise ValueError(f"{path}: column {label} must not be missing, but row {row} is")
    used = [n for n in names if n not in named]
    if not used:
        raise ValueError(f"{path} has no column beside {label} to learn from")
    X = table[used].copy()
    said = [f"{path}: the label {words}" for words in _alike(y)]
    for name in used:
        said += [f"{path}: column {name} {words}" for words in _oddities(X[name])]
        X[name] = _usable(path, name, X[name])
    ids = None if id_column is None else table[id_column].to_numpy()
    groups = None if group is None else table[group].astype(object).to_numpy()
    return LabelledTable(X, y.to_numpy(), ids, (*notes, *said), groups)


def _frame(
    file: Path, wanted: Sequence[str], limit: int | None
) -> tuple["pd.DataFrame", tuple[str, ...]]:
    if file.suffix == ".parquet":
        return tabular.parquet_frame(file, limit), ()
    if file.suffix in (".feather", ".arrow"):
        return tabular.feather_frame(file, limit), ()
    found = tabular.csv_frame(
        file,
        known=lambda name: name.strip() in wanted,
        missing=lambda name: ("",) if name.strip() in wanted else tabular.MISSING,
        limit=limit,
    )
    table: pd.DataFrame = found.table.rename(columns=lambda name: str(name).strip())
    if found.separator == ",":
        for name in table.columns:
            if table[name].dtype.kind not in "biuf" and _all_numbers(table[name]):
                what = f"{file}: column {name}"
                tabular.check_decimal_commas(what, map(str, table[name]))
    table, left_out = _without_row_numbers(table, wanted)
    return table, tuple(f"{file}: {note}" for note in (*found.notes, *left_out))


def _without_row_numbers(
    table: "pd.DataFrame", wanted: Sequence[str]
) -> tuple["pd.DataFrame", list[str]]:
    """Leave out columns without a name that are empty, or number the rows; say the latter."""
    left_out, notes = [], []
    for position, name in enumerate(table.columns):
        if not re.fullmatch(r"Unnamed: \d+", name) or name in wanted:
            continue
        values = table[name]
        if values.isna().all():
            left_out.append(name)
        elif values.dtype.kind in "iu" and values.is_unique:
            left_out.append(name)
            notes.append(f"column {position + 1}, which numbers the rows, is left out")
    return table.drop(columns=left_out), notes


def _all_numbers(column: "pd.Series[Any]") -> bool:
    """Whether every value of a column of text is a number with a decimal comma."""
    values = [str(v).strip() for v in column.dropna()]
    return bool(values) and all(
        tabular.DECIMAL_COMMA.fullmatch(v) or v.lstrip("+-").isdecimal() for v in values
    )


def _usable(path: str | Path, name: str, column: "pd.Series[Any]") -> "pd.Series[Any]":
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


def _oddities(column: "pd.Series[Any]") -> Iterator[str]:
    """Say what makes categories of a column that its owner may see as something else."""
    if column.dtype.kind in "biufM" or _all_numbers(column):
        return
    yield from _alike(column)
    rows = np.flatnonzero(column.notna())
    known = [str(value) for value in column.dropna()]
    odd = [place for place, text in enumerate(known) if not _is_written_number(text)]
    if 0 < len(odd) < len(known) / 2:
        yield (
            f"is taken as categories, since {known[odd[0]][:40]!r} in row {rows[odd[0]]} is no "
            "number: mend it if the others are numbers"
        )


def _is_written_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return tabular.DECIMAL_COMMA.fullmatch(text.strip()) is not None
    return True


def _alike(column: "pd.Series[Any]") -> Iterator[str]:
    """Say which texts differ in nothing but blanks and capitals."""
    if column.dtype.kind in "biufM":
        return
    first: dict[str, str] = {}
    for text in column.dropna().astype(str).unique():
        other = first.setdefault(text.strip().casefold(), text)
        if other != text:
            yield f"holds {other!r} and {text!r}, which stay two"
            return


def _check_column(path: str | Path, name: str, names: Sequence[str]) -> None:
    if name not in names:
        hint = did_you_mean(name, names) or ""
        shown = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
        raise ValueError(f"{path} has no column {name!r}{hint}; it has {shown}")


def _from_arrays(
    path: str | Path,
    arrays: dict[str, Any],
    label: str,
    id_column: str | None,
    drop: Sequence[str],
    group: str | None,
) -> LabelledTable:
    """Return the arrays of an npz file: the label, and the one other that is left."""
    for name in (label, id_column, group, *drop):
        if name is not None:
            _check_column(path, name, list(arrays))
    left = [n for n in arrays if n not in (label, id_column, group, *drop)]
    if len(left) != 1:
        raise ValueError(
            f"{path} must hold one array to learn from, not {', '.join(left) or 'none'}: leave the "
            "others out with --drop"
        )
    X, y = arrays[left[0]], arrays[label]
    ids = None if id_column is None else arrays[id_column]
    groups = None if group is None else arrays[group]
    for name, values in ((label, y), (id_column, ids), (group, groups)):
        if values is not None and len(np.atleast_1d(values)) != len(np.atleast_1d(X)):
            raise ValueError(
                f"{path}: {name} must have one entry for each of the {len(np.atleast_1d(X))} rows "
                f"of {left[0]}, but has shape {values.shape}"
            )
    return LabelledTable(X, y, ids, group=groups)


# ---- ids ----------------------------------------------------------------------------------------


def example_ids(
    what: str, values: Array | None, count: int
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return a number for each example, and names where they are no numbers.

    Raises
    ------
    ValueError
        If one is there twice, is negative, or has a fraction.
    """
    if values is None:
        return np.arange(count, dtype=np.int64), ()
    if values.ndim != 1:
        raise ValueError(f"{what}: id must have one value an example, not shape {values.shape}")
    if values.dtype.kind == "f" and (np.isnan(values) | (values != np.floor(values))).any():
        raise ValueError(f"{what}: id must be whole numbers or names")
    if values.dtype.kind == "O":
        values = np.array([str(value) for value in values])
    unique, counts = np.unique(values, return_counts=True)
    if len(unique) < count:
        twice = unique[counts > 1][0]
        raise ValueError(f"{what}: id must not hold a value twice, but {twice} is there twice")
    if values.dtype.kind not in "iuf":
        return np.arange(count, dtype=np.int64), tuple(str(v) for v in values)
    if values.min() < 0:
        raise ValueError(f"{what}: id must be at least 0, but {values.min()} is there")
    if not values.max().item() < 1 << 63:
        row = int(np.argmax(values))
        raise ValueError(f"{what}: id must be below 2**63, but row {row} is {values[row]}")
    return values.astype(np.int64), ()


# ---- numbers ------------------------------------------------------------------------------------


def numbers(table: LabelledTable, source: str) -> tuple[Array, tuple[str, ...]]:
    """Return a table as float32 (examples, d), NaN where a number is missing, and notes.

    An array of uint8 stays what it is.

    A column of numbers is one dimension; a column of categories is one of zeros and ones for each
    of its :data:`MAX_CATEGORIES` commonest (a missing one is zero throughout).

    Raises
    ------
    ValueError
        If a column holds what float32 cannot, or dates.
    """
    if not hasattr(table.X, "iloc"):
        X = table.X
        if X.ndim != 2 or X.dtype.kind not in "biuf":
            raise ValueError(
                f"{source} must hold rows of numbers (examples, d), not {X.dtype} {X.shape}"
            )
        if X.dtype == np.uint8:
            return X, ()
        return _single(X, lambda k: f"{source}: column {k}"), ()
    parts, notes = [], []
    for name in table.X:
        column = table.X[name]
        what = f"{source}: column {name}"
        if is_number(column):
            values = column.to_numpy(dtype=np.float64, na_value=np.nan)
            parts.append(_single(values[:, None], lambda _, what=what: what))
        elif str(column.dtype) == "category" or column.dtype.kind not in "Mm":
            ones, categories = one_hot(column)
            parts.append(ones.astype(np.float32))
            if categories > MAX_CATEGORIES:
                notes.append(
                    f"{what} has {categories:,} categories, of which the {MAX_CATEGORIES} "
                    "commonest are told apart"
                )
            elif len(column) >= _MANY_ROWS and categories > len(column) / 2:
                notes.append(
                    f"{what} has {categories:,} categories in {len(column):,} rows: if they name "
                    f"rows, or are numbers with a sign, leave it out with --drop {name}"
                )
        else:
            raise ValueError(f"{what} holds dates: leave it out with --drop {name}")
    return np.ascontiguousarray(np.concatenate(parts, axis=1)), tuple(notes)


def is_number(column: "pd.Series[Any]") -> bool:
    """Whether a column holds numbers, or truth values."""
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column))


def one_hot(column: "pd.Series[Any]") -> tuple[NDArray[np.float64], int]:
    """Return a column of zeros and ones for each of the commonest values, and how many there are.

    Equally common ones are ordered by name; where a value is missing, all are zero.
    """
    present = column.notna()
    text = column.astype(object)
    counts = text[present].astype(str).value_counts()
    names = sorted(counts.index, key=lambda name: (-counts[name], name))[:MAX_CATEGORIES]
    written = text.where(present, None).to_numpy()
    known = np.array([None if v is None else str(v) for v in written], dtype=object)
    if not names:
        return np.zeros((len(column), 1)), 0
    return np.stack([known == name for name in names], axis=1).astype(np.float64), len(counts)


def _single(values: Array, what: Any) -> NDArray[np.float32]:
    """Return float32; refuse infinite values and whole numbers that it would round."""
    wide = values.astype(np.float64)
    with np.errstate(over="ignore"):
        single = wide.astype(np.float32)
    rounded = (wide == np.floor(wide)) & (np.abs(wide) > _WHOLE) & (single != wide)
    for wrong, why in (
        (np.isinf(single), "holds a number beyond float32, or infinity"),
        (rounded, "holds a whole number that float32 would round"),
    ):
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise ValueError(
                f"{what(column)} {why}, {values[row, column]} in row {row}: rescale it, or leave "
                "it out with --drop"
            )
    return single
