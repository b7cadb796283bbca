"""Small data sets in every format that is read, for the tests and for the fuzzer."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
import zlib

import numpy as np
from PIL import Image


def picture(rng, size=(6, 5), mode="RGB", kind="PNG"):
    channels = {"RGB": (3,), "L": (), "RGBA": (4,)}[mode]
    pixels = rng.integers(0, 256, (*size, *channels), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue(), pixels


def make_folder(root, rng, layout="{split}/{label}/{k}.png", **options):
    """Two classes of three pictures, in both parts; return the pixels by path."""
    made = {}
    for split in ("test", "train"):
        for label in ("cat", "dog"):
            for k in range(3):
                name = layout.format(split=split, label=label, k=f"{split}{k}")
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                content, pixels = picture(rng, **options)
                path.write_bytes(content)
                made[name] = pixels
    return made


def cifar_batches(rng, classes=10, count=30):
    """Small batches in the official format: names, pixels and labels."""
    names = ["data_batch_1", "test_batch"] if classes == 10 else ["train", "test"]
    batches = []
    for name in names:
        pixels = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        batches.append((name, pixels, [k % classes for k in range(count)]))
    return batches


def write_cifar(path, batches, *, binary=False, classes=10, archive=None):
    folder = path / "cifar-10-batches-py" if classes == 10 else path / "cifar-100-python"
    if binary:
        folder = path / ("cifar-10-batches-bin" if classes == 10 else "cifar-100-binary")
    folder.mkdir(parents=True)
    for name, pixels, labels in batches:
        if binary:
            rows = [np.array(labels, np.uint8)[:, None], pixels]
            if classes == 100:
                rows.insert(0, np.zeros((len(pixels), 1), np.uint8))
            (folder / f"{name}.bin").write_bytes(np.hstack(rows).tobytes())
        else:
            key = b"labels" if classes == 10 else b"fine_labels"
            batch = {b"data": pixels, key: labels, b"batch_label": b"testing"}
            (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    if archive:
        with tarfile.open(path / archive, "w:gz") as tar:
            tar.add(folder, folder.name)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def write_idx(folder, rng, count=40, compress=False, spoil=None):
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for part in ("train", "t10k"):
        pixels = rng.integers(0, 256, (count, 5, 4), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for name, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            content = head + array.tobytes()
            file = f"{part}-{name}-ubyte"
            if spoil:
                content = spoil(file, content)
            if compress:
                content, file = gzip.compress(content), f"{file}.gz"
            (folder / file).write_bytes(content)
        made[part] = pixels
    return np.concatenate([made["train"], made["t10k"]])


def png(pixels, *, depth=8, colour=None, extra=b""):
    """A PNG written by hand: ``extra`` chunks stand before the pixels."""
    height, width = pixels.shape[:2]
    if colour is None:
        colour = {1: 0, 2: 4, 3: 2, 4: 6}[pixels.shape[2]] if pixels.ndim == 3 else 0
    kind = ">u2" if depth == 16 else "u1"
    rows = b"".join(b"\0" + row.astype(kind).tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IEND", b"")


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def small_tar(files, links=(), mode="w", form=tarfile.PAX_FORMAT):
    """The bytes of a tar of {name: content}, then of (name, type, target)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, kind, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    return buffer.getvalue()


def small_zip(files, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def two_classes(rng, count=2, size=(4, 4)):
    """Names and contents of pictures: count of a cat, count of a dog."""
    return {
        f"{label}/{k}.png": picture(rng, size)[0] for label in ("cat", "dog") for k in range(count)
    }
