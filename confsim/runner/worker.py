"""A worker process: opens the experiment once, runs the trials it is handed, publishes them.

It reports to its parent over one connection, by small tuples; results go to the store and never
through the connection. It lives no longer than its parent: on Linux the kernel kills it when the
parent dies, and everywhere it exits when the connection closes. It ignores what a terminal or Slurm
sends to the whole group (the parent blocks those signals while it spawns): when to stop is the
parent's to say.
"""

import errno
import faulthandler
import os
import pickle
import queue
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from confsim._errors import ConfsimError
from confsim._stopping import die_with
from confsim.experiment import Experiment, Interrupted, RunData, Session, TrialResult
from confsim.store import CannotWrite, Store, files
from confsim.store.layout import read_manifest, scratch_path
from confsim.store.writer import TrialTaken

#: Seconds between two reports of a trial's progress.
_PROGRESS_EVERY = 0.1

#: What every trial needs in order to be stored.
_STORE_MODULES = ("confsim.store.formats", "pyarrow.parquet")

#: Errors of writing that are the disk's, whoever wrote.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@dataclass(frozen=True)
class Job:
    """What a worker is told at its start."""

    experiment: bytes
    store: Store
    threads: int
    device: str | None
    parent: int
    run_data: bool = False

    def load(self) -> Experiment:
        """Unpickle the experiment, which imports the pipeline's modules."""
        experiment: Experiment = pickle.loads(self.experiment)
        return experiment


class Parent:
    """The connection to the parent: sends from any thread, listens in one of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self.orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.stopping = threading.Event()

    def send(self, *message: Any) -> None:
        """Report to the parent; a parent that is gone ends this process."""
        try:
            with self._lock:
                self._connection.send(message)
        except OSError:
            os._exit(1)

    def listen(self) -> None:
        """Take orders until the parent is gone."""
        while True:
            try:
                order = self._connection.recv()
            except (EOFError, OSError):
                os._exit(1)
            if order == "stop":
                self.stopping.set()
            else:
                self.orders.put(order)


class AnotherRun(ConfsimError):  # noqa: N818 - reads as what it says
    """The directory holds another run than the one that this process works on."""


def check_same(store: Store) -> None:
    """Raise :class:`AnotherRun` if another run was begun in the directory of this one.

    As while this process was suspended, and its command taken for dead.
    """
    try:
        there = read_manifest(store.path).get("identity_hash")
    except (ValueError, ConfsimError):
        return  # whoever writes next tells what is wrong
    if there != store.identity:
        raise AnotherRun(f"{store.path} holds another run by now; nothing is added to it")


class WorkerContext:
    """What a session is offered; see :class:`confsim.experiment.Context`."""

    def __init__(self, parent: Parent, store: Store) -> None:
        self._parent = parent
        self._store = store
        self._reported = 0.0

    def progress(self, trial: int, fraction: float, note: str = "") -> None:
        """Tell the parent, a few times a second at most."""
        now = time.monotonic()
        if now - self._reported >= _PROGRESS_EVERY:
            self._reported = now
            self._parent.send("progress", trial, float(fraction), note)

    def should_stop(self) -> bool:
        """Whether the parent said so."""
        return self._parent.stopping.is_set()

    def scratch(self, trial: int) -> Path:
        """Make a directory that stays until the trial is published, interruptions or not."""
        check_same(self._store)
        path = scratch_path(self._store.path, trial)
        files.make_nested(path)  # a command that ends removes an empty parent
        return path


def main(connection: Connection) -> None:
    """Serve one parent until it says ``None`` or is gone."""
    job: Job = connection.recv()
    die_with(job.parent)
    faulthandler.enable()
    parent = Parent(connection)
    threading.Thread(target=parent.listen, daemon=True).start()
    do_job(job, parent)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # interpreters with large libraries take seconds to leave in good order


def do_job(job: Job, parent: Parent) -> None:
    """Write what all trials share, or run trials as they are ordered; tell the parent how it went.

    Raises nothing.
    """
    try:
        experiment = job.load()
        for module in (*_STORE_MODULES, *experiment.modules):
            import_module(module)
        if job.run_data:
            _publish_run_data(experiment.run_data(), job.store)
            parent.send("ready")
        else:
            _serve(experiment.open(job.threads, job.device), job, parent)
    except ImportError as error:
        parent.send("missing", _cause(error), traceback.format_exc())
    except CannotWrite as error:
        parent.send("cannot write", str(error), [])
    except BaseException as error:  # an experiment's own exit is a failure, too
        full = _full_disk(error, job.store)
        if full is not None:
            parent.send("cannot write", str(full), [])
        else:
            parent.send("broken", _cause(error), traceback.format_exc())


def _publish_run_data(data: RunData, store: Store) -> None:
    """Write what all trials share, again if somebody took this command for dead meanwhile."""
    while True:
        try:
            return store.publish_run_data(data)
        except TrialTaken:
            continue


def _serve(session: Session, job: Job, parent: Parent) -> None:
    parent.send("ready")
    context = WorkerContext(parent, job.store)
    while (trials := parent.orders.get()) is not None:
        _run_trials(session, trials, context, job.store, parent)
        parent.send("idle")
    session.close()


def _run_trials(
    session: Session, trials: list[int], context: WorkerContext, store: Store, parent: Parent
) -> None:
    """Run trials and report each: done, failed, or left undone."""
    left = set(trials)
    try:
        for result, seconds in _timed(session.run(trials, context)):
            if result.trial not in left:
                raise RuntimeError(
                    f"the session yielded trial {result.trial}, which nobody asked for"
                )
            left.remove(result.trial)
            _publish(result, seconds, context, store, parent)
        if left:
            raise RuntimeError(f"the session yielded no result for trials {sorted(left)}")
    except Interrupted:
        parent.send("undone", sorted(left))
    except Exception as error:
        _report(error, sorted(left), store, parent)


def _publish(
    result: TrialResult, seconds: float, context: WorkerContext, store: Store, parent: Parent
) -> None:
    """Publish a result; a failure in its tables is this trial's alone."""
    try:
        check_same(store)
        store.publish(result, seconds=seconds, should_stop=context.should_stop)
    except (Interrupted, TrialTaken):
        parent.send("undone", [result.trial])
    except Exception as error:
        _report(error, [result.trial], store, parent)
    else:
        parent.send("done", result.trial)


def _report(error: Exception, trials: list[int], store: Store, parent: Parent) -> None:
    """Tell the parent why trials are not done, and whether disk or memory are at fault."""
    full = error if isinstance(error, AnotherRun) else _full_disk(error, store)
    if full is not None:
        parent.send("cannot write", str(full), trials)
        return
    kind = "starved" if isinstance(error, MemoryError) else "failed"
    parent.send(kind, trials, _cause(error), traceback.format_exc())


def _full_disk(error: BaseException, store: Store) -> CannotWrite | None:
    """Return what an error means if a disk that takes no more is behind it, else ``None``.

    Libraries replace exceptions on the way up; the chain keeps the first.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, CannotWrite):
            return seen
        if isinstance(seen, OSError) and seen.errno in _DISK_ERRORS:
            return CannotWrite(Path(os.fsdecode(seen.filename or store.path)), seen)
        seen = seen.__cause__ or seen.__context__
    return None


def _timed(results: Iterator[TrialResult]) -> Iterator[tuple[TrialResult, float]]:
    started = time.perf_counter()
    for result in results:
        yield result, time.perf_counter() - started
        started = time.perf_counter()


def _cause(error: BaseException) -> str:
    """One line that says what went wrong."""
    text = " ".join(str(error).split())
    if isinstance(error, ConfsimError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
