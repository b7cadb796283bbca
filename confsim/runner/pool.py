"""Worker processes, seen from the parent: spawning them, talking to them, noticing their deaths.

Workers are fresh interpreters, never forks, and never import the caller's main module, so that a
script needs no ``if __name__ == "__main__"`` and a heavy one is not loaded once a worker.
"""

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from confsim._interpreter import python
from confsim._stopping import STOP_SIGNALS
from confsim.runner.claims import describe_signal
from confsim.runner.worker import Job

_BOOT = """\
import sys
from multiprocessing.connection import Connection
connection = Connection(int(sys.argv[1]))
sys.path[:] = connection.recv()
from confsim.runner.worker import main
main(connection)
"""

#: Seconds a worker gets to close its session at the end.
_CLOSING = 5.0


class Worker:
    """One worker process and what it has in hand.

    Attributes
    ----------
    ready : bool
        It has opened the experiment.
    trials : list of int
        What it was handed and has not reported.
    """

    def __init__(self, job: Job, log: int, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs, _blocked(STOP_SIGNALS):  # for all its life: the parent says when to stop
            self.process = subprocess.Popen(
                python(_BOOT, str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(environment),
                pass_fds=(theirs.fileno(),),
            )
        self.connection = Connection(ours.detach())
        self.device = job.device
        self.ready = False
        self.trials: list[int] = []
        with contextlib.suppress(OSError):  # it died: receive() will tell
            self.connection.send(sys.path)
            self.connection.send(job)

    @property
    def pid(self) -> int:
        """Its process, part of the names of what it writes."""
        return self.process.pid

    @property
    def idle(self) -> bool:
        """Whether it waits for trials."""
        return self.ready and not self.trials

    def order(self, order: Any) -> None:
        """Send trials to run, ``"stop"``, or ``None`` for the end."""
        if isinstance(order, list):
            self.trials = list(order)
        with contextlib.suppress(OSError):
            self.connection.send(order)

    def receive(self) -> tuple[Any, ...]:
        """Return its next message; ``("died", how)`` when there will be none."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            return ("died", self._how_it_died())
        return tuple(message)

    def _how_it_died(self) -> str:
        self.connection.close()
        try:
            code = self.process.wait(timeout=_CLOSING)
        except subprocess.TimeoutExpired:
            self.kill()
            return "the worker process stopped answering"
        if code >= 0:
            return f"the worker process exited with code {code}"
        how = f"the worker process was killed by {describe_signal(-code)}"
        if -code == signal.SIGKILL:
            how += "; if the system ran out of memory, fewer --workers need less"
        return how

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        self.connection.close()


@dataclass
class Pool:
    """The worker processes of a command."""

    experiment: bytes
    job: Mapping[str, Any]
    log: int
    threads: int
    workers: list[Worker] = field(default_factory=list)

    def spawn(self, device: str | None = None, *, run_data: bool = False) -> Worker:
        """Start one more worker."""
        job = Job(
            self.experiment,
            threads=self.threads,
            device=device,
            parent=os.getpid(),
            run_data=run_data,
            **self.job,
        )
        worker = Worker(job, self.log, _environment(self.threads))
        self.workers.append(worker)
        return worker

    def messages(
        self, timeout: float, wake: Any = None
    ) -> Iterator[tuple[Worker, tuple[Any, ...]]]:
        """Wait, then yield (worker, message) of those that have something to say."""
        by_connection = {worker.connection: worker for worker in self.workers}
        watched = [*by_connection, *([] if wake is None else [wake])]
        for ready in wait(watched, timeout):
            worker = by_connection.get(ready)  # type: ignore[call-overload]
            if worker is not None:
                message = worker.receive()
                if message[0] == "died":
                    self.workers.remove(worker)
                yield worker, message

    def dismiss(self, worker: Worker) -> None:
        """End a worker that has nothing in hand, if it still lives."""
        if worker in self.workers:
            self.workers.remove(worker)
            worker.kill()

    def close(self) -> None:
        """Let idle workers close their sessions, and end the others."""
        for worker in self.workers:
            worker.order(None) if worker.idle else worker.process.kill()
        deadline = time.monotonic() + _CLOSING
        for worker in self.workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            worker.kill()
        self.workers.clear()


def _environment(threads: int) -> dict[str, str]:
    """Environment of a worker: libraries that start threads of their own get no more than these.

    Linear algebra gets one thread, which also keeps the order of its sums the same everywhere.
    """
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


@contextlib.contextmanager
def _blocked(signals: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Block signals around a spawn: the child inherits the mask for good."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
