"""MNIST and Fashion-MNIST in their official IDX files."""

import gzip
import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from confsim.deep.data.checksums import CHECKSUMS, verify
from confsim.deep.data.images import Images, encode_labels
from confsim.deep.data.limits import Budget, DataError, read_regular, reading

_INNER_FOLDERS = {
    "mnist": ("mnist", "MNIST/raw"),
    "fashion_mnist": ("fashion-mnist", "FashionMNIST/raw"),
}


def read_idx(dataset: str, path: Path, limit: int | None = None) -> Images:
    """Read MNIST or Fashion-MNIST from IDX files, plain or gzipped, training part first.

    Parameters
    ----------
    dataset : {"mnist", "fashion_mnist"}
    path : Path
        The directory of the four files, or one above it.
    limit : int, optional
        Bytes that the data may unpack to; see :class:`~confsim.deep.data.limits.Budget`.

    Raises
    ------
    DataError
        If a file is missing, damaged, or not what it should be.
    """
    folder, budget = _folder(dataset, path), Budget(limit)
    images, labels = [], []
    for part in ("train", "t10k"):
        image_file = _file(folder, f"{part}-images-idx3-ubyte")
        label_file = _file(folder, f"{part}-labels-idx1-ubyte")
        images.append(_array(dataset, image_file, 3, budget))
        labels.append(_array(dataset, label_file, 1, budget))
        if len(images[-1]) != len(labels[-1]):
            raise DataError(
                f"{image_file} holds {len(images[-1])} images and {label_file} "
                f"{len(labels[-1])} labels"
            )
    if images[0].shape[1:] != images[1].shape[1:]:
        raise DataError(f"{folder}: training and test images differ in size")
    pixels = np.concatenate(images)[..., np.newaxis]
    codes, names = encode_labels(np.concatenate(labels).astype(np.int64))
    notes: tuple[str, ...] = ()
    if len(pixels) != 70_000:
        notes = (f"{folder} holds {len(pixels):,} images, of 70,000 of the official {dataset}",)
    return Images(pixels, codes, np.arange(len(pixels)), names, notes)


def _folder(dataset: str, path: Path) -> Path:
    for folder in (path, *(path / name for name in _INNER_FOLDERS[dataset])):
        if any(folder.glob("train-images*idx3-ubyte*")):
            return folder
    raise DataError(f"{path} holds no train-images-idx3-ubyte or train-images-idx3-ubyte.gz")


def _file(folder: Path, name: str) -> Path:
    dotted = name.replace("-idx", ".idx")
    for candidate in (name, f"{name}.gz", dotted, f"{dotted}.gz"):
        if (folder / candidate).exists():
            return folder / candidate
    raise DataError(f"{folder} holds no {name} or {name}.gz")


def _array(dataset: str, path: Path, dimensions: int, budget: Budget) -> "np.ndarray[Any, Any]":
    stored = read_regular(path, budget)
    content = stored
    if stored[:2] == b"\x1f\x8b":
        with reading(path), gzip.GzipFile(fileobj=io.BytesIO(stored)) as unpacked:
            size = _size(path, unpacked.read(4 + 4 * dimensions), dimensions)
            budget.unpack(size, path)
            unpacked.seek(0)
            content = unpacked.read(size + 1)
    size = _size(path, content, dimensions)
    if len(content) != size:
        more = len(content) > size
        raise DataError(
            f"{path} is {'damaged' if more else 'truncated'}: {'more than ' * more}"
            f"{min(len(content), size):,} bytes where {size:,} are due"
        )
    shape = _shape(content, dimensions)
    official = CHECKSUMS[dataset].get(path.name)
    if official is not None and shape[0] == (60_000 if "train" in path.name else 10_000):
        verify(str(path), stored, official)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _size(path: Path, start: bytes, dimensions: int) -> int:
    """Return the size of a file that starts so, as its header says."""
    header = 4 + 4 * dimensions
    if len(start) < header or start[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(f"{path} is no IDX file of unsigned bytes in {dimensions} dimensions")
    return header + math.prod(_shape(start, dimensions))


def _shape(content: bytes, dimensions: int) -> tuple[int, ...]:
    return tuple(np.frombuffer(content, ">u4", dimensions, 4).tolist())
