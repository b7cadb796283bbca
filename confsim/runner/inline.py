"""Running an experiment without worker processes, for trials that take little time or much memory.

The one worker is a thread of this process and does what worker processes do
(:mod:`confsim.runner.worker`); the command around it is that of every run
(:mod:`confsim.runner.supervisor`): claims, sweeping, log, signals, outcomes. That trials run in a
thread, not in the caller's, lets a stop signal be answered within the grace period and claims be
kept alive while a compiled kernel is at work.
"""

import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from confsim.experiment import Experiment
from confsim.given_files import expanded
from confsim.runner import plan
from confsim.runner.pool import Pool, Worker
from confsim.runner.supervisor import Outcome, Supervisor
from confsim.runner.worker import Job, Parent, do_job
from confsim.store import check_place, check_target, default_path

#: Seconds that a trial in hand gets after a stop signal: leaving the process takes time, too.
_GRACE = 1.0

#: Seconds after which a stop signal is noticed, at most.
_LATENCY = 0.1

#: Seconds the thread gets to close its session at the end.
_CLOSING = 1.0


def run_inline(
    experiment: Experiment,
    *,
    trials: int,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    threads: int = 1,
) -> Outcome:
    """Run the trials that are missing in a run directory, in this process.

    Nothing is printed but what went wrong, and how to resume.

    Parameters
    ----------
    experiment : Experiment
        Need not be picklable.
    trials : int
        Trials 0 to ``trials - 1``.
    out : path-like, optional
        The run directory; by default ``runs/COMMAND-HASH``, the hash being the identity's.
    overwrite : bool
        Remove the run that is there, and begin again.
    threads : int
        Threads for the compiled kernels.

    Returns
    -------
    Outcome
        Failed trials do not raise: they are listed.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad or does not fit what is in ``out``. No directory is left behind.
    ConfsimError
        If nothing can be run: the directory is full or gone, or the experiment cannot be opened.
    """
    trials = plan.check_trials(trials)
    check_place(out)
    path = default_path(experiment) if out is None else expanded(out)
    try:
        check_target(path, experiment, overwrite=overwrite, mix_versions=False)
    except OSError as error:
        raise ValueError(f"--out {path} cannot be written: {error.strerror}") from None
    experiment.check(trials)
    command = _InlineCommand(
        experiment,
        path,
        trials=trials,
        own=range(trials),
        steal=False,
        processors=1,
        grace=_GRACE,
        keep="all",
        quiet=True,
        bar=False,
    )
    command.threads = threads
    try:
        return command.run(overwrite=overwrite)
    finally:
        command.claims.close()


class _InlineCommand(Supervisor):
    """A command whose worker is a thread."""

    threads = 1

    def _open_pool(self, processes: int) -> Pool:
        job = {"store": self.store, "live": self.experiment}
        return _InlinePool(b"", job, self.log.file, self.threads)


@dataclass(frozen=True)
class _InlineJob(Job):
    """A job whose experiment is at hand."""

    live: Experiment | None = None

    def load(self) -> Experiment:
        assert self.live is not None
        return self.live


class _InlineWorker(Worker):
    """A worker that is a thread of this process; it cannot be killed, only left alone."""

    def __init__(self, job: Job, inbox: "queue.SimpleQueue[Any]") -> None:
        self.device = job.device
        self.ready = False
        self.trials = []
        self._parent = _Line(self, inbox)
        self._thread = threading.Thread(target=self._run, args=(job,), daemon=True)
        self._thread.start()

    def _run(self, job: Job) -> None:
        do_job(job, self._parent)
        self._parent.send("died", "its thread ended")

    @property
    def pid(self) -> int:
        """The number of this process."""
        return os.getpid()

    def order(self, order: Any) -> None:
        """Hand over trials to run, ``"stop"``, or ``None`` for the end."""
        if isinstance(order, list):
            self.trials = list(order)
        if order == "stop":
            self._parent.stopping.set()
        else:
            self._parent.orders.put(order)

    def kill(self) -> None:
        """Have it stop when it next asks, and listen to it no more."""
        self._parent.cut()
        self._parent.orders.put(None)

    def join(self) -> None:
        """Wait a moment for its end."""
        self._thread.join(_CLOSING)


class _Line(Parent):
    """What stands for the connection between a worker's thread and the command."""

    def __init__(self, worker: Worker, inbox: "queue.SimpleQueue[Any]") -> None:
        self._worker, self._inbox = worker, inbox
        self._cut = False
        self.orders = queue.SimpleQueue()
        self.stopping = threading.Event()

    def send(self, *message: Any) -> None:
        """Report to the command."""
        if not self._cut:
            self._inbox.put((self._worker, message))

    def cut(self) -> None:
        """Let nothing more through."""
        self._cut = True
        self.stopping.set()


@dataclass
class _InlinePool(Pool):
    """The threads of a command: one for what all trials share, then one for the trials."""

    inbox: "queue.SimpleQueue[Any]" = field(default_factory=queue.SimpleQueue)

    def spawn(self, device: str | None = None, *, run_data: bool = False) -> Worker:
        """Start one more worker."""
        job = _InlineJob(
            self.experiment,
            threads=self.threads,
            device=device,
            parent=os.getpid(),
            run_data=run_data,
            **self.job,
        )
        worker = _InlineWorker(job, self.inbox)
        self.workers.append(worker)
        return worker

    def messages(
        self, timeout: float, wake: Any = None
    ) -> Iterator[tuple[Worker, tuple[Any, ...]]]:
        """Wait, then yield (worker, message) of those that have something to say."""
        # A signal's handler runs during the wait, but does not end it.
        try:
            worker, message = self.inbox.get(timeout=min(timeout, _LATENCY))
        except queue.Empty:
            return
        if worker in self.workers:
            if message[0] == "died":
                self.workers.remove(worker)
            yield worker, message

    def close(self) -> None:
        """Let an idle worker close its session, and leave one that hangs."""
        for worker in self.workers:
            assert isinstance(worker, _InlineWorker)
            if worker.idle:
                worker.order(None)
                worker.join()
            worker.kill()
        self.workers.clear()
