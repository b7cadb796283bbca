"""Training one trial: epochs, early stopping, checkpoints.

A trial is a pure function of its :class:`Plan`. Batches and augmentation are drawn afresh from the
epoch's own random stream, and a checkpoint holds everything else that training changes, so a trial
that is interrupted at any moment ends as if it had not been. Nothing here names a framework.
"""

import hashlib
import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from confsim.confidence import softmax_columns
from confsim.deep.design import augmentation, epoch_batches
from confsim.deep.engines import Engine, Epoch, Sources, Standardisation, State
from confsim.deep.optimisation import learning_rates
from confsim.experiment import Context, Interrupted
from confsim.seeds import Purpose, sequence, stream
from confsim.store import artifacts
from confsim.store.files import Damaged, open_regular

EARLY_STOPPING = ("holdout", "nonmembers", "off")

#: A call into the framework lasts about so long, so that a stop request is soon seen.
CALL_SECONDS = 0.5

CHECKPOINT = "epoch.npz"

#: Saving checkpoints takes one part in so many of the time, at most.
_CHECKPOINT_PART = 20

_DIGEST_SIZE = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Schedule:
    """How training goes; the same for all trials of a run.

    Attributes
    ----------
    epochs, batch_size : int
    patience : int
        Epochs without improvement before training stops.
    min_delta : float
        Smallest decrease of the validation loss that is an improvement.
    augment : str
        One of :data:`confsim.deep.design.AUGMENTATIONS`.
    seed : int
    learning_rate : float
        Its largest value.
    schedule : str
        One of :data:`confsim.deep.optimisation.SCHEDULES`; set for all of ``epochs``, whether early
        stopping comes first or not.
    warmup : float
        Epochs of linear warm-up.
    cutout : bool
        Whether training images lose a square.
    """

    epochs: int
    batch_size: int
    patience: int = 10
    min_delta: float = 1e-3
    augment: str = "none"
    seed: int = 0
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup: float = 0.0
    cutout: bool = False

    def steps(self, members: int) -> int:
        """Return the steps of an epoch."""
        return -(-members // self.batch_size)

    def rates(self, epoch: int, steps: int) -> NDArray[np.float32]:
        """Return the learning rates of the ``steps`` steps of an epoch (from 0)."""
        total = self.epochs * steps
        warmup = round(self.warmup * steps)
        rates = learning_rates(self.schedule, self.learning_rate, warmup, total)
        return rates[epoch * steps : (epoch + 1) * steps]


@dataclass(frozen=True)
class Plan:
    """What one trial trains on.

    Attributes
    ----------
    trial : int
    members : ndarray of int64
        Rows of the training images.
    validation : ndarray of int64
        Rows that early stopping watches; empty: no early stopping.
    validation_labels : ndarray of int64
    standardisation : Standardisation
    traced : ndarray of int64
        Rows whose log-odds are recorded after each epoch; empty: none.
    traced_labels : ndarray of int64
    """

    trial: int
    members: NDArray[np.int64]
    validation: NDArray[np.int64]
    validation_labels: NDArray[np.int64]
    standardisation: Standardisation
    traced: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    traced_labels: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass
class EarlyStopping:
    """Watches a loss and keeps the best weights; does nothing if there is no loss to watch.

    Attributes
    ----------
    best, best_epoch
        The lowest loss so far (improvements below ``min_delta`` do not count), its epoch from 1.
    waited : int
        Epochs since.
    weights : State
        The model's variables then.
    """

    patience: int
    min_delta: float
    best: float = float("inf")
    best_epoch: int = 0
    waited: int = 0
    weights: State = field(default_factory=dict)

    def see(self, epoch: int, loss: float, weights: Callable[[], State]) -> bool:
        """Note the loss after ``epoch`` (from 1); return whether to stop. NaN is no improvement."""
        if loss < self.best - self.min_delta:
            self.best, self.best_epoch, self.waited = loss, epoch, 0
            self.weights = weights()
        else:
            self.waited += 1
        return self.waited >= self.patience


#: Of an epoch: the loss of its last batch, and of what is watched the mean loss and the accuracy.
Judged: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True)
class Trained:
    """How training ended.

    Attributes
    ----------
    epochs : int
        Epochs run.
    best_epoch : int
        The one whose weights were kept.
    validation_loss : float
        Of these weights; NaN without early stopping.
    traces : list of ndarray of float32, (traced rows,)
        Log-odds of the true class after each epoch that was run, the last ones included that early
        stopping gave up again.
    curve : list of tuple
        What :func:`judged` says after each epoch that was run.
    """

    epochs: int
    best_epoch: int
    validation_loss: float
    traces: list[NDArray[np.float32]] = field(default_factory=list, compare=False)
    curve: list[Judged] = field(default_factory=list, compare=False)


def weight_seed(seed: int, trial: int) -> int:
    """Return the seed of a trial's initial weights and dropout."""
    return int(sequence(seed, Purpose.WEIGHTS, trial).generate_state(1)[0])


def train(engine: Engine, schedule: Schedule, plan: Plan, context: Context) -> Trained:
    """Train the engine's model for one trial; afterwards it has the weights to be examined.

    Raises
    ------
    Interrupted
        If the context asks to stop; the next call goes on from there.
    OSError
        If a checkpoint cannot be written.
    """
    traces: list[NDArray[np.float32]] = []
    checkpoint = checkpoint_of(schedule, plan, context, traces)
    stopping = EarlyStopping(schedule.patience, schedule.min_delta)
    engine.reset(weight_seed(schedule.seed, plan.trial), plan.members, plan.standardisation)
    (done, step), stopped = checkpoint.resume(engine, stopping), False
    watching = len(plan.validation) > 0
    while done < schedule.epochs and not stopped:
        last = _epoch(engine, schedule, plan, context, checkpoint, stopping, (done, step))
        done, step = done + 1, 0
        if len(plan.traced):
            with engine.averaged():
                logits, _ = engine.forward(plan.traced, plan.standardisation)
            traces.append(trace(logits, plan.traced_labels))
        checkpoint.curve.append((last, *validated(engine, plan)) if watching else judged(last))
        if watching:
            stopped = stopping.see(done, checkpoint.curve[-1][1], engine.weights)
        if done < schedule.epochs and not stopped and checkpoint.due():
            checkpoint.save(engine, stopping, (done, 0))
    if stopping.weights:
        engine.load(stopping.weights)
    else:
        engine.take_averages()
    loss = stopping.best if watching else float("nan")
    return Trained(done, stopping.best_epoch or done, loss, traces, checkpoint.curve)


def epoch_of(schedule: Schedule, shape: tuple[int, ...], plan: Plan, number: int) -> Epoch:
    """Draw an epoch of a trial: the order of its members, its rates, its augmentation."""
    rows, weights = epoch_batches(
        plan.members, schedule.batch_size, schedule.seed, plan.trial, number
    )
    sources: Sources | None = None
    if schedule.augment != "none" or schedule.cutout:
        rng = stream(schedule.seed, Purpose.AUGMENT, plan.trial, number)
        size = rows.shape[0], rows.shape[1]
        sources = augmentation(schedule.augment, shape, size, rng, cutout=schedule.cutout)
    return Epoch(rows, weights, schedule.rates(number, len(rows)), sources)


def _epoch(
    engine: Engine,
    schedule: Schedule,
    plan: Plan,
    context: Context,
    checkpoint: "Checkpoint",
    stopping: EarlyStopping,
    position: tuple[int, int],
) -> float:
    """Finish an epoch in calls of about :data:`CALL_SECONDS`; how it is cut changes no number.

    Returns the loss of its last batch.
    """
    number, done = position
    loss, said = float("nan"), note(schedule, number, checkpoint.curve)
    epoch = epoch_of(schedule, engine.settings.architecture.input_shape, plan, number)
    while done < len(epoch):
        if context.should_stop():
            if (number, done) != (0, 0):
                checkpoint.save(engine, stopping, (number, done))
            raise Interrupted
        stop = min(done + engine.steps_a_call, len(epoch))
        started = time.perf_counter()
        loss = engine.train(epoch, plan.standardisation, done, stop)
        rate = (stop - done) / max(time.perf_counter() - started, 1e-6)
        engine.steps_a_call = max(1, int(rate * CALL_SECONDS))
        done = stop
        if done < len(epoch) and checkpoint.due():
            checkpoint.save(engine, stopping, (number, done))
        context.progress(plan.trial, 0.98 * (number + done / len(epoch)) / schedule.epochs, said)
    return loss


def note(schedule: Schedule, epoch: int, curve: Sequence[Judged]) -> str:
    """Say for people how far a trial is: its epoch (from 0), and the last one's loss and accuracy.

    Examples
    --------
    >>> from confsim.deep.training import Schedule, note
    >>> schedule = Schedule(30, 100, 10, 0.0, "none", 0)
    >>> note(schedule, 0, []), note(schedule, 12, [(0.2, 0.4123, 0.871)])
    ('epoch 1/30', 'epoch 13/30, loss 0.412, accuracy 0.871')
    """
    words = [f"epoch {epoch + 1}/{schedule.epochs}"]
    if curve:
        last, loss, accuracy = curve[-1]
        words.append(f"loss {last if math.isnan(loss) else loss:.3g}")
        if not math.isnan(accuracy):
            words.append(f"accuracy {accuracy:.3f}")
    return ", ".join(words)


def judged(
    last: float, logits: NDArray[Any] | None = None, labels: NDArray[np.int64] | None = None
) -> Judged:
    """Return what is known after an epoch.

    Parameters
    ----------
    last : float
        Loss of its last batch.
    logits, labels : ndarray, optional
        Of the validation images. Their mean cross-entropy and accuracy are NaN without them, and
        where a logit is not finite.
    """
    if logits is None or not np.isfinite(logits).all():
        return last, float("nan"), float("nan")
    columns = softmax_columns(logits, labels, n_threads=1)
    return last, float(np.mean(columns["loss"])), float(np.mean(columns["predicted"] == labels))


def validated(engine: Engine, plan: Plan) -> tuple[float, float]:
    """Return mean loss and accuracy of the validation images; NaN if the model has diverged."""
    with engine.averaged():
        logits, _ = engine.forward(plan.validation, plan.standardisation)
    return judged(float("nan"), logits, plan.validation_labels)[1:]


def trace(logits: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the log-odds of the true class in float32; NaN if the model has diverged."""
    if not np.isfinite(logits).all():
        return np.full(len(labels), np.nan, np.float32)
    log_odds: NDArray[np.float64] = softmax_columns(logits, labels, n_threads=1)["log_odds_true"]
    return log_odds.astype(np.float32)


# -- Checkpoints -----------------------------------------------------------------------------------


class Checkpoint:
    """A file that holds all of an unfinished trial: weights, optimiser, random state, best weights.

    It is an ``.npz`` archive, followed by the SHA-256 of ``belongs_to`` and of all its bytes: one
    of another trial, or of another schedule, counts for nothing.

    Parameters
    ----------
    path : Path
    belongs_to : bytes
        What tells the trial from all others.
    traces : list of ndarray
        The trial's traces so far, which are saved, and filled when it is resumed.

    Attributes
    ----------
    curve : list of tuple
        The trial's training curve so far, likewise.
    """

    def __init__(
        self, path: Path, belongs_to: bytes, traces: list[NDArray[np.float32]] | None = None
    ) -> None:
        self.path = path
        self.traces = [] if traces is None else traces
        self.curve: list[Judged] = []
        self._belongs_to = belongs_to
        self._saved = time.monotonic()
        self._cost = 0.0

    def due(self) -> bool:
        """Whether it is time for another one: the first at once, the others by what they cost."""
        return time.monotonic() - self._saved >= _CHECKPOINT_PART * self._cost

    def save(self, engine: Engine, stopping: EarlyStopping, position: tuple[int, int]) -> None:
        """Replace the file: either the old or the new one is there at any moment.

        Parameters
        ----------
        position : tuple of int
            Finished epochs, and finished steps of the next.

        Raises
        ------
        OSError
            If it cannot be written; nothing is left of it then, and the old one stays.
        """
        started = time.monotonic()
        record = [*position, stopping.best, stopping.best_epoch, stopping.waited]
        best = {f"best/{name}": value for name, value in stopping.weights.items()}
        if self.traces:
            best["traces"] = np.stack(self.traces)
        if self.curve:
            best["curve"] = np.array(self.curve)
        content = io.BytesIO()
        np.savez(content, record=np.array(record, np.float64), **engine.state(), **best)  # type: ignore[arg-type]
        fresh = self.path.with_name(artifacts.partial_name())
        try:
            with fresh.open("xb") as file:
                file.write(content.getbuffer())
                file.write(self._digest(content.getbuffer()))
            fresh.replace(self.path)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._saved = time.monotonic()
        self._cost = self._saved - started

    def resume(self, engine: Engine, stopping: EarlyStopping) -> tuple[int, int]:
        """Load the file into engine and stopping; return the position.

        One that is missing, damaged, another trial's or another engine's counts for nothing:
        training starts again. What a killed process was writing is removed.
        """
        artifacts.sweep(self.path.parent)
        content = self._verified()
        if content is None:
            return 0, 0
        record = content.pop("record").tolist()
        traces, curve = content.pop("traces", None), content.pop("curve", None)
        prefix = "best/"
        weights = {k[len(prefix) :]: v for k, v in content.items() if k.startswith(prefix)}
        state = {k: v for k, v in content.items() if not k.startswith(prefix)}
        if _shapes(state) != _shapes(engine.state()):
            return 0, 0
        stopping.best, stopping.best_epoch, stopping.waited = record[2], *map(int, record[3:])
        stopping.weights = weights
        self.traces[:] = [] if traces is None else list(traces)
        self.curve[:] = [] if curve is None else [(a, b, c) for a, b, c in curve.tolist()]
        engine.load(state)
        return int(record[0]), int(record[1])

    def _verified(self) -> State | None:
        """Return the arrays of the file if every byte is as it was written."""
        try:
            with open_regular(self.path) as file:
                content = file.read()
        except (OSError, Damaged):
            return None
        archive, digest = content[:-_DIGEST_SIZE], content[-_DIGEST_SIZE:]
        if self._digest(archive) != digest:
            return None
        with np.load(io.BytesIO(archive), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def _digest(self, archive: bytes | memoryview) -> bytes:
        digest = hashlib.sha256(self._belongs_to)
        digest.update(archive)
        return digest.digest()


def checkpoint_of(
    schedule: Schedule, plan: Plan, context: Context, traces: list[NDArray[np.float32]]
) -> Checkpoint:
    """Return the checkpoint of a trial, which is bound to its schedule, number and training set."""
    told = hashlib.sha256(f"{schedule} {plan.trial} with its curve".encode())
    for rows in (plan.members, plan.validation, plan.traced):
        told.update(hashlib.sha256(rows.tobytes()).digest())
    return Checkpoint(context.scratch(plan.trial) / CHECKPOINT, told.digest(), traces)


def _shapes(state: State) -> dict[str, tuple[Any, ...]]:
    return {name: (value.shape, value.dtype) for name, value in state.items()}
