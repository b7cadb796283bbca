"""Named data sets without ``--data-dir``: what Keras keeps here, or a download through it.

Nothing here imports Keras: a download runs in a process of its own (the caller may be the parent of
a run), and what Keras has already fetched is read without it.
"""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from confsim._errors import ConfsimError
from confsim._interpreter import python
from confsim.deep.data.arrays import read_arrays, read_npz
from confsim.deep.data.cifar import read_cifar
from confsim.deep.data.idx import read_idx
from confsim.deep.data.images import Images, encode_labels
from confsim.deep.data.limits import Budget, DataError, read_regular
from confsim.given_files import reason

#: Names of what Keras keeps.
_KEPT = {
    "cifar10": "cifar-10-*",
    "cifar100": "cifar-100-*",
    "mnist": "mnist*",
    "fashion_mnist": "fashion-mnist*",
}

#: SHA-256 of ``mnist.npz``, as Keras states it.
_MNIST = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"

_DOWNLOADER = """
import sys
import numpy as np
import keras
(a, b), (c, d) = getattr(keras.datasets, sys.argv[1]).load_data()
np.savez(sys.argv[2], x=np.concatenate([a, c]), y=np.concatenate([b, d]).reshape(-1))
"""


def cache_dir() -> Path:
    """Return where Keras keeps its files: ``$KERAS_HOME`` or ``~/.keras``, folder ``datasets``."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "datasets"


def read_downloaded(dataset: str, limit: int | None = None) -> Images:
    """Read a named data set that this machine has, or download it first.

    In this order: what an earlier call has kept, what Keras has kept (whole and with the published
    checksums), a download by Keras.

    Raises
    ------
    ConfsimError
        If a download fails.
    DataError
        If what is kept cannot be read.
    """
    cached = cache_dir() / f"confsim-{dataset}.npz"
    if cached.is_file():
        return read_npz(cached, limit)
    unfit = ""
    try:
        found = read_official(dataset, cache_dir(), limit)
        if not found.notes:
            return found
        unfit = found.notes[0]
    except DataError as error:
        if _keeps(dataset):
            unfit = reason(error)
    return read_npz(download(dataset, unfit), limit)


def _keeps(dataset: str) -> bool:
    """Tell whether Keras has left anything of a data set."""
    return any(cache_dir().glob(_KEPT[dataset]))


def read_official(dataset: str, folder: Path, limit: int | None = None) -> Images:
    """Read a named data set from its official files, or from those that Keras keeps."""
    if dataset.startswith("cifar"):
        return read_cifar(dataset, folder, limit)
    archive = folder / "mnist.npz"
    if dataset == "mnist" and archive.is_file() and not any(folder.glob("train-images*")):
        return _mnist_archive(archive, limit)
    return read_idx(dataset, folder, limit)


def _mnist_archive(path: Path, limit: int | None) -> Images:
    """Read MNIST as Keras stores it: four arrays, training part first."""
    found = hashlib.sha256(read_regular(path, Budget())).hexdigest()
    if found != _MNIST:
        raise DataError(
            f"{path} is damaged or not the official file: its SHA-256 is {found}, not {_MNIST}"
        )
    arrays, _ = read_arrays(path, ("x_train", "y_train", "x_test", "y_test"), limit)
    pixels = np.concatenate([arrays["x_train"], arrays["x_test"]])[..., np.newaxis]
    codes, names = encode_labels(np.concatenate([arrays["y_train"], arrays["y_test"]]))
    return Images(pixels, codes, np.arange(len(pixels)), names)


def download(dataset: str, unfit: str = "") -> Path:
    """Return the arrays of a named dataset, fetched by ``keras.datasets``, which verifies them.

    ``unfit`` says why what Keras kept was of no use, for the message where a download fails.
    """
    cached = cache_dir() / f"confsim-{dataset}.npz"
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent, prefix="confsim-") as folder:
            fresh = Path(folder) / "fresh.npz"
            done = subprocess.run(
                python(_DOWNLOADER, dataset, str(fresh)),
                capture_output=True,
                text=True,
                errors="replace",
            )
            if done.returncode == 0:
                fresh.replace(cached)
                return cached
    except OSError as error:
        raise ConfsimError(f"{cached} cannot be written: {error.strerror}") from error
    why = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:200]
    if unfit:
        why = f"{why}; what Keras kept cannot be used: {unfit}"
    raise ConfsimError(
        f"{dataset} could not be downloaded ({why}); give --data-dir with its official "
        "files, or use --dataset digits, which needs no download"
    )
