"""CIFAR, MNIST and Fashion-MNIST in their official files, and what Keras keeps of them."""

import gzip
import hashlib
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL.Image", reason="Pillow is not installed")
from data_makers import cifar_batches, write_cifar, write_idx

from confsim import ConfsimError
from confsim.deep.data import downloads, load
from confsim.deep.data.cifar import read_cifar
from confsim.deep.data.limits import DataError
from confsim.deep.data.pickles import load_batch

#: These data are smaller than the official ones, which is said.
pytestmark = pytest.mark.filterwarnings("ignore:.* holds .* images, of .* of the official")


@pytest.fixture(autouse=True)
def _no_cache():
    load.cache_clear()


@pytest.fixture
def rng():
    return np.random.default_rng(5)


class TestCifar:
    @pytest.mark.parametrize("classes", [10, 100])
    @pytest.mark.parametrize("binary", [False, True])
    @pytest.mark.parametrize("archived", [False, True])
    def test_every_official_layout(self, tmp_path, rng, classes, binary, archived):
        batches = cifar_batches(rng, classes, 200)
        kind = "binary" if binary else "python"
        archive = f"cifar-{classes}-{kind}.tar.gz" if archived else None
        write_cifar(tmp_path, batches, binary=binary, classes=classes, archive=archive)
        data = load(f"cifar{classes}", str(tmp_path))
        pixels = np.concatenate([b[1] for b in batches])
        expected = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        assert np.array_equal(data.images, expected)
        assert data.labels.tolist() == [*batches[0][2], *batches[1][2]]
        source = tmp_path / archive if archived else next(tmp_path.iterdir())
        assert np.array_equal(read_cifar(f"cifar{classes}", source).images, expected)

    @pytest.mark.parametrize("protocol", [2, 4])
    def test_foreign_pickles_run_nothing(self, tmp_path, protocol):
        class Evil:
            def __reduce__(self):
                return os.system, (f"touch {tmp_path}/owned",)

        folder = tmp_path / "cifar-10-batches-py"
        folder.mkdir()
        content = pickle.dumps({b"data": Evil(), b"labels": [0]}, protocol)
        (folder / "data_batch_1").write_bytes(content)
        with pytest.raises(ValueError, match=r"no CIFAR batch: it refers to .*system"):
            load("cifar10", str(tmp_path))
        assert not (tmp_path / "owned").exists()

    @pytest.mark.parametrize(
        ("batch", "message"),
        [
            ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, "2 images and 1 labels"),
            ({b"data": np.zeros((2, 3071), np.uint8), b"labels": [0, 1]}, "3072 columns"),
            ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]}, "0 to 9"),
            ({b"labels": [0, 1]}, "no CIFAR batch"),
            ([1, 2], "no CIFAR batch"),
        ],
    )
    def test_unfit_batches(self, tmp_path, batch, message):
        (tmp_path / "data_batch_1").write_bytes(pickle.dumps(batch, 2))
        with pytest.raises(ValueError, match=message):
            read_cifar("cifar10", tmp_path)

    def test_truncated(self, tmp_path, rng):
        (tmp_path / "data_batch_1.bin").write_bytes(bytes(3073 * 2 - 1))
        with pytest.raises(ValueError, match="truncated"):
            read_cifar("cifar10", tmp_path)
        (tmp_path / "other").mkdir()
        with pytest.raises(ValueError, match="holds none of cifar-10-batches-py"):
            read_cifar("cifar10", tmp_path / "other")

    def test_sixty_thousand_must_be_the_official_ones(self, tmp_path):
        for name in [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]:
            batch = {b"data": np.zeros((10_000, 3072), np.uint8), b"labels": [0, 1] * 5000}
            (tmp_path / name).write_bytes(pickle.dumps(batch, 2))
        with pytest.raises(ValueError, match="data_batch_1 is damaged or not the official file"):
            read_cifar("cifar10", tmp_path)


def reference(module, name):
    return b"c" + module + b"\n" + name + b"\n"


def py2_batch(pixels, labels):
    """A batch as Python 2 wrote the official ones: byte strings, BININT1, memos everywhere."""
    out = [b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03"]
    out += [b"U\x06labelsq\x04]q\x05(", *(b"K" + bytes([label]) for label in labels), b"e"]
    out += [b"U\x04dataq\x06", reference(b"numpy.core.multiarray", b"_reconstruct"), b"q\x07"]
    out += [reference(b"numpy", b"ndarray"), b"q\x08K\x00\x85q\x09U\x01bq\x0a\x87q\x0bRq\x0c("]
    out += [b"K\x01M", struct.pack("<H", len(pixels)), b"M\x00\x0c\x86q\x0d"]
    out += [reference(b"numpy", b"dtype"), b"q\x0eU\x02u1K\x00K\x01\x87q\x0fRq\x10"]
    out += [b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbq\x11\x89"]
    out += [b"T", struct.pack("<I", pixels.nbytes), pixels.tobytes(), b"q\x12tbu."]
    return b"".join(out)


ARRAY = pickle.dumps(np.zeros((10, 3072), np.uint8), 2)[2:-1]


class TestPickles:
    def test_as_python_2_wrote_them(self, rng):
        pixels = rng.integers(0, 256, (30, 3072), dtype=np.uint8)
        batch = load_batch(py2_batch(pixels, range(30)))
        assert batch["labels"] == list(range(30))
        assert batch["batch_label"] == b"training batch 1 of 5"
        assert np.array_equal(batch["data"], pixels)
        expected = pickle.loads(py2_batch(pixels, range(30)), encoding="bytes")
        assert np.array_equal(expected[b"data"], pixels)

    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_as_python_3_writes_them(self, rng, protocol, order):
        batch = {
            b"data": np.asarray(rng.integers(0, 256, (300, 3072), dtype=np.uint8), order=order),
            "labels": [k % 10 for k in range(300)],
            b"filenames": [b"a.png", "b\u00e9.png"] * 150,
            "coarse": np.arange(300, dtype=np.uint16).astype(np.uint8),
            "numbers": [-1, 255, 256, 70_000, -(2**31), 2**40],
            "none": None,
        }
        found = load_batch(pickle.dumps(batch, protocol))
        assert [*found] == ["data", "labels", "filenames", "coarse", "numbers", "none"]
        for key, value in batch.items():
            name = key.decode() if isinstance(key, bytes) else key
            if isinstance(value, np.ndarray):
                assert np.array_equal(found[name], value)
                assert found[name].dtype == np.uint8
            else:
                assert found[name] == value

    @pytest.mark.parametrize(
        "value",
        [
            np.zeros(3),
            np.zeros(3, np.int8),
            np.array([{}]),
            np.array(["a"]),
            np.uint8(3),
            1.5,
            {"inner": 1},
            [[1]],
            [(1,)],
            (1, 2),
            {1, 2},
            2**70,
            np.dtype("u1"),
            len,
            Path("/"),
        ],
    )
    @pytest.mark.parametrize("protocol", [2, 4, 5])
    def test_everything_else_is_refused(self, value, protocol):
        with pytest.raises(DataError, match=r"^its? "):
            load_batch(pickle.dumps({"data": value}, protocol))

    @pytest.mark.parametrize("flags", [0, 63])
    def test_a_dtype_is_never_changed(self, flags):
        """Object flags that are cleared would turn bytes of the file into pointers."""
        state = b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK" + bytes([flags]) + b"tb"
        for name in (b"O8", b"u1"):
            dtype = reference(b"numpy", b"dtype") + b"(U\x02" + name + b"\x89\x88tR" + state
            if flags == 0 and name == b"u1":
                continue
            with pytest.raises(DataError, match=r"^its? "):
                load_batch(b"\x80\x02}(U\x01d" + dtype + b"u.")

    @pytest.mark.parametrize(
        "shape", [b"K\x0aM\x01\x0c\x86", b"K\x0aJ\xff\xff\xff\xff\x86", b"((K\x01tK\x01t", b"K\x0a"]
    )
    def test_shapes_that_do_not_fit(self, shape):
        bad = ARRAY.replace(b"K\nM\x00\x0c\x86", shape)
        assert bad != ARRAY
        with pytest.raises(DataError, match=r"^it (has an array|nests)"):
            load_batch(b"\x80\x02}(U\x04data" + bad + b"u.")

    def test_nested_lists_do_not_expand(self):
        program = b"\x80\x04]q\x00(K\x00" + b"K\x01" * 9 + b"e"
        for k in range(9):
            program += b"]q" + bytes([k + 1]) + b"(" + (b"h" + bytes([k])) * 10 + b"e"
        with pytest.raises(DataError, match="a list of something else"):
            load_batch(program + b"}(U\x06labelsh\x09u.")

    def test_shared_text_is_not_encoded_over_and_over(self):
        encode = reference(b"_codecs", b"encode") + b"q\x02"
        text = b"X" + struct.pack("<I", 10_000) + b"a" * 10_000 + b"q\x01"
        again = b"h\x02(h\x01tR"
        with pytest.raises(DataError, match="unpacks to more than it holds"):
            load_batch(b"\x80\x02" + text + encode + b"]" + b"(" + again * 100 + b"e.")

    def test_lists_that_hold_themselves(self):
        with pytest.raises(DataError, match="a list of something else"):
            load_batch(b"\x80\x02]q\x00h\x00a.")

    def test_every_truncation(self, rng):
        content = py2_batch(rng.integers(0, 256, (1, 3072), dtype=np.uint8), [3])
        for size in range(len(content)):
            with pytest.raises(DataError, match=r"^its? "):
                load_batch(content[:size])

    @pytest.mark.parametrize("code", [code for code in range(256) if code != ord("}")])
    def test_every_instruction_on_an_empty_stack(self, code):
        for rest in (b"", b"\x00" * 20, b"\xff" * 20):
            with pytest.raises(DataError, match=r"^its? "):
                load_batch(b"\x80\x02" + bytes([code]) + rest + b".")


class TestBombs:
    def test_a_gzipped_idx_file(self, tmp_path, rng):
        write_idx(tmp_path, rng, compress=True)
        path = tmp_path / "train-images-idx3-ubyte.gz"
        header = struct.pack(">4B3I", 0, 0, 8, 3, 600_000, 32, 32)
        path.write_bytes(gzip.compress(header + bytes(1 << 20), 1))
        with pytest.raises(DataError, match=r"ubyte\.gz makes the data unpack to more than"):
            load("mnist", str(tmp_path))
        header = struct.pack(">4B3I", 0, 0, 8, 3, 40, 5, 4)
        path.write_bytes(gzip.compress(header + bytes(1 << 20)))
        with pytest.raises(DataError, match="damaged: more than 816 bytes where 816 are due"):
            load("mnist", str(tmp_path))

    def test_the_limit_can_be_raised(self, tmp_path, rng):
        pixels = write_idx(tmp_path, rng, count=4000, compress=True)
        with pytest.raises(DataError, match="give --unpack-limit"):
            load("mnist", str(tmp_path), unpack_limit=1e-5)
        assert np.array_equal(load("mnist", str(tmp_path), unpack_limit=1).images[..., 0], pixels)

    def test_pipes_do_not_hang(self, tmp_path, rng):
        write_idx(tmp_path, rng)
        path = tmp_path / "train-images-idx3-ubyte"
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(DataError, match="is a named pipe"):
            load("mnist", str(tmp_path))
        os.mkfifo(tmp_path / "data_batch_1.bin")
        with pytest.raises(DataError, match=r"holds none of|is a named pipe"):
            load("cifar10", str(tmp_path))


class TestFewerThanOfficial:
    def test_a_missing_or_cut_batch_is_said(self, tmp_path, rng):
        write_cifar(tmp_path, cifar_batches(rng, 10, 20), binary=True)
        found = read_cifar("cifar10", tmp_path)
        folder = tmp_path / "cifar-10-batches-bin"
        assert found.notes == (f"{folder} holds 40 images, of 60,000 of the official cifar10",)

    def test_only_the_batches_are_looked_at(self, tmp_path, rng):
        write_cifar(tmp_path, cifar_batches(rng, 10, 20), binary=True)
        folder = tmp_path / "cifar-10-batches-bin"
        os.mkfifo(folder / "pipe")
        (folder / "link").symlink_to("nowhere")
        assert len(read_cifar("cifar10", tmp_path).images) == 40
        (folder / "data_batch_2.bin").symlink_to("nowhere")
        with pytest.raises(DataError, match=r"data_batch_2\.bin does not exist"):
            read_cifar("cifar10", tmp_path)

    def test_both_versions_in_one_folder(self, tmp_path):
        (tmp_path / "data_batch_1").write_bytes(py2_batch(np.zeros((2, 3072), np.uint8), [0, 1]))
        (tmp_path / "test_batch.bin").write_bytes(bytes(3073 * 2))
        with pytest.raises(DataError, match="of the python and of the binary version"):
            read_cifar("cifar10", tmp_path)


class TestKeras:
    """What Keras keeps is read where it lies, without Keras and without a network."""

    @pytest.fixture
    def home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
        monkeypatch.setattr(downloads, "_DOWNLOADER", "raise OSError('no route to host')")
        folder = tmp_path / "keras" / "datasets"
        folder.mkdir(parents=True)
        return folder

    def test_mnist(self, home, monkeypatch, rng):
        x = rng.integers(0, 256, (30, 28, 28), dtype=np.uint8)
        y = np.arange(30, dtype=np.uint8) % 10
        np.savez(home / "mnist.npz", x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
        with pytest.raises(ConfsimError, match=r"no route.*mnist\.npz is damaged or not"):
            load("mnist")
        digest = hashlib.sha256((home / "mnist.npz").read_bytes()).hexdigest()
        monkeypatch.setattr(downloads, "_MNIST", digest)
        for data_dir in (None, str(home)):
            assert np.array_equal(load("mnist", data_dir).images[..., 0], x)

    @pytest.mark.parametrize("inner", [".", "cifar-10-batches-py-target"])
    def test_cifar(self, home, rng, inner):
        write_cifar(home / inner, cifar_batches(rng, 10, 30))
        with pytest.raises(ConfsimError, match=r"no route.*Keras kept .* holds 60 images"):
            load("cifar10")
        assert len(load("cifar10", str(home)).images) == 60

    def test_a_home_with_a_tilde(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("KERAS_HOME", "~/k")
        assert downloads.cache_dir() == tmp_path / "k" / "datasets"
        monkeypatch.delenv("KERAS_HOME")
        assert downloads.cache_dir() == tmp_path / ".keras" / "datasets"


class TestIdx:
    @pytest.mark.parametrize("compress", [False, True])
    @pytest.mark.parametrize(
        ("dataset", "inner"), [("mnist", "."), ("fashion_mnist", "FashionMNIST/raw")]
    )
    def test_plain_and_compressed(self, tmp_path, rng, compress, dataset, inner):
        pixels = write_idx(tmp_path / inner, rng, compress=compress)
        data = load(dataset, str(tmp_path))
        assert np.array_equal(data.images[..., 0], pixels)
        assert data.classes == 10

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda name, b: b[:-1] if "images" in name else b, "truncated"),
            (lambda name, b: b"\0\0\x0d" + b[3:] if "labels" in name else b, "no IDX file"),
            (lambda name, b: b[:2] if "train-images" in name else b, "no IDX file"),
            (
                lambda name, b: b[:4] + struct.pack(">I", 39) + b[8:-1] if "labels" in name else b,
                "40 images and .* 39 labels",
            ),
        ],
    )
    def test_unfit(self, tmp_path, rng, spoil, message):
        write_idx(tmp_path, rng, spoil=spoil)
        with pytest.raises(ValueError, match=message):
            load("mnist", str(tmp_path))

    def test_damaged_gzip(self, tmp_path, rng):
        write_idx(tmp_path, rng, compress=True)
        path = tmp_path / "t10k-images-idx3-ubyte.gz"
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte\.gz is truncated"):
            load("mnist", str(tmp_path))
