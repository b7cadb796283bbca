"""Making a run directory, and publishing trials into it by rename."""

import contextlib
import errno
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from confsim._errors import ConfsimError
from confsim._version import __version__
from confsim.experiment import Columns, Experiment, Interrupted, RunData, Table, TrialResult
from confsim.given_files import expanded
from confsim.store import artifacts, files, layout, packs
from confsim.store.capabilities import Capabilities
from confsim.store.layout import CannotWrite

#: Errors of making a directory that no other argument would mend.
_NO_FAULT_OF_THE_PATH = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

#: How often a manifest is written anew when others sweep it away.
_ATTEMPTS = 10

#: What ``--keep summary`` leaves out.
_ROWS = ("extremes",)


class TrialTaken(Exception):  # noqa: N818 - an outcome, no error
    """The temporary directory is gone: another process took this trial over."""


@dataclass(frozen=True)
class Store:
    """A run directory, as a process that writes into it sees it; small, and sent to workers.

    Attributes
    ----------
    path : Path
        The run directory.
    identity : str
        Hash of the run's identity; each trial's record carries it.
    owner : str
        Name of the command on whose behalf trials are written; part of temporary names, by which
        whoever comes later knows whether they are still being written.
    keep : {"all", "summary"}
        Whether the tables of rows are stored.
    """

    path: Path
    identity: str
    owner: str = "nobody"
    keep: str = "all"

    def has(self, trial: int) -> bool:
        """Whether a trial has been published."""
        return layout.is_published(self.path, trial)

    def publish(
        self,
        result: TrialResult,
        *,
        seconds: float = 0.0,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Write a trial and rename it into place; its scratch directory goes.

        Parameters
        ----------
        result : TrialResult
            Its tables may be iterators: they are streamed.
        seconds : float
            What the trial took so far; recorded.
        should_stop : callable
            Asked before each batch of a table.

        Returns
        -------
        bool
            False if the trial was there already; the newcomer is discarded.

        Raises
        ------
        CannotWrite
            If the directory is full, read-only or gone.
        TrialTaken
            If another process removed the unfinished trial, having taken it over.
        Interrupted
            If ``should_stop()`` turned true between two batches.
        """
        temporary = layout.temporary_path(self.path, result.trial, self.owner, os.getpid())
        try:
            published = self._write_and_rename(temporary, result, seconds, should_stop)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        shutil.rmtree(layout.scratch_path(self.path, result.trial), ignore_errors=True)
        return published

    def _write_and_rename(
        self,
        temporary: Path,
        result: TrialResult,
        seconds: float,
        should_stop: Callable[[], bool],
    ) -> bool:
        started = time.perf_counter()
        with self._explained(temporary, making=True):
            _make_empty(temporary)
        clock = _Clock(should_stop)
        files = {}
        for name, table in result.tables.items():
            batches = clock.batches(table)
            if self.keep == "summary" and name in _ROWS:
                for _ in batches:  # what finishes the result depends on having seen all of them
                    pass
            else:
                files[f"{name}.parquet"] = self._file(temporary, f"{name}.parquet", batches)
        result = result.finished()
        for name, arrays in result.arrays.items():
            files[f"{name}.npz"] = self._file(temporary, f"{name}.npz", arrays)
        files[layout.SUMMARY] = self._file(temporary, layout.SUMMARY, dict(result.summary))
        record = {
            "schema": layout.SCHEMA,
            "trial": result.trial,
            "identity": self.identity,
            "files": files,
            "versions": layout.versions(),
            "host": socket.gethostname(),
            "finished": _now(),
            "seconds": {
                "run": round(seconds + clock.seconds, 6),
                "store": round(time.perf_counter() - started - clock.seconds, 6),
            },
        }
        self._file(temporary, layout.TRIAL_RECORD, record)
        return self._rename(temporary, result.trial)

    def _rename(self, temporary: Path, trial: int) -> bool:
        try:
            if self.has(trial):
                raise FileExistsError
            with self._explained(temporary):
                temporary.rename(layout.trial_path(self.path, trial))
        except FileExistsError:
            shutil.rmtree(temporary, ignore_errors=True)
            return False
        return True

    def publish_run_data(self, data: RunData) -> None:
        """Write what all trials share; the record of its hashes comes last.

        Several commands may do this at once: each file is renamed into place, whole and the same.
        """
        temporary = layout.run_data_temporary_path(self.path, self.owner, os.getpid())
        try:
            with self._explained(temporary, making=True):
                _make_empty(temporary)
            files = {}
            for name, table in data.tables.items():
                batches = _Clock(lambda: False).batches(table)
                files[f"{name}.parquet"] = self._file(temporary, f"{name}.parquet", batches)
            for name, array in data.arrays.items():
                files[f"{name}.npy"] = self._file(temporary, f"{name}.npy", array)
            record = {"schema": layout.SCHEMA, "identity": self.identity, "files": files}
            self._file(temporary, layout.RUN_DATA, record)
            for name in [*files, layout.RUN_DATA]:
                with self._explained(temporary):
                    (temporary / name).replace(self.path / name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _file(self, folder: Path, name: str, content: Any) -> dict[str, Any]:
        """Write one file in the format that its name says; return its record."""
        from confsim.store import formats

        write: dict[str, Callable[[formats.HashedFile, Any], None]] = {
            ".parquet": formats.write_table,
            ".npz": formats.write_npz,
            ".npy": formats.write_npy,
            ".json": formats.write_summary if name == layout.SUMMARY else formats.write_sealed,
        }
        with self._explained(folder):
            file = formats.HashedFile(folder / name)
        try:
            with file:
                write[Path(name).suffix](file, content)
        except Exception:
            if file.error is None:
                raise  # whoever made the content is at fault
            with self._explained(folder):
                raise file.error from None
        return file.record()

    @contextlib.contextmanager
    def _explained(self, temporary: Path, *, making: bool = False) -> Iterator[None]:
        """Turn an ``OSError`` into what it means here."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY) and not making:
                raise FileExistsError(error.errno, error.strerror) from None
            gone = error.errno == errno.ENOENT and not making and not temporary.exists()
            if gone and temporary.parent.exists():
                raise TrialTaken from None
            raise CannotWrite(self.path, error) from error

    def discard(self, trial: int, pid: int) -> None:
        """Remove what worker ``pid`` of this command had written of a trial when it died."""
        temporary = layout.temporary_path(self.path, trial, self.owner, pid)
        shutil.rmtree(temporary, ignore_errors=True)

    def discard_run_data(self, pid: int) -> None:
        """Remove what worker ``pid`` of this command had written of what all trials share."""
        temporary = layout.run_data_temporary_path(self.path, self.owner, pid)
        shutil.rmtree(temporary, ignore_errors=True)

    def forget_failure(self, trial: int) -> None:
        """Remove the report of an earlier failure, if there is one."""
        with contextlib.suppress(OSError):
            layout.failure_path(self.path, trial).unlink()

    def report_failure(self, trial: int, cause: str, details: str) -> Path | None:
        """Write why a trial failed: the cause in the first line, then the traceback.

        Returns
        -------
        Path or None
            The report; ``None`` if it could not be written whole, and then there is none.
        """
        path = layout.failure_path(self.path, trial)
        fresh = path.with_name(f"{layout.TEMPORARY}{path.name}-{os.getpid()}")
        try:
            path.parent.mkdir(exist_ok=True)
            fresh.write_text(f"{cause}\n\n{details}", encoding="utf-8", errors="backslashreplace")
            fresh.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink()
            return None
        return path


def _make_empty(folder: Path) -> None:
    """Make a directory; one of an earlier attempt of this process is emptied."""
    try:
        folder.mkdir()
    except FileExistsError:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)


class _Clock:
    """Passes batches on, timing whoever makes them and asking whether to stop."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop
        self.seconds = 0.0

    def batches(self, table: Table) -> Iterator[Columns]:
        batches = iter([table]) if isinstance(table, Mapping) else iter(table)
        while True:
            if self._should_stop():
                raise Interrupted
            started = time.perf_counter()
            batch = next(batches, None)
            self.seconds += time.perf_counter() - started
            if batch is None:
                return
            yield batch


def check_target(
    path: Path, experiment: Experiment, *, overwrite: bool, mix_versions: bool
) -> None:
    """Check, changing nothing, that ``path`` can become or is a directory of this run.

    Raises
    ------
    ValueError
        If something else is there: a file, a directory that is no run, another run; or a new run
        would have settings that only older ones may have.
    """
    check_place(path)
    if not os.path.lexists(path):
        experiment.check_new()
        return
    if not os.path.lexists(path / layout.MANIFEST):
        strange = any(not entry.name.startswith(layout.TEMPORARY) for entry in path.iterdir())
        if strange and (overwrite or not _lost_its_manifest(path, experiment)):
            raise ValueError(f"--out {path} holds something else and no run; it is left alone")
        _try_writing(path, path)
        experiment.check_new()
        return
    if overwrite:
        layout.read_manifest(path)
        experiment.check_new()
    else:
        manifest = layout.read_manifest(path, copy=False)
        _check_identity(path, manifest, experiment)
        _check_versions(path, manifest, mix_versions)


def _lost_its_manifest(path: Path, experiment: Experiment) -> bool:
    """Whether a directory without a manifest holds trials of this very run, and no others."""
    identity = layout.identity_hash(experiment.identity())
    return bool(layout.survey(path, identity).finished) and not layout.strange_names(path)


def check_place(out: str | os.PathLike[str] | None) -> None:
    """Check that a run directory is or can be made at ``out``, whatever the run.

    For the beginning of a command: it needs no data and no model.

    Parameters
    ----------
    out : path-like or None
        Without it: where runs go by default.

    Raises
    ------
    ValueError
        If something else is there, or no directory can be made.
    CannotWrite
        If the disk is full.
    """
    path = layout.RUNS if out is None else expanded(out)
    try:
        if os.path.lexists(path):
            if not path.is_dir():
                raise ValueError(f"--out {path} is not a directory")
            return
        place = files.nearest(path)
    except OSError as error:
        raise ValueError(f"--out {path} cannot be written: {error.strerror}") from None
    if not place.is_dir():
        raise ValueError(f"--out {path} cannot be written: {place} is not a directory")
    _try_writing(path, place)


def _try_writing(path: Path, place: Path) -> None:
    """Check that a run directory at ``path`` can have files, which is asked of ``place``."""
    try:
        artifacts.try_writing(place)
    except OSError as error:
        if error.errno in _NO_FAULT_OF_THE_PATH:
            raise CannotWrite(path, error) from error
        raise ValueError(
            f"--out {path} cannot be written: nothing can be written to {place}: {error.strerror}"
        ) from None


def _check_identity(path: Path, manifest: dict[str, Any], experiment: Experiment) -> None:
    if manifest["command"] != experiment.command:
        raise ValueError(f"--out {path} holds a run of {manifest['command']}")
    there = manifest["identity"]
    here = json.loads(json.dumps(experiment.identity(), allow_nan=False))
    differing = [
        f"{key} is {there.get(key)!r} there and {here.get(key)!r} here"
        for key in dict.fromkeys([*there, *here])
        if there.get(key) != here.get(key) or (key in there) != (key in here)
    ]
    if differing:
        raise ValueError(
            f"--out {path} holds a run with another identity: {'; '.join(differing)}; "
            "choose another directory, or --overwrite"
        )


def _check_versions(path: Path, manifest: dict[str, Any], mix_versions: bool) -> None:
    version = manifest["versions"]["confsim"]
    if version != __version__ and not mix_versions:
        raise ValueError(
            f"--out {path} holds trials of confsim {version}, and this is {__version__}; "
            "--mix-versions adds to them all the same"
        )


def create(
    path: Path, experiment: Experiment, trials: int, *, overwrite: bool, owner: str, keep: str
) -> Store:
    """Make the run directory, or join the one that is there; :func:`check_target` came before.

    Several commands may do this at once: one manifest wins, and the others find it.

    Raises
    ------
    ValueError
        If it cannot be written; what was made on the way is removed again.
    """
    if trials > layout.MAX_TRIALS:
        raise ValueError(f"trials must be at most {layout.MAX_TRIALS:,}, not {trials:,}")
    identity = experiment.identity()
    there = (path / layout.MANIFEST).exists()
    if not there or overwrite:
        manifest = {
            "schema": layout.SCHEMA,
            "identity": identity,
            "identity_hash": layout.identity_hash(identity),
            "command": experiment.command,
            "configuration": _configuration(experiment),
            "seed": identity.get("seed"),
            "trials": trials,
            "versions": layout.versions(),
            "created": _now(),
        }
        stated = {"capabilities": dict(experiment.capabilities())}
        manifest["capabilities"] = asdict(Capabilities.of({**manifest, **stated}))
        if there:
            _replace_run(path, manifest)
        else:
            _make(path, manifest)
    manifest = layout.read_manifest(path, copy=False)
    _check_identity(path, manifest, experiment)
    artifacts.sweep(path)
    artifacts.sweep_beside(path)
    try:
        files.make_folder(path / layout.TRIALS)
        if trials > manifest["trials"]:
            _raise_trials(path, trials)
        _copy_manifest(path)
    except OSError as error:
        raise CannotWrite(path, error) from error
    return Store(path, layout.identity_hash(identity), owner, keep)


def _make(path: Path, manifest: dict[str, Any]) -> None:
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        _put_manifest(path, manifest, replace=False)
    except OSError as error:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        if error.errno in _NO_FAULT_OF_THE_PATH:
            raise CannotWrite(path, error) from error
        raise ValueError(f"--out {path} cannot be written: {error.strerror}") from None


def _put_manifest(path: Path, manifest: dict[str, Any], *, replace: bool) -> None:
    """Put a manifest in place, whole: over the one that is there, or only if there is none."""
    _put(path, layout.MANIFEST, files.seal(manifest), replace=replace)


def _copy_manifest(path: Path) -> None:
    """Have a copy of the manifest beside it."""
    content, copy = (path / layout.MANIFEST).read_bytes(), path / layout.MANIFEST_COPY
    if not files.is_file(copy) or copy.read_bytes() != content:
        _put(path, layout.MANIFEST_COPY, content, replace=True)


def _put(path: Path, name: str, content: bytes, *, replace: bool) -> None:
    target = path / name
    for _ in range(_ATTEMPTS):
        temporary = path / f"{layout.TEMPORARY}manifest-{secrets.token_hex(8)}"
        try:
            temporary.write_bytes(content)
            if replace:
                temporary.replace(target)
            else:
                _link(temporary, target)
            return
        except FileNotFoundError:
            if not path.exists():
                raise
            # A command that started at this instant took our temporary for a dead one's.
        finally:
            temporary.unlink(missing_ok=True)
    raise FileNotFoundError(errno.ENOENT, "temporary files vanish")


def _link(temporary: Path, target: Path) -> None:
    """Name a file ``target`` unless there is one: a link, unlike a rename, does not replace."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        pass
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        temporary.replace(target)


def _raise_trials(path: Path, trials: int) -> None:
    """Record that more trials are wanted.

    Two commands that raise the number at the same instant may leave the lower one: it tells
    ``confsim-status`` what is missing, and the next command mends it.
    """
    while (manifest := layout.read_manifest(path))["trials"] < trials:
        _put_manifest(path, {**manifest, "trials": trials}, replace=True)


def raise_schema(run: Path, schema: int) -> None:
    """Have a run's manifest, and its copy, state a schema that older versions refuse."""
    while (manifest := layout.read_manifest(run))["schema"] < schema:
        _put_manifest(run, {**manifest, "schema": schema}, replace=True)
        _copy_manifest(run)


def _replace_run(path: Path, manifest: dict[str, Any]) -> None:
    """Remove all of a run but who works in it, and begin another one in its place.

    There is a manifest at any moment, and what is removed is renamed first, so that an interrupted
    removal leaves whole trials only and can be repeated.
    """
    layout.read_manifest(path)
    try:
        for entry in path.iterdir():
            if entry.name in (layout.MANIFEST, layout.CLAIMS):
                continue
            if entry.is_dir() and not entry.is_symlink():
                aside = path / f"{layout.TEMPORARY}swept-{secrets.token_hex(8)}"
                entry.rename(aside)
                shutil.rmtree(aside)
            else:
                entry.unlink(missing_ok=True)
        _put_manifest(path, manifest, replace=True)
    except OSError as error:
        raise ConfsimError(f"--overwrite cannot remove {path}: {error.strerror}") from None


def discard_run(path: Path, folders: Iterable[Path]) -> None:
    """Remove a run in which no trial could begin, and the folders that were made for it."""
    with contextlib.suppress(OSError):
        (path / layout.TRIALS).rmdir()  # fails if there is a trial
        for entry in (layout.CLAIMS, layout.LOG):
            shutil.rmtree(path / entry, ignore_errors=True)
        (path / layout.MANIFEST_COPY).unlink(missing_ok=True)
        (path / layout.MANIFEST).unlink()
        for folder in folders:
            folder.rmdir()


def set_aside(run: Path, trial: int) -> Path:
    """Move a damaged trial out of the way; it becomes a missing one."""
    return _set_aside(run, layout.trial_path(run, trial))


def set_aside_pack(run: Path, name: str) -> Path:
    """Move a pack out of the way; trials that are in it alone become missing ones."""
    return _set_aside(run, run / packs.PACKS / name)


def set_aside_run_data(run: Path) -> Path:
    """Move the record of what all trials share out of the way; all of it is made again."""
    return _set_aside(run, run / layout.RUN_DATA)


def repair_manifest(run: Path) -> Path:
    """Move a damaged manifest out of the way, and put its copy back, if it has one."""
    aside = _set_aside(run, run / layout.MANIFEST)
    if layout.has_copy(run):
        try:
            _put(run, layout.MANIFEST, (run / layout.MANIFEST_COPY).read_bytes(), replace=True)
        except OSError as error:
            raise CannotWrite(run, error) from error
    return aside


def _set_aside(run: Path, path: Path) -> Path:
    target = run / layout.DAMAGED / f"{path.name}-{secrets.token_hex(4)}"
    files.check_folder(target.parent)
    try:
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    except OSError as error:
        raise CannotWrite(run, error) from error
    return target


def _configuration(experiment: Experiment) -> dict[str, Any]:
    """Return an experiment's fields as JSON values, for people and for running it again."""
    fields: dict[str, Any] = asdict(experiment) if is_dataclass(experiment) else {}
    text = json.dumps(fields, default=str)
    return dict(json.loads(text))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
