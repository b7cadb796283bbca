"""Parquet files as bytes: what their pages unpack to, and one footer over several files.

A page says by itself what it unpacks to, whatever the footer promises, and a few bytes may stand
for gigabytes of equal values: so the pages' headers are read before a page is.

A reader of Parquet looks at the footer alone, which says where each column's pages begin. So files
of one schema that are put one after another, byte for byte, and followed by a footer that lists the
row groups of all of them at their new places, are one Parquet file; each of them can still be cut
out of it again as it was. pyarrow reads such a footer, but cannot write one.

Both are in Thrift's compact protocol (Apache Parquet's ``parquet.thrift``, Apache Thrift's
``thrift-compact-protocol.md``). What is not a place is copied as it is.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import pyarrow.parquet

MAGIC = b"PAR1"

#: The end of a file: the length of the footer in four bytes, and the magic.
_TAIL = 8

#: Bytes of a footer, or of a page's header, at most.
FOOTER_LIMIT = 1 << 26
_HEADER_LIMIT = 1 << 24
_HEADER_USUAL = 1 << 12

#: Thrift's types.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_DEPTH = 16

# Fields of FileMetaData.
_VERSION, _SCHEMA, _ROWS, _GROUPS, _METADATA, _CREATED_BY, _ORDERS = range(1, 8)
_COPIED = (_VERSION, _SCHEMA, _CREATED_BY, _ORDERS)
# Fields that hold a place in the file, of RowGroup, of ColumnChunk and of ColumnMetaData; and those
# of which a merged file can have none: a row group's number, and a column in another file.
_GROUP_PLACES, _GROUP_COLUMNS, _GROUP_ROWS, _GROUP_NUMBER = (5,), 1, 3, 7
_CHUNK_PLACES, _CHUNK_FILE, _CHUNK_METADATA = (2, 4, 6), 1, 3
_COLUMN_PLACES = (9, 10, 11, 14)


class FooterError(ValueError):
    """Bytes that are no footer, or one of a kind that is not merged."""


@dataclass(frozen=True)
class _Field:
    """A field of a structure: its number, its type, and its bytes without the header."""

    number: int
    kind: int
    content: bytes


@dataclass(frozen=True)
class Footer:
    """What is kept of a file's footer.

    Attributes
    ----------
    shared : tuple of bytes
        Schema, format and maker: the same in files that can be merged.
    rows : int
    groups : list of bytes
        The row groups, at their places in the file.
    """

    shared: tuple[bytes, ...]
    rows: int
    groups: list[bytes]


# ---- Thrift's compact protocol -----------------------------------------------------------------


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return an unsigned number and where it ends."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise FooterError("a number has no end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _integer(data: bytes, at: int = 0) -> tuple[int, int]:
    """Return a signed number (zigzag) and where it ends."""
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _as_integer(value: int) -> bytes:
    return _as_varint(value << 1 if value >= 0 else (-value << 1) - 1)


def _skip(data: bytes, at: int, kind: int, depth: int = 0, *, element: bool = False) -> int:
    """Return where a value ends."""
    if depth > _DEPTH:
        raise FooterError("it is nested too deeply")
    if kind in (_TRUE, _FALSE):
        end = at + element  # of a field, the type is the value
    elif kind == _BYTE:
        end = at + 1
    elif kind in (_I16, _I32, _I64):
        end = _varint(data, at)[1]
    elif kind == _DOUBLE:
        end = at + 8
    elif kind == _BINARY:
        size, start = _varint(data, at)
        end = start + size
    elif kind in (_LIST, _SET):
        count, inner, end = _list(data, at)
        for _ in range(count):
            end = _skip(data, end, inner, depth + 1, element=True)
    elif kind == _STRUCT:
        end = max((last for *_, last in _places(data, at, depth + 1)), default=at) + 1
    else:  # maps: no structure of Parquet has one
        raise FooterError(f"it has a field of type {kind}")
    if end > len(data):
        raise FooterError("it ends early")
    return end


def _list(data: bytes, at: int) -> tuple[int, int, int]:
    """Return the number and type of a list's elements, and where they begin."""
    if at >= len(data):
        raise FooterError("it ends early")
    count, kind = data[at] >> 4, data[at] & 15
    at += 1
    if count == 15:
        count, at = _varint(data, at)
    if count > len(data):
        raise FooterError("a list is longer than its file")
    return count, kind, at


def _places(data: bytes, at: int, depth: int = 0) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, type, begin and end of each field of a structure; its stop byte follows."""
    number = 0
    while True:
        if at >= len(data):
            raise FooterError("it ends early")
        head = data[at]
        if head == 0:
            return
        at += 1
        kind = head & 15
        if head >> 4:
            number += head >> 4
        else:
            number, at = _integer(data, at)
        end = _skip(data, at, kind, depth)
        yield number, kind, at, end
        at = end


def _fields(data: bytes, at: int = 0) -> list[_Field]:
    return [_Field(n, kind, data[start:end]) for n, kind, start, end in _places(data, at)]


def _structure(fields: Sequence[_Field]) -> bytes:
    """Return the bytes of a structure."""
    out, before = bytearray(), 0
    for field in fields:
        step = field.number - before
        if 0 < step < 16:
            out.append(step << 4 | field.kind)
        else:
            out.append(field.kind)
            out += _as_integer(field.number)
        out += field.content
        before = field.number
    out.append(0)
    return bytes(out)


def _elements(content: bytes) -> list[bytes]:
    """Return the structures in a list of structures."""
    count, kind, at = _list(content, 0)
    if count and kind != _STRUCT:
        raise FooterError("a list holds no structures")
    found = []
    for _ in range(count):
        end = _skip(content, at, _STRUCT)
        found.append(content[at:end])
        at = end
    return found


def _as_list(structures: Sequence[bytes]) -> bytes:
    count = len(structures)
    head = bytes([count << 4 | _STRUCT]) if count < 15 else bytes([0xF0 | _STRUCT])
    return b"".join([head, b"" if count < 15 else _as_varint(count), *structures])


# ---- footers -----------------------------------------------------------------------------------


def read_footer(file: BinaryIO, size: int) -> Footer:
    """Return the footer of a Parquet file.

    Parameters
    ----------
    file : file
        Positioned anywhere.
    size : int
        Its length.

    Raises
    ------
    FooterError
        If there is none, or it is of a kind that is not merged: encrypted, or in several files.
    """
    data = _content(file, size)
    fields = {field.number: field for field in _fields(data)}
    if not {_VERSION, _SCHEMA, _ROWS, _GROUPS} <= fields.keys() or max(fields) > _ORDERS:
        raise FooterError("it is encrypted or of a later format")
    shared = tuple(fields[n].content if n in fields else b"" for n in _COPIED)
    groups = _elements(fields[_GROUPS].content)
    return Footer(shared, _integer(fields[_ROWS].content)[0], groups)


def _content(file: BinaryIO, size: int) -> bytes:
    """Return the bytes of a file's footer."""
    if size < _TAIL + len(MAGIC):
        raise FooterError("it is too short")
    file.seek(size - _TAIL)
    tail = _exactly(file, _TAIL)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or length > min(size - _TAIL, FOOTER_LIMIT):
        raise FooterError("it has no footer")
    file.seek(size - _TAIL - length)
    return _exactly(file, length)


def _exactly(file: BinaryIO, size: int) -> bytes:
    pieces = []
    while size > 0 and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    if size:
        raise FooterError("it ends early")
    return b"".join(pieces)


def _moved_group(group: bytes, offset: int) -> bytes:
    fields = []
    for field in _fields(group):
        if field.number == _GROUP_COLUMNS:
            columns = [_moved_chunk(column, offset) for column in _elements(field.content)]
            fields.append(_Field(field.number, field.kind, _as_list(columns)))
        elif field.number != _GROUP_NUMBER:
            fields.append(_moved(field, _GROUP_PLACES, offset))
    return _structure(fields)


def _moved_chunk(chunk: bytes, offset: int) -> bytes:
    fields = []
    for field in _fields(chunk):
        if field.number == _CHUNK_FILE:
            raise FooterError("its columns are in another file")
        if field.number == _CHUNK_METADATA:
            inner = [_moved(part, _COLUMN_PLACES, offset) for part in _fields(field.content)]
            fields.append(_Field(field.number, field.kind, _structure(inner)))
        else:
            fields.append(_moved(field, _CHUNK_PLACES, offset))
    return _structure(fields)


def _moved(field: _Field, places: Sequence[int], offset: int) -> _Field:
    """Return a field as it is, or with the place that it holds; 0 is none."""
    if field.number not in places or field.kind != _I64:
        return field
    place = _integer(field.content)[0]
    return _Field(field.number, _I64, _as_integer(place + offset)) if place > 0 else field


def merged(footers: Sequence[Footer], places: Sequence[int]) -> bytes:
    """Return what ends a file of files: their footer, its length and the magic.

    Parameters
    ----------
    footers : sequence of Footer
    places : sequence of int
        Where each of the files begins.

    Raises
    ------
    FooterError
        If they differ in schema, format or maker.
    """
    first = footers[0].shared
    if any(footer.shared != first for footer in footers):
        raise FooterError("the files differ in their schema")
    both = zip(footers, places, strict=True)
    groups = [_moved_group(group, place) for footer, place in both for group in footer.groups]
    kinds = {_VERSION: _I32, _SCHEMA: _LIST, _CREATED_BY: _BINARY, _ORDERS: _LIST}
    copied = dict(zip(_COPIED, first, strict=True))
    made = {
        _ROWS: _Field(_ROWS, _I64, _as_integer(sum(footer.rows for footer in footers))),
        _GROUPS: _Field(_GROUPS, _LIST, _as_list(groups)),
    }
    made |= {n: _Field(n, kinds[n], content) for n, content in copied.items() if content}
    footer = _structure([made[number] for number in sorted(made)])
    return footer + len(footer).to_bytes(4, "little") + MAGIC


# ---- pages -------------------------------------------------------------------------------------

#: Bytes of a value in memory, by the number of its type in the format (booleans, numbers of 4 and
#: of 12 bytes); of a text, those of its place.
_WIDTHS = {0: 1, 1: 4, 4: 4, 3: 12}
_WIDTH = 8
_TEXT = 6

#: An encoding in which a text is told by what it shares with the one before.
_DELTA_BYTE_ARRAY = 7

#: Data that may take so small a part of the limit are not counted text by text.
_NO_MATTER = 16

#: Rows whose texts are counted at a time, at most.
_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Page:
    """What a page says of itself.

    Attributes
    ----------
    unpacked : int
        Bytes that it unpacks to.
    values : int
    dictionary : bool
        Whether its values are what other pages refer to.
    prefixed : bool
        Whether its texts are told by what they share with the one before.
    """

    unpacked: int
    values: int
    dictionary: bool
    prefixed: bool


def pages(read: Callable[[int, int], bytes], start: int, size: int) -> Iterator[Page]:
    """Yield the pages of a column's part of a row group.

    Parameters
    ----------
    read : callable
        Returns up to so many bytes from a place of the file.
    start, size : int
        Where the pages begin, and their length with headers, as they are stored.

    Raises
    ------
    FooterError
        If a header is damaged, or a page ends beyond ``size``.
    """
    end = start + size
    while start < end:
        page, length = _page(read, start, end)
        start += length
        if start > end:
            raise FooterError("a page is not as long as its header says")
        yield page


def _page(read: Callable[[int, int], bytes], start: int, end: int) -> tuple[Page, int]:
    """Return a page, and its length with its header."""
    head = read(start, min(_HEADER_USUAL, end - start))
    try:
        fields = list(_places(head, 0))
    except FooterError:
        head = read(start, min(_HEADER_LIMIT, end - start))
        fields = list(_places(head, 0))
    told = {number: (kind, begin) for number, kind, begin, _ in fields}
    unpacked, stored = (_integer(head, told[n][1])[0] if n in told else -1 for n in (2, 3))
    # Data pages of both versions, and dictionaries, begin with their number of values.
    values, encoding = 0, 0
    for of, (kind, begin) in ((n, told[n]) for n in (5, 7, 8) if n in told):
        inner = {n: at for n, k, at, _ in _places(head, begin) if k == _I32}
        if kind != _STRUCT or 1 not in inner:
            raise FooterError("a page has no number of values")
        values = _integer(head, inner[1])[0]
        place = inner.get(4 if of == 8 else 2)
        encoding = 0 if place is None else _integer(head, place)[0]
    if min(unpacked, stored, values) < 0:
        raise FooterError("a page is not as long as its header says")
    page = Page(unpacked, values, 7 in told, encoding == _DELTA_BYTE_ARRAY and 7 not in told)
    return page, (fields[-1][3] if fields else 0) + 1 + stored


def group_sizes(file: BinaryIO, opened: "pyarrow.parquet.ParquetFile", limit: int) -> "list[int]":
    """Return the bytes that each row group takes in memory, by what its pages say.

    Parameters
    ----------
    file : file
        What was opened.
    opened : ParquetFile
    limit : int
        Bytes that are too many: texts are not counted one by one where they cannot be.

    Raises
    ------
    FooterError
        If pages are not where the footer says, or damaged.
    """

    def read(place: int, size: int) -> bytes:
        file.seek(place)
        return _exactly(file, size)

    groups = _groups(_content(file, file.seek(0, os.SEEK_END)))
    shape = opened.metadata.num_row_groups, {opened.metadata.num_columns}
    if groups and (len(groups), {len(chunks) for _, chunks in groups}) != shape:
        raise FooterError("its row groups are not as its schema says")
    found = [[_column_size(chunk, rows, read) for chunk in chunks] for rows, chunks in groups]
    # Bounds may add up to what each of them is far below.
    if sum(column.size + column.texts for part in found for column in part) > limit // _NO_MATTER:
        for number, (_, chunks) in enumerate(groups):
            for place, (chunk, column) in enumerate(zip(chunks, found[number], strict=True)):
                if column.texts and column.size <= limit:
                    counted = _counted_texts(file, number, chunk, column, limit)
                    found[number][place] = replace(column, texts=counted)
    return [sum(column.size + column.texts for column in part) for part in found]


@dataclass(frozen=True)
class _Chunk:
    """A column's part of a row group.

    Attributes
    ----------
    kind : int
        The type of its values, by its number in the format.
    name : str
        With dots between the names of those that it is inside of.
    nested : bool
        Whether it is inside another.
    values : int
    stored : int
        Bytes of its pages.
    start : int
        Where they begin.
    """

    kind: int
    name: str
    nested: bool
    values: int
    stored: int
    start: int


def _groups(footer: bytes) -> list[tuple[int, list[_Chunk]]]:
    """Return the rows and the columns of each row group.

    pyarrow's own account of a column ends the process where its statistics are damaged.
    """
    found = []
    for group in _elements(_told(footer, {_GROUPS: _LIST})[_GROUPS]):
        told = _told(group, {_GROUP_COLUMNS: _LIST, _GROUP_ROWS: _I64})
        chunks = [_chunk(chunk) for chunk in _elements(told[_GROUP_COLUMNS])]
        found.append((_integer(told[_GROUP_ROWS])[0], chunks))
    return found


def _chunk(content: bytes) -> _Chunk:
    column = _told(content, {_CHUNK_METADATA: _STRUCT})[_CHUNK_METADATA]
    wanted = {1: _I32, 3: _LIST, 5: _I64, 7: _I64, 9: _I64}
    told = _told(column, wanted, {11: _I64})
    kind, values, stored, start = (_integer(told[number])[0] for number in (1, 5, 7, 9))
    if min(values, stored) < 0:
        raise FooterError("a column is shorter than nothing")
    # Without rows, there may be a dictionary and no page of values, whose place is then 0.
    if 11 in told and (dictionary := _integer(told[11])[0]) > 0 and not 0 < start < dictionary:
        start = dictionary
    path = _texts(told[3])
    return _Chunk(kind, ".".join(path), len(path) != 1, values, stored, start)


def _texts(content: bytes) -> list[str]:
    """Return the texts in a list of texts."""
    count, kind, at = _list(content, 0)
    if count and kind != _BINARY:
        raise FooterError("a list holds no texts")
    found = []
    for _ in range(count):
        size, at = _varint(content, at)
        found.append(content[at : at + size].decode("utf-8", "replace"))
        at += size
    return found


def _told(
    content: bytes, wanted: Mapping[int, int], others: Mapping[int, int] | None = None
) -> dict[int, bytes]:
    """Return fields of a structure: all that are wanted, and others that are there.

    As readers of Thrift do, one of another type is passed over, and the last of several counts.
    """
    kinds = {**wanted, **(others or {})}
    found = {f.number: f.content for f in _fields(content) if kinds.get(f.number) == f.kind}
    if not wanted.keys() <= found.keys():
        raise FooterError("it is encrypted, or lacks what every file has")
    return found


@dataclass(frozen=True)
class _Size:
    """What a column's part of a row group takes in memory.

    Attributes
    ----------
    size : int
        Bytes of its pages, or of its values without their texts.
    texts : int
        Bytes of its texts at most, where pages do not hold each of them in full.
    longest : int
        Bytes of one of them at most.
    prefixed : bool
        Whether texts are told by what they share with the one before.
    by_rows : bool
        Whether there is one for each row, as the footer and the pages agree.
    """

    size: int
    texts: int = 0
    longest: int = 0
    prefixed: bool = False
    by_rows: bool = False


def _column_size(chunk: _Chunk, rows: int, read: Callable[[int, int], bytes]) -> _Size:
    found = list(pages(read, chunk.start, chunk.stored))
    values = max(chunk.values, rows, sum(p.values for p in found if not p.dictionary))
    unpacked = sum(page.unpacked for page in found)
    size = max(unpacked, values * _WIDTHS.get(chunk.kind, _WIDTH))
    if chunk.kind != _TEXT:
        return _Size(size)
    longest = max((p.unpacked for p in found if p.dictionary or p.prefixed), default=0)
    prefixed = any(page.prefixed for page in found)
    return _Size(size, values * longest, longest, prefixed, not chunk.nested and values == rows)


def _counted_texts(file: BinaryIO, group: int, chunk: _Chunk, column: _Size, limit: int) -> int:
    """Return the bytes of all texts of a column; more than the limit where they are too many."""
    if not column.prefixed:
        return _length_by_dictionary(file, group, chunk.name)
    if not column.by_rows:  # a single row may hold any number of texts
        return column.texts
    return _length_by_rows(file, group, chunk.name, column.longest, limit)


def _length_by_dictionary(file: BinaryIO, group: int, name: str) -> int:
    """Return the bytes of all texts of a column, which are read as numbers of their dictionary."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    total = 0
    table = pq.ParquetFile(file, read_dictionary=[name]).read_row_group(group, [name])
    for part in table[0].chunks:
        inner = part
        while not hasattr(inner, "dictionary"):  # a structure's only field, a list's values
            inner = inner.field(0) if hasattr(inner, "field") else inner.flatten()
        lengths = pc.binary_length(inner.dictionary)
        total += int(pc.sum(pc.take(lengths, inner.indices)).as_py() or 0)
    return total


def _length_by_rows(file: BinaryIO, group: int, name: str, longest: int, limit: int) -> int:
    """Return the bytes of all texts of a column, of which few are in memory at a time."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    opened, total = pq.ParquetFile(file), 0
    rows = min(_ROWS_AT_ONCE, max(1, limit // _NO_MATTER // max(1, longest)))
    for batch in opened.iter_batches(rows, row_groups=[group], columns=[name]):
        total += int(pc.sum(pc.binary_length(batch[0])).as_py() or 0)
        if total > limit:
            break
    return total
