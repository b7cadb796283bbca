"""The state of one command: its place in the run directory, its trials and its workers.

It makes or joins the run, finds what is missing, hands trials out, acts on what workers say, and
ends in good order. It knows neither the caller's arguments (:mod:`confsim.runner.command`) nor what
a trial does.
"""

import errno
import os
import pickle
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confsim._errors import ConfsimError, to_copy
from confsim.experiment import Experiment
from confsim.runner.claims import STALE_AFTER, Claims
from confsim.runner.overwriting import clear, wait_for_removal
from confsim.runner.pool import Pool, Worker
from confsim.runner.progress import Log, Progress
from confsim.runner.schedule import Schedule
from confsim.runner.signals import StopRequest
from confsim.runner.worker import check_same
from confsim.store import CannotWrite, Run, Store, create, open_run, survey
from confsim.store.layout import MANIFEST, RUN_DATA, trial_numbers

#: Seconds between two looks at trials in others' hands.
_LOOK_EVERY = 1.0

#: Seconds of waiting at most before beating, looking and showing progress again.
_TICK = 0.5

#: Workers that may die without a trial in hand before the run is given up.
_DEATHS_ALLOWED = 3

#: Seconds without a trial to run before it is said for whom a command waits.
_SAY_AFTER = 2.0


@dataclass(frozen=True)
class Outcome:
    """What a command achieved.

    Attributes
    ----------
    run : Run
        The run directory, for reading.
    done : tuple of int
        Finished trials of this command's shard, whoever finished them.
    failed : dict of int to str
        Trials that failed, or were found damaged, with the cause.
    missing : tuple of int
        Trials of this command's shard that are not finished and did not fail.
    interrupted : bool
        Whether a signal ended it.
    complete : bool
        Whether every trial of the run, of all shards, is finished: time for what needs them all.
    signalled : bool
        Whether a signal came, be it too late to stop a trial.
    """

    run: Run
    done: tuple[int, ...]
    failed: dict[int, str]
    missing: tuple[int, ...]
    interrupted: bool
    complete: bool
    signalled: bool = False

    @property
    def exit_code(self) -> int:
        """0 done, 1 failed, 75 interrupted or incomplete: the same command goes on."""
        if self.interrupted:
            return os.EX_TEMPFAIL
        if self.failed:
            return 1
        return os.EX_TEMPFAIL if self.missing else 0


class Supervisor:
    """The state of one command: its directory, its trials, its workers."""

    def __init__(
        self,
        experiment: Experiment,
        path: Path,
        *,
        trials: int,
        own: Sequence[int],
        steal: bool,
        processors: int,
        grace: float,
        keep: str,
        quiet: bool,
        bar: bool | None,
    ) -> None:
        self.experiment = experiment
        self.path = path
        self.claims = Claims(path, check=lambda: check_same(self.store))
        self.stop = StopRequest()
        self.trials = trials
        self.own = own
        self.steal = steal
        self.processors = processors
        self.grace = grace
        self.keep = keep
        self.quiet = quiet
        self.bar = bar
        self.fractions: dict[int, float] = {}
        self.fatal: ConfsimError | ImportError | None = None
        self.disturbed: set[int] = set()
        self.idle_deaths = 0
        self.alone = False
        self.short_of_memory = False
        self.idle_at: float | None = None
        self.looked = time.monotonic()

    def run(self, *, overwrite: bool) -> Outcome:
        """Run what is missing.

        Until the directory is this command's to work in, a stop signal does what it did before the
        call. From then on it lets trials in hand end.
        """
        own, others = self._enter(overwrite)
        self._report_damage()
        if not own and not others:
            return self._outcome({})
        with self.stop:
            self._open()
            try:
                self.schedule = Schedule(self.store, self.claims, own, others)
                self._work(len(own) + len(others))
            finally:
                self._close()
            if self.fatal is not None:
                raise self.fatal
            return self._outcome(self.schedule.failed)

    def _enter(self, overwrite: bool) -> tuple[list[int], list[int]]:
        """Make or join the run and make this command known in it; return what is missing.

        Another command may remove the run between the look and the own name plate: look again.
        """
        if overwrite and (self.path / MANIFEST).exists():
            clear(self.path, self.claims, self._create, self._note)
        while True:
            self.store = self._create(overwrite=False)
            before = _stamp(self.path)
            own, others = self._missing()
            if not own and not others:
                return own, others
            self._claim_place()
            if not wait_for_removal(self.path, self.claims, self._note) and (
                _stamp(self.path) == before
            ):
                return own, others

    def _create(self, *, overwrite: bool) -> Store:
        return create(
            self.path,
            self.experiment,
            self.trials,
            overwrite=overwrite,
            owner=self.claims.owner.name,
            keep=self.keep,
        )

    def _missing(self) -> tuple[list[int], list[int]]:
        """Sweep, and survey what is there; return the own trials that are not, and others'."""
        self.claims.sweep()
        state = survey(self.path, self.store.identity)
        self.damaged = {n: f"damaged: {why}" for n, why in state.damaged.items() if n < self.trials}
        self.finished = {n for n in state.finished if n < self.trials}
        gone = self.finished | self.damaged.keys()
        own = [n for n in self.own if n not in gone]
        mine = frozenset(self.own)
        others = [n for n in self._from_here() if n not in mine and n not in gone]
        return own, others if self.steal else []

    def _claim_place(self) -> None:
        try:
            self.claims.open()
        except CannotWrite as error:
            if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise ValueError(
                    f"--out {self.path} cannot be written: {os.strerror(error.errno)}"
                ) from None
            raise

    def _note(self, text: str) -> None:
        """Say what is going on before there is any progress."""
        if not self.quiet:
            print(f"{self.experiment.command}: {text}", file=sys.stderr, flush=True)

    def _from_here(self) -> list[int]:
        """All trials, beginning with the next shard's, so that thieves start at different ones."""
        start = (self.own[0] + 1) % self.trials if self.own else 0
        return [*range(start, self.trials), *range(start)]

    # Beginning and end

    def _open(self) -> None:
        self.log = Log(self.path, self.claims.owner.name)
        self.log.write("command: " + shlex.join(sys.argv))
        self.progress = Progress(
            self.experiment.command,
            self.trials,
            len(self.finished),
            quiet=self.quiet,
            bar=self.bar,
        )
        where = self.experiment.runs_on()
        if where and not self.quiet:
            self.progress.say(where)
        if self.finished and not self.quiet:
            self.progress.say(
                f"{len(self.finished)} of {self.trials} trials are in {self.path} already"
            )

    def _close(self) -> None:
        self.claims.sweep()
        self.claims.close()
        self.progress.close()
        self.log.write("end")
        self.log.close()

    def _report_damage(self) -> None:
        repair = to_copy("confsim-status", self.path, "--repair")
        for trial, why in self.damaged.items():
            print(
                f"{self.experiment.command}: trial {trial} of {self.path} is {why}; "
                f"{repair} sets it aside to be run again",
                file=sys.stderr,
            )

    def _outcome(self, failed: dict[int, str]) -> Outcome:
        published = set(trial_numbers(self.path))
        finished = self.finished | {n for n in range(self.trials) if n in published}
        finished -= self.damaged.keys()
        failed = {**self.damaged, **{n: why for n, why in failed.items() if n not in finished}}
        missing = tuple(n for n in self.own if n not in finished and n not in failed)
        complete = len(finished) == self.trials
        outcome = Outcome(
            run=open_run(self.path),
            done=tuple(n for n in self.own if n in finished),
            failed=dict(sorted(failed.items())),
            missing=missing,
            # A signal that came when there was nothing left to do has stopped nothing.
            interrupted=bool(self.stop) and (bool(missing) or (self.steal and not complete)),
            complete=complete,
            signalled=bool(self.stop),
        )
        if outcome.interrupted:
            print(
                f"{self.experiment.command}: stopped; {len(finished)} of {self.trials} trials are "
                f"done and kept in {self.path}; the same command goes on from there",
                file=sys.stderr,
                flush=True,
            )
        return outcome

    # Work

    def _work(self, left: int) -> None:
        devices = self.experiment.devices()
        processes = min(self.processors, left)
        if any(device is not None for device in devices):
            processes = min(processes, len(devices))
        at_once = max(1, min(self.experiment.trials_at_once(), -(-left // processes)))
        self.places = [devices[index % len(devices)] for index in range(processes)]
        self.pool = self._open_pool(processes)
        try:
            try:
                if self._has_run_data():
                    self._make_run_data()
                if not self.stop and self.fatal is None:
                    self._refill()
                    self._loop(at_once)
            except ConfsimError as error:  # trials in hand are stopped in good order all the same
                self.fatal = self.fatal or error
            self._wind_up()
        finally:
            self.pool.close()

    def _open_pool(self, processes: int) -> Pool:
        return Pool(
            pickle.dumps(self.experiment),
            {"store": self.store},
            self.log.file,
            threads=max(1, self.processors // processes),
        )

    def _has_run_data(self) -> bool:
        overridden = type(self.experiment).run_data is not Experiment.run_data
        return overridden and not (self.path / RUN_DATA).exists()

    def _make_run_data(self) -> None:
        """Have what all trials share written, by a process that then ends."""
        worker = self.pool.spawn(self.experiment.devices()[0], run_data=True)
        while worker in self.pool.workers and not self.stop:
            for _, message in self.pool.messages(_TICK, self.stop.wake):
                if message[0] == "died" and not worker.ready:
                    self._give_up(f"what all trials share could not be made: {message[1]}")
                elif message[0] != "died":
                    self._hear(worker, message)
            self._beat()
        self.pool.dismiss(worker)
        self.store.discard_run_data(worker.pid)

    def _loop(self, at_once: int) -> None:
        while not self.stop and self.fatal is None:
            waiting = not self._hand_out(at_once) and not self.schedule
            if waiting:
                self.schedule.idle()
                if not self.schedule and not self.schedule.awaited:
                    return
            for worker, message in self.pool.messages(_TICK, self.stop.wake):
                self._beat()  # after a suspension, before anything is made of what came of it
                self._hear(worker, message)
            self._tick(waiting=waiting)

    def _hand_out(self, at_once: int) -> bool:
        """Give idle workers something to do; return whether any has."""
        busy = any(worker.trials for worker in self.pool.workers)
        if self.alone and busy:
            return True
        if self.schedule.next_is_alone:
            return busy or self._hand_out_alone()
        self.alone = False
        self._refill()
        for worker in self.pool.workers:
            if worker.idle and self.schedule and not self.schedule.next_is_alone:
                trials = self.schedule.take(at_once)
                if trials:
                    worker.order(trials)
        return any(worker.trials for worker in self.pool.workers)

    def _hand_out_alone(self) -> bool:
        """Run a trial while there is no other worker, not even an idle one that needs memory."""
        if not self.pool.workers:
            self.pool.spawn(self.places[0])
        worker = next((worker for worker in self.pool.workers if worker.idle), None)
        trials = self.schedule.take(1) if worker is not None else []
        if worker is None or not trials:
            return False
        for other in tuple(self.pool.workers):
            if other is not worker:
                self.pool.dismiss(other)
        self.alone = True
        worker.order(trials)
        return True

    def _refill(self) -> None:
        """Start workers in the places that have none, as long as there is work for them."""
        lacking = Counter(self.places) - Counter(worker.device for worker in self.pool.workers)
        if self.schedule and not self.alone and not self.short_of_memory:
            for device in lacking.elements():
                self.pool.spawn(device)

    def _beat(self) -> None:
        """Show that this command lives; notice if others took it for dead."""
        if not self.claims.heartbeat():
            return
        self.disturbed.update(self._in_hand())
        self.progress.say(
            f"this command stood still for {STALE_AFTER:.0f} s or more, and others may have taken "
            "its trials over; it goes on with what is left"
        )

    def _in_hand(self) -> list[int]:
        """Return the trials that are being run."""
        return [trial for worker in self.pool.workers for trial in worker.trials]

    def _tick(self, *, waiting: bool = False) -> None:
        self._beat()
        now = time.monotonic()
        if now - self.looked >= _LOOK_EVERY:
            self.looked = now
            self.schedule.look_again()
        self._tell_waiting(now if waiting else None)
        done = len(self.finished) + len(self.schedule.done)
        self.progress.show(done + sum(self.fractions.values()))

    def _tell_waiting(self, now: float | None) -> None:
        """Say, once, for whom this command waits with nothing to run."""
        if now is None:
            self.idle_at, self.progress.waiting = None, False
            return
        self.idle_at = self.idle_at or now
        if now - self.idle_at >= _SAY_AFTER and not self.progress.waiting:
            self.progress.waiting = True
            keepers = ", ".join(self.schedule.keepers())
            if keepers and not self.quiet:
                self.progress.say(
                    f"no trial is free; waiting for {len(self.schedule.awaited)} in the hands of "
                    f"{keepers}, to be taken over after {STALE_AFTER:.0f} s without a sign of life"
                )

    def _hear(self, worker: Worker, message: tuple[Any, ...]) -> None:
        """Act on a worker's message."""
        kind, *details = message
        if kind == "progress":
            trial, fraction, note = details
            if trial in worker.trials:
                self.fractions[trial] = min(1.0, max(0.0, fraction))
                self.progress.note = f"trial {trial}: {note}" if note else ""
        elif kind == "ready":
            worker.ready = True
        elif kind == "done":
            self._settled(worker, details)
            self.schedule.finish(details[0])
            self.idle_deaths = 0
        elif kind == "undone":
            self._settled(worker, details[0])
            self.schedule.put_back(details[0])
        elif kind == "failed":
            self._failed(worker, *details)
        elif kind == "starved":
            self._starved(worker, *details)
        elif kind == "died":
            self._died(worker, details[0])
        elif kind == "cannot write":
            self.fatal = self.fatal or ConfsimError(details[0])
            self._settled(worker, details[1])
        elif kind == "missing":
            self.log.write(details[1])
            self.fatal = self.fatal or ImportError(
                f"no trial can run without a module that cannot be imported: {details[0]}"
            )
        elif kind == "broken":
            self.log.write(details[1])
            self._give_up(details[0])

    def _settled(self, worker: Worker, trials: Sequence[int]) -> None:
        self.short_of_memory = False
        for trial in trials:
            self.fractions.pop(trial, None)
            worker.trials.remove(trial)

    def _failed(self, worker: Worker, trials: list[int], cause: str, details: str) -> None:
        self._settled(worker, trials)
        if len(trials) > 1:  # which of them it was will show when each runs by itself
            self.schedule.put_back(trials, single=True)
            return
        if not trials:
            self.log.write(details)
        for trial in trials:
            if self._was_disturbed(trial):
                self.schedule.put_back([trial])
            else:
                self._give_up_trial(trial, cause, details)

    def _was_disturbed(self, trial: int) -> bool:
        """Whether others may have taken a trial over, and its files from under it: once, if so."""
        disturbed = trial in self.disturbed
        self.disturbed.discard(trial)
        return disturbed or not self.claims.holds(trial) or self.store.has(trial)

    def _starved(self, worker: Worker, trials: list[int], cause: str, details: str) -> None:
        self._settled(worker, trials)
        for trial in self.schedule.retry(trials):
            self._give_up_trial(trial, cause, details)

    def _give_up_trial(self, trial: int, cause: str, details: str) -> None:
        self.schedule.fail(trial, cause)
        report = self.store.report_failure(trial, cause, details)
        self.log.write(f"trial {trial} failed: {cause}")
        see = "" if report is None else f" (see {report})"
        self.progress.say(f"trial {trial} failed: {cause}{see}")

    def _died(self, worker: Worker, how: str) -> None:
        """Clean up after a worker that is gone, and have another do its work."""
        trials = list(worker.trials)
        self.log.write(f"worker {worker.pid} with trials {trials}: {how}")
        self._settled(worker, trials)
        for trial in trials:
            self.store.discard(trial, worker.pid)
        for trial in self.schedule.retry(trials):
            self._give_up_trial(trial, f"{how}, twice", "The log of the command may say more.\n")
        if trials:
            return
        if any(other.trials for other in self.pool.workers):
            # There may be no memory beside these: try again when one has ended.
            self.short_of_memory = True
            return
        self.idle_deaths += 1
        if self.idle_deaths >= _DEATHS_ALLOWED:
            self._give_up(f"{how}, before it had a trial")

    def _give_up(self, cause: str) -> None:
        self.fatal = self.fatal or ConfsimError(
            f"{cause} (see {self.path / 'log' / self.claims.owner.name}.log)"
        )

    # Stopping

    def _wind_up(self) -> None:
        """After a signal or a fatal error: let trials in hand end, within the grace period."""
        if not self.stop and self.fatal is None:
            return
        deadline = time.monotonic() + self.grace
        for worker in self.pool.workers:
            worker.order("stop")
        while any(worker.trials for worker in self.pool.workers):
            left = deadline - time.monotonic()
            if left <= 0 or len(self.stop.signals) > 1:
                break
            self.stop.drain()
            for worker, message in self.pool.messages(min(left, _TICK), self.stop.wake):
                self._hear(worker, message)
            self.claims.heartbeat()
        for worker in self.pool.workers:
            if worker.trials:
                worker.kill()
                for trial in worker.trials:
                    self.store.discard(trial, worker.pid)
        self.pool.workers = [worker for worker in self.pool.workers if not worker.trials]


def _stamp(path: Path) -> tuple[int, int]:
    """Return what changes when the run in a directory is replaced."""
    found = (path / MANIFEST).stat()
    return found.st_ino, found.st_mtime_ns
