"""The run directory: bytes, names, publishing, damage, reading."""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import resource
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from toy_experiments import Streaming, Toy, ToyWithData, contents, leftovers, result_of, rewrite

import confsim
from confsim import runner
from confsim._errors import ConfsimError
from confsim.experiment import Interrupted, RunData, TrialResult
from confsim.runner.inline import run_inline
from confsim.store import (
    CannotWrite,
    Store,
    artifacts,
    check_target,
    create,
    default_path,
    files,
    formats,
    identity_hash,
    layout,
    open_run,
    survey,
    writer,
)


def make(path: Path, toy: Any = None, *, trials: int = 3, keep: str = "all") -> Store:
    return create(path, toy or Toy(), trials, overwrite=False, owner="me", keep=keep)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    store = make(tmp_path / "run")
    for trial in range(3):
        store.publish(result_of(trial))
    return store.path


class TestFormats:
    def write(self, path: Path, table: Any) -> bytes:
        with formats.HashedFile(path) as file:
            formats.write_table(file, table)
        return path.read_bytes()

    def test_a_table_comes_back_as_it_was(self, tmp_path):
        columns = {
            "i64": np.array([-(2**62), 0, 2**62]),
            "u8": np.array([0, 7, 255], np.uint8),
            "f32": np.array([0.1, np.nan, np.inf], np.float32),
            "f64": np.array([0.1, np.nan, -np.inf]),
            "bool": np.array([True, False, True]),
            "text": ["bottom", "", "größer"],
            "array_of_text": np.array(["a", "bb", ""]),
            "strided": np.arange(6.0)[::2],
        }
        self.write(tmp_path / "t.parquet", columns)
        frame = pd.read_parquet(tmp_path / "t.parquet")
        assert list(frame) == list(columns)
        for name, values in columns.items():
            assert [str(v) for v in frame[name].to_numpy()] == [str(v) for v in values], name
        assert frame["u8"].dtype == np.uint8
        assert frame["f32"].dtype == np.float32

    def test_numbers_of_a_csv_file_are_read_to_the_last_digit(self, tmp_path):
        # Before version 3.1, pandas misreads the last digits of some unless asked not to.
        values = np.random.default_rng(0).random(2000) * 10.0 ** np.arange(-1000, 1000).clip(-9, 9)
        pd.DataFrame({"x": values}).to_csv(tmp_path / "t.csv", index=False)
        assert formats.read_csv(tmp_path / "t.csv")["x"].to_numpy().tobytes() == values.tobytes()

    def test_encodings_fit_the_columns(self, tmp_path):
        rng = np.random.default_rng(0)
        columns = {
            "side": ["top"] * 10_000,
            "id": np.arange(10_000)[::-1],
            "many_times": rng.integers(0, 300, 10_000) / 7,
            "once": rng.random(10_000),
            "mostly_one": np.maximum(rng.random(10_000), 0.7),
            "flag": rng.random(10_000) < 0.01,
        }
        self.write(tmp_path / "t.parquet", columns)
        row_group = pq.ParquetFile(tmp_path / "t.parquet").metadata.row_group(0)
        found = {c.path_in_schema: c for c in map(row_group.column, range(len(columns)))}
        listed = {name for name, c in found.items() if c.has_dictionary_page}
        assert listed == {"side", "many_times"}
        assert {name for name, c in found.items() if c.compression == "ZSTD"} == set(
            columns
        ) - listed
        assert "DELTA_BINARY_PACKED" in found["id"].encodings
        for name in ("once", "mostly_one"):
            assert "BYTE_STREAM_SPLIT" in found[name].encodings
        frame = pd.read_parquet(tmp_path / "t.parquet")
        for name, values in columns.items():
            assert np.array_equal(frame[name], values), name

    def test_a_column_that_repeats_at_first_only(self, tmp_path):
        """Its dictionary takes all of a row group, and the values are the same."""
        rng = np.random.default_rng(1)
        x = np.concatenate([rng.integers(0, 9, 262_144) / 3, rng.random(262_144)])
        self.write(tmp_path / "t.parquet", {"x": x})
        assert np.array_equal(pd.read_parquet(tmp_path / "t.parquet")["x"], x)
        assert (tmp_path / "t.parquet").stat().st_size < 1.4 * 8 * 262_144

    @pytest.mark.parametrize("cuts", [[], [1], [10, 20, 30], [262_144], [5, 500_000]])
    def test_the_cut_into_batches_does_not_show(self, tmp_path, cuts):
        x = np.random.default_rng(0).standard_normal(600_000)
        whole = self.write(tmp_path / "whole.parquet", {"x": x})
        pieces = iter([{"x": piece} for piece in np.split(x, cuts)])
        assert self.write(tmp_path / "pieces.parquet", pieces) == whole
        assert pq.ParquetFile(tmp_path / "whole.parquet").metadata.num_row_groups == 3

    def test_an_empty_table_keeps_its_columns(self, tmp_path):
        self.write(tmp_path / "t.parquet", {"x": np.zeros(0), "side": []})
        frame = pd.read_parquet(tmp_path / "t.parquet")
        assert list(frame) == ["x", "side"]
        assert len(frame) == 0

    @pytest.mark.parametrize(
        ("table", "error", "message"),
        [
            ({"a": np.zeros(2), "b": np.zeros(3)}, ValueError, "equally long"),
            ({"a": np.zeros((2, 2))}, ValueError, "column a must have one dimension"),
            ({"a": np.array([None, 1])}, TypeError, "column a must hold"),
            (iter([]), ValueError, "at least one batch"),
            ({"a": ["x", "\udcff"]}, ValueError, "column a must be Unicode, but row 1"),
            (
                {"a": np.array([0, 1, 2], np.longdouble) / 3},
                ValueError,
                "column a must fit into float64, but row 1",
            ),
            (iter([{"a": np.zeros(1)}, {"b": np.zeros(1)}]), ValueError, "same columns"),
            (iter([{"a": np.zeros(1)}, {"a": np.zeros(1, int)}]), ValueError, "same columns"),
        ],
    )
    def test_bad_tables_are_refused(self, tmp_path, table, error, message):
        with pytest.raises(error, match=message):
            self.write(tmp_path / "t.parquet", table)

    def test_whole_long_doubles_and_large_ids_stay_as_they_are(self, tmp_path):
        ids = np.array([2**64 - 1, 2**63 + 1], np.uint64)
        self.write(tmp_path / "t.parquet", {"x": np.array([1, 2], np.longdouble), "id": ids})
        found = pd.read_parquet(tmp_path / "t.parquet")
        assert found["x"].tolist() == [1.0, 2.0]
        assert found["id"].tolist() == ids.tolist()

    def test_npz_has_no_dates_and_loads(self, tmp_path):
        arrays = {"w": np.arange(3.0), "ids": np.arange(5), "t": np.zeros((2, 3), np.uint8).T}
        with formats.HashedFile(tmp_path / "a.npz") as file:
            formats.write_npz(file, arrays)
        with np.load(tmp_path / "a.npz") as loaded:
            for name, array in arrays.items():
                np.testing.assert_array_equal(loaded[name], array)
        for entry in zipfile.ZipFile(tmp_path / "a.npz").infolist():
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
        with pytest.raises(TypeError, match="array x"), formats.HashedFile(tmp_path / "b") as file:
            formats.write_npz(file, {"x": np.array([None])})

    def test_summaries_turn_nan_into_null_and_refuse_infinity(self, tmp_path):
        with formats.HashedFile(tmp_path / "s.json") as file:
            formats.write_summary(file, {"a": np.float32(0.5), "b": np.nan, "c": np.bool_(True)})
        found = {"a": 0.5, "b": None, "c": True}
        assert (tmp_path / "s.json").read_text() == json.dumps(found, indent=1) + "\n"
        with formats.HashedFile(tmp_path / "x") as file:
            with pytest.raises(ValueError, match="bad must not be infinite"):
                formats.write_summary(file, {"bad": -np.inf})
            with pytest.raises(TypeError, match="bad must be"):
                formats.write_summary(file, {"bad": [1]})  # type: ignore[dict-item]

    @pytest.mark.parametrize("piece", [1, 1000, formats._HELD, formats._HELD + 1, 200_000])
    def test_a_file_holds_what_was_written_and_its_hash(self, tmp_path, piece):
        content = np.random.default_rng(0).bytes(300_001)
        with formats.HashedFile(tmp_path / "x") as file:
            for start in range(0, len(content), piece):
                assert file.tell() == start
                file.write(memoryview(content)[start : start + piece])
        assert (tmp_path / "x").read_bytes() == content
        assert file.record() == {
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }

    def test_an_error_of_what_was_held_back_is_remembered(self, tmp_path):
        file = formats.HashedFile(tmp_path / "x")
        file._file.close()
        file._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 - closed by close()
        with pytest.raises(OSError, match="No space"), file:
            file.write(b"x")
        assert file.closed
        assert file.error is not None

    def test_no_file_is_overwritten(self, tmp_path):
        (tmp_path / "x").write_text("mine")
        with pytest.raises(FileExistsError):
            formats.HashedFile(tmp_path / "x")


class TestIdentity:
    def test_the_default_directory_follows_the_identity(self):
        assert default_path(Toy()) == default_path(Toy(seconds=3.0))
        assert default_path(Toy()) != default_path(Toy(seed=1))
        digest = identity_hash(Toy().identity())
        assert str(default_path(Toy())) == f"runs/confsim-toy-{digest[:10]}"

    def test_the_hash_does_not_depend_on_the_order_of_settings(self):
        assert identity_hash({"a": 1, "b": [2.5, "x"]}) == identity_hash({"b": [2.5, "x"], "a": 1})
        with pytest.raises(ValueError, match="not JSON"):
            identity_hash({"a": float("nan")})


class TestTarget:
    def check(self, path: Path, toy: Any = None, **options: bool) -> None:
        settings = {"overwrite": False, "mix_versions": False, **options}
        check_target(path, toy or Toy(), **settings)

    def test_what_can_be_used(self, tmp_path, filled):
        self.check(tmp_path / "new" / "deeper")
        (tmp_path / "empty").mkdir()
        self.check(tmp_path / "empty")
        (tmp_path / "empty" / ".tmp-manifest-0123").touch()  # somebody was killed just then
        self.check(tmp_path / "empty")
        self.check(filled)
        assert not (tmp_path / "new").exists()

    def test_a_place_where_none_can_be_made_needs_no_data_to_be_known(self, tmp_path, monkeypatch):
        class Loaded(Toy):
            def identity(self):
                pytest.fail("data were loaded")

        monkeypatch.chdir(tmp_path)
        (tmp_path / "file").touch()
        for place in ("/proc/run", "/proc/self/fd/run/below", "file", "file/below", "a" * 300):
            for start in (runner.run, run_inline):
                with pytest.raises(ValueError, match=r"--out .* (cannot be written|not a direct)"):
                    start(Loaded(), trials=1, out=place)
        (tmp_path / "runs").touch()
        with pytest.raises(ValueError, match="--out runs is not a directory"):
            runner.run(Loaded(), trials=1)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # as on a full disk
        try:
            with pytest.raises(CannotWrite, match="File too large"):
                runner.run(Loaded(), trials=1, out="new/run")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "runs"]

    def test_what_a_new_run_may_not_have_an_older_one_may(self, tmp_path, filled):
        class Refusing(Toy):
            def check_new(self):
                raise ValueError("nothing to wait for")

        def check(path, experiment, overwrite=False):
            check_target(path, experiment, overwrite=overwrite, mix_versions=False)

        check(filled, Refusing())
        empty = tmp_path / "empty"
        empty.mkdir()
        for path, overwrite in ((tmp_path / "new", False), (empty, False), (filled, True)):
            with pytest.raises(ValueError, match="nothing to wait for"):
                check(path, Refusing(), overwrite)
        with pytest.raises(ValueError, match="another identity"):
            check(filled, Refusing(seed=5))

    def test_a_folder_that_is_read_only(self, tmp_path, monkeypatch):
        def refuse(_: Path) -> None:  # root may write where others may not
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(artifacts, "try_writing", refuse)
        for path in (tmp_path, tmp_path / "new"):
            with pytest.raises(ValueError, match=f"nothing can be written to {tmp_path}: Permis"):
                self.check(path)

    def test_what_is_refused(self, tmp_path, filled):
        (tmp_path / "file").touch()
        with pytest.raises(ValueError, match="is not a directory"):
            self.check(tmp_path / "file")
        with pytest.raises(ValueError, match="file is not a directory"):
            self.check(tmp_path / "file" / "below" / "run")
        with pytest.raises(ValueError, match="holds something else and no run"):
            self.check(tmp_path, overwrite=True)
        with pytest.raises(ValueError, match="seed is 0 there and 7 here"):
            self.check(filled, Toy(seed=7))
        with pytest.raises(ValueError, match=r"holds a run of confsim-toy$"):
            self.check(filled, ToyWithData())
        self.check(filled, Toy(seed=7), overwrite=True)

    def test_other_versions_are_mixed_only_on_request(self, filled):
        rewrite(filled / "manifest.json", versions={"confsim": "0.0.9"})
        with pytest.raises(ValueError, match=r"trials of confsim 0\.0\.9.*--mix-versions"):
            self.check(filled)
        self.check(filled, mix_versions=True)

    @pytest.mark.parametrize(
        ("schema", "message"),
        [(3, "use a newer confsim"), (0, "no version of confsim wrote"), ("x", "no version")],
    )
    def test_schemas_that_cannot_be_read_are_refused(self, filled, schema, message):
        rewrite(filled / "manifest.json", schema=schema)
        with pytest.raises(ValueError, match=message):
            self.check(filled)
        with pytest.raises(ValueError, match=message):
            open_run(filled)

    def test_a_directory_without_our_manifest_is_no_run(self, tmp_path):
        for text in ("{", "[]", '{"schema"', '{"schema": 1}'):
            (tmp_path / "manifest.json").write_text(text)
            with pytest.raises(ValueError, match="is not a run directory"):
                open_run(tmp_path)
        with pytest.raises(ValueError, match="nowhere does not exist: a run directory is needed"):
            open_run(tmp_path / "nowhere")

    def test_the_folder_of_runs_names_one(self, filled):
        with pytest.raises(
            ValueError, match=rf"no manifest\.json, but {re.escape(str(filled))} has"
        ):
            open_run(filled.parent)

    def test_creating_below_a_file_leaves_nothing_behind(self, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        with pytest.raises(ValueError, match="cannot be written"):
            make(tmp_path / "file" / "run")

        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(writer, "_put_manifest", refuse)
        with pytest.raises(CannotWrite, match="No space left on device"):
            make(tmp_path / "a" / "b")
        assert not (tmp_path / "a").exists()

    def test_overwriting_removes_the_run_and_more_trials_extend_it(self, filled):
        make(filled, trials=5)
        assert open_run(filled).manifest["trials"] == 5
        make(filled, trials=2)
        assert open_run(filled).manifest["trials"] == 5
        assert open_run(filled).trials == [0, 1, 2]
        create(filled, Toy(seed=7), 2, overwrite=True, owner="me", keep="all")
        assert open_run(filled).trials == []
        assert open_run(filled).manifest["identity"]["seed"] == 7

    def test_the_manifest_says_where_a_run_comes_from(self, filled):
        manifest = open_run(filled).manifest
        assert manifest["schema"] == 1
        assert manifest["command"] == "confsim-toy"
        assert manifest["identity"] == {"seed": 0, "rows": 40}
        assert manifest["configuration"]["seconds"] == 0.0
        assert manifest["seed"] == 0
        assert manifest["versions"]["confsim"] == confsim.__version__
        assert manifest["created"].endswith("+00:00")


class TestPublish:
    def test_the_same_trial_has_the_same_bytes(self, tmp_path, filled):
        other = make(tmp_path / "other")
        for trial in (2, 0, 1):
            other.publish(result_of(trial), seconds=9.0)
        assert contents(other.path) == contents(filled)
        assert leftovers(filled) == []

    def test_the_record_comes_with_hashes_versions_and_times(self, filled):
        record = open_run(filled).trial(1).record
        assert set(record["files"]) == {
            "extremes.parquet",
            "joint.npz",
            "model.npz",
            "summary.json",
        }
        for name, entry in record["files"].items():
            path = filled / "trials" / "000001" / name
            assert entry == {"size": path.stat().st_size, "sha256": layout.file_hash(path)}
        assert record["versions"]["numpy"] == np.__version__
        assert set(record["seconds"]) == {"run", "store"}

    def test_a_newcomer_is_discarded(self, filled):
        store = make(filled)
        before = contents(filled)
        assert store.publish(result_of(1, seed=99)) is False
        assert contents(filled) == before
        assert leftovers(filled) == []

    def test_keeping_the_summary_leaves_the_rows_out_but_reads_them(self, tmp_path):
        store = make(tmp_path / "run", Streaming(), keep="summary")
        summary: dict[str, Any] = {}

        def batches() -> Any:
            yield {"x": np.zeros(3)}
            summary["rows"] = 3

        finish = lambda: ({"late": {"x": np.arange(3)}}, summary)  # noqa: E731
        store.publish(TrialResult(0, {"extremes": batches()}, {}, {"trial": 0}, finish))
        run = open_run(store.path)
        assert not run.trial(0).has("extremes.parquet")
        assert run.trial(0).summary() == {"trial": 0, "rows": 3}
        assert run.trial(0).has("late.npz")
        with pytest.raises(ConfsimError, match="--keep summary"):
            run.extremes()

    def test_a_failing_source_of_rows_is_not_the_disk_s_fault(self, tmp_path):
        store = make(tmp_path / "run")

        def batches() -> Any:
            yield {"x": np.zeros(3)}
            raise OSError(28, "no rows left")

        with pytest.raises(OSError, match="no rows left"):
            store.publish(TrialResult(0, {"extremes": batches()}, {}, {}))
        assert leftovers(store.path) == []
        assert open_run(store.path).trials == []

    def test_it_stops_between_two_batches(self, tmp_path):
        store = make(tmp_path / "run")
        seen = []

        def batches() -> Any:
            while True:
                seen.append(1)
                yield {"x": np.zeros(3)}

        with pytest.raises(Interrupted):
            store.publish(
                TrialResult(0, {"extremes": batches()}, {}, {}), should_stop=lambda: len(seen) == 5
            )
        assert leftovers(store.path) == []

    def test_a_vanished_directory_is_reported_and_not_made_again(self, tmp_path):
        store = make(tmp_path / "run")
        store.path.rename(tmp_path / "elsewhere")
        with pytest.raises(CannotWrite, match="No such file"):
            store.publish(result_of(0))
        assert not store.path.exists()

    def test_a_trial_that_was_taken_over_is_given_up(self, tmp_path):
        store = make(tmp_path / "run")

        def batches() -> Any:
            yield {"x": np.zeros(3)}
            for path in store.path.glob("trials/.tmp-*"):
                path.rename(tmp_path / "swept")

        with pytest.raises(writer.TrialTaken):
            store.publish(TrialResult(0, {"extremes": batches()}, {}, {}))

    def test_scratch_goes_when_the_trial_is_published(self, tmp_path):
        store = make(tmp_path / "run")
        scratch = layout.scratch_path(store.path, 0)
        scratch.mkdir(parents=True)
        (scratch / "checkpoint").touch()
        store.publish(result_of(0))
        assert not scratch.exists()

    def test_memory_is_bounded_however_long_a_table(self, tmp_path):
        code = f"""
import sys
import threading
def peak():  # not ru_maxrss: a child's begins with that of the process it was forked from
    status = open("/proc/self/status")
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1])
from pathlib import Path
import numpy as np
from confsim.experiment import Coded, TrialResult
from toy_experiments import Toy
from confsim.store import create
store = create(Path({str(tmp_path / "run")!r}), Toy(), 1, overwrite=False, owner="me", keep="all")
rows = 1 << 17
side = Coded(np.zeros(rows, np.int8), ("bottom", "top"))
batch = {{"x": np.zeros(rows), "id": np.arange(rows), "side": side}}
store.publish(TrialResult(0, {{"extremes": (batch for _ in range(10))}}, {{}}, {{}}))
before = peak()
store.publish(TrialResult(1, {{"extremes": (batch for _ in range(200))}}, {{}}, {{}}))
print((peak() - before) // 1024)
print([name for name in ("pandas", "sklearn", "scipy") if name in sys.modules])
"""
        out = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout.splitlines()
        assert int(out[0]) < 40, "200 batches are 400 MB"
        assert out[1] == "[]", "publishing is no reason to import these"


class TestRunData:
    def test_it_is_published_once_and_checked(self, tmp_path):
        toy = ToyWithData()
        store = make(tmp_path / "run", toy)
        store.publish_run_data(toy.run_data())
        store.publish_run_data(toy.run_data())
        run = open_run(store.path)
        assert list(run.population()["id"]) == list(range(10))
        assert list(run.population(columns=["label"])) == ["label"]
        assert run.images().shape == (10, 2, 2)
        assert leftovers(store.path) == []
        (store.path / "images.npy").write_bytes(b"x")
        with pytest.raises(ConfsimError, match=r"images\.npy has 1 bytes"):
            run.images()

    def test_there_may_be_none(self, filled):
        with pytest.raises(ConfsimError, match=r"has no population\.parquet"):
            open_run(filled).population()
        assert not open_run(filled).has("images.npy")

    def test_nothing_stays_of_data_that_cannot_be_written(self, tmp_path):
        store = make(tmp_path / "run")
        with pytest.raises(TypeError):
            store.publish_run_data(RunData({}, {"images": np.array([None])}))
        assert leftovers(store.path) == []


class TestDamage:
    """A damaged trial is found, named, and never read."""

    def damage(self, run: Path, how: str) -> str:
        folder = run / "trials" / "000001"
        table = folder / "extremes.parquet"
        if how == "truncated":
            table.write_bytes(table.read_bytes()[:-1])
            return "extremes.parquet has"
        if how == "missing":
            table.unlink()
            return "extremes.parquet is missing"
        if how == "no record":
            (folder / "trial.json").unlink()
            return "trial.json is missing"
        if how == "bad record":
            (folder / "trial.json").write_text('{"files": 3}')
            return "trial.json is not one of ours"
        if how == "empty":
            for path in folder.iterdir():
                path.unlink()
            return "trial.json is missing"
        if how == "newer schema":
            rewrite(folder / "trial.json", schema=2)
            return "trial.json has schema 2"
        assert how == "another's"
        rewrite(folder / "trial.json", identity="0" * 64)
        return "copied from another"

    @pytest.mark.parametrize(
        "how",
        ["truncated", "missing", "no record", "bad record", "empty", "newer schema", "another's"],
    )
    def test_sizes_tell(self, filled, how):
        reason = self.damage(filled, how)
        run = open_run(filled)
        state = survey(filled, run.identity_hash)
        assert state.finished == {0, 2}
        assert reason in state.damaged[1]
        with pytest.raises(ConfsimError, match=rf"trial 1 of .* is damaged: .*{reason}"):
            run.extremes()
        assert len(run.extremes(trials=[0, 2])) == 80

    def test_hashes_tell_a_flipped_bit(self, filled):
        for name in ("extremes.parquet", "joint.npz", "model.npz", "summary.json"):
            path = filled / "trials" / "000002" / name
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        run = open_run(filled)
        assert survey(filled, run.identity_hash).damaged == {}
        state = survey(filled, run.identity_hash, hashes=True)
        assert "does not have the hash" in state.damaged[2]
        for read in (run.extremes, run.joint, run.summary, run.trial(2).model):
            with pytest.raises(ConfsimError, match=r"trial 2 .* is damaged.*confsim-status"):
                read()


class TestRead:
    def test_pandas_alone_can_read_a_trial(self, filled):
        frame = pd.read_parquet(filled / "trials" / "000001" / "extremes.parquet")
        assert frame["is_member"].dtype == bool
        assert set(frame["side"]) == {"bottom", "top"}
        pd.testing.assert_frame_equal(frame, open_run(filled).trial(1).table("extremes"))

    def test_tables_follow_one_another(self, filled):
        run = open_run(filled)
        assert list(run.extremes()["trial"].drop_duplicates()) == [0, 1, 2]
        assert list(run.extremes(trials=[2, 0])["trial"].drop_duplicates()) == [2, 0]
        assert list(run.extremes(columns=["id", "trial"])) == ["id", "trial"]
        pieces = list(run.trial(1).batches("extremes", rows=7, columns=["id"]))
        assert max(map(len, pieces)) == 7
        assert list(pd.concat(pieces)["id"]) == list(run.extremes([1])["id"])

    def test_summaries_and_histograms(self, filled):
        run = open_run(filled)
        frame = run.summary()
        assert list(frame["trial"]) == [0, 1, 2]
        assert frame["angle"].isna().all()
        assert list(run.summary(columns=["n"])) == ["n"]
        stacked = run.joint(stacked=True)
        summed = run.joint()
        assert stacked["including_self"].shape == (3, 3, 2, 128, 128)
        assert summed["including_self"].dtype == np.uint64
        np.testing.assert_array_equal(stacked["including_self"].sum(0), summed["including_self"])
        assert summed["distance_edges"].shape == (129,)
        assert run.trial(0).model()["w"].shape == (2,)

    def test_a_column_that_is_not_there_is_no_damage(self, filled):
        run = open_run(filled)
        words = r"trial 0 of .*: extremes\.parquet has no column 'ID': did you mean 'id'\?; it has"
        with pytest.raises(ConfsimError, match=words) as error:
            run.extremes(columns=["ID"])
        assert "repair" not in str(error.value)
        with pytest.raises(ConfsimError, match=words):
            next(run.trial(0).batches("extremes", columns=["ID"]))
        with pytest.raises(ValueError, match=r"no column 'angel': did you mean 'angle'\?"):
            run.summary(columns=["n", "angel"])

    def test_a_trial_that_is_not_there(self, filled):
        with pytest.raises(ValueError, match=r"trial 7 of .* is not finished"):
            open_run(filled).extremes(trials=[7])
        with pytest.raises(ValueError, match="trial must be at least 0"):
            open_run(filled).trial(-1)

    def test_a_run_without_trials(self, tmp_path):
        run = open_run(make(tmp_path / "run").path)
        assert run.trials == []
        assert len(run.summary()) == 0
        with pytest.raises(ConfsimError, match="no finished trial"):
            run.extremes()
        with pytest.raises(ConfsimError, match="no finished trial"):
            run.joint()

    def test_it_can_be_moved_and_copied(self, filled, tmp_path):
        before = open_run(filled).extremes()
        moved = filled.rename(tmp_path / "moved")
        pd.testing.assert_frame_equal(open_run(moved).extremes(), before)
        assert survey(moved, open_run(moved).identity_hash).finished == {0, 1, 2}

    def test_the_public_name(self, filled):
        assert isinstance(confsim.open_run(str(filled)), confsim.Run)


@dataclass(frozen=True)
class NotPlain(Toy):
    extra: Any = None


def test_configurations_of_any_values_can_be_recorded(tmp_path):
    run = open_run(make(tmp_path / "run", NotPlain(extra=Path("/x"))).path)
    assert run.config["extra"] == "/x"


def test_a_notebook_shows_what_a_run_is_and_escapes_it(tmp_path):
    path = tmp_path / "<b>run"
    run = confsim.linear.run(n=5, queries=100, trials=2, out=path)
    shown = run._repr_html_()
    assert "2 of 2 finished" in shown
    assert "&lt;b&gt;run" in shown
    assert "<b>run" not in shown
    assert "confsim-linear" in shown
    assert "examples()" not in shown


def test_a_folder_is_made_while_others_remove_it(tmp_path):
    folder, stop = tmp_path / "shared", threading.Event()

    def remove():
        while not stop.is_set():
            with contextlib.suppress(OSError):
                folder.rmdir()

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        for number in range(300):
            files.make_nested(folder / f"{number}")
            (folder / f"{number}").rmdir()
    finally:
        stop.set()
        thread.join()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        files.make_folder(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        files.make_nested(tmp_path / "none" / "there" / "folder")


def test_a_header_without_end_is_damage():
    header = b"{'descr': '<f8', 'shape': (3, 0"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(files.Damaged, match="x is no array: "):
        files.read_npy(io.BytesIO(content), "x", len(content))
