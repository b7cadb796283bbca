"""ROC curves of the attacks, summarised over targets: the table ``roc``.

The table of attacks holds what they achieve at fixed false-positive rates; a curve needs all
thresholds. It is taken from the same scores, on a grid of rates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.statistics import Roc, roc

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: Attacks that are always drawn and need no other models, in the order of a legend.
_THRESHOLDS = ("confidence", "loss", "statistic", "modified_entropy", "closeness")

#: Points of a curve.
_GRID = 121

#: The share of targets that a band leaves out on either side.
_TAIL = 0.1


def always_drawn(*, fixed_variance: bool) -> tuple[str, ...]:
    """Return the attacks whose curves are kept of every run, in the order of a legend.

    Of LiRA, one variance: that by which vulnerability is measured, too. The best attacks join them.
    """
    kind = "fixed_variance" if fixed_variance else "own_variance"
    lira = (f"lira_{side}_{kind}" for side in ("online", "offline"))
    return (*_THRESHOLDS, *lira, "rmia_online", "rmia_offline")


def roc_rows(name: str, scores: FloatArray, is_member: BoolArray) -> list[dict[str, Any]]:
    """Return the points of an attack's curve.

    Parameters
    ----------
    name : str
    scores : ndarray, (targets, examples)
        Higher meaning "member"; NaN where a target's example has no score.
    is_member : ndarray of bool, (targets, examples)

    Returns
    -------
    list of dict
        ``attack``, ``fpr`` (false-positive rate allowed), ``tpr`` (mean over targets of the largest
        true-positive rate at most there; no interpolation), ``tpr_low`` and ``tpr_high`` (10th and
        90th percentile over targets), ``targets``; ``tied``: of how many examples the commonest
        score is, mean over targets, 1 where all scores differ, and ``scored``: examples with a
        score, mean over targets. None where no target has both kinds.
    """
    grid = grid_of(is_member)
    looks = []
    for row, member in zip(scores, is_member, strict=True):
        known = ~np.isnan(row)
        sides = member[known]
        if sides.any() and not sides.all():
            looks.append(look_at(roc(row[known], sides), grid))
    return rows_of(name, grid, looks)


@dataclass(frozen=True, eq=False)
class Look:
    """What one target's curve adds to an attack's.

    Attributes
    ----------
    tpr : ndarray
        On the grid.
    tied, scored : int
        Examples with the commonest score, and all.
    """

    tpr: FloatArray
    tied: int
    scored: int


def look_at(curve: Roc, grid: FloatArray) -> Look:
    """Return what a target's curve adds."""
    return Look(on_grid(curve, grid), largest_tie(curve), curve.members + curve.non_members)


def rows_of(name: str, grid: FloatArray, looks: Sequence[Look]) -> list[dict[str, Any]]:
    """Return the rows of :func:`roc_rows` from each target's part."""
    if not looks:
        return []
    about = {
        "tied": float(np.mean([look.tied for look in looks])),
        "scored": float(np.mean([look.scored for look in looks])),
    }
    return [row | about for row in _summarised(name, grid, [look.tpr for look in looks])]


def grid_of(is_member: BoolArray) -> FloatArray:
    """Return the rates at which curves of targets (targets, examples) are taken."""
    return rates(int(np.count_nonzero(~is_member[0])))


def largest_tie(curve: Roc) -> int:
    """Return how many examples share the commonest score."""
    # Of two sorted runs, which a stable sort merges in linear time.
    ordered = np.sort(np.concatenate([curve.member_scores, curve.non_member_scores]), kind="stable")
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    return int(np.diff(ends, prepend=-1).max())


def rates(non_members: int) -> FloatArray:
    """Return the grid: from the smallest rate that so many non-members can have, to 1."""
    return np.geomspace(1 / max(2, non_members), 1, _GRID)


def on_grid(curve: Roc, grid: FloatArray) -> FloatArray:
    """Return the largest TPR at an FPR of at most each of ``grid``; no interpolation."""
    non_members, members = curve.non_member_scores, curve.member_scores
    allowed = np.floor(grid * len(non_members) + 1e-9).astype(np.int64)
    beyond = len(non_members) - 1 - allowed
    # The highest score that is one false positive too many: members above it are detected.
    barrier = np.where(beyond >= 0, non_members[np.maximum(beyond, 0)], -np.inf)
    detected = 1 - np.searchsorted(members, barrier, side="right") / len(members)
    return np.where(beyond >= 0, detected, 1.0)


def _summarised(name: str, grid: FloatArray, found: Sequence[FloatArray]) -> list[dict[str, Any]]:
    tpr = np.stack(found)
    low, high = np.quantile(tpr, (_TAIL, 1 - _TAIL), axis=0)
    points = np.column_stack([grid, tpr.mean(axis=0), low, high]).tolist()
    return [
        {
            "attack": name,
            "fpr": fpr,
            "tpr": mean,
            "tpr_low": below,
            "tpr_high": above,
            "targets": len(tpr),
        }
        for fpr, mean, below, above in points
    ]
