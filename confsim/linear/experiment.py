"""The linear pipeline as an experiment: lattice points, a linear program, two confidences.

A trial draws training points from the queries, fits a hyperplane, and relates every query's
confidence to its distance from the training set: see :mod:`confsim.linear.trial`. Here is what is
configured, and what all trials of a run share.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from confsim._errors import check_boolean, check_choice, check_integer, check_number
from confsim._kernels import memory
from confsim.confidence import extreme_count
from confsim.experiment import Context, Estimate, Experiment, Session, TrialResult
from confsim.linear.draw import Ids, draw_training
from confsim.linear.lattice import Lattice
from confsim.linear.program import NORMS, OBJECTIVES, SOLVERS, fit_program
from confsim.linear.program.highs import check_installed
from confsim.linear.queries import BLOCK, KEPT_QUERIES, Workspace, workspace
from confsim.linear.trial import Trial
from confsim.seeds import Purpose, stream
from confsim.store.capabilities import repeat_words

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class LinearExperiment(Experiment):
    """Configuration of the linear pipeline; DESIGN's terms, one attribute a flag.

    Attributes
    ----------
    n : int
        Training points of a trial, at least 2.
    queries : int or None
        Lattice points queried, drawn without replacement; ``None``: every point.
    dimensions, grid_size, granularity
        The lattice: ``d``, side ``L`` and step ``g`` in the same unit.
    weights : tuple of float or None
        Ideal hyperplane's normal; ``None``: ``(1, -1, 1, -1, ...)``.
    bias : float or None
        Ideal hyperplane's offset; ``None``: through the centre of the box.
    objective, norm, C, solver
        The linear program; see :func:`confsim.linear.program.fit_program`.
    label_noise : float
        Probability that a training label is flipped for fitting.
    percent : float
        Size of either extreme, in percent of the queries.
    same_class : bool
        Whether only training points of the query's class count as neighbours.
    seed : int

    Raises
    ------
    ValueError, TypeError
        If a value is out of bounds; the message names the argument.
    """

    command: ClassVar[str] = "confsim-linear"
    modules: ClassVar[tuple[str, ...]] = ("highspy",)

    n: int = 10
    queries: int | None = 1_000_000
    dimensions: int = 2
    grid_size: float = 1000.0
    granularity: float = 1.0
    weights: tuple[float, ...] | None = None
    bias: float | None = None
    objective: str = "slack"
    norm: str = "l1"
    C: float = 1.0
    solver: str = "working-set"
    label_noise: float = 0.0
    percent: float = 5.0
    same_class: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("n", self.n, minimum=2)
        if self.queries is not None:
            check_integer("queries", self.queries, minimum=2)
        lattice = self.lattice
        check_choice("objective", self.objective, OBJECTIVES)
        check_choice("norm", self.norm, NORMS)
        check_number("C", self.C, above=0)
        check_choice("solver", self.solver, SOLVERS)
        if self.objective == "slack" and (self.norm != "l1" or self.C != 1.0):
            raise ValueError("norm and C apply to objective='margin'; 'slack' has neither")
        check_number("label_noise", self.label_noise, minimum=0, maximum=1)
        check_number("percent", self.percent, above=0, maximum=50)
        check_integer("seed", self.seed, minimum=0)
        object.__setattr__(self, "same_class", check_boolean("same_class", self.same_class))
        self._check_hyperplane()
        if self.n > self.query_count:
            raise ValueError(
                f"n must be at most the number of queries, {self.query_count:,}, not {self.n:,}"
                + ("" if self.queries is not None else f" (lattice points: {lattice.size:,})")
            )

    def _check_hyperplane(self) -> None:
        if self.weights is not None:
            if len(self.weights) != self.dimensions:
                raise ValueError(
                    f"weights must have one entry for each of the {self.dimensions} dimensions, "
                    f"not {len(self.weights)}"
                )
            for weight in self.weights:
                check_number("weights", weight)
            if not any(self.weights):
                raise ValueError("weights must not all be zero")
        if self.bias is not None:
            check_number("bias", self.bias)
        weights, bias = self.ideal
        with np.errstate(over="ignore"):
            farthest = self.grid_size * np.sum(np.abs(weights)) + abs(bias)
        if not np.isfinite(farthest):
            raise ValueError(
                f"weights and bias must be smaller: on a lattice of side {self.grid_size:g} the "
                "decision value overflows"
            )

    @cached_property
    def lattice(self) -> Lattice:
        """The population."""
        return Lattice(self.grid_size, self.granularity, self.dimensions)

    @property
    def query_count(self) -> int:
        """Number of queries."""
        return self.lattice.size if self.exhaustive else int(self.queries or 0)

    @property
    def exhaustive(self) -> bool:
        """Whether every lattice point is queried."""
        return self.queries is None or self.queries >= self.lattice.size

    @cached_property
    def ideal(self) -> tuple[FloatArray, float]:
        """Weights and bias of the ideal hyperplane."""
        if self.weights is None:
            weights = np.where(np.arange(self.dimensions) % 2 == 0, 1.0, -1.0)
        else:
            weights = np.array(self.weights, dtype=np.float64)
        if self.bias is None:
            with np.errstate(over="ignore", invalid="ignore"):  # such a bias is refused
                return weights, -(self.grid_size / 2) * float(np.sum(weights)) + 0.0
        return weights, float(self.bias)

    def query_ids(self) -> Ids:
        """Return the ids of the queries, ascending; the same for every trial of the run."""
        if self.exhaustive:
            return range(self.lattice.size)
        return self.lattice.sample(self.query_count, stream(self.seed, Purpose.QUERIES))

    def identity(self) -> dict[str, Any]:
        """Return what decides a trial's numbers; the solver's version is part of it."""
        weights, bias = self.ideal
        return {
            "n": int(self.n),
            "queries": self.query_count,
            "exhaustive": self.exhaustive,
            "dimensions": int(self.dimensions),
            "grid_size": float(self.grid_size),
            "granularity": float(self.granularity),
            "weights": weights.tolist(),
            "bias": bias,
            "objective": self.objective,
            "norm": self.norm,
            "C": float(self.C),
            "solver": self.solver,
            "highs": version("highspy"),
            "label_noise": float(self.label_noise),
            "percent": float(self.percent),
            "same_class": bool(self.same_class),
            "seed": int(self.seed),
        }

    def capabilities(self) -> dict[str, Any]:
        """State what trials hold: extremes of two confidences, and a lattice to score anew."""
        free = ("norm", "C") if self.objective == "slack" else ()
        named = {"queries": "all"}
        return {
            "lattice": True,
            "confidences": ["boundary", "sigmoid"],
            "ranking": "boundary",
            "repeat": repeat_words(self.command, asdict(self), named=named, without=free),
            "folders": [["distance_conf", "boundary"], ["sigmoid_conf", "sigmoid"]],
        }

    def check(self, trials: int) -> None:
        """Refuse a hyperplane that leaves all queries on one side; find the solver."""
        check_installed()
        weights, bias = self.ideal
        if self.exhaustive:
            # Rounding is monotone, so the extreme scores are at two corners also in float64.
            last = self.lattice.points_per_axis - 1
            corners = np.array([np.where(weights < 0, last, 0), np.where(weights > 0, last, 0)])
            labels = self.lattice.labels(self._corner_ids(corners), weights, bias)
        else:
            labels = self.lattice.labels(self.query_ids(), weights, bias)
        if labels.min() == labels.max():
            raise ValueError(
                f"bias and weights put all {self.query_count:,} queries in class {labels[0]:+d}: "
                "choose a hyperplane that crosses the box [0, grid_size]^dimensions"
            )

    def _corner_ids(self, coordinates: NDArray[np.int64]) -> NDArray[np.int64]:
        per_axis = self.lattice.points_per_axis
        ids = [0, 0]
        for k in range(self.dimensions):
            ids = [i * per_axis + int(c) for i, c in zip(ids, coordinates[:, k], strict=True)]
        return np.array(ids, dtype=np.int64)

    def open(self, threads: int, device: str | None = None) -> "LinearSession":
        """Draw the queries."""
        memory.keep_freed()
        return LinearSession(self, threads)

    def estimate(self) -> Estimate:
        """Predict from measured costs a point; see ``benchmarks/``."""
        queries, rows = self.query_count, 2 * extreme_count(self.query_count, self.percent)
        kept = queries <= KEPT_QUERIES
        return Estimate(
            seconds_per_trial=0.01 + queries * (25e-9 if kept else 60e-9) + rows * 4e-7,
            bytes_per_trial=20_000 + 32 * rows,
            bytes_of_memory_per_worker=150_000_000 + 40 * (queries if kept else BLOCK),
        )


class LinearSession(Session):
    """The queries of a run, ready for trials."""

    def __init__(self, experiment: LinearExperiment, threads: int) -> None:
        self.experiment = experiment
        self.threads = threads
        self.query_ids = experiment.query_ids()
        self._workspace: Workspace | None = None

    def run(self, trials: Sequence[int], context: Context) -> Iterator[TrialResult]:
        """Run the trials one after another."""
        e = self.experiment
        if self._workspace is None:
            self._workspace = workspace(len(self.query_ids))
        for trial in trials:
            draw = draw_training(e, self.query_ids, trial)
            fit = fit_program(
                draw.points,
                draw.noisy_labels,
                objective=e.objective,
                norm=e.norm,
                C=e.C,
                solver=e.solver,
            )
            yield Trial(
                e, self.query_ids, trial, draw, fit, self.threads, self._workspace, context
            ).result()
