"""Room for matrices (trials, examples) that memory need not hold: files without a name.

Large arrays are mapped from a file that ends with them. Their pages count as memory of the process
only as long as the system has nothing better to do with it.
"""

import contextlib
import io
import math
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from confsim.store import artifacts

#: Smaller arrays are left to NumPy.
SMALLEST = 1 << 25

_ZEROS = bytes(1 << 20)


class Scratch:
    """Allocates arrays, large ones in files.

    Parameters
    ----------
    folder : Path
        Where files are made; elsewhere where nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """Return an array of any content.

        Raises
        ------
        ConfsimError
            If there is no room for it.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size < SMALLEST:
            return np.empty(shape, dtype)
        folder, file = temporary(self._folder)
        with file:
            try:
                _reserve(file, size)
                mapped = mmap.mmap(file.fileno(), size)
            except OSError as error:
                raise artifacts.cannot_write(folder / "(temporary file)", error) from None
        return np.frombuffer(mapped, dtype).reshape(shape)


def _reserve(file: io.BufferedRandom, size: int) -> None:
    """Fill a file: on a full disk a page that has no place there would end the process."""
    if hasattr(os, "posix_fallocate"):
        with contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, size)
            return
    for start in range(0, size, len(_ZEROS)):
        file.write(_ZEROS[: size - start])
    file.flush()


def temporary(folder: Path) -> tuple[Path, io.BufferedRandom]:
    """Open a file without a name in a folder, or elsewhere where nothing can be written there."""
    try:
        return folder, tempfile.TemporaryFile(dir=folder)
    except OSError as error:
        try:
            elsewhere = Path(tempfile.gettempdir())
            return elsewhere, tempfile.TemporaryFile(dir=elsewhere)
        except OSError:
            raise artifacts.cannot_write(folder / "(temporary file)", error) from None
