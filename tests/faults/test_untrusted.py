"""Runs of somebody else, and damaged ones: nothing is run, nothing outside is read, nothing hangs.

Each case gives one clear line, and never another number than the run holds.
"""

import contextlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_runs import FakeDeep, linear, publish
from toy_experiments import rewrite

import confsim
from confsim import exports
from confsim._errors import ConfsimError
from confsim._interpreter import python
from confsim.cli import report as report_command
from confsim.cli import status as status_command
from confsim.membership import membership_tables
from confsim.report import build
from confsim.store import files, layout, open_run, packing, survey
from confsim.store.artifacts import csv_text, entry_of_file, plain_text

TRIAL = Path("trials") / "000001"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of each form."""
    folder = tmp_path_factory.mktemp("made")
    publish(folder / "linear", linear(queries=400), 3)
    publish(folder / "deep", FakeDeep(examples=60), 4)
    membership_tables(open_run(folder / "deep"))
    return folder


@pytest.fixture(params=["linear", "deep"])
def run(request, made, tmp_path) -> Path:
    return Path(shutil.copytree(made / request.param, tmp_path / "run"))


@pytest.fixture
def deep(made, tmp_path) -> Path:
    return Path(shutil.copytree(made / "deep", tmp_path / "run"))


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Drawing takes long; reading is what is tested here."""
    monkeypatch.setattr(build, "FIGURES", ())


def all_of(path: Path) -> dict[str, Any]:
    """Read everything."""
    run = open_run(path)
    found: dict[str, Any] = {"manifest": run.manifest, "summary": run.summary().to_csv()}
    for name in ("extremes", "examples", "holdout"):
        if run.trial(run.trials[0]).has(f"{name}.parquet"):
            found[name] = run.table(name).to_csv()
    found["joint"] = {k: v.tobytes() for k, v in run.joint().items()}
    for number in run.trials:
        trial = run.trial(number)
        found[f"record {number}"] = trial.record
        if trial.has("model.npz"):
            found[f"model {number}"] = {k: v.tobytes() for k, v in trial.model().items()}
    if run.has("population.parquet"):
        found["population"] = run.population().to_csv()
        found["images"] = run.images().tobytes()
    return found


def error_or_all(path: Path) -> "dict[str, Any] | str":
    try:
        return all_of(path)
    except ConfsimError as error:
        return str(error)


def reseal(run: Path, file: str) -> None:
    """Give a changed file of trial 1 the record that an attacker would give it."""
    entry = entry_of_file(run / TRIAL / file)
    record = files.read_sealed(run / TRIAL / "trial.json")
    rewrite(run / TRIAL / "trial.json", files={**record["files"], file: entry})


def lines(run: Path, capsys, *, report: bool = True) -> str:
    """Run status and report; each ends by itself, and with words that are no traceback's."""
    assert status_command.main([str(run), "--verify"]) in (0, 1, 2, 75)
    if report:
        assert report_command.main([str(run), "--partial"]) in (0, 1, 2, 75)
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out
    return said.out + said.err


# ---- one altered byte --------------------------------------------------------------------------


def test_one_altered_byte_is_noticed_and_named(run, capsys):
    before = all_of(run)
    rng = np.random.default_rng(0)
    names = [p for p in sorted(run.rglob("*")) if p.is_file() and "tables" not in p.parts]
    for path in names:
        content = path.read_bytes()
        places = rng.choice(len(content), min(len(content), 12), replace=False)
        for place in sorted({0, len(content) - 1, *places.tolist()}):
            altered = bytearray(content)
            altered[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(altered)
            assert status_command.main([str(run), "--verify"]) == (
                0 if path.name == layout.MANIFEST_COPY else 1
            ), (path, place)
            said = capsys.readouterr()
            if path.name != layout.MANIFEST_COPY:
                assert path.name in said.out, (path, place)
                assert "Traceback" not in said.err
            found = error_or_all(run)  # all, where the copy stands in, or the byte is in it
            assert found == before or (isinstance(found, str) and path.name in found)
        path.write_bytes(content)


def test_every_byte_of_a_manifest(run):
    path = run / layout.MANIFEST
    (run / layout.MANIFEST_COPY).unlink()
    content = path.read_bytes()
    for place in range(len(content)):
        for bit in (0, 1, 5):
            altered = bytearray(content)
            altered[place] ^= 1 << bit
            path.write_bytes(altered)
            with pytest.raises(layout.ManifestDamaged, match=r"manifest\.json"):
                open_run(run)


def test_the_earlier_manifest_s_identity_is_compared(run):
    manifest = files.read_sealed(run / layout.MANIFEST)
    (run / layout.MANIFEST_COPY).unlink()
    text = json.dumps({k: v for k, v in manifest.items() if k != "capabilities"}, indent=1)
    (run / layout.MANIFEST).write_text(text)
    expected = open_run(run).capabilities
    assert expected.lattice == (manifest["command"] == "confsim-linear")
    assert expected.examples == (manifest["command"] == "confsim-deep")
    changed = json.loads(text)
    changed["identity"]["seed"] += 1
    (run / layout.MANIFEST).write_text(json.dumps(changed))
    with pytest.raises(layout.ManifestDamaged, match="identity"):
        open_run(run)


def test_a_damaged_manifest_costs_no_trial(run, capsys):
    content = (run / layout.MANIFEST).read_bytes()
    (run / layout.MANIFEST).write_bytes(content.replace(b"seed", b"sead"))
    assert status_command.main([str(run)]) == 1
    assert "manifest.json does not have the hash" in capsys.readouterr().out
    assert report_command.main([str(run)]) == 0
    assert "manifest.json" in capsys.readouterr().err
    assert status_command.main([str(run), "--repair"]) == 0
    assert (run / layout.MANIFEST).read_bytes() == content
    # Without a copy the command writes it again.
    (run / layout.MANIFEST_COPY).unlink()
    (run / layout.MANIFEST).write_bytes(content.replace(b"seed", b"sead"))
    assert status_command.main([str(run), "--repair"]) == 75
    capsys.readouterr()
    kind = json.loads(content)["command"]
    experiment = linear(queries=400) if kind == "confsim-linear" else FakeDeep(examples=60)
    before = len(list(run.glob("trials/0*")))
    publish(run, experiment, before)
    assert status_command.main([str(run), "--verify"]) == 0
    assert len(open_run(run).trials) == before


# ---- what is no file of the run ----------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def outside(path: Path) -> None:
    """A link to a file of the right content outside of the run."""
    kept = path.parents[3] / f"outside-{path.name}"
    kept.write_bytes(outside.content)  # type: ignore[attr-defined]
    path.symlink_to(kept)


@pytest.mark.parametrize("kind", [fifo, device, outside, Path.mkdir])
def test_only_regular_files_are_read(run, kind, capsys):
    names = [p for p in sorted(run.rglob("*")) if p.is_file()]
    for path in names:
        if "trials" in path.parts and "000001" not in path.parts:
            continue
        outside.content = path.read_bytes()  # type: ignore[attr-defined]
        path.unlink()
        kind(path)
        said = lines(run, capsys, report=path.name in ("manifest.json", "images.npy"))
        if (
            path.name not in (layout.MANIFEST_COPY, "membership.json")
            and "tables" not in path.parts
        ):
            assert path.name in said, path
        if "tables" in path.parts:
            with contextlib.suppress(ValueError):  # a directory's place is not written over
                membership_tables(open_run(run))
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        path.write_bytes(outside.content)  # type: ignore[attr-defined]


def test_folders_are_no_links(run, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere"
    (run / TRIAL).rename(elsewhere)
    (run / TRIAL).symlink_to(elsewhere)
    assert "symbolic link" in survey(run, open_run(run).identity_hash).damaged[1]
    (run / TRIAL).unlink()
    elsewhere.rename(run / TRIAL)
    for name in ("tables", "figures"):
        shutil.rmtree(run / name, ignore_errors=True)
        (tmp_path / "target").mkdir(exist_ok=True)
        (run / name).symlink_to(tmp_path / "target")
        assert report_command.main([str(run)]) == 2
        assert "symbolic link" in capsys.readouterr().err
        assert not list((tmp_path / "target").iterdir())
        (run / name).unlink()
    (run / "trials").rename(tmp_path / "trials")
    (run / "trials").symlink_to(tmp_path / "trials")
    assert status_command.main([str(run)]) == 1
    assert "trials is a symbolic link" in capsys.readouterr().err


def test_claims_and_reports_of_failures_that_are_pipes(run, capsys):
    for folder, name in (("claims", "owner-x"), ("log", "failed-000002.txt")):
        (run / folder).mkdir(exist_ok=True)
        os.mkfifo(run / folder / name)
    (run / "claims" / "000009").symlink_to("owner-x")
    (run / "claims" / "000010").symlink_to("owner-../../x")
    lines(run, capsys, report=False)


def no_text(rows: int) -> pa.Array:
    """Texts of one byte each, which is none of UTF-8."""
    offsets = np.arange(rows + 1, dtype=np.int32)
    return pa.Array.from_buffers(
        pa.string(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(b"\xff" * rows)]
    )


def test_texts_that_are_none(run, capsys):
    path = run / TRIAL / "extremes.parquet"
    table = pq.read_table(path)
    texts = [name for name, kind in zip(table.schema.names, table.schema.types, strict=True)
             if pa.types.is_dictionary(kind) or pa.types.is_string(kind)]  # fmt: skip
    assert texts
    altered = table.set_column(
        table.schema.get_field_index(texts[0]), texts[0], no_text(table.num_rows)
    )
    pq.write_table(altered, path)
    reseal(run, path.name)
    for read in (
        lambda: open_run(run).table("extremes"),
        lambda: list(open_run(run).trial(1).batches("extremes")),
    ):
        with pytest.raises(ConfsimError, match=r"extremes\.parquet cannot be read as Parquet"):
            read()
    lines(run, capsys)


def test_texts_of_a_pack_that_are_none(run, capsys):
    expected = open_run(run).summary()
    packing.pack(run, open_run(run).identity_hash)
    (folder,) = (run / "packs").iterdir()
    path = folder / "summary.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("word", no_text(table.num_rows)), path)
    record = files.read_sealed(folder / "pack.json")
    for copy in ("pack.json", "pack.copy.json"):
        rewrite(folder / copy, files={**record["files"], path.name: entry_of_file(path)})
    assert open_run(run).summary().equals(expected)
    lines(run, capsys)


@pytest.mark.parametrize(
    "name", ["../000000/summary.json", "/etc/hostname", "a/b", "", ".", "..", "a\nb", ".hidden"]
)
def test_records_name_plain_files_of_their_own(run, name, capsys):
    record = files.read_sealed(run / TRIAL / "trial.json")
    entry = record["files"]["summary.json"]
    rewrite(run / TRIAL / "trial.json", files={**record["files"], name: entry})
    said = lines(run, capsys)
    assert "trial.json is not one of ours" in said


def test_a_trial_has_one_name_and_its_files(run, capsys):
    expected = all_of(run)
    for name in ("00000001", "1", "+00001", "\uff10\uff10\uff10\uff10\uff10\uff11", "1000000"):
        shutil.copytree(run / TRIAL, run / "trials" / name)
    assert all_of(run) == expected
    said = lines(run, capsys, report=False)
    assert "trials/00000001 is no trial of this run" in said
    rewrite(run / TRIAL / "trial.json", files={})
    state = survey(run, open_run(run).identity_hash)
    assert 1 not in state.finished
    assert "names no summary.json" in state.damaged[1]


def test_partial_makes_no_table_with_a_damaged_trial(deep, capsys):
    before = membership_tables(open_run(deep))
    assert set(before["attacks"]["target"]) == {"0", "1", "2", "3", "mean", "pooled", "none"}
    (deep / TRIAL / "holdout.parquet").write_bytes(b"x")
    assert report_command.main([str(deep), "--partial"]) == 0
    found = membership_tables(open_run(deep).restricted([0, 2, 3]))
    assert not found.made
    assert set(found["attacks"]["target"]) == {"0", "2", "3", "mean", "pooled", "none"}
    assert "holdout.parquet" in (deep / "report.html").read_text()


# ---- what is inside ----------------------------------------------------------------------------


class Payload:
    """Would make a file, if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def npz(path: Path, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def header(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"shape": shape, "fortran_order": False, "descr": kind}
    )
    return buffer.getvalue()


def test_nothing_is_unpickled(run, tmp_path, capsys):
    mark = tmp_path / "mark"
    np.savez(run / TRIAL / "joint.npz", x=np.array([Payload(mark)], dtype=object))
    reseal(run, "joint.npz")
    with pytest.raises(ConfsimError, match="holds Python objects"):
        open_run(run).trial(1).arrays("joint")
    (run / TRIAL / "joint.npz").write_bytes(pickle.dumps(Payload(mark)))
    reseal(run, "joint.npz")
    with pytest.raises(ConfsimError, match="cannot be read"):
        open_run(run).trial(1).arrays("joint")
    lines(run, capsys)
    assert not mark.exists()


def many_rows(path: Path) -> None:
    """Hundreds of megabytes of rows in a few kilobytes."""
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1 << 22, np.int8)), pa.array(["x"]))
    with pq.ParquetWriter(path, pa.schema({"x": column.type})) as writer:
        for _ in range(8):
            writer.write_table(pa.table({"x": column}))


def long_text(path: Path) -> None:
    pq.write_table(pa.table({"x": ["a" * (1 << 25)]}), path, compression="zstd")


def large_array(path: Path) -> None:
    npz(path, {"x.npy": header((1 << 22,)) + bytes(1 << 25)})


def claimed_array(path: Path) -> None:
    npz(path, {"x.npy": header((1 << 40, 1 << 30)) + bytes(100)})


def negative_shape(path: Path) -> None:
    npz(path, {"x.npy": header((-1, -8)) + bytes(64)})


def many_arrays(path: Path) -> None:
    npz(path, {f"{i}.npy": b"" for i in range(10_001)})


def a_list(path: Path) -> None:
    pq.write_table(pa.table({"x": [[1, 2], [3]]}), path)


def no_columns(path: Path) -> None:
    pq.write_table(pa.table({"y": [1.0]}), path)


def garbage(path: Path) -> None:
    path.write_bytes(b"PAR1" + bytes(100) + b"PAR1")


@pytest.mark.parametrize(
    ("make", "file", "message"),
    [
        (many_rows, "extremes.parquet", "more than the limit"),
        (long_text, "extremes.parquet", "more than the limit"),
        (a_list, "extremes.parquet", "none of ours"),
        (no_columns, "extremes.parquet", "has no column"),
        (garbage, "extremes.parquet", "cannot be read"),
        (large_array, "joint.npz", "more than the limit"),
        (claimed_array, "joint.npz", "not as long as"),
        (negative_shape, "joint.npz", "has shape"),
        (many_arrays, "joint.npz", "more than the limit"),
        (garbage, "joint.npz", "cannot be read"),
    ],
)
def test_what_a_file_holds_is_bounded_and_plain(deep, make, file, message, capsys):
    make(deep / TRIAL / file)
    reseal(deep, file)
    assert (deep / TRIAL / file).stat().st_size < 1 << 20
    trial = open_run(deep, limit=1 << 24).trial(1)
    with pytest.raises(ConfsimError, match=message):
        trial.table("extremes", ["id"]) if "parquet" in file else trial.arrays("joint")
    lines(deep, capsys)


def test_the_limit_can_be_raised_and_lowered(deep, capsys):
    with pytest.raises(ConfsimError, match="a larger --limit reads it"):
        open_run(deep, limit=100).examples()
    assert len(open_run(deep, limit=1 << 20).examples()) == 240
    assert report_command.main([str(deep), "--limit", "100"]) == 75
    assert "--limit" in capsys.readouterr().err
    with pytest.raises(TypeError, match="limit must be an integer"):
        open_run(deep, limit=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"schema":' * 50_000,
        b'{"schema": 1, "schema": 1}',
        b'{"schema": ' + b"9" * 5000 + b"}",
        b'{"schema": NaN}',
        b"\xff\xfe",
        b"",
        b"null",
    ],
)
def test_json_of_any_kind(run, content, capsys):
    for path in (run / TRIAL / "trial.json", run / layout.MANIFEST, run / layout.RUN_DATA):
        kept = path.read_bytes() if path.exists() else None
        path.write_bytes(content)
        assert path.name in lines(run, capsys, report=False)
        path.unlink() if kept is None else path.write_bytes(kept)


@pytest.mark.parametrize(
    "changes",
    [
        {"trials": 10**9},
        {"trials": -1},
        {"trials": "x"},
        {"versions": {}},
        {"versions": {"confsim": [1]}},
        {"identity": []},
        {"configuration": None},
        {"command": "rm -rf /\n"},
        {"seed": {}},
        {"capabilities": []},
        {"capabilities": {"repeat": [1]}},
        {"capabilities": {"folders": [["../..", "x"]]}},
        {"capabilities": {"examples": "yes"}},
        {"configuration": {}},
        {"configuration": {"n": "x", "queries": None, "dimensions": 90, "grid_size": 1e300}},
    ],
)
def test_manifests_of_any_kind(run, changes, capsys):
    rewrite(run / layout.MANIFEST, **changes)
    (run / layout.MANIFEST_COPY).unlink()
    shutil.rmtree(run / "tables", ignore_errors=True)
    said = lines(run, capsys)
    assert len(said) < 20_000


def test_summaries_and_arrays_of_any_kind(run, capsys):
    summary = json.loads((run / TRIAL / "summary.json").read_text())
    for key in list(summary)[:12]:
        for value in ("x", None, 1e308, -1, True, [1], {}):
            content = json.dumps({**summary, key: value})
            (run / TRIAL / "summary.json").write_text(content)
            reseal(run, "summary.json")
            lines(run, capsys, report=value in ("x", None) and key in list(summary)[:3])
    (run / TRIAL / "summary.json").write_text("{}")
    reseal(run, "summary.json")
    lines(run, capsys)


def mutated(frame: pd.DataFrame, how: str) -> pd.DataFrame:
    if how == "fewer rows":
        return frame.iloc[:-3]
    if how == "no rows":
        return frame.iloc[:0]
    if how == "other ids":
        return frame.assign(id=frame["id"] + 10**12)
    if how == "negative ids":
        return frame.assign(id=-frame["id"] - 1)
    if how == "texts":
        return frame.assign(**dict.fromkeys(frame, "x"))
    assert how == "NaN"
    return frame.assign(**{n: np.nan for n in frame if frame[n].dtype.kind == "f"})


@pytest.mark.parametrize(
    "how", ["fewer rows", "no rows", "other ids", "negative ids", "texts", "NaN"]
)
@pytest.mark.parametrize("name", ["extremes", "examples", "holdout"])
def test_tables_of_any_kind(deep, name, how, capsys):
    path = deep / TRIAL / f"{name}.parquet"
    mutated(pd.read_parquet(path), how).to_parquet(path, index=False)
    reseal(deep, path.name)
    shutil.rmtree(deep / "tables")
    lines(deep, capsys)


# ---- text that travels -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("=1+1", "+1", "-x", "@a", "\t=x", "\rx", "'=x", "''+", "\uff1dx"),
        *(" =1", "  @a", '"=1', "' =x", " \t-1", "\n"),
    ],
)
def test_a_text_is_no_formula_and_comes_back(text):
    assert csv_text(text).startswith("'")
    assert plain_text(csv_text(text)) == text


@pytest.mark.parametrize("text", ["dog", "", "'tis", "a=b", "1.5", "x-y", "'"])
def test_other_texts_stay(text):
    assert csv_text(text) == text
    assert plain_text(text) == text


def test_names_of_classes_reach_no_csv_file_as_formulas(tmp_path):
    names = ("=cmd()", "+1", "-2", "@x")
    run = publish(tmp_path / "run", FakeDeep(examples=60, names=names), 4)
    assert report_command.main([str(run.path)]) == 0
    found = set(pd.read_csv(run.path / "tables" / "classes.csv")["class"])
    assert {plain_text(name) for name in found} == set(names)
    for path in (run.path / "tables").glob("*.csv"):
        for line in path.read_text().splitlines():
            for cell in line.split(","):
                cell = cell.strip('"')
                assert not cell.startswith(("=", "@", "+")), (path, line)


def test_ids_reach_no_export_as_formulas(made, tmp_path):
    run = Path(shutil.copytree(made / "linear", tmp_path / "run"))
    path = run / TRIAL / "extremes.parquet"
    rows = pd.read_parquet(path)
    texts = ["=cmd()", "+1", "-2", "@x", "a,b", 'c"d', "e\nf"]
    changed = rows.assign(id=[texts[k % len(texts)] for k in range(len(rows))])
    changed.to_parquet(path, index=False)
    reseal(run, path.name)
    for found in exports.write_csv(open_run(run)):
        ids = pd.read_csv(found)["ID"][pd.read_csv(found)["Trial"] == 2]
        assert {plain_text(text) for text in ids} <= set(texts)
        assert not any(text.startswith(("=", "+", "-", "@")) for text in ids)
        assert not any(line.startswith(("=", "+", "-", "@")) for line in found.open())
    for name, value in (("distance", "=1"), ("is_member", "=1")):
        rows.assign(**{name: value}).to_parquet(path, index=False)
        reseal(run, path.name)
        with pytest.raises(ConfsimError, match=f"trial 1 of .* in column {name} of its extremes"):
            exports.write_csv(open_run(run))


def test_names_of_numbers_reach_no_csv_file_as_formulas(run):
    path = run / TRIAL / "summary.json"
    names = ("=cmd()", ' "@x')
    path.write_text(json.dumps({**json.loads(path.read_text()), **dict.fromkeys(names, 1.0)}))
    reseal(run, path.name)
    assert report_command.main([str(run)]) == 0
    head = pd.read_csv(run / "tables" / "trials.csv").columns
    assert {"'=cmd()", "' \"@x"} <= set(head)
    path.write_text(json.dumps({"\ud800": 1.0}))
    reseal(run, path.name)
    with pytest.raises(ConfsimError, match="is not one of ours"):
        open_run(run).summary()


def test_what_a_message_quotes_is_short_and_moves_no_cursor(run, capsys):
    rewrite(run / layout.MANIFEST, capabilities={"ranking": ["\x1b[2J", "x" * 100_000]})
    (run / layout.MANIFEST_COPY).unlink()
    for command in (status_command, report_command):
        assert command.main([str(run)]) == 2
        said = capsys.readouterr().err
        assert "\x1b" not in said
        assert len(said) < 3000
        assert "more characters" in said


@pytest.mark.parametrize("name", [b"~run", b"~root", b"\xff\xfe", b"a b=c", "größe".encode()])
def test_any_name_of_a_directory(made, tmp_path, monkeypatch, name, capsys):
    monkeypatch.chdir(tmp_path)
    path = Path(os.fsdecode(name))
    shutil.copytree(made / "deep", path)
    shutil.rmtree(path / "tables")
    assert all_of(path) == all_of(made / "deep")
    assert report_command.main([str(path), "--json"]) == 0
    again = membership_tables(open_run(path))
    assert not again.made
    assert status_command.main([str(path), "--verify", "--json"]) == 0
    capsys.readouterr()


def test_modules_in_the_working_directory_are_not_run(tmp_path):
    """A folder of data may hold a file that is called like a module of Python's."""
    for name in ("multiprocessing", "numpy", "pickle", "socket", "struct", "tempfile"):
        (tmp_path / f"{name}.py").write_text("open('it-ran', 'w')")
    task = tmp_path / "task.py"
    task.write_text(
        "def population():\n    return {'label': [0, 1] * 20}\n"
        "def train(members, seed, context):\n    return lambda rows: {'statistic': rows * 1.0}\n"
    )
    for command, words in (
        ("linear", ["--n", "4", "--queries", "50", "--trials", "2", "--workers", "2"]),
        ("shadow", [str(task), "--trials", "2", "--workers", "2"]),
    ):
        start = f"import sys; from confsim.cli import start; sys.exit(start({command!r}))"
        done = subprocess.run(
            [sys.executable, "-I", "-c", start, *words, "--out", command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "it-ran").exists()


def _lay(path, kind):
    """Put a file of settings for matplotlib at ``path``: one of a kind that does harm."""
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(
            {"settings": b"text.usetex: True\nfont.size: 77\n", "bytes": b"\xff"}[kind]
        )


@pytest.mark.parametrize("kind", ["settings", "bytes", "pipe"])
def test_settings_in_the_working_directory_are_not_read(kind, tmp_path):
    """By no command, nor by a process that it starts; a user's own elsewhere are."""
    _lay(tmp_path / "matplotlibrc", kind)
    look = "import matplotlib; print(matplotlib.rcParams['font.size'])"
    command = (
        "import confsim.cli.program\nfrom confsim.cli import start\n"
        f"confsim.cli.program.main = lambda: exec({look!r})\nstart('program')"
    )
    (tmp_path / "own").write_text("font.size: 33\n")
    for words in (python(look), [sys.executable, "-I", "-c", command]):
        for own, size in (("", "10.0\n"), (str(tmp_path / "own"), "33.0\n")):
            done = subprocess.run(
                words,
                cwd=tmp_path,
                env={**os.environ, "MATPLOTLIBRC": own},
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert (done.stdout, done.stderr) == (size, "")


def test_code_of_an_interpreter_is_no_path_of_a_file():
    """TensorFlow loads kernels from below the path that it takes this code for."""
    code = python("pass")[2]
    assert len(code.partition("/")[0]) > 255


def test_every_interpreter_is_started_in_one_way():
    package = Path(confsim.__file__).parent
    found = [p.name for p in package.rglob("*.py") if "sys.executable" in p.read_text("utf-8")]
    assert found == ["_interpreter.py"]
