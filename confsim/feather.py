"""How much a Feather (Arrow) file unpacks to, before anything is unpacked.

Arrow believes the length that stands before each compressed buffer, and a few bytes may promise
gigabytes. The lengths are added up here from the messages of the file, one after another; what is
added up is then read in the same order, because the table of contents at the end of such a file
may name others.
"""

import io
import struct
from collections.abc import Iterator
from typing import Any

#: What a Feather file begins with; the messages come after it.
MAGIC = b"ARROW1\0\0"

#: What stands before the length of a message, and the end of a file after the length of its footer.
_CONTINUED, _END = b"\xff\xff\xff\xff", b"ARROW1"

#: Bytes of a message at least; where a smaller number stands for them, it is no length.
_SHORTEST = 48

# Numbers of the fields that are followed, in Arrow's Message.fbs and File.fbs.
_MESSAGE_HEADER, _DICTIONARY_DATA, _BATCH_BUFFERS, _BATCH_COMPRESSION = 2, 1, 2, 3
_FOOTER_DICTIONARIES, _FOOTER_BATCHES = 2, 3


def messages(content: bytes) -> io.BytesIO:
    """Return the messages of a file, as a stream.

    Polars leaves out the length of the first one, the schema, and writes dictionaries last, which
    readers of the table of contents do not mind: such files are put into the order of a stream.

    Raises
    ------
    ValueError
        If such a file is damaged.
    """
    body = memoryview(content)[len(MAGIC) :]
    first = int.from_bytes(body[:4], "little")
    if body[:4] == _CONTINUED or first >= _SHORTEST:
        return io.BytesIO(body)
    try:
        return io.BytesIO(b"".join(_in_order(content)))
    except (struct.error, OverflowError) as error:
        raise ValueError(f"its table of contents is damaged: {error}") from None


def _in_order(content: bytes) -> list[bytes | memoryview]:
    """Return the schema with its length, all dictionaries and all batches."""
    view, tail = memoryview(content), 4 + len(_END)
    (size,) = struct.unpack_from("<I", content, len(content) - tail)
    end = len(content) - tail - size
    if not content.endswith(_END) or end < len(MAGIC):
        raise ValueError("it is cut short")
    footer = view[end:-tail]
    root = _follow(footer, 0)
    blocks = [
        block
        for number in (_FOOTER_DICTIONARIES, _FOOTER_BATCHES)
        if _place(footer, root, number)
        for block in _blocks(footer, _field(footer, root, number))
    ]
    stops = [start for start, _ in blocks]
    stops.append(end - 8 if content[end - 8 : end - 4] == _CONTINUED else end)  # the end of all
    schema = view[len(MAGIC) : min(stops)]
    found = [view[start : start + length] for start, length in blocks]
    if min(stops) < len(MAGIC) or sum(map(len, found)) > len(content):
        raise ValueError("its table of contents is damaged")
    return [_CONTINUED, len(schema).to_bytes(4, "little"), schema, *found]


def _blocks(footer: memoryview, vector: int) -> Iterator[tuple[int, int]]:
    """Yield begin and length of the messages in a list of the table of contents."""
    (count,) = struct.unpack_from("<I", footer, vector)
    for i in range(count):
        start, head, body = struct.unpack_from("<qi4xq", footer, vector + 4 + 24 * i)
        if min(start, head, body) < 0:
            raise ValueError("its table of contents is damaged")
        yield start, head + body


def unpacked_size(content: bytes) -> int:
    """Return the bytes that all messages of a file unpack to.

    Raises
    ------
    ValueError
        If they are damaged.
    """
    import pyarrow as pa

    if not content.startswith(MAGIC):
        return len(content)  # the first version of the format, which knows no compression
    total = 0
    try:
        for message in pa.ipc.MessageReader.open_stream(messages(content)):
            total += _size(message)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"a message is damaged: {error}") from None
    return total


def _size(message: Any) -> int:
    head, body = memoryview(message.metadata), message.body
    stored = 0 if body is None else body.size
    if message.type not in ("record batch", "dictionary"):
        return stored
    batch = _field(head, _follow(head, 0), _MESSAGE_HEADER)
    if message.type == "dictionary":
        batch = _field(head, batch, _DICTIONARY_DATA)
    if not _place(head, batch, _BATCH_COMPRESSION):
        return stored
    buffers = _field(head, batch, _BATCH_BUFFERS)
    (count,) = struct.unpack_from("<I", head, buffers)
    places = struct.unpack_from(f"<{2 * count}q", head, buffers + 4)
    total = 0
    for offset, length in zip(places[::2], places[1::2], strict=True):
        if length:
            (unpacked,) = struct.unpack_from("<q", body, offset)
            total += max(unpacked, length)  # -1: this one is not compressed
    return total


def _place(head: memoryview, table: int, field: int) -> int:
    """Return where a field of a FlatBuffers table is, 0 if it is absent."""
    (back,) = struct.unpack_from("<i", head, table)
    (size,) = struct.unpack_from("<H", head, table - back)
    if 4 + 2 * field >= size:
        return 0
    (offset,) = struct.unpack_from("<H", head, table - back + 4 + 2 * field)
    return table + offset if offset else 0


def _field(head: memoryview, table: int, field: int) -> int:
    """Return what a field of a table points to."""
    return _follow(head, _place(head, table, field))


def _follow(head: memoryview, place: int) -> int:
    """Return what an offset points to."""
    (offset,) = struct.unpack_from("<I", head, place)
    return place + int(offset)
