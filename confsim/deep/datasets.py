"""Where images come from: a named or a user's own dataset, pooled, limited, grouped by duplicates.

Images stay as they are stored (uint8 where they are pictures) until a batch is made. Nothing here
imports Keras; the one download that goes through it runs in a process of its own. Loading is a pure
function of the files: the order of images, their ids and their labels never depend on a machine.
"""

import csv
import functools
import hashlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from confsim._errors import ConfsimError
from confsim.deep import formats
from confsim.seeds import Purpose, stream

NAMED = ("digits", "cifar10", "cifar100", "mnist", "fashion_mnist")
CHOICES = (*NAMED, "folder:PATH", "npz:PATH")


@dataclass(frozen=True)
class Dataset:
    """Images with their labels: the pooled training and test part.

    Attributes
    ----------
    images : ndarray of uint8 or float32
        (n, height, width, channels) or (n, features).
    labels : ndarray of int64
        (n,), 0..K-1.
    ids : ndarray of int64
        (n,), ascending and stable: the same image has the same id whatever ``limit`` is.
    names : tuple of str
        The K names of the labels.
    groups : ndarray of int64
        (n,): images with the same number are duplicates of each other.
    """

    images: "np.ndarray[Any, Any]"
    labels: "np.ndarray[Any, Any]"
    ids: "np.ndarray[Any, Any]"
    names: tuple[str, ...]
    groups: "np.ndarray[Any, Any]"

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
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def check_name(dataset: str) -> None:
    """Raise ``ValueError`` that offers the names if ``dataset`` is none of them."""
    kind, separator, path = dataset.partition(":")
    if dataset in NAMED or (kind in ("folder", "npz") and separator and path):
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

    Raises
    ------
    ValueError
        If the data are missing, unreadable or unfit, with the file and the reason in one line.
    ConfsimError
        If a download fails.
    """
    check_name(dataset)
    images, labels, ids, names = _read(dataset, data_dir)
    listed = {} if duplicates is None else _listed_groups(Path(duplicates), ids)
    if limit is not None and limit < len(labels):
        kept = np.sort(stratified(labels, limit, stream(seed, Purpose.LIMIT)))
        images, labels, ids = images[kept], labels[kept], ids[kept]
    _check_classes(labels, names, limit)
    groups = exact_groups(images)
    if near_duplicates is not None:
        groups = merge_groups(groups, near_groups(images, near_duplicates))
    if listed:
        groups = merge_groups(groups, _file_groups(listed, ids))
    for array in (images, labels, ids, groups):
        array.setflags(write=False)
    return Dataset(images, labels, ids, names, groups)


def _read(dataset: str, data_dir: str | None) -> formats.Images:
    kind, _, path = dataset.partition(":")
    if kind == "folder":
        return formats.read_folder(Path(path))
    if kind == "npz":
        return formats.read_npz(Path(path))
    if data_dir is not None and not Path(data_dir).exists():
        raise ValueError(f"data_dir {data_dir} does not exist")
    if dataset == "digits":
        return _digits()
    if data_dir is None:
        return formats.read_npz(download(dataset))
    if dataset.startswith("cifar"):
        return formats.read_cifar(dataset, Path(data_dir))
    return formats.read_idx(dataset, Path(data_dir))


def _digits() -> formats.Images:
    """Return scikit-learn's 1,797 handwritten digits, 0..16 spread over 0..255."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return formats.Images(
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
            f"every class must have at least two images, but {names[rare]!r} has "
            f"{counts[rare]}{left}"
        )


def stratified(
    labels: "np.ndarray[Any, Any]", count: int, rng: np.random.Generator
) -> "np.ndarray[Any, Any]":
    """Draw ``count`` rows at random, each class in its share.

    Shares are rounded by largest remainder, equal remainders at random. Returns row numbers, class
    by class.
    """
    sizes = np.bincount(labels)
    quotas = sizes * count // len(labels)
    remainders = sizes * count % len(labels)
    shuffled = rng.permutation(len(sizes))
    largest = shuffled[np.argsort(-remainders[shuffled], kind="stable")]
    quotas[largest[: count - quotas.sum()]] += 1
    return np.concatenate(
        [
            rng.permutation(np.flatnonzero(labels == label))[: quotas[label]]
            for label in range(len(sizes))
        ]
    )


# -- Duplicates ------------------------------------------------------------------------------------


def exact_groups(images: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Return group numbers by equal content: (n,) int64, in the order of first images."""
    seen: dict[bytes, int] = {}
    rows = np.ascontiguousarray(images).reshape(len(images), -1)
    keys = [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]
    return np.array([seen.setdefault(key, len(seen)) for key in keys], np.int64)


def near_groups(images: "np.ndarray[Any, Any]", threshold: float) -> "np.ndarray[Any, Any]":
    """Return group numbers by single linkage at an RMS difference of ``threshold``.

    A blocked product in float32 finds candidates, generously; differences in float64 decide.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = images.reshape(len(images), -1).astype(np.float32)
    rows -= rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    bound = threshold**2 * rows.shape[1]
    links: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []
    block = max(1, 32_000_000 // len(rows))
    for start in range(0, len(rows), block):
        a = slice(start, start + block)
        near = squares[a, None] + squares[None, start:] - 2.0 * (rows[a] @ rows[start:].T)
        # Rounding of a float32 product of d terms stays far below d * 2**-24 of the squared norms.
        slack = rows.shape[1] * 2.0**-23 * (squares[a, None] + squares[None, start:])
        i, j = np.nonzero(near <= bound + slack)
        i, j = i + start, j + start
        i, j = i[i < j], j[i < j]
        links.append(_closer(images, i, j, bound))
    i = np.concatenate([link[0] for link in links])
    j = np.concatenate([link[1] for link in links])
    graph = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(len(rows), len(rows)))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _closer(
    images: "np.ndarray[Any, Any]",
    i: "np.ndarray[Any, Any]",
    j: "np.ndarray[Any, Any]",
    bound: float,
) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
    kept = np.zeros(len(i), bool)
    for start in range(0, len(i), 4096):
        part = slice(start, start + 4096)
        difference = images[i[part]].astype(np.float64) - images[j[part]]
        kept[part] = (difference.reshape(len(difference), -1) ** 2).sum(axis=1) <= bound
    return i[kept], j[kept]


def merge_groups(
    one: "np.ndarray[Any, Any]", other: "np.ndarray[Any, Any]"
) -> "np.ndarray[Any, Any]":
    """Return the finest grouping that is coarser than both, numbered by first image."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    sizes = (int(one.max()) + 1, int(other.max()) + 1)
    graph = coo_array(
        (np.ones(len(one), np.int8), (one, other + sizes[0])), shape=(sum(sizes),) * 2
    )
    component = connected_components(graph, directed=False)[1][one]
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def _listed_groups(path: Path, ids: "np.ndarray[Any, Any]") -> dict[int, str]:
    """Read ``id,group`` rows of images that are all there."""
    try:
        with path.open(newline="", encoding="utf-8") as stream_:
            rows = [(int(row["id"]), row["group"].strip()) for row in csv.DictReader(stream_)]
    except OSError as error:
        raise ValueError(f"duplicates {path} cannot be read: {error.strerror}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"duplicates {path} must be a CSV file with columns id (an integer) and group"
        ) from error
    known, listed = set(ids.tolist()), dict[int, str]()
    for image, group in rows:
        if image not in known:
            raise ValueError(f"duplicates {path}: no image has the id {image}")
        if listed.setdefault(image, group) != group:
            raise ValueError(f"duplicates {path}: image {image} is in two groups")
    return listed


def _file_groups(listed: dict[int, str], ids: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Return group numbers; an image that is not listed is alone in its group."""
    seen: dict[object, int] = {}
    keys = [listed.get(int(i), ("alone", int(i))) for i in ids]
    return np.array([seen.setdefault(key, len(seen)) for key in keys], np.int64)


# -- Downloads -------------------------------------------------------------------------------------

_DOWNLOADER = """
import sys
import numpy as np
import keras
(a, b), (c, d) = getattr(keras.datasets, sys.argv[1]).load_data()
np.savez(sys.argv[2], x=np.concatenate([a, c]), y=np.concatenate([b, d]).reshape(-1))
"""


def cache_dir() -> Path:
    """Return where Keras keeps its files: ``$KERAS_HOME`` or ``~/.keras``, folder ``datasets``."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"


def download(dataset: str) -> Path:
    """Return the cached arrays of a named dataset, fetched by ``keras.datasets`` the first time.

    Keras runs in a process of its own (the caller may be the parent of a run) and verifies what it
    fetches.
    """
    cached = cache_dir() / f"confsim-{dataset}.npz"
    if cached.is_file():
        return cached
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent, prefix="confsim-") as folder:
            fresh = Path(folder) / "fresh.npz"
            done = subprocess.run(
                [sys.executable, "-c", _DOWNLOADER, dataset, str(fresh)],
                capture_output=True,
                text=True,
                errors="replace",
            )
            if done.returncode == 0:
                fresh.replace(cached)
                return cached
    except OSError as error:
        raise ConfsimError(f"{cached} cannot be written: {error.strerror}") from error
    reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    raise ConfsimError(
        f"{dataset} could not be downloaded ({reason[:200]}); give --data-dir with its official "
        "files, or use --dataset digits, which needs no download"
    )
