"""Tables as people have them: CSV of every usual dialect, Parquet, Feather, DataFrames.

One row an example; or a model and an example, where there are columns ``trial`` and ``id``. Logits,
probabilities and features are columns with a class or a number at the end of their names, or one
column of lists.
"""

import csv
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from confsim._suggest import did_you_mean
from confsim.auditing.columns import COLUMNS, SHARED, SYNONYMS, Given, check_decimal_commas, clean
from confsim.auditing.files import check_unpacked, natural_order, one_line, open_regular, unzip

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]

#: Beside the columns of an audit, the model that a row belongs to.
TRIAL = "trial"

# Logarithms of probabilities are logits, too: their softmax is the probabilities.
_PROBABILITY = r"p|probabilit(?:y|ies)|probs?|proba"
_LOGIT = rf"logits?|log_?(?:{_PROBABILITY})"
_WIDE = re.compile(rf"({_LOGIT}|{_PROBABILITY}|features?)_?(\d+)", re.IGNORECASE)
_WIDE_BY_NAME = re.compile(rf"({_LOGIT}|{_PROBABILITY})_(.+)", re.IGNORECASE)
_WIDE_NAMES = {"l": "logits", "p": "probabilities", "f": "features"}
_SINGULAR = {"logit": "logits", "probability": "probabilities", "prob": "probabilities"}
_NAMELESS = re.compile(r"(unnamed: \d+|index|level_\d+|__index_level_\d+__|)", re.IGNORECASE)

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")

#: First bytes of packed files that are not unpacked here.
_PACKED = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"PK\x03\x04": "zip",
}

#: The header's separators, the likeliest first.
_SEPARATORS = (",", ";", "\t", "|")

#: What stands for a missing number; in columns that may be text, only nothing does.
_MISSING = ("", "nan", "NaN", "NAN", "NA", "N/A", "#N/A", "null", "NULL", "None", "<NA>")


def read_parquet(path: Path) -> Given:
    """Read a Parquet file, nullable types and lists included."""
    from pyarrow import parquet

    def table(file: BinaryIO) -> Any:
        opened = parquet.ParquetFile(file)
        head = opened.metadata
        groups = [head.row_group(i) for i in range(head.num_row_groups)]
        promised = max(sum(g.total_byte_size for g in groups), head.num_rows * head.num_columns)
        check_unpacked(path, promised, path.stat().st_size)
        return opened.read()

    return _from_arrow(path, table)


def read_feather(path: Path) -> Given:
    """Read a Feather (Arrow) file."""
    from pyarrow import feather

    return _from_arrow(path, feather.read_table)


def _from_arrow(path: Path, read: Callable[[BinaryIO], Any]) -> Given:
    """Return the columns of a file of Arrow's; what pandas noted in it besides is not trusted."""
    import pyarrow as pa

    with open_regular(path) as file:
        try:
            table = read(file)
            table.validate(full=True)  # before anything follows an offset that the file gives
            frame = table.to_pandas(ignore_metadata=True)  # levels of an index are columns then
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
            if str(path) in str(error):
                raise
            raise ValueError(f"{path} cannot be read: {one_line(error)[:200]}") from None
    return from_frame(frame)


# ---- CSV ---------------------------------------------------------------------------------------


def read_csv(path: Path) -> Given:
    """Read a table of text: separators, decimal signs and encodings as spreadsheets write them."""
    import pandas as pd

    with open_regular(path) as file:
        content = file.read()
    if content.startswith(b"\x1f\x8b"):
        content = unzip(path, content)
    for start, packer in _PACKED.items():
        if content.startswith(start):
            raise ValueError(f"{path} is packed by {packer}: unpack it, or pack it by gzip")
    text, note = _decoded(content)
    if "\0" in text:
        raise ValueError(f"{path} cannot be read: it is no text, or not UTF-8: save it as UTF-8")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    separator, text = _separator(text)
    rows = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    try:
        header, first = next(rows, []), next(rows, [])
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read: {one_line(error)}") from None
    if not any(name.strip() for name in header):
        raise ValueError(f"{path} cannot be read: it has no header")
    _check_header(path, header)
    names, numbered, more = None, False, len(first) - len(header)
    if more > 0 and not any(value.strip() for value in first[len(header) :]):
        names = [*header, *(f"Unnamed: {len(header) + i}" for i in range(more))]
    elif more == 1:
        numbered = True  # R's row names have no header
    elif more > 1:
        raise ValueError(
            f"{path} cannot be read: its header has {len(header)} columns and its first row "
            f"{len(first)}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # values would be left out
            table = pd.read_csv(
                io.StringIO(text),
                sep=separator,
                skipinitialspace=True,
                keep_default_na=False,
                na_values=_missing_by_column(names or header),
                index_col=0 if numbered else False,
                header=0,
                names=names,
                low_memory=False,
                **_round_trip(),
            )
    except (ValueError, OverflowError, pd.errors.ParserWarning) as error:
        raise ValueError(f"{path} cannot be read: {one_line(error)}") from None
    if separator == ",":
        for name in table.columns:
            if table[name].dtype.kind not in "biuf" and _canonical(str(name)) not in _TEXT_COLUMNS:
                check_decimal_commas(str(name), map(str, table[name]))
    empty = table.isna().all(axis=1)
    if empty.any() and not empty.all():  # rows of separators alone, below a sheet's last
        note.append(f"{int(empty.sum()):,} empty rows are left out")
        table = table[~empty.to_numpy()]
    given = from_frame(table)
    given.notes[:0] = note + (["the rows' names are left out"] if numbered else [])
    return given


def _check_header(path: Path, header: Sequence[str]) -> None:
    """Raise ``ValueError`` for a header whose columns are not told apart, or that is none."""
    names = [name.strip() for name in header]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if all(_NUMBER.fullmatch(name) for name in names):
        raise ValueError(f"{path} cannot be read: its first row holds numbers, not columns' names")
    if twice is not None:
        raise ValueError(f"{path} cannot be read: column {twice!r} is there twice")
    if len(names) == 1 and len(names[0].split()) > 1:
        raise ValueError(
            f"{path} cannot be read: its first row is one name, {names[0][:60]!r}: separate "
            "columns by commas, semicolons, tabs or |"
        )


def _missing_by_column(header: Sequence[str]) -> dict[Any, list[str]]:
    """Return what stands for a missing value: in columns that may be text, nothing else does."""
    missing: dict[Any, list[str]] = {}
    for position, name in enumerate(header):
        text = _canonical(name) in (*_TEXT_COLUMNS, "is_member")
        missing[name or f"Unnamed: {position}"] = [""] if text else list(_MISSING)
    return missing


def _round_trip() -> dict[str, Any]:
    """Ask a pandas whose default may miss the last digit of a number to read all of them."""
    import pandas as pd

    return {} if int(pd.__version__.split(".")[0]) >= 3 else {"float_precision": "round_trip"}


_TEXT_COLUMNS = ("label", "id", "duplicate_group", "predicted", TRIAL)


def _decoded(content: bytes) -> tuple[str, list[str]]:
    """Return the text of a file, and a note where its encoding had to be guessed."""
    if content.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return content.decode("utf-32", "strict"), []
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "strict"), []
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace"), ["the file is no UTF-8; read as Windows-1252"]


def _separator(text: str) -> tuple[str, str]:
    """Return what separates a table's columns, and the text without Excel's line that says so."""
    declared = re.match(r'"?sep=(.)"?\n', text)
    if declared:
        return declared[1], text[declared.end() :]
    text = text.lstrip("\n")
    line = text[:1_000_000].split("\n", 1)[0]

    def known(separator: str) -> tuple[int, int]:
        try:
            names = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
        except csv.Error:
            names = []
        return sum(_is_known(name) for name in names), len(names)

    return max(_SEPARATORS, key=known), text


# ---- columns -----------------------------------------------------------------------------------


def from_frame(table: "pd.DataFrame") -> Given:
    """Return the columns of a table."""
    given = Given()
    table = _without_nameless(_with_index(table), given.notes)
    if table.shape[0] == 0:
        raise ValueError("the table has no rows")
    names = [str(name) for name in table.columns]
    wide: dict[str, dict[int | str, str]] = {}
    found: dict[str, Array] = {}
    for position, name in enumerate(names):
        target, key = _target(name)
        if key is not None:
            parts = wide.setdefault(target, {})
            if key in parts:
                other = names[int(parts[key])]
                raise ValueError(f"columns {other!r} and {name!r} are the same")
            parts[key] = str(position)
        elif target in found:
            raise ValueError(f"column {target} is there twice")
        else:
            found[target] = _values(target, table.iloc[:, position])
    for target, parts in wide.items():
        if target in found:
            raise ValueError(f"{target} is there as one column and as several")
        keys = _ordered(parts)
        columns = [_values(target, table.iloc[:, int(parts[key])]) for key in keys]
        found[target] = np.column_stack(columns)
        _note_classes(given, target, keys)
    trial = found.pop(TRIAL, None)
    if trial is not None:
        found, given.models = _by_trial(found, trial)
    given.columns = found
    return given


def _with_index(table: "pd.DataFrame") -> "pd.DataFrame":
    """Make columns of an index whose levels have names of ours."""
    levels = [
        name
        for name in table.index.names
        if name is not None and str(name) not in table and _is_known(str(name))
    ]
    return table.reset_index(levels) if levels else table


def _without_nameless(table: "pd.DataFrame", notes: list[str]) -> "pd.DataFrame":
    """Leave out row numbers and what trailing separators leave; refuse others without a name."""
    kept = []
    for position, name in enumerate(map(str, table.columns)):
        if not _NAMELESS.fullmatch(name.strip()):
            kept.append(position)
            continue
        values = table.iloc[:, position]
        if values.isna().all() or name.startswith("__index"):  # an index that nobody named
            continue
        numbers = values.to_numpy()
        if numbers.dtype.kind not in "iu" or len(np.unique(numbers)) < len(numbers):
            raise ValueError(f"column {position + 1} is called {name!r}: give it a name of ours")
        notes.append(f"column {position + 1} ({name}), which numbers the rows, is left out")
    named: pd.DataFrame = table.iloc[:, kept]
    return named


def _canonical(name: str) -> str:
    """Return a column's name as we write it: spaces, hyphens and capitals do not matter."""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    plain = re.sub(r"[\s\-.]+", "_", plain).casefold()
    return _SINGULAR.get(plain, plain)


def _is_known(name: str) -> bool:
    plain = _canonical(name)
    return plain in COLUMNS or plain == TRIAL or _WIDE.fullmatch(plain) is not None


def _target(name: str) -> tuple[str, int | str | None]:
    """Return the column that a table's column belongs to, and its class or number there."""
    plain = _canonical(name)
    if plain in COLUMNS or plain == TRIAL:
        return plain, None
    match = _WIDE.fullmatch(plain)
    if match:
        return _WIDE_NAMES[plain[0]], int(match[2])
    match = _WIDE_BY_NAME.fullmatch(name.strip())
    if match:
        return _WIDE_NAMES[match[1][0].casefold()], match[2]
    hint = did_you_mean(name, [*COLUMNS, TRIAL], SYNONYMS) or ";"
    raise ValueError(
        f"unknown column {name!r}{hint} columns are {', '.join(COLUMNS)}, {TRIAL} and, with a "
        "class or number at the end, logit_, probability_, feature_"
    )


def _ordered(parts: Mapping[int | str, str]) -> list[int | str]:
    """Order the columns of classes: by number, or by name as scikit-learn orders its classes."""
    if all(isinstance(key, int) for key in parts):
        return sorted(parts)
    if any(isinstance(key, int) for key in parts):
        raise ValueError(f"columns of classes are partly numbered, partly named: {list(parts)}")
    return sorted(parts)


def _note_classes(given: Given, target: str, keys: Sequence[int | str]) -> None:
    if target == "features":
        return
    if given.classes is not None:
        raise ValueError("logits and probabilities must not be given together: one is enough")
    if list(keys) != [1]:  # one column for class 1 speaks for class 0, too
        given.classes = keys  # type: ignore[assignment]


def _values(name: str, column: "pd.Series[Any]") -> Array:
    """Return a column of a table: nullable, categorical and Arrow types as what they stand for."""
    kind = column.dtype
    if getattr(kind, "kind", "O") in "iub" and column.isna().any():
        values: Array = column.astype(object).to_numpy()
    else:
        values = column.to_numpy()
    if values.dtype.kind in "fO" and name in (*SHARED, "is_member", "predicted", TRIAL):
        _check_present(name, column)
    return clean(name if name != TRIAL else "id", values)


def _check_present(name: str, column: "pd.Series[Any]") -> None:
    missing = column.isna().to_numpy()
    if missing.any() and name != "duplicate_group":
        raise ValueError(f"{name} must not be missing, but row {int(np.argmax(missing))} is")


# ---- several models ----------------------------------------------------------------------------


def _by_trial(found: dict[str, Array], trial: Array) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Give columns a leading axis of models; every model must have the same ids."""
    if "id" not in found:
        raise ValueError("a table with a column trial needs a column id")
    names = (
        natural_order(set(trial.tolist())) if trial.dtype.kind == "U" else np.unique(trial).tolist()
    )
    number = {name: model for model, name in enumerate(names)}
    models = np.array([number[name] for name in trial.tolist()])
    counts = np.bincount(models)
    if counts.min() != counts.max():
        raise ValueError(
            f"trial {names[int(np.argmin(counts))]} has {counts.min()} rows and trial "
            f"{names[int(np.argmax(counts))]} has {counts.max()}: each must have every id once"
        )
    order = np.lexsort((found["id"], models))
    shaped = {
        name: values[order].reshape(len(names), counts[0], *values.shape[1:])
        for name, values in found.items()
    }
    for name in ("id", "label", "duplicate_group"):
        if name in shaped:
            same = (shaped[name] == shaped[name][0]).all(axis=1)
            if not same.all():
                raise ValueError(
                    f"{name} of trial {names[int(np.argmin(same))]} differs from the rest"
                )
            shaped[name] = shaped[name][0]
    return shaped, tuple(str(name) for name in names)
