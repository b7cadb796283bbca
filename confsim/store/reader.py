"""Reading a run: tables as pandas, arrays as NumPy, and nothing that was not checked.

The hash of every file is compared with its trial's record before the file is used; a damaged trial
raises :class:`ConfsimError` naming itself, and is never averaged in silently.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from confsim._errors import ConfsimError, check_integer
from confsim.store import layout

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.parquet

Array = np.ndarray[Any, Any]

_EDGES = ("confidence_edges", "distance_edges")


def open_run(path: str | os.PathLike[str]) -> "Run":
    """Open a run directory for reading, finished or not.

    Parameters
    ----------
    path : path-like
        The directory that a command named at its end.

    Raises
    ------
    ValueError
        If it is not a run directory, or was written by a newer confsim.
    """
    return Run(Path(path))


class Run:
    """A run directory, for reading.

    What is finished is looked up anew at each call, so a run can be read while it grows. Methods
    with ``trials`` take numbers of finished trials; ``None`` means all that are finished. Methods
    with ``columns`` read only those columns.

    Attributes
    ----------
    path : Path
        The run directory.
    manifest : dict
        Schema, identity, command, configuration, seed, versions, creation time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = layout.read_manifest(path)
        self.identity_hash = layout.identity_hash(self.manifest["identity"])

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def config(self) -> dict[str, Any]:
        """The experiment's settings."""
        return dict(self.manifest["configuration"])

    @property
    def trials(self) -> list[int]:
        """Numbers of the published trials, ascending."""
        return layout.trial_numbers(self.path)

    def trial(self, number: int) -> "Trial":
        """Return one trial's files.

        Raises
        ------
        ValueError
            If the trial is not finished.
        """
        number = check_integer("trial", number, minimum=0)
        if not layout.trial_path(self.path, number).is_dir():
            raise ValueError(f"trial {number} of {self.path} is not finished")
        return Trial(self, number)

    def extremes(
        self, trials: Iterable[int] | None = None, columns: Sequence[str] | None = None
    ) -> "pd.DataFrame":
        """Return the rows of lowest and highest confidence, trial after trial."""
        return self.table("extremes", trials, columns)

    def examples(
        self, trials: Iterable[int] | None = None, columns: Sequence[str] | None = None
    ) -> "pd.DataFrame":
        """Return every query's row, trial after trial (deep runs)."""
        return self.table("examples", trials, columns)

    def holdout(
        self, trials: Iterable[int] | None = None, columns: Sequence[str] | None = None
    ) -> "pd.DataFrame":
        """Return the rows of the holdout, trial after trial (deep runs)."""
        return self.table("holdout", trials, columns)

    def table(
        self,
        name: str,
        trials: Iterable[int] | None = None,
        columns: Sequence[str] | None = None,
    ) -> "pd.DataFrame":
        """Return table ``name`` of the trials, one after another.

        Raises
        ------
        ConfsimError
            If a trial has no such table, or is damaged.
        """
        import pyarrow as pa

        tables = [
            trial._parquet(name).read(columns=_listed(columns)) for trial in self._all(trials)
        ]
        if not tables:
            raise ConfsimError(f"{self.path} has no finished trial to read")
        return _pandas(pa.concat_tables(tables))

    def summary(
        self, trials: Iterable[int] | None = None, columns: Sequence[str] | None = None
    ) -> "pd.DataFrame":
        """Return one row a trial: its number, and the numbers of its summary, null as NaN."""
        import pandas as pd

        rows = []
        for trial in self._all(trials):
            values = {"trial": trial.number, **trial.summary()}
            rows.append({key: math.nan if v is None else v for key, v in values.items()})
        frame = pd.DataFrame(rows, columns=None if rows else ["trial"])
        chosen: pd.DataFrame = frame if columns is None else frame[list(columns)]
        return chosen

    def joint(
        self, trials: Iterable[int] | None = None, *, stacked: bool = False
    ) -> dict[str, Array]:
        """Return the joint histograms of confidence and distance, and their bin edges.

        Parameters
        ----------
        trials : iterable of int, optional
            Which trials.
        stacked : bool
            Put the trials on a new first axis instead of adding their counts.

        Returns
        -------
        dict
            ``including_self`` and ``excluding_self``: uint64 counts of shape (3, 2, 128, 128), axes
            [all, bottom, top] x [members, non-members] x confidence bin x distance bin;
            ``confidence_edges`` and ``distance_edges``: (129,).
        """
        total: dict[str, Any] = {}
        for trial in self._all(trials):
            for name, array in trial.arrays("joint").items():
                if name in _EDGES:
                    if not np.array_equal(total.setdefault(name, array), array):
                        raise ConfsimError(f"{trial} has other bin edges than the trials before it")
                elif stacked:
                    total.setdefault(name, []).append(array)
                elif name in total:
                    total[name] += array
                else:
                    total[name] = array.astype(np.uint64)
        if not total:
            raise ConfsimError(f"{self.path} has no finished trial to read")
        return {name: np.asarray(value) for name, value in total.items()}

    def population(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return the population: id, label, duplicate group, split (deep runs)."""
        import pyarrow.parquet as pq

        path = self._shared("population.parquet")
        return _pandas(pq.ParquetFile(path).read(columns=_listed(columns)))

    def images(self) -> Array:
        """Return the images of the population, mapped from the file (deep runs that kept them)."""
        images: Array = np.load(self._shared("images.npy"), mmap_mode="r", allow_pickle=False)
        return images

    def has(self, name: str) -> bool:
        """Whether what all trials share includes file ``name``, for instance ``images.npy``."""
        return (self.path / name).is_file()

    def _shared(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise ConfsimError(f"{self.path} has no {name}")
        try:
            expected = json.loads((self.path / layout.RUN_DATA).read_bytes())["files"][name]
        except (OSError, ValueError, KeyError):
            raise ConfsimError(f"{self.path} has no record of {name}") from None
        reason = layout.file_damage(str(path), expected, hashes=True)
        if reason is not None:
            raise ConfsimError(
                f"{self.path} is damaged: {reason}; confsim-status {self.path} --repair"
            )
        return path

    def _all(self, trials: Iterable[int] | None) -> "Iterator[Trial]":
        if trials is None:
            return (Trial(self, number) for number in self.trials)
        return (self.trial(number) for number in trials)


class Trial:
    """One finished trial's files, each checked against its hash when it is read.

    Attributes
    ----------
    number : int
        From 0.
    path : Path
        Its directory.
    """

    def __init__(self, run: Run, number: int) -> None:
        self.run = run
        self.number = number
        self.path = layout.trial_path(run.path, number)
        self._record: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"trial {self.number} of {self.run.path}"

    @property
    def record(self) -> dict[str, Any]:
        """What ``trial.json`` says: files, versions, host, seconds."""
        if self._record is None:
            try:
                self._record = layout.read_record(
                    self.run.path, self.number, self.run.identity_hash
                )
            except ConfsimError as error:
                raise self._damaged(str(error)) from None
        return self._record

    def has(self, file: str) -> bool:
        """Whether the trial holds a file of this name, for instance ``extremes.parquet``."""
        return file in self.record["files"]

    def table(self, name: str, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return table ``name``."""
        return _pandas(self._parquet(name).read(columns=_listed(columns)))

    def batches(
        self, name: str, columns: Sequence[str] | None = None, rows: int = 1 << 17
    ) -> "Iterator[pd.DataFrame]":
        """Return table ``name`` in pieces of at most ``rows`` rows: for tables of any size."""
        for batch in self._parquet(name).iter_batches(batch_size=rows, columns=_listed(columns)):
            yield _pandas(batch)

    def summary(self) -> dict[str, Any]:
        """Return the numbers of its summary; null is ``None``."""
        return dict(json.loads(self._checked(layout.SUMMARY).read_bytes()))

    def arrays(self, name: str) -> dict[str, Array]:
        """Return the arrays of ``NAME.npz``."""
        with np.load(self._checked(f"{name}.npz"), allow_pickle=False) as archive:
            return dict(archive)

    def model(self) -> dict[str, Array]:
        """Return the model: linear hyperplanes and training ids, or deep weights."""
        return self.arrays("model")

    def _parquet(self, name: str) -> "pyarrow.parquet.ParquetFile":
        import pyarrow.parquet as pq

        return pq.ParquetFile(self._checked(f"{name}.parquet"))

    def _checked(self, file: str) -> Path:
        if not self.has(file):
            raise ConfsimError(
                f"{self} has no {file}: another pipeline, or --keep summary, leaves it out"
            )
        path = self.path / file
        reason = layout.file_damage(str(path), self.record["files"][file], hashes=True)
        if reason is not None:
            raise self._damaged(reason)
        return path

    def _damaged(self, reason: str) -> ConfsimError:
        return ConfsimError(
            f"{self} is damaged: {reason}; confsim-status {self.run.path} --repair sets it aside, "
            "and the command that made the run makes it again"
        )


def _listed(columns: Sequence[str] | None) -> list[str] | None:
    return None if columns is None else list(columns)


def _pandas(table: Any) -> "pd.DataFrame":
    frame: pd.DataFrame = table.to_pandas()
    return frame
