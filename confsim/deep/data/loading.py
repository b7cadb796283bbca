"""A data set as a run uses it: read, limited, its duplicates grouped.

Its examples are images, or rows of numbers. Images stay as they are stored (uint8 where they are
pictures) until a batch is made. Nothing here imports Keras. Loading is a pure function of files:
the order of images, their ids and their labels never depend on a machine.
"""

import functools
import hashlib
import multiprocessing
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from confsim import benchmark_tables
from confsim._errors import ConfsimWarning
from confsim.benchmark_tables import BENCHMARKS
from confsim.deep.data.arrays import read_npz
from confsim.deep.data.downloads import read_downloaded, read_official
from confsim.deep.data.duplicates import (
    exact_groups,
    file_groups,
    listed_groups,
    merge_groups,
    near_groups,
)
from confsim.deep.data.folder import read_folder
from confsim.deep.data.images import Images
from confsim.deep.data.tables import examples_of, read_table
from confsim.draws import stratified
from confsim.experiment import Coded
from confsim.given_files import given_path
from confsim.seeds import Purpose, stream

NAMED = ("digits", "cifar10", "cifar100", "mnist", "fashion_mnist", *BENCHMARKS)
CHOICES = (*NAMED, "folder:PATH", "npz:PATH", "table:FILE")

_HASHED_AT_ONCE = 64 << 20


@dataclass(frozen=True)
class Dataset:
    """Images with their labels: the pooled training and test part.

    Attributes
    ----------
    images : ndarray of uint8 or float32
        (n, height, width, channels), or (n, features); of a table NaN where a number is missing.
    labels : ndarray of int64
        (n,), 0..K-1.
    ids : ndarray of int64
        (n,), ascending and stable: the same image has the same id whatever ``limit`` is.
    names : tuple of str
        The K names of the labels.
    groups : ndarray of int64
        (n,): images with the same number are duplicates of each other.
    notes : tuple of str
        What their owner should know about how they were read: a line each.
    id_names : tuple of str
        What the examples are called in a table; empty where they are numbered.
    own_groups : Coded or None
        Groups of the user's own, of a table.
    """

    images: "np.ndarray[Any, Any]"
    labels: "np.ndarray[Any, Any]"
    ids: "np.ndarray[Any, Any]"
    names: tuple[str, ...]
    groups: "np.ndarray[Any, Any]"
    notes: tuple[str, ...] = ()
    id_names: tuple[str, ...] = ()
    own_groups: Coded | None = None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return tuple(self.images.shape[1:])

    def fingerprint(self) -> str:
        """Return a hash of images, labels, ids and groups: the data's part in a run's identity."""
        digest = hashlib.sha256(repr((self.images.shape, self.images.dtype.str)).encode())
        for array in (self.images, self.labels, self.ids, self.groups):
            # In pieces, so that a request to stop need not wait for the whole.
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            for start in range(0, len(flat), _HASHED_AT_ONCE):
                digest.update(flat[start : start + _HASHED_AT_ONCE].data)
        if self.own_groups is not None:
            names, codes = self.own_groups.names, self.own_groups.codes
            digest.update(repr((names, codes.tolist())).encode())
        return digest.hexdigest()


def check_name(dataset: str) -> None:
    """Raise ``ValueError`` that offers the names if ``dataset`` is none of them."""
    kind, separator, path = dataset.partition(":")
    if dataset in NAMED or (kind in ("folder", "npz", "table") and separator and path):
        return
    raise ValueError(f"dataset must be one of {', '.join(CHOICES)}, not {dataset!r}")


@functools.lru_cache(maxsize=1)
def load(
    dataset: str,
    data_dir: str | None = None,
    *,
    limit: int | None = None,
    seed: int = 0,
    near_duplicates: float | None = None,
    duplicates: str | None = None,
    unpack_limit: float | None = None,
    label: str | None = None,
    id_column: str | None = None,
    drop: tuple[str, ...] = (),
    group: str | None = None,
) -> Dataset:
    """Load a dataset; the last one is kept, so that a process loads its data once.

    Parameters
    ----------
    dataset : str
        One of :data:`CHOICES`.
    data_dir : str, optional
        Where the files of a named dataset are; otherwise it is downloaded.
    limit : int, optional
        Keep a stratified random part of so many images.
    seed : int
        Of that part.
    near_duplicates : float, optional
        Images within this root-mean-square difference a pixel value (0 to 255 for pictures) are
        duplicates, by single linkage.
    duplicates : str, optional
        A CSV file with columns ``id,group``. Images with equal values are always duplicates; this
        and ``near_duplicates`` add to them.
    unpack_limit : float, optional
        GiB that the data may unpack to; otherwise 0.5, or 100 times the size of their files where
        that is more.
    label, id_column : str, optional
        Columns of a table.
    drop : tuple of str
        Columns of a table that are not used.
    group : str, optional
        Column of a table: groups that results are told apart by.

    Warns
    -----
    ConfsimWarning
        If something beside the images was not read, or the data are fewer than is usual.

    Raises
    ------
    ValueError
        If the data are missing, unreadable or unfit, with the file and the reason in one line.
    ConfsimError
        If a download fails.
    """
    check_name(dataset)
    limit_bytes = None if unpack_limit is None else int(unpack_limit * (1 << 30))
    if dataset.startswith("table:"):
        found = read_table(dataset.partition(":")[2], label, id_column, drop, group, limit_bytes)
    else:
        found = _read(dataset, data_dir, limit_bytes)
    images, labels, ids, names, notes, id_names, own = found
    if multiprocessing.parent_process() is None:  # workers would say the same again
        for note in notes:
            warnings.warn(note, ConfsimWarning, stacklevel=2)
    listed = {} if duplicates is None else listed_groups(given_path(duplicates), ids)
    if limit is not None and limit < len(labels):
        kept = np.sort(stratified(labels, limit, stream(seed, Purpose.LIMIT)))
        images, labels, ids = images[kept], labels[kept], ids[kept]
        id_names = tuple(id_names[row] for row in kept) if id_names else ()
        own = None if own is None else Coded(own.codes[kept], own.names)
    _check_classes(labels, names, limit)
    groups = exact_groups(images)
    if near_duplicates is not None:
        if np.isnan(images).any():
            raise ValueError("near_duplicates needs numbers that are not missing")
        groups = merge_groups(groups, near_groups(images, near_duplicates))
    if listed:
        groups = merge_groups(groups, file_groups(listed, ids))
    for array in (images, labels, ids, groups):
        array.setflags(write=False)
    return Dataset(images, labels, ids, names, groups, notes, id_names, own)


def _read(dataset: str, data_dir: str | None, limit: int | None) -> Images:
    kind, _, path = dataset.partition(":")
    if kind == "folder":
        return read_folder(given_path(path), limit)
    if kind == "npz":
        return read_npz(given_path(path), limit)
    if dataset in BENCHMARKS:
        return examples_of(benchmark_tables.read(dataset, data_dir), dataset)
    folder = None if data_dir is None else given_path(data_dir)
    if folder is not None and not folder.exists():
        raise ValueError(f"data_dir {folder} does not exist")
    if dataset == "digits":
        return _digits()
    if folder is None:
        return read_downloaded(dataset, limit)
    return read_official(dataset, folder, limit)


def _digits() -> Images:
    """Return scikit-learn's 1,797 handwritten digits, 0..16 spread over 0..255."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return Images(
        pixels, labels.astype(np.int64), np.arange(len(pixels)), tuple(map(str, range(10)))
    )


def _check_classes(
    labels: "np.ndarray[Any, Any]", names: tuple[str, ...], limit: int | None
) -> None:
    counts = np.bincount(labels, minlength=len(names))
    if len(names) < 2:
        raise ValueError("the dataset must have at least two classes")
    if counts.min() < 2:
        rare = int(counts.argmin())
        left = "" if limit is None else f" within limit {limit}"
        raise ValueError(
            f"every class must have at least two examples, but {names[rare]!r} has "
            f"{counts[rare]}{left}"
        )
