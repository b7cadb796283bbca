"""Arrays in a NumPy archive."""

import io
import os
import zipfile

import numpy as np
import pytest

pytest.importorskip("PIL.Image", reason="Pillow is not installed")

from confsim.deep.data import load
from confsim.deep.data.arrays import read_npz
from confsim.deep.data.limits import DataError


@pytest.fixture(autouse=True)
def _no_cache():
    load.cache_clear()


@pytest.fixture
def rng():
    return np.random.default_rng(5)


class TestNpz:
    def save(self, path, **arrays):
        np.savez(path, **arrays)
        return f"npz:{path}"

    def test_images_labels_and_ids(self, tmp_path, rng):
        x = rng.integers(0, 256, (20, 4, 4, 3))
        y = np.array(["b", "a"] * 10)
        ids = np.arange(20)[::-1] * 7
        data = load(self.save(tmp_path / "d.npz", x=x, y=y, id=ids))
        assert data.images.dtype == np.uint8
        assert np.array_equal(data.images, x[::-1])
        assert data.names == ("a", "b")
        assert data.labels.tolist() == [0, 1] * 10
        assert data.ids.tolist() == sorted(ids.tolist())

    def test_rows_of_numbers(self, tmp_path, rng):
        x = rng.standard_normal((20, 5))
        y = np.arange(20) % 2 == 0
        data = load(self.save(tmp_path / "d.npz", x=x, y=y[:, None]))
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
            load(self.save(tmp_path / "d.npz", **arrays))

    def test_foreign_file(self, tmp_path):
        (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 no archive")
        with pytest.raises(ValueError, match="truncated, damaged or no"):
            load(f"npz:{tmp_path / 'd.npz'}")

    @pytest.mark.parametrize("kind", ["<f8", ">f8", ">f4", "<f2", ">f2", ">i2", "<u2", "?", ">i8"])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_byte_order_and_layout_do_not_matter(self, tmp_path, rng, kind, order):
        x = np.asarray(rng.integers(0, 2, (20, 4, 5, 3)) * (1 if kind == "?" else -100), kind)
        y, ids = (np.arange(20) % 2).astype(">i4"), np.arange(20)[::-1].astype(">u8")
        path = tmp_path / "d.npz"
        np.savez_compressed(path, x=np.asarray(x, order=order), y=y, id=ids)
        found = read_npz(path)
        assert found.images.dtype == (np.uint8 if kind == "?" else np.float32)
        assert found.images.dtype.isnative
        assert found.images.flags.c_contiguous
        assert np.array_equal(found.images, x[::-1])
        assert found.names == ("0", "1")
        assert found.ids.tolist() == list(range(20))

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"x": np.array([[1.0], [1e39]])}, "row 1 of x holds a number beyond float32"),
            ({"x": np.array([[1], [2**24 + 1]])}, "row 1 of x holds an integer that float32"),
            ({"x": np.array([[-1], [2**63 - 1]])}, "row 1 of x holds an integer that float32"),
            ({"x": np.array([[0], [2**64 - 1]], np.uint64)}, "row 1 of x holds an integer that"),
            ({"id": np.array([3, 2**63], np.uint64)}, r"id must be below 2\*\*63, but row 1 has"),
            ({"id": np.array([7, 7])}, "row 0, 7, comes again"),
            ({"id": np.array([1.0, 2.0])}, "distinct integers, not float64"),
            ({"y": np.array([b"caf\xe9", b"tea"])}, r"y: label b'caf\\xe9' is not UTF-8"),
            (
                {"x": np.zeros((2, 3, 8, 8))},
                r"like .n, channels, height, width.: store x\.tr",
            ),
            ({"x": np.zeros((2, 1), complex)}, "x must be numbers, not complex128"),
            ({"x": np.array(["a", "b"])[:, None]}, "x must be numbers"),
            ({"x": np.zeros((2, 1), [("a", "f4")])}, "x must be numbers"),
            ({"y": np.array([{}, 1])}, "y holds pickled objects"),
        ],
    )
    def test_the_row_and_the_reason(self, tmp_path, arrays, message):
        path = tmp_path / "d.npz"
        np.savez(path, **{"x": np.zeros((2, 3)), "y": np.arange(2), **arrays})
        with pytest.raises(DataError, match=rf"d\.npz: .*{message}"):
            read_npz(path)

    def test_integers_that_float32_holds(self, tmp_path):
        x = np.array([[-(2**30)], [2**24], [300]])
        np.savez(tmp_path / "d.npz", x=x, y=np.arange(3))
        assert np.array_equal(read_npz(tmp_path / "d.npz").images.astype(np.int64), x)

    def test_arrays_that_are_not_read_are_named(self, tmp_path):
        path = tmp_path / "d.npz"
        arrays = {"x": np.zeros((4, 2)), "y": np.arange(4)}
        np.savez(path, **arrays, x_test=np.zeros((2, 2)), y_test=np.arange(2))
        assert read_npz(path).notes == (f"{path}: arrays that are not read: x_test, y_test",)
        np.savez(path, x_train=np.zeros((2, 2)), y_train=np.arange(2))
        with pytest.raises(DataError, match="must hold arrays x and y, but has only x_train, y_tr"):
            read_npz(path)

    def test_a_single_array(self, tmp_path):
        np.save(tmp_path / "x.npy", np.zeros((4, 3)))
        with pytest.raises(DataError, match=r"x\.npy is a single array .*numpy\.savez"):
            read_npz(tmp_path / "x.npy")

    def test_special_files_and_a_home(self, tmp_path, monkeypatch):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(DataError, match="is a named pipe"):
            read_npz(tmp_path / "pipe")
        with pytest.raises(DataError, match="is a directory, not a regular file"):
            read_npz(tmp_path)
        np.savez(tmp_path / "d.npz", x=np.zeros((4, 2)), y=np.arange(4) % 2)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert len(load("npz:~/d.npz").images) == 4
        monkeypatch.chdir(tmp_path)
        (tmp_path / "~").mkdir()
        np.savez(tmp_path / "~" / "d.npz", x=np.zeros((6, 2)), y=np.arange(6) % 2)
        load.cache_clear()
        assert len(load("npz:~/d.npz").images) == 6
        with pytest.raises(DataError, match="does not exist"):
            load("npz:~nobody-of-that-name/d.npz")


class TestDamage:
    def content(self, rng):
        buffer = io.BytesIO()
        np.savez(buffer, x=rng.integers(0, 256, (4, 2), dtype=np.uint8), y=np.arange(4) % 2)
        return buffer.getvalue()

    def test_every_bit_and_every_truncation(self, tmp_path, rng):
        good = self.content(rng)
        path = tmp_path / "d.npz"
        path.write_bytes(good)
        expected = read_npz(path)
        bad = [good[:size] for size in range(len(good))]
        bad += [
            good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :] for at in range(len(good))
        ]
        for content in bad:
            path.write_bytes(content)
            try:
                found = read_npz(path)
            except DataError as error:
                assert str(path) in str(error)  # noqa: PT017 - most, but not all, are refused
            else:
                assert np.array_equal(found.images, expected.images)
                assert np.array_equal(found.labels, expected.labels)

    @pytest.mark.parametrize(
        "header",
        [
            "{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776, 8), }",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (-4, -2), }",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (5, 2), }",
            "{'descr': '|V0', 'fortran_order': False, 'shape': (4, 2), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '" + "(" * 500 + "', 'fortran_order': False, 'shape': (1,), }",
            "[" * 900,
        ],
    )
    def test_headers_that_lie(self, tmp_path, header):
        path = tmp_path / "d.npz"
        text = header.encode().ljust(1014) + b"\n"
        content = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(8)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
        with pytest.raises(DataError, match=r"d\.npz: x "):
            read_npz(path)

    def test_a_bomb(self, tmp_path):
        path = tmp_path / "d.npz"
        described = {"descr": "|u1", "fortran_order": False, "shape": (600 << 20, 1)}
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open("x.npy", "w") as stream,
        ):
            np.lib.format.write_array_header_1_0(stream, described)
            for _ in range(600):
                stream.write(bytes(1 << 20))
        with pytest.raises(DataError, match=r"d\.npz makes the data unpack to more than 0"):
            read_npz(path)
