"""Models that were trained elsewhere as an experiment: one trial a model."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from confsim._errors import check_boolean, check_choice, check_integer, check_number
from confsim.auditing.outputs import Outputs
from confsim.experiment import (
    Coded,
    Columns,
    Context,
    Estimate,
    Experiment,
    Interrupted,
    RunData,
    Scalar,
    Session,
    TrialResult,
)
from confsim.similarity import SharedSpace, Similarity
from confsim.store.capabilities import OF_THE_DATA, repeat_words
from confsim.trial_tables import Examined, holdout_table

DESIGNS = ("unknown", "independent", "balanced")


@dataclass(frozen=True)
class AuditExperiment(Experiment):
    """Models that were trained elsewhere, one trial each; made by :meth:`of`.

    Attributes
    ----------
    data_sha256 : str
        Hash of what was given.
    models, examples : int
    design : {"unknown", "independent", "balanced"}
    percent : float
    same_class : bool
    seed : int
    ranked_by : str
        What extremes are ranked by: ``log_odds_max``, or ``log_odds_true`` where only that is
        known.
    votes, smoothing : int and float, or None
        How probabilities that are shares of votes were smoothed.
    model_names : tuple of str
        What the models are called where they come from, by trial; empty where they have no names.
    notes : tuple of str
        What a reader of the numbers should know of how the data were read.
    """

    command: ClassVar[str] = "confsim-audit"

    data_sha256: str
    models: int
    examples: int
    design: str
    percent: float
    same_class: bool
    seed: int
    ranked_by: str
    votes: int | None = None
    smoothing: float | None = None
    model_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        outputs: Outputs,
        *,
        design: str,
        percent: float,
        same_class: bool,
        seed: int,
        model_names: tuple[str, ...] = (),
    ) -> "AuditExperiment":
        """Check the settings against the data."""
        check_choice("design", design, DESIGNS)
        check_number("percent", percent, above=0, maximum=50)
        check_integer("seed", seed, minimum=0)
        same_class = check_boolean("same_class", same_class)
        if same_class and (outputs.labels < 0).any():
            raise ValueError("same_class needs label")
        if design == "balanced":
            _check_balanced(outputs.is_member, model_names)
        known = not np.isnan(outputs.scores["log_odds_max"]).any()
        experiment = cls(
            outputs.fingerprint,
            outputs.is_member.shape[0],
            outputs.is_member.shape[1],
            design,
            float(percent),
            same_class,
            int(seed),
            "log_odds_max" if known else "log_odds_true",
            outputs.zeros.votes,
            outputs.zeros.smoothing,
            model_names,
            outputs.notes,
        )
        # No field: fields are the configuration, which is stored and printed.
        object.__setattr__(experiment, "outputs", outputs)
        return experiment

    outputs: ClassVar[Outputs]

    def identity(self) -> dict[str, Any]:
        """Return what decides a trial's numbers."""
        return {
            "data_sha256": self.data_sha256,
            "models": self.models,
            "examples": self.examples,
            "design": self.design,
            "percent": self.percent,
            "same_class": self.same_class,
            "seed": self.seed,
            **self.outputs.zeros.identity(),
        }

    def capabilities(self) -> dict[str, Any]:
        """State what trials hold: a row for every example, ranked by what is known of it."""
        words = repeat_words(self.command, asdict(self), without=OF_THE_DATA)
        return {
            "examples": True,
            "confidences": ["softmax"],
            "ranking": self.ranked_by,
            "design": self.design,
            "partners": self.design == "balanced",
            "trimming": self.design == "unknown",
            "repeat": [self.command, "DATA", *words[1:]],
            "counted": False,
        }

    def open(self, threads: int, device: str | None = None) -> "AuditSession":
        """Return the session; the data are there already."""
        return AuditSession(self, self.outputs, threads)

    def estimate(self) -> Estimate:
        """Predict the cost of a model, most of it the search for neighbours."""
        features = self.outputs.features
        width = 0 if features is None else features[0].shape[1]
        return Estimate(
            seconds_per_trial=0.05 + self.examples**2 * width * 2e-11,
            bytes_per_trial=100_000 + 100 * self.examples,
            bytes_of_memory_per_worker=200_000_000 + self.examples * (200 + 8 * width),
        )

    def run_data(self) -> RunData:
        """Return the table of examples."""
        outputs = self.outputs
        held = np.repeat(np.array([0, 1], np.int8), [len(outputs.ids), len(outputs.holdout_labels)])
        count = np.arange(len(outputs.holdout_labels))
        labels = np.concatenate([outputs.labels, outputs.holdout_labels])
        population: dict[str, Any] = {
            "id": np.concatenate([outputs.ids, outputs.holdout_ids]),
            "label": labels,
            "duplicate_group": np.concatenate([outputs.groups, outputs.groups.max() + 1 + count]),
            "split": Coded(held, ("population", "holdout")),
        }
        if outputs.class_names and (labels >= 0).all():
            population["label_name"] = Coded(labels, outputs.class_names)
        if outputs.own_groups is not None:
            codes, names = outputs.own_groups.codes, outputs.own_groups.names
            none = np.full(len(count), len(names), np.int64)
            population["group"] = Coded(np.concatenate([codes, none]), (*names, ""))
        if outputs.id_names:
            population["name"] = [*outputs.id_names, *[""] * len(count)]
        return RunData({"population": population})


def _check_balanced(is_member: NDArray[np.bool_], names: Sequence[str]) -> None:
    if len(is_member) % 2:
        raise ValueError(f"design 'balanced' needs an even number of models, not {len(is_member)}")
    for model in range(0, len(is_member), 2):
        same = is_member[model] == is_member[model + 1]
        if same.any():
            first, second = names[model : model + 2] if names else (str(model), str(model + 1))
            raise ValueError(
                f"design 'balanced': models {first} and {second} were not trained on complements "
                f"(row {int(np.argmax(same))})"
            )


class AuditSession(Session):
    """The checked outputs, ready to be published model by model."""

    def __init__(self, experiment: AuditExperiment, outputs: Outputs, threads: int) -> None:
        self._experiment, self._outputs, self._threads = experiment, outputs, threads
        self._labels = outputs.labels if experiment.same_class else None
        self._shared: SharedSpace | None = None
        features = outputs.features or ()
        if outputs.distance is None and len(features) == 1:
            self._shared = SharedSpace(features[0], outputs.ids, self._labels)

    def run(self, trials: Sequence[int], context: Context) -> Iterator[TrialResult]:
        """Yield one result a model."""
        for trial in trials:
            if context.should_stop():
                raise Interrupted
            yield self._result(trial)

    def _result(self, trial: int) -> TrialResult:
        outputs = self._outputs
        examined = Examined(
            trial,
            outputs.ids,
            outputs.labels,
            outputs.is_member[trial],
            {name: values[trial] for name, values in outputs.scores.items()},
            self._similarity(trial),
            outputs.classes,
            self._experiment.ranked_by,
        )
        views = None
        if outputs.augmented is not None:
            views = (np.ascontiguousarray(view) for view in outputs.augmented[trial].T)
        return examined.result(
            self._summary(examined),
            percent=self._experiment.percent,
            same_class=self._experiment.same_class,
            threads=self._threads,
            holdout=self._holdout(trial),
            views=views,
        )

    def _similarity(self, trial: int) -> Similarity:
        outputs, member = self._outputs, self._outputs.is_member[trial]
        if outputs.distance is not None:
            return Similarity.given(outputs.distance[trial], member)
        if outputs.features is None:
            return Similarity.unknown(len(member))
        if self._shared is not None:
            return self._shared.search(member, threads=self._threads)
        return Similarity.search(
            outputs.features[trial], member, outputs.ids, self._labels, threads=self._threads
        )

    def _holdout(self, trial: int) -> Columns | None:
        outputs = self._outputs
        if outputs.holdout is None:
            return None
        return holdout_table(
            trial, outputs.holdout_ids, outputs.holdout_labels, outputs.holdout[trial]
        )

    def _summary(self, examined: Examined) -> dict[str, Scalar]:
        outputs, scores = self._outputs, examined.scores
        summary = {
            **examined.counts(len(outputs.holdout_labels)),
            "distance_scale": 1.0,
            "extreme_count": examined.extreme_count(self._experiment.percent),
            "ranked_by": self._experiment.ranked_by,
        }
        if (scores["predicted"] >= 0).all() and (outputs.labels >= 0).all():
            summary |= examined.accuracies()
        if not np.isnan(scores["loss"]).any():
            summary |= examined.losses()
        return summary
