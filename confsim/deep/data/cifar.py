"""CIFAR-10 and CIFAR-100 (fine labels) in their official files, python or binary version."""

import os
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from confsim.deep.data.archive import members
from confsim.deep.data.checksums import CHECKSUMS, verify
from confsim.deep.data.images import Images, encode_labels
from confsim.deep.data.limits import Budget, DataError, read_regular
from confsim.deep.data.pickles import load_batch

_BYTES = 3 * 32 * 32

_BATCHES = {
    "cifar10": (
        10,
        [
            *(f"data_batch_{k}" for k in range(1, 6)),
            "test_batch",
            *(f"data_batch_{k}.bin" for k in range(1, 6)),
            "test_batch.bin",
        ],
    ),
    "cifar100": (100, ["train", "test", "train.bin", "test.bin"]),
}


def read_cifar(dataset: str, path: Path, limit: int | None = None) -> Images:
    """Read CIFAR-10 or CIFAR-100.

    Parameters
    ----------
    dataset : {"cifar10", "cifar100"}
    path : Path
        An official archive, its unpacked folder, or a directory that holds one of them. An archive
        or folder of fewer images in the same format is read too, with a note; with all 60,000 it
        must be the official one.
    limit : int, optional
        Bytes that the data may unpack to; see :class:`~confsim.deep.data.limits.Budget`.

    Raises
    ------
    DataError
        If there are no such files, or one is damaged or not what it should be.
    """
    source = _source(dataset, path)
    classes, batches = _BATCHES[dataset]
    budget = Budget(limit)
    found = _contents(source, batches, budget)
    binary = any(name.endswith(".bin") for name in found)
    if not all(name.endswith(".bin") == binary for name in found):
        raise DataError(f"{source} holds batches of the python and of the binary version: keep one")
    read = _from_binary if binary else _from_pickle
    parts = [read(f"{source}: {name}", found[name], classes) for name in batches if name in found]
    if not parts:
        raise DataError(f"{source} holds no {dataset} batches ({', '.join(batches[:2])}, ...)")
    pixels = np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts])
    notes: tuple[str, ...] = ()
    if len(labels) == 60_000:
        _verify(dataset, source, found, labels, binary)
    else:
        notes = (f"{source} holds {len(labels):,} images, of 60,000 of the official {dataset}",)
    images = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    codes, names = encode_labels(labels)
    return Images(images, codes, np.arange(len(images)), names, notes)


def _contents(source: Path, batches: list[str], budget: Budget) -> dict[str, bytes]:
    if source.is_dir():
        there = [name for name in batches if os.path.lexists(source / name)]
        return {name: read_regular(source / name, budget) for name in there}
    found: dict[str, bytes] = {}
    for member in members(source, lambda name: PurePosixPath(name).name in batches, budget):
        if member.content is not None:
            name = PurePosixPath(member.name).name
            if name in found:
                raise DataError(f"{source} holds {name} twice: it must hold one data set")
            found[name] = member.content
    return found


def _source(dataset: str, path: Path) -> Path:
    if path.is_file():
        return path
    digits = dataset.removeprefix("cifar")
    unpacked = "cifar-10-batches-{}" if digits == "10" else "cifar-100-{}"
    python = unpacked.format("py" if digits == "10" else "python")
    candidates = [
        path / python,
        path / unpacked.format("bin" if digits == "10" else "binary"),
        path / f"cifar-{digits}-python.tar.gz",
        path / f"cifar-{digits}-binary.tar.gz",
        path / f"{python}-target" / python,  # as Keras unpacks it
    ]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    if any((path / name).is_file() for name in _BATCHES[dataset][1]):
        return path
    raise DataError(
        f"{path} holds none of {', '.join(candidate.name for candidate in candidates[:4])}"
    )


def _from_pickle(name: str, content: bytes, classes: int) -> tuple[Any, Any]:
    try:
        batch = load_batch(content)
    except DataError as error:
        raise DataError(f"{name} is no CIFAR batch: {error}") from error
    kind = "labels" if classes == 10 else "fine_labels"
    if missing := [key for key in ("data", kind) if key not in batch]:
        raise DataError(f"{name} is no CIFAR batch: it has no {missing[0]!r}")
    pixels, labels = batch["data"], batch[kind]
    if not (isinstance(pixels, np.ndarray) and pixels.ndim == 2 and pixels.shape[1] == _BYTES):
        raise DataError(f"{name} is no CIFAR batch: data must be uint8 with {_BYTES} columns")
    if isinstance(labels, np.ndarray):
        labels = labels.reshape(-1).tolist()
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DataError(f"{name} is no CIFAR batch: {kind} must be a list of integers")
    if len(labels) != len(pixels):
        raise DataError(f"{name} holds {len(pixels)} images and {len(labels)} labels")
    if labels and not 0 <= min(labels) <= max(labels) < classes:
        raise DataError(f"{name} is no CIFAR batch: labels must be 0 to {classes - 1}")
    return pixels, np.array(labels, np.int64)


def _from_binary(name: str, content: bytes, classes: int) -> tuple[Any, Any]:
    header = 1 if classes == 10 else 2
    rows, rest = divmod(len(content), header + _BYTES)
    if rest or not rows:
        raise DataError(f"{name} is truncated or foreign: {len(content)} bytes are no whole rows")
    records = np.frombuffer(content, np.uint8).reshape(rows, header + _BYTES)
    labels = records[:, header - 1].astype(np.int64)
    if labels.max() >= classes:
        raise DataError(f"{name} is no CIFAR batch: labels must be 0 to {classes - 1}")
    return records[:, header:], labels


def _verify(
    dataset: str,
    source: Path,
    found: dict[str, bytes],
    labels: "np.ndarray[Any, Any]",
    binary: bool,
) -> None:
    """Compare with the published checksums; unpacked binary files have none but their counts."""
    checksums = CHECKSUMS[dataset]
    if not binary:
        for name, content in found.items():
            verify(f"{source}: {name}", content, checksums[name])
    elif source.is_file():
        archive = next(name for name in checksums if name.endswith("binary.tar.gz"))
        verify(str(source), read_regular(source, Budget()), checksums[archive])
    elif len(set(np.bincount(labels).tolist())) != 1:
        raise DataError(f"{source} is not the official {dataset}: its classes differ in size")
