"""CIFAR, MNIST and Fashion-MNIST in their official files, and what Keras keeps of them."""

import os
import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL.Image", reason="Pillow is not installed")
sys.path.insert(0, str(Path(__file__).parent))
from data_makers import cifar_batches, write_cifar, write_idx

from confsim.deep.data import load
from confsim.deep.data.cifar import read_cifar

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
