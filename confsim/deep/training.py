"""Training one trial: epochs, early stopping, a checkpoint after each.

A trial is a pure function of its :class:`Plan`. Batches and augmentation are drawn afresh from the
epoch's own random stream, and a checkpoint holds everything else that training changes, so a trial
that is interrupted at any moment ends as if it had not been. Nothing here names a framework.
"""

import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.confidence import softmax_columns
from confsim.deep.design import augmentation, epoch_batches
from confsim.deep.engines import Engine, Sources, Standardisation, State
from confsim.experiment import Context, Interrupted
from confsim.seeds import Purpose, sequence, stream

EARLY_STOPPING = ("holdout", "nonmembers", "off")

#: A call into the framework lasts about so long, so that a stop request is soon seen.
CALL_SECONDS = 0.5

CHECKPOINT = "epoch.npz"


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
    """

    epochs: int
    batch_size: int
    patience: int = 10
    min_delta: float = 1e-3
    augment: str = "none"
    seed: int = 0


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
    """

    trial: int
    members: NDArray[np.int64]
    validation: NDArray[np.int64]
    validation_labels: NDArray[np.int64]
    standardisation: Standardisation


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
    """

    epochs: int
    best_epoch: int
    validation_loss: float


def weight_seed(seed: int, trial: int) -> int:
    """Return the seed of a trial's initial weights and dropout."""
    return int(sequence(seed, Purpose.WEIGHTS, trial).generate_state(1)[0])


def train(engine: Engine, schedule: Schedule, plan: Plan, context: Context) -> Trained:
    """Train the engine's model for one trial; afterwards it has the weights to be examined.

    Raises
    ------
    Interrupted
        If the context asks to stop; the next call goes on from the last finished epoch.
    """
    checkpoint = context.scratch(plan.trial) / CHECKPOINT
    stopping = EarlyStopping(schedule.patience, schedule.min_delta)
    engine.reset(weight_seed(schedule.seed, plan.trial))
    done, stopped = resume(checkpoint, engine, stopping), False
    watching = len(plan.validation) > 0
    while done < schedule.epochs and not stopped:
        _epoch(engine, schedule, plan, context, done)
        done += 1
        if watching:
            stopped = stopping.see(done, validation_loss(engine, plan), engine.weights)
        if done < schedule.epochs and not stopped:
            save_checkpoint(checkpoint, engine, stopping, done)
    if stopping.weights:
        engine.load(stopping.weights)
    return Trained(done, stopping.best_epoch or done, stopping.best if watching else float("nan"))


def epoch_sources(
    schedule: Schedule, shape: tuple[int, ...], trial: int, epoch: int, size: tuple[int, int]
) -> Sources | None:
    """Draw an epoch's augmentation, or ``None``."""
    if schedule.augment == "none":
        return None
    rng = stream(schedule.seed, Purpose.AUGMENT, trial, epoch)
    return augmentation(schedule.augment, shape, size, rng)


def _epoch(engine: Engine, schedule: Schedule, plan: Plan, context: Context, epoch: int) -> None:
    """Run one epoch in calls of about :data:`CALL_SECONDS`; how it is cut changes no number."""
    rows, weights = epoch_batches(
        plan.members, schedule.batch_size, schedule.seed, plan.trial, epoch
    )
    shape = engine.settings.recipe.input_shape
    sources = epoch_sources(schedule, shape, plan.trial, epoch, (rows.shape[0], rows.shape[1]))
    done = 0
    while done < len(rows):
        if context.should_stop():
            raise Interrupted
        stop = min(done + engine.steps_a_call, len(rows))
        started = time.perf_counter()
        engine.train(rows, weights, plan.standardisation, sources, done, stop)
        rate = (stop - done) / max(time.perf_counter() - started, 1e-6)
        engine.steps_a_call = max(1, int(rate * CALL_SECONDS))
        done = stop
        context.progress(plan.trial, 0.98 * (epoch + done / len(rows)) / schedule.epochs)


def validation_loss(engine: Engine, plan: Plan) -> float:
    """Return the mean loss of the validation images; NaN if the model has diverged."""
    logits, _ = engine.forward(plan.validation, plan.standardisation)
    return mean_loss(logits, plan.validation_labels)


def mean_loss(logits: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy in float64; NaN where a logit is not finite."""
    if not np.isfinite(logits).all():
        return float("nan")
    return float(np.mean(softmax_columns(logits, labels, n_threads=1)["loss"]))


# -- Checkpoints -----------------------------------------------------------------------------------


def save_checkpoint(path: Path, engine: Engine, stopping: EarlyStopping, done: int) -> None:
    """Replace the checkpoint: either the old or the new one is there at any moment."""
    record = np.array([done, stopping.best, stopping.best_epoch, stopping.waited], np.float64)
    best = {f"best/{name}": value for name, value in stopping.weights.items()}
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        np.savez(file, record=record, **engine.state(), **best)  # type: ignore[arg-type]
    fresh.replace(path)


def resume(path: Path, engine: Engine, stopping: EarlyStopping) -> int:
    """Load the checkpoint into engine and stopping; return the epochs done.

    One that is damaged (a power loss) counts for nothing.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            content = {name: archive[name] for name in archive.files}
        done, best, best_epoch, waited = content.pop("record").tolist()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return 0
    stopping.best, stopping.best_epoch, stopping.waited = best, int(best_epoch), int(waited)
    prefix = "best/"
    stopping.weights = {k[len(prefix) :]: v for k, v in content.items() if k.startswith(prefix)}
    engine.load({k: v for k, v in content.items() if not k.startswith(prefix)})
    return int(done)
