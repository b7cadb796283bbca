"""Tables as data: dialects, columns, numbers, and the two benchmark files in all their layouts."""

import bz2
import gzip
import io
import lzma
import tarfile

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

from confsim import benchmark_tables, labelled_tables
from confsim.benchmark_tables import BENCHMARKS, Benchmark
from confsim.deep import datasets
from confsim.deep.engines import Standardisation
from confsim.labelled_tables import numbers, read

X, y = load_iris(return_X_y=True)


class TestReading:
    @pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
    def test_dialects(self, separator, tmp_path):
        rows = [["age", "job", "rich"], ["31", "cook", "no"], ["40", "", "yes"]]
        path = tmp_path / "t.csv"
        path.write_text("\r\n".join(separator.join(row) for row in rows))
        data = read(str(path), label="rich")
        assert data.X["age"].tolist() == [31, 40]
        assert data.X["job"].isna().tolist() == [False, True]
        assert str(data.X["job"].dtype) == "category"
        assert data.y.tolist() == ["no", "yes"]

    def test_decimal_commas(self, tmp_path):
        path = tmp_path / "t.csv"
        path.write_text("a;y\n1,5;0\n2,25;1\n")
        assert read(str(path), label="y").X["a"].tolist() == [1.5, 2.25]

    @pytest.mark.parametrize("index", [True, False])
    def test_numbers_of_rows_are_no_feature(self, tmp_path, index):
        path = tmp_path / "t.csv"
        frame = pd.DataFrame({"a": [0.5, 2.5, 1.5], "y": ["u", "v", "u"]})
        text = frame.to_csv(index=index)
        path.write_text(text if index else text.replace("\n", ",\n"))  # empty, after the last
        data = read(str(path), label="y")
        assert list(data.X) == ["a"]
        noted = (f"{path}: column 1, which numbers the rows, is left out",) if index else ()
        assert data.notes == noted

    @pytest.mark.parametrize(
        ("column", "words"),
        [
            (["1.5", "#DIV/0!", "2", "3,5"], "is taken as categories, since '#DIV/0!' in row 1 is"),
            (["", "2", "3", "7%"], "is taken as categories, since '7%' in row 3 is no number"),
            (["cook", "cook ", "a", "a"], "holds 'cook' and 'cook ', which stay two"),
            (["Cook", "a", "cook", "a"], "holds 'Cook' and 'cook', which stay two"),
        ],
    )
    def test_what_looks_like_something_else_is_said(self, tmp_path, column, words):
        path = tmp_path / "t.csv"
        pd.DataFrame({"a": column, "b": range(4), "y": [0, 1, 0, 1]}).to_csv(path, index=False)
        (note,) = read(str(path), label="y").notes
        assert note.startswith(f"{path}: column a {words}")

    def test_labels_that_differ_in_blanks_or_case_are_said(self, tmp_path):
        path = tmp_path / "t.csv"
        path.write_text("a,y\n1,no\n2,yes\n3,No\n4,yes\n")
        assert read(str(path), label="y").notes == (
            f"{path}: the label holds 'no' and 'No', which stay two",
        )

    def test_ordinary_columns_need_no_word(self, tmp_path):
        path = tmp_path / "t.csv"
        path.write_text("n;d;c;m;y\n1;0,5;u;;0\n2;1,5;v;7;1\n3;2,5;u;NA;0\n")
        assert read(str(path), label="y").notes == ()

    def test_a_comma_that_may_separate_thousands(self, tmp_path):
        path = tmp_path / "t.csv"
        path.write_text('a,y\n"1,234",0\n"5,678",1\n')
        with pytest.raises(ValueError, match=r"t\.csv: column a holds '1,234', whose comma may be"):
            read(str(path), label="y")

    def test_other_formats_hold_the_same(self, tmp_path):
        frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"], "y": [0, 1], "n": [7, 9]})
        frame.to_parquet(tmp_path / "t.parquet")
        frame.to_feather(tmp_path / "t.feather")
        for name in ("t.parquet", "t.feather"):
            data = read(str(tmp_path / name), label="y", id_column="n", drop=["b"])
            assert list(data.X) == ["a"]
            assert data.ids.tolist() == [7, 9]
        np.savez(tmp_path / "t.npz", X=X, y=y)
        data = read(str(tmp_path / "t.npz"), label="y")
        assert np.array_equal(data.X, X)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"label": "incom"}, r"no column 'incom': did you mean 'income'.*age"),
            ({"label": None}, "needs --label COLUMN"),
            ({"label": "income", "id_column": "income"}, "'income' is named twice"),
            ({"label": "income", "drop": ["age"]}, "no column beside income"),
        ],
    )
    def test_columns_that_are_not_there(self, options, message, tmp_path):
        path = tmp_path / "t.csv"
        path.write_text("age,income\n1,0\n2,1\n")
        with pytest.raises(ValueError, match=message):
            read(str(path), **options)

    def test_arrays_whose_lengths_differ(self, tmp_path):
        np.savez(tmp_path / "t.npz", X=X, y=y[:7])
        with pytest.raises(ValueError, match=r"y must have one entry for each of the 150 rows"):
            read(str(tmp_path / "t.npz"), label="y")


class TestNumbers:
    def test_numbers_stay_and_categories_are_one_hot(self):
        table = pd.DataFrame(
            {"n": [1.0, np.nan, 3.0, 4.0], "c": pd.Categorical(["u", "v", "u", None])}
        )
        found, notes = numbers(labelled_tables.LabelledTable(table, None, None), "t")
        assert found.dtype == np.float32
        assert np.isnan(found[:, 0]).tolist() == [False, True, False, False]
        assert found[:, 1:].tolist() == [[1, 0], [0, 1], [1, 0], [0, 0]]
        assert notes == ()

    def test_a_column_that_names_its_rows_is_said(self, tmp_path):
        path = tmp_path / "t.csv"
        names = {"name": [f"n{k}" for k in range(12)], "share": [f"{k}%" for k in range(12)]}
        pd.DataFrame({**names, "y": [0, 1] * 6}).to_csv(path, index=False)
        table = read(str(path), label="y")
        found, notes = numbers(table, "t.csv")
        assert found.shape == (12, 24)
        assert [note.partition(":")[2] for note in notes] == [
            f" column {name} has 12 categories in 12 rows: if they name rows, or are numbers with "
            f"a sign, leave it out with --drop {name}"
            for name in names
        ]
        assert numbers(read(str(path), label="y", drop=list(names)[:1]), "t.csv")[1] == notes[1:]

    def test_rare_categories_are_counted_in_a_note(self):
        names = pd.Categorical([f"k{i}" for i in range(150)])
        table = labelled_tables.LabelledTable(pd.DataFrame({"c": names}), None, None)
        found, notes = numbers(table, "t")
        assert found.shape == (150, labelled_tables.MAX_CATEGORIES)
        assert "column c has 150 categories" in notes[0]

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ([2**24 + 1, 0], r"column k holds a whole number that float32 would round.*row 0"),
            ([0.0, 1e39], r"column k holds a number beyond float32.*row 1"),
            (pd.to_datetime(["2020-01-01", "2021-01-01"]), "column k holds dates"),
        ],
    )
    def test_what_a_network_cannot_be_given(self, values, message):
        table = labelled_tables.LabelledTable(pd.DataFrame({"k": values}), None, None)
        with pytest.raises(ValueError, match=message):
            numbers(table, "t")

    def test_standardisation_is_of_numbers_that_are_there(self):
        rows = np.array([[1.0, np.nan], [np.nan, np.nan], [4.0, np.nan]], np.float32)
        found = Standardisation.of(rows)
        assert found.mean.tolist() == [2.5, 0.0]
        assert found.scale == pytest.approx([1 / 1.5, 1.0])


class TestDataset:
    @pytest.fixture
    def path(self, tmp_path):
        frame = pd.DataFrame(X, columns=list("abcd"))
        frame["kind"] = np.array(["x", "y", "z"])[y]
        frame["half"] = y > 0
        frame["name"] = [f"flower {i}" for i in range(150)]
        frame.to_csv(tmp_path / "iris.csv", index=False)
        return tmp_path / "iris.csv"

    def test_rows_labels_and_names(self, path):
        data = datasets.load(f"table:{path}", label="kind", id_column="name", drop=("half",))
        assert np.array_equal(data.images, X.astype(np.float32))
        assert data.labels.tolist() == y.tolist()
        assert data.names == ("x", "y", "z")
        assert data.id_names[149] == "flower 149"
        some = datasets.load(
            f"table:{path}", label="kind", id_column="name", drop=("half",), limit=30
        )
        assert [some.id_names[k] for k in (0, 29)] == [f"flower {row}" for row in some.ids[[0, 29]]]

    def test_equal_rows_are_duplicates(self, path):
        data = datasets.load(f"table:{path}", label="kind", drop=("name", "half"))
        first = {tuple(row): k for k, row in reversed(list(enumerate(data.images.tolist())))}
        expected = [data.groups[first[tuple(row)]] for row in data.images.tolist()]
        assert data.groups.tolist() == expected

    def test_a_regression_is_refused(self, path):
        with pytest.raises(ValueError, match=r"row 0 is 5\.1: a regression is for confsim-shadow"):
            datasets.load(f"table:{path}", label="a", drop=("name", "half"))

    def test_an_id_that_comes_twice(self, path):
        with pytest.raises(ValueError, match="id must not hold a value twice, but x is there"):
            datasets.load(f"table:{path}", label="half", id_column="kind")


# ---- the benchmark tables -----------------------------------------------------------------------

RNG = np.random.default_rng(3)
ROWS = 240
FEATURES = {name: RNG.integers(0, 2, (ROWS, 8), np.uint8) for name in BENCHMARKS}
CLASSES = RNG.permutation(np.tile(np.arange(1, 101), 3)[:ROWS])


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The benchmarks, of 240 rows and 8 features."""
    for name, known in BENCHMARKS.items():
        values = {**vars(known), "rows": ROWS, "widths": (8,)}
        monkeypatch.setitem(BENCHMARKS, name, Benchmark(**values))


def text(rows):
    return "".join(",".join(map(str, row)) + "\n" for row in rows)


def layouts(name):
    """Return the files of every layout of a benchmark, by name."""
    features = FEATURES[name]
    one_hot = np.eye(100)[CLASSES - 1]
    archive, arrays = io.BytesIO(), io.BytesIO()
    if name == "purchase100":
        lines = {"dataset_purchase": text(np.column_stack([CLASSES, features]))}
        pair = ("purchase/data/X.npy", "purchase/data/Y.npy")
    else:
        lines = {"texas/100/feats": text(features), "texas/100/labels": text(CLASSES[:, None])}
        pair = ("texas/data/feats.npy", "texas/data/labels.npy")
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for key, content in lines.items():
            entry = tarfile.TarInfo(f"./{key}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content.encode()))
    np.savez_compressed(arrays, features=features.astype(np.float64), labels=one_hot)
    return {
        "text": {key: content.encode() for key, content in lines.items()},
        "text of Windows": {
            key: content.replace("\n", "\r\n").encode() for key, content in lines.items()
        },
        "archive": {BENCHMARKS[name].archive: archive.getvalue()},
        "npz": {f"{name}.npz": arrays.getvalue()},
        "npy": {pair[0]: npy(features.astype(np.float64)), pair[1]: npy(CLASSES - 1)},
    }


def npy(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def put(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("layout", ["text", "text of Windows", "archive", "npz", "npy"])
def test_all_layouts_hold_the_same(name, layout, tmp_path):
    found = benchmark_tables.read(name, put(tmp_path, layouts(name)[layout]))
    assert found.X.dtype == np.uint8
    assert np.array_equal(found.X, FEATURES[name])
    assert np.array_equal(found.y, CLASSES)
    assert found.notes == ()
    data = datasets.load(name, str(tmp_path))
    assert data.names == tuple(map(str, range(1, 101)))
    assert np.array_equal(data.labels, CLASSES - 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("\n", ",1\n", 1), "row 0 must have 8 features, 0 or 1"),
        (lambda t: t[:-2] + "11\n", "row 239 must hold 0 and 1"),
        (lambda t: t[:-2] + "2\n", "row 239 must hold 0 and 1"),
        (lambda t: "x" + t, "the class of row 0 must be a number, not b'x"),
        (lambda t: t + t.splitlines()[0], "has more than the 240 rows of Purchase-100"),
        (lambda t: "101," + t.split(",", 1)[1], "classes of Purchase-100 must be 1 to 100"),
        (lambda t: "", "is empty"),
        (lambda t: "<html>\n" * 5, "the class of row 0 must be a number"),
    ],
)
def test_damaged_text_is_refused_by_row(change, message, tmp_path):
    good = layouts("purchase100")["text"]["dataset_purchase"].decode()
    (tmp_path / "dataset_purchase").write_text(change(good))
    with pytest.raises(ValueError, match=message):
        benchmark_tables.read("purchase100", tmp_path)


def test_damaged_arrays_and_archives_are_refused(tmp_path):
    values = FEATURES["texas100"].astype(float)
    values[7, 3] = 0.5
    np.savez(tmp_path / "texas100.npz", features=values, labels=CLASSES)
    with pytest.raises(ValueError, match="features must be 0 and 1, but row 7 holds another"):
        benchmark_tables.read("texas100", tmp_path)
    np.savez(tmp_path / "texas100.npz", features=values.round())
    with pytest.raises(ValueError, match="features and labels, but it has no labels"):
        benchmark_tables.read("texas100", tmp_path)
    packed = layouts("texas100")["archive"]["dataset_texas.tgz"]
    (tmp_path / "dataset_texas.tgz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match=r"dataset_texas.tgz cannot be read: it is damaged"):
        benchmark_tables.read("texas100", tmp_path)


@pytest.mark.parametrize(
    "more",
    [b"", gzip.compress(b""), gzip.compress(bytes(512))],
    ids=["nothing more", "an empty member", "a member of zeros"],
)
def test_the_checksum_of_an_archive_is_compared(more, tmp_path):
    packed = layouts("texas100")["archive"]["dataset_texas.tgz"]
    path = tmp_path / "dataset_texas.tgz"
    path.write_bytes(packed + more)
    assert np.array_equal(benchmark_tables.read("texas100", tmp_path).y, CLASSES)
    path.write_bytes(packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:] + more)
    with pytest.raises(ValueError, match=r"dataset_texas.tgz cannot be read: .*CRC check failed"):
        benchmark_tables.read("texas100", tmp_path)


def header(kind, size):
    entry = tarfile.TarInfo("texas/100/feats")
    entry.type, entry.size = kind, size
    return entry.tobuf(tarfile.USTAR_FORMAT)


BOMBS = {
    "a name": (header(tarfile.GNUTYPE_LONGNAME, 1 << 23) + bytes(1 << 23), "more than the table"),
    "fields": (header(tarfile.XHDTYPE, 1 << 23) + bytes(1 << 23), "more than the table"),
    "a file": (header(tarfile.REGTYPE, 1 << 23) + bytes(1 << 23), "more than the table"),
    "files": (header(tarfile.REGTYPE, 0) * 1200, "more than 1,000 files"),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("name", BOMBS)
def test_archives_that_unpack_without_end(tmp_path, name, pack):
    content, words = BOMBS[name]
    (tmp_path / "dataset_texas.tgz").write_bytes(pack(content))
    with pytest.raises(ValueError, match=rf"dataset_texas.tgz cannot be read.*{words}"):
        benchmark_tables.read("texas100", tmp_path)


def test_a_part_of_a_table_is_noted(tmp_path):
    lines = layouts("purchase100")["text"]["dataset_purchase"].splitlines(keepends=True)
    (tmp_path / "dataset_purchase").write_bytes(b"".join(lines[:150]))
    found = benchmark_tables.read("purchase100", tmp_path)
    assert "has 150 rows; Purchase-100 has 240" in found.notes[0]


@pytest.mark.parametrize("folder", [None, "nowhere", "."])
def test_what_is_missing_is_explained(folder, tmp_path):
    place = None if folder is None else tmp_path / folder
    with pytest.raises(
        ValueError, match=r"get dataset_texas\.tgz from https://github\.com/privacy"
    ):
        benchmark_tables.read("texas100", place)
