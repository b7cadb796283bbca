"""Running an experiment without worker processes, for trials that take little time or much memory.

Claims, sweeping, logs, signals and outcomes are those of every run (:mod:`confsim.runner.command`).
Trials run one after another in a thread, so that a stop signal is answered within the grace period
and the claims' heartbeat goes on while a compiled kernel is at work.
"""

import contextlib
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from confsim.experiment import Experiment, Interrupted, Session
from confsim.runner.claims import Claims
from confsim.runner.command import GRACE, Outcome, _Command, _refuse_live
from confsim.runner.signals import StopRequest
from confsim.runner.worker import _cause, _timed
from confsim.store import CannotWrite, check_target, create, default_path
from confsim.store.layout import scratch_path
from confsim.store.writer import TrialTaken

#: Seconds between two looks at the clock while a trial runs.
_TICK = 0.1


def run_inline(
    experiment: Experiment,
    *,
    trials: int,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    threads: int = 1,
) -> Outcome:
    """Run the trials that are missing in a run directory, in this process, printing nothing.

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
        If the directory is full or gone.
    """
    path = default_path(experiment) if out is None else Path(out)
    with StopRequest() as stop:
        check_target(path, experiment, overwrite=overwrite, mix_versions=False)
        experiment.check(trials)
        claims = Claims(path)
        if overwrite:
            _refuse_live(path, claims)
        store = create(
            path, experiment, trials, overwrite=overwrite, owner=claims.owner.name, keep="all"
        )
        return _InlineCommand(
            experiment,
            store,
            claims,
            stop,
            trials=trials,
            own=range(trials),
            steal=False,
            processors=threads,
            grace=GRACE,
            quiet=True,
            bar=False,
        ).run()


class _InlineCommand(_Command):
    """A command whose trials run in a thread of its own process."""

    def _work(self, left: int) -> None:
        context = _Context(self.store.path, self.stop)
        with contextlib.suppress(Interrupted):
            if self._has_run_data():
                self._wait_for(lambda: self.store.publish_run_data(self.experiment.run_data()))
            if self.stop or self.fatal is not None:
                return
            session = self._wait_for(lambda: self.experiment.open(self.processors))
            assert session is not None
            with contextlib.closing(session):
                self._run_trials(session, context)

    def _run_trials(self, session: Session, context: "_Context") -> None:
        while not self.stop and self.fatal is None:
            for trial in self.schedule.take(1):
                self._run_trial(session, trial, context)
            if not self.schedule:
                if not self.schedule.awaited:
                    return
                time.sleep(_TICK)
            self._tick()

    def _run_trial(self, session: Session, trial: int, context: "_Context") -> None:
        """Run a trial, publish it, and note what became of it."""

        def publish() -> None:
            for result, seconds in _timed(session.run([trial], context)):
                self.store.publish(result, seconds=seconds, should_stop=context.should_stop)

        try:
            self._wait_for(publish)
        except (Interrupted, TrialTaken):
            self.store.discard(trial, os.getpid())
            self.schedule.put_back([trial])
        except CannotWrite as error:
            self.fatal = self.fatal or error
        except Exception as error:
            details = "".join(traceback.format_exception(error))
            self._give_up_trial(trial, _cause(error), details)
        else:
            self.schedule.finish(trial)

    def _wait_for(self, work: Callable[[], "Session | None"]) -> Session | None:
        """Have a thread do something; return what it returns, or raise what it raises.

        Raises
        ------
        Interrupted
            If a stop signal came and the grace period, or another signal, has passed.
        """
        outcome: queue.SimpleQueue[tuple[Session | None, BaseException | None]]
        outcome = queue.SimpleQueue()

        def target() -> None:
            try:
                outcome.put((work(), None))
            except BaseException as error:
                outcome.put((None, error))

        # No thread of a kernel that cannot be interrupted keeps the process from ending.
        threading.Thread(target=target, daemon=True).start()
        deadline = None
        while True:
            try:
                result, error = outcome.get(timeout=_TICK)
            except queue.Empty:
                self.claims.beat()
                if self.stop:
                    deadline = deadline or time.monotonic() + self.grace
                    if time.monotonic() > deadline or len(self.stop.signals) > 1:
                        raise Interrupted from None
                continue
            if error is not None:
                raise error
            return result


class _Context:
    """What the session is offered; see :class:`confsim.experiment.Context`."""

    def __init__(self, run: Path, stop: StopRequest) -> None:
        self._run, self._stop = run, stop

    def progress(self, trial: int, fraction: float) -> None:
        """Show nothing."""

    def should_stop(self) -> bool:
        """Whether a stop signal came."""
        return bool(self._stop)

    def scratch(self, trial: int) -> Path:
        """Make a directory that stays until the trial is published, interruptions or not."""
        path = scratch_path(self._run, trial)
        path.mkdir(parents=True, exist_ok=True)
        return path
