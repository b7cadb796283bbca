"""What every reader of data keeps to: regular files, bounded unpacking, errors that name a file.

Data come from anywhere, so nothing about a file is taken on trust: not its size, not its kind, not
what its header promises. This module opens files and counts bytes; it knows no format.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from confsim._errors import ConfsimError
from confsim.given_files import UNPACK_RATIO, NotRegularError, descriptor_of, reason

#: Images may always unpack to so many bytes, and to so many times the size of their files as other
#: data. Pictures and tables of research unpack to 1 to 60 times their size; what is built to
#: exhaust memory, to 1,000 times.
UNPACK_FLOOR = 512 << 20

#: No sensible picture, batch or label file is larger.
LARGEST_FILE = 1 << 30


class DataError(ValueError):
    """Data that cannot be used as they are: one line with the file, the reason and a remedy.

    Names come from foreign files, so what cannot be printed in one line appears as escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


class Budget:
    """Counts what a data set unpacks to, and refuses what no real data set does.

    Parameters
    ----------
    limit : int, optional
        Bytes that the data may unpack to. Without it: ``UNPACK_FLOOR``, or ``UNPACK_RATIO`` times
        the bytes of their files where that is more.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self._stored = 0
        self._unpacked = 0

    def store(self, size: int) -> None:
        """Count bytes of a file as it lies on the disk."""
        self._stored += size

    def unpack(self, size: int, name: object) -> None:
        """Count bytes that ``name`` is about to unpack to.

        Raises
        ------
        DataError
            If that makes more than the data may unpack to.
        """
        self._unpacked += size
        allowed = self.limit or max(UNPACK_FLOOR, UNPACK_RATIO * self._stored)
        if self._unpacked > allowed:
            raise DataError(
                f"{name} makes the data unpack to more than {allowed / (1 << 30):.3g} GiB "
                f"({self._stored:,} bytes as they are stored), which looks like a decompression "
                "bomb: if they are meant to be so large, give --unpack-limit (unpack_limit, GiB)"
            )


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe, a device or a socket is refused, never waited for.

    Raises
    ------
    DataError
        If ``path`` is missing, unreadable or something else than a regular file.
    """
    try:
        return os.fdopen(descriptor_of(path), "rb")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except NotRegularError as error:
        raise DataError(f"{path} is a {error.kind}, not a regular file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {reason(error)}") from error


def read_regular(path: Path, budget: Budget, largest: int = LARGEST_FILE) -> bytes:
    """Return the content of a regular file of at most ``largest`` bytes."""
    with open_regular(path) as file, reading(path):
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise DataError(f"{path} has {size:,} bytes: no picture, batch or table is that large")
        content = file.read(largest + 1)
        budget.store(len(content))
        return content


@contextlib.contextmanager
def reading(name: object, otherwise: str = "") -> Iterator[None]:
    """Turn whatever foreign bytes raise into a ``DataError`` that names the file.

    ``otherwise`` says what else the file may be, as in ", or no archive". A stop request
    (``KeyboardInterrupt``) and a ``ConfsimError`` pass.
    """
    try:
        yield
    except (DataError, ConfsimError):
        raise
    except OSError as error:
        if error.errno is not None:
            raise DataError(f"{name} cannot be read: {reason(error)}") from error
        raise DataError(f"{name} is truncated or damaged{otherwise}: {reason(error)}") from error
    except Exception as error:  # decoders of foreign bytes may raise anything
        raise DataError(f"{name} is truncated or damaged{otherwise}: {reason(error)}") from error


def shown(name: str) -> str:
    """Return a name for a message: bytes that are no UTF-8 appear as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def check_text(name: str, what: str) -> str:
    """Return ``name`` if it can be written as UTF-8, or say that ``what`` is not."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{what} {shown(name)!r} is not UTF-8: rename it") from None
    return name


def list_some(names: Any, count: int = 3) -> str:
    """Return the first names of a collection, and how many more there are."""
    names = [shown(str(name)) for name in names]
    more = f", and {len(names) - count:,} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
