"""Packed trials: the same bytes in few files, whatever happens while they are packed.

``CONFSIM_LONG_TESTS=1`` kills at every call that changes a file instead of a few.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_runs import FakeDeep, linear, publish
from struck import KILLED, Forge, forge, moments
from toy_experiments import Toy, contents, leftovers

from confsim import ConfsimError, open_run, parquet
from confsim.cli import report as report_command
from confsim.cli import status
from confsim.membership import membership_tables
from confsim.report import build
from confsim.runner import run as run_trials
from confsim.runner.claims import Claims
from confsim.store import files, layout, packing, packs, survey

SUPPORT = Path(__file__).parents[1] / "support"
LONG = os.environ.get("CONFSIM_LONG_TESTS") == "1"
TOY = [sys.executable, str(SUPPORT / "toy_command.py")]


def pack(run: Path) -> int:
    return status.main([str(run), "--pack"])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of each form, as it was made."""
    folder = tmp_path_factory.mktemp("made")
    publish(folder / "linear", linear(queries=400), 5)
    publish(folder / "deep", FakeDeep(examples=60), 4)
    run_trials(Toy(), trials=4, out=folder / "toy", quiet=True)
    membership_tables(open_run(folder / "deep"))
    return folder


@pytest.fixture(params=["linear", "deep"])
def both(request, made, tmp_path) -> tuple[Path, Path]:
    """A run, and the same packed."""
    run = made / request.param
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    assert pack(copy) == 0
    return run, copy


@pytest.fixture
def toy(made, tmp_path) -> Path:
    return Path(shutil.copytree(made / "toy", tmp_path / "run"))


@pytest.fixture
def packed(toy) -> Path:
    assert pack(toy) == 0
    return toy


def the_pack(run: Path) -> Path:
    (found,) = (run / packs.PACKS).iterdir()
    return found


# ---- the same run ------------------------------------------------------------------------------


def test_every_reader_gives_the_same(both):
    plain, packed = both
    assert not list(packed.glob("trials/*"))
    assert contents(plain) == contents(packed)
    assert leftovers(packed) == []
    a, b = open_run(plain), open_run(packed)
    assert a.trials == b.trials
    assert (a.config, a.capabilities) == (b.config, b.capabilities)
    for name in ("extremes", "examples", "holdout"):
        if a.trial(0).has(f"{name}.parquet"):
            pd.testing.assert_frame_equal(a.table(name), b.table(name))
            pd.testing.assert_frame_equal(
                a.table(name, [2, 1], ["id"]), b.table(name, [2, 1], ["id"])
            )
    for name, array in a.joint(stacked=True).items():
        np.testing.assert_array_equal(array, b.joint(stacked=True)[name])
    for number in a.trials:
        one, other = a.trial(number), b.trial(number)
        assert one.record == other.record
        assert one.summary() == other.summary()
        assert one.has("model.npz") == other.has("model.npz")
        pieces = zip(
            one.batches("extremes", rows=7), other.batches("extremes", rows=7), strict=True
        )
        for piece, same in pieces:
            pd.testing.assert_frame_equal(piece, same)
    with pytest.raises(ValueError, match=r"trial 9 of .* is not finished"):
        b.trial(9)


@pytest.mark.parametrize("trials", [None, [3, 0], [2], [], [1, 1, 0]])
def test_summaries(both, trials):
    a, b = map(open_run, both)
    pd.testing.assert_frame_equal(a.summary(trials), b.summary(trials))
    pd.testing.assert_frame_equal(a.summary(trials, ["trial"]), b.summary(trials, ["trial"]))
    assert list(a.summaries(trials)) == list(b.summaries(trials))
    some = ["degenerate", "training_error", "nothing"]
    assert list(a.summaries(trials, some)) == list(b.summaries(trials, some))
    assert all(row.keys() <= {"trial", *some} for row in b.summaries(trials, some))
    assert [row["trial"] for row in a.summaries(trials)] == (a.trials if trials is None else trials)


def test_pandas_reads_a_pack_in_one_line(both):
    plain, packed = both
    for path in the_pack(packed).glob("*.parquet"):
        found = pd.read_parquet(path)
        name = path.stem
        run = open_run(plain)
        expected = run.summary() if name == "summary" else run.table(name)
        pd.testing.assert_frame_equal(found, expected, check_dtype=name != "summary")
    with zipfile.ZipFile(the_pack(packed) / packs.PACK_FILES) as archive:
        assert archive.testzip() is None
        assert json.loads(archive.read("000001/summary.json")) == open_run(plain).trial(1).summary()


def test_tables_and_reports_stay(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "FIGURES", ())
    run = Path(shutil.copytree(made / "deep", tmp_path / "run"))
    assert report_command.main([str(run), "--json"]) == 0
    before = (run / "report.html").read_text()
    assert pack(run) == 0
    assert not membership_tables(open_run(run)).made
    capsys.readouterr()
    shutil.rmtree(run / "tables")
    assert report_command.main([str(run), "--json"]) == 0
    assert (run / "report.html").read_text() == before


def test_a_packed_run_is_resumed_and_extended(packed, tmp_path, capsys):
    before = (the_pack(packed) / packs.PACK_RECORD).read_bytes()
    assert run_trials(Toy(), trials=4, out=packed, quiet=True).done == (0, 1, 2, 3)
    assert run_trials(Toy(), trials=7, out=packed, quiet=True).complete
    assert sorted(path.name for path in packed.glob("trials/*")) == ["000004", "000005", "000006"]
    assert (the_pack(packed) / packs.PACK_RECORD).read_bytes() == before
    run_trials(Toy(), trials=7, out=tmp_path / "expected", quiet=True)
    for _ in range(2):
        assert contents(packed) == contents(tmp_path / "expected")
        a, b = open_run(packed), open_run(tmp_path / "expected")
        pd.testing.assert_frame_equal(a.summary(), b.summary())
        assert pack(packed) == 0
    assert len(list((packed / packs.PACKS).iterdir())) == 2
    assert "packed        7  of these" in capsys.readouterr().out
    assert run_trials(Toy(), trials=2, out=packed, overwrite=True, quiet=True).complete
    assert not (packed / packs.PACKS).exists()


def test_older_versions_are_told(packed):
    assert open_run(packed).manifest["schema"] == layout.PACKED_SCHEMA
    assert files.read_sealed(packed / layout.MANIFEST_COPY)["schema"] == layout.PACKED_SCHEMA


def test_packs_hold_so_much_and_no_more(toy, monkeypatch, capsys):
    monkeypatch.setattr(packing, "MOST_TRIALS", 3)
    expected = contents(toy)
    assert pack(toy) == 0
    said = capsys.readouterr().err
    assert "3 trials were packed into 1 packs" in said
    assert "trial 3 is left as it is: there is no other trial of its kind" in said
    assert contents(toy) == expected


def test_trials_of_one_kind_share_a_pack(toy, capsys):
    run_trials(Toy(), trials=6, out=toy, keep="summary", quiet=True)
    expected = contents(toy)
    assert pack(toy) == 0
    assert contents(toy) == expected
    assert len(list((toy / packs.PACKS).iterdir())) == 2
    with pytest.raises(ConfsimError, match="--keep summary"):
        open_run(toy).trial(5).table("extremes")


def test_what_is_not_whole_is_left(toy, capsys):
    (toy / "trials" / "000001" / "extremes.parquet").write_bytes(b"x")
    (toy / "trials" / "000002" / "notes.txt").write_text("mine")
    assert pack(toy) == 1
    said = capsys.readouterr()
    assert "trial 1 is left as it is: extremes.parquet has 1 bytes" in said.err
    assert "trial 2 is left as it is: its directory holds files that" in said.err
    assert (toy / "trials" / "000002" / "notes.txt").exists()
    assert open_run(toy).trials == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "rows",
    [
        [{"a": 1, "b": 0.5, "c": "x"}, {"a": 2, "b": None, "c": None}],
        [{"a": True}, {"a": None}],
        [{"a": None}, {"a": None}],
        [{"a": 1}, {"b": 2}],
    ],
)
def test_summaries_by_column_are_those_of_rows(rows):
    table = packs.summary_table(rows)
    by_row = [{k: np.nan if v is None else v for k, v in row.items()} for row in rows]
    pd.testing.assert_frame_equal(packs.summary_frame(table), pd.DataFrame(by_row))


@pytest.mark.parametrize("rows", [[{"a": 1}, {"a": 1.5}], [{"a": 10**30}], [{"a": 1}, {"a": "x"}]])
def test_a_number_of_several_types_has_no_column(rows):
    assert packs.summary_table(rows) is None


# ---- damage ------------------------------------------------------------------------------------


def test_one_altered_byte_is_noticed_and_costs_one_trial(packed, capsys):
    expected = contents(packed)
    folder, rng = the_pack(packed), np.random.default_rng(0)
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    untouched = shutil.copytree(packed, packed.with_name("untouched"))
    for path, content in kept.items():
        for place in {0, len(content) - 1, *rng.choice(len(content), 6).tolist()}:
            run = Path(shutil.copytree(untouched, packed.with_name("damaged")))
            altered = bytearray(content)
            altered[place] ^= 1 << int(rng.integers(8))
            (the_pack(run) / path.name).write_bytes(altered)
            capsys.readouterr()
            assert status.main([str(run), "--verify"]) == 1, (path, place)
            assert "damaged:" in capsys.readouterr().out
            damaged = survey(run, open_run(run).identity_hash, hashes=True).damaged
            assert len(damaged) <= 1, (path, place)
            assert status.main([str(run), "--repair"]) == (75 if damaged else 0)
            left = contents(run)
            assert {name: expected[name] for name in left} == left
            assert {int(name[:6]) for name in expected.keys() - left.keys()} == set(damaged)
            assert run_trials(Toy(), trials=4, out=run, quiet=True).complete
            assert pack(run) == 0
            assert contents(run) == expected
            assert leftovers(run) == []
            shutil.rmtree(run)


def test_a_pack_whose_record_and_copy_are_damaged(packed, capsys):
    for name in (packs.PACK_RECORD, packs.PACK_COPY):
        (the_pack(packed) / name).write_bytes(b"{}")
    assert status.main([str(packed)]) == 1
    assert "is damaged: pack.json is not one of ours" in capsys.readouterr().out
    assert status.main([str(packed), "--repair"]) == 75
    assert run_trials(Toy(), trials=4, out=packed, quiet=True).complete


def test_a_cut_pack_is_noticed_by_its_size(packed):
    path = the_pack(packed) / packs.PACK_FILES
    path.write_bytes(path.read_bytes()[:2000])
    found = survey(packed, open_run(packed).identity_hash)
    assert packs.PACK_FILES in next(iter(found.packs.values()))
    assert found.damaged
    assert not found.finished & found.damaged.keys()


def test_a_pack_of_another_run_counts_for_nothing(packed, tmp_path):
    run_trials(Toy(seed=1), trials=1, out=tmp_path / "other", quiet=True)
    shutil.copytree(packed / packs.PACKS, tmp_path / "other" / packs.PACKS)
    run = open_run(tmp_path / "other")
    found = survey(run.path, run.identity_hash)
    assert found.finished == {0}
    assert all("copied from another" in why for why in found.damaged.values())
    with pytest.raises(ConfsimError, match="copied from another"):
        run.extremes()


def changed(run: Path, **changes: object) -> None:
    """Forge a pack's record."""
    record = files.read_sealed(the_pack(run) / packs.PACK_RECORD)
    for name in (packs.PACK_RECORD, packs.PACK_COPY):
        (the_pack(run) / name).write_bytes(files.seal({**record, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"identity": 1},
        {"trials": []},
        {"trials": [3, 2, 1, 0]},
        {"trials": [0, 0, 1, 2]},
        {"trials": [0, 1, 2, 10**9]},
        {"trials": [0, 1, 2, True]},
        {"trials": [0, 1, 2, -1]},
        {"trials": None},
        {"places": {}},
        {"places": {"trial.json": [0, 0, 0, 0], "../../x": [0, 0, 0, 0]}},
        {"places": {"trial.json": [1, 2]}},
        {"places": {"trial.json": [0, 10**30, 0, 0]}},
        {"places": []},
        {"record_sizes": [10**12] * 4},
        {"record_sizes": [0, 0, 0, 0]},
        {"files": {"../x": {"size": 1, "sha256": "0" * 64}}},
        {"files": {}},
    ],
)
def test_records_of_packs_of_any_kind(packed, changes, capsys):
    changed(packed, **changes)
    assert status.main([str(packed), "--verify"]) in (1, 75)
    assert status.main([str(packed)]) in (0, 1, 75)
    assert report_command.main([str(packed), "--partial"]) in (1, 75)
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out
    assert "fault of confsim" not in said.err


@pytest.mark.parametrize(
    "name", [packs.PACKS, packs.PACK_RECORD, packs.PACK_FILES, "extremes.parquet"]
)
def test_links_are_not_followed(packed, tmp_path, name, capsys):
    path = packed / packs.PACKS if name == packs.PACKS else the_pack(packed) / name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert status.main([str(packed), "--verify"]) == 1
    said = capsys.readouterr()
    assert "symbolic link" in said.out + said.err


def test_a_trial_that_is_there_twice_counts_once(toy, tmp_path, capsys):
    shutil.copytree(toy / "trials", tmp_path / "trials")
    assert pack(toy) == 0
    expected = contents(toy)
    shutil.copytree(tmp_path / "trials" / "000002", toy / "trials" / "000002")
    assert open_run(toy).trials == [0, 1, 2, 3]
    assert len(open_run(toy).summary()) == 4
    assert contents(toy) == expected
    assert pack(toy) == 0
    assert not list((toy / "trials").iterdir())
    # One that was made again, because that of the pack is damaged, is what is read.
    shutil.copytree(tmp_path / "trials" / "000002", toy / "trials" / "000002")
    path = the_pack(toy) / packs.PACK_FILES
    path.write_bytes(path.read_bytes().replace(b'"trial": 2', b'"trial": 7'))
    assert pack(toy) == 0
    assert "trial 2 is left as it is: it is in pack" in capsys.readouterr().err
    assert (toy / "trials" / "000002").exists()
    assert status.main([str(toy), "--verify"]) == 1
    assert open_run(toy).trial(2).summary() == json.loads(expected["000002/summary.json"])


# ---- beside others -----------------------------------------------------------------------------


def test_workers_and_readers_are_not_disturbed(tmp_path, capsys):
    path = tmp_path / "run"
    command = [*TOY, "--out", str(path), "--trials=60", "--seconds=0.02", "--workers=2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    seen: list[int] = []
    wrong: list[str] = []

    def read() -> None:
        while process.poll() is None:
            try:
                run = open_run(path)
                trials = run.trials
                rows = len(run.extremes()) if trials else 0
            except ValueError:
                continue  # not begun
            except ConfsimError as error:
                wrong.append(str(error))
                return
            if len(trials) < (seen[-1] if seen else 0) or rows < 40 * len(trials):
                wrong.append(f"{len(trials)} trials after {seen[-1:]}, {rows} rows")
            seen.append(len(trials))

    reader = threading.Thread(target=read)
    reader.start()
    packed = 0
    while process.poll() is None:
        if (path / "trials").exists():
            packed += pack(path) in (0, 75)
    reader.join()
    assert process.wait() == 0, process.stderr.read()
    assert not wrong
    assert packed > 1
    assert pack(path) == 0
    run_trials(Toy(), trials=60, out=tmp_path / "expected", quiet=True)
    assert contents(path) == contents(tmp_path / "expected")
    assert leftovers(path) == []


def test_a_trial_is_read_though_it_is_packed_meanwhile(toy):
    run = open_run(toy)
    trials = [run.trial(number) for number in run.trials]
    records = [trials[0].record, trials[1].record]
    assert pack(toy) == 0
    assert len(trials[0].table("extremes")) == 40
    assert [trial.record for trial in trials[:2]] == records
    assert trials[2].summary()
    assert trials[3].path == the_pack(toy)
    assert run_trials(Toy(), trials=5, out=toy, quiet=True).complete
    assert pack(toy) == 0
    assert run.trial(4).summary()


def test_one_command_packs_at_a_time(toy, capsys):
    other = Claims(toy)
    other.open()
    assert other.take_packing() is None
    assert pack(toy) == 1
    assert "packs trials of" in capsys.readouterr().err
    assert len(list((toy / "trials").iterdir())) == 4
    other.close()  # without releasing: as if it had died
    assert pack(toy) == 0
    assert leftovers(toy) == []


def test_a_pack_stays_while_others_have_claimed_what_is_in_it_alone(packed, capsys):
    path = the_pack(packed) / "extremes.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    other = Claims(packed)
    other.open()
    assert other.take(2)
    assert status.main([str(packed), "--repair"]) == 1
    assert f"trial 2 is claimed by process {os.getpid()}" in capsys.readouterr().err
    assert open_run(packed).trials == [0, 1, 2, 3]
    other.close()
    assert status.main([str(packed), "--repair"]) == 0
    assert not (packed / packs.PACKS).exists()


# ---- killed, and full --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    code = (
        "from confsim.cli import status; import pandas, pyarrow.parquet, confsim.store.packing; "
        "commands = {'status': status.main}"
    )
    with forge(tmp_path_factory.mktemp("forge"), code) as made:
        yield made


@pytest.mark.parametrize("fate", ["kill", "full"])
@pytest.mark.parametrize("words", [["--pack"], ["--repair"]], ids=lambda words: words[0][2:])
def test_struck_at_every_call_nothing_is_lost(made, tmp_path, commands, fate, words):
    source = Path(shutil.copytree(made / "toy", tmp_path / "source"))
    expected = contents(source)
    if words == ["--repair"]:
        assert pack(source) == 0
        path = the_pack(source) / "extremes.parquet"
        path.write_bytes(path.read_bytes()[:-1] + b"X")  # the pack, and none of its trials
    path = tmp_path / "count"
    shutil.copytree(source, path)
    code, _, calls = commands.strike("status", path, *words, below=path)
    assert code == 0
    assert calls > 20
    for at in moments(calls, 6, every=LONG):
        run = Path(shutil.copytree(source, tmp_path / str(at)))
        code, err, _ = commands.strike("status", run, *words, below=run, at=at, fate=fate)
        assert code in ((0, KILLED) if fate == "kill" else (0, 1)), err
        if code == 1:
            assert len([line for line in err.splitlines() if "set aside" not in line]) == 1, err
            assert "No space left on device" in err
        assert contents_of_whole(run) == expected
        assert status.main([str(run), *words]) == 0
        assert contents(run) == expected
        assert leftovers(run) == []
        left = [*run.glob("packs/.*"), *run.glob("trials/.*")]
        assert not left
        shutil.rmtree(run)


def contents_of_whole(run: Path) -> dict[str, bytes]:
    """What the readers find: hidden directories are not theirs."""
    return {name: content for name, content in contents(run).items() if name[0] != "."}


# ---- footers -----------------------------------------------------------------------------------

TYPES = st.sampled_from(["int64", "float32", "bool", "str", "categorical"])


def column(rng: np.random.Generator, kind: str, rows: int) -> pd.Series:
    if kind == "str":
        return pd.Series([f"t{k}" for k in rng.integers(0, 3, rows)], dtype="str")
    if kind == "categorical":
        names = pd.Index([f"c{k}" for k in range(3)], dtype="str")
        return pd.Series(pd.Categorical.from_codes(rng.integers(0, 3, rows), names))
    return pd.Series(rng.integers(0, 2, rows).astype(kind))


@settings(max_examples=40)
@given(
    kinds=st.lists(TYPES, min_size=1, max_size=5),
    rows=st.lists(st.integers(0, 9), min_size=1, max_size=20),
    compression=st.sampled_from(["zstd", "snappy", None]),
    version=st.sampled_from(["1.0", "2.6"]),
    statistics=st.booleans(),
    group=st.integers(1, 5),
)
def test_files_one_after_another_are_one_file(kinds, rows, compression, version, statistics, group):
    rng, parts, tables = np.random.default_rng(len(rows)), [], []
    for count in rows:
        frame = pd.DataFrame({f"c{k}": column(rng, kind, count) for k, kind in enumerate(kinds)})
        table = pa.Table.from_pandas(frame, preserve_index=False)
        for k, kind in enumerate(kinds):
            if kind == "str":  # pandas 2 does not know the type of no text at all
                table = table.set_column(k, f"c{k}", table[k].cast(pa.string()))
        out = io.BytesIO()
        pq.write_table(
            table,
            out,
            compression=compression,
            version=version,
            write_statistics=statistics,
            write_page_index=statistics,
            row_group_size=group,
            store_schema=False,
        )
        parts.append(out.getvalue())
        tables.append(pq.read_table(io.BytesIO(parts[-1])))
    places = np.cumsum([0, *map(len, parts)])[:-1].tolist()
    read = [parquet.read_footer(io.BytesIO(part), len(part)) for part in parts]
    whole = b"".join(parts) + parquet.merged(read, places)
    assert pq.read_table(io.BytesIO(whole)).equals(pa.concat_tables(tables))
    found = pq.ParquetFile(io.BytesIO(whole)).metadata
    assert found.num_rows == sum(rows)
    for index in range(found.num_row_groups):
        for number in range(found.num_columns):
            chunk = found.row_group(index).column(number)
            begins = [chunk.data_page_offset, chunk.dictionary_page_offset]
            start = min((place for place in begins if place), default=0)
            pages = list(
                parquet.pages(lambda at, n: whole[at : at + n], start, chunk.total_compressed_size)
            )
            values = sum(page.values for page in pages if not page.dictionary)
            assert values == chunk.num_values


def test_footers_that_are_not_merged():
    def table(**columns):
        out = io.BytesIO()
        pq.write_table(pa.table(columns), out)
        return out.getvalue()

    one, other = table(a=[1, 2]), table(a=[1.5])
    read = [parquet.read_footer(io.BytesIO(part), len(part)) for part in (one, other)]
    with pytest.raises(parquet.FooterError, match="differ in their schema"):
        parquet.merged(read, [0, len(one)])
    for content in (b"", b"PAR1" * 4, one[:-1], one[:-8] + b"\xff\xff\xff\x7fPAR1"):
        with pytest.raises(parquet.FooterError):
            parquet.read_footer(io.BytesIO(content), len(content))


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_footer_is_one(seed):
    out, rng = io.BytesIO(), np.random.default_rng(seed)
    pq.write_table(pa.table({"a": list(range(50)), "b": ["x"] * 50}), out, row_group_size=7)
    whole = out.getvalue()
    start = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for _ in range(2000):
        damaged = bytearray(whole)
        for place in rng.integers(start, len(whole) - 8, rng.integers(1, 4)):
            damaged[place] = int(rng.integers(256))
        try:
            footer = parquet.read_footer(io.BytesIO(damaged), len(damaged))
            parquet.merged([footer], [100])
        except parquet.FooterError:
            pass
    nested = b"\x1c" * 100_000
    deep = b"PAR1" + nested + len(nested).to_bytes(4, "little") + b"PAR1"
    with pytest.raises(parquet.FooterError):
        parquet.read_footer(io.BytesIO(deep), len(deep))


@pytest.mark.parametrize("wanted", [[0, 1, 2, 3], [3, 0], [2]])
def test_numbers_are_those_of_the_summaries(packed, wanted):
    assert run_trials(Toy(), trials=5, out=packed, quiet=True).complete
    run = open_run(packed)
    trials = [*wanted, 4]  # in a pack, and in a directory of its own
    rows = list(run.summaries(trials))
    names = {name for row in rows for name in row if isinstance(row[name], float)}
    assert names
    found = run.numbers(trials, {*names, "nothing"})
    assert found.keys() == names
    for name, values in found.items():
        assert values.tolist() == [row[name] for row in rows]
