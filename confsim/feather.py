"""How much a Feather (Arrow) file unpacks to, before anything is unpacked.

Arrow believes the length that stands before each compressed buffer, and a few bytes may promise
gigabytes. The lengths are added up here from the messages of the file, one after another; what is
added up is then read in the same order, because the table of contents at the end of such a file
may name others.
"""

import io
import struct
from typing import Any

#: What a Feather file begins with; the messages come after it.
MAGIC = b"ARROW1\0\0"

# Numbers of the fields that are followed, in Arrow's Message.fbs.
_MESSAGE_HEADER, _DICTIONARY_DATA, _BATCH_BUFFERS, _BATCH_COMPRESSION = 2, 1, 2, 3


def messages(content: bytes) -> io.BytesIO:
    """Return the messages of a file, as a stream."""
    return io.BytesIO(memoryview(content)[len(MAGIC) :])


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
