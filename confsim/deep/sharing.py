"""How many trials share a GPU where nobody says: measured once, before a run begins.

Whether trials that advance together in one program are faster than one by one depends on the
network, the batch and the GPU. The number decides the last digits of trials, so a run that has
begun keeps its own.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from confsim.deep import backend as backends
from confsim.deep.engines import Epoch, Settings, Standardisation, open_engine
from confsim.deep.experiment import DeepExperiment
from confsim.store import MANIFEST, check_target, default_path

#: The numbers that are tried.
CANDIDATES = (1, 8, 32)

#: How many times as fast a larger number must be: it holds more memory and has more to lose when a
#: run is stopped.
_WORTH = 1.1

#: Seconds for all measurements; those that were made by then decide.
_LIMIT = 180.0

#: Seconds that a measurement aims for, and the fewest and the most steps that it takes.
_AIM = 0.5
_STEPS = 20, 200

_MEASURE = """\
from confsim.deep.sharing import measure
for number, seconds in measure(*given):
    print("step", number, seconds, flush=True)
"""


def settled(
    experiment: DeepExperiment,
    trials: int,
    out: Path | None,
    say: Callable[[str], None] | None = None,
) -> DeepExperiment:
    """Return the experiment with the number of trials that share a GPU.

    That of the run if it has begun; else 1, but for JAX on a GPU, where it is measured.

    Parameters
    ----------
    experiment : DeepExperiment
    trials : int
    out : path or None
        Where the run goes; ``None``: its default directory.
    say : callable, optional
        Told what was measured, in one line.

    Raises
    ------
    ValueError
        In a Slurm array whose run has not begun: its tasks could measure different numbers.
    """
    choices = [replace(experiment, trials_per_device=number) for number in CANDIDATES]
    for choice in choices:
        if _begun(out or default_path(choice), choice):
            return choice
    if experiment.backend != "jax" or not backends.gpus():
        return choices[0]
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        raise ValueError(
            "trials_per_device 'auto' is measured, and tasks of an array could measure different "
            f"numbers: give one, for instance {', '.join(map(str, CANDIDATES))}"
        )
    backends.check_installed(experiment.backend)
    numbers = [number for number in CANDIDATES if number <= max(1, trials)]
    settings = experiment.settings(experiment.load())
    found = measured(settings, experiment.batch_size, numbers, experiment.threads_per_trial)
    chosen = best(found)
    if say is not None:
        times = ", ".join(f"{1e6 * seconds:.0f} at {number}" for number, seconds in found.items())
        say(f"trials on each GPU: {chosen} (microseconds a step and trial: {times})")
    return replace(experiment, trials_per_device=chosen)


def _begun(path: Path, experiment: DeepExperiment) -> bool:
    if not (path / MANIFEST).exists():
        return False
    try:
        check_target(path, experiment, overwrite=False, mix_versions=True)
    except ValueError:
        return False
    return True


def best(found: dict[int, float]) -> int:
    """Return the number that is worth it, by the seconds of each; 1 if nothing was measured."""
    chosen = 1
    for number, seconds in sorted(found.items()):
        if seconds * _WORTH < found.get(chosen, seconds):
            chosen = number
    return chosen


def measured(
    settings: Settings, batch: int, numbers: Sequence[int], threads: int
) -> dict[int, float]:
    """Return the seconds of a step and trial by number, as far as they could be measured.

    In a process of its own, which may run out of memory or time; Keras stays out of this one.
    """
    given = settings, batch, tuple(numbers)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    try:
        output = backends.run_apart(
            _MEASURE, given, "jax", threads, timeout=_LIMIT, **streams
        ).stdout
    except subprocess.TimeoutExpired as ended:
        output = ended.stdout or b""
    lines = [line.split() for line in output.decode(errors="replace").splitlines()]
    return {int(words[1]): float(words[2]) for words in lines if words[:1] == ["step"]}


def measure(settings: Settings, batch: int, numbers: Sequence[int]) -> Iterator[tuple[int, float]]:
    """Yield each number with the seconds of a step and trial, on random images."""
    from confsim.deep.engines.jax import JaxEngine
    from confsim.deep.ensemble import Ensemble

    shape, classes = settings.architecture.input_shape, settings.architecture.classes
    rng, most = np.random.default_rng(0), _STEPS[1]
    images = rng.integers(0, 256, (4 * batch, *shape), dtype=np.uint8)
    labels = rng.integers(0, classes, len(images))
    epoch = Epoch(
        rng.integers(0, len(images), (most, batch), dtype=np.int32),
        np.ones((most, batch), np.float32),
        np.full(most, 1e-3, np.float32),
        np.zeros((most, batch, 5 if settings.cutout else 3), np.int32)
        if settings.augmented
        else None,
    )
    standardisation = Standardisation.of(images)
    engine = open_engine(settings, images, labels)
    assert isinstance(engine, JaxEngine)
    for number in numbers:
        take = engine.train if number == 1 else Ensemble(engine, number).rehearse
        yield number, _step_seconds(partial(take, epoch, standardisation, 0)) / number


def _step_seconds(take: Callable[[int], object]) -> float:
    """Return the seconds of a step by those of many without those of two: a call has its own."""
    take(2)  # compiles
    two, least, most = _seconds(take, 2), *_STEPS
    few = max((_seconds(take, least) - two) / (least - 2), 1e-6)
    steps = int(np.clip(_AIM / few, least, most))
    return max((_seconds(take, steps) - two) / (steps - 2), 1e-6)


def _seconds(take: Callable[[int], object], steps: int) -> float:
    """Return the lesser of two times."""
    times = []
    for _ in range(2):
        started = time.perf_counter()
        take(steps)
        times.append(time.perf_counter() - started)
    return min(times)
