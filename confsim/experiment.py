"""The one seam between the runner and what is run.

An :class:`Experiment` is a small frozen picklable configuration. A worker process opens it once
into a :class:`Session` (data loaded, models compiled) and hands it trial numbers; the session
yields a :class:`TrialResult` for each, which the worker publishes through the store. What a result
holds depends on the configuration and the trial's number alone.

The runner knows no models. Experiments know no files, processes or progress bars.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np


@dataclass(frozen=True)
class Coded:
    """A column of few different strings: ``names[codes[i]]``."""

    codes: "np.ndarray[Any, Any]"
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)


#: A part of a table: equally long columns by name.
Columns: TypeAlias = Mapping[str, "np.ndarray[Any, Any] | Coded | list[str]"]

#: A table: its columns, or an iterator of batches that share names and dtypes (at least one batch).
Table: TypeAlias = "Columns | Iterable[Columns]"

#: What a summary may hold. NaN is stored as null.
Scalar: TypeAlias = "bool | int | float | str | None"

#: Arrays by file and name, and summary entries, that complete a result.
Finish: TypeAlias = (
    'tuple[Mapping[str, Mapping[str, "np.ndarray[Any, Any]"]], Mapping[str, Scalar]]'
)


@dataclass(frozen=True)
class TrialResult:
    """What one trial found.

    Attributes
    ----------
    trial : int
        Its number, from 0.
    tables : mapping of str to Table
        Stored as ``NAME.parquet`` each.
    arrays : mapping of str to mapping of str to ndarray
        Stored as ``NAME.npz`` each.
    summary : mapping of str to Scalar
        One row's worth of numbers, and no times: stored as ``summary.json``.
    finish : callable, optional
        Returns arrays and summary entries that are known only when every table has been read to
        its end, a table that is not stored included; see :meth:`finished`.
    """

    trial: int
    tables: Mapping[str, Table]
    arrays: Mapping[str, Mapping[str, "np.ndarray[Any, Any]"]]
    summary: Mapping[str, Scalar]
    finish: "Callable[[], Finish] | None" = None

    def finished(self) -> "TrialResult":
        """Return the result with what :attr:`finish` adds; call it after all tables were read."""
        if self.finish is None:
            return self
        arrays, summary = self.finish()
        return TrialResult(
            self.trial, self.tables, {**self.arrays, **arrays}, {**self.summary, **summary}
        )


@dataclass(frozen=True)
class RunData:
    """What all trials of a run share and a reader of the run needs: written once, before any trial.

    Attributes
    ----------
    tables : mapping of str to Table
        ``NAME.parquet`` each at the top of the run directory (deep: ``population``).
    arrays : mapping of str to ndarray
        ``NAME.npy`` each (deep: ``images``).
    """

    tables: Mapping[str, Table] = field(default_factory=dict)
    arrays: Mapping[str, "np.ndarray[Any, Any]"] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimate:
    """What a trial is expected to cost, for ``--dry-run``."""

    seconds_per_trial: float
    bytes_per_trial: int
    bytes_of_memory_per_worker: int


class Context(Protocol):
    """What the runner offers to a session."""

    def progress(self, trial: int, fraction: float, note: str = "") -> None:
        """Report that ``fraction`` of a trial is done; cheap enough to call often.

        ``note`` says for people how it goes: parts with commas between, the most important first.
        """

    def should_stop(self) -> bool:
        """Whether to abandon the work in hand, by raising :class:`Interrupted`."""

    def scratch(self, trial: int) -> Path:
        """Return a directory for checkpoints of this trial, owned and removed by the runner."""


class Interrupted(Exception):  # noqa: N818 - no error: the trial is run again later
    """Raised by a session that abandons its trials because the context asked it to stop."""


class Session(ABC):
    """An opened experiment, in one worker process."""

    @abstractmethod
    def run(self, trials: Sequence[int], context: Context) -> Iterator[TrialResult]:
        """Run the trials and yield their results, in any order.

        A trial's tables are consumed before the next result is asked for.

        Raises
        ------
        Interrupted
            If ``context.should_stop()`` turned true; unyielded trials stay undone.
        """

    def close(self) -> None:  # noqa: B027 - most sessions hold nothing
        """Release what the session holds."""


class Experiment(ABC):
    """A configuration: a frozen dataclass of plain values.

    Constructing one checks what can be checked without data and raises ``ValueError`` or
    ``TypeError`` naming the argument.
    """

    #: The command that runs it, for instance ``"confsim-linear"``; names the default directory.
    command: ClassVar[str]

    #: Modules that every trial needs and that importing the experiment does not import. Each worker
    #: imports them before its first trial: what is not installed is one error, not one per trial.
    modules: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return every setting that can change a trial's numbers, as JSON values."""

    @abstractmethod
    def open(self, threads: int, device: str | None = None) -> Session:
        """Load data, compile models; called once in each worker process.

        Parameters
        ----------
        threads : int
            Threads for the compiled kernels.
        device : str, optional
            The accelerator this worker owns, where there are any.
        """

    @abstractmethod
    def estimate(self) -> Estimate:
        """Predict what a trial costs on this machine."""

    def check(self, trials: int) -> None:  # noqa: B027 - most experiments have nothing to add
        """Check what needs data or the number of trials, before a directory is made.

        Raises
        ------
        ValueError
            If no trial could run.
        """

    def check_new(self) -> None:  # noqa: B027 - most experiments have nothing to add
        """Check what a new run may not have; one that was begun with it goes on.

        Raises
        ------
        ValueError
            If a setting makes no sense.
        """

    def trials_of(self, trials: int) -> int:
        """Return how many trials to run where ``trials`` are asked for: more, if it has others."""
        return trials

    def capabilities(self) -> Mapping[str, Any]:
        """Return what can be made of the run: see ``confsim.store.capabilities``.

        Stored in the manifest, so that whatever reads the run need not know this experiment.
        """
        return {}

    def run_data(self) -> RunData:
        """Return what all trials share; called once a run, in a process of its own."""
        return RunData()

    def devices(self) -> Sequence[str | None]:
        """Return the accelerators workers are dealt out to; one ``None`` for the CPU."""
        return (None,)

    def runs_on(self) -> str:
        """Say in a few words what trials run on; empty where there is nothing to say."""
        return ""

    def trials_at_once(self) -> int:
        """Return how many trials a session likes to get in one call."""
        return 1
