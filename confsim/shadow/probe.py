"""Looking a task over in a process of its own, before anything is written.

The command's own process never imports the user's code: it would set up frameworks, threads and
devices there. A probe answers with one pickled value, and is killed when the command is stopped.
"""

import gc
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from confsim._errors import ConfsimError
from confsim._interpreter import python
from confsim._stopping import die_with
from confsim.runner.claims import describe_signal
from confsim.seeds import Purpose, stream
from confsim.shadow.estimators import EstimatorSource
from confsim.shadow.experiment import Facts, ShadowExperiment, TaskContext, traces_of, train
from confsim.shadow.opened import Opened, prepare
from confsim.shadow.predictions import Predictions, Scored, check_labels
from confsim.shadow.tasks import TaskError, framework_versions

_BOOT = """\
import pickle, sys
with open(sys.argv[1], "rb") as file:
    sys.path[:] = pickle.load(file)
    from confsim.shadow.probe import answer
    answer(file, sys.argv[1] + ".answer")
"""

#: Examples that ``--check`` trains on and asks about at most.
FEW = 256


@dataclass(frozen=True)
class Tried:
    """What running trial 0 showed.

    Attributes
    ----------
    members, asked : int
        Rows that were trained on, and that the model was asked about.
    said : str
        What ``predict`` gave, with its shape.
    seconds : float
        Of training and predicting, once.
    bytes_of_memory : int
        The most that the process had.
    repeatable : bool
        Whether a second run with the same seed gave the same numbers.
    """

    members: int
    asked: int
    said: str
    seconds: float
    bytes_of_memory: int
    repeatable: bool


def look_over(experiment: ShadowExperiment, *, fresh: bool = False) -> Facts:
    """Import the task, ask for its population, and check both.

    Parameters
    ----------
    experiment : ShadowExperiment
    fresh : bool
        Whether nothing was trained yet. A population without labels then has a model trained on few
        rows: what ``predict`` returns must need none.

    Raises
    ------
    ValueError, TypeError, ImportError
        If something is wrong with them; what the user's code raises is a ``ValueError`` here.
    """
    found = _ask("look_over", experiment, fresh)
    assert isinstance(found, Facts)
    return found


def try_out(experiment: ShadowExperiment, *, whole: bool) -> Tried:
    """Run trial 0 twice, on few rows or on all of them."""
    found = _ask("try_out", experiment, whole)
    assert isinstance(found, Tried)
    return found


def _ask(what: str, *given: Any) -> Any:
    """Have a fresh process do something, and return or raise what comes of it."""
    with tempfile.TemporaryDirectory(prefix="confsim-") as folder:
        order, log = Path(folder) / "order", Path(folder) / "log"
        with order.open("wb") as file:
            pickle.dump(sys.path, file)
            pickle.dump((os.getpid(), what, folder, given), file)
        with log.open("wb") as file:
            process = subprocess.Popen(
                python(_BOOT, os.fspath(order)),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # Ctrl-C is for the command, which ends this
            )
        try:
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        try:
            kind, value = pickle.loads(order.with_suffix(".answer").read_bytes())
        except (OSError, EOFError, pickle.UnpicklingError):
            raise ConfsimError(_how_it_ended(code, log)) from None
    if kind == "found":
        return value
    name, message, details = value
    kinds: dict[str, type[Exception]] = {
        "ImportError": ImportError,
        "TypeError": TypeError,
        "ConfsimError": ConfsimError,
    }
    raise kinds.get(name, ValueError)(message) from ConfsimError(details)


def _how_it_ended(code: int, log: Path) -> str:
    how = f"was killed by {describe_signal(-code)}" if code < 0 else f"exited with code {code}"
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    last = f": {' '.join(lines[-1].split())}" if lines else ""
    return f"the process that looked the task over {how}{last}"


# ---- in that process ---------------------------------------------------------------------------


def answer(order: Any, path: str) -> None:
    """Do what a command asks, and leave the answer in a file. Raises nothing."""
    parent, what, folder, given = pickle.load(order)
    die_with(parent)
    process = os.getpid()
    try:
        look: Any = _look_over if what == "look_over" else _try_out
        found = look(folder, *given)
        said: tuple[str, Any] = ("found", found)
    except BaseException as error:
        said = ("failed", (_kind(error), _message(error), traceback.format_exc()))
    if os.getpid() == process:
        fresh = Path(path + ".part")
        fresh.write_bytes(pickle.dumps(said))
        fresh.replace(path)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _kind(error: BaseException) -> str:
    if isinstance(error, TaskError):
        missing = error.__cause__
        return "ImportError" if isinstance(missing, ModuleNotFoundError) else "ValueError"
    for kind in (ImportError, TypeError, ConfsimError):
        if isinstance(error, kind):
            return kind.__name__
    return "ValueError"


def _message(error: BaseException) -> str:
    if isinstance(error, (ValueError, TypeError, ConfsimError, ImportError)) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _look_over(folder: str, experiment: ShadowExperiment, fresh: bool) -> Facts:
    prepare(experiment.threads_per_trial, None)
    opened = Opened(experiment)
    opened.check()
    data = opened.population
    facts = Facts(
        data.fingerprint,
        len(data),
        len(opened.held),
        len(data.names),
        0 if data.features is None else data.features.shape[1],
        framework_versions(experiment.source.imports()),
        _memory(),
        opened.target_members,
    )
    # An estimator's own predict is ours, and a regressor's gives a statistic.
    if fresh and not data.labelled and not isinstance(experiment.source, EstimatorSource):
        _check_without_labels(folder, opened)
    return facts


def _check_without_labels(folder: str, opened: Opened) -> None:
    """Refuse a model that needs labels before one is trained for long.

    A training may fail on so few rows and succeed on all: that is no reason to refuse it.
    """
    experiment, name = opened.experiment, opened.task.name
    rows = _few(opened.draw(0), opened, stream(experiment.seed, Purpose.CHECK))
    context = TaskContext(_Nobody(Path(folder)), 0, "cpu", experiment.threads_per_trial)
    try:
        said = Predictions.ask(train(opened, 0, rows, context), rows, name)
    except (ConfsimError, MemoryError):
        return
    check_labels(said, opened.population, name)


def _try_out(folder: str, experiment: ShadowExperiment, whole: bool) -> Tried:
    device = experiment.devices()[0]
    name = prepare(experiment.threads_per_trial, device)
    opened = Opened(experiment, experiment.facts.target_members)
    members = opened.draw(0)
    rows = np.arange(len(opened.population), dtype=np.int64)
    if not whole:
        rng = stream(experiment.seed, Purpose.CHECK)
        members = _few(members, opened, rng)
        others = np.setdiff1d(rows, members, assume_unique=True)
        rows = np.sort(np.concatenate([members, rng.permutation(others)[: len(members)]]))
    runs = []
    for turn in range(2):
        started = time.perf_counter()
        runner = _Nobody(Path(folder) / str(turn))
        recorder = traces_of(opened, 0, runner, experiment.threads_per_trial)
        context = TaskContext(runner, 0, name, experiment.threads_per_trial, recorder)
        predict = train(opened, 0, members, context)
        if recorder is not None:
            recorder.columns(0)  # says where they are missing
        said = Predictions.ask(predict, rows, experiment.task)
        seconds = time.perf_counter() - started
        if turn == 0:
            _check_order(predict, rows, said, experiment.task)
        runs.append((said, seconds))
        del predict
        gc.collect()
    first, second = (said for said, _ in runs)
    asked = replace(opened.population, labels=opened.population.labels[rows])
    Scored.of(first, asked, experiment.votes, experiment.task, 1)
    return Tried(
        len(members),
        len(rows),
        _shape(first),
        min(seconds for _, seconds in runs),
        _memory(),
        _same(first, second),
    )


def _shape(said: Predictions) -> str:
    """Say what a model gave for each row."""
    views, *inner = said.values.shape[1:]
    parts = [f"{views} views"] if views > 1 else []
    parts += [f"{inner[0]} classes"] if inner else []
    parts += [f"{said.features.shape[1]} features"] if said.features is not None else []
    return f"{said.kind} ({', '.join(parts)})" if parts else said.kind


def _few(members: Any, opened: Opened, rng: np.random.Generator) -> Any:
    """Choose a few members, of each class at least one."""
    shuffled = rng.permutation(members)
    _, first = np.unique(opened.population.strata[shuffled], return_index=True)
    return np.unique(np.concatenate([shuffled[first], shuffled[: FEW // 2]]))


def _check_order(predict: Any, rows: Any, said: Predictions, name: str) -> None:
    """Ask a few rows in another order: the answers must follow."""
    some = rows[: min(len(rows), 64)][::-1].copy()  # PyTorch takes no array that runs backwards
    turned = Predictions.ask(predict, some, name)
    expected, found = said.values[: len(some)][::-1], turned.values
    close = found.shape == expected.shape and np.allclose(found, expected, rtol=1e-3, atol=1e-4)
    if not close:
        raise TaskError(
            f"predict() of {name} gives rows other numbers when they come in another order: row "
            "k of what it returns must belong to rows[k], and not depend on the others"
        )


def _same(first: Predictions, second: Predictions) -> bool:
    if first.kind != second.kind or not np.array_equal(first.values, second.values):
        return False
    if first.features is None or second.features is None:
        return first.features is second.features
    return np.array_equal(first.features, second.features)


def _memory() -> int:
    """Return the most memory that this process had, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most) * (1 if sys.platform == "darwin" else 1024)


class _Nobody:
    """A runner that is not there: no progress, no stop, a scratch directory that goes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def progress(self, trial: int, fraction: float, note: str = "") -> None:
        """Do nothing."""

    def should_stop(self) -> bool:
        """Never."""
        return False

    def scratch(self, trial: int) -> Path:
        """Return a temporary directory."""
        self._folder.mkdir(exist_ok=True)
        return self._folder
