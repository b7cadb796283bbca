"""Entries of a directory, a tar or a zip archive, one after the other, and in memory only.

Nothing is extracted, so a name in an archive can point nowhere. Nothing is left out in silence: an
entry that cannot be read as its owner sees it (a link that leads nowhere, a pipe, an encrypted
file, a header that does not fit) is refused by name. Which entries matter is the caller's decision.
"""

import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from confsim.deep.data.limits import (
    LARGEST_FILE,
    Budget,
    DataError,
    open_regular,
    read_regular,
    reading,
    shown,
)
from confsim.deep.data.tar import BLOCK, Member, is_tar, tar_members
from confsim.given_files import kind_of

#: What systems leave beside files.
_LEFT_BY_SYSTEMS = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir"})

_OTHER_PACKERS = {
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "RAR",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"\x04\x22\x4d\x18": "LZ4",
    b"LZIP": "lzip",
    b"\x1f\x9d": "compress",
    b"MSCF": "cabinet",
    b"!<arch>": "ar",
    b"07070": "cpio",
}


def is_hidden(name: str) -> bool:
    """Tell whether a name, or a folder above it, is hidden or left by an operating system."""
    return any(
        part.lower() in _LEFT_BY_SYSTEMS or (part.startswith(".") and part not in (".", ".."))
        for part in name.split("/")
    )


def members(path: Path, wanted: Callable[[str], bool], budget: Budget) -> Iterator[Member]:
    """Yield every entry below ``path``, with the content of the files that are ``wanted``.

    Parameters
    ----------
    path : Path
        A directory, a ``.tar`` (compressed or not) or a ``.zip``.
    wanted : callable
        Gets a POSIX name and says whether its content is needed.
    budget : Budget
        Of what is read and unpacked.

    Raises
    ------
    DataError
        If ``path`` is missing, of another kind, truncated or damaged, or holds what cannot be read.
    """
    with reading(path):
        directory = path.is_dir()
    if directory:
        yield from _directory_members(path, wanted, budget)
        return
    with open_regular(path) as file, reading(path, ", or no archive"):
        budget.store(os.fstat(file.fileno()).st_size)
        start = file.read(BLOCK)
        file.seek(0)
        for magic, kind in _OTHER_PACKERS.items():
            if start.startswith(magic):
                raise DataError(f"{path} is packed by {kind}, which is not read: unpack it first")
        if is_tar(start):
            yield from tar_members(path, file, wanted, budget)
        elif zipfile.is_zipfile(file):
            yield from _zip_members(path, file, wanted, budget)
        else:
            raise DataError(f"{path} is truncated, damaged or no archive (a tar or a zip)")


# -- Directories -----------------------------------------------------------------------------------


def _directory_members(
    root: Path, wanted: Callable[[str], bool], budget: Budget
) -> Iterator[Member]:
    """Walk a directory in the order of names; links are followed to where they lead."""
    visited: dict[tuple[int, int], str] = {}
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        here = root / folder
        with reading(here):
            status = here.stat()
            first = visited.setdefault((status.st_dev, status.st_ino), folder)
            if first != folder:
                raise DataError(
                    f"{root}: {shown(folder)} and {shown(first) or '.'} are the same directory, by "
                    "a link: remove one of them"
                )
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        folders = []
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if is_hidden(entry.name):
                yield Member(name)
            elif _is_directory(root, name, entry):
                folders.append(name)
                yield Member(name, folder=True)
            else:
                yield Member(
                    name, read_regular(here / entry.name, budget) if wanted(name) else None
                )
        waiting.extend(reversed(folders))


def _is_directory(root: Path, name: str, entry: "os.DirEntry[str]") -> bool:
    """Tell a directory from a regular file, and refuse everything else."""
    if entry.is_file(follow_symlinks=False):
        return False
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        raise DataError(
            f"{root}: {shown(name)} is a link that leads nowhere, or cannot be read "
            f"({error.strerror})"
        ) from error
    kind = kind_of(mode)
    if kind not in ("regular file", "directory"):
        raise DataError(f"{root}: {shown(name)} is a {kind}, not a regular file")
    return kind == "directory"


# -- Zip archives ----------------------------------------------------------------------------------

_END_OF_DIRECTORY = struct.Struct("<4s4H2LH")
_ZIP64_COUNTS = struct.Struct("<2Q")
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_LOCAL_SIGN = b"PK\x03\x04"
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 0x1, 0x8, 0x800


def _zip_members(
    path: Path, file: BinaryIO, wanted: Callable[[str], bool], budget: Budget
) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        _check_count(path, file, archive, len(entries))
        _check_start(path, file, min((entry.header_offset for entry in entries), default=0))
        # The directory says all sizes, and no entry may exceed its own: refused before any work.
        budget.unpack(sum(e.file_size for e in entries if wanted(_zip_name(e))), path)
        for entry in entries:
            _check_local_header(path, file, entry)
            name = _zip_name(entry)
            kind = entry.external_attr >> 16 if entry.create_system == 3 else 0
            if name.endswith("/"):
                yield Member(name.rstrip("/"), folder=True)
                continue
            if kind_of(kind) not in ("regular file", "directory", "special file"):
                raise DataError(
                    f"{path}: {shown(name)} is a {kind_of(kind)}, not a regular file: make the "
                    "archive with the files that its links mean"
                )
            if not wanted(name):
                yield Member(name)
                continue
            yield Member(name, _zip_content(path, archive, entry, name))


def _zip_content(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> bytes:
    label = f"{path}: {shown(name)}"
    if entry.flag_bits & _ENCRYPTED:
        raise DataError(f"{label} is encrypted: make the archive without a password")
    if entry.file_size > LARGEST_FILE:
        raise DataError(f"{label} has {entry.file_size:,} bytes: no picture, batch or array has")
    with reading(label):
        try:
            with archive.open(entry) as stream:
                # One byte more than the directory says: an entry never unpacks beyond its size.
                content = stream.read(entry.file_size + 1)
        except NotImplementedError as error:
            raise DataError(
                f"{label} is compressed by a method that Python cannot read (number "
                f"{entry.compress_type}): make the archive with method deflate"
            ) from error
    if len(content) != entry.file_size:
        raise DataError(f"{label} is truncated or damaged: its size is not what the archive says")
    return content


def _check_count(path: Path, file: BinaryIO, archive: zipfile.ZipFile, count: int) -> None:
    """Compare the number of entries with that at the archive's end, which ``zipfile`` ignores."""
    file.seek(0, os.SEEK_END)
    size = file.tell()
    tail_size = min(size, _END_OF_DIRECTORY.size + (1 << 16))
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    at = tail.rfind(b"PK\x05\x06")
    _, disk, first_disk, here, total, _, _, comment = _END_OF_DIRECTORY.unpack_from(tail, at)
    if at + _END_OF_DIRECTORY.size + comment != len(tail):
        raise DataError(f"{path} is damaged: data follow the end of the archive")
    if disk not in (0, 0xFFFF) or first_disk not in (0, 0xFFFF):
        raise DataError(f"{path} is damaged, or one part of a split archive")
    record = tail.rfind(b"PK\x06\x06", 0, at)
    if 0xFFFF in (here, total) and record >= 0:  # more files than 16 bits count
        here, total = _ZIP64_COUNTS.unpack_from(tail, record + 24)
    if not here == total == count:
        raise DataError(f"{path} is damaged: it lists {count} of {max(here, total)} files")


def _check_start(path: Path, file: BinaryIO, start: int) -> None:
    """Refuse files before the first that the directory lists, as of archives put together.

    A program that unpacks itself may stand there.
    """
    file.seek(0)
    last = b""
    while start and (block := file.read(min(start, 1 << 20))):
        if _LOCAL_SIGN in last + block:
            raise DataError(
                f"{path} is damaged: files stand before the first that the archive's directory "
                "lists, as in archives put one after the other: make the archive anew"
            )
        last, start = block[1 - len(_LOCAL_SIGN) :], start - len(block)


def _check_local_header(path: Path, file: BinaryIO, entry: zipfile.ZipInfo) -> None:
    """Compare an entry of the archive's directory with the header before its content."""
    file.seek(entry.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size:
        raise DataError(f"{path} is truncated before {shown(entry.filename)}")
    sign, _, flags, method, _, _, crc, packed, size, length, _ = _LOCAL_HEADER.unpack(header)
    name = file.read(length)
    sizes = (crc, packed, size) == (entry.CRC, entry.compress_size, entry.file_size)
    # Writers disagree about the other flags; that of UTF-8 changes nothing in an ASCII name.
    matter = _ENCRYPTED | (0 if name.isascii() else _UTF8)
    if (
        sign != _LOCAL_SIGN
        or (flags ^ entry.flag_bits) & matter
        or method != entry.compress_type
        or name != _stored_name(entry)
        or not (sizes or flags & _SIZES_FOLLOW or 0xFFFFFFFF in (packed, size))
    ):
        raise DataError(
            f"{path} is damaged: the header of {shown(entry.filename)} is not what the archive's "
            "directory says"
        )


def _stored_name(entry: zipfile.ZipInfo) -> bytes:
    return entry.orig_filename.encode("utf-8" if entry.flag_bits & _UTF8 else "cp437")


def _zip_name(entry: zipfile.ZipInfo) -> str:
    """Return a name; without the mark for UTF-8 nothing tells its encoding, but most are UTF-8."""
    if entry.flag_bits & _UTF8:
        return entry.orig_filename.partition("\0")[0]
    return _stored_name(entry).partition(b"\0")[0].decode("utf-8", "surrogateescape")
