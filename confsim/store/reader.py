"""Reading a run: tables as pandas, arrays as NumPy, and nothing that was not checked.

The hash of every file is compared with its trial's record before the file is used; a damaged trial
raises :class:`ConfsimError` naming itself, and is never averaged in silently. A run of somebody
else is read in the same way: no code is run, no link is followed, and what a file may take in
memory is bounded.
"""

import contextlib
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from confsim._errors import ConfsimError, check_integer, to_copy
from confsim._suggest import did_you_mean
from confsim.given_files import expanded
from confsim.store import files, layout, packs
from confsim.store.capabilities import Capabilities
from confsim.store.packs import InPack, Pack, Packs, Place

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.parquet

    from confsim.report.build import Report

Array = np.ndarray[Any, Any]

#: A summary is one row's worth of numbers.
_SUMMARY_LIMIT = 1 << 24

_EDGES = ("confidence_edges", "distance_edges")


def check_run(run: object) -> None:
    """Raise ``TypeError`` for something else, such as the path of a run."""
    if not isinstance(run, Run):
        what = repr(str(run)) if isinstance(run, (str, os.PathLike)) else "DIRECTORY"
        raise TypeError(
            f"run must be a Run, as confsim.open_run({what}) returns, not {type(run).__name__}"
        )


def open_run(path: str | os.PathLike[str], *, limit: int | None = None) -> "Run":
    """Open a run directory for reading, finished or not; its files need not be trusted.

    Parameters
    ----------
    path : path-like
        The directory that a command named at its end.
    limit : int, optional
        Bytes that one of its files may take in memory; default 2**30, which is more than a run's
        files have unless a trial's extremes hold tens of millions of rows.

    Raises
    ------
    ValueError
        If it is not a run directory, or was written by a newer confsim.
    ConfsimError
        If its manifest is damaged.
    """
    return Run(expanded(path), limit=limit)


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
    capabilities : Capabilities
        What its trials hold, and how they belong together.
    limit : int
        Bytes that one of its files may take in memory.
    damage : ConfsimError, optional
        What is wrong with the manifest, whose copy was read instead.
    """

    def __init__(
        self, path: Path, *, limit: int | None = None, only: Iterable[int] | None = None
    ) -> None:
        self.path = path
        self.limit = files.check_limit(limit)
        self.manifest = layout.read_manifest(path)
        self.damage = layout.manifest_damage(path)
        self.identity_hash = layout.identity_hash(self.manifest["identity"])
        try:
            self.capabilities = Capabilities.of(self.manifest)
        except ValueError as error:
            raise ValueError(f"{path} cannot be read: {error}") from None
        self._only = None if only is None else sorted(only)
        self._packs = Packs(path)

    def restricted(self, trials: Iterable[int]) -> "Run":
        """Return the same run as if these were all its finished trials."""
        return Run(self.path, limit=self.limit, only=trials)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows of it."""
        from confsim.store.notebook import run_html

        return run_html(self)

    def attacks(self) -> "pd.DataFrame":
        """Return how well each attack tells members: the table ``attacks``, made if need be.

        One row for each attack and target, the mean over targets, and all pooled; see
        :func:`confsim.membership.membership_tables` for the other tables and for options.
        """
        from confsim.membership import membership_tables

        return membership_tables(self)["attacks"]

    def report(
        self, *, out: "str | os.PathLike[str] | None" = None, partial: bool = False
    ) -> "Report":
        """Make tables, figures and ``report.html``, as ``confsim-report`` does.

        Parameters
        ----------
        out : path-like, optional
            Where to write; default: the run itself.
        partial : bool
            Report what is there when trials are missing or damaged.

        Returns
        -------
        confsim.report.build.Report
            Its ``page`` is the file to open; a notebook shows its sentences.
        """
        from confsim.report.build import report

        return report([self.path], out=out, partial=partial, limit=self.limit)

    @property
    def config(self) -> dict[str, Any]:
        """The experiment's settings."""
        return dict(self.manifest["configuration"])

    @property
    def trials(self) -> list[int]:
        """Numbers of the published trials, ascending; without a target's (:attr:`target`)."""
        found = layout.trial_numbers(self.path) if self._only is None else list(self._only)
        return [number for number in found if number != self.capabilities.target]

    @property
    def target(self) -> int | None:
        """Number of the published trial that holds a model of the user's own, if there is one."""
        number = self.capabilities.target
        return number if number >= 0 and self.place(number) is not None else None

    def place(self, number: int) -> "Place | None":
        """Return where a trial's files lie; ``None`` if it is not finished."""
        return layout.place_of(self.path, number, self._packs)

    def trial(self, number: int) -> "Trial":
        """Return one trial's files.

        Raises
        ------
        ValueError
            If the trial is not finished.
        """
        return Trial(self, self._finished(number).number)

    def _finished(self, number: int) -> "Trial":
        """Return one trial's files, where they lie right now: for who reads them at once."""
        number = check_integer("trial", number, minimum=0)
        there = self._only is None or number in self._only or number == self.capabilities.target
        place = self.place(number) if there else None
        if place is None:
            raise ValueError(f"trial {number} of {self.path} is not finished")
        return Trial(self, number, place)

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
        import pandas as pd

        tables = [trial.table(name, columns) for trial in self._all(trials)]
        if not tables:
            raise ConfsimError(f"{self.path} has no finished trial to read")
        if any(list(table) != list(tables[0]) for table in tables):
            raise ConfsimError(f"the trials of {self.path} have different columns in {name}")
        return pd.concat(tables, ignore_index=True)

    def summary(
        self, trials: Iterable[int] | None = None, columns: Sequence[str] | None = None
    ) -> "pd.DataFrame":
        """Return one row a trial: its number, and the numbers of its summary, null as NaN.

        What each column means is in ``tables/dictionary.csv`` of a report, and in
        ``confsim.report.dictionary.SUMMARY``.
        """
        import pandas as pd

        numbers = [trial.number for trial in self._all(trials)]
        frame = self._packed_summary(numbers)
        if frame is None:
            rows = [
                {key: math.nan if value is None else value for key, value in row.items()}
                for row in self.summaries(numbers)
            ]
            frame = pd.DataFrame(rows, columns=None if rows else ["trial"])
        if columns is None:
            return frame
        for name in columns:
            if name not in frame:
                hint = did_you_mean(name, frame.columns)
                raise ValueError(f"{self.path}: summaries have no column {name!r}{hint}")
        chosen: pd.DataFrame = frame[list(columns)]
        return chosen

    def summaries(
        self, trials: Iterable[int] | None = None, columns: Collection[str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield each trial's number, as ``trial``, and its summary; null is ``None``."""
        wanted = None if columns is None else {"trial", *columns}
        held: tuple[Pack | None, list[dict[str, Any]]] = None, []
        for trial in self._all(trials):
            place = trial.place
            if isinstance(place, InPack):
                if place.pack is not held[0]:
                    table = packs.summary_of(place.pack, wanted)
                    held = place.pack, [] if table is None else table.to_pylist()
                if held[1]:
                    yield held[1][place.row]
                    continue
            row = {"trial": trial.number, **trial.summary()}
            yield row if wanted is None else {k: v for k, v in row.items() if k in wanted}

    def numbers(self, trials: Sequence[int], columns: Collection[str]) -> dict[str, Array]:
        """Return numbers of the trials' summaries by name, NaN where there is none.

        Of those names that some summary has. A run of a hundred thousand trials has millions of
        numbers: as dictionaries they take ten times the memory and the time.
        """
        found: dict[str, Array] = {}

        def put(name: str, at: int | list[int], values: Any) -> None:
            if name not in found:
                found[name] = np.full(len(trials), np.nan)
            found[name][at] = values

        packed: dict[Path, tuple[Pack, list[int], list[int]]] = {}
        single: list[int] = []
        for at, trial in enumerate(self._all(trials)):
            place = trial.place
            if isinstance(place, InPack):
                _, places, rows = packed.setdefault(place.pack.path, (place.pack, [], []))
                places.append(at)
                rows.append(place.row)
            else:
                single.append(at)
        for pack, places, rows in packed.values():
            table = packs.summary_of(pack, columns)
            if table is None:
                single += places
                continue
            for name in table.column_names:
                values = table[name].to_numpy(zero_copy_only=False)
                put(name, places, values.astype(np.float64)[rows])
        for at in single:
            for name, value in self.trial(trials[at]).summary().items():
                if name in columns:
                    put(name, at, np.nan if value is None else value)
        return found

    def _packed_summary(self, numbers: Sequence[int]) -> "pd.DataFrame | None":
        """Return the summaries of trials most of which are packed, ``None`` if they are not.

        Column by column: a run of a hundred thousand trials has millions of numbers.
        """
        import pyarrow as pa

        if not self._packs.packs:
            return None
        own = set(layout.unpacked_numbers(self.path))
        wanted = set(numbers) - own
        order: list[int] = []
        parts: list[Any] = []
        for pack in self._packs.packs:
            rows = [row for row, trial in enumerate(pack.trials) if trial in wanted]
            table = packs.summary_of(pack) if rows else None
            if table is not None:
                order += [pack.trials[row] for row in rows]
                wanted.difference_update(pack.trials)
                parts.append(table if len(rows) == len(pack.trials) else table.take(rows))
        rest = sorted(set(numbers).difference(order))
        if rest:
            parts.append(packs.summary_table(list(self.summaries(rest))))
        if not parts or any(part is None for part in parts):
            return None
        try:
            table = pa.concat_tables(parts, promote_options="default")
        except pa.ArrowException:  # numbers here and texts there
            return None
        parts.clear()
        frame = packs.summary_frame(table)
        order += rest
        if order != list(numbers):
            frame = frame.set_axis(order, axis=0).loc[list(numbers)].reset_index(drop=True)
        return frame

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
        name = "population.parquet"
        with self._shared(name) as file:
            try:
                return _read(file, name, self.limit, columns)
            except files.NoColumn as error:
                raise files.NoColumn(f"{self.path}: {error}") from None
            except files.Damaged as error:
                raise self._damaged(str(error)) from None

    def features(self) -> Array:
        """Return the fixed space of the population, mapped from the file (shadow runs)."""
        return self._mapped("features.npy")

    def images(self) -> Array:
        """Return the images of the population, mapped from the file (deep runs that kept them)."""
        return self._mapped("images.npy")

    def _mapped(self, name: str) -> Array:
        with self._shared(name) as file:
            try:
                return files.map_npy(file, self.path / name, name)
            except files.Damaged as error:
                raise self._damaged(str(error)) from None

    def has(self, name: str) -> bool:
        """Whether what all trials share includes file ``name``, for instance ``images.npy``."""
        return files.is_file(self.path / name)

    def _shared(self, name: str) -> BinaryIO:
        if not self.has(name):
            raise ConfsimError(f"{self.path} has no {name}")
        try:
            expected = layout.read_run_data(self.path)[name]
        except (FileNotFoundError, KeyError):
            raise ConfsimError(f"{self.path} has no record of {name}") from None
        except files.Damaged as error:
            raise self._damaged(str(error)) from None
        try:
            return files.open_checked(self.path / name, expected, self.limit)
        except files.Damaged as error:
            raise self._damaged(str(error)) from None

    def _damaged(self, reason: str) -> ConfsimError:
        repair = to_copy("confsim-status", self.path, "--repair")
        return files.Damaged(f"{self.path} is damaged: {reason}; {repair}")

    def _all(self, trials: Iterable[int] | None) -> "Iterator[Trial]":
        if trials is None:
            return (Trial(self, number) for number in self.trials)
        return (self._finished(number) for number in trials)


class Trial:
    """One finished trial's files, each checked against its hash when it is read.

    Attributes
    ----------
    number : int
        From 0.
    """

    def __init__(self, run: Run, number: int, place: Place | None = None) -> None:
        self.run = run
        self.number = number
        self._place = place
        self._record: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"trial {self.number} of {self.run.path}"

    @property
    def path(self) -> Path:
        """The directory that holds its files: its own, or its pack's."""
        return self.place.path

    @property
    def record(self) -> dict[str, Any]:
        """What ``trial.json`` says: files, versions, host, seconds."""
        if self._record is None:
            with self._explained():
                self._record = self._read(
                    lambda place: layout.read_record(place, self.number, self.run.identity_hash)
                )
        return self._record

    @property
    def place(self) -> Place:
        """Where its files lie."""
        with self._explained():
            return self._found()

    def _found(self) -> Place:
        if self._place is None:
            self._place = self.run.place(self.number)
        if self._place is None:
            raise files.Missing(f"{layout.TRIAL_RECORD} is missing")
        return self._place

    def _read(self, read: Callable[[Place], Any]) -> Any:
        """Read from where the trial lies; it may be packed between the look and the reading."""
        before = self._found()
        try:
            return read(before)
        except files.Missing:
            self._place = None
            if self._found() == before:
                raise
        return read(self._found())

    def has(self, file: str) -> bool:
        """Whether the trial holds a file of this name, for instance ``extremes.parquet``."""
        return file in self.record["files"]

    def table(self, name: str, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return table ``name``."""
        file = f"{name}.parquet"
        with self._explained(), self._checked(file) as opened:
            return _read(opened, file, self.run.limit, columns)

    def batches(
        self, name: str, columns: Sequence[str] | None = None, rows: int = 1 << 17
    ) -> "Iterator[pd.DataFrame]":
        """Return table ``name`` in pieces of at most ``rows`` rows: for tables of any size."""
        for batch in self.arrow_batches(name, columns, rows):
            yield _pandas(batch)

    def arrow_batches(
        self, name: str, columns: Sequence[str] | None = None, rows: int = 1 << 17
    ) -> "Iterator[pyarrow.RecordBatch]":
        """Return table ``name`` in pieces, as Arrow keeps it."""
        file = f"{name}.parquet"
        with self._explained(), self._checked(file) as opened:
            found = files.open_parquet(opened, file, self.run.limit, pieces=True)
            chosen = files.columns_of(found, file, _listed(columns))
            with files.parquet_errors(file):
                yield from map(files.validated, found.iter_batches(batch_size=rows, columns=chosen))

    def summary(self) -> dict[str, Any]:
        """Return the numbers of its summary; null is ``None``."""
        with self._explained(), self._checked(layout.SUMMARY) as file:
            found = files.parse_json(file.read(_SUMMARY_LIMIT), layout.SUMMARY)
            nested = any(isinstance(value, (dict, list)) for value in found.values())
            if nested or not all(name.isprintable() for name in found):
                raise files.Damaged(f"{layout.SUMMARY} is not one of ours")
            return found

    def arrays(self, name: str) -> dict[str, Array]:
        """Return the arrays of ``NAME.npz``."""
        file = f"{name}.npz"
        with self._explained(), self._checked(file) as opened:
            return files.read_npz(opened, file, self.run.limit)

    def model(self) -> dict[str, Array]:
        """Return the model: linear hyperplanes and training ids, or deep weights."""
        return self.arrays("model")

    def _checked(self, file: str) -> BinaryIO:
        if not self.has(file):
            raise ConfsimError(
                f"{self} has no {file}: another pipeline, or --keep summary, leaves it out"
            )
        expected = self.record["files"][file]
        opened: BinaryIO = self._read(lambda place: place.open(file, expected, self.run.limit))
        return opened

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn whatever is wrong with a file into a damaged trial's error."""
        try:
            yield
        except files.NoColumn as error:
            raise files.NoColumn(f"{self}: {error}") from None
        except files.Damaged as error:
            raise self._damaged(str(error)) from None

    def _damaged(self, reason: str) -> ConfsimError:
        repair = to_copy("confsim-status", self.run.path, "--repair")
        return files.Damaged(
            f"{self} is damaged: {reason}; {repair} sets it aside, "
            "and the command that made the run makes it again"
        )


def _listed(columns: Sequence[str] | None) -> list[str] | None:
    return None if columns is None else list(columns)


def _read(file: BinaryIO, name: str, limit: int, columns: Sequence[str] | None) -> "pd.DataFrame":
    found = files.open_parquet(file, name, limit)
    with files.parquet_errors(name):
        chosen = files.columns_of(found, name, _listed(columns))
        return _pandas(files.validated(found.read(columns=chosen)))


def _pandas(table: Any) -> "pd.DataFrame":
    # What a writer of pandas adds to a table's metadata is left aside: it names types to be made.
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    return frame
