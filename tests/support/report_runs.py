"""Runs for tests of the report, published through the store like any other: no model is trained."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from confsim import recipes
from confsim.confidence import extremes
from confsim.experiment import Coded, Context, Estimate, Experiment, RunData, Session, TrialResult
from confsim.joint import relate
from confsim.linear.experiment import LinearExperiment
from confsim.store import Run, create, open_run

#: Epochs of the training curves that are made up.
_EPOCHS = 6


@dataclass(frozen=True)
class FakeDeep(Experiment):
    """Looks like a run of the deep pipeline: members are more confident, hard images far off."""

    command: ClassVar[str] = "confsim-deep"

    dataset: str = "made-up <b>data</b>"
    model: str = "cnn"
    examples: int = 300
    train_ratio: float = 0.5
    early_stopping: str = "nonmembers"
    design: str = "independent"
    percent: float = 5.0
    seed: int = 0
    names: tuple[str, ...] = ("<script>alert(1)</script>", "a & b", "$x^$", "dog")
    images: bool = True
    joint: bool = True
    own_groups: tuple[str, ...] = ()
    recipe: str | None = None

    def identity(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset,
            "model": self.model,
            "train_ratio": self.train_ratio,
            "early_stopping": self.early_stopping,
            "design": self.design,
            "examples": self.examples,
            "percent": self.percent,
            "seed": self.seed,
            **self._recipe(),
        }

    def _recipe(self) -> dict[str, Any]:
        if self.recipe is None:
            return {}
        return {"recipe": self.recipe, "recipe_sha256": recipes.load(self.recipe).sha256}

    def estimate(self) -> Estimate:
        return Estimate(0.0, 0, 0)

    def open(self, threads: int, device: str | None = None) -> Session:
        return FakeSession(self)

    @property
    def labels(self) -> "np.ndarray[Any, Any]":
        return np.arange(self.examples) % len(self.names)

    def run_data(self) -> RunData:
        rng = np.random.default_rng(1)
        held = self.examples // 10
        labels = np.concatenate([self.labels, np.arange(held) % len(self.names)])
        total = self.examples + held
        groups = np.arange(total)
        groups[1] = 0
        population: dict[str, Any] = {
            "id": np.arange(total),
            "label": labels,
            "label_name": Coded(labels, self.names),
            "duplicate_group": groups,
            "split": Coded(
                (np.arange(total) >= self.examples).astype(np.int8), ("population", "holdout")
            ),
        }
        if self.own_groups:
            population["group"] = Coded(np.arange(total) % len(self.own_groups), self.own_groups)
        pictures = rng.integers(0, 255, (total, 6, 6, 1)).astype(np.uint8)
        return RunData({"population": population}, {"images": pictures} if self.images else {})


class FakeSession(Session):
    def __init__(self, experiment: FakeDeep) -> None:
        self.experiment = experiment

    def run(self, trials: Sequence[int], context: Context | None) -> Iterator[TrialResult]:
        for trial in trials:
            yield self.result(trial)

    def result(self, trial: int) -> TrialResult:
        e = self.experiment
        rng = np.random.default_rng([e.seed, trial])
        n, ids = e.examples, np.arange(e.examples)
        member = rng.random(n) < e.train_ratio
        hardness = np.random.default_rng(e.seed).normal(size=n)
        log_odds = 2 - hardness + 0.8 * member + rng.normal(size=n)
        other = np.clip(0.2 + 0.05 * hardness + 0.02 * rng.normal(size=n), 0.001, 1)
        distance = np.where(member, 0.0, other)
        rank = np.abs(log_odds)
        bottom, top = extremes(rank, e.percent, ids)
        joint, statistics = relate(
            rank, distance, other, member, bottom, top, grid=(-math.log(3), 30.0), threads=1
        )
        rows = np.concatenate([bottom, top])
        predicted = np.where(log_odds > 0, e.labels, (e.labels + 1) % len(e.names))
        softmax = 1 / (1 + np.exp(-rank))
        side = np.repeat(np.array([0, 1], np.int8), [len(bottom), len(top)])
        held = n // 10
        tables: dict[str, Any] = {
            "extremes": {
                "trial": np.full(len(rows), trial, np.int32),
                "side": Coded(side, ("bottom", "top")),
                "id": rows,
                "is_member": member[rows],
                "softmax": softmax[rows],
                "distance": distance[rows],
                "distance_excluding_self": other[rows],
            },
            "examples": {
                "trial": np.full(n, trial, np.int32),
                "id": ids,
                "label": e.labels,
                "predicted": predicted,
                "is_member": member,
                "softmax": softmax,
                "log_odds_max": rank,
                "log_odds_true": log_odds,
                "loss": np.logaddexp(0, -log_odds),
                "entropy": 1 / (1 + rank),
                "modified_entropy": 1 / (4 + log_odds) ** 2,
                "distance": distance,
                "distance_excluding_self": other,
                "nearest_id": rng.integers(0, n, n),
            },
            "training": {
                "trial": np.full(_EPOCHS, trial, np.int32),
                "epoch": np.arange(1, _EPOCHS + 1, dtype=np.int16),
                "batch_loss": 2.0 / np.arange(1, _EPOCHS + 1) + rng.random(_EPOCHS),
                "validation_loss": 0.5 + 2.0 / np.arange(1, _EPOCHS + 1),
                "validation_accuracy": 1 - 0.7 / np.arange(1, _EPOCHS + 1),
            },
            "holdout": {
                "trial": np.full(held, trial, np.int32),
                "id": n + np.arange(held),
                "label": np.arange(held) % len(e.names),
                "log_odds_true": 2 + rng.normal(size=held),
            },
        }
        right = predicted == e.labels
        summary = {
            "trial": trial,
            "members": int(member.sum()),
            "best_epoch": _EPOCHS - 1,
            "member_accuracy": float(right[member].mean()),
            "non_member_accuracy": float(right[~member].mean()),
            **statistics,
        }
        return TrialResult(trial, tables, {"joint": joint} if e.joint else {}, summary)


def publish(
    path: Path, experiment: Experiment, trials: int, *, without: tuple[int, ...] = ()
) -> Run:
    """Run an experiment's trials in this process and publish them."""
    store = create(path, experiment, trials, overwrite=False, owner="test", keep="all")
    data = experiment.run_data()
    if data.tables or data.arrays:
        store.publish_run_data(data)
    session = experiment.open(1)
    for result in session.run([t for t in range(trials) if t not in without], Quiet()):
        store.publish(result)
    return open_run(path)


class Quiet:
    def progress(self, trial: int, fraction: float, note: str = "") -> None:
        pass

    def should_stop(self) -> bool:
        return False

    def scratch(self, trial: int) -> Path:
        raise AssertionError("nobody asked for checkpoints")


def linear(**options: Any) -> LinearExperiment:
    """A small linear experiment."""
    settings = {"n": 20, "queries": 3000, "grid_size": 100.0, **options}
    return LinearExperiment(**settings)
