"""Purchase-100 and Texas-100, the tables that membership inference is measured on.

Both are rows of zeros and ones in 100 classes. They circulate as text (in a ``.tgz``, or unpacked)
with classes from 1 to 100, and as NumPy arrays with classes from 0, one-hot or not. All of these
layouts are read, and give the same examples; nothing is downloaded.
"""

import bz2
import contextlib
import gzip
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from confsim.given_files import given_path, load_npy, load_npz, one_line, open_regular
from confsim.labelled_tables import LabelledTable

Array = NDArray[Any]

CLASSES = 100

#: Rows that are looked at together.
_BLOCK = 4096


@dataclass(frozen=True)
class Benchmark:
    """What a table is known to be.

    Attributes
    ----------
    title : str
    rows : int
        Those of the whole table.
    widths : tuple of int
        Features of a row, in any of its versions.
    archive : str
        The published file.
    labelled : str
        Text whose lines begin with the class; "" where classes have a file of their own.
    pairs : tuple of (str, str)
        Files of features and of classes.
    """

    title: str
    rows: int
    widths: tuple[int, ...]
    archive: str
    labelled: str
    pairs: tuple[tuple[str, str], ...]


SOURCE = "https://github.com/privacytrustlab/datasets"

BENCHMARKS = {
    "purchase100": Benchmark(
        "Purchase-100",
        197_324,
        (600,),
        "dataset_purchase.tgz",
        "dataset_purchase",
        (("X.npy", "Y.npy"),),
    ),
    "texas100": Benchmark(
        "Texas-100",
        67_330,
        (6169, 6170),
        "dataset_texas.tgz",
        "",
        (
            ("texas/100/feats", "texas/100/labels"),
            ("feats", "labels"),
            ("feats.txt", "labels.txt"),
            ("feats.npy", "labels.npy"),
        ),
    ),
}

#: Below ``--data-dir``, where programs of the field keep the files.
_FOLDERS = ("", "dataset_{0}", "{0}", "{0}/data", "{0}100", "texas/100")


def read(name: str, folder: str | Path | None) -> LabelledTable:
    """Read one of :data:`BENCHMARKS`.

    Parameters
    ----------
    name : str
    folder : path or None
        The folder that the files are in.

    Returns
    -------
    LabelledTable
        ``X`` uint8, ``y`` int64 from 1 to 100.

    Raises
    ------
    ValueError
        If there is no such file, which says what is looked for and where it comes from; or if it is
        not what the table is known to be, with the row.
    """
    known = BENCHMARKS[name]
    short = name.removesuffix("100")
    wanted = f"{known.archive}, {known.labelled or ' and '.join(known.pairs[0])}, or {name}.npz"
    origin = f"get {known.archive} from {SOURCE}"
    if folder is None:
        raise ValueError(f"{name} is not downloaded: {origin}, and give --data-dir DIR (data_dir)")
    root = given_path(folder)
    if not root.is_dir():
        raise ValueError(f"data_dir {root} is no folder: {name} needs {wanted} in it; {origin}")
    for pattern in dict.fromkeys(part.format(short) for part in _FOLDERS):
        found = _in_folder(name, known, root / pattern)
        if found is not None:
            return found
    raise ValueError(f"data_dir {root} holds no {known.title}: it needs {wanted}; {origin}")


def _in_folder(name: str, known: Benchmark, folder: Path) -> LabelledTable | None:
    """Read the first layout that is there; ``None`` if there is none."""
    archive, arrays = folder / known.archive, folder / f"{name}.npz"
    if archive.is_file():
        return _from_archive(known, archive)
    if known.labelled and (folder / known.labelled).is_file():
        path = folder / known.labelled
        with open_regular(path) as file:
            return _checked(known, path, *_labelled_rows(file, known, path))
    for features, labels in known.pairs:
        paths = folder / features, folder / labels
        if all(path.is_file() for path in paths):
            return _from_pair(known, *paths)
    if arrays.is_file():
        content = load_npz(arrays, 9 * known.rows * (max(known.widths) + CLASSES))
        lacking = [key for key in ("features", "labels") if key not in content]
        if lacking:
            raise ValueError(
                f"{arrays} must hold arrays features and labels, but it has no {lacking[0]}"
            )
        return _checked(known, arrays, content["features"], content["labels"])
    return None


def _from_pair(known: Benchmark, features: Path, labels: Path) -> LabelledTable:
    if features.suffix == ".npy":
        return _checked(known, features, load_npy(features), load_npy(labels))
    with open_regular(features) as file, open_regular(labels) as others:
        return _checked(
            known, features, _rows(file, known, features), _numbers(others, known, labels)
        )


def _from_archive(known: Benchmark, path: Path) -> LabelledTable:
    """Read the published archive, without unpacking it to a disk."""
    try:
        with open_regular(path) as file, _opened_tar(file, known) as archive:
            files = {os.path.normpath(member.name): member for member in _few(archive)}

            def opened(name: str) -> BinaryIO:
                if name not in files:
                    raise ValueError(f"{path} holds no {name}")
                found = archive.extractfile(files[name])
                assert found is not None
                return found  # type: ignore[return-value]

            if known.labelled:
                rows = _labelled_rows(opened(known.labelled), known, path)
                return _checked(known, path, *rows)
            features, labels = known.pairs[0]
            values = _rows(opened(features), known, path)
            return _checked(known, path, values, _numbers(opened(labels), known, path))
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(
            f"{path} cannot be read: it is damaged or no archive ({one_line(error)})"
        ) from None


#: Bytes of an archive that are read at once, and its files: only a bomb has more.
_AT_ONCE = 1 << 20
_TO_THE_END = 1 << 16
_FILES = 1000

_UNPACKING: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZ": bz2.open,
    b"\xfd7": lzma.open,
}


class _Bounded:
    """An archive's bytes, of which no more are read than its table can take."""

    def __init__(self, file: Any, limit: int) -> None:
        self._file, self._limit = file, limit
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        if size > _AT_ONCE or self.tell() + size > self._limit:
            raise tarfile.ReadError("it unpacks to more than the table takes")
        return bytes(self._file.read(size))

    def seek(self, place: int) -> int:
        if place > self._limit:
            raise tarfile.ReadError("it unpacks to more than the table takes")
        return int(self._file.seek(place))


def _opened_tar(file: BinaryIO, known: Benchmark) -> tarfile.TarFile:
    """Open an archive, compressed or not, that unpacks to what the table takes at most."""
    unpacking = _UNPACKING.get(file.read(2))
    file.seek(0)
    unpacked = file if unpacking is None else unpacking(file)
    bounded: Any = _Bounded(unpacked, known.rows * _longest_line(known) + (1 << 20))
    return tarfile.open(fileobj=bounded, mode="r:")


def _few(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the files of an archive, unless they are without end."""
    for number, member in enumerate(archive):
        if number == _FILES:
            raise tarfile.ReadError(f"it has more than {_FILES:,} files")
        if member.isfile():
            yield member
    file: Any = archive.fileobj
    while file.read(_TO_THE_END):  # where the checksum of what is packed stands
        pass


def _longest_line(known: Benchmark) -> int:
    """Return the bytes of a line at most, blanks included."""
    return 4 * max(known.widths) + 100


# ---- text ---------------------------------------------------------------------------------------


def _lines(file: BinaryIO, known: Benchmark, path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, as many and as long as the table's at most."""
    longest = _longest_line(known)
    for row in range(known.rows + 1):
        line = file.readline(longest)
        if not line:
            return
        if row == known.rows:
            if line.strip() or file.read(1):
                raise ValueError(f"{path} has more than the {known.rows:,} rows of {known.title}")
            return
        yield line.strip()


def _bits(text: bytes, known: Benchmark, path: Path, row: int) -> Array:
    """Return what stands between commas, zeros and ones."""
    count = text.count(b",") + 1
    if count not in known.widths:
        raise ValueError(
            f"{path}: row {row} must have {known.widths[0]} features, 0 or 1, with commas between "
            f"them, but has {count}"
        )
    found = np.frombuffer(text, np.uint8)
    values = found[::2] - ord("0")
    if len(values) != count or (values > 1).any() or (found[1::2] != ord(",")).any():
        raise ValueError(f"{path}: row {row} must hold 0 and 1 with commas between them alone")
    return values


def _stacked(rows: list[Array], path: Path) -> Array:
    if not rows:
        raise ValueError(f"{path} is empty")
    different = [row for row, values in enumerate(rows) if len(values) != len(rows[0])]
    if different:
        raise ValueError(f"{path}: row {different[0]} has another length than row 0")
    return np.stack(rows)


def _rows(file: BinaryIO, known: Benchmark, path: Path) -> Array:
    lines = enumerate(_lines(file, known, path))
    return _stacked([_bits(line, known, path, row) for row, line in lines], path)


def _labelled_rows(file: BinaryIO, known: Benchmark, path: Path) -> tuple[Array, Array]:
    rows, labels = [], []
    for row, line in enumerate(_lines(file, known, path)):
        label, _, rest = line.partition(b",")
        labels.append(_class(label, path, row))
        rows.append(_bits(rest, known, path, row))
    return _stacked(rows, path), np.array(labels)


def _numbers(file: BinaryIO, known: Benchmark, path: Path) -> Array:
    return np.array([_class(line, path, row) for row, line in enumerate(_lines(file, known, path))])


def _class(text: bytes, path: Path, row: int) -> int:
    with contextlib.suppress(ValueError):
        return int(text)
    raise ValueError(f"{path}: the class of row {row} must be a number, not {text[:20]!r}")


# ---- checks -------------------------------------------------------------------------------------


def _checked(known: Benchmark, path: Path, features: Array, labels: Array) -> LabelledTable:
    if features.ndim != 2 or features.shape[1] not in known.widths:
        raise ValueError(
            f"{path}: features of {known.title} have shape (rows, {known.widths[0]}), not "
            f"{features.shape}"
        )
    bits = np.empty(features.shape, np.uint8)
    for start in range(0, len(bits), _BLOCK):
        block = features[start : start + _BLOCK]
        good = (block == 0) | (block == 1)
        if not good.all():
            row = start + int(np.argmin(good.all(axis=1)))
            raise ValueError(f"{path}: features must be 0 and 1, but row {row} holds another value")
        bits[start : start + _BLOCK] = block
    if len(labels) != len(bits):
        raise ValueError(f"{path}: there are {len(bits):,} rows and {len(labels):,} classes")
    classes = _classes(known, path, labels)
    notes: tuple[str, ...] = ()
    if len(bits) != known.rows:
        notes = (f"{path} has {len(bits):,} rows; {known.title} has {known.rows:,}",)
    return LabelledTable(bits, classes, None, notes)


def _classes(known: Benchmark, path: Path, labels: Array) -> NDArray[np.int64]:
    """Return classes from 1, of numbers from 1 or 0, or of one-hot rows."""
    if labels.ndim == 2 and labels.shape[1] == CLASSES:
        if labels.dtype.kind not in "biuf" or (labels.sum(axis=1) != 1).any():
            raise ValueError(f"{path}: each row of labels must hold a single 1")
        labels = labels.argmax(axis=1)
    labels = labels.reshape(len(labels), -1)
    if labels.shape[1] != 1 or labels.dtype.kind not in "iuf":
        raise ValueError(f"{path}: labels must be classes, or one-hot rows of {CLASSES}")
    numbers = labels[:, 0].astype(np.int64)
    first = 0 if numbers.min() == 0 else 1
    if numbers.min() < 0 or numbers.max() >= CLASSES + first or (numbers != labels[:, 0]).any():
        raise ValueError(f"{path}: classes of {known.title} must be 1 to {CLASSES}, or from 0")
    return numbers - first + 1
