"""The AUC of closeness in the linear pipeline if membership means nothing, by simulation.

Distances between lattice points do not depend on the model: drawing training sets as trials draw
them, and no more, gives the reference exactly, up to the error of the simulation. It matters where
training points are few; where they are many a formula is as good.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from confsim.seeds import Purpose, stream
from confsim.statistics import auc

if TYPE_CHECKING:
    from confsim.linear.experiment import LinearExperiment

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

#: With more training points the formula is as good as the simulation.
SIMULATED = 32

#: Points in all simulated sets: the standard error of the mean AUC is then below 0.001.
_POINTS = 60_000

#: Numbers of a batch's distances.
_BATCH = 1 << 18

#: Batches without a training set of two classes after which there is no answer.
_FUTILE = 50


@dataclass(frozen=True)
class Chance:
    """What closeness excluding self achieves if membership means nothing.

    Attributes
    ----------
    mean : float
        Average over trials of a trial's AUC.
    across : float
        AUC of the members of one trial against the non-members of others.
    """

    mean: float
    across: float

    def pooled(self, trials: int) -> float:
        """Return the AUC of the pairs of all trials together."""
        return (self.mean + (trials - 1) * self.across) / trials


@lru_cache(maxsize=8)
def closeness(experiment: "LinearExperiment", matched: bool = False) -> Chance | None:
    """Simulate trials of an experiment, without models.

    A training set of n points and one non-member are n + 1 distinct queries, of which each may as
    well be the non-member. So sets of n + 1 are drawn, and each point in turn is the non-member:
    its distance is to the nearest of all others, that of a member to the nearest of all others but
    the non-member. Training sets whose noisy labels are of one class do not count, because trials
    draw them again. With ``same_class`` only points of the same true class are candidates, and
    points without any are left out.

    Parameters
    ----------
    experiment : LinearExperiment
    matched : bool
        Whether every non-member is robbed of one of its candidates, each with the same chance.

    Returns
    -------
    Chance or None
        ``None`` with more than 32 training points, if every query is a member, or if hardly a
        training set has two classes.
    """
    n = experiment.n
    if n > SIMULATED or n >= experiment.query_count:
        return None
    rng = stream(experiment.seed, Purpose.CHANCE)
    queries = experiment.query_ids()
    areas: list[FloatArray] = []
    members: list[FloatArray] = []
    others: list[FloatArray] = []
    found = tried = 0
    while found < _POINTS and (found or tried < _FUTILE):
        tried += 1
        rows = _draw(len(queries), n + 1, max(1, _BATCH // (n + 1) ** 2), rng)
        ids = rows if isinstance(queries, range) else queries[rows]
        sets = _Sets.of(experiment, ids, rng)
        area = sets.areas(matched)[sets.counts]
        areas.append(area[~np.isnan(area)])
        near, far = sets.distances(matched, rng)
        members.append(near)
        others.append(far)
        found += int(np.count_nonzero(sets.counts))
    area, near, far = (np.concatenate(parts) for parts in (areas, members, others))
    if not (len(area) and len(near) and len(far)):
        return None
    closeness_ = -np.concatenate([near, far])
    return Chance(float(np.mean(area)), auc(closeness_, np.arange(len(closeness_)) < len(near)))


def _draw(population: int, size: int, batch: int, rng: np.random.Generator) -> IntArray:
    """Draw ``size`` distinct rows in random order, ``batch`` times (fewer where some repeat)."""
    if 2 * population < size * size:  # most would repeat
        keys = rng.random((batch, population))
        return np.argsort(keys, axis=1)[:, :size]
    rows = rng.integers(population, size=(batch, size))
    ordered = np.sort(rows, axis=1)
    found: IntArray = rows[~(ordered[:, 1:] == ordered[:, :-1]).any(axis=1)]
    return found


@dataclass(frozen=True)
class _Sets:
    """Sets of n + 1 points; distances are squared, and infinite where there is no candidate.

    Attributes
    ----------
    counts : ndarray of bool, (sets, n + 1)
        Whether the others have two classes, so that a trial would be trained on them.
    first, second : ndarray, (sets, n + 1)
        Distance to the nearest and to the second nearest candidate of each point.
    beside : ndarray, (sets, n + 1, n + 1)
        ``[set, y, x]``: distance of member x where y is the non-member; infinite for y itself.
    candidates : ndarray of int, (sets, n + 1)
    """

    counts: BoolArray
    first: FloatArray
    second: FloatArray
    beside: FloatArray
    candidates: IntArray

    @classmethod
    def of(cls, experiment: "LinearExperiment", ids: IntArray, rng: np.random.Generator) -> "_Sets":
        """Measure sets of points, (sets, n + 1) ids."""
        labels = experiment.lattice.labels(ids.reshape(-1), *experiment.ideal).reshape(ids.shape)
        positive = labels > 0
        if experiment.label_noise:
            positive = positive ^ (rng.random(ids.shape) < experiment.label_noise)
        others = np.count_nonzero(positive, axis=1)[:, None] - positive
        points = experiment.lattice.points(ids.reshape(-1)).reshape(*ids.shape, -1)
        squared = np.zeros((*ids.shape, ids.shape[1]))
        for axis in range(points.shape[2]):
            squared += (points[:, :, None, axis] - points[:, None, :, axis]) ** 2
        if experiment.same_class:
            squared[labels[:, :, None] != labels[:, None, :]] = np.inf
        own = np.arange(ids.shape[1])
        squared[:, own, own] = np.inf
        order = np.argpartition(squared, 1, axis=2)
        first, second = (
            np.take_along_axis(squared, order[..., k : k + 1], axis=2)[..., 0] for k in (0, 1)
        )
        beside = np.repeat(first[:, None], ids.shape[1], axis=1)
        np.put_along_axis(beside, order[..., 0][:, None], second[:, None], axis=1)
        beside[:, own, own] = np.inf
        candidates = np.count_nonzero(np.isfinite(squared), axis=2)
        return cls((others > 0) & (others < experiment.n), first, second, beside, candidates)

    def _robbed(self, matched: bool) -> FloatArray:
        """Return the chance that the non-member's nearest candidate is the one it loses."""
        return float(matched) / np.maximum(self.candidates, 1)

    def areas(self, matched: bool) -> FloatArray:
        """Return the AUC of the members against each non-member, NaN where a side has nobody."""
        known = np.isfinite(self.beside)
        robbed = self._robbed(matched)
        wins = np.zeros(self.first.shape)
        for distance, weight in ((self.first, 1 - robbed), (self.second, robbed)):
            far = distance[..., None]
            better = np.sum((self.beside < far) + 0.5 * (self.beside == far), 2, where=known)
            wins += weight * better
        with np.errstate(invalid="ignore"):
            found: FloatArray = wins / np.count_nonzero(known, axis=2)
        found[self.candidates < 1 + int(matched)] = np.nan
        return found

    def distances(self, matched: bool, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Return distances of members and of non-members, each point in turn being the latter."""
        near = self.beside[self.counts]
        lost = rng.random(self.first.shape) < self._robbed(matched)
        far = np.where(lost, self.second, self.first)[self.counts]
        return near[np.isfinite(near)], far[np.isfinite(far)]
