"""Readers of image files: official archives, folders of pictures, NumPy archives.

Every reader turns bytes into arrays in memory. Nothing is extracted, so a name in an archive can
point nowhere, and pickles are read by an unpickler that admits what the CIFAR files contain and
nothing else. A file that is truncated, foreign or damaged raises ``ValueError`` with one line that
names it. No reader knows of trials, models or splits.
"""

import gzip
import hashlib
import io
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
SPLITS = frozenset({"train", "test", "val", "valid", "validation"})
#: No official or sensible single file is larger; a corrupt header must not ask for all memory.
LARGEST_MEMBER = 1 << 30

#: MD5 of the official files, as their publishers state them.
CHECKSUMS = {
    "cifar10": {
        "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
        "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
    "cifar100": {
        "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
        "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8",
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    },
    "mnist": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
}


class Images(NamedTuple):
    """What a reader returns.

    Attributes
    ----------
    images : ndarray of uint8 or float32
        (n, height, width, channels), or (n, features) for plain arrays.
    labels : ndarray of int64
        (n,), 0..K-1.
    ids : ndarray of int64
        (n,), ascending.
    names : tuple of str
        The K names of the labels.
    """

    images: "np.ndarray[Any, Any]"
    labels: "np.ndarray[Any, Any]"
    ids: "np.ndarray[Any, Any]"
    names: tuple[str, ...]


# -- Members of a directory or an archive ----------------------------------------------------------


def members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield (relative name, content) of the regular files below ``path`` that are ``wanted``.

    Parameters
    ----------
    path : Path
        A directory, a ``.tar`` (compressed or not) or a ``.zip``.
    wanted : callable
        Gets a POSIX name and says whether its content is needed.

    Raises
    ------
    ValueError
        If ``path`` is missing, of another kind, truncated or damaged.
    """
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path).as_posix()
            if not _hidden(name) and wanted(name) and file.is_file():
                yield name, file.read_bytes()
        return
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        if zipfile.is_zipfile(path):
            yield from _zip_members(path, wanted)
        else:
            yield from _tar_members(path, wanted)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is truncated, damaged or no archive: {error}") from error


def _tar_members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            if member.isfile() and not _hidden(member.name) and wanted(member.name):
                _check_size(path, member.name, member.size)
                stream = archive.extractfile(member)
                content = stream.read() if stream is not None else b""
                if len(content) != member.size:
                    raise ValueError(f"{path} is truncated inside {member.name}")
                yield member.name, content


def _zip_members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir() and not _hidden(member.filename) and wanted(member.filename):
                _check_size(path, member.filename, member.file_size)
                yield member.filename, archive.read(member)


def _hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(p.startswith(".") and p not in (".", "..") for p in parts)


def _check_size(path: Path, name: str, size: int) -> None:
    if size > LARGEST_MEMBER:
        raise ValueError(f"{path} holds {name} of {size} bytes: no image or batch is that large")


# -- Folders of pictures ---------------------------------------------------------------------------


def read_folder(path: Path) -> Images:
    """Read class subfolders of PNG or JPEG files, with or without ``train/`` and ``test/`` above.

    Ids number the files in the order of their names, so that a directory and an archive of it give
    the same images, ids and labels.
    """
    files = dict(members(path, lambda name: name.lower().endswith(IMAGE_SUFFIXES)))
    if not files:
        raise ValueError(f"{path} holds no PNG or JPEG files")
    shared = _common(files)
    parts = {name: PurePosixPath(name).parts[shared:] for name in files}
    order = sorted(files, key=lambda name: parts[name])
    classes = [_class_of(path, name, parts[name]) for name in order]
    labels, names = encode_labels(np.array(classes))
    images = _decode([(f"{path}: {name}", files.pop(name)) for name in order])
    return Images(images, labels, np.arange(len(images)), names)


def _common(names: Any) -> int:
    """Count the leading folders that all names share."""
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    shared = 0
    for level in zip(*folders, strict=False):
        if len(set(level)) > 1:
            break
        shared += 1
    return shared


def _class_of(path: Path, name: str, parts: tuple[str, ...]) -> str:
    inner = parts[1:] if parts[0].lower() in SPLITS and len(parts) > 1 else parts
    if len(inner) != 2:
        raise ValueError(
            f"{path}: {name} is not in a class folder: expected CLASS/FILE or train/CLASS/FILE, "
            "with at least two classes"
        )
    return inner[0]


def _decode(files: list[tuple[str, bytes]]) -> "np.ndarray[Any, Any]":
    """Decode pictures of one size into one array; grey ones become colour where any has colour."""
    decoded: np.ndarray[Any, Any] | None = None
    for row, (name, content) in enumerate(files):
        picture = _picture(name, content)
        if decoded is None:
            decoded = np.empty((len(files), *picture.shape), np.uint8)
        if picture.shape[:2] != decoded.shape[1:3]:
            raise ValueError(
                f"images must have one size, but {name} is {_size(picture.shape)} and "
                f"{files[0][0]} is {_size(decoded.shape[1:])}"
            )
        if picture.shape[2] > decoded.shape[3]:
            decoded = np.repeat(decoded, 3, axis=3)
        decoded[row] = picture
    assert decoded is not None
    return decoded


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _picture(name: str, content: bytes) -> "np.ndarray[Any, Any]":
    try:
        from PIL import Image
    except ImportError:
        raise ValueError("reading image files needs Pillow: pip install pillow") from None
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as picture:
            mode = picture.mode
            if mode not in ("L", "1", "RGB") and not (
                mode == "P" and "transparency" not in picture.info
            ):
                raise ValueError(f"{name} has mode {mode}: only 8-bit grey and RGB are read")
            pixels = np.asarray(picture.convert("L" if mode in ("L", "1") else "RGB"))
    except ValueError:
        raise
    except (OSError, SyntaxError, Image.DecompressionBombError, zlib.error) as error:
        raise ValueError(f"{name} is no readable PNG or JPEG image: {error}") from error
    return pixels.reshape(*pixels.shape[:2], -1)


# -- CIFAR -----------------------------------------------------------------------------------------


def read_cifar(dataset: str, path: Path) -> Images:
    """Read CIFAR-10 or CIFAR-100 (fine labels) in the python or the binary version.

    ``path`` is an official archive, its unpacked folder, or a directory that holds one of them. An
    archive or folder of fewer images in the same format is read too; with all 60,000 it must be the
    official one.
    """
    source = _cifar_source(dataset, path)
    classes, batches = _CIFAR[dataset]
    found = {
        PurePosixPath(name).name: content
        for name, content in members(source, lambda name: PurePosixPath(name).name in batches)
    }
    binary = any(name.endswith(".bin") for name in found)
    parts = []
    for name in batches:
        if name in found and name.endswith(".bin") == binary:
            read = _cifar_binary if binary else _cifar_pickle
            parts.append(read(f"{source}: {name}", found[name], classes))
    if not parts:
        raise ValueError(f"{source} holds no {dataset} batches ({', '.join(batches[:2])}, ...)")
    pixels = np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts])
    if len(labels) == 60_000:
        _verify_cifar(dataset, source, found, labels, binary)
    images = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    codes, names = encode_labels(labels)
    return Images(images, codes, np.arange(len(images)), names)


_CIFAR = {
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


def _cifar_source(dataset: str, path: Path) -> Path:
    if path.is_file():
        return path
    digits = dataset.removeprefix("cifar")
    unpacked = "cifar-10-batches-{}" if digits == "10" else "cifar-100-{}"
    candidates = [
        path / unpacked.format("py" if digits == "10" else "python"),
        path / unpacked.format("bin" if digits == "10" else "binary"),
        path / f"cifar-{digits}-python.tar.gz",
        path / f"cifar-{digits}-binary.tar.gz",
    ]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    if any((path / name).is_file() for name in _CIFAR[dataset][1]):
        return path
    raise ValueError(
        f"{path} holds none of {', '.join(candidate.name for candidate in candidates)}"
    )


class _CifarUnpickler(pickle.Unpickler):
    """Admits what the CIFAR files contain: dicts, lists, strings, numbers and plain arrays."""

    def find_class(self, module: str, name: str) -> Any:
        from numpy._core import multiarray

        admitted = {
            ("numpy.core.multiarray", "_reconstruct"): multiarray._reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): multiarray._reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            # How Python 3 writes bytes for protocol 2.
            ("_codecs", "encode"): _latin1,
        }
        if (module, name) not in admitted:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return admitted[module, name]


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


def _cifar_pickle(name: str, content: bytes, classes: int) -> tuple[Any, Any]:
    try:
        batch = _CifarUnpickler(io.BytesIO(content), encoding="bytes").load()
        batch = {k.decode() if isinstance(k, bytes) else k: v for k, v in batch.items()}
        pixels = batch["data"]
        labels = np.asarray(batch["labels" if classes == 10 else "fine_labels"])
    except Exception as error:  # unpickling foreign bytes may raise anything
        raise ValueError(f"{name} is no CIFAR batch: {error}") from error
    if not (
        isinstance(pixels, np.ndarray)
        and pixels.dtype == np.uint8
        and pixels.ndim == 2
        and pixels.shape[1] == 3072
    ):
        raise ValueError(f"{name} is no CIFAR batch: data must be uint8 with 3072 columns")
    if labels.shape != pixels.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(f"{name} holds {len(pixels)} images and {labels.size} labels")
    _check_labels(name, labels, classes)
    return pixels, labels.astype(np.int64)


def _cifar_binary(name: str, content: bytes, classes: int) -> tuple[Any, Any]:
    header = 1 if classes == 10 else 2
    rows, rest = divmod(len(content), header + 3072)
    if rest or not rows:
        raise ValueError(f"{name} is truncated or foreign: {len(content)} bytes are no whole rows")
    records = np.frombuffer(content, np.uint8).reshape(rows, header + 3072)
    labels = records[:, header - 1].astype(np.int64)
    _check_labels(name, labels, classes)
    return records[:, header:], labels


def _check_labels(name: str, labels: "np.ndarray[Any, Any]", classes: int) -> None:
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"{name} is no CIFAR batch: labels must be 0 to {classes - 1}")


def _verify_cifar(
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
            _verify(f"{source}: {name}", content, checksums[name])
    elif source.is_file():
        archive = next(name for name in checksums if name.endswith("binary.tar.gz"))
        _verify(str(source), source.read_bytes(), checksums[archive])
    elif len(set(np.bincount(labels).tolist())) != 1:
        raise ValueError(f"{source} is not the official {dataset}: its classes differ in size")


def _verify(name: str, content: bytes, expected: str) -> None:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise ValueError(
            f"{name} is damaged or not the official file: its MD5 is {found}, not {expected}"
        )


# -- IDX -------------------------------------------------------------------------------------------


def read_idx(dataset: str, path: Path) -> Images:
    """Read MNIST or Fashion-MNIST from IDX files, plain or gzipped, training part first."""
    folder = _idx_folder(dataset, path)
    images, labels = [], []
    for part in ("train", "t10k"):
        image_file = _idx_file(folder, f"{part}-images-idx3-ubyte")
        label_file = _idx_file(folder, f"{part}-labels-idx1-ubyte")
        images.append(_idx_array(dataset, image_file, 3))
        labels.append(_idx_array(dataset, label_file, 1))
        if len(images[-1]) != len(labels[-1]):
            raise ValueError(
                f"{image_file} holds {len(images[-1])} images and {label_file} "
                f"{len(labels[-1])} labels"
            )
    if images[0].shape[1:] != images[1].shape[1:]:
        raise ValueError(f"{folder}: training and test images differ in size")
    pixels = np.concatenate(images)[..., np.newaxis]
    codes, names = encode_labels(np.concatenate(labels).astype(np.int64))
    return Images(pixels, codes, np.arange(len(pixels)), names)


def _idx_folder(dataset: str, path: Path) -> Path:
    inner = {
        "mnist": ("mnist", "MNIST/raw"),
        "fashion_mnist": ("fashion-mnist", "FashionMNIST/raw"),
    }
    for folder in (path, *(path / name for name in inner[dataset])):
        if any(folder.glob("train-images*idx3-ubyte*")):
            return folder
    raise ValueError(f"{path} holds no train-images-idx3-ubyte or train-images-idx3-ubyte.gz")


def _idx_file(folder: Path, name: str) -> Path:
    dotted = name.replace("-idx", ".idx")
    for candidate in (name, f"{name}.gz", dotted, f"{dotted}.gz"):
        if (folder / candidate).is_file():
            return folder / candidate
    raise ValueError(f"{folder} holds no {name} or {name}.gz")


def _idx_array(dataset: str, path: Path, dimensions: int) -> "np.ndarray[Any, Any]":
    content = path.read_bytes()
    compressed = content
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is truncated or damaged: {error}") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, 8, dimensions]):
        raise ValueError(f"{path} is no IDX file of unsigned bytes in {dimensions} dimensions")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", dimensions, 4))
    expected = header + int(np.prod(np.array(shape, dtype=object)))
    if len(content) != expected:
        raise ValueError(f"{path} is truncated: {len(content)} bytes where {expected} are due")
    official = CHECKSUMS[dataset].get(path.name)
    if official is not None and shape[0] == (60_000 if "train" in path.name else 10_000):
        _verify(str(path), compressed, official)
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


# -- NumPy archives --------------------------------------------------------------------------------


def read_npz(path: Path) -> Images:
    """Read ``x`` (n, height, width[, channels]) or (n, features), ``y`` (n,), optional ``id`` (n,).

    Values from 0 to 255 of an integer dtype stay ``uint8``; all else is float32, the precision that
    models compute in.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError(f"{path} is no .npz archive")
            names = [name for name in archive.files if name in ("x", "y", "id")]
            content = {name: archive[name] for name in names}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error) or "pickled" in str(error):
            raise ValueError(f"{path} holds pickled objects, which are never read") from error
        raise ValueError(f"{path} is truncated or no .npz archive: {error}") from error
    for name in ("x", "y"):
        if name not in content:
            raise ValueError(f"{path} must hold arrays x and y, but has no {name}")
    images = _pixels(path, content["x"])
    labels = content["y"].reshape(-1) if content["y"].ndim <= 2 else content["y"]
    ids = content.get("id", np.arange(len(images)))
    for name, array in (("y", labels), ("id", ids)):
        if array.shape != (len(images),):
            raise ValueError(
                f"{path}: {name} must have one entry for each of the {len(images)} rows of x, "
                f"but has shape {content[name].shape}"
            )
    if ids.dtype.kind not in "iu" or len(np.unique(ids)) != len(ids):
        raise ValueError(f"{path}: id must be distinct integers")
    codes, classes = encode_labels(labels)
    order = np.argsort(ids, kind="stable")
    return Images(images[order], codes[order], ids[order].astype(np.int64), classes)


def _pixels(path: Path, x: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise ValueError(
            f"{path}: x must be images (n, height, width[, channels]) or rows (n, features), "
            f"but has shape {x.shape}"
        )
    if x.ndim == 3:
        x = x[..., np.newaxis]
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind in "iub" and x.min() >= 0 and x.max() <= 255:
        return x.astype(np.uint8)
    if x.dtype.kind not in "iuf":
        raise ValueError(f"{path}: x must be numbers, not {x.dtype}")
    finite = np.isfinite(x).reshape(len(x), -1).all(axis=1)
    if not finite.all():
        raise ValueError(f"{path}: row {int(np.argmin(finite))} of x holds NaN or infinity")
    return x.astype(np.float32)


def encode_labels(labels: "np.ndarray[Any, Any]") -> tuple["np.ndarray[Any, Any]", tuple[str, ...]]:
    """Map labels of any sortable kind to 0..K-1 in sorted order, and return the K names."""
    if labels.dtype.kind not in "iubUSf" or (
        labels.dtype.kind == "f" and not np.isfinite(labels).all()
    ):
        raise ValueError("labels must be integers, text, booleans or finite numbers")
    values, codes = np.unique(labels, return_inverse=True)
    names = (v.decode() if isinstance(v, bytes) else str(v) for v in values.tolist())
    return codes.astype(np.int64), tuple(names)
