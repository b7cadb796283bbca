"""What figures and tables are made from: each part read once, and only when it is asked for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confsim._errors import ConfsimError
from confsim.report.summary import Headline, headline
from confsim.store import Run

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.float64]
Counts = NDArray[np.uint64]

#: Axes of the joint histograms.
ALL, BOTTOM, TOP = 0, 1, 2
MEMBERS, NON_MEMBERS = 0, 1


@dataclass(frozen=True, eq=False)
class Joint:
    """The joint histograms of a run.

    Attributes
    ----------
    including, excluding : ndarray, (3, 2, confidence, distance)
        Counts of all trials together: [all, bottom, top] x [members, non-members].
    distances : ndarray, (2, trials, 2, distance)
        Counts of each trial's extremes by distance: [including, excluding] x trial x [bottom, top].
    confidence_edges, distance_edges : ndarray
    """

    including: Counts
    excluding: Counts
    distances: Counts
    confidence_edges: FloatArray
    distance_edges: FloatArray


@dataclass
class ReportContext:
    """A run, as the report sees it.

    Attributes
    ----------
    run : Run
    trials : list of int
        The trials that are reported: finished and whole.
    missing : list of int
        Wanted and not finished.
    damaged : dict of int to str
        Finished and left out, with the reason.
    tables : dict of str to DataFrame
        Membership tables by name; empty where there are none.
    notes, answers : list of str
        What the membership analysis has to say.
    options : dict
        How the membership tables were made.
    """

    run: Run
    trials: list[int]
    missing: list[int] = field(default_factory=list)
    damaged: dict[int, str] = field(default_factory=dict)
    tables: "dict[str, pd.DataFrame]" = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """The settings of the run."""
        return self.run.config

    @property
    def percent(self) -> float:
        """Size of an extreme, in percent."""
        return float(self.config.get("percent", 5.0))

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The summaries of the trials."""
        return [self.run.trial(number).summary() for number in self.trials]

    @cached_property
    def summary(self) -> "pd.DataFrame":
        """One row a trial; null is NaN."""
        import pandas as pd

        rows = [{"trial": t, **row} for t, row in zip(self.trials, self.rows, strict=True)]
        frame: pd.DataFrame = pd.DataFrame(rows)
        return frame

    @cached_property
    def headline(self) -> Headline:
        """Headline numbers."""
        return headline(self.rows)

    @cached_property
    def own_space(self) -> bool:
        """Whether distances are measured in a space that each model has for itself."""
        return all(row.get("space", "model") != "fixed" for row in self.rows)

    @property
    def knows_distances(self) -> bool:
        """Whether any trial knows a distance from a query to its training set."""
        means = self.headline.means
        return any(
            name.endswith(("_distance_mean_self", "_distance_mean_other")) and found.trials > 0
            for name, found in means.items()
        )

    def column(self, name: str) -> FloatArray:
        """Return a number of every trial, NaN where it has none."""
        return np.array([_number(row.get(name)) for row in self.rows])

    def has(self, file: str) -> bool:
        """Whether the trials hold a file of this name."""
        return self.run.trial(self.trials[0]).has(file)

    @property
    def has_images(self) -> bool:
        """Whether the run keeps its images."""
        return self.run.has("images.npy")

    @cached_property
    def joint(self) -> Joint:
        """The joint histograms; :meth:`has` ``joint.npz`` first."""
        totals: dict[str, Any] = {}
        distances: dict[str, list[Counts]] = {"including_self": [], "excluding_self": []}
        edges: dict[str, FloatArray] = {}
        for number in self.trials:
            for name, array in self.run.trial(number).arrays("joint").items():
                if name not in distances:
                    if not np.array_equal(edges.setdefault(name, array), array):
                        raise ConfsimError(f"trial {number} of {self.run.path} has other bin edges")
                    continue
                counts = array.astype(np.uint64)
                totals[name] = totals[name] + counts if name in totals else counts
                distances[name].append(counts[1:].sum(axis=(1, 2)))
        return Joint(
            totals["including_self"],
            totals["excluding_self"],
            np.array([distances["including_self"], distances["excluding_self"]]),
            edges["confidence_edges"],
            edges["distance_edges"],
        )

    @property
    def normalised_confidence(self) -> bool:
        """Whether confidences are boundary distances in [0, 1], not log-odds."""
        edges = self.joint.confidence_edges
        return bool(edges[0] == 0 and edges[-1] == 1)

    @property
    def confidence_label(self) -> str:
        """What the axis of confidence is called."""
        if self.run.trial(self.trials[0]).summary().get("ranked_by") == "statistic":
            return "statistic (share of examples below it)"
        if self.normalised_confidence:
            return "boundary confidence"
        return "confidence (log-odds)"

    @cached_property
    def duplicates(self) -> int:
        """How many images of the population have a duplicate in it."""
        if not self.run.has("population.parquet"):
            return 0
        table = self.run.population()
        if "duplicate_group" not in table:
            return 0
        sizes = table["duplicate_group"].value_counts()
        return int(sizes[(sizes > 1) & (sizes.index >= 0)].sum())

    @cached_property
    def label_names(self) -> dict[int, str]:
        """Names of the classes, where the run knows them; else their numbers."""
        if not self.run.has("population.parquet"):
            return {}
        table = self.run.population()
        if "label_name" not in table:
            return {}
        unique = table.drop_duplicates("label")
        return dict(zip(unique["label"].astype(int), unique["label_name"].astype(str), strict=True))

    @cached_property
    def statistic(self) -> bool:
        """Whether the models give some statistic, not log-odds of classes."""
        return bool(self.rows) and self.rows[0].get("ranked_by") == "statistic"

    @property
    def noun(self) -> str:
        """What an example is called."""
        return "image" if self.has_images else "example"

    @property
    def unit(self) -> str:
        """What a trial is called: an audit looks at models that exist."""
        return "model" if self.run.manifest["command"] == "confsim-audit" else "trial"

    def called(self, text: str) -> str:
        """Return one of our own sentences, in which a trial is called what it is here."""
        return re.sub(r"\btrial(?=s?\b(?!\.\w))", self.unit, text)

    def example_rows(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places of examples in :attr:`examples`, by their ids."""
        own = self.examples.ids
        order = np.argsort(own, kind="stable")
        rows: NDArray[np.int64] = order[np.searchsorted(own[order], ids)]
        return rows

    @cached_property
    def examples(self) -> "Examples":
        """What the pictures need of the examples; :meth:`has` ``examples.parquet`` first."""
        return Examples.of(self)


@dataclass(frozen=True, eq=False)
class Examples:
    """Every example over all trials.

    Attributes
    ----------
    ids, labels : ndarray, (examples,)
    log_odds : ndarray, (examples,)
        Mean over trials of the log-odds of the predicted class.
    softmax : ndarray, (examples,)
        Mean over trials of the largest probability.
    nearest : ndarray, (trials, examples) int64
        Id of the nearest other training image in each trial, -1 where there is none.
    distance : ndarray, (trials, examples) float32
        Distance to it.
    is_member : ndarray, (trials, examples) bool
    signal : ndarray, (trials, examples) float32
        Log-odds of the true class, or the models' statistic.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    log_odds: FloatArray
    softmax: FloatArray
    nearest: NDArray[np.int64]
    distance: NDArray[np.float32]
    is_member: NDArray[np.bool_]
    signal: NDArray[np.float32]

    @classmethod
    def of(cls, context: ReportContext) -> "Examples":
        """Read the trials one after another."""
        signal_column = "statistic" if context.statistic else "log_odds_true"
        columns = (
            "id",
            "label",
            "log_odds_max",
            "softmax",
            "nearest_id",
            "distance_excluding_self",
            "is_member",
            signal_column,
        )
        count, nearest, distance = len(context.trials), [], []
        members, signals = [], []
        for i, number in enumerate(context.trials):
            table = context.run.trial(number).table("examples", columns)
            found = {name: table[name].to_numpy() for name in columns}
            if i == 0:
                ids, labels = found["id"], found["label"]
                log_odds, softmax = np.zeros(len(ids)), np.zeros(len(ids))
            elif not np.array_equal(ids, found["id"]):
                raise ConfsimError(
                    f"trial {number} of {context.run.path} has other examples than the rest"
                )
            log_odds += found["log_odds_max"] / count
            softmax += found["softmax"] / count
            nearest.append(found["nearest_id"])
            distance.append(found["distance_excluding_self"].astype(np.float32))
            members.append(found["is_member"].astype(bool))
            signals.append(found[signal_column].astype(np.float32))
        stacks = (np.stack(part) for part in (nearest, distance, members, signals))
        return cls(ids, labels, log_odds, softmax, *stacks)

    def usual_neighbour(self, row: int) -> tuple[int, float]:
        """Return the id that is nearest in most trials (the lowest of equals), and its distance."""
        nearest = self.nearest[:, row]
        known = nearest[nearest >= 0]
        if len(known) == 0:
            return -1, float("nan")
        ids, counts = np.unique(known, return_counts=True)
        usual = int(ids[np.argmax(counts)])
        return usual, float(np.mean(self.distance[nearest == usual, row]))

    def usual_neighbours(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for each row the id that is nearest in most trials, -1 where there is none.

        As :meth:`usual_neighbour`, for many rows at once.
        """
        nearest = np.sort(self.nearest[:, rows], axis=0)
        start = np.ones(nearest.shape, bool)
        start[1:] = nearest[1:] != nearest[:-1]
        count = np.zeros(nearest.shape[1], np.int64)
        best, most = np.full(nearest.shape[1], -1), np.zeros(nearest.shape[1], np.int64)
        for ids, begins in zip(nearest, start, strict=True):
            count = np.where(begins, 0, count) + 1
            better = (count > most) & (ids >= 0)
            best, most = np.where(better, ids, best), np.where(better, count, most)
        return best


def _number(value: Any) -> float:
    return float("nan") if value is None or isinstance(value, str) else float(value)


def plural(count: int, noun: str) -> str:
    """Return ``1 trial``, ``2 trials``.

    Examples
    --------
    >>> from confsim.report.context import plural
    >>> plural(1, "trial"), plural(1200, "trial")
    ('1 trial', '1,200 trials')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(numbers: Sequence[int], limit: int = 8) -> str:
    """Return some numbers, shortened: ``1, 2, 3, ...``."""
    shown = ", ".join(str(number) for number in numbers[:limit])
    return f"{shown}, ..." if len(numbers) > limit else shown
