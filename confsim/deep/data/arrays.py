"""Images or rows of numbers in a NumPy archive (``.npz``): plain arrays, and no pickles."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from confsim.deep.data.archive import members
from confsim.deep.data.images import Images, encode_labels
from confsim.deep.data.limits import (
    Budget,
    DataError,
    list_some,
    open_regular,
    reading,
)

#: A header of NumPy's is a short line.
_LARGEST_HEADER = 10_000


def read_npz(path: Path, limit: int | None = None) -> Images:
    """Read ``x`` (n, height, width[, channels]) or (n, features), ``y`` (n,), optional ``id`` (n,).

    Values from 0 to 255 of an integer dtype stay ``uint8``; all else is float32, the precision that
    models compute in. Byte order and memory layout do not matter.

    Parameters
    ----------
    path : Path
    limit : int, optional
        Bytes that the data may unpack to; see :class:`~confsim.deep.data.limits.Budget`.

    Raises
    ------
    DataError
        If an array is missing, is no plain array, does not fit the others, or holds values that
        cannot be kept; the message names the file, the array and the row.
    """
    content, others = read_arrays(path, ("x", "y", "id"), limit)
    for name in ("x", "y"):
        if name not in content:
            has = f"has only {list_some(others, 8)}" if others else f"has no {name}"
            raise DataError(f"{path} must hold arrays x and y, but {has}")
    images = _pixels(path, content["x"])
    labels = content["y"].reshape(-1) if content["y"].ndim <= 2 else content["y"]
    ids = content.get("id", np.arange(len(images)))
    for name, array in (("y", labels), ("id", ids)):
        if array.shape != (len(images),):
            raise DataError(
                f"{path}: {name} must have one entry for each of the {len(images)} rows of x, "
                f"but has shape {content[name].shape}"
            )
    ids = _ids(path, ids)
    try:
        codes, classes = encode_labels(labels)
    except DataError as error:
        raise DataError(f"{path}: y: {error}") from error
    order = np.argsort(ids, kind="stable")
    notes = (f"{path}: arrays that are not read: {list_some(others, 8)}",) if others else ()
    return Images(images[order], codes[order], ids[order], classes, notes)


def read_arrays(
    path: Path, wanted: tuple[str, ...], limit: int | None = None
) -> tuple[dict[str, "np.ndarray[Any, Any]"], list[str]]:
    """Return the wanted arrays of an archive, and the names of the others."""
    with open_regular(path) as file, reading(path):
        start = file.read(8)
    if start.startswith(b"\x93NUMPY"):
        raise DataError(
            f"{path} is a single array (.npy), no .npz archive: use numpy.savez(x=, y=)"
        )
    if not start.startswith(b"PK"):
        raise DataError(f"{path} is truncated or no .npz archive")
    found: dict[str, np.ndarray[Any, Any]] = {}
    others: list[str] = []
    files = {f"{name}.npy": name for name in wanted}
    for member in members(path, files.__contains__, Budget(limit)):
        if member.content is None:
            others.append(member.name.removesuffix(".npy"))
        elif files[member.name] in found:
            raise DataError(f"{path} holds the array {files[member.name]} twice")
        else:
            label = f"{path}: {files[member.name]}"
            found[files[member.name]] = _array(label, member.content)
    return found, others


def _array(label: str, content: bytes) -> "np.ndarray[Any, Any]":
    """Return the array in the content of a ``.npy`` file, read-only, without a copy."""
    stream = io.BytesIO(content)
    with reading(label, ", or no array"):
        version = np.lib.format.read_magic(stream)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise DataError(f"{label} has fields, which are not read: store plain arrays")
        shape, fortran, dtype = readers[version](stream, max_header_size=_LARGEST_HEADER)
    if dtype.hasobject:
        raise DataError(f"{label} holds pickled objects, which are never read: store a plain array")
    if dtype.itemsize == 0 or any(size < 0 for size in shape):
        raise DataError(f"{label} is damaged: shape {shape}, dtype {dtype}")
    start = stream.tell()
    if math.prod(shape) * dtype.itemsize != len(content) - start:
        raise DataError(
            f"{label} is truncated or damaged: {len(content) - start:,} bytes for an array of "
            f"shape {shape} and dtype {dtype}"
        )
    flat = (
        np.frombuffer(content, dtype, offset=start) if len(content) > start else np.empty(0, dtype)
    )
    array: np.ndarray[Any, Any] = flat.reshape(shape, order="F" if fortran else "C")
    return array


def _pixels(path: Path, x: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise DataError(
            f"{path}: x must be images (n, height, width[, channels]) or rows (n, features), "
            f"but has shape {x.shape}"
        )
    if x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[3] > 4 and x.shape[2] > 4:
        raise DataError(
            f"{path}: x has shape {x.shape}, which looks like (n, channels, height, width): store "
            "x.transpose(0, 2, 3, 1)"
        )
    if x.ndim == 3:
        x = x[..., np.newaxis]
    if x.dtype == np.uint8:
        return np.ascontiguousarray(x)
    if x.dtype.kind in "iub" and x.min() >= 0 and x.max() <= 255:
        return np.ascontiguousarray(x, np.uint8)
    if x.dtype.kind not in "iuf":
        raise DataError(f"{path}: x must be numbers, not {x.dtype}")
    return _single(path, x)


def _single(path: Path, x: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Return float32, and refuse what that cannot hold by its row."""
    _check_rows(path, np.isfinite(x), "holds NaN or infinity")
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(x, np.float32)
    _check_rows(path, np.isfinite(single), "holds a number beyond float32, 3.4e38: rescale it")
    if x.dtype.kind in "iu":
        kept = single.astype(np.float64) == x if x.dtype.itemsize < 8 else _equal(single, x)
        _check_rows(
            path,
            kept,
            "holds an integer that float32 would round: rescale x, or store it as floats",
        )
    return single


def _equal(single: "np.ndarray[Any, Any]", x: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Compare float32 with 64-bit integers exactly, and so without a cast that could overflow."""
    inside = np.abs(single) < 2.0**62
    equal: np.ndarray[Any, Any] = inside & (np.where(inside, single, 0).astype(np.int64) == x)
    return equal


def _check_rows(path: Path, good: "np.ndarray[Any, Any]", what: str) -> None:
    rows = good.reshape(len(good), -1).all(axis=1)
    if not rows.all():
        raise DataError(f"{path}: row {int(np.argmin(rows))} of x {what}")


def _ids(path: Path, ids: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    if ids.dtype.kind not in "iu":
        raise DataError(f"{path}: id must be distinct integers, not {ids.dtype}")
    if ids.dtype.kind == "u" and len(ids) and ids.max() >= 2**63:
        row = int(np.argmax(ids >= np.uint64(2**63)))
        raise DataError(f"{path}: id must be below 2**63, but row {row} has {ids[row]}")
    _, first, counts = np.unique(ids, return_index=True, return_counts=True)
    if counts.size and counts.max() > 1:
        row = int(first[np.argmax(counts > 1)])
        raise DataError(
            f"{path}: id must be distinct integers, but that of row {row}, {ids[row]}, comes again"
        )
    return ids.astype(np.int64)
