"""What attacks look at, read from a run: arrays (trials, examples), views, the holdout, a space.

The only place where membership reads the tables of trials with examples. Scores that others compute
may wait here for those who need them again.
"""

import contextlib
import io
import mmap
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.format import MAGIC_PREFIX
from numpy.typing import NDArray

from confsim._errors import ConfsimError
from confsim.given_files import one_line, open_regular
from confsim.membership.scratch import Scratch, temporary
from confsim.store import artifacts

if TYPE_CHECKING:
    import pandas as pd

    from confsim.store import Run, Trial

FloatArray = NDArray[np.float64]

_COLUMNS = (
    "id",
    "label",
    "predicted",
    "is_member",
    "log_odds_max",
    "log_odds_true",
    "entropy",
    "modified_entropy",
    "distance_excluding_self",
)


class Matrices:
    """The examples of a run as arrays (trials, examples).

    Parameters
    ----------
    run : Run
    trials : sequence of int
    statistic : bool
        Whether models give some statistic, not log-odds of classes.
    only : ndarray of int64, optional
        Ids of the examples that are read; default: all.

    Notes
    -----
    Membership is in memory, other columns wait in a file and are mapped from there while somebody
    looks at them: all of them together are the largest thing that there is.
    """

    def __init__(
        self,
        run: "Run",
        trials: Sequence[int],
        *,
        statistic: bool,
        only: NDArray[np.int64] | None = None,
    ) -> None:
        self.run, self.statistic = run, statistic
        #: Where scores go.
        self.scratch = Scratch(run.path)
        self.trials, self.only = np.array(trials), only
        columns = [*_COLUMNS, *(["statistic"] if statistic else [])]

        def read(number: int) -> "pd.DataFrame":
            table = run.trial(number).table("examples", columns)
            return table if only is None else table[np.isin(table["id"], only)]

        first = read(trials[0])
        self.ids = first["id"].to_numpy()
        #: Ids of all examples that members are drawn from, also where few are attacked.
        self.everyone = self.ids
        if only is None:
            self.everyone = self._drawn_from()
        else:
            self.everyone = run.trial(trials[0]).table("examples", ["id"])["id"].to_numpy()
        self.labels = first["label"].to_numpy()
        shape = (len(trials), len(self.ids))
        self.is_member, self.correct = np.empty(shape, bool), np.empty(shape, bool)
        self._columns = _Columns(run.path, columns[4:], shape)
        for i, number in enumerate(trials):
            table = read(number) if i else first
            if not np.array_equal(table["id"].to_numpy(), self.ids):
                raise ConfsimError(f"trial {number} of {run.path} has other examples than the rest")
            self.is_member[i] = table["is_member"].to_numpy()
            self.correct[i] = table["predicted"].to_numpy() == self.labels
            for name in columns[4:]:
                self._columns.write(name, i, table[name].to_numpy())
        self.has_predictions = bool((first["predicted"] >= 0).all())
        #: What attacks learn from, a row a trial; ``None`` where the run has none.
        self.signal = self.get("statistic" if statistic else "log_odds_true")

    def _drawn_from(self) -> NDArray[np.int64]:
        """Return the ids that members are drawn from: shadow models are asked about canaries."""
        if not self.run.has("population.parquet"):
            return self.ids
        table = self.run.population()
        if "split" not in table:
            return self.ids
        drawn = table["id"][table["split"] == "population"].to_numpy()
        return drawn if len(drawn) > len(self.ids) and np.isin(self.ids, drawn).all() else self.ids

    def has_column(self, name: str) -> bool:
        """Whether the run has anything in a column."""
        return self._columns.is_known(name)

    def get(self, name: str) -> FloatArray | None:
        """Return a column, to be read only; ``None`` where the run has nothing in it."""
        return self._columns.read(name) if self.has_column(name) else None

    def kept(self, name: str, compute: Callable[[], FloatArray]) -> FloatArray:
        """Return scores (trials, examples) that are computed once, to be read only."""
        if not self._columns.holds(name):
            self._columns.add(name, compute())
        return self._columns.read(name)

    def new_scores(self) -> FloatArray:
        """Return a matrix for scores, of any content."""
        return self.scratch.empty(self.is_member.shape)

    def has(self, name: str) -> bool:
        """Whether trials keep a file."""
        return self._trial(0).has(name)

    def _trial(self, place: int) -> "Trial":
        return self.run.trial(int(self.trials[place]))

    def views(self) -> FloatArray | None:
        """Return the log-odds of flipped and shifted examples (trials, examples, views)."""
        if not self.has("augmented.parquet"):
            return None
        score = "statistic" if self.statistic else "log_odds_true"
        columns = ["id", "augmentation", score]
        views: FloatArray | None = None
        for i in range(len(self.trials)):
            table = self._trial(i).table("augmented", columns)
            if self.only is not None:
                table = table[np.isin(table["id"], self.only)]
            table = table.sort_values(["augmentation", "id"], kind="stable")
            rows = table[score].to_numpy().reshape(-1, len(self.ids))
            if views is None:
                views = self.scratch.empty((len(self.trials), len(self.ids), len(rows)))
            views[i, np.argsort(self.ids, kind="stable")] = rows.T
        return views

    def holdout(self) -> FloatArray | None:
        """Return what attacks learn from of points that no trial was trained on."""
        if not self.has("holdout.parquet"):
            return None
        score = "statistic" if self.statistic else "log_odds_true"
        every = range(len(self.trials))
        rows = [self._trial(i).table("holdout", [score])[score].to_numpy() for i in every]
        return np.stack(rows) if len(rows[0]) else None

    def holdout_labels(self) -> NDArray[np.int64]:
        """Return the classes of the holdout."""
        found: NDArray[np.int64] = self._trial(0).table("holdout", ["label"])["label"].to_numpy()
        return found

    def spaces(self) -> "tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]] | None":
        """Return the run's fixed space, and in it the rows of the examples and of the holdout."""
        if not (self.has("holdout.parquet") and self.run.has("population.parquet")):
            return None
        if not (self.run.has("features.npy") or self.run.has("images.npy")):
            return None
        held = self._trial(0).table("holdout", ["id"])["id"].to_numpy()
        if not np.isin(held, self.run.population()["id"].to_numpy()).all():
            return None
        space = self.run.features() if self.run.has("features.npy") else self.run.images()
        return space.reshape(len(space), -1), self.population()[0], self.population(held)[0]

    def population(
        self, ids: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Return each example's row in the population, and its duplicate group."""
        ids = self.ids if ids is None else ids
        if not self.run.has("population.parquet"):
            return np.arange(len(ids)), None
        table = self.run.population()
        order = np.argsort(table["id"].to_numpy(), kind="stable")
        position = order[np.searchsorted(table["id"].to_numpy()[order], ids)]
        if "duplicate_group" not in table:
            return position, None
        return position, table["duplicate_group"].to_numpy()[position]

    def space(self, features: Path | None) -> NDArray[Any] | None:
        """Return a row of a fixed space for everyone: of the user's file, or of the run's own."""
        position, _ = self.population(self.everyone)
        if features is not None:
            return _load_features(features, len(self.everyone), position)
        if self.run.has("features.npy"):
            return self.run.features()[position]
        if not self.run.has("images.npy"):
            return None
        return self.run.images()[position]


class _Columns:
    """Columns (trials, examples) in a file without a name, which ends with this object.

    Each is mapped for as long as somebody looks at it: pages that are mapped count as memory of the
    process.
    """

    def __init__(self, folder: Path, names: Sequence[str], shape: tuple[int, int]) -> None:
        self._names, self._shape = list(names), shape
        self._known = dict.fromkeys(names, False)
        self._lock = threading.RLock()
        self._folder, self._file = temporary(folder)
        #: Bytes of a column, and those from one to the next: maps begin on a page.
        self._size = shape[0] * shape[1] * np.dtype(np.float64).itemsize
        self._stride = -(-self._size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        weakref.finalize(self, _close, self._file)

    def write(self, name: str, trial: int, values: NDArray[Any]) -> None:
        """Put a trial's values in their place."""
        self._put(self._names.index(name), trial, values)
        self._known[name] |= not bool(np.isnan(values).all())

    def holds(self, name: str) -> bool:
        """Whether there is such a column."""
        return name in self._names

    def add(self, name: str, values: FloatArray) -> None:
        """Put a whole column behind the others."""
        with self._lock:
            for trial, row in enumerate(values):
                self._put(len(self._names), trial, row)
            self._names.append(name)
            self._known[name] = not all(bool(np.isnan(row).all()) for row in values)

    def is_known(self, name: str) -> bool:
        """Whether any value is there, and not NaN."""
        return self._known.get(name, False)

    def read(self, name: str) -> FloatArray:
        """Return a column; nobody can write to it."""
        if not self._size:
            return np.empty(self._shape)
        start = self._names.index(name) * self._stride
        try:
            mapped = mmap.mmap(
                self._file.fileno(), self._size, access=mmap.ACCESS_READ, offset=start
            )
        except (OSError, ValueError):  # a file that is shorter than that
            raise ConfsimError(
                f"a temporary file of {self._folder} has lost its column {name}"
            ) from None
        return np.frombuffer(mapped, np.float64).reshape(self._shape)

    def _put(self, column: int, trial: int, values: NDArray[Any]) -> None:
        row = np.ascontiguousarray(values, dtype=np.float64)
        try:
            with self._lock:
                self._file.seek(column * self._stride + trial * row.nbytes)
                self._file.write(row.tobytes())
                self._file.flush()
        except OSError as error:
            raise artifacts.cannot_write(self._folder / "(temporary file)", error) from None


def _close(file: io.BufferedRandom) -> None:
    """Close a file of which nothing is wanted any more, also where its disk is full."""
    with contextlib.suppress(OSError):
        file.close()


def _load_features(path: Path, examples: int, position: NDArray[np.int64]) -> NDArray[Any]:
    with open_regular(path, f"features {path}") as file:
        start = file.read(len(MAGIC_PREFIX))
    if start != MAGIC_PREFIX:
        raise ValueError(f"features {path} is no .npy file")
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header raises whatever Python's own parser does
        raise ValueError(f"features {path} cannot be read as .npy: {one_line(error)}") from None
    if features.ndim < 2:
        raise ValueError(f"features {path} must have shape (examples, ...), not {features.shape}")
    if len(features) == examples:
        return np.asarray(features)
    if len(features) <= position.max(initial=0):
        raise ValueError(
            f"features {path} must have a row for each of the {examples} examples or for each row "
            f"of population.parquet, not {len(features)} rows"
        )
    chosen: NDArray[Any] = features[position]
    return chosen
