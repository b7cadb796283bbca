"""One trial of the linear pipeline: passes over its queries, and what they find.

The first pass finds the ranges of margins and distances, the second counts, the third multiplies
ranks; then come the extremes. How queries are held is no concern of this module: see
:mod:`confsim.linear.queries`.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confsim.confidence import extreme_count, largest_score, sigmoid_confidence
from confsim.experiment import Coded, Columns, Context, Finish, Interrupted, Scalar, TrialResult
from confsim.joint import Axes, ExtremeSummary, Relation
from confsim.linear.chance import closeness
from confsim.linear.draw import Draw, Ids
from confsim.linear.lattice import Lattice
from confsim.linear.program import LinearFit
from confsim.linear.queries import Block, Measure, Workspace, largest, queries_of
from confsim.statistics.chance import closeness_chance

if TYPE_CHECKING:
    from confsim.linear.experiment import LinearExperiment


FloatArray = NDArray[np.float64]


class Trial:
    """One trial after its fit.

    Parameters
    ----------
    experiment : LinearExperiment
    query_ids : array or range
        Lattice points queried, ascending.
    trial : int
    draw : Draw
    fit : LinearFit
    threads : int
    space : Workspace
        See :func:`confsim.linear.queries.workspace`.
    context : Context
    """

    def __init__(
        self,
        experiment: "LinearExperiment",
        query_ids: Ids,
        trial: int,
        draw: Draw,
        fit: LinearFit,
        threads: int,
        space: Workspace,
        context: Context,
    ) -> None:
        self._experiment, self._ids, self._trial = experiment, query_ids, trial
        self._draw, self._fit, self._context = draw, fit, context
        self._threads = threads
        self._measure = Measure(experiment, draw, fit, threads)
        self._queries = queries_of(self._measure, query_ids, space, self._step)
        self._passes = 0.0

    def result(self) -> TrialResult:
        """Return the trial's tables; its extremes are streamed, and finishing adds the rest."""
        self._survey()
        relation = self._relate()
        sides = {side: ExtremeSummary(self._axes) for side in ("bottom", "top")}
        return TrialResult(
            self._trial,
            {"extremes": self._extremes(relation, sides)},
            {"model": self._model()},
            {},
            finish=lambda: self._finish(relation, sides),
        )

    def _step(self, passes: float) -> None:
        """Report progress, of about four passes in all, and stop when asked to."""
        if self._context.should_stop():
            raise Interrupted
        self._passes += passes
        self._context.progress(self._trial, min(0.99, self._passes / 4))

    # ---- passes over the queries ---------------------------------------------------------------

    def _survey(self) -> None:
        """First pass: ranges and the scale; then the members' distances excluding self."""
        self._ranges = self._queries.survey()
        self._scale = self._ranges.farthest
        self._measure_members()
        beyond = max(self._scale, largest(self._member_other))
        weights, bias = self._fit.weights, self._fit.bias
        self._axes = Axes(
            confidence_low=self._ranges.low,
            confidence_high=self._ranges.high,
            distance_high=beyond,
            distance_scale=self._divisor,
            # A degenerate model has confidence 0 everywhere.
            confidence_divisor=np.inf
            if self._fit.degenerate
            else largest_score(weights, bias, self._experiment.grid_size),
            distance_step=_exact_step(self._experiment.lattice),
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
        nearest = self._experiment.lattice.nearest(
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
        self._measure.margins(draw.ids, self._member_margin, None)

    def _relate(self) -> Relation:
        """Second and third pass: counts, then products of ranks."""
        relation = Relation(self._axes, self._threads)
        self._queries.count(relation)
        relation.set_members(self._member_margin, self._member_self, self._member_other)
        self._queries.rank(relation)
        return relation

    # ---- extremes ------------------------------------------------------------------------------

    def _extremes(self, relation: Relation, sides: dict[str, ExtremeSummary]) -> Iterator[Columns]:
        """Yield both extremes in batches, and sum them up on the way."""
        count = extreme_count(len(self._ids), self._experiment.percent)
        blocks = self._queries.extremes(relation, count)
        for side, found in sides.items():
            for block in blocks[side]:
                yield self._extreme_rows(side, block, found)

    def _extreme_rows(self, side: str, block: Block, found: ExtremeSummary) -> Columns:
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

    def _finish(self, relation: Relation, sides: dict[str, ExtremeSummary]) -> Finish:
        """Return what depends on the extremes, once they have all been yielded."""
        summary = self._summary()
        for side, found in sides.items():
            summary.update(found.statistics(side))
        summary.update(relation.statistics(self._queries.kept(), self._chance()))
        return {"joint": relation.joint(sides["bottom"], sides["top"])}, summary

    def _chance(self) -> float:
        """Return the AUC of closeness excluding self if membership means nothing."""
        simulated = closeness(self._experiment)
        if simulated is not None:
            return simulated.mean
        labels = self._draw.labels
        if not self._experiment.same_class:
            return closeness_chance(len(labels), len(self._ids) - len(labels))
        members = np.array([np.count_nonzero(labels > 0), np.count_nonzero(labels < 0)])
        positive = self._ranges.positive
        queries = np.array([positive, len(self._ids) - positive])
        return closeness_chance(members, queries - members)

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
            "right_side": self._ranges.right / len(self._ids),
            "angle_degrees": angle_degrees(fit.weights, self._experiment.ideal[0]),
            "distance_scale": self._scale,
        }


def _exact_step(lattice: Lattice) -> float:
    """Return g^2 if squared distances are exact multiples of it in floating point, else 0.

    They are if they are integers below 2^50 but for a power of two.
    """
    odd, _ = lattice.granularity.as_integer_ratio()
    odd //= odd & -odd
    steps = odd * (lattice.points_per_axis - 1)
    exact = steps * steps * lattice.dimensions < 1 << 50
    return lattice.granularity**2 if exact else 0.0


def angle_degrees(a: FloatArray, b: FloatArray) -> float:
    """Return the angle between two vectors, NaN when one is zero (Kahan: 2 atan2(|a-b|, |a+b|))."""
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    if not all(lengths):
        return math.nan
    a, b = a / lengths[0], b / lengths[1]
    return math.degrees(2 * math.atan2(np.linalg.norm(a - b), np.linalg.norm(a + b)))
