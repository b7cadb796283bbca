"""Reading files that somebody else may have written: regular files only, bounded, checked first.

A run directory may come from anybody. What is opened here is a regular file inside it, never a
link, a pipe or a device, so that no read leaves the directory or waits for ever; what it holds is
compared with its hash before anything looks at it, from the one open file, so that nothing is used
in part; and what it decompresses to is bounded before it is decompressed. Nothing is unpickled.

JSON files of the store are *sealed*: their first entry is the SHA-256 of all bytes after it, so
that one altered byte anywhere is noticed. Files of versions that knew no seals begin with their
schema and are read as they are.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from confsim import parquet
from confsim._errors import ConfsimError, check_integer
from confsim._suggest import did_you_mean
from confsim.given_files import NotRegularError, descriptor_of, kind_of, npy_header, reason

if TYPE_CHECKING:
    import pyarrow.parquet

Array = np.ndarray[Any, Any]

#: Bytes that one file of a run may take in memory, unless a caller says otherwise: a table of
#: some twenty million rows. What is stored on disk may be a few times as large.
LIMIT = 1 << 30
_ON_DISK = 4

#: Bytes of a JSON file: the records of a hundred thousand trials fit.
JSON_LIMIT = 1 << 26

#: Larger files are hashed in blocks and then read piece by piece.
_AT_ONCE = 1 << 26
_HASH_BLOCK = 1 << 20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SEAL = re.compile(rb'\{\n "sha256": "([0-9a-f]{64})",\n')

_ARRAYS = 10_000


class Damaged(ConfsimError):  # noqa: N818 - reads as what it says
    """A file is not what was written; the message says which and how."""


class Missing(Damaged):
    """A file is not there."""


class NoColumn(Damaged):
    """A table has no column of a name that was asked for, which may be the asker's mistake."""


# ---- opening -----------------------------------------------------------------------------------


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading.

    Raises
    ------
    Damaged
        If it is a link, a directory, a pipe or a device. None of them is read or waited for.
    OSError
        If it is missing or cannot be read.
    """
    try:
        descriptor = descriptor_of(path, links=False)
    except NotRegularError as error:
        raise Damaged(f"{_base(path)} is a {error.kind}, not a file") from None
    return open(descriptor, "rb", buffering=0)  # noqa: PTH123 - a descriptor


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether there is a regular file, not a link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether there is a directory, not a link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def check_folder(path: Path) -> None:
    """Raise :class:`Damaged` if something that is no directory, or a link, stands at ``path``."""
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(kind):
        raise Damaged(f"{path} is a {kind_of(kind)}, not a directory")


def nearest(path: Path) -> Path:
    """Return ``path``, or the nearest of its parents that is there."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def make_folder(path: Path) -> None:
    """Make a directory that others may make, and remove while it is empty, at the same time.

    ``Path.mkdir(exist_ok=True)`` looks twice, and takes one that is removed in between for a file.

    Raises
    ------
    OSError
        If it cannot be made, or something else has its name.
    """
    while True:
        try:
            path.mkdir()
        except FileExistsError:
            if path.is_dir():
                return
            if path.is_symlink() or path.exists():
                raise
        else:
            return


def make_nested(path: Path) -> None:
    """Make a directory in one that others remove while it is empty, as :func:`make_folder` does."""
    while True:
        make_folder(path.parent)
        with contextlib.suppress(FileNotFoundError):
            make_folder(path)
            return


def read_bounded(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes."""
    with open_regular(path) as file:
        content = _read(file, limit + 1)
    if len(content) > limit:
        raise Damaged(f"{_base(path)} has more than {limit:,} bytes")
    return content


def _read(file: BinaryIO, size: int) -> bytes:
    """Read up to ``size`` bytes: one call of an unbuffered file may return fewer than there are."""
    pieces = []
    while size > 0 and (piece := file.read(min(size, _AT_ONCE))):
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _base(path: str | os.PathLike[str]) -> str:
    return os.path.basename(os.fspath(path))  # noqa: PTH119 - also of strings


# ---- records of files --------------------------------------------------------------------------


def check_entries(entries: Any) -> dict[str, dict[str, Any]]:
    """Return the sizes and hashes of files by name; plain names of a folder's own files only.

    Raises
    ------
    ValueError
        If they are anything else: no name may have a separator or begin with a dot.
    """
    if not isinstance(entries, dict):
        raise ValueError("no files")
    for name, entry in entries.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a file")
        size, digest = entry["size"], entry["sha256"]
        if type(size) is not int or size < 0 or not _SHA256.fullmatch(digest):
            raise ValueError(f"no size and hash of {name}")
    return entries


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a regular file, in hex, in bounded memory."""
    with open_regular(path) as file:
        return _hash(file)


def _hash(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(_HASH_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def damage(
    path: str,
    expected: Mapping[str, Any],
    *,
    hashes: bool,
    limit: int = LIMIT,
    part: tuple[str, int] | None = None,
) -> str | None:
    """Say what is wrong with a file, or ``None``: kind, size, and its hash if ``hashes``.

    ``part`` is the name and the place of a file that lies within another one.
    """
    try:
        if hashes:
            with _checked(path, expected, limit, part):
                return None
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            return f"{_base(path)} is a {kind_of(found.st_mode)}, not a file"
        if part is None and found.st_size != expected["size"]:
            return f"{_base(path)} has {found.st_size} bytes, not {expected['size']}"
        if part is not None and found.st_size < part[1] + expected["size"]:
            return f"{part[0]} lies beyond the end of {_base(path)}"
    except Damaged as error:
        return str(error)
    except OSError as error:
        return _unreadable(path, error)
    return None


def _unreadable(path: str, error: OSError) -> str:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return f"{_base(path)} is missing"
    return f"{_base(path)} cannot be read: {error.strerror}"


def open_checked(
    path: str | os.PathLike[str],
    expected: Mapping[str, Any],
    limit: int = LIMIT,
    *,
    part: tuple[str, int] | None = None,
) -> BinaryIO:
    """Open a file whose size and hash are those of its record; read from nothing else.

    Parameters
    ----------
    path : path-like
    expected : mapping
        Its size and hash.
    limit : int
        Bytes that it may take in memory.
    part : tuple of str and int, optional
        Name and place of a file that lies within the one at ``path``.

    Raises
    ------
    Missing
        If there is no file at ``path``.
    Damaged
        With the file's name and what is wrong with it.
    """
    try:
        return _checked(path, expected, limit, part)
    except FileNotFoundError as error:
        raise Missing(_unreadable(os.fspath(path), error)) from None
    except OSError as error:
        raise Damaged(_unreadable(os.fspath(path), error)) from None


def open_part(path: str | os.PathLike[str], offset: int, size: int) -> BinaryIO:
    """Open ``size`` bytes of a regular file as if they were a file; fewer if it ends before."""
    file = open_regular(path)
    try:
        if size > _AT_ONCE:
            return io.BufferedReader(_Part(file, offset, size))
        file.seek(offset)
        content = _read(file, size)
    except BaseException:
        file.close()
        raise
    file.close()
    return io.BytesIO(content)


class _Part(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._offset + self._at)
        piece = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        self._file.close()
        super().close()


def _checked(
    path: str | os.PathLike[str],
    expected: Mapping[str, Any],
    limit: int,
    part: tuple[str, int] | None = None,
) -> BinaryIO:
    if part is None:
        file = open_regular(path)
        name, size = _base(path), os.fstat(file.fileno()).st_size
    else:
        name, size = part[0], expected["size"]
        file = open_part(path, part[1], min(size, _ON_DISK * limit + 1))
    try:
        if size != expected["size"]:
            raise Damaged(f"{name} has {size} bytes, not {expected['size']}")
        if size > _ON_DISK * limit:
            raise Damaged(f"{name} has {size:,} bytes, {_too_many(_ON_DISK * limit)}")
        if size <= _AT_ONCE:
            content = _read(file, size + 1)
            file.close()
            file = io.BytesIO(content)
            found = hashlib.sha256(content).hexdigest()
        else:
            found = _hash(file)
            file.seek(0)
        if found != expected["sha256"]:
            raise Damaged(f"{name} does not have the hash it was written with")
    except BaseException:
        file.close()
        raise
    return file


def _too_many(limit: int) -> str:
    return f"more than the limit of {limit:,}; a larger --limit reads it"


def check_limit(limit: int | None) -> int:
    """Return the bytes that one file may take in memory; ``None`` is the usual."""
    return LIMIT if limit is None else check_integer("limit", limit, minimum=1)


# ---- sealed JSON -------------------------------------------------------------------------------


def seal(value: Mapping[str, Any]) -> bytes:
    """Return JSON that people can read, too, with the hash of all that follows it in front."""
    return sealed(json.dumps(value, indent=1, allow_nan=False)[2:] + "\n")


def sealed(text: str) -> bytes:
    """Return sealed JSON, given the text of an object without its first brace."""
    body = text.encode()
    digest = hashlib.sha256(body).hexdigest()
    return b'{\n "sha256": "' + digest.encode() + b'",\n' + body


def read_sealed(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a sealed JSON file holds, or one of a version that knew no seals.

    Raises
    ------
    Damaged
        If a byte was altered, or it is no JSON of ours.
    OSError
        If it is missing or cannot be read.
    """
    return unseal(read_bounded(path, JSON_LIMIT), _base(path))


def unseal(content: bytes, name: str) -> dict[str, Any]:
    """Return what sealed JSON holds; see :func:`read_sealed`."""
    found = _SEAL.match(content)
    if (
        found is not None
        and hashlib.sha256(content[found.end() :]).hexdigest() != found[1].decode()
    ):
        raise Damaged(f"{name} does not have the hash it was written with")
    value = parse_json(content, name)
    # Whatever a newer version writes: its schema is for the caller to refuse.
    if found is None and next(iter(value), None) != "schema" and value.get("schema", 1) == 1:
        raise Damaged(f"{name} is not one of ours")
    value.pop("sha256", None)
    return value


def parse_json(content: bytes, name: str) -> dict[str, Any]:
    """Return a JSON object; no NaN, no infinity, no key twice, no nesting without end."""
    try:
        value = json.loads(content, object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError):
        raise Damaged(f"{name} is not one of ours") from None
    if not isinstance(value, dict):
        raise Damaged(f"{name} is not one of ours")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


# ---- Parquet -----------------------------------------------------------------------------------


def open_parquet(
    file: BinaryIO, name: str, limit: int, *, pieces: bool = False
) -> "pyarrow.parquet.ParquetFile":
    """Open a Parquet file of plain columns that fits.

    Parameters
    ----------
    file : file
        From :func:`open_checked`.
    name : str
        For messages.
    limit : int
        Bytes that it may take in memory; with ``pieces``, each row group alone.

    Raises
    ------
    Damaged
        If it is no Parquet, holds anything but numbers, bools and strings, or does not fit.
    """
    import pyarrow.parquet as pq

    with parquet_errors(name):
        found = pq.ParquetFile(file)
        schema = found.schema_arrow
    for field in schema:
        if not _plain(field.type):
            raise Damaged(
                f"{name} has a column {field.name!r} of {field.type}, which is none of ours"
            )
    with parquet_errors(name):
        sizes = parquet.group_sizes(file, found, limit)
    size = max(sizes, default=0) if pieces else sum(sizes)
    if size > limit:
        raise Damaged(f"{name} takes {size:,} bytes in memory, {_too_many(limit)}")
    return found


def _plain(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    kinds = (types.is_integer, types.is_floating, types.is_boolean)
    texts = (types.is_string, types.is_large_string)
    return any(is_kind(kind) for is_kind in (*kinds, *texts))


@contextlib.contextmanager
def parquet_errors(name: str) -> Iterator[None]:
    """Turn whatever a reader of Parquet finds wrong into :class:`Damaged`."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Damaged(f"{name} cannot be read as Parquet: {reason(error)}") from None


def validated(found: Any) -> Any:
    """Return a table or a batch of one whose texts are UTF-8 and whose codes have a text each.

    Parquet that says otherwise is read without a word, and fails where it is used.
    """
    found.validate(full=True)
    return found


def columns_of(
    found: "pyarrow.parquet.ParquetFile", name: str, columns: "list[str] | None"
) -> "list[str] | None":
    """Return the columns to read; every one that is asked for must be there."""
    there = found.schema_arrow.names
    absent = [column for column in columns or () if column not in there]
    if absent:
        hint = did_you_mean(absent[0], there) or ""
        raise NoColumn(f"{name} has no column {absent[0]!r}{hint}; it has {', '.join(there[:30])}")
    return columns


# ---- npz and npy -------------------------------------------------------------------------------


def read_npz(file: BinaryIO, name: str, limit: int) -> dict[str, Array]:
    """Return the arrays of an ``.npz`` file that fits.

    Raises
    ------
    Damaged
        If it is no archive of plain arrays, or does not fit.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            size = sum(entry.file_size for entry in entries)
            if size > limit or len(entries) > _ARRAYS:
                raise Damaged(f"{name} takes {size:,} bytes in memory, {_too_many(limit)}")
            found = {}
            for entry in entries:
                if not entry.filename.endswith(".npy") or entry.flag_bits & 1:
                    raise Damaged(f"{name} holds {entry.filename!r}, which is no array")
                with archive.open(entry) as member:
                    key = entry.filename.removesuffix(".npy")
                    found[key] = read_npy(member, f"{key} of {name}", entry.file_size)
            return found
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError) as error:
        raise Damaged(f"{name} cannot be read: {reason(error)}") from None
    except Exception as error:
        if type(error).__module__ in ("zlib", "lzma"):
            raise Damaged(f"{name} cannot be read: {reason(error)}") from None
        raise


def read_npy(file: Any, name: str, size: int) -> Array:
    """Return the array of an ``.npy`` file of ``size`` bytes; no objects, no more than it says."""
    shape, fortran, kind, start = read_npy_header(file, name)
    count = math.prod(shape)
    if start + count * kind.itemsize != size:
        raise Damaged(f"{name} is not as long as its shape {shape} says")
    content = bytearray()
    while piece := file.read(min(1 << 20, size)):
        content += piece
    if len(content) != count * kind.itemsize:
        raise Damaged(f"{name} ends early")
    array: Array = np.frombuffer(content, dtype=kind, count=count)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def read_npy_header(file: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, order, dtype and where the data of an ``.npy`` file begin."""
    try:
        shape, fortran, kind = npy_header(file)
    except OSError:
        raise
    except Exception as error:  # a damaged header raises whatever Python's own parser does
        raise Damaged(f"{name} is no array: {reason(error)}") from None
    if kind.kind not in "biufcSU" or not kind.itemsize:
        raise Damaged(f"{name} holds {kind}, not plain numbers")
    return shape, fortran, kind, file.tell()


def map_npy(file: BinaryIO, path: Path, name: str) -> Array:
    """Map an ``.npy`` file that :func:`open_checked` has checked, without reading it again."""
    shape, fortran, kind, start = read_npy_header(file, name)
    if math.prod(shape) * kind.itemsize + start != file.seek(0, os.SEEK_END):
        raise Damaged(f"{name} is not as long as its shape {shape} says")
    if math.prod(shape) == 0:
        return np.empty(shape, kind)
    if isinstance(file, io.BytesIO):
        array: Array = np.frombuffer(file.getvalue(), kind, offset=start)
        return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    with open_regular(path) as again:
        order = "F" if fortran else "C"
        mapped: Array = np.memmap(again, kind, "r", start, shape, order)  # type: ignore[call-overload]
    return mapped
