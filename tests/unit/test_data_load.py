"""Data sets as a run uses them: by name, limited, their duplicates grouped. No Keras here."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from confsim import ConfsimError
from confsim.deep.data import downloads, load
from confsim.deep.data.duplicates import exact_groups, listed_groups, near_groups
from confsim.deep.data.limits import DataError


@pytest.fixture(autouse=True)
def _no_cache():
    load.cache_clear()


@pytest.fixture
def rng():
    return np.random.default_rng(5)


class TestLoad:
    def test_digits(self):
        data = load("digits")
        assert data.images.shape == (1797, 8, 8, 1)
        assert data.images.max() == 255
        assert data.classes == 10

    @pytest.mark.parametrize("name", ["digit", "folder", "folder:", "npz", "cifar"])
    def test_unknown_names_are_offered_the_known(self, name):
        with pytest.raises(
            ValueError, match=r"one of digits, cifar10, .* npz:PATH, table:FILE, not"
        ):
            load(name)

    def test_limit_is_stratified_stable_and_keeps_ids(self):
        everything = load("digits")
        data = load("digits", limit=200, seed=3)
        assert len(data.labels) == 200
        assert np.bincount(data.labels).tolist() == pytest.approx([20] * 10, abs=1)
        assert np.array_equal(everything.images[data.ids], data.images)
        load.cache_clear()
        assert load("digits", limit=200, seed=3).fingerprint() == data.fingerprint()
        assert load("digits", limit=200, seed=4).fingerprint() != data.fingerprint()

    def test_limit_that_starves_a_class(self):
        with pytest.raises(ValueError, match="within limit 12"):
            load("digits", limit=12)

    def test_a_failed_download_says_what_to_do(self, tmp_path, monkeypatch):
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
        monkeypatch.setattr(downloads, "_DOWNLOADER", "raise OSError('no route to host')")
        with pytest.raises(ConfsimError, match=r"no route to host.*give --data-dir"):
            load("cifar10")
        assert list((tmp_path / "keras" / "datasets").iterdir()) == []

    def test_a_download_is_kept(self, tmp_path, monkeypatch, rng):
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
        fake = (
            "import sys, numpy as np\n"
            "np.savez(sys.argv[2], x=np.zeros((40, 28, 28), 'u1'), y=np.arange(40) % 10)"
        )
        monkeypatch.setattr(downloads, "_DOWNLOADER", fake)
        assert load("mnist").images.shape == (40, 28, 28, 1)
        load.cache_clear()
        monkeypatch.setattr(downloads, "_DOWNLOADER", "raise SystemExit(1)")
        assert len(load("mnist").labels) == 40


class TestDuplicates:
    def test_exact(self):
        images = np.array([[1, 2], [3, 4], [1, 2], [5, 6]], np.uint8)
        assert exact_groups(images).tolist() == [0, 1, 0, 2]

    def test_near_equals_brute_force(self, rng):
        images = rng.integers(0, 256, (60, 4, 4, 1), dtype=np.uint8)
        for k in range(20):
            copy = images[k].astype(int) + rng.integers(-6, 7, (4, 4, 1))
            images[k + 20] = np.clip(copy, 0, 255)
        rows = images.reshape(60, -1).astype(float)
        close = np.sqrt(((rows[:, None] - rows) ** 2).mean(axis=2)) <= 4.0
        while not np.array_equal(close, wider := close @ close):
            close = wider
        groups = near_groups(images, 4.0)
        assert np.array_equal(groups[:, None] == groups, close)
        assert close.sum() > 60

    def test_threshold_is_inclusive_and_zero_finds_equals(self, rng):
        images = np.zeros((3, 4), np.uint8)
        images[1, :] = 3
        assert near_groups(images, 3.0).tolist() == [0, 0, 0]
        assert len(set(near_groups(images, 2.999).tolist())) == 2
        assert len(set(near_groups(images, 0.0).tolist())) == 2

    def test_file_adds_to_exact(self, tmp_path):
        path = tmp_path / "groups.csv"
        path.write_text("id,group\n5,a\n9,a\n11,b\n")
        data = load("digits", duplicates=str(path))
        assert data.groups[5] == data.groups[9] != data.groups[11]
        assert len(np.unique(data.groups)) == 1796

    @pytest.mark.parametrize(
        "content",
        [
            b"\xef\xbb\xbfid,group\n0,a\n4,a\n",
            "id\tgroup\r\n0\ta\r\n4\ta\r\n".encode("utf-16"),
            b"id;group\n0;a\n4;a\n",
            b"sep=|\r\nid|group\r\n0|a\r\n4|a\r\n",
            b'\xef\xbb\xbf"SEP=;"\nid;group\n0;a\n4;a\n',
            b"id|group\n0|a\n4|a\n",
            b"id\tgroup\n0\ta\n4\ta\n",
            b"id, group\n0, a\n4, a\n",
            b" ID , Group \n 0 , a \n\n 4 ,a\n,\n",
            b'"id","group"\n"0","a"\n"4","a"\n',
            b"id,group\n0.0,a\n4.0,a\n",
            b"name,group,id\nx,a,0\ny,a,4\n",
            b"id,group\r0,a\r4,a\r",
            b"id,group\n0,a\n4,a\n5,\n6,\n7,-1\n8,-1\n1,NaN\n2,nan\n3,noise\n",
        ],
    )
    def test_dialects(self, tmp_path, content):
        path = tmp_path / "groups.csv"
        path.write_bytes(content)
        assert listed_groups(path, np.arange(9)) == {0: "a", 4: "a"}

    def test_rows_are_those_of_an_editor_after_a_line_of_excels(self, tmp_path):
        path = tmp_path / "groups.csv"
        path.write_text("sep=;\nid;group\n0;a\nx;a\n")
        with pytest.raises(DataError, match=r"row 4: .* the id is 'x'"):
            listed_groups(path, np.arange(9))

    def test_groups_that_are_numbers(self, tmp_path):
        path = tmp_path / "groups.csv"
        path.write_text("id,group\n0,3\n1,3.0\n2,30\n3,-1.0\n4,3.5\n")
        assert listed_groups(path, np.arange(9)) == {0: "3", 1: "3", 2: "30", 4: "3.5"}

    def test_images_of_no_group_are_alone(self, tmp_path):
        path = tmp_path / "groups.csv"
        path.write_text("id,group\n" + "".join(f"{k},-1\n" for k in range(1797)))
        assert len(np.unique(load("digits", duplicates=str(path)).groups)) == 1797

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"id,group\nx,1\n", "row 2: columns id and group must .* the id is 'x'"),
            (b"id,group\n1,a\n\n1.5,b\n", "row 4: .* the id is '1.5'"),
            (b"id,group\n1,a\n1e3,b\n", "row 3: .* the id is '1e3'"),
            (b"id\n1\n", "columns id .* names group not: 'id'"),
            (b"id,id,group\n1,1,1\n", "names id twice"),
            (b"0,a\n4,a\n", "its first row names id not: '0, a'"),
            (b"id,group\n1,2\n3\n", "row 3 has 1 of the columns"),
            (b"", "is empty"),
            (b"PK\0\0", "is no text"),
            (b'id,group\n"' + b"x" * 200_000, "groups.csv is truncated or damaged"),
        ],
    )
    def test_unfit_file(self, tmp_path, content, message):
        path = tmp_path / "groups.csv"
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            listed_groups(path, np.arange(9))

    def test_special_files_are_refused(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(DataError, match="is a named pipe"):
            listed_groups(tmp_path / "pipe", np.arange(9))
        with pytest.raises(DataError, match="does not exist"):
            listed_groups(tmp_path / "gone", np.arange(9))

    @pytest.mark.parametrize(
        ("row", "message"), [("1797,a", "no image has the id 1797"), ("5,b", "in two groups")]
    )
    def test_file_that_does_not_fit_the_data(self, tmp_path, row, message):
        path = tmp_path / "groups.csv"
        path.write_text(f"id,group\n5,a\n9,a\n{row}\n")
        with pytest.raises(ValueError, match=message):
            load("digits", duplicates=str(path))

    def test_file_may_name_images_beyond_the_limit(self, tmp_path):
        path = tmp_path / "groups.csv"
        path.write_text("id,group\n" + "".join(f"{k},a\n" for k in range(1797)))
        groups = load("digits", limit=100, duplicates=str(path)).groups
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
