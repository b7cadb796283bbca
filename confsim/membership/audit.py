"""Lower bounds on epsilon for the trials of a run, or the reason why there can be none.

Arrays in, rows of a table out. Each trial is one training run with many canaries; over trials, one
canary has a score of its own in each of many runs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.membership.epsilon import REFUSED_DESIGNS, EpsilonBound, epsilon_lower_bound
from confsim.membership.vulnerability import bins_of

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: Of the bounds: a usual value, far below one in the number of canaries of an audit.
DELTA = 1e-5

#: Trials are audited one by one until they hold so many scores together: bounds cost time.
MOST_SCORES = 100_000

#: Bins of equally many canaries.
BINS = 5


def refusal(design: str | None, ratio: float) -> str | None:
    """Say why no epsilon can be bounded from membership that was drawn like this.

    Parameters
    ----------
    design : str or None
        How training sets were drawn; ``None`` where nobody knows.
    ratio : float
        The chance of each coin of design ``coin``.
    """
    if design == "coin":
        if ratio == 0.5:
            return None
        return f"coins said member with chance {ratio:g}, and bounds need fair ones"
    if design in REFUSED_DESIGNS:
        return f"{REFUSED_DESIGNS[design]}; --design coin draws as bounds need"
    return "nothing says that membership was drawn by an independent fair coin for each example"


def audited_trials(canaries: int) -> int:
    """Return how many trials with so many canaries are audited one by one."""
    return max(1, MOST_SCORES // canaries)


def epsilon_rows(
    scores: Mapping[str, FloatArray],
    log_odds: FloatArray,
    is_member: BoolArray,
    *,
    targets: Sequence[int],
    ids: NDArray[np.int64],
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return the bounds of every trial by each attack, and of one canary over all trials.

    Parameters
    ----------
    scores : mapping of str to ndarray, (trials, canaries)
        By attack. Shadow models may have helped: they say nothing of the target's coins.
    log_odds : ndarray, (trials, canaries)
        The statistic of the audit over trials, which no other trial may have a part in.
    is_member : ndarray of bool, (trials, canaries)
    targets : sequence of int
        Numbers of the trials.
    ids : ndarray, (canaries,)
    seed : int
        Of the split that chooses thresholds.

    Returns
    -------
    list of dict
        ``attack``, ``method``, ``target`` (a trial's number; ``mean`` of the trials' bounds, which
        is itself no bound with that confidence; or ``canary ID``), ``epsilon``, ``delta``,
        ``confidence``, ``rule``, ``canaries`` (scores given), ``evaluated``, ``guesses``,
        ``correct``, ``assumptions``, and a ``reason`` where there is no bound. Each row holds by
        itself: the largest of many is no bound.
    """
    count = audited_trials(is_member.shape[1])
    rows = []
    for attack, values in scores.items():
        for method in ("one-run", "one-run-fdp"):
            found = [
                _row(attack, method, str(target), values[i], is_member[i], seed)
                for i, target in enumerate(targets[:count])
            ]
            rows += [*found, *_mean(found)]
    # The canary is chosen before any score is seen: the first of all.
    canary = int(np.argmin(ids))
    rows += [
        _row("loss", method, f"canary {ids[canary]}", log_odds[:, canary], is_member[:, canary],
             seed)
        for method in ("clopper-pearson", "gdp")
    ]  # fmt: skip
    return rows


def epsilon_bins(
    scores: Mapping[str, FloatArray],
    is_member: BoolArray,
    columns: Mapping[str, NDArray[Any]],
    *,
    targets: Sequence[int],
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return what canaries of each bin of similarity, or of each class, prove by themselves.

    Parameters
    ----------
    scores, is_member, targets, seed
        As in :func:`epsilon_rows`.
    columns : mapping of str to ndarray, (canaries,)
        What canaries are sorted by. It must be known without any training set, or bins would know
        of coins: no distance to training points; ``label`` has a bin for each class.

    Returns
    -------
    list of dict
        ``attack``, ``method`` (``one-run``), ``by``, ``bin``, ``value_low``, ``value_high``,
        ``canaries``, ``trials``, ``delta``, ``rule``, ``assumptions``; ``epsilon``: mean over
        trials of the bounds that canaries of the bin give alone, each with confidence
        ``confidence_each``, their mean with none; or the ``reason`` why there is none.
    """
    count = audited_trials(is_member.shape[1])
    rows = []
    for attack, values in scores.items():
        for name, column in columns.items():
            for number, chosen in enumerate(bins_of(column, None if name == "label" else BINS)):
                found = [
                    _row(attack, "one-run", str(target), values[i, chosen], is_member[i, chosen],
                         seed)
                    for i, target in enumerate(targets[:count])
                ]  # fmt: skip
                rows.append(
                    {
                        "attack": attack,
                        "method": "one-run",
                        "by": name,
                        "bin": number,
                        "value_low": float(column[chosen].min()),
                        "value_high": float(column[chosen].max()),
                        "canaries": len(chosen),
                        **_alone(found),
                    }
                )
    return rows


def _alone(found: list[dict[str, Any]]) -> dict[str, Any]:
    known = [row["epsilon"] for row in found if "epsilon" in row]
    if not known:
        return {"trials": 0, "reason": found[0]["reason"]}
    first = next(row for row in found if "epsilon" in row)
    stated = {name: first[name] for name in ("delta", "rule", "assumptions")}
    confidence = {"confidence_each": first["confidence"]}
    return {"trials": len(known), **stated, **confidence, "epsilon": float(np.mean(known))}


def _row(
    attack: str, method: str, target: str, scores: FloatArray, member: BoolArray, seed: int
) -> dict[str, Any]:
    row = {"attack": attack, "method": method, "target": target}
    try:
        found = epsilon_lower_bound(
            scores, member, delta=DELTA, method=method, threshold="split", seed=seed
        )
    except ValueError as error:
        return row | {"canaries": len(scores), "reason": str(error)}
    return row | _plain(found)


def _plain(found: EpsilonBound) -> dict[str, Any]:
    return {
        "epsilon": found.epsilon,
        "delta": found.delta,
        "confidence": found.confidence,
        "rule": found.rule,
        "canaries": found.canaries,
        "evaluated": found.evaluated,
        "guesses": found.guesses,
        "correct": found.correct,
        "assumptions": "; ".join(found.assumptions),
    }


def _mean(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known = [row for row in rows if "epsilon" in row]
    if len(known) < 2:
        return []
    kept = ("attack", "method", "delta", "rule", "canaries")
    mean = float(np.mean([row["epsilon"] for row in known]))
    return [{**{key: known[0][key] for key in kept}, "target": "mean", "epsilon": mean}]
