"""Whether attacks find the same examples: across trials, and across attacks.

Two attacks with equal true-positive rates can find different members; an attack that finds a tenth
of the members of every model may find every member once, or the same tenth always (Wang et al.
2025).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import check_choice, check_mapping, check_number
from confsim.membership.shadow import check_scores
from confsim.membership.transfer import transferred_thresholds
from confsim.statistics import check_membership, roc, spearman

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: Examples that are compared at once.
_BLOCK = 1 << 16


@dataclass(frozen=True, eq=False)
class Agreement:
    """What :func:`agreement` found.

    Attributes
    ----------
    attacks : list of dict
        For each attack: ``attack``, ``found`` (pairs of trial and member), ``tpr``; ``coverage``:
        share of examples that were found at least once, of those that were members at least once;
        ``stability``: share of examples that were found in every trial that they were members of,
        of those that were members at least twice; ``jaccard_trials``: mean over pairs of trials of
        the Jaccard index of what was found, among examples that were members of both, and
        ``jaccard_trials_chance``: about the same if as many had been found at random.
    pairs : list of dict
        For each pair of attacks: ``attack``, ``other``, ``jaccard`` (mean over trials),
        ``intersection`` and ``union`` (pairs of trial and member), ``spearman`` (of the scores of
        members, mean over trials).
    union, intersection : float
        Share of members, over all trials, that at least one attack, or every attack, found.
    times_member : ndarray of int64, (examples,)
    times_found : dict of str to ndarray of int64, (examples,)
        In how many trials each attack found each example as a member.
    """

    attacks: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    union: float
    intersection: float
    times_member: NDArray[np.int64]
    times_found: dict[str, NDArray[np.int64]]


def agreement(
    scores: Mapping[str, ArrayLike],
    is_member: ArrayLike,
    *,
    level: float = 0.01,
    threshold: str = "transferred",
    partner: ArrayLike | None = None,
) -> Agreement:
    """Compare which members attacks find at one false-positive rate.

    Parameters
    ----------
    scores : mapping of str to array_like, (trials, examples)
        By attack. NaN where there is no answer: not found.
    is_member : array_like of bool or 0/1, (trials, examples)
    level : float
        False-positive rate, in [0, 1].
    threshold : {"transferred", "oracle"}
        Chosen on the other trials, or on each target itself.
    partner : array_like of int, (trials,), optional

    Notes
    -----
    A large Jaccard index between trials says that an attack singles out examples, not that it is
    right about them; compare it with chance. With few trials ``stability`` is large by luck.

    Examples
    --------
    >>> from confsim.membership import agreement
    >>> member = [[1, 1, 0, 0], [1, 1, 0, 0]]
    >>> one, two = [[9, 1, 2, 3], [9, 1, 2, 3]], [[1, 9, 2, 3], [9, 1, 2, 3]]
    >>> found = agreement({"one": one, "two": two}, member, level=0, threshold="oracle")
    >>> [(row["attack"], row["coverage"], row["stability"]) for row in found.attacks]
    [('one', 0.5, 0.5), ('two', 1.0, 0.0)]
    >>> found.pairs[0]["jaccard"], found.union, found.intersection
    (0.5, 0.75, 0.25)
    """
    check_number("level", level, minimum=0, maximum=1)
    check_choice("threshold", threshold, ("transferred", "oracle"))
    check_mapping("scores", scores)
    if not scores:
        raise ValueError("scores must hold at least one attack")
    member = check_membership(is_member)
    arrays: dict[str, FloatArray] = {}
    for name, given in scores.items():
        arrays[name], member = check_scores(given, is_member)
    if threshold == "transferred":
        cuts = {
            name: transferred_thresholds(values, member, levels=[level], partner=partner)[:, 0]
            for name, values in arrays.items()
        }
    else:
        cuts = {
            name: np.array([_oracle(*row, level) for row in zip(values, member, strict=True)])
            for name, values in arrays.items()
        }
    return agreement_at(cuts, arrays, member)


def agreement_at(
    thresholds: Mapping[str, FloatArray], scores: Mapping[str, FloatArray], member: BoolArray
) -> Agreement:
    """Compare attacks as :func:`agreement` does, at each target's threshold (trials,)."""
    # NaN is never found.
    found = {name: np.empty(member.shape, dtype=bool) for name in thresholds}
    once = always = 0
    for row, held in enumerate(member):
        for name, hits in found.items():
            np.logical_and(scores[name][row] >= thresholds[name][row], held, out=hits[row])
        every = [hits[row] for hits in found.values()]
        once += int(np.count_nonzero(np.logical_or.reduce(every)))
        always += int(np.count_nonzero(np.logical_and.reduce(every)))
    members = max(1, int(np.count_nonzero(member)))
    return Agreement(
        attacks=[_row(name, hits, member) for name, hits in found.items()],
        pairs=[
            _pair(a, b, found[a], found[b], scores[a], scores[b], member)
            for a, b in combinations(found, 2)
        ],
        union=once / members,
        intersection=always / members,
        times_member=member.sum(axis=0),
        times_found={name: hits.sum(axis=0) for name, hits in found.items()},
    )


def _oracle(scores: FloatArray, member: BoolArray, level: float) -> float:
    known = ~np.isnan(scores)
    if not member[known].any() or member[known].all():
        return float("inf")
    return roc(scores[known], member[known]).at_fpr(level).threshold


def _row(name: str, found: BoolArray, member: BoolArray) -> dict[str, Any]:
    times, held = found.sum(axis=0), member.sum(axis=0)
    once, twice = held >= 1, held >= 2
    jaccard, chance = _between_trials(found, member)
    return {
        "attack": name,
        "found": int(times.sum()),
        "tpr": _share(times.sum(), held.sum()),
        "coverage": _share(np.count_nonzero(times[once]), np.count_nonzero(once)),
        "stability": _share(np.count_nonzero((times == held) & twice), np.count_nonzero(twice)),
        "jaccard_trials": jaccard,
        "jaccard_trials_chance": chance,
    }


def _between_trials(found: BoolArray, member: BoolArray) -> tuple[float, float]:
    """Return the mean Jaccard index over pairs of trials, and about what chance would give."""
    both, one, shared = (np.zeros((len(found), len(found)), np.float32) for _ in range(3))
    for start in range(0, found.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        f, m = found[:, block].astype(np.float32), member[:, block].astype(np.float32)
        # Whole numbers, exact below 2**24.
        both, one, shared = both + f @ f.T, one + f @ m.T, shared + m @ m.T
    pairs = np.triu_indices(len(f), 1)
    here, there, common = one[pairs], one.T[pairs], shared[pairs]
    union = here + there - both[pairs]
    known = union > 0
    if not known.any():
        return float("nan"), float("nan")
    expected = here[known].astype(np.float64) * there[known] / common[known]
    chance = expected / (here[known] + there[known] - expected)
    return float(np.mean(both[pairs][known] / union[known])), float(np.mean(chance))


def _pair(
    name: str,
    other: str,
    a: BoolArray,
    b: BoolArray,
    scores_a: FloatArray,
    scores_b: FloatArray,
    member: BoolArray,
) -> dict[str, Any]:
    both = np.array([np.count_nonzero(x & y) for x, y in zip(a, b, strict=True)])
    either = np.array([np.count_nonzero(x | y) for x, y in zip(a, b, strict=True)])
    known = either > 0
    ranks = [spearman(x[m], y[m]) for x, y, m in zip(scores_a, scores_b, member, strict=True)]
    defined = [r for r in ranks if not np.isnan(r)]
    return {
        "attack": name,
        "other": other,
        "jaccard": float(np.mean(both[known] / either[known])) if known.any() else float("nan"),
        "intersection": int(both.sum()),
        "union": int(either.sum()),
        "spearman": float(np.mean(defined)) if defined else float("nan"),
    }


def _share(count: Any, total: Any) -> float:
    return float(count / total) if total else float("nan")
