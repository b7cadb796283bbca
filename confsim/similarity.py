"""How far examples are from a trial's training set: one search, or a space that trials share.

Knows points, labels and members; nothing of models, scores or files.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim.neighbors import nearest_training

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

#: The trial of a shared space that begins its table: making it costs what some searches do.
_WORTH = 3

#: Trials of which one has an example that must be searched.
_RARELY = 16

#: The most neighbours that a table keeps of an example.
_MOST = 64

#: Examples whose neighbours are searched in one call, which bounds the memory of its answers.
_BLOCK = 1 << 16


@dataclass(frozen=True, eq=False)
class Similarity:
    """How far each example is from a trial's training set.

    Attributes
    ----------
    distance : ndarray of float64, (examples,)
        To the nearest training example, normalised to [0, 1]; 0 for a member. NaN where unknown.
    distance_excluding_self : ndarray of float64, (examples,)
        To the nearest training example other than itself.
    nearest_id : ndarray of int64, (examples,)
        Id of that other training example, -1 where there is none.
    """

    distance: FloatArray
    distance_excluding_self: FloatArray
    nearest_id: NDArray[np.int64]

    @classmethod
    def unknown(cls, examples: int) -> "Similarity":
        """Return what stands where nothing is known of distances."""
        nothing = np.full(examples, np.nan)
        return cls(nothing, nothing, np.full(examples, -1, dtype=np.int64))

    @classmethod
    def given(cls, distance: FloatArray, is_member: NDArray[np.bool_]) -> "Similarity":
        """Return distances excluding self that somebody else measured."""
        # A member is its own nearest training example.
        nobody = np.full(len(distance), -1, dtype=np.int64)
        return cls(np.where(is_member, 0.0, distance), distance, nobody)

    @classmethod
    def search(
        cls,
        features: ArrayLike,
        is_member: NDArray[np.bool_],
        ids: NDArray[np.int64],
        labels: NDArray[np.int64] | None,
        *,
        threads: int,
    ) -> "Similarity":
        """Search the members' features for each example's nearest one, by angle.

        Parameters
        ----------
        features : array_like, (examples, d)
        is_member : ndarray of bool, (examples,)
        ids : ndarray of int64, (examples,)
        labels : ndarray of int64, (examples,), or None
            If given, only training examples of the same class count.
        threads : int
        """
        points = np.asarray(features)
        found = _nearest_members(points.__getitem__, slice(None), is_member, labels, threads)
        return cls._of(*found, is_member, ids)

    @classmethod
    def _of(
        cls,
        distance: FloatArray,
        index: NDArray[np.int64],
        is_member: NDArray[np.bool_],
        ids: NDArray[np.int64],
    ) -> "Similarity":
        """Return what follows from the distance and the index of the nearest other member."""
        nearest = np.where(index >= 0, ids[index], -1)
        return cls(np.where(is_member, 0.0, distance), distance, nearest)


def _nearest_members(
    take: Callable[[Any], Array],
    queries: "NDArray[np.int64] | slice",
    is_member: NDArray[np.bool_],
    labels: NDArray[np.int64] | None,
    threads: int,
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Search the nearest member, other than itself, of some examples.

    Parameters
    ----------
    take : callable
        Returns the points of examples.
    queries : ndarray of int64 or slice
        Whose nearest member is searched.
    is_member, labels : ndarray, (examples,)
    threads : int

    Returns
    -------
    distance : ndarray of float64
        NaN where there is none.
    index : ndarray of int64
        Which example it is, -1 where there is none.
    """
    members = np.flatnonzero(is_member)
    own = np.full(len(is_member), -1, dtype=np.int64)
    own[members] = np.arange(len(members))
    found = nearest_training(
        take(queries),
        take(members),
        metric="angular",
        query_labels=None if labels is None else labels[queries],
        training_labels=None if labels is None else labels[members],
        self_index=own[queries],
        n_threads=threads,
    )
    assert found.distance_excluding_self is not None
    assert found.index_excluding_self is not None
    index = found.index_excluding_self
    return found.distance_excluding_self, np.where(index >= 0, members[index], -1)


class SharedSpace:
    """A space that all trials of a run share, where only membership changes.

    Each example's nearest others are searched once, and a trial's answers are read from that table:
    the first who was a member. Where all that are kept of an example were not, it is searched. The
    answers are those of :meth:`Similarity.search`, bit for bit.

    Parameters
    ----------
    points : array_like, (n, d)
    ids : ndarray of int64, (examples,)
    labels : ndarray of int64, (examples,), or None
        If given, only training examples of the same class count.
    rows : ndarray of int64, (examples,), optional
        Those of ``points`` that are examples; default: all.
    """

    def __init__(
        self,
        points: ArrayLike,
        ids: NDArray[np.int64],
        labels: NDArray[np.int64] | None,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self._points, self._ids, self._labels = np.asarray(points), ids, labels
        # Points are copied when they are needed: there may be gigabytes of them.
        self._rows = np.arange(len(self._points)) if rows is None else rows
        self._asked = 0
        self._table: tuple[FloatArray, NDArray[np.int32]] | None = None

    def search(self, is_member: NDArray[np.bool_], *, threads: int) -> Similarity:
        """Return the similarity of every example to a trial's members, of which there is one."""
        self._asked += 1
        count = _worth_keeping(is_member)
        if self._table is None:
            if count is None or self._asked < _WORTH:
                points = self._points[self._rows]
                return Similarity.search(
                    points, is_member, self._ids, self._labels, threads=threads
                )
            self._table = self._neighbours(count, threads)
        distances, neighbours = self._table
        # Index -1, of no neighbour, is that of an example which never is a member.
        hits = np.append(is_member, False)[neighbours]
        every, first = np.arange(len(hits)), hits.argmax(axis=1)
        known = hits[every, first]
        distance = np.where(known, distances[every, first], np.nan)
        index = np.where(known, neighbours[every, first], -1)
        # Who has fewer neighbours than are kept has no others.
        left = np.flatnonzero(~known & (neighbours[:, -1] >= 0))
        if len(left):
            distance[left], index[left] = _nearest_members(
                lambda rows: self._points[self._rows[rows]], left, is_member, self._labels, threads
            )
        return Similarity._of(distance, index, is_member, self._ids)

    def _neighbours(self, count: int, threads: int) -> tuple[FloatArray, NDArray[np.int32]]:
        """Return distances and indices (examples, count) of each example's nearest others."""
        points = self._points[self._rows]
        size = len(points), min(count, len(points) - 1)
        distances, neighbours = np.empty(size), np.empty(size, np.int32)
        own = np.arange(len(points))
        for start in range(0, len(own), _BLOCK):
            block = slice(start, start + _BLOCK)
            found = nearest_training(
                points[block],
                points,
                metric="angular",
                query_labels=None if self._labels is None else self._labels[block],
                training_labels=self._labels,
                self_index=own[block],
                k=size[1],
                n_threads=threads,
            )
            assert found.distance_excluding_self is not None
            assert found.index_excluding_self is not None
            distances[block] = found.distance_excluding_self
            neighbours[block] = found.index_excluding_self
        return distances, neighbours


def _worth_keeping(is_member: NDArray[np.bool_]) -> int | None:
    """Return of how many neighbours hardly a trial has an example with no member among them.

    ``None`` where so many would have to be kept that a search among the few members costs less,
    or where there are no neighbours.
    """
    share = float(np.mean(is_member))
    if len(is_member) < 2 or share == 0.0:
        return None
    if share == 1.0:
        return 1
    count = math.ceil(math.log(_RARELY * len(is_member)) / -math.log1p(-share))
    return max(1, count) if count <= _MOST else None
