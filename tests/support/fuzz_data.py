"""Feeds damaged and made-up files to every reader of data, and says when one misbehaves.

``python tests/support/fuzz_data.py SECONDS [SEED]`` runs for a while; ``test_data_fuzz.py`` runs a
few rounds of it. ``fuzz_audits.py`` and ``fuzz_runs.py`` do the same to what is given to an audit,
and to run directories. Each round writes a file or a folder, reads it, and fails if the reader

- raises anything but ``ValueError`` or ``ConfsimError``, or says more than one line,
- computes for more than 10 seconds, or the process more than 2 GB,
- or returns other images or labels than the undamaged data have, without a note, where the format
  can tell (checksums: every zip, gzip and PNG; headers: tar).

A signal ends the process, with the seed and the round already printed by ``--trace``.
"""

import argparse
import contextlib
import gzip
import io
import pickle
import resource
import shutil
import struct
import tempfile
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
from data_makers import chunk, picture, png, small_tar, small_zip, two_classes
from PIL import Image

from confsim import ConfsimError
from confsim.deep.data.arrays import read_npz
from confsim.deep.data.cifar import read_cifar
from confsim.deep.data.duplicates import listed_groups
from confsim.deep.data.folder import read_folder
from confsim.deep.data.idx import read_idx
from confsim.deep.data.pictures import FORMATS
from confsim.deep.data.pictures import picture as read_picture

SECONDS = 10
MEGABYTES = 2000


class ReaderError(AssertionError):
    """A reader did what no reader may do."""


class RefusedError(ValueError):
    """What a reader raised names the file."""


@contextlib.contextmanager
def refusing(path):
    """Let a plain ``ValueError`` pass where its message names ``path``."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if str(path) not in str(error):
            raise ReaderError(f"the file is not named: {type(error).__name__}: {error}") from error
        raise RefusedError(str(error)) from error


# -- Whole inputs ----------------------------------------------------------------------------------


def seeds(rng):
    """Undamaged inputs: name, bytes, reader, and whether damage is always noticed."""
    files = two_classes(rng)
    long_name = {f"cat/{'n' * 120}.png": files["cat/0.png"], **files}
    made = [("a.tar", small_tar(long_name, mode=mode), _folder, False) for mode in ("w",)]
    made += [
        (f"a.tar.{mode}", small_tar(files, mode=f"w:{mode}"), _folder, mode != "bz2")
        for mode in ("gz", "bz2", "xz")
    ]
    made += [
        (f"a{method}.zip", small_zip(files, method), _folder, True)
        for method in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
            zipfile.ZIP_BZIP2,
            zipfile.ZIP_LZMA,
        )
    ]
    made += [
        (f"p.{kind}", picture(rng, (9, 7), kind=kind)[0], _picture, kind == "PNG")
        for kind in FORMATS
    ]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=rng.integers(0, 256, (6, 4)), y=np.arange(6) % 2, id=np.arange(6))
    made.append(("d.npz", buffer.getvalue(), _npz, True))
    batch = {b"data": np.zeros((4, 3072), np.uint8), b"labels": [0, 1, 2, 3], "label": b"one"}
    made += [
        (f"data_batch_{k + 1}", pickle.dumps(batch, protocol), _cifar, False)
        for k, protocol in enumerate((2, 3, 4, 5))
    ]
    pixels = rng.integers(0, 256, (12, 3, 3), dtype=np.uint8)
    content = struct.pack(">4B3I", 0, 0, 8, 3, 12, 3, 3) + pixels.tobytes()
    made.append(("train-images-idx3-ubyte.gz", gzip.compress(content), _idx, True))
    made.append(("train-images-idx3-ubyte", content, _idx, False))
    made.append(("groups.csv", b"\xef\xbb\xbfid;group\n0;a\n1;a\n2;\n3;-1\n", _groups, False))
    return made


def _folder(path):
    found = read_folder(path)
    return found.images.tobytes(), found.labels.tolist(), found.names


def _picture(path):
    return read_picture(str(path), path.read_bytes()).tobytes()


def _npz(path):
    found = read_npz(path)
    return found.images.tobytes(), found.labels.tolist(), found.ids.tolist()


def _cifar(path):
    found = read_cifar("cifar10", path.parent)
    return found.images.tobytes(), found.labels.tolist()


def _idx(path):
    """Read beside three files that are whole."""
    label = struct.pack(">4BI", 0, 0, 8, 1, 12) + bytes(k % 3 for k in range(12))
    image = struct.pack(">4B3I", 0, 0, 8, 3, 12, 3, 3) + bytes(108)
    for name, content in (
        ("train-labels-idx1-ubyte", label),
        ("t10k-labels-idx1-ubyte", label),
        ("t10k-images-idx3-ubyte", image),
    ):
        (path.parent / name).write_bytes(content)
    found = read_idx("mnist", path.parent)
    return found.images.tobytes(), found.labels.tolist()


def _groups(path):
    return listed_groups(path, np.arange(9))


# -- Damage ----------------------------------------------------------------------------------------


def mutate(rng, content, others):
    """Return the content after one to four random changes."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        at, width = int(rng.integers(0, len(data) + 1)), int(rng.integers(1, 9))
        other = others[rng.integers(0, len(others))][1]
        match rng.integers(0, 10):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.integers(0, 8)
            case 1:
                data[at : at + width] = rng.bytes(width)
            case 2:
                del data[at:]
            case 3:
                del data[at : at + width]
            case 4:
                data[at:at] = data[at : at + 40 * width] * int(rng.integers(1, 4))
            case 5:
                data[at : at + 4] = struct.pack(
                    ">I", rng.choice([0, 1, 2**31 - 1, 2**32 - 1, 65535])
                )
            case 6:
                data[at : at + 8] = struct.pack("<Q", rng.choice([0, 2**31, 2**40, 2**63 - 1]))
            case 7:
                data[at : at + 64 * width] = bytes(len(data[at : at + 64 * width]))
            case 8:
                data += [bytes(64 * width), other, data[-width:]][rng.integers(0, 3)]
            case _:
                start = int(rng.integers(0, len(other)))
                data[at : at + width] = other[start : start + 30 * width]
    return bytes(data)


# -- Grammars --------------------------------------------------------------------------------------

_WORDS = (
    b"numpy",
    b"dtype",
    b"ndarray",
    b"numpy.core.multiarray",
    b"_reconstruct",
    b"os",
    b"system",
)


def made_pickle(rng):
    """A pickle of random instructions, most of them with fitting operands."""
    out = [b"\x80", bytes([rng.integers(0, 7)]), rng.choice([b"", b"}(", b"]", b"("])]
    for _ in range(rng.integers(1, 60)):
        word = _WORDS[rng.integers(0, len(_WORDS))]
        number = int(rng.choice([0, 1, 3, 255, 3072, 2**31 - 1]))
        out.append(
            [
                rng.choice(
                    [b"(", b"0", b"N", b"\x88", b"]", b"}", b")", b"t", b"e", b"a", b"u", b"s"]
                ),
                rng.choice(
                    [b"R", b"b", b"\x93", b"\x94", b"\x85", b"\x86", b"\x87", b"1", b"2", b"\x81"]
                ),
                rng.choice([b"h", b"q"]) + bytes([rng.integers(0, 8)]),
                b"K" + bytes([number & 255]),
                b"J" + struct.pack("<I", number),
                b"U" + bytes([len(word)]) + word,
                b"X" + struct.pack("<I", len(word)) + word,
                b"T" + struct.pack("<I", number) + word,
                b"c" + word + b"\n" + _WORDS[rng.integers(0, len(_WORDS))] + b"\n",
                b"\x8a" + bytes([rng.integers(0, 20)]) + rng.bytes(4),
            ][rng.integers(0, 10)]
        )
    pixels = pickle.dumps(np.zeros((2, 3072), np.uint8), 2)[2:-1]
    tail = [b"u.", b".", b"U\x04data" + pixels + b"U\x06labels](K\x00K\x01eu."]
    return b"".join([*map(bytes, out), tail[rng.integers(0, 3)]])


def made_npy(rng):
    """An archive of arrays with random dtypes and shapes."""
    kinds = ["<f8", ">f4", "|u1", "<i8", ">u8", "<f2", "|b1", "<U3", "|S2", "<c8", "<M8[s]", "|V3"]
    arrays = {}
    for name in ("x", "y", "id"):
        shape = tuple(int(size) for size in rng.integers(0, 5, rng.integers(0, 5)))
        if rng.random() < 0.8:
            shape = (4, *shape[1:]) if name == "x" else (4,)
        kind = np.dtype(kinds[rng.integers(0, len(kinds))])
        raw = rng.bytes(int(np.prod(shape)) * kind.itemsize)
        if kind.kind == "U":
            arrays[name] = np.full(shape, "a", kind)
        else:
            arrays[name] = np.frombuffer(raw, kind).reshape(shape) if raw else np.zeros(shape, kind)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def made_tar(rng):
    """A tar of odd names, links and kinds."""
    names = [
        "a/1.png",
        "a/../b/1.png",
        "/a/2.png",
        "./a/1.png",
        "b/1.PNG",
        "a//3.png",
        "\udcff/1.png",
    ]
    names += [
        "..",
        "a",
        "a/.x.png",
        "train/1.png",
        "n" * 300 + "/1.png",
        "b/2.tif",
        "",
        "x\n/1.png",
    ]
    content = picture(rng, (3, 3))[0]
    files = {str(rng.choice(names)): content for _ in range(rng.integers(0, 7))}
    kinds = b"123456LKxgSV7"
    links = [
        (str(rng.choice(names)), kinds[k : k + 1], str(rng.choice(names)))
        for k in rng.integers(0, len(kinds), rng.integers(0, 3))
    ]
    return small_tar(files, links, form=int(rng.integers(1, 3)))


def made_png(rng):
    """A PNG with valid checksums and any header and chunks."""
    size = [int(rng.choice([0, 1, 4, 70_000, 2**31 - 1])) for _ in range(2)]
    depth, colour = int(rng.choice([1, 2, 4, 8, 16, 3])), int(rng.choice([0, 2, 3, 4, 6, 5]))
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, int(rng.integers(0, 3)))
    kinds = [
        b"PLTE",
        b"tRNS",
        b"eXIf",
        b"iCCP",
        b"zTXt",
        b"iTXt",
        b"acTL",
        b"fcTL",
        b"IDAT",
        b"gAMA",
    ]
    extra = b"".join(
        chunk(kinds[k], rng.bytes(int(rng.integers(0, 40)))) for k in rng.integers(0, len(kinds), 3)
    )
    good = png(np.zeros((4, 4, 3), np.uint8), extra=extra)
    return good if rng.random() < 0.5 else good[:8] + chunk(b"IHDR", header) + good[33:]


def made_csv(rng):
    """A table of odd cells."""
    cells = [
        "id",
        "group",
        "0",
        "1",
        "4.0",
        "",
        "-1",
        "nan",
        '"',
        "a\0",
        "\u00e9",
        " 2 ",
        "1e5",
        "9" * 30,
    ]
    separator = str(rng.choice([",", ";", "\t"]))
    rows = [
        separator.join(rng.choice(cells, rng.integers(0, 4))) for _ in range(rng.integers(0, 6))
    ]
    head = str(rng.choice(["id,group", "id;group", "group\tid", "ID, Group", ""]))
    return "\n".join([head, *rows]).encode(str(rng.choice(["utf-8", "utf-16", "utf-8-sig"])))


GRAMMARS = (
    ("data_batch_1", made_pickle, _cifar),
    ("d.npz", made_npy, _npz),
    ("a.tar", made_tar, _folder),
    ("p.png", made_png, _picture),
    ("groups.csv", made_csv, _groups),
)


# -- Rounds ----------------------------------------------------------------------------------------


def _peak():
    """The most memory that this process has ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def attempt(folder, name, content, reader, expected=None):
    """Read a file; return whether it was read, and raise ``ReaderError`` if not as it must be."""
    folder.mkdir()
    path = folder / name
    path.write_bytes(content)
    began = time.process_time()  # a busy machine is no fault of a reader
    peak = _peak()  # nor is what thousands of tests took before
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = reader(path)
    except (ValueError, ConfsimError) as error:
        if type(error) is ValueError or "\n" in str(error) or not str(error):
            raise ReaderError(f"{name}: {type(error).__name__}: {error}") from error
        found = None
    except Exception as error:
        raise ReaderError(f"{name}: {type(error).__name__}: {error}") from error
    finally:
        shutil.rmtree(folder)
    if time.process_time() - began > SECONDS:
        raise ReaderError(f"{name}: took {time.process_time() - began:.0f} s")
    if _peak() - peak > MEGABYTES:
        raise ReaderError(f"{name}: took more than {MEGABYTES} MB")
    if expected is not None and found is not None and found != expected:
        raise ReaderError(f"{name}: was read as something else than it is")
    return found is not None


def fuzz(
    seconds=float("inf"),
    rounds=10**9,
    seed=0,
    keep=None,
    trace=False,
    whole=seeds,
    grammars=GRAMMARS,
):
    """Run rounds until the time is over; return how many, and how many files were read."""
    rng = np.random.default_rng(seed)
    whole = whole(rng)
    until, count, read = time.monotonic() + seconds, 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "data"
        known = {}
        while count < rounds and time.monotonic() < until:
            count += 1
            if rng.random() < 0.6:
                at = int(rng.integers(0, len(whole)))
                name, good, reader, certain = whole[at]
                if certain and at not in known:
                    known[at] = read_once(folder, name, good, reader)
                content, expected = mutate(rng, good, whole), known.get(at)
            else:
                name, make, reader = grammars[rng.integers(0, len(grammars))]
                content, expected = make(rng), None
            if trace:
                print(seed, count, name, flush=True)
            try:
                read += attempt(folder, name, content, reader, expected)
            except ReaderError:
                if keep is not None:
                    (Path(keep) / f"{seed}-{count}-{name}").write_bytes(content)
                raise
    return count, read


def read_once(folder, name, content, reader):
    """Return what a whole file holds."""
    folder.mkdir()
    (folder / name).write_bytes(content)
    found = reader(folder / name)
    shutil.rmtree(folder)
    return found


def main(about=__doc__, **inputs):
    """Fuzz from the command line."""
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument("seconds", type=float)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--keep", help="folder for inputs at which a reader misbehaved")
    parser.add_argument("--trace", action="store_true")
    given = parser.parse_args()
    Image.init()
    count, read = fuzz(given.seconds, seed=given.seed, keep=given.keep, trace=given.trace, **inputs)
    print(f"{count} inputs, {read} of them read; no reader misbehaved")


if __name__ == "__main__":
    main()
