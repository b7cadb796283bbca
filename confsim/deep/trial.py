"""A worker's session of the deep pipeline, and what is found out about each model it trains.

A trial trains a model on its members, sends every image of the population through it, and relates
what comes out to the nearest training image.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confsim._errors import ConfsimError
from confsim.confidence import softmax_columns
from confsim.deep import backend as backends
from confsim.deep import design, training
from confsim.deep.datasets import Dataset
from confsim.deep.engines import Engine, Standardisation
from confsim.deep.training import Plan, Schedule, Trained
from confsim.experiment import Columns, Context, Scalar, Session, TrialResult
from confsim.similarity import Similarity
from confsim.trial_tables import Examined, holdout_table, trial_column

if TYPE_CHECKING:
    from confsim.deep.experiment import DeepExperiment

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """The data's two sides.

    Attributes
    ----------
    data : Dataset
        With the canaries in them.
    population, holdout : ndarray of int64
        Rows of the data, ascending.
    canaries : ndarray of int64 or None
        Rows of the data, among the population's; ``None`` where nobody asked for any.
    """

    data: Dataset
    population: NDArray[np.int64]
    holdout: NDArray[np.int64]
    canaries: NDArray[np.int64] | None

    @classmethod
    def of(cls, experiment: "DeepExperiment", data: Dataset) -> "Split":
        """Draw the holdout of a run, and then its canaries from the rest."""
        held = design.holdout_rows(data.labels, data.groups, experiment.holdout, experiment.seed)
        rows, kind = None, experiment._canaries
        if kind is not None:
            rest = np.setdiff1d(np.arange(len(data.labels)), held, assume_unique=True)
            data, rows = kind.put_into(data, rest, experiment.seed)
        everyone = np.arange(len(data.labels))
        return cls(data, np.setdiff1d(everyone, held, assume_unique=True), held, rows)


class DeepSession(Session):
    """A backend, the data on its device and one compiled model, ready for trials."""

    def __init__(self, experiment: "DeepExperiment", threads: int, device: str | None) -> None:
        assert experiment.backend is not None
        backends.prepare(experiment.backend, experiment.threads_per_trial, device)
        self.experiment = experiment
        self.threads = threads
        self.split = Split.of(experiment, experiment.load())
        self.data = self.split.data
        self.schedule = Schedule(
            experiment.epochs,
            experiment.batch_size,
            experiment.patience,
            experiment.min_delta,
            experiment.augment,
            experiment.seed,
            experiment.learning_rate,
            experiment.schedule,
            experiment.warmup,
            experiment.cutout > 0,
        )
        self.engine: Engine = backends.open_engine(
            experiment.settings(self.data), self.data.images, self.data.labels
        )
        self.ensemble = None
        if experiment.trials_at_once() > 1:
            from confsim.deep.engines.jax import JaxEngine
            from confsim.deep.ensemble import Ensemble

            assert isinstance(self.engine, JaxEngine)
            self.ensemble = Ensemble(self.engine, experiment.trials_per_device)

    def run(self, trials: Sequence[int], context: Context) -> Iterator[TrialResult]:
        """Train the trials, one after another or together, and examine each."""
        plans = [self.plan(trial) for trial in trials]
        if self.ensemble is not None:
            trained = self.ensemble.train(self.schedule, plans, context)
        else:
            trained = (
                (plan, training.train(self.engine, self.schedule, plan, context)) for plan in plans
            )
        for plan, outcome in trained:
            yield _Examined(self, plan, outcome).result()

    def plan(self, trial: int) -> Plan:
        """Draw the members of a trial and say what its training watches."""
        experiment, labels = self.experiment, self.data.labels
        population = self.split.population
        canaries = self.split.canaries
        drawn = design.member_rows(
            labels[population],
            experiment.train_ratio,
            experiment.design,
            experiment.seed,
            trial,
            canaries=None if canaries is None else np.searchsorted(population, canaries),
        )
        members = population[drawn]
        watched = {
            "holdout": self.split.holdout,
            "nonmembers": np.setdiff1d(population, members, assume_unique=True),
            "off": np.empty(0, np.int64),
        }[experiment.early_stopping]
        standardisation = Standardisation.of(self.data.images[members])
        traced = population if experiment.traces else np.empty(0, np.int64)
        return Plan(
            trial, members, watched, labels[watched], standardisation, traced, labels[traced]
        )


class _Examined:
    """One trained trial: every population image through the model, and what follows."""

    def __init__(self, session: DeepSession, plan: Plan, trained: Trained) -> None:
        self._session, self._plan, self._trained = session, plan, trained
        self._experiment, self._data = session.experiment, session.data
        self._population = session.split.population
        self._ids = self._data.ids[self._population]
        self._labels = self._data.labels[self._population]
        self._logits, self._features = self._forward(self._population)
        self._is_member = np.isin(self._population, plan.members, assume_unique=True)
        self._examined = Examined(
            plan.trial,
            self._ids,
            self._labels,
            self._is_member,
            softmax_columns(self._logits, self._labels, n_threads=session.threads),
            Similarity.search(
                self._features,
                self._is_member,
                self._ids,
                self._labels if self._experiment.same_class else None,
                threads=session.threads,
            ),
            self._data.classes,
        )

    def _forward(self, rows: NDArray[np.int64], sources: Any = None) -> tuple[Any, Any]:
        logits, features = self._session.engine.forward(rows, self._plan.standardisation, sources)
        if not (np.isfinite(logits).all() and np.isfinite(features).all()):
            raise ConfsimError(
                f"trial {self._plan.trial}: the model's outputs are not finite, training diverged "
                f"(learning rate {self._experiment.learning_rate:g})"
            )
        return logits, features

    def result(self) -> TrialResult:
        """Return everything that is stored."""
        experiment, threads = self._experiment, self._session.threads
        holdout = self._holdout()
        table = holdout_table(
            self._plan.trial,
            self._data.ids[self._session.split.holdout],
            holdout["label"],
            holdout["log_odds_true"],
        )
        found = self._examined.result(
            self._summary(holdout),
            percent=experiment.percent,
            same_class=experiment.same_class,
            threads=threads,
            holdout=table,
            views=self._views() if experiment.query_augment > 1 else None,
            arrays=self._saved(),
        )
        more: dict[str, Any] = {"training": self._curve()}
        if experiment.traces:
            more["traces"] = self._traces()
        return replace(found, tables={**found.tables, **more})

    def _curve(self) -> Columns:
        """Return the training curve, a row for each epoch from 1."""
        values = np.array(self._trained.curve, np.float64).reshape(-1, 3)
        names = ("batch_loss", "validation_loss", "validation_accuracy")
        return {
            "trial": trial_column(self._plan.trial, len(values)),
            "epoch": np.arange(1, len(values) + 1, dtype=np.int32),
            **{name: np.ascontiguousarray(values[:, i]) for i, name in enumerate(names)},
        }

    def _traces(self) -> Iterator[Columns]:
        """Yield log-odds after each epoch, from 1."""
        for epoch, log_odds in enumerate(self._trained.traces, start=1):
            yield {
                "trial": trial_column(self._plan.trial, len(self._ids)),
                "id": self._ids,
                "epoch": np.full(len(self._ids), epoch, np.int16),
                "log_odds_true": log_odds,
            }

    def _holdout(self) -> dict[str, NDArray[Any]]:
        rows = self._session.split.holdout
        labels = self._data.labels[rows]
        if len(rows) == 0:
            nothing = np.empty(0)
            return {
                "label": labels,
                "predicted": labels,
                "log_odds_true": nothing,
                "loss": nothing,
            }
        logits, _ = self._forward(rows)
        return {"label": labels, **softmax_columns(logits, labels, n_threads=self._session.threads)}

    def _views(self) -> Iterator[FloatArray]:
        """Yield log-odds for each flip and shift of the queries; the first is the image itself."""
        for index in range(self._experiment.query_augment):
            sources = design.query_sources(self._data.image_shape, index)
            logits = (
                self._logits if sources is None else self._forward(self._population, sources)[0]
            )
            columns = softmax_columns(logits, self._labels, n_threads=self._session.threads)
            yield columns["log_odds_true"]

    def _saved(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return the arrays that flags ask for."""
        experiment, standardisation = self._experiment, self._plan.standardisation
        rows = {"id": self._ids, "label": self._labels, "is_member": self._is_member}
        saved: dict[str, dict[str, NDArray[Any]]] = {}
        if experiment.save_logits:
            saved["logits"] = {**rows, "logits": self._logits}
        if experiment.save_features:
            saved["features"] = {**rows, "features": self._features}
        if experiment.save_model:
            saved["model"] = {
                **self._session.engine.named_weights(),
                "mean": standardisation.mean,
                "scale": standardisation.scale,
                "training_ids": self._data.ids[self._plan.members],
            }
        return saved

    def _summary(self, holdout: dict[str, NDArray[Any]]) -> dict[str, Scalar]:
        counts = np.bincount(self._data.groups)
        accuracies = self._examined.accuracies()
        gap = accuracies.pop("accuracy_gap")
        return {
            **self._examined.counts(len(holdout["label"])),
            "duplicates": int(counts[counts > 1].sum()),
            "epochs": self._trained.epochs,
            "best_epoch": self._trained.best_epoch,
            "validation_loss": self._trained.validation_loss,
            **accuracies,
            "holdout_accuracy": _mean(holdout["predicted"] == holdout["label"]),
            "accuracy_gap": gap,
            **self._examined.losses(),
            "holdout_loss": _mean(holdout["loss"]),
            "distance_scale": 1.0,
            "features": self._features.shape[1],
            "extreme_count": self._examined.extreme_count(self._experiment.percent),
        }


def _mean(values: NDArray[Any]) -> float:
    return float(np.mean(values)) if len(values) else math.nan
