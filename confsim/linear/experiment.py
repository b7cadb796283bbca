"""The linear pipeline as an experiment: lattice points, a linear program, two confidences.

A trial draws training points from the queries, fits a hyperplane, and relates every query's
confidence to its distance from the training set. Queries come in blocks: when they fit, their
margins and distances are computed once and kept; an exhaustive run over 10^9 lattice points
computes them again for each pass and holds one block.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from confsim._errors import ConfsimError, check_choice, check_integer, check_number
from confsim._kernels import memory, resolve_isa
from confsim._kernels.scores import lattice_margins
from confsim._kernels.select import extremes_by_code
from confsim._kernels.tally import FINE
from confsim.confidence import extreme_count, largest_score, sigmoid_confidence
from confsim.experiment import (
    Coded,
    Columns,
    Context,
    Estimate,
    Experiment,
    Interrupted,
    Scalar,
    Session,
    TrialResult,
)
from confsim.joint import Axes, ExtremeSummary, Kept, Relation
from confsim.linear.chance import closeness
from confsim.linear.extremes import ExtremeScan
from confsim.linear.lattice import Lattice, sample_distinct
from confsim.linear.program import NORMS, OBJECTIVES, SOLVERS, LinearFit, fit_program
from confsim.linear.program.highs import check_installed
from confsim.seeds import Purpose, stream
from confsim.statistics.chance import closeness_chance
from confsim.store.capabilities import repeat_words

FloatArray = NDArray[np.float64]
Ids: TypeAlias = "NDArray[np.int64] | range"

#: Up to this many queries their margins and distances are kept between passes.
KEPT_QUERIES = 1 << 22

#: Queries of a block, and rows of a batch of an extreme, where they are not kept.
BLOCK = 1 << 20

MAX_ATTEMPTS = 1000


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
    confidences: ClassVar[tuple[str, ...]] = ("boundary", "sigmoid")
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


@dataclass(frozen=True)
class _Draw:
    """The training set of a trial."""

    ids: NDArray[np.int64]
    points: FloatArray
    labels: NDArray[np.int8]  # noise-free
    noisy_labels: NDArray[np.int8]
    redraws: int


class LinearSession(Session):
    """The queries of a run, ready for trials."""

    def __init__(self, experiment: LinearExperiment, threads: int) -> None:
        self.experiment = experiment
        self.threads = threads
        self.query_ids = experiment.query_ids()
        self._workspace: tuple[FloatArray, FloatArray, NDArray[np.int8]] | None = None

    def workspace(self) -> tuple[FloatArray, FloatArray, NDArray[np.int8]]:
        """Return room for a block's margins, distances and labels.

        Arrays of this size are new memory from the system each time, which costs more than filling
        them: one set serves all blocks and trials.
        """
        queries = len(self.query_ids)
        size = queries if queries <= KEPT_QUERIES else min(BLOCK, queries)
        if self._workspace is None or len(self._workspace[0]) != size:
            self._workspace = np.empty(size), np.empty(size), np.empty(size, dtype=np.int8)
        return self._workspace

    def run(self, trials: Sequence[int], context: Context) -> Iterator[TrialResult]:
        """Run the trials one after another."""
        for trial in trials:
            draw = self._draw(trial)
            fit = self._fit(draw)
            yield _Trial(self, trial, draw, fit, context).result()

    def _draw(self, trial: int) -> _Draw:
        experiment = self.experiment
        for attempt in range(MAX_ATTEMPTS):
            rng = stream(experiment.seed, Purpose.TRAINING, trial, attempt)
            rows = sample_distinct(len(self.query_ids), experiment.n, rng)
            ids = rows if isinstance(self.query_ids, range) else self.query_ids[rows]
            labels = experiment.lattice.labels(ids, *experiment.ideal)
            noise = stream(experiment.seed, Purpose.LABEL_NOISE, trial, attempt)
            flips = noise.random(experiment.n) < experiment.label_noise
            noisy = np.where(flips, -labels, labels).astype(np.int8)
            if noisy.min() != noisy.max():
                return _Draw(ids, experiment.lattice.points(ids), labels, noisy, attempt)
        raise ConfsimError(
            f"trial {trial}: each of {MAX_ATTEMPTS} draws of {experiment.n} training points held "
            "one class only; use more training points or a more balanced hyperplane"
        )

    def _fit(self, draw: _Draw) -> LinearFit:
        e = self.experiment
        return fit_program(
            draw.points,
            draw.noisy_labels,
            objective=e.objective,
            norm=e.norm,
            C=e.C,
            solver=e.solver,
        )


@dataclass(frozen=True)
class _Block:
    """Some queries of a trial: ``margin`` is ``|s|``, ``distance`` raw and including self."""

    ids: Ids
    margin: FloatArray
    distance: FloatArray


class _Trial:
    """One trial after its fit: passes over the queries, and what they find.

    The first pass finds the ranges of margins and distances, the second counts, the third
    multiplies ranks; then come the extremes.
    """

    def __init__(
        self, session: LinearSession, trial: int, draw: _Draw, fit: LinearFit, context: Context
    ) -> None:
        self._experiment = session.experiment
        self._lattice = session.experiment.lattice
        self._ids = session.query_ids
        self._threads = session.threads
        self._isa = resolve_isa()
        self._trial, self._draw, self._fit, self._context = trial, draw, fit, context
        self._keep = len(self._ids) <= KEPT_QUERIES
        self._workspace = session.workspace()
        self._kept: _Block | None = None
        self._passes, self._first_pass = 0.0, True
        self._low, self._high, self._right, self._positive = np.inf, 0.0, 0, 0

    def result(self) -> TrialResult:
        """Return the trial's tables; its extremes are streamed, and complete the rest."""
        self._measure()
        relation = self._relate()
        arrays = {"model": self._model()}
        summary: dict[str, Scalar] = {}
        return TrialResult(
            self._trial, {"extremes": self._extremes(relation, arrays, summary)}, arrays, summary
        )

    # ---- passes over the queries ---------------------------------------------------------------

    def _blocks(self) -> Iterator[_Block]:
        """Yield the queries block by block, in id order; measured now, or kept from before."""
        if self._kept is not None:
            self._step(1.0)
            yield self._kept
            return
        margins, distances, sides = self._workspace
        size = len(margins)
        for start in range(0, len(self._ids), size):
            ids = self._ids[start : start + size]
            self._step(len(ids) / len(self._ids))
            margin, distance, labels = margins[: len(ids)], distances[: len(ids)], sides[: len(ids)]
            wanted = labels if self._experiment.same_class else None
            low, high, right = self._margins(ids, margin, wanted)
            if self._first_pass:
                self._low, self._high = min(self._low, low), max(self._high, high)
                self._right += right
                if wanted is not None:
                    self._positive += int(np.count_nonzero(labels > 0))
            self._distances(ids, labels, distance)
            block = _Block(ids, margin, distance)
            if self._keep:
                self._kept = block
            yield block

    def _step(self, passes: float) -> None:
        """Report progress, of about four passes in all, and stop when asked to."""
        if self._context.should_stop():
            raise Interrupted
        self._passes += passes
        self._context.progress(self._trial, min(0.99, self._passes / 4))

    def _margins(
        self, ids: Ids, margin: FloatArray, labels: NDArray[np.int8] | None
    ) -> tuple[float, float, int]:
        ideal_weights, ideal_bias = self._experiment.ideal
        return lattice_margins(
            ids,
            self._lattice.points_per_axis,
            self._lattice.granularity,
            self._fit.weights,
            self._fit.bias,
            ideal_weights,
            ideal_bias,
            margin,
            labels,
            self._threads,
            self._isa,
        )

    def _distances(self, ids: Ids, labels: NDArray[np.int8], distance: FloatArray) -> None:
        """Write raw distances to the nearest training point, a member's own row included."""
        same_class = self._experiment.same_class
        self._lattice.nearest_into(
            self._draw.points,
            ids,
            distance,
            query_labels=labels if same_class else None,
            training_labels=self._draw.labels.astype(np.int64) if same_class else None,
            n_threads=self._threads,
        )

    def _measure(self) -> None:
        """First pass: ranges and the scale; then the members' distances excluding self."""
        farthest = 0.0
        for block in self._blocks():
            farthest = max(farthest, _largest(block.distance))
        self._first_pass = False
        self._scale = farthest
        self._measure_members()
        beyond = max(farthest, _largest(self._member_other))
        weights, bias = self._fit.weights, self._fit.bias
        largest = largest_score(weights, bias, self._experiment.grid_size)
        self._axes = Axes(
            confidence_low=self._low,
            confidence_high=self._high,
            distance_high=beyond,
            distance_scale=self._divisor,
            # A degenerate model has confidence 0 everywhere.
            confidence_divisor=np.inf if self._fit.degenerate else largest,
            distances_apart=_far_apart(self._lattice, beyond),
        )

    @property
    def _divisor(self) -> float:
        """What normalises distances: the scale, or 1 where every query is a member."""
        return self._scale if self._scale > 0 else 1.0

    def _measure_members(self) -> None:
        draw = self._draw
        classes = {}
        if self._experiment.same_class:
            classes = {"query_labels": draw.labels, "training_labels": draw.labels}
        nearest = self._lattice.nearest(
            draw.points,
            draw.ids,
            self_index=np.arange(len(draw.ids)),
            n_threads=self._threads,
            **classes,
        )
        assert nearest.distance_excluding_self is not None
        self._member_self = nearest.distance
        self._member_other = nearest.distance_excluding_self
        self._member_margin = np.empty(len(draw.ids))
        self._margins(draw.ids, self._member_margin, None)

    def _relate(self) -> Relation:
        """Second and third pass: counts, then products of ranks."""
        relation = Relation(self._axes, self._threads)
        for block in self._blocks():
            self._codes = relation.add(block.margin, block.distance)
        relation.set_members(self._member_margin, self._member_self, self._member_other)
        for block in self._blocks():
            if self._kept is None:
                self._codes = relation.codes(block.margin, block.distance)
            relation.add_ranks(self._codes, block.distance)
        return relation

    # ---- extremes ------------------------------------------------------------------------------

    def _extremes(
        self, relation: Relation, arrays: dict[str, Any], summary: dict[str, Scalar]
    ) -> Iterator[Columns]:
        """Yield both extremes in batches; at the end fill in what depends on them."""
        count = extreme_count(len(self._ids), self._experiment.percent)
        if self._kept is not None:
            kept = self._kept
            self._kept_extremes = extremes_by_code(
                kept.margin,
                self._codes,
                relation.confidence_histogram(),
                count,
                kept.distance,
                *(() if isinstance(kept.ids, range) else (kept.ids,)),
            )
        sides = {side: ExtremeSummary(self._axes) for side in ("bottom", "top")}
        for side, found in sides.items():
            for block in self._ordered(relation, side, count):
                yield self._extreme_rows(side, block, found)
        arrays["joint"] = relation.joint(sides["bottom"], sides["top"])
        summary.update(self._summary())
        for side, found in sides.items():
            summary.update(found.statistics(side))
        summary.update(relation.statistics(self._kept_queries(), self._chance()))

    def _kept_queries(self) -> Kept | None:
        """Return the queries, where they are in memory, for exact ranks."""
        kept = self._kept
        if kept is None:
            return None
        ids, members = kept.ids, self._draw.ids

        def rows() -> NDArray[np.int64]:
            return members if isinstance(ids, range) else np.searchsorted(ids, members)

        return Kept(kept.margin, kept.distance, self._codes, rows)

    def _chance(self) -> float:
        """Return the AUC of closeness excluding self if membership means nothing."""
        simulated = closeness(self._experiment)
        if simulated is not None:
            return simulated.mean
        labels = self._draw.labels
        if not self._experiment.same_class:
            return closeness_chance(len(labels), len(self._ids) - len(labels))
        members = np.array([np.count_nonzero(labels > 0), np.count_nonzero(labels < 0)])
        queries = np.array([self._positive, len(self._ids) - self._positive])
        return closeness_chance(members, queries - members)

    def _ordered(self, relation: Relation, side: str, count: int) -> Iterator[_Block]:
        """Yield the extreme's points in order of confidence."""
        if self._kept is not None:
            rows, margin, distance, *given = self._kept_extremes[side == "top"]
            yield _Block(given[0] if given else rows, margin, distance)
            return
        scan = ExtremeScan(self._scan_margins, BLOCK)
        histogram = relation.confidence_histogram()
        for ids, margin in scan.ordered(side, count, self._low, self._high, histogram):
            labels = self._lattice.labels(ids, *self._experiment.ideal)
            order = np.argsort(ids)
            ascending, distance = np.empty(len(ids)), np.empty(len(ids))
            self._distances(ids[order], labels[order], ascending)
            distance[order] = ascending
            yield _Block(ids, margin, distance)

    def _scan_margins(self) -> Iterator[tuple[Ids, FloatArray, float, float]]:
        """Yield (ids, margins, lowest margin, highest margin) of every block, without distances."""
        margin = np.empty(min(BLOCK, len(self._ids)))
        for start in range(0, len(self._ids), BLOCK):
            self._step(0.0)
            ids = self._ids[start : start + BLOCK]
            low, high, _ = self._margins(ids, margin[: len(ids)], None)
            yield ids, margin[: len(ids)], low, high

    def _extreme_rows(self, side: str, block: _Block, found: ExtremeSummary) -> Columns:
        ids = np.asarray(block.ids)
        is_member, members = self._find_members(ids, block.distance)
        other = block.distance.copy()
        other[is_member] = self._member_other[members]
        found.add(block.margin, block.distance, other, is_member)
        degenerate = self._fit.degenerate
        return {
            "trial": np.full(len(ids), self._trial, dtype=np.int32),
            "side": Coded(np.full(len(ids), side == "top", dtype=np.int8), ("bottom", "top")),
            "id": ids,
            "is_member": is_member,
            "boundary": block.margin / self._axes.confidence_divisor,
            "sigmoid": np.zeros(len(ids))
            if degenerate
            else sigmoid_confidence(block.margin, n_threads=self._threads),
            "distance": block.distance / self._divisor,
            "distance_excluding_self": other / self._divisor,
            "distance_raw": block.distance,
        }

    def _find_members(
        self, ids: NDArray[np.int64], distance: FloatArray
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Return which ids are members, and the training rows of those.

        A member is at distance 0 from itself: few others need to be looked for.
        """
        rows = np.flatnonzero(distance == 0.0)
        candidates = ids.take(rows)
        place = np.searchsorted(self._draw.ids, candidates).clip(max=len(self._draw.ids) - 1)
        found = self._draw.ids[place] == candidates
        is_member = np.zeros(len(ids), dtype=np.bool_)
        is_member[rows[found]] = True
        return is_member, place[found]

    # ---- what is stored beside them ------------------------------------------------------------

    def _model(self) -> dict[str, NDArray[Any]]:
        ideal_weights, ideal_bias = self._experiment.ideal
        return {
            "weights": self._fit.weights,
            "bias": np.array(self._fit.bias),
            "ideal_weights": ideal_weights,
            "ideal_bias": np.array(ideal_bias),
            "training_ids": self._draw.ids,
            "training_labels": self._draw.noisy_labels,
        }

    def _summary(self) -> dict[str, Scalar]:
        fit, draw = self._fit, self._draw
        return {
            "trial": self._trial,
            "queries": len(self._ids),
            "members": len(draw.ids),
            "redraws": draw.redraws,
            "flipped_labels": int(np.count_nonzero(draw.labels != draw.noisy_labels)),
            "solver_status": fit.status,
            "solver_rounds": fit.rounds,
            "objective_value": fit.objective_value,
            "separable": fit.separable,
            "degenerate": fit.degenerate,
            "training_error": fit.training_errors / len(draw.ids),
            "right_side": self._right / len(self._ids),
            "angle_degrees": angle_degrees(fit.weights, self._experiment.ideal[0]),
            "distance_scale": self._scale,
        }


def _far_apart(lattice: Lattice, largest: float) -> bool:
    """Whether distances that differ are in different bins of ranks, by arithmetic alone.

    Squared distances are multiples of g^2, so that distances up to D differ by at least g^2 / 2D;
    bins are D / 65536 wide. In floating point that is so if the squares are exact, integers but for
    a power of two: then equal distances have equal bits, too.
    """
    odd, _ = lattice.granularity.as_integer_ratio()
    odd //= odd & -odd
    steps = odd * (lattice.points_per_axis - 1)
    if steps * steps * lattice.dimensions >= 1 << 50:
        return False
    return 2 * largest * largest * (1 + 1e-9) <= FINE * lattice.granularity**2


def _largest(distance: FloatArray) -> float:
    """Return the largest number among distances, 0 if there is none."""
    largest = float(distance.max(initial=0.0))
    # NaN spreads in max(), which is many times as fast as fmax().
    return float(np.fmax.reduce(distance, initial=0.0)) if math.isnan(largest) else largest


def angle_degrees(a: FloatArray, b: FloatArray) -> float:
    """Return the angle between two vectors, NaN when one is zero (Kahan: 2 atan2(|a-b|, |a+b|))."""
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    if not all(lengths):
        return math.nan
    a, b = a / lengths[0], b / lengths[1]
    return math.degrees(2 * math.atan2(np.linalg.norm(a - b), np.linalg.norm(a + b)))
