"""Arrays in a NumPy archive."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL.Image", reason="Pillow is not installed")
sys.path.insert(0, str(Path(__file__).parent))

from confsim.deep.data import load


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
