"""Leverage in the trials of the linear pipeline: who is exposed, and whether confidence shows it.

How far a linear fit bends towards a training point is that point's leverage, so that in the linear
setting membership risk *is* leverage. Here each query's leverage is measured without one training
point: a member without itself, a non-member without a random one. Both are then compared with as
many, drawn alike, and the AUC of leverage is 0.5 exactly if membership means nothing.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confsim.membership.leverage import leverage_without
from confsim.seeds import Purpose, stream
from confsim.statistics import CORRELATION, RATE, auc, mean_interval, spearman

if TYPE_CHECKING:
    from confsim.linear.lattice import Lattice

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: Bins of equally many queries, by leverage.
BINS = 5


def why_not(training: int, dimensions: int) -> str | None:
    """Say why leverage cannot be measured, ``None`` if it can."""
    if training >= dimensions + 3:
        return None
    return (
        f"with {training} training points in {dimensions} dimensions every fit without one of them "
        "is exact, and leverage says nothing"
    )


class LinearLeverage:
    """Leverage of all queries, trial after trial, and how confidence goes with it.

    Parameters
    ----------
    lattice : Lattice
    seed : int
        Decides which training point each non-member does without.
    """

    def __init__(self, lattice: "Lattice", seed: int) -> None:
        self._lattice, self._seed = lattice, seed
        self._bins: list[list[dict[str, float]]] = []
        self._related: list[dict[tuple[str, str], float]] = []

    def add(
        self,
        trial: int,
        ids: NDArray[np.int64],
        is_member: BoolArray,
        confidence: FloatArray,
        closeness: FloatArray,
    ) -> FloatArray:
        """Measure a trial; return its negated leverage, a score of every query."""
        points = self._lattice.points(ids)
        members = int(np.count_nonzero(is_member))
        rng = stream(self._seed, Purpose.MATCHED, trial)
        left_out = rng.integers(members, size=len(ids))
        left_out[is_member] = np.arange(members)
        found = leverage_without(points, points[is_member], left_out)
        order = np.argsort(found, kind="stable")
        self._bins.append(
            [_bin(found[part], is_member[part], confidence[part])
             for part in np.array_split(order, BINS)]
        )  # fmt: skip
        others = {"confidence": confidence, "distance_excluding_self": -closeness}
        self._related.append(
            {
                (who, name): spearman(found[rows], values[rows])
                for who, rows in (("queries", slice(None)), ("members", is_member))
                for name, values in others.items()
            }
        )
        return -found

    def bins(self) -> list[dict[str, Any]]:
        """Return how well confidence tells members among queries of similar leverage.

        The AUC is taken within each trial and bin that holds both kinds, and averaged over trials;
        bounds are Student's t over trials, on the logit scale: these queries.
        """
        rows = []
        for number, found in enumerate(zip(*self._bins, strict=True)):
            areas = [one["auc"] for one in found]
            mean, low, high = mean_interval(areas, RATE)
            rows.append(
                {
                    "bin": number,
                    "leverage_low": float(np.mean([one["low"] for one in found])),
                    "leverage_high": float(np.mean([one["high"] for one in found])),
                    "members": int(sum(one["members"] for one in found)),
                    "auc_confidence": mean,
                    "auc_confidence_low": low,
                    "auc_confidence_high": high,
                    "trials": int(np.count_nonzero(~np.isnan(areas))),
                }
            )
        return rows

    def correlations(self) -> list[dict[str, Any]]:
        """Return rank correlations of leverage within trials, averaged over them."""
        rows = []
        for who, name in self._related[0]:
            values = [one[who, name] for one in self._related]
            mean, low, high = mean_interval(values, CORRELATION)
            rows.append(
                {
                    "among": who,
                    "with": name,
                    "spearman": mean,
                    "spearman_low": low,
                    "spearman_high": high,
                    "trials": int(np.count_nonzero(~np.isnan(values))),
                }
            )
        return rows


def _bin(found: FloatArray, is_member: BoolArray, confidence: FloatArray) -> dict[str, float]:
    members = int(np.count_nonzero(is_member))
    both = 0 < members < len(found)
    return {
        "low": float(found[0]),
        "high": float(found[-1]),
        "members": members,
        "auc": auc(confidence, is_member) if both else float("nan"),
    }
