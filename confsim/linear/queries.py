"""The queries of a linear trial: kept in memory, or measured again for each pass over them.

A trial passes over its queries three times (:meth:`Queries.survey`, :meth:`Queries.count`,
:meth:`Queries.rank`) and then asks for their extremes. Up to :data:`KEPT_QUERIES` queries are
measured once and kept (:class:`InMemory`); an exhaustive run over 10^9 lattice points measures them
block by block for each pass and holds one block (:class:`Streamed`). Both see the queries in the
order of their ids. Nothing here knows what is stored of a trial.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from confsim._kernels.stats import extremes_by_code
from confsim.joint import Kept, Relation
from confsim.linear.draw import Draw, Ids
from confsim.linear.extremes import ExtremeScan
from confsim.linear.lattice import margins_into
from confsim.linear.program import LinearFit

if TYPE_CHECKING:
    from confsim.linear.experiment import LinearExperiment

FloatArray = NDArray[np.float64]
#: Arrays for the margins, distances and labels of a block.
Workspace: TypeAlias = tuple[FloatArray, FloatArray, NDArray[np.int8]]

#: Up to this many queries their margins and distances are kept between passes.
KEPT_QUERIES = 1 << 22

#: Queries of a block, and rows of a batch of an extreme, where they are not kept.
BLOCK = 1 << 20


def workspace(queries: int) -> Workspace:
    """Return arrays for a block's margins, distances and labels.

    Arrays of this size are new memory from the system each time, which costs more than filling
    them: one set serves all blocks and trials.
    """
    size = queries if queries <= KEPT_QUERIES else min(BLOCK, queries)
    return np.empty(size), np.empty(size), np.empty(size, dtype=np.int8)


@dataclass(frozen=True)
class Block:
    """Some queries of a trial: ``margin`` is ``|s|``, ``distance`` raw and including self."""

    ids: Ids
    margin: FloatArray
    distance: FloatArray


@dataclass(frozen=True)
class Ranges:
    """What is known of all queries after the first pass.

    Attributes
    ----------
    low, high : float
        The smallest and the largest margin.
    farthest : float
        The largest distance that there is.
    right : int
        How many queries are on the side of the hyperplane that is right for their class.
    positive : int
        How many queries are of class +1; counted where only training points of a query's class
        are its neighbours, else 0.
    """

    low: float = math.inf
    high: float = 0.0
    farthest: float = 0.0
    right: int = 0
    positive: int = 0


class Measure:
    """Margins and distances of lattice points, given a trial's training set and hyperplane."""

    def __init__(
        self, experiment: "LinearExperiment", draw: Draw, fit: LinearFit, threads: int
    ) -> None:
        self.experiment, self.draw, self.fit, self.threads = experiment, draw, fit, threads

    def margins(
        self, ids: Ids, margin: FloatArray, labels: NDArray[np.int8] | None
    ) -> tuple[float, float, int]:
        """Write margins and classes; return the range of margins, and how many are right."""
        return margins_into(
            self.experiment.lattice,
            ids,
            (self.fit.weights, self.fit.bias),
            self.experiment.ideal,
            margin,
            labels,
            n_threads=self.threads,
        )

    def distances(self, ids: Ids, labels: NDArray[np.int8], distance: FloatArray) -> None:
        """Write raw distances to the nearest training point, a member's own row included."""
        same_class = self.experiment.same_class
        self.experiment.lattice.nearest_into(
            self.draw.points,
            ids,
            distance,
            query_labels=labels if same_class else None,
            training_labels=self.draw.labels.astype(np.int64) if same_class else None,
            n_threads=self.threads,
        )


def queries_of(
    measure: Measure, ids: Ids, space: Workspace, step: Callable[[float], None]
) -> "Queries":
    """Return the queries of a trial: kept in memory where there are few enough."""
    kind = InMemory if len(ids) <= KEPT_QUERIES else Streamed
    return kind(measure, ids, space, step)


class Queries(ABC):
    """All queries of one trial.

    Parameters
    ----------
    measure : Measure
    ids : array or range
        The queries, ascending.
    space : Workspace
        Overwritten with every block.
    step : callable
        Called before each block with the part of a pass that it is; may raise ``Interrupted``.
    """

    def __init__(
        self, measure: Measure, ids: Ids, space: Workspace, step: Callable[[float], None]
    ) -> None:
        self._measure, self._ids, self._space, self._step = measure, ids, space, step
        self._codes: Any = None

    def survey(self) -> Ranges:
        """First pass: find the ranges of margins and distances."""
        low, high, farthest, right, positive = np.inf, 0.0, 0.0, 0, 0
        for block, labels, (lowest, highest, on_their_side) in self._measured():
            low, high, right = min(low, lowest), max(high, highest), right + on_their_side
            farthest = max(farthest, largest(block.distance))
            if labels is not None:
                positive += int(np.count_nonzero(labels > 0))
            self._seen(block)
        self._ranges = Ranges(low, high, farthest, right, positive)
        return self._ranges

    def _measured(
        self,
    ) -> Iterator[tuple[Block, NDArray[np.int8] | None, tuple[float, float, int]]]:
        """Yield (block, its classes where they count, what :meth:`Measure.margins` returned)."""
        margins, distances, sides = self._space
        size = len(margins)
        for start in range(0, len(self._ids), size):
            ids = self._ids[start : start + size]
            self._step(len(ids) / len(self._ids))
            margin, distance, labels = margins[: len(ids)], distances[: len(ids)], sides[: len(ids)]
            wanted = labels if self._measure.experiment.same_class else None
            found = self._measure.margins(ids, margin, wanted)
            self._measure.distances(ids, labels, distance)
            yield Block(ids, margin, distance), wanted, found

    @abstractmethod
    def _seen(self, block: Block) -> None:
        """Take note of a block of the first pass."""

    @abstractmethod
    def count(self, relation: Relation) -> None:
        """Second pass: count all queries."""

    @abstractmethod
    def rank(self, relation: Relation) -> None:
        """Third pass: add the products of ranks, where :meth:`kept` returns no queries."""

    @abstractmethod
    def extremes(self, relation: Relation, count: int) -> Mapping[str, Iterator[Block]]:
        """Return the ``count`` queries of lowest (``"bottom"``) and of highest margin (``"top"``).

        In the order of their margins from the outside in, ties by lower id, block by block.
        """

    def kept(self) -> Kept | None:
        """Return the queries, where they are in memory, for exact ranks."""
        return None


class InMemory(Queries):
    """Queries whose margins and distances are one block, measured once."""

    _block: Block

    def _seen(self, block: Block) -> None:
        self._block = block

    def count(self, relation: Relation) -> None:
        """Count the block and keep its bins."""
        self._step(1.0)
        self._codes = relation.add(self._block.margin, self._block.distance)

    def rank(self, relation: Relation) -> None:
        """Leave ranks to whoever gets :meth:`kept`."""
        self._step(1.0)

    def extremes(self, relation: Relation, count: int) -> Mapping[str, Iterator[Block]]:
        """Select both extremes at once."""
        ids = self._block.ids
        found = extremes_by_code(
            self._block.margin,
            self._codes,
            relation.confidence_histogram(),
            count,
            self._block.distance,
            *(() if isinstance(ids, range) else (ids,)),
        )
        sides = {}
        for side, (rows, margin, distance, *given) in zip(("bottom", "top"), found, strict=True):
            sides[side] = iter([Block(given[0] if given else rows, margin, distance)])
        return sides

    def kept(self) -> Kept:
        """Return the block."""
        ids, members = self._block.ids, self._measure.draw.ids

        def rows() -> NDArray[np.int64]:
            return members if isinstance(ids, range) else np.searchsorted(ids, members)

        return Kept(self._block.margin, self._block.distance, self._codes, rows)


class Streamed(Queries):
    """Queries that are measured again for each pass, one block at a time."""

    def _seen(self, block: Block) -> None:
        pass

    def count(self, relation: Relation) -> None:
        """Measure and count every block."""
        for block, _, _ in self._measured():
            relation.add(block.margin, block.distance)

    def rank(self, relation: Relation) -> None:
        """Measure every block, find its bins again, and add its ranks."""
        for block, _, _ in self._measured():
            codes = relation.codes(block.margin, block.distance)
            relation.add_ranks(codes, block.distance)

    def extremes(self, relation: Relation, count: int) -> Mapping[str, Iterator[Block]]:
        """Scan the margins for one batch of an extreme after the other."""
        return {side: self._ordered(relation, side, count) for side in ("bottom", "top")}

    def _ordered(self, relation: Relation, side: str, count: int) -> Iterator[Block]:
        experiment = self._measure.experiment
        scan = ExtremeScan(self._scan_margins, BLOCK)
        low, high = self._ranges.low, self._ranges.high
        histogram = relation.confidence_histogram()
        for ids, margin in scan.ordered(side, count, low, high, histogram):
            labels = experiment.lattice.labels(ids, *experiment.ideal)
            order = np.argsort(ids)
            ascending, distance = np.empty(len(ids)), np.empty(len(ids))
            self._measure.distances(ids[order], labels[order], ascending)
            distance[order] = ascending
            yield Block(ids, margin, distance)

    def _scan_margins(self) -> Iterator[tuple[Ids, FloatArray, float, float]]:
        """Yield (ids, margins, lowest margin, highest margin) of every block, without distances."""
        margin = np.empty(min(BLOCK, len(self._ids)))
        for start in range(0, len(self._ids), BLOCK):
            self._step(0.0)
            ids = self._ids[start : start + BLOCK]
            low, high, _ = self._measure.margins(ids, margin[: len(ids)], None)
            yield ids, margin[: len(ids)], low, high


def largest(distance: FloatArray) -> float:
    """Return the largest number among distances, 0 if there is none."""
    found = float(distance.max(initial=0.0))
    # NaN spreads in max(), which is many times as fast as fmax().
    return float(np.fmax.reduce(distance, initial=0.0)) if math.isnan(found) else found
