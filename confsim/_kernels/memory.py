"""Memory for answers, used again once nobody holds them.

A fresh array of megabytes costs more than a fast search: the system clears each page when it is
first written. So the memory of large answers goes back to a small stock when the last array that
looks at it is gone, and comes from there as long as some fits.
"""

import contextlib
import ctypes
import mmap
import threading
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: Smaller arrays are left to NumPy.
SMALLEST = 1 << 20

#: Bytes that the stock holds at most; what comes back beyond them is freed.
MOST = 1 << 26

_PAGE = 1 << 21

#: Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_stock: list[mmap.mmap] = []
_lock = threading.RLock()  # a finalizer can run wherever memory is allocated, also in here


def empty(length: int, dtype: DTypeLike) -> NDArray[Any]:
    """Return an uninitialised array, as ``numpy.empty`` does."""
    size = length * np.dtype(dtype).itemsize
    if size < SMALLEST or not hasattr(mmap, "MAP_PRIVATE"):
        return np.empty(length, dtype)
    wanted = -(-size // _PAGE) * _PAGE
    block = _take(wanted) or _fresh(wanted)
    array: NDArray[Any] = np.frombuffer(block, dtype, length)
    weakref.finalize(array, _give_back, block).atexit = False
    return array


def _take(size: int) -> mmap.mmap | None:
    with _lock:
        for block in _stock:
            if len(block) == size:
                _stock.remove(block)
                return block
    return None


def _fresh(size: int) -> mmap.mmap:
    try:
        # Private: a forked child gets a copy, as of any other memory.
        block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"not enough memory for {size} bytes of answers") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a system without them
            block.madvise(mmap.MADV_HUGEPAGE)
    return block


def _give_back(block: mmap.mmap) -> None:
    with _lock:
        if len(block) <= MOST:
            _stock.append(block)
            while sum(map(len, _stock)) > MOST:
                _stock.pop(0)


def native(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array that C can read: in the machine's byte order, every entry aligned.

    Copies where it is not, as fields of records and slices of a file's bytes may not be.
    """
    if array.dtype.isnative and array.flags.aligned:
        return array
    return array.astype(array.dtype.newbyteorder("="))


def keep_freed() -> None:
    """Have the C library keep freed memory, up to ``MOST`` bytes, for whoever asks next.

    Otherwise glibc returns arrays of a megabyte to the system, and a trial fetches them again page
    by page. This is for a process that works alone: a worker. Other C libraries do as they please.
    """
    with contextlib.suppress(OSError, AttributeError):
        set_option = ctypes.CDLL(None).mallopt
        set_option(_M_TRIM_THRESHOLD, MOST)
        set_option(_M_MMAP_THRESHOLD, MOST // 4)
