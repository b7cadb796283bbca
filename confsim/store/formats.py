"""Files whose bytes depend on their content alone: Parquet, npz, npy and JSON.

Nothing here writes a time, a process or a path. Tables are cut into row groups of a fixed size, so
that an iterator's batches do not show, and streamed, so that they need not fit into memory. pyarrow
is handed buffers rather than arrays: it would import pandas to look at an array.
"""

import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from confsim.experiment import Coded, Columns, Scalar, Table
from confsim.store.files import seal
from confsim.tabular import exact_floats

if TYPE_CHECKING:
    import pandas
    import pyarrow

#: Rows of a Parquet row group.
ROW_GROUP = 1 << 18

#: Values of a column that are looked at to choose its encoding.
_SAMPLE = 2048

#: Bytes that a file holds back at most, to write them together.
_HELD = 1 << 16

#: The first date that a zip archive can hold.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)

Array = np.ndarray[Any, Any]


class HashedFile:
    """A file that hashes what is written, and remembers an error of writing.

    pyarrow may wrap or replace an exception on its way through C++; ``error`` keeps the first
    ``OSError``, which tells a full disk from a fault of whoever produced the data.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "xb", buffering=0)  # noqa: PTH123, SIM115 - closed by close()
        self._digest = hashlib.sha256()
        self._held = bytearray()  # pyarrow writes a few bytes at a time
        self.size = 0
        self.error: OSError | None = None

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._file.closed

    def write(self, data: Any) -> int:
        """Write all of a buffer, by :meth:`close` at the latest."""
        view = memoryview(data).cast("B")
        self.size += len(view)
        if len(self._held) + len(view) > _HELD:
            self._send()
        if len(view) > _HELD:
            self._put(view)
        else:
            self._held += view
        return len(view)

    def _send(self) -> None:
        held, self._held = self._held, bytearray()
        self._put(memoryview(held))

    def _put(self, view: memoryview) -> None:
        self._digest.update(view)
        try:
            done = 0
            while done < len(view):
                done += self._file.write(view[done:])
        except OSError as error:
            self.error = self.error or error
            raise

    def tell(self) -> int:
        """Return what was written so far."""
        return self.size

    def flush(self) -> None:
        """Do nothing: what is held back is written when the file is closed."""

    def close(self) -> None:
        """Write what was held back, and close the file."""
        try:
            if not self._file.closed:
                self._send()
        finally:
            self._close()

    def _close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self.error = self.error or error
            raise

    def record(self) -> dict[str, Any]:
        """Return what a reader needs to check the file."""
        return {"size": self.size, "sha256": self._digest.hexdigest()}

    def __enter__(self) -> "HashedFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def write_table(file: HashedFile, table: Table) -> None:
    """Write columns, or an iterator of batches of columns, as Parquet.

    Each column is encoded in the way that fits its first row group (:func:`_encodings`). Memory is
    bounded by one batch and one row group.

    Raises
    ------
    TypeError, ValueError
        If columns have unequal lengths or no simple type, or batches differ in names or types.
    """
    import pyarrow.parquet as pq

    batches = iter([table]) if isinstance(table, Mapping) else iter(table)
    writer = None
    try:
        for group in _row_groups(_to_arrow(batch) for batch in batches):
            if writer is None:
                writer = pq.ParquetWriter(
                    file, group.schema, store_schema=False, **_encodings(group)
                )
            writer.write_table(group, row_group_size=ROW_GROUP)
        if writer is None:
            raise ValueError("a table needs at least one batch, to know its columns")
    finally:
        if writer is not None:
            writer.close()


def _encodings(table: "pyarrow.Table") -> dict[str, Any]:
    """Return the options of a Parquet writer for tables like this one.

    Strings, and numbers that repeat, go into dictionaries, whose codes need no compression;
    integers are stored as differences; other numbers byte by byte, first bytes first, so that zstd
    (level 1) finds what they share. All readers of Parquet know these. Row groups are read whole:
    they need no statistics.
    """
    import pyarrow as pa

    dictionaries, encodings = [], {}
    for field, column in zip(table.schema, table.columns, strict=True):
        kind = field.type
        if pa.types.is_string(kind) or pa.types.is_dictionary(kind):
            dictionaries.append(field.name)
        elif kind in (pa.int32(), pa.int64()):
            encodings[field.name] = "DELTA_BINARY_PACKED"
        elif kind in (pa.float32(), pa.float64()):
            if _repeats(_floats(column)):
                dictionaries.append(field.name)
            else:
                encodings[field.name] = "BYTE_STREAM_SPLIT"
    names = table.column_names
    return {
        "use_dictionary": dictionaries,
        "dictionary_pagesize_limit": 8 * ROW_GROUP,  # all that a row group can hold
        "column_encoding": encodings or None,
        "compression": {name: "none" if name in dictionaries else "zstd" for name in names},
        "compression_level": {name: 1 for name in names if name not in dictionaries},
        "write_statistics": False,
    }


def _floats(column: "pyarrow.ChunkedArray") -> Array:
    """Return the numbers of a column made here, without pandas, which ``to_numpy`` imports."""
    kind = np.dtype(f"f{column.type.bit_width // 8}")
    parts = [
        np.frombuffer(chunk.buffers()[1], kind)[chunk.offset : chunk.offset + len(chunk)]
        for chunk in column.chunks
    ]
    return np.concatenate(parts) if parts else np.empty(0, kind)


def _repeats(values: Array) -> bool:
    """Whether few values occur again and again, none of them as often as all others.

    Judged by a sample. A value that is nearly everywhere is best left to the compression, and one
    in a hundred that repeats in the sample means that most values do among all of them.
    """
    sample = values[:: max(1, len(values) // _SAMPLE)]
    _, counts = np.unique(sample, return_counts=True)
    return len(counts) <= 0.99 * len(sample) and 2 * counts.max(initial=0) < len(sample)


def _row_groups(tables: "Iterable[pyarrow.Table]") -> "Iterator[pyarrow.Table]":
    """Cut tables anew: ``ROW_GROUP`` rows each, fewer in the last."""
    import pyarrow as pa

    held: list[pyarrow.Table] = []
    rows = 0
    yielded = False
    for table in tables:
        if held and table.schema != held[0].schema:
            raise ValueError(
                f"batches of a table must have the same columns and types, not {table.schema} "
                f"after {held[0].schema}"
            )
        held.append(table)
        rows += table.num_rows
        while rows >= ROW_GROUP:
            whole = pa.concat_tables(held)
            yield whole.slice(0, ROW_GROUP).combine_chunks()
            yielded = True
            held = [whole.slice(ROW_GROUP)]
            rows -= ROW_GROUP
    if held and (rows or not yielded):
        yield pa.concat_tables(held).combine_chunks()


def _to_arrow(columns: Columns) -> "pyarrow.Table":
    import pyarrow as pa

    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"columns of a table must be equally long, not {lengths}")
    return pa.Table.from_arrays(
        [_arrow_column(name, values) for name, values in columns.items()], names=list(columns)
    )


def _arrow_column(name: str, values: "Array | Coded | list[str]") -> "pyarrow.Array":
    import pyarrow as pa

    if isinstance(values, Coded):
        codes, names = values.codes, list(values.names)
        return pa.DictionaryArray.from_arrays(
            _arrow_column(name, codes), _arrow_column(name, names)
        )
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise ValueError(f"column {name} must have one dimension, not {values.ndim}")
        if values.dtype.kind in "iuf":
            values = _in_eight_bytes(name, values)
            values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
            kind = pa.from_numpy_dtype(values.dtype)
            return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
        if values.dtype.kind == "b":
            bits = np.packbits(values, bitorder="little")
            return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits)])
        if values.dtype.kind not in "UT":
            raise TypeError(
                f"column {name} must hold numbers, bools or strings, not {values.dtype}"
            )
    texts: list[str] = list(values)
    encoded = [_utf8(name, row, text) for row, text in enumerate(texts)]
    ends = np.cumsum([0, *(len(text) for text in encoded)], dtype=np.int64)
    if ends[-1] > np.iinfo(np.int32).max:
        raise ValueError(f"column {name} must hold less than 2 GiB of text, not {ends[-1]:,} bytes")
    buffers = [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.utf8(), len(encoded), buffers)


def _in_eight_bytes(name: str, values: Array) -> Array:
    """Return numbers that Parquet has a type for; none loses a digit on the way."""
    if values.dtype.itemsize <= 8:
        return values
    narrow = values.astype(np.float64)
    lost = (narrow != values) & ~np.isnan(values)
    if lost.any():
        row = int(np.argmax(lost))
        raise ValueError(f"column {name} must fit into float64, but row {row} is {values[row]!r}")
    return narrow


def _utf8(name: str, row: int, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"column {name} must be Unicode, but row {row} is {text!r}") from None


def write_npz(file: HashedFile, arrays: Mapping[str, Array]) -> None:
    """Write arrays as a compressed ``.npz``: fixed dates, the fastest level."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            _write_array(member, name, array)
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", _ZIP_DATE),
                member.getbuffer(),
                compress_type=zipfile.ZIP_DEFLATED,
                compresslevel=1,
            )
    file.write(buffer.getbuffer())


def write_npy(file: HashedFile, array: Array) -> None:
    """Write one array as ``.npy``, in pieces."""
    _write_array(file, "array", array)


def _write_array(file: Any, name: str, array: Array) -> None:
    array = np.asanyarray(array)
    if array.dtype.hasobject:
        raise TypeError(f"array {name} must hold numbers, bools or strings, not objects")
    np.lib.format.write_array(file, array, allow_pickle=False)


def write_summary(file: HashedFile, summary: Mapping[str, Scalar]) -> None:
    """Write a trial's numbers as JSON, NaN as null.

    Raises
    ------
    ValueError, TypeError
        If a value is infinite or no scalar.
    """
    plain = {name: _plain(name, value) for name, value in summary.items()}
    # A line each, as with ``indent=1``, by the encoder that is fast: nothing is nested.
    text = json.dumps(plain, separators=(",\n ", ": "), allow_nan=False)
    file.write(f"{{\n {text[1:-1]}\n}}\n".encode() if plain else b"{}\n")


def write_sealed(file: HashedFile, value: Mapping[str, Any]) -> None:
    """Write JSON with the hash of its own bytes."""
    file.write(seal(value))


def _plain(name: str, value: Any) -> Scalar:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return None
        raise ValueError(f"summary value {name} must not be infinite")
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise TypeError(f"summary value {name} must be a number, bool, string or None")
    return value


def read_csv(path: "str | os.PathLike[str] | io.BytesIO", **options: Any) -> "pandas.DataFrame":
    """Read a CSV file with ``pandas.read_csv``, every number exactly as it is written."""
    import pandas

    table: pandas.DataFrame = pandas.read_csv(path, **exact_floats(), **options)
    return table
