"""Readers of image files and what is made of them. No Keras here."""

import gzip
import importlib.util
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest

from confsim import ConfsimError
from confsim.deep import datasets, formats

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


@pytest.fixture(autouse=True)
def _no_cache():
    datasets.load.cache_clear()


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def picture(rng, size=(6, 5), mode="RGB", kind="PNG"):
    channels = {"RGB": (3,), "L": (), "RGBA": (4,)}[mode]
    pixels = rng.integers(0, 256, (*size, *channels), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode).save(buffer, kind)
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


class TestFolder:
    def test_reads_both_parts_in_name_order(self, tmp_path, rng):
        made = make_folder(tmp_path / "data", rng)
        found = formats.read_folder(tmp_path / "data")
        assert found.images.dtype == np.uint8
        assert found.images.shape == (12, 6, 5, 3)
        assert found.names == ("cat", "dog")
        expected = np.stack([made[name] for name in sorted(made)])
        assert np.array_equal(found.images, expected)
        assert found.labels.tolist() == [0, 0, 0, 1, 1, 1] * 2

    def test_archives_equal_the_folder(self, tmp_path, rng):
        make_folder(tmp_path / "data", rng)
        found = formats.read_folder(tmp_path / "data")
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "data", "some/where")
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for file in sorted((tmp_path / "data").rglob("*.png"), reverse=True):
                archive.write(file, file.relative_to(tmp_path))
        for name in ("a.tar.gz", "a.zip"):
            other = formats.read_folder(tmp_path / name)
            assert np.array_equal(other.images, found.images)
            assert np.array_equal(other.labels, found.labels)

    def test_without_parts(self, tmp_path, rng):
        make_folder(tmp_path, rng, "{label}/{k}.png", mode="L")
        assert formats.read_folder(tmp_path).images.shape == (12, 6, 5, 1)

    def test_grey_becomes_colour_beside_colour(self, tmp_path, rng):
        make_folder(tmp_path, rng, "{label}/{k}.png", mode="L")
        (tmp_path / "dog" / "zz.png").write_bytes(picture(rng)[0])
        found = formats.read_folder(tmp_path)
        assert found.images.shape == (13, 6, 5, 3)
        assert (found.images[0, ..., 0] == found.images[0, ..., 2]).all()

    def test_names_that_leave_the_archive_are_harmless(self, tmp_path, rng):
        path = tmp_path / "inner" / "evil.tar"
        path.parent.mkdir()
        with tarfile.open(path, "w") as archive:
            for label in "ab":
                for k in range(2):
                    content = picture(rng)[0]
                    member = tarfile.TarInfo(f"../../{label}/{k}.png")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
            link = tarfile.TarInfo("a/link.png")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        before = sorted(tmp_path.parent.rglob("*"))
        assert len(formats.read_folder(path).images) == 4
        assert sorted(tmp_path.parent.rglob("*")) == before

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda p, rng: (p / "cat/x.png").write_bytes(picture(rng, (4, 4))[0]), "one size"),
            (lambda p, rng: (p / "cat/x.png").write_bytes(b"GIF89a"), "no readable PNG"),
            (
                lambda p, rng: (p / "cat/x.png").write_bytes(picture(rng, mode="RGBA")[0]),
                "mode RGBA",
            ),
            (lambda p, rng: (p / "x.png").write_bytes(picture(rng)[0]), "not in a class folder"),
            (lambda p, rng: (p / "cat/x.png").write_bytes(picture(rng)[0][:60]), "x.png"),
        ],
    )
    def test_unfit_pictures(self, tmp_path, rng, spoil, message):
        make_folder(tmp_path, rng, "{label}/{k}.png")
        spoil(tmp_path, rng)
        with pytest.raises(ValueError, match=message):
            formats.read_folder(tmp_path)

    def test_truncated_archives(self, tmp_path, rng):
        make_folder(tmp_path / "data", rng)
        for mode in ("w", "w:gz"):
            path = tmp_path / f"{mode[2:]}.tar"
            with tarfile.open(path, mode) as archive:
                archive.add(tmp_path / "data", "data")
            content = path.read_bytes()
            path.write_bytes(content[: len(content) * 2 // 3])
            with pytest.raises(ValueError, match="truncated"):
                formats.read_folder(path)
        with pytest.raises(ValueError, match="does not exist"):
            formats.read_folder(tmp_path / "nowhere")
        with pytest.raises(ValueError, match="no PNG or JPEG"):
            formats.read_folder(_empty(tmp_path))


def _empty(tmp_path):
    path = tmp_path / "empty"
    path.mkdir()
    return path


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


class TestCifar:
    @pytest.mark.parametrize("classes", [10, 100])
    @pytest.mark.parametrize("binary", [False, True])
    @pytest.mark.parametrize("archived", [False, True])
    def test_every_official_layout(self, tmp_path, rng, classes, binary, archived):
        batches = cifar_batches(rng, classes, 200)
        kind = "binary" if binary else "python"
        archive = f"cifar-{classes}-{kind}.tar.gz" if archived else None
        write_cifar(tmp_path, batches, binary=binary, classes=classes, archive=archive)
        data = datasets.load(f"cifar{classes}", str(tmp_path))
        pixels = np.concatenate([b[1] for b in batches])
        expected = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        assert np.array_equal(data.images, expected)
        assert data.labels.tolist() == [*batches[0][2], *batches[1][2]]
        source = tmp_path / archive if archived else next(tmp_path.iterdir())
        assert np.array_equal(formats.read_cifar(f"cifar{classes}", source).images, expected)

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
            datasets.load("cifar10", str(tmp_path))
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
            formats.read_cifar("cifar10", tmp_path)

    def test_truncated(self, tmp_path, rng):
        (tmp_path / "data_batch_1.bin").write_bytes(bytes(3073 * 2 - 1))
        with pytest.raises(ValueError, match="truncated"):
            formats.read_cifar("cifar10", tmp_path)
        (tmp_path / "other").mkdir()
        with pytest.raises(ValueError, match="holds none of cifar-10-batches-py"):
            formats.read_cifar("cifar10", tmp_path / "other")

    def test_sixty_thousand_must_be_the_official_ones(self, tmp_path):
        for name in [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]:
            batch = {b"data": np.zeros((10_000, 3072), np.uint8), b"labels": [0, 1] * 5000}
            (tmp_path / name).write_bytes(pickle.dumps(batch, 2))
        with pytest.raises(ValueError, match="data_batch_1 is damaged or not the official file"):
            formats.read_cifar("cifar10", tmp_path)


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


class TestIdx:
    @pytest.mark.parametrize("compress", [False, True])
    @pytest.mark.parametrize(
        ("dataset", "inner"), [("mnist", "."), ("fashion_mnist", "FashionMNIST/raw")]
    )
    def test_plain_and_compressed(self, tmp_path, rng, compress, dataset, inner):
        pixels = write_idx(tmp_path / inner, rng, compress=compress)
        data = datasets.load(dataset, str(tmp_path))
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
            datasets.load("mnist", str(tmp_path))

    def test_damaged_gzip(self, tmp_path, rng):
        write_idx(tmp_path, rng, compress=True)
        path = tmp_path / "t10k-images-idx3-ubyte.gz"
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte\.gz is truncated"):
            datasets.load("mnist", str(tmp_path))


class TestNpz:
    def save(self, path, **arrays):
        np.savez(path, **arrays)
        return f"npz:{path}"

    def test_images_labels_and_ids(self, tmp_path, rng):
        x = rng.integers(0, 256, (20, 4, 4, 3))
        y = np.array(["b", "a"] * 10)
        ids = np.arange(20)[::-1] * 7
        data = datasets.load(self.save(tmp_path / "d.npz", x=x, y=y, id=ids))
        assert data.images.dtype == np.uint8
        assert np.array_equal(data.images, x[::-1])
        assert data.names == ("a", "b")
        assert data.labels.tolist() == [0, 1] * 10
        assert data.ids.tolist() == sorted(ids.tolist())

    def test_rows_of_numbers(self, tmp_path, rng):
        x = rng.standard_normal((20, 5))
        y = np.arange(20) % 2 == 0
        data = datasets.load(self.save(tmp_path / "d.npz", x=x, y=y[:, None]))
        assert data.images.dtype == np.float32
        assert data.image_shape == (5,)

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"x": np.zeros((4, 2)), "y": np.arange(3)}, "one entry for each of the 4 rows"),
            ({"x": np.zeros((4, 2))}, "has no y"),
            ({"x": np.array([{}] * 4), "y": np.arange(4)}, "pickled objects"),
            ({"x": np.zeros((4, 2)), "y": np.array([None, 1, 2, 3])}, "pickled objects"),
            ({"x": np.full((4, 2), np.nan), "y": np.arange(4) % 2}, "row 0 of x holds NaN"),
            ({"x": np.zeros(4), "y": np.arange(4) % 2}, "has shape"),
            ({"x": np.zeros((4, 2)), "y": np.array([0.0, 1, np.nan, 1])}, "labels must be"),
            ({"x": np.zeros((4, 2)), "y": [0, 0, 1, 1], "id": [1, 1, 2, 3]}, "distinct"),
            ({"x": np.zeros((4, 2)), "y": [0, 0, 0, 1]}, "'1' has 1"),
            ({"x": np.zeros((4, 2)), "y": [0, 0, 0, 0]}, "at least two classes"),
        ],
    )
    def test_unfit(self, tmp_path, arrays, message):
        with pytest.raises(ValueError, match=message):
            datasets.load(self.save(tmp_path / "d.npz", **arrays))

    def test_foreign_file(self, tmp_path):
        (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 no archive")
        with pytest.raises(ValueError, match="truncated or no"):
            datasets.load(f"npz:{tmp_path / 'd.npz'}")


class TestLoad:
    def test_digits(self):
        data = datasets.load("digits")
        assert data.images.shape == (1797, 8, 8, 1)
        assert data.images.max() == 255
        assert data.classes == 10

    @pytest.mark.parametrize("name", ["digit", "folder", "folder:", "npz", "cifar"])
    def test_unknown_names_are_offered_the_known(self, name):
        with pytest.raises(ValueError, match=r"one of digits, cifar10, .* npz:PATH, not"):
            datasets.load(name)

    def test_limit_is_stratified_stable_and_keeps_ids(self):
        everything = datasets.load("digits")
        data = datasets.load("digits", limit=200, seed=3)
        assert len(data.labels) == 200
        assert np.bincount(data.labels).tolist() == pytest.approx([20] * 10, abs=1)
        assert np.array_equal(everything.images[data.ids], data.images)
        datasets.load.cache_clear()
        assert datasets.load("digits", limit=200, seed=3).fingerprint() == data.fingerprint()
        assert datasets.load("digits", limit=200, seed=4).fingerprint() != data.fingerprint()

    def test_limit_that_starves_a_class(self):
        with pytest.raises(ValueError, match="within limit 12"):
            datasets.load("digits", limit=12)

    def test_a_failed_download_says_what_to_do(self, tmp_path, monkeypatch):
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
        monkeypatch.setattr(datasets, "_DOWNLOADER", "raise OSError('no route to host')")
        with pytest.raises(ConfsimError, match=r"no route to host.*give --data-dir"):
            datasets.load("cifar10")
        assert list((tmp_path / "keras" / "datasets").iterdir()) == []

    def test_a_download_is_kept(self, tmp_path, monkeypatch, rng):
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
        fake = (
            "import sys, numpy as np\n"
            "np.savez(sys.argv[2], x=np.zeros((40, 28, 28), 'u1'), y=np.arange(40) % 10)"
        )
        monkeypatch.setattr(datasets, "_DOWNLOADER", fake)
        assert datasets.load("mnist").images.shape == (40, 28, 28, 1)
        datasets.load.cache_clear()
        monkeypatch.setattr(datasets, "_DOWNLOADER", "raise SystemExit(1)")
        assert len(datasets.load("mnist").labels) == 40


class TestDuplicates:
    def test_exact(self):
        images = np.array([[1, 2], [3, 4], [1, 2], [5, 6]], np.uint8)
        assert datasets.exact_groups(images).tolist() == [0, 1, 0, 2]

    def test_near_equals_brute_force(self, rng):
        images = rng.integers(0, 256, (60, 4, 4, 1), dtype=np.uint8)
        for k in range(20):
            copy = images[k].astype(int) + rng.integers(-6, 7, (4, 4, 1))
            images[k + 20] = np.clip(copy, 0, 255)
        rows = images.reshape(60, -1).astype(float)
        close = np.sqrt(((rows[:, None] - rows) ** 2).mean(axis=2)) <= 4.0
        while not np.array_equal(close, wider := close @ close):
            close = wider
        groups = datasets.near_groups(images, 4.0)
        assert np.array_equal(groups[:, None] == groups, close)
        assert close.sum() > 60

    def test_threshold_is_inclusive_and_zero_finds_equals(self, rng):
        images = np.zeros((3, 4), np.uint8)
        images[1, :] = 3
        assert datasets.near_groups(images, 3.0).tolist() == [0, 0, 0]
        assert len(set(datasets.near_groups(images, 2.999).tolist())) == 2
        assert len(set(datasets.near_groups(images, 0.0).tolist())) == 2

    def test_file_adds_to_exact(self, tmp_path):
        path = tmp_path / "groups.csv"
        path.write_text("id,group\n5,a\n9,a\n11,b\n")
        data = datasets.load("digits", duplicates=str(path))
        assert data.groups[5] == data.groups[9] != data.groups[11]
        assert len(np.unique(data.groups)) == 1796

    @pytest.mark.parametrize(
        "content", ["id;group\n1;2\n", "id,group\nx,1\n", "id\n1\n", "id,group\n1,2\n3\n"]
    )
    def test_unfit_file(self, tmp_path, content):
        path = tmp_path / "groups.csv"
        path.write_text(content)
        with pytest.raises(ValueError, match="columns id"):
            datasets.load("digits", duplicates=str(path))

    @pytest.mark.parametrize(
        ("row", "message"), [("1797,a", "no image has the id 1797"), ("5,b", "in two groups")]
    )
    def test_file_that_does_not_fit_the_data(self, tmp_path, row, message):
        path = tmp_path / "groups.csv"
        path.write_text(f"id,group\n5,a\n9,a\n{row}\n")
        with pytest.raises(ValueError, match=message):
            datasets.load("digits", duplicates=str(path))

    def test_file_may_name_images_beyond_the_limit(self, tmp_path):
        path = tmp_path / "groups.csv"
        path.write_text("id,group\n" + "".join(f"{k},a\n" for k in range(1797)))
        groups = datasets.load("digits", limit=100, duplicates=str(path)).groups
        assert groups.tolist() == [0] * 100


def test_the_parent_imports_no_framework():
    code = (
        "import sys; from confsim.deep.experiment import DeepExperiment as D;"
        "import confsim.cli.deep; e = D(); e.identity(); e.check(2); e.run_data(); e.estimate();"
        "print([m for m in ('keras', 'tensorflow', 'jax', 'torch') if m in sys.modules])"
    )
    if importlib.util.find_spec("tensorflow") is None or importlib.util.find_spec("keras") is None:
        pytest.skip("TensorFlow or Keras is not installed")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
