"""What models say after each epoch of their training, kept in the trial's scratch directory.

Like the task's own checkpoints they survive interruptions there, until the trial is published with
the table ``traces``. Nothing here trains.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.experiment import Columns
from confsim.shadow.opened import Opened
from confsim.shadow.predictions import Predictions, Scored
from confsim.shadow.tasks import TaskError
from confsim.trial_tables import trial_column

#: Epochs are stored in 16 bits.
MOST_EPOCHS = 2**15 - 1

_FOLDER = "confsim-traces"


class Traces:
    """The log-odds of the true class after each epoch of one trial, from 1 without a gap.

    Parameters
    ----------
    opened : Opened
    scratch : callable
        Returns the trial's scratch directory.
    threads : int
    """

    def __init__(self, opened: Opened, scratch: Callable[[], Path], threads: int) -> None:
        self._opened, self._scratch, self._threads = opened, scratch, threads

    def record(self, epoch: Any, predict: Any) -> None:
        """Ask a model about all that are examined, and keep its answer.

        An epoch that is recorded again, by a training that went on from an earlier checkpoint,
        takes the place of what was there, and of all after it.

        Raises
        ------
        TaskError
            If epochs before this one are not there, or the model tells no log-odds.
        """
        number = self._checked(epoch)
        earlier = self._epochs()
        if number > len(earlier) + 1:
            raise self._lost(len(earlier) + 1)
        log_odds = self._ask(number, predict)
        for late in earlier[number - 1 :]:
            late.unlink()
        whole = self._path(number)
        whole.parent.mkdir(exist_ok=True)
        fresh = whole.with_suffix(".part")
        with fresh.open("wb") as file:
            np.save(file, log_odds, allow_pickle=False)
        fresh.replace(whole)

    def columns(self, trial: int) -> Iterator[Columns]:
        """Yield the rows of the table ``traces``, epoch by epoch; read at once.

        Raises
        ------
        TaskError
            If none was recorded, or one cannot be read.
        """
        ids = self._opened.population.ids[self._opened.queried]
        found = [self._read(number) for number in range(1, len(self._epochs()) + 1)]
        if not found:
            raise TaskError(
                f"traces: train() of {self._opened.task.name} never called "
                "context.trace(epoch, predict)"
            )
        return (
            {
                "trial": trial_column(trial, len(ids)),
                "id": ids,
                "epoch": np.full(len(ids), epoch, np.int16),
                "log_odds_true": log_odds,
            }
            for epoch, log_odds in enumerate(found, start=1)
        )

    def _checked(self, epoch: Any) -> int:
        try:
            number = int(epoch)
        except (TypeError, ValueError):
            number = 0
        if number != epoch or not 1 <= number <= MOST_EPOCHS:
            raise TaskError(
                f"context.trace(epoch, predict) in {self._opened.task.name}: epoch must be a whole "
                f"number from 1 to {MOST_EPOCHS}, not {epoch!r:.40}"
            )
        return number

    def _ask(self, epoch: int, predict: Any) -> NDArray[np.float32]:
        opened, name = self._opened, self._opened.task.name
        said = Predictions.ask(predict, opened.queried, name)
        if said.kind == "statistic":
            raise TaskError(
                f"traces are of log-odds of the true class, and predict() of {name} gives a "
                "statistic"
            )
        asked = replace(opened.population, labels=opened.population.labels[opened.queried])
        scored = Scored.of(said, asked, opened.experiment.votes, name, self._threads)
        found: NDArray[np.float32] = scored.scores["log_odds_true"].astype(np.float32)
        if not np.isfinite(found).all():
            raise TaskError(f"traces: log-odds after epoch {epoch} of {name} are too large")
        return found

    def _path(self, epoch: int) -> Path:
        return self._scratch() / _FOLDER / f"{epoch}.npy"

    def _epochs(self) -> list[Path]:
        """Return the files of epochs 1, 2, ... up to the first that is not there."""
        found: list[Path] = []
        while (path := self._path(len(found) + 1)).exists():
            found.append(path)
        return found

    def _read(self, epoch: int) -> NDArray[np.float32]:
        try:
            found = np.load(self._path(epoch), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            raise self._lost(epoch) from None
        if found.shape != self._opened.queried.shape or found.dtype != np.float32:
            raise self._lost(epoch)
        return np.asarray(found)

    def _lost(self, epoch: int) -> TaskError:
        """Empty the scratch directory, so that the trial begins anew, and say why."""
        for path in self._scratch().iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return TaskError(
            f"the trace of epoch {epoch} is missing: train() of {self._opened.task.name} must call "
            "context.trace(epoch, predict) after every epoch, from 1, and before it saves the "
            "epoch's checkpoint; the trial's checkpoints were removed"
        )
