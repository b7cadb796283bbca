"""The tables of one trial of an experiment that classifies examples.

Deep trials, audits and shadow models end alike: scores of every example, who was a member, and
distances to the nearest training example. What is stored of them is made here, once. Experiments
bring the numbers; nothing here trains, reads files or knows how a run is kept.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.confidence import extreme_count, extremes
from confsim.experiment import Coded, Columns, Scalar, TrialResult
from confsim.joint import relate
from confsim.similarity import Similarity

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

#: The score columns of ``examples``, in their order; NaN where a score is unknown.
SCORES = ("softmax", "log_odds_max", "log_odds_true", "loss", "entropy", "modified_entropy")

#: Upper end of the joint histogram's log-odds axis; float32 logits rarely reach beyond.
LOG_ODDS_LIMIT = 30.0


@dataclass(frozen=True, eq=False)
class Examined:
    """One trial's examples with all that is known of them, ready to be stored.

    Attributes
    ----------
    trial : int
    ids, labels : ndarray of int64, (examples,)
        Labels are -1 where they are unknown.
    is_member : ndarray of bool, (examples,)
        Who was trained on.
    scores : mapping of str to ndarray, (examples,)
        ``predicted`` (int64, -1 where unknown) and :data:`SCORES`; perhaps ``statistic``, any
        number that is higher for members. It has a column of its own, and no scale: related to
        distance is its rank among the trial's examples.
    similarity : Similarity
    classes : int
        Decides where the joint histogram's confidence axis begins.
    ranked_by : str
        The score that extremes are ranked by.
    """

    trial: int
    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    is_member: NDArray[np.bool_]
    scores: Mapping[str, Array]
    similarity: Similarity
    classes: int
    ranked_by: str = "log_odds_max"

    def result(
        self,
        summary: Mapping[str, Scalar],
        *,
        percent: float,
        same_class: bool,
        threads: int,
        holdout: Columns | None = None,
        views: Iterable[FloatArray] | None = None,
        arrays: Mapping[str, Mapping[str, Array]] | None = None,
    ) -> TrialResult:
        """Return everything that is stored of the trial.

        Parameters
        ----------
        summary : mapping of str to Scalar
            What the experiment says of the trial; the statistics of the relation of confidence to
            distance are added.
        percent : float
            Size of either extreme, in percent of the examples.
        same_class : bool
            Whether only training examples of the same class counted as neighbours.
        threads : int
        holdout : Columns, optional
            See :func:`holdout_table`.
        views : iterable of ndarray, (examples,), optional
            Log-odds of the true class for each augmentation, the example itself first. Consumed
            one at a time, when the table is stored.
        arrays : mapping, optional
            Stored beside the joint histogram.
        """
        rank = self.scores[self.ranked_by]
        bottom, top = extremes(rank, percent, self.ids)
        grid = (-math.log(max(2, self.classes - 1)), LOG_ODDS_LIMIT)
        if self.ranked_by == "statistic":
            rank, grid = _share_below(rank), (0.0, 1.0)
        joint, statistics = relate(
            rank,
            self.similarity.distance,
            self.similarity.distance_excluding_self,
            self.is_member,
            bottom,
            top,
            grid=grid,
            threads=threads,
            classes=self.labels if same_class else None,
        )
        tables: dict[str, Any] = {
            "extremes": self._extremes(bottom, top),
            "examples": self._examples(),
        }
        if holdout is not None:
            tables["holdout"] = holdout
        if views is not None:
            tables["augmented"] = self._augmented(views)
        return TrialResult(
            self.trial, tables, {"joint": joint, **(arrays or {})}, {**summary, **statistics}
        )

    def _examples(self) -> Columns:
        return {
            "trial": trial_column(self.trial, len(self.ids)),
            "id": self.ids,
            "label": self.labels,
            "predicted": self.scores["predicted"],
            "is_member": self.is_member,
            **{name: self.scores[name] for name in SCORES},
            **self._statistic(slice(None)),
            "distance": self.similarity.distance,
            "distance_excluding_self": self.similarity.distance_excluding_self,
            "nearest_id": self.similarity.nearest_id,
        }

    def _extremes(self, bottom: NDArray[np.int64], top: NDArray[np.int64]) -> Columns:
        rows = np.concatenate([bottom, top])
        side = np.repeat(np.array([0, 1], np.int8), [len(bottom), len(top)])
        softmax = self.scores["softmax"][rows]
        if self.ranked_by == "log_odds_true":
            # No largest probability is known; the true class's stands for it.
            with np.errstate(over="ignore"):
                softmax = 1 / (1 + np.exp(-self.scores["log_odds_true"][rows]))
        return {
            "trial": trial_column(self.trial, len(rows)),
            "side": Coded(side, ("bottom", "top")),
            "id": self.ids[rows],
            "is_member": self.is_member[rows],
            "softmax": softmax,
            **self._statistic(rows),
            "distance": self.similarity.distance[rows],
            "distance_excluding_self": self.similarity.distance_excluding_self[rows],
        }

    def _statistic(self, rows: Any) -> Columns:
        """Return the column of a statistic, where there is one."""
        found = self.scores.get("statistic")
        return {} if found is None else {"statistic": found[rows]}

    def _augmented(self, views: Iterable[FloatArray]) -> Iterator[Columns]:
        for index, log_odds in enumerate(views):
            yield {
                "trial": trial_column(self.trial, len(self.ids)),
                "id": self.ids,
                "augmentation": np.full(len(self.ids), index, np.int8),
                "statistic" if self.ranked_by == "statistic" else "log_odds_true": log_odds,
            }

    def counts(self, holdout: int) -> dict[str, Scalar]:
        """Return the first entries of a summary: how many examples of each kind there are."""
        return {
            "trial": self.trial,
            "population": len(self.ids),
            "members": int(np.count_nonzero(self.is_member)),
            "holdout": holdout,
        }

    def extreme_count(self, percent: float) -> int:
        """Return how many examples make an extreme."""
        return extreme_count(len(self.ids), percent)

    def accuracies(self) -> dict[str, Scalar]:
        """Return the accuracy on members, on non-members, and the gap between them."""
        right = self.scores["predicted"] == self.labels
        members, others = self._means(right)
        return {
            "member_accuracy": members,
            "non_member_accuracy": others,
            "accuracy_gap": members - others,
        }

    def losses(self) -> dict[str, Scalar]:
        """Return the mean loss of members and of non-members."""
        members, others = self._means(self.scores["loss"])
        return {"member_loss": members, "non_member_loss": others}

    def _means(self, values: Array) -> tuple[float, float]:
        return float(np.mean(values[self.is_member])), float(np.mean(values[~self.is_member]))


def _share_below(values: FloatArray) -> FloatArray:
    """Return the share of values below each, with half of those that equal it."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts / 2
    found: FloatArray = below[inverse.reshape(-1)] / len(values)
    return found


def trial_column(trial: int, count: int) -> NDArray[np.int32]:
    """Return the column ``trial`` of a table with ``count`` rows."""
    return np.full(count, trial, np.int32)


def holdout_table(
    trial: int,
    ids: NDArray[np.int64],
    labels: NDArray[np.int64],
    log_odds_true: FloatArray,
    statistic: FloatArray | None = None,
) -> Columns:
    """Return the table of examples that no model was trained on and no query is made of.

    Parameters
    ----------
    trial : int
    ids, labels : ndarray of int64, (holdout examples,)
    log_odds_true : ndarray of float64, (holdout examples,)
    statistic : ndarray of float64, (holdout examples,), optional
        Where models give a statistic instead.
    """
    return {
        "trial": trial_column(trial, len(ids)),
        "id": ids,
        "label": labels,
        "log_odds_true": log_odds_true,
        **({} if statistic is None else {"statistic": statistic}),
    }
