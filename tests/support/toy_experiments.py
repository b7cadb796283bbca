"""Experiments that do next to nothing, for tests of the runner and the store."""

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from confsim.experiment import (
    Context,
    Estimate,
    Experiment,
    Interrupted,
    RunData,
    Session,
    TrialResult,
)
from confsim.store.files import read_sealed, seal, unseal
from confsim.store.packs import Packs


def contents(run: Path) -> dict[str, bytes]:
    """Every byte that must be the same however a run came about."""
    trials = run / "trials"
    own = {
        str(path.relative_to(trials)): path.read_bytes()
        for path in sorted(trials.rglob("*"))
        if path.is_file() and path.name != "trial.json"
    }
    return dict(sorted({**packed(run), **own}.items()))


def packed(run: Path) -> dict[str, bytes]:
    """The same of trials that lie in packs."""
    found = {}
    packs = Packs(run)
    for trial in packs.trials:
        place = packs.place(trial)
        record = unseal(place.record("trial.json"), "trial.json")
        for name, expected in record["files"].items():
            with place.open(name, expected, 1 << 30) as file:
                found[f"{trial:06d}/{name}"] = file.read()
    return found


def rewrite(path: Path, **changes: Any) -> None:
    """Change entries of a sealed JSON file, and seal it again, as its owner could."""
    path.write_bytes(seal({**read_sealed(path), **changes}))


def leftovers(run: Path) -> list[str]:
    """What no command may leave behind once a run is complete."""
    return [
        str(path.relative_to(run))
        for path in run.rglob("*")
        if path.name.startswith((".tmp-", ".scratch", "owner-", ".taken-", ".part-"))
        or path.parent.name == "claims"
        or path.name == "claims"
    ]


def result_of(trial: int, seed: int = 0, rows: int = 40) -> TrialResult:
    rng = np.random.default_rng([seed, trial])
    score = rng.standard_normal(rows)
    extremes = {
        "trial": np.full(rows, trial),
        "side": ["bottom"] * (rows // 2) + ["top"] * (rows - rows // 2),
        "id": rng.integers(0, 1000, rows),
        "is_member": rng.random(rows) < 0.5,
        "boundary": score,
        "distance": np.where(score > 1.5, np.nan, score),
    }
    counts = np.zeros((3, 2, 128, 128), np.uint8)
    counts.ravel()[rng.integers(0, counts.size, rows)] = 1
    edges = np.linspace(0, 1, 129)
    joint = {
        "including_self": counts,
        "excluding_self": counts[::-1],
        "confidence_edges": edges,
        "distance_edges": edges,
    }
    model = {"w": rng.standard_normal(2), "b": rng.standard_normal(1)}
    summary = {"mean": float(score.mean()), "angle": float("nan"), "status": "optimal", "n": rows}
    return TrialResult(trial, {"extremes": extremes}, {"joint": joint, "model": model}, summary)


def others_at_work() -> int:
    """Count the other workers of this worker's parent."""
    import psutil

    return len(psutil.Process(os.getppid()).children()) - 1


@dataclass(frozen=True)
class Toy(Experiment):
    """Misbehaves in trials that ``faults`` names, in the way it names.

    A fault is raise, kill (every time), die_once, hang (until told to stop), deaf (for ever), full
    (a disk that takes no more, as a library reports it), or, as where memory is short, crowded
    (killed) and cramped (MemoryError): while there is another worker.
    """

    command: ClassVar[str] = "confsim-toy"

    seed: int = 0
    seconds: float = 0.0
    faults: tuple[tuple[int, str], ...] = ()
    marks: str = ""
    together: int = 1
    broken: str = ""

    def identity(self) -> dict[str, Any]:
        return {"seed": self.seed, "rows": 40}

    def open(self, threads: int, device: str | None = None) -> Session:
        if self.broken == "open":
            raise RuntimeError("the data set is not to be had")
        if self.broken == "die" or (self.broken == "die beside others" and self._is_late()):
            os.kill(os.getpid(), signal.SIGKILL)
        return ToySession(self, threads, device)

    def _is_late(self) -> bool:
        """Whether a worker before this one is at work."""
        with contextlib.suppress(FileExistsError):
            Path(self.marks + ".first").touch(exist_ok=False)
            return False
        while not Path(self.marks).exists():
            time.sleep(0.01)
        return others_at_work() > 0

    def estimate(self) -> Estimate:
        return Estimate(self.seconds, 100_000, 1 << 20)

    def check(self, trials: int) -> None:
        if self.broken == "check":
            raise ValueError("seed leaves the query set in one class")

    def trials_at_once(self) -> int:
        return self.together


@dataclass(frozen=True)
class ToyWithData(Toy):
    """Has data that all trials share, and devices."""

    command: ClassVar[str] = "confsim-toy-with-data"

    #: Worker processes that share a device.
    shared: int = 1

    def run_data(self) -> RunData:
        if self.broken == "data":
            raise RuntimeError("the data set is not to be had")
        if self.broken == "slow data":
            time.sleep(60)
        ids = np.arange(10)
        population = {"id": ids, "label": ids % 2, "split": ["population"] * 10}
        return RunData({"population": population}, {"images": np.zeros((10, 2, 2), np.uint8)})

    def runs_on(self) -> str:
        return "two toy devices"

    def devices(self) -> Sequence[str | None]:
        return ("gpu:0", "gpu:1") * self.shared


@dataclass(frozen=True)
class ToyWithModule(Toy):
    """Needs a module that nobody has."""

    command: ClassVar[str] = "confsim-toy-with-module"
    modules: ClassVar[tuple[str, ...]] = ("json", "a_module_that_nobody_has")


class ToySession(Session):
    def __init__(self, toy: Toy, threads: int, device: str | None) -> None:
        self.toy = toy
        self.threads = threads
        self.device = device
        self.faults = dict(toy.faults)

    def run(self, trials: Sequence[int], context: Context) -> Iterator[TrialResult]:
        for trial in trials:
            self._mark(f"begin {trial} {len(trials)} {self.threads} {self.device}")
            self._misbehave(trial, context)
            self._work(trial, context)
            yield result_of(trial, self.toy.seed)

    def _work(self, trial: int, context: Context) -> None:
        """Advance in ten steps, each of which is kept in the scratch directory."""
        if not self.toy.seconds:
            return
        steps = context.scratch(trial) / "steps"
        done = len(steps.read_text()) if steps.exists() else 0
        self._mark(f"resume {trial} {done}")
        for step in range(done, 10):
            time.sleep(self.toy.seconds / 10)
            with steps.open("a") as file:
                file.write(".")
            context.progress(trial, (step + 1) / 10)
            if context.should_stop():
                raise Interrupted

    def _misbehave(self, trial: int, context: Context) -> None:
        fault = self.faults.get(trial)
        if fault == "raise":
            raise ValueError(f"trial {trial} has\nno luck")
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "die_once" and not self._marked(f"died {trial}"):
            self._mark(f"died {trial}")
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hang":
            while not context.should_stop():
                time.sleep(0.01)
            raise Interrupted
        if fault == "deaf":
            time.sleep(600)
        if fault == "full":
            try:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                raise ValueError("cannot close the archive") from None
        if fault == "crowded" and others_at_work():
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "cramped" and others_at_work():
            raise MemoryError("no room")

    def _mark(self, text: str) -> None:
        if self.toy.marks:
            with Path(self.toy.marks).open("a") as file:
                file.write(text + "\n")

    def _marked(self, text: str) -> bool:
        path = Path(self.toy.marks)
        return path.exists() and text in path.read_text().splitlines()


@dataclass(frozen=True)
class Streaming(Toy):
    """Yields one table as an endless iterator of batches, or a long one."""

    command: ClassVar[str] = "confsim-streaming"
    batches: int = 10
    rows: int = 1000
    fail_at: int = -1

    def identity(self) -> dict[str, Any]:
        return {"batches": self.batches, "rows": self.rows}

    def open(self, threads: int, device: str | None = None) -> Session:
        return StreamingSession(self)


class StreamingSession(Session):
    def __init__(self, toy: Streaming) -> None:
        self.toy = toy

    def run(self, trials: Sequence[int], context: Context) -> Iterator[TrialResult]:
        for trial in trials:
            summary: dict[str, Any] = {}
            batches = self._batches(trial, summary)
            yield TrialResult(
                trial, {"extremes": batches}, {}, {}, finish=lambda s=summary: ({}, s)
            )

    def _batches(self, trial: int, summary: dict[str, Any]) -> Iterator[dict[str, Any]]:
        rows = self.toy.rows
        for index in range(self.toy.batches):
            if index == self.toy.fail_at:
                raise OSError("the source of the rows dried up")
            yield {"trial": np.full(rows, trial), "boundary": np.arange(rows) + 0.5 * index}
            summary["batches"] = index + 1


class Scratch:
    """A context without a runner, in a folder; it can ask to stop at its n-th question."""

    def __init__(self, path: Path, stop_after: int | None = None) -> None:
        self.path, self.left = path, stop_after

    def progress(self, trial: int, fraction: float, note: str = "") -> None:
        assert 0 <= fraction <= 1

    def should_stop(self) -> bool:
        if self.left is not None:
            self.left -= 1
        return self.left is not None and self.left < 0

    def scratch(self, trial: int) -> Path:
        path = self.path / str(trial)
        path.mkdir(exist_ok=True)
        return path
