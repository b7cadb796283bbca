"""What Parquet files unpack to is told by their pages, and a lie of the footer helps nobody."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from confsim import feather, given_files, parquet, tabular
from confsim._errors import ConfsimError
from confsim.labelled_tables import read as read_table
from confsim.store import files
from confsim.tabular import feather_frame, parquet_frame

LIMIT = 1 << 24


def written(table: pa.Table, **options: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", **options)
    return out.getvalue()


def many_numbers() -> bytes:
    return written(pa.table({"x": pa.array(np.zeros(1 << 22))}))


def many_flags() -> bytes:
    return written(pa.table({"x": pa.array(np.zeros(1 << 25, bool))}))


def one_long_text() -> bytes:
    return written(pa.table({"x": ["a" * (1 << 25)]}))


def one_text_many_times() -> bytes:
    codes = pa.array(np.zeros(1 << 12, np.int32))
    table = pa.table({"x": pa.DictionaryArray.from_arrays(codes, ["a" * (1 << 14)])})
    return written(table, store_schema=False)


def texts_by_their_prefix() -> bytes:
    options = {"use_dictionary": False, "column_encoding": {"x": "DELTA_BYTE_ARRAY"}}
    return written(pa.table({"x": ["a" * (1 << 14)] * (1 << 12)}), **options)


def with_small_footer(content: bytes) -> bytes:
    """Return a file whose footer says that it holds one value of one byte."""
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    one = parquet._as_integer(1)

    def smaller(fields: list[parquet._Field], numbers: tuple[int, ...]) -> list[parquet._Field]:
        return [
            parquet._Field(f.number, f.kind, one if f.number in numbers else f.content)
            for f in fields
        ]

    def chunk(content: bytes) -> bytes:
        inner = [
            parquet._Field(
                f.number, f.kind, parquet._structure(smaller(parquet._fields(f.content), (5, 6)))
            )
            if f.number == 3
            else f
            for f in parquet._fields(content)
        ]
        return parquet._structure(inner)

    def group(content: bytes) -> bytes:
        fields = [
            parquet._Field(
                1, f.kind, parquet._as_list([chunk(c) for c in parquet._elements(f.content)])
            )
            if f.number == 1
            else f
            for f in parquet._fields(content)
        ]
        return parquet._structure(smaller(fields, (2, 3)))

    top = [
        parquet._Field(
            4, f.kind, parquet._as_list([group(g) for g in parquet._elements(f.content)])
        )
        if f.number == 4
        else f
        for f in parquet._fields(content[start:-8])
    ]
    footer = parquet._structure(smaller(top, (3,)))
    return content[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


MAKERS = (many_numbers, many_flags, one_long_text, texts_by_their_prefix)


@pytest.mark.parametrize(
    ("make", "lie"),
    # With such a footer, one text is read of what stands for many.
    [(one_text_many_times, False), *((make, lie) for make in MAKERS for lie in (False, True))],
)
def test_what_unpacks_to_much_is_refused(tmp_path, monkeypatch, make, lie):
    content = make()
    if lie:
        content = with_small_footer(content)
        assert pq.ParquetFile(io.BytesIO(content)).metadata.num_rows == 1
    assert len(content) < 200_000
    with pytest.raises(files.Damaged, match="more than the limit"):
        files.open_parquet(io.BytesIO(content), "x.parquet", LIMIT)
    monkeypatch.setattr(given_files, "UNPACK_FLOOR", LIMIT)
    monkeypatch.setattr(given_files, "UNPACK_RATIO", 1)
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.parquet cannot be read: .* --unpack-limit"):
        parquet_frame(path)
    if not lie:
        assert len(parquet_frame(path, limit=1 << 40)) > 0


def test_texts_that_occur_often_are_counted_as_they_are(tmp_path):
    """A bound by the longest would refuse them."""
    names = [*(f"class {k}" for k in range(1000)), "a" * 50_000]
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 1000, 100_000)
    codes[0] = 1000
    drawn = [names[code] for code in codes]
    table = pa.table({"x": pa.array(drawn), "y": pa.array(rng.normal(size=100_000))})
    content = written(table, row_group_size=30_000)
    opened = files.open_parquet(io.BytesIO(content), "x", LIMIT)
    sizes = parquet.group_sizes(io.BytesIO(content), opened, LIMIT)
    assert len(sizes) == 4
    texts = sum(map(len, drawn))
    assert texts + 8 * 100_000 < sum(sizes) < 2 * (texts + 16 * 100_000)


@pytest.mark.parametrize("compression", ["zstd", "snappy", "none", "gzip", "brotli", "lz4"])
@pytest.mark.parametrize("page", ["1.0", "2.0"])
def test_files_of_every_kind_are_read(tmp_path, compression, page):
    frame = pd.DataFrame(
        {
            "a": np.arange(5000),
            "b": np.arange(5000) % 7 == 0,
            "c": [f"text {k}" for k in range(5000)],
            "d": [[1.0, 2.0]] * 5000,
            "e": pd.array([1, None] * 2500, dtype="Int32"),
            "f": pd.Categorical(["x", "y"] * 2500),
        }
    )
    path = tmp_path / "x.parquet"
    options = {"data_page_version": page, "data_page_size": 700, "row_group_size": 900}
    table = pa.Table.from_pandas(frame)
    pq.write_table(table, path, compression=compression, **options)
    found = parquet_frame(path)
    assert found["c"].tolist() == frame["c"].tolist()
    assert [list(row) for row in found["d"]] == frame["d"].tolist()


def test_pages_that_are_not_where_the_footer_says():
    content = many_numbers()
    opened = pq.ParquetFile(io.BytesIO(content))
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(4, 60, 3):
            damaged[place] = int(rng.integers(256))
        with contextlib.suppress(parquet.FooterError):
            parquet.group_sizes(io.BytesIO(damaged), opened, LIMIT)
    with pytest.raises(parquet.FooterError):
        parquet.group_sizes(io.BytesIO(content[:100]), opened, LIMIT)
    with pytest.raises(ConfsimError, match="cannot be read as Parquet"):
        files.open_parquet(io.BytesIO(b"PAR1" + bytes(60) + content[64:]), "x", LIMIT)


def test_the_corpus_holds_such_files():
    folder = Path(__file__).parents[1] / "faults" / "corpus"
    for path in folder.glob("*_text.parquet"):
        with pytest.raises(files.Damaged, match="more than the limit"):
            files.open_parquet(io.BytesIO(path.read_bytes()), path.name, LIMIT)


@pytest.mark.skipif(
    int(pa.__version__.split(".")[0]) < 20, reason="pyarrow does not read such statistics yet"
)
def test_statistics_that_are_damaged_do_not_end_the_process():
    path = Path(__file__).parents[1] / "faults" / "corpus" / "damaged_statistics.parquet"
    with pytest.raises(ValueError, match="histogram size mismatch"):
        parquet_frame(path)
    opened = files.open_parquet(io.BytesIO(path.read_bytes()), path.name, LIMIT)
    with pytest.raises(files.Damaged, match="size mismatch"), files.parquet_errors(path.name):
        opened.read()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_have_so_many_columns_and_no_more(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"t{suffix}"
    frame = pd.DataFrame({f"c{k}": [0, 1] for k in range(9)})
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    monkeypatch.setattr(tabular, "COLUMNS", 9)
    assert read_table(path, label="c0").X.shape == (2, 8)
    monkeypatch.setattr(tabular, "COLUMNS", 8)
    with pytest.raises(ValueError, match=f"t{suffix} has 9 columns, and a table may have 8: give"):
        read_table(path, label="c0")


NULLS = pa.nulls(1 << 21)
UNPACKED = {
    "runs": pa.RunEndEncodedArray.from_arrays([1 << 21], [1.0]),
    "nulls": NULLS,
    "a list": pa.ListArray.from_arrays(pa.array([0, 1 << 21], pa.int32()), NULLS),
    "a structure": pa.StructArray.from_arrays([NULLS], ["a"]),
    "no bytes": pa.array([b""] * (1 << 21), pa.binary(0)),
}


@pytest.mark.parametrize("name", UNPACKED)
def test_values_of_arrow_that_take_no_bytes_are_counted(tmp_path, monkeypatch, name):
    monkeypatch.setattr(given_files, "UNPACK_FLOOR", 1 << 23)
    path = tmp_path / "t.feather"
    table = pa.table({"x": UNPACKED[name]})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ValueError, match=r"t.feather cannot be read: .* beyond the limit"):
        feather_frame(path)


@pytest.mark.skipif(
    int(pa.__version__.split(".")[0]) < 18, reason="pyarrow does not read views of texts yet"
)
def test_feather_of_polars_is_read(tmp_path, monkeypatch):
    """Its schema has no length, and its dictionaries come last; written by Polars 2.1."""
    source = Path(__file__).parents[1] / "support" / "polars.feather"
    content = source.read_bytes()
    frame = feather_frame(source)
    assert frame["label"].tolist()[:2] == ["a", "b"]
    assert pd.isna(frame["label"][2])
    assert frame["x"].tolist() == [1.5, 2.0, 3.0]
    assert frame["kind"].astype(str).tolist() == ["u", "v", "u"]
    long = "a text that is longer than a view"
    assert [list(row) for row in frame["texts"]] == [["s"], [], ["t", long]]
    path = tmp_path / "t.feather"
    for length in range(len(content)):  # what is cut short is refused, and not read in part
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"t\.feather cannot be read"):
            feather_frame(path)
    monkeypatch.setattr(given_files, "UNPACK_FLOOR", 100)
    monkeypatch.setattr(given_files, "UNPACK_RATIO", 0.01)
    with pytest.raises(ValueError, match="beyond the limit"):
        feather_frame(source)


def test_a_table_of_contents_that_repeats_a_batch_is_refused():
    """A few bytes for each time would make much of little."""
    batch = pa.record_batch([pa.array(np.zeros(1 << 10))], names=["x"])
    out = io.BytesIO()
    with pa.ipc.new_file(out, batch.schema) as writer:
        for _ in range(9):
            writer.write_batch(batch)
    content = bytearray(out.getvalue())
    length = int.from_bytes(content[12:16], "little")
    content[8 : 16 + length] = content[16 : 16 + length] + bytes(8)  # as Polars leaves it out
    assert pa.ipc.open_stream(feather.messages(bytes(content))).read_all().num_rows == 9 << 10
    end = len(content) - 10 - int.from_bytes(content[-10:-6], "little")
    places = [start for start, _ in _blocks_of(bytes(content))]
    for start in places[1:]:
        at = content.index(start.to_bytes(8, "little"), end)
        content[at : at + 8] = places[0].to_bytes(8, "little")
    assert pa.ipc.open_stream(feather.messages(bytes(content))).read_all().num_rows == 9 << 10
    cut = content[: places[2]] + content[end:]
    with pytest.raises(ValueError, match="its table of contents is damaged"):
        feather.messages(bytes(cut))


def _blocks_of(content: bytes) -> list[tuple[int, int]]:
    end = len(content) - 10 - int.from_bytes(content[-10:-6], "little")
    footer = memoryview(content)[end:-10]
    root = feather._follow(footer, 0)
    return list(feather._blocks(footer, feather._field(footer, root, 3)))


def long_once(count: int) -> list[str]:
    return ["x" * 200_000, *(f"y{i}" for i in range(count - 1))]


@pytest.mark.parametrize("rows", [None, 100])
@pytest.mark.parametrize(
    "kind", ["text", "text by prefix", "list", "pairs", "map", "structure", "list of structures"]
)
def test_one_long_text_among_short_ones_is_no_bomb(tmp_path, monkeypatch, kind, rows):
    """A bound by the longest of all would be a thousand times what there is."""
    monkeypatch.setattr(given_files, "UNPACK_FLOOR", 1 << 26)
    texts = long_once(5000)
    kinds = {
        "list": [[t] for t in texts],
        "pairs": pa.array([[t, ""] for t in texts], pa.list_(pa.string(), 2)),
        "map": pa.array([[(1, t)] for t in texts], pa.map_(pa.int8(), pa.string())),
        "structure": [{"a": t} for t in texts],
        "list of structures": [[{"a": t}] for t in texts],
    }
    options = {"use_dictionary": False, "column_encoding": {"x": "DELTA_BYTE_ARRAY"}}
    path = tmp_path / "t.parquet"
    table = pa.table({"x": kinds.get(kind, texts)})
    more = {"row_group_size": rows, **(options if kind == "text by prefix" else {})}
    path.write_bytes(written(table, **more))
    assert len(parquet_frame(path)) == 5000


def test_bounds_of_many_row_groups_do_not_add_up(tmp_path, monkeypatch):
    monkeypatch.setattr(given_files, "UNPACK_FLOOR", 1 << 24)
    monkeypatch.setattr(given_files, "UNPACK_RATIO", 1)
    part = long_once(100)[1:]
    path = tmp_path / "t.parquet"
    texts = ["z" * 4_000, *part] * 40
    path.write_bytes(written(pa.table({"x": texts}), row_group_size=len(part) + 1))
    assert parquet_frame(path)["x"].tolist() == texts


def test_row_groups_without_rows_are_read(tmp_path):
    """They hold a dictionary and no page of values."""
    path = tmp_path / "t.parquet"
    table = pa.table({"label": pa.array(["a", "b"] * 9).dictionary_encode(), "x": [0.5] * 18})
    with pq.ParquetWriter(path, table.schema) as writer:
        for part in (table.slice(0, 0), table, table.slice(0, 0)):
            writer.write_table(part)
    assert parquet_frame(path)["label"].astype(str).tolist() == ["a", "b"] * 9
    pq.write_table(table.slice(0, 0), path)
    assert len(parquet_frame(path)) == 0
