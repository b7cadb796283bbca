"""Opening files that anybody may have written: regular ones only, bounded, never unpickled.

What every reader rests on is here: opening a file without waiting for a pipe, what data may unpack
to, arrays whose header promises no more than there is, an error's words in one line. What a user
gives is read by what follows from these; runs (:mod:`confsim.store.files`) and images
(:mod:`confsim.deep.data.limits`) have errors of their own. Every error is one line that names the
file.
"""

import contextlib
import errno
import gzip
import io
import math
import os
import re
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from confsim._errors import check_number

Array = NDArray[Any]

#: Data may always unpack to so many bytes, and to so many times the size of their file.
UNPACK_FLOOR = 1 << 30
UNPACK_RATIO = 100

#: What programs write for a missing value, in small letters.
MISSING = frozenset({"", "nan", "nat", "na", "n/a", "#n/a", "<na>", "none", "null"})
#: And what stands for "of no group" among groups of duplicates.
NO_GROUP = MISSING | {"-", "-1", "-1.0", "noise"}

_BLOCK = 1 << 20

#: What opening or reading a zip archive raises that is damaged, encrypted or packed otherwise.
_ZIP_FAULTS = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    zlib.error,
    struct.error,
)


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
    """Return the path of something to read, as :func:`expanded` does."""
    found = expanded(path)
    try:
        found.lstat()
    except (OSError, ValueError) as error:  # whoever reads it says what else is wrong
        if getattr(error, "errno", None) == errno.ENAMETOOLONG:
            raise ValueError(f"{str(found)[:60]}... cannot be read: its name is too long") from None
    return found


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return the path that a user wrote; ``~`` is the home unless something is called so."""
    if not os.fspath(path):
        raise ValueError("a path must not be empty; this folder is called .")
    found = Path(path)
    if found.parts[:1] and found.parts[0].startswith("~") and not os.path.lexists(found):
        try:
            return found.expanduser()
        except RuntimeError:  # a user whom this machine does not know
            return found
    return found


class NotRegularError(ValueError):
    """Something else than a regular file stands there.

    Attributes
    ----------
    kind : str
        What it is.
    """

    def __init__(self, mode: int) -> None:
        self.kind = kind_of(mode)
        super().__init__(f"it is a {self.kind}, not a regular file")


def kind_of(mode: int) -> str:
    """Name the kind of a file by its mode."""
    kinds = {
        stat.S_IFREG: "regular file",
        stat.S_IFDIR: "directory",
        stat.S_IFLNK: "symbolic link",
        stat.S_IFIFO: "named pipe",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "device",
        stat.S_IFBLK: "device",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")


def descriptor_of(path: str | os.PathLike[str], *, links: bool = True) -> int:
    """Open a regular file for reading, and return its descriptor.

    Parameters
    ----------
    path : path-like
    links : bool
        Whether a symbolic link may lead to it.

    Raises
    ------
    NotRegularError
        If it is something else, a pipe for instance, which would be waited for.
    OSError, ValueError
        If it is missing or cannot be read, or its name holds a zero byte.
    """
    # What is no file is told by its kind before it is opened: opening a device may have effects.
    mode = os.stat(path).st_mode if links else os.lstat(path).st_mode  # noqa: PTH116
    if not stat.S_ISREG(mode):
        raise NotRegularError(mode)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, flags if links else flags | os.O_NOFOLLOW)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):  # changed between the two looks
        os.close(descriptor)
        raise NotRegularError(mode)
    return descriptor


def open_regular(path: Path, name: str = "") -> BinaryIO:
    """Open a regular file, ``name`` in messages; a pipe or device is refused, never waited for."""
    try:
        return os.fdopen(descriptor_of(path), "rb")
    except NotRegularError:
        raise ValueError(f"{name or path} cannot be read: it is no regular file") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{name or path} cannot be read: {reason(error)}") from None


def limit_of(unpack_limit: float | None) -> int | None:
    """Return in bytes how much a file may unpack to, given in GiB; ``None`` is the usual."""
    if unpack_limit is None:
        return None
    return max(1, int(check_number("unpack_limit", unpack_limit, above=0) * (1 << 30)))


def allowed(stored: int, limit: int | None = None) -> int:
    """Return the bytes that data of a file of ``stored`` bytes may unpack to."""
    return limit or max(UNPACK_FLOOR, UNPACK_RATIO * stored)


def check_unpacked(path: Path, unpacked: int, stored: int, limit: int | None = None) -> None:
    """Raise ``ValueError`` if data unpack to more than ``limit``, by default than real data do."""
    most = allowed(stored, limit)
    if unpacked > most:
        raise ValueError(
            f"{path} cannot be read: its {stored:,} bytes unpack to {unpacked:,} or more, beyond "
            f"the limit of {most:,}: if it is meant to be so large, give --unpack-limit "
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


def names_in_zip(path: Path) -> list[str]:
    """Return the names of the files in a zip archive; none if it is damaged or no archive."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return [member.filename for member in archive.infolist() if _is_given(member)]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error):
        return []


def only_file_in_zip(path: Path, packed: bytes, limit: int | None = None) -> bytes:
    """Return the one file that a zip archive holds, within the limit."""
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            members = [member for member in archive.infolist() if _is_given(member)]
            if len(members) != 1:
                raise ValueError(f"{path} must hold one file, not {len(members)}: unpack it")
            check_unpacked(path, members[0].file_size, len(packed), limit)
            return archive.read(members[0])
    except _ZIP_FAULTS as error:
        raise ValueError(
            f"{path} cannot be read: it is damaged, or packed in a way that is not known here: "
            f"unpack it ({one_line(error)})"
        ) from None


def _is_given(member: zipfile.ZipInfo) -> bool:
    """Whether a member is a file that its owner knows of, not a folder or a note of macOS's."""
    # Not is_dir(), which fails where there is no name.
    return not member.filename.endswith("/") and not member.filename.startswith("__MACOSX/")


def load_npz(path: Path, limit: int | None = None) -> dict[str, Array]:
    """Return the arrays of an ``.npz`` file by name; they unpack to ``limit`` bytes at most.

    A member that is no array is refused: its name may be what is damaged.
    """
    arrays: dict[str, Array] = {}
    with open_regular(path) as file:
        stored = os.fstat(file.fileno()).st_size
        try:
            with zipfile.ZipFile(file) as archive:
                members = [member for member in archive.infolist() if _is_given(member)]
                unpacked = sum(member.file_size for member in members)
                check_unpacked(path, unpacked, stored, limit)
                for member in members:
                    name = member.filename.removesuffix(".npy")
                    with archive.open(member) as stream:
                        array = _read_array(stream, member.file_size, f"{path}: {name}")
                    if name in arrays:
                        raise ValueError(f"{path} cannot be read: it holds the array {name} twice")
                    arrays[name] = array
        except _ZIP_FAULTS as error:
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
    """Read an array whose header promises what there is, no more and no less."""
    try:
        shape, fortran, dtype = npy_header(stream)
        count = math.prod(shape)
        if count * dtype.itemsize > size:
            raise ValueError("it is cut short")
        content = np.empty(count * dtype.itemsize, np.uint8)
        if _fill(stream, content) < len(content):
            raise ValueError("it is cut short")
        if stream.read(1):  # at the end of a member, its checksum is compared, too
            raise ValueError(f"it holds more than an array of shape {shape}")
        flat = content.view(dtype) if len(content) else np.empty(count, dtype)
        return flat.reshape(shape, order="F" if fortran else "C")
    except MemoryError:
        raise
    except Exception as error:  # a damaged header raises whatever Python's own parser does
        raise ValueError(f"{name} cannot be read as .npy: {one_line(error)}") from None


def npy_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, order and dtype of an ``.npy`` file; the stream is then at its data.

    Raises
    ------
    ValueError
        Or whatever Python's own parser raises, if it is no header of an array of plain values.
    """
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
    if any(length < 0 for length in shape):
        raise ValueError(f"it has shape {shape}")
    return shape, fortran, dtype


def _fill(stream: Any, content: Array) -> int:
    """Read into an array of bytes; return how many there were."""
    view, filled = content.data, 0
    while filled < len(view) and (got := stream.readinto(view[filled : filled + _BLOCK])):
        filled += got
    return filled


def first_twice(names: Sequence[str]) -> str | None:
    """Return the first of the names that is there twice."""
    counts = Counter(names)
    return next((name for name in names if counts[name] > 1), None)


def natural_order(names: Iterable[str]) -> list[str]:
    """Order names as people do: ``model-2`` before ``model-10``."""

    def parts(name: str) -> tuple[list[tuple[int, int, str]], str]:
        found = [part for part in re.split(r"([0-9]+)", name) if part]
        return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in found], name

    return sorted(names, key=parts)


def reason(error: BaseException) -> str:
    """Return what an exception says, in one line and not without end."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split())[:200] or type(error).__name__


def one_line(error: BaseException) -> str:
    """Return an error's words in one line that a terminal can show."""
    text = "".join(c if c.isprintable() else " " for c in str(error))
    return " ".join(text.split()) or type(error).__name__
