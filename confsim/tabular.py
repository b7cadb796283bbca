"""Tables as people have them: CSV of every usual dialect, Parquet and Feather, as data frames.

What columns mean is for those who ask. Files are regular ones, of bounded size when unpacked; no
metadata of pandas' is trusted.
"""

import csv
import io
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from confsim import feather, parquet
from confsim.given_files import (
    allowed,
    check_unpacked,
    first_twice,
    one_line,
    only_file_in_zip,
    open_regular,
    unzip,
)

if TYPE_CHECKING:
    import pandas as pd

#: Columns of a table at most.
COLUMNS = 1 << 16

#: Bytes in memory of a value that is no plain number, or of a column with gaps.
_CELL = 8

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")

#: First bytes of packed files that are not unpacked here.
_PACKED = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
}

#: The header's separators, the likeliest first.
_SEPARATORS = (",", ";", "\t", "|")

#: What stands for a missing number; in columns that may be text, only nothing does.
MISSING = ("", "nan", "NaN", "NAN", "NA", "N/A", "#N/A", "null", "NULL", "None", "<NA>")

DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")


@dataclass(frozen=True, eq=False)
class CsvTable:
    """A table of text.

    Attributes
    ----------
    table : DataFrame
    separator : str
        Of its columns.
    notes : list of str
        What a user should know of how it was read.
    """

    table: "pd.DataFrame"
    separator: str
    notes: list[str]


def parquet_frame(path: Path, limit: int | None = None) -> "pd.DataFrame":
    """Read a Parquet file, nullable types and lists included; at most ``limit`` bytes unpacked."""
    import pyarrow.parquet as pq

    def table(file: BinaryIO) -> Any:
        opened, stored = pq.ParquetFile(file), path.stat().st_size
        _check_columns(path, opened.metadata.num_columns)
        unpacked = sum(parquet.group_sizes(file, opened, allowed(stored, limit)))
        check_unpacked(path, unpacked, stored, limit)
        return opened.read()

    return _from_arrow(path, table, limit)


def feather_frame(path: Path, limit: int | None = None) -> "pd.DataFrame":
    """Read a Feather (Arrow) file that unpacks to at most ``limit`` bytes."""
    import pyarrow as pa
    from pyarrow.feather import read_table

    def table(file: BinaryIO) -> Any:
        content = file.read()
        check_unpacked(path, feather.unpacked_size(content), len(content), limit)
        if content.startswith(feather.MAGIC):
            return pa.ipc.open_stream(feather.messages(content)).read_all()
        return read_table(io.BytesIO(content))

    return _from_arrow(path, table, limit)


def _from_arrow(path: Path, read: Callable[[BinaryIO], Any], limit: int | None) -> "pd.DataFrame":
    """Return the table in a file of Arrow's; what pandas noted in it besides is not trusted."""
    import pyarrow as pa

    with open_regular(path) as file:
        try:
            table = read(file)
            _check_columns(path, table.num_columns)
            table.validate()  # lengths that are none, and buffers that are shorter than they say
            size = sum(_size(part) for column in table.columns for part in column.chunks)
            check_unpacked(path, size, path.stat().st_size, limit)
            table.validate(full=True)  # before anything follows an offset that the file gives
            # Levels of an index are columns then.
            frame: pd.DataFrame = _without_views(table).to_pandas(ignore_metadata=True)
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
            if str(path) in str(error):
                raise
            raise ValueError(f"{path} cannot be read: {one_line(error)[:200]}") from None
    return frame


def _without_views(table: Any) -> Any:
    """Return a table without lists of texts of the kind that pandas is not made from."""
    import pyarrow as pa

    if not hasattr(pa, "string_view"):  # before 16
        return table
    plain = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    for place, field in enumerate(table.schema):
        inner = getattr(field.type, "value_type", None)
        if inner in plain and not pa.types.is_dictionary(field.type):
            column = table.column(place).cast(pa.large_list(plain[inner]))
            table = table.set_column(place, field.name, column)
    return table


def _size(values: Any) -> int:
    """Return the bytes that an array of Arrow's becomes, at every level: some take none there."""
    import pyarrow as pa

    kind, types = values.type, pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _size(values.storage)
    if types.is_struct(kind) or types.is_union(kind):
        inner = [values.field(number) for number in range(kind.num_fields)]
    elif types.is_dictionary(kind):
        inner = [values.dictionary]
    elif types.is_map(kind):
        inner = [values.keys, values.items]
    elif types.is_nested(kind) or types.is_run_end_encoded(kind):
        inner = [values.values]
    else:
        plain = types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)
        width = max(1, kind.bit_width // 8) if plain and not values.null_count else _CELL
        return width * len(values)
    return _CELL * len(values) + sum(map(_size, inner))


def csv_frame(
    path: Path,
    *,
    known: Callable[[str], bool],
    missing: Callable[[str], tuple[str, ...]],
    limit: int | None = None,
) -> CsvTable:
    """Read a table of text: separators and encodings as spreadsheets write them.

    Parameters
    ----------
    path : path
    known : callable
        Whether a name is that of a column which is looked for: tells separators apart.
    missing : callable
        What stands for a missing value in a column of this name.
    limit : int, optional
        Bytes that it may unpack to.
    """
    import pandas as pd

    with open_regular(path) as file:
        content = file.read()
    if content.startswith(b"\x1f\x8b"):
        content = unzip(path, content, limit)
    elif content.startswith(b"PK\x03\x04"):
        content = only_file_in_zip(path, content, limit)
    for start, packer in _PACKED.items():
        if content.startswith(start):
            raise ValueError(f"{path} is packed by {packer}: unpack it, or pack it by gzip")
    try:
        text, notes = _decoded(content)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read: {one_line(error)}") from None
    if "\0" in text:
        raise ValueError(f"{path} cannot be read: it is no text, or not UTF-8: save it as UTF-8")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    separator, text = _separator(text, known)
    rows = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    try:
        header, first = next(rows, []), next(rows, [])
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read: {one_line(error)}") from None
    if not any(name.strip() for name in header):
        raise ValueError(f"{path} cannot be read: it has no header")
    _check_header(path, header, known)
    names, numbered = _names(path, header, first)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # values would be left out
            table = pd.read_csv(
                io.StringIO(text),
                sep=separator,
                skipinitialspace=True,
                keep_default_na=False,
                na_values=_by_column(names or header, missing),
                index_col=0 if numbered else False,
                header=0,
                names=names,
                low_memory=False,
                **exact_floats(),
            )
    except (ValueError, OverflowError, pd.errors.ParserWarning) as error:
        raise ValueError(f"{path} cannot be read: {one_line(error)}") from None
    if numbered:
        notes.append("the rows' names are left out")
    empty = table.isna().all(axis=1)
    if empty.any() and not empty.all():  # rows of separators alone, below a sheet's last
        notes.append(f"{int(empty.sum()):,} empty rows are left out")
        table = table[~empty.to_numpy()]
    return CsvTable(table, separator, notes)


def _check_columns(path: Path, count: int) -> None:
    """Raise ``ValueError`` for more columns than a table has: each takes kilobytes in memory."""
    if count > COLUMNS:
        raise ValueError(
            f"{path} has {count:,} columns, and a table may have {COLUMNS:,}: give numbers as "
            "arrays, in an .npz file"
        )


def _check_header(path: Path, header: Sequence[str], known: Callable[[str], bool]) -> None:
    """Raise ``ValueError`` for a header whose columns are not told apart, or that is none."""
    _check_columns(path, len(header))
    names = [name.strip() for name in header]
    twice = first_twice([name for name in names if name])
    if all(_NUMBER.fullmatch(name) for name in names):
        raise ValueError(f"{path} cannot be read: its first row holds numbers, not columns' names")
    if twice is not None:
        raise ValueError(f"{path} cannot be read: column {twice!r} is there twice")
    if len(names[0]) > 1 and names[0].startswith("#") and not any(map(known, names)):
        raise ValueError(
            f"{path} cannot be read: its first line is a comment, {names[0][:60]!r}: leave "
            "comments out"
        )
    if len(names) == 1 and len(names[0].split()) > 1:
        raise ValueError(
            f"{path} cannot be read: its first row is one name, {names[0][:60]!r}: separate "
            "columns by commas, semicolons, tabs or |"
        )


def _names(
    path: Path, header: Sequence[str], first: Sequence[str]
) -> tuple[list[str] | None, bool]:
    """Return the columns' names where the header lacks some, and whether it has none for rows."""
    more = len(first) - len(header)
    if more > 0 and not any(value.strip() for value in first[len(header) :]):
        return [*header, *(f"Unnamed: {len(header) + i}" for i in range(more))], False
    if more > 1:
        raise ValueError(
            f"{path} cannot be read: its header has {len(header)} columns and its first row "
            f"{len(first)}"
        )
    return None, more == 1  # R's row names have no header


def _by_column(
    header: Sequence[str], missing: Callable[[str], tuple[str, ...]]
) -> dict[Any, list[str]]:
    return {
        name or f"Unnamed: {position}": list(missing(name)) for position, name in enumerate(header)
    }


def exact_floats() -> dict[str, Any]:
    """Return what ``pandas.read_csv`` is to be told to read every number as it is written."""
    import pandas as pd

    major, minor = map(int, pd.__version__.split(".")[:2])
    # Before that, last digits are lost unless one asks; later versions deprecate asking.
    return {"float_precision": "round_trip"} if (major, minor) < (3, 1) else {}


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


def _separator(text: str, known: Callable[[str], bool]) -> tuple[str, str]:
    """Return what separates a table's columns, and the text without Excel's line that says so."""
    declared = re.match(r'"?sep=(.)"?\n', text, re.IGNORECASE)
    if declared:
        return declared[1], text[declared.end() :]
    text = text.lstrip("\n")
    line = text[:1_000_000].split("\n", 1)[0]

    def score(separator: str) -> tuple[int, int]:
        try:
            names = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
        except csv.Error:
            names = []
        return sum(known(name) for name in names), len(names)

    return max(_SEPARATORS, key=score), text


def check_decimal_commas(name: str, text: Iterable[str]) -> None:
    """Raise ``ValueError`` where commas may just as well separate thousands."""
    with_comma = [value for value in text if "," in value]
    if with_comma and all(_THOUSANDS.fullmatch(value) for value in with_comma):
        raise ValueError(
            f"{name} holds {with_comma[0]!r}, whose comma may be a decimal comma or separate "
            "thousands: write decimal points"
        )
