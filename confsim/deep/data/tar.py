"""A strict, sequential reader of tar archives, for data that must not shrink without a word.

The standard library's reader takes a damaged header for the end of the archive. This one verifies
every header's checksum, wants the mark at the end, and nothing but zeros after it, so that an
archive that was cut off or damaged between its files is refused. Nothing is extracted. What the
content of a file is, is nobody's business here.
"""

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from confsim.deep.data.limits import LARGEST_FILE, Budget, DataError, shown

BLOCK = tarfile.BLOCKSIZE

#: Names and pax records are short; a header that asks for more is damaged.
_LARGEST_HEADER = 1 << 20

#: What stands before the first header, for messages.
_BEGINNING = "the beginning"

#: What ``xz -9`` needs is 65 MiB; a header may ask for 4 GiB.
_XZ_MEMORY = 256 << 20


class Member(NamedTuple):
    """An entry of an archive or of a directory.

    Attributes
    ----------
    name : str
        POSIX name as it is stored; bytes that are no UTF-8 are surrogates.
    content : bytes or None
        ``None`` for directories and for files that were not wanted.
    folder : bool
    """

    name: str
    content: bytes | None = None
    folder: bool = False


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


def is_tar(start: bytes) -> bool:
    """Tell whether a file that starts so is a tar archive, plain or compressed."""
    return _opener(start) is not None or _is_header(start[:BLOCK])


def _is_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _opener(start: bytes) -> Callable[[BinaryIO], _Reader] | None:
    if start[:2] == b"\x1f\x8b":
        return lambda file: gzip.GzipFile(fileobj=file, mode="rb")
    if start[:3] == b"BZh":
        return lambda file: _Streams(file, bz2.BZ2Decompressor)
    if start[:6] == b"\xfd7zXZ\0" or start[:3] == b"\x5d\0\0":
        return lambda file: _Streams(file, lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY))
    return None


class _Streams:
    """Unpacks bzip2, xz or LZMA to the last byte, one stream after the other.

    The standard library's files take what is no further stream for the end, and give xz as much
    memory as it asks for.
    """

    def __init__(
        self,
        file: BinaryIO,
        begin: Callable[[], "bz2.BZ2Decompressor | lzma.LZMADecompressor"],
    ) -> None:
        self._file = file
        self._begin = begin
        self._unpack = begin()

    def read(self, size: int) -> bytes:
        while True:
            if self._unpack.eof:
                rest = self._unpack.unused_data.lstrip(b"\0") or self._file.read(BLOCK).lstrip(
                    b"\0"
                )
                if not rest:
                    return b""
                self._unpack = self._begin()
            elif self._unpack.needs_input:
                rest = self._file.read(1 << 16)
                if not rest:
                    raise EOFError("it ends in the middle of its compressed data")
            else:
                rest = b""
            piece = self._unpack.decompress(rest, size)
            if piece:
                return piece


class _Blocks:
    """The unpacked archive as a sequence of bytes that ends nowhere but at its end."""

    def __init__(self, path: Path, reader: _Reader, budget: Budget) -> None:
        self._path = path
        self._reader = reader
        self._budget = budget

    def some(self, size: int) -> bytes:
        """Return ``size`` bytes, or fewer at the end of the file."""
        self._budget.unpack(size, self._path)
        pieces = []
        while size:
            piece = self._reader.read(min(size, 1 << 20))
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def exactly(self, size: int, name: str) -> bytes:
        """Return ``size`` bytes and skip to the next block."""
        padded = -(-size // BLOCK) * BLOCK
        content = self.some(padded)
        if len(content) < padded:
            raise DataError(f"{self._path} is truncated inside {shown(name)}")
        return content[:size]

    def skip(self, size: int, name: str) -> None:
        """Pass over ``size`` bytes and the rest of their last block."""
        left = -(-size // BLOCK) * BLOCK
        while left:
            piece = self.some(min(left, 1 << 20))
            if not piece:
                raise DataError(f"{self._path} is truncated inside {shown(name)}")
            left -= len(piece)


def tar_members(
    path: Path, file: BinaryIO, wanted: Callable[[str], bool], budget: Budget
) -> Iterator[Member]:
    """Yield every entry of a tar archive; a hard link has the content of what it links to.

    Raises
    ------
    DataError
        If a header is damaged, the end is missing, something follows it, or an entry is a symbolic
        link, a device, a pipe or sparse.
    """
    opener = _opener(file.read(6))
    file.seek(0)
    blocks = _Blocks(path, file if opener is None else opener(file), budget)
    contents: dict[str, bytes] = {}
    name = _BEGINNING
    while (entry := _next_entry(path, blocks, name)) is not None:
        name, kind = entry.name, entry.type
        if kind == tarfile.DIRTYPE or (kind == tarfile.AREGTYPE and name.endswith("/")):
            yield Member(name.rstrip("/"), folder=True)
        elif kind == tarfile.LNKTYPE:
            if wanted(name) and entry.linkname not in contents:
                raise DataError(
                    f"{path}: {shown(name)} is a link to {shown(entry.linkname)}, which is no such "
                    "file of the archive before it"
                )
            yield Member(name, contents.get(entry.linkname) if wanted(name) else None)
            if wanted(name):
                contents[name] = contents[entry.linkname]
        elif kind not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
            raise DataError(f"{path}: {shown(name)} is {_special(entry)}")
        elif not wanted(name):
            blocks.skip(entry.size, name)
            yield Member(name)
        elif entry.size > LARGEST_FILE:
            raise DataError(
                f"{path}: {shown(name)} has {entry.size:,} bytes: no picture or batch has"
            )
        else:
            contents[name] = blocks.exactly(entry.size, name)
            yield Member(name, contents[name])
    while rest := blocks.some(1 << 16):
        if rest.strip(b"\0"):
            raise DataError(f"{path} is damaged: data follow the end of the archive")


_SPECIAL = {
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
    b"D": "a directory of an incremental backup",
    b"M": "the rest of a file of another volume",
    b"V": "a volume's label",
}


def _special(entry: tarfile.TarInfo) -> str:
    if entry.type == tarfile.SYMTYPE:
        return (
            f"a symbolic link to {shown(entry.linkname)}: make the archive with the files that its "
            "links mean (tar --dereference)"
        )
    kind = _SPECIAL.get(entry.type, f"an entry of kind {entry.type!r}")
    return f"{kind}, which is not read: make the archive anew without it (tar -cf)"


def _next_entry(path: Path, blocks: _Blocks, previous: str) -> tarfile.TarInfo | None:
    """Return the next entry with its long names put in, or ``None`` at the mark of the end."""
    long_names: dict[str, str] = {}
    while True:
        header = blocks.some(BLOCK)
        if previous == _BEGINNING and not long_names and not _is_header(header):
            raise DataError(f"{path} is truncated or damaged, or holds no tar archive")
        if len(header) < BLOCK:
            raise DataError(f"{path} is truncated: the mark at the end of the archive is missing")
        if not header.strip(b"\0"):
            if long_names:
                raise DataError(f"{path} is damaged: a long name belongs to nothing")
            return None
        try:
            entry = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise DataError(
                f"{path} is damaged: the header after {shown(previous)}: {error}"
            ) from error
        if entry.type in _LONG_NAMES or entry.type in _PAX_HEADERS:
            if entry.size > _LARGEST_HEADER:
                raise DataError(f"{path} is damaged: a header of {entry.size:,} bytes")
            _extend(path, entry, blocks.exactly(entry.size, "a header"), long_names)
            continue
        entry.name = long_names.get("path", entry.name)
        entry.linkname = long_names.get("linkpath", entry.linkname)
        if "size" in long_names:
            entry.size = int(long_names["size"])
        if entry.size < 0:
            raise DataError(f"{path} is damaged: {shown(entry.name)} has {entry.size} bytes")
        return entry


_PAX_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
#: Of POSIX.1-2001 and of its drafts.
_TIMES, _OWNERS = {"atime", "ctime", "mtime"}, {"gid", "gname", "uid", "uname"}
_PAX_KEYS = {"path", "linkpath", "size", "comment", "charset", "hdrcharset"} | _TIMES | _OWNERS
_LONG_NAMES = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}


def _extend(path: Path, entry: tarfile.TarInfo, content: bytes, long_names: dict[str, str]) -> None:
    """Take over what an extended header says of the next entry."""
    if entry.type in _LONG_NAMES:
        name = content.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        long_names[_LONG_NAMES[entry.type]] = name
        return
    for key, value in _pax_records(path, content):
        if "." not in key and key not in _PAX_KEYS:  # programs' own keys are PROGRAM.KEY
            raise DataError(f"{path} is damaged: a pax header with the key {shown(key)!r}")
        if key.startswith("GNU.sparse"):
            raise DataError(f"{path} holds sparse files, which are not read: make it without them")
        if key in ("path", "linkpath", "size"):
            if entry.type == tarfile.XGLTYPE:
                raise DataError(f"{path} sets {key} for all of its files, which is not read")
            long_names[key] = value


def _pax_records(path: Path, content: bytes) -> Iterator[tuple[str, str]]:
    """Yield the ``LENGTH KEY=VALUE`` lines of a pax header."""
    while content.strip(b"\0"):
        length, blank, _ = content.partition(b" ")
        if not blank or not length.isdigit() or len(length) > 8:
            raise DataError(f"{path} is damaged: a pax header")
        record, content = content[: int(length)], content[int(length) :]
        key, equals, value = record[len(length) + 1 : -1].partition(b"=")
        if len(record) != int(length) or record[-1:] != b"\n" or not equals:
            raise DataError(f"{path} is damaged: a pax header")
        yield key.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")
