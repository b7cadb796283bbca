"""Opening what a user gives: regular files only, bounded unpacking, never unpickling.

The data may come from anybody. Every error is one line that names the file.
"""

import contextlib
import gzip
import io
import math
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Data may always unpack to so many bytes, and to so many times the size of their file.
UNPACK_FLOOR = 1 << 30
UNPACK_RATIO = 100

_BLOCK = 1 << 20


@contextlib.contextmanager
def naming(source: str) -> Iterator[None]:
    """Have errors about data name the file or folder that holds them; "" where there is none."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if not source or source in str(error):
            raise
        kind = TypeError if type(error) is TypeError else ValueError
        raise kind(f"{source}: {one_line(error)}") from None


def given_path(path: str | os.PathLike[str]) -> Path:
    """Return the path that a user wrote; ``~`` is the home unless something is called so."""
    found = Path(path)
    if found.parts[:1] and found.parts[0].startswith("~") and not os.path.lexists(found):
        try:
            return found.expanduser()
        except RuntimeError:  # a user whom this machine does not know
            return found
    return found


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file; a pipe or device is refused, never waited for."""
    try:
        # Opening a pipe without O_NONBLOCK would wait for somebody who writes.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise ValueError(f"{path} cannot be read: it is no regular file")
    return os.fdopen(number, "rb")


def check_unpacked(path: Path, unpacked: int, stored: int, limit: int | None = None) -> None:
    """Raise ``ValueError`` if data unpack to more than ``limit``, by default than real data do."""
    allowed = limit or max(UNPACK_FLOOR, UNPACK_RATIO * stored)
    if unpacked > allowed:
        raise ValueError(
            f"{path} cannot be read: its {stored:,} bytes unpack to {unpacked:,} or more, beyond "
            f"the limit of {allowed:,}: if it is meant to be so large, give --unpack-limit "
            "(unpack_limit, GiB)"
        )


def unzip(path: Path, packed: bytes, limit: int | None = None) -> bytes:
    """Return what a gzip file holds, within the limit."""
    content = bytearray()
    decoder = gzip.GzipFile(fileobj=io.BytesIO(packed))
    try:
        while block := decoder.read(_BLOCK):
            content += block
            check_unpacked(path, len(content), len(packed), limit)
    except (OSError, EOFError, zlib.error):
        raise ValueError(f"{path} cannot be read: it is damaged or no gzip file") from None
    return bytes(content)


def load_npz(path: Path, limit: int | None = None) -> dict[str, Array]:
    """Return the arrays of an ``.npz`` file by name; they unpack to ``limit`` bytes at most."""
    arrays = {}
    with open_regular(path) as file:
        stored = os.fstat(file.fileno()).st_size
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                unpacked = sum(member.file_size for member in members)
                check_unpacked(path, unpacked, stored, limit)
                for member in members:
                    if member.filename.endswith(".npy"):
                        with archive.open(member) as stream:
                            name = member.filename[: -len(".npy")]
                            arrays[name] = _read_array(stream, member.file_size, f"{path}: {name}")
        except (
            zipfile.BadZipFile,
            NotImplementedError,
            RuntimeError,
            EOFError,
            OSError,
            zlib.error,
            struct.error,
        ) as error:
            raise ValueError(
                f"{path} cannot be read: it is damaged or no .npz file ({one_line(error)})"
            ) from None
    if not arrays:
        raise ValueError(f"{path} cannot be read: it holds no arrays")
    return arrays


def load_npy(path: Path) -> Array:
    """Return the array of an ``.npy`` file."""
    with open_regular(path) as file:
        return _read_array(file, os.fstat(file.fileno()).st_size, str(path))


def _read_array(stream: Any, size: int, name: str) -> Array:
    """Read an array whose header promises no more than there is."""
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise ValueError(f"unknown version {version}")
        shape, fortran, dtype = read_header(stream)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are never unpickled")
        count = math.prod(shape)
        if any(length < 0 for length in shape) or count * dtype.itemsize > size:
            raise ValueError("it is cut short")
        content = np.empty(count * dtype.itemsize, np.uint8)
        if _fill(stream, content) < len(content):
            raise ValueError("it is cut short")
        flat = content.view(dtype) if len(content) else np.empty(count, dtype)
        return flat.reshape(shape, order="F" if fortran else "C")
    except MemoryError:
        raise
    except Exception as error:  # a damaged header raises whatever Python's own parser does
        raise ValueError(f"{name} cannot be read as .npy: {one_line(error)}") from None


def _fill(stream: Any, content: Array) -> int:
    """Read into an array of bytes; return how many there were."""
    view, filled = content.data, 0
    while filled < len(view) and (got := stream.readinto(view[filled : filled + _BLOCK])):
        filled += got
    return filled


def natural_order(names: Iterable[str]) -> list[str]:
    """Order names as people do: ``model-2`` before ``model-10``."""

    def parts(name: str) -> tuple[list[tuple[int, int, str]], str]:
        found = [part for part in re.split(r"([0-9]+)", name) if part]
        return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in found], name

    return sorted(names, key=parts)


def one_line(error: BaseException) -> str:
    """Return an error's words in one line that a terminal can show."""
    text = "".join(c if c.isprintable() else " " for c in str(error))
    return " ".join(text.split()) or type(error).__name__
