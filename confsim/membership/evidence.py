"""What a run's tables hold beside LiRA and RMIA: other attacks, and what is made of scores.

Arrays in, lists of rows out; the runs are read and the files written elsewhere.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.membership.agreement import agreement_at
from confsim.membership.calibration import base, difficulty_calibration
from confsim.membership.discoveries import discoveries, p_values
from confsim.membership.lira import lira
from confsim.membership.population import attack_r
from confsim.membership.rmia import log_probability
from confsim.membership.shadow import Design
from confsim.membership.thresholds import class_thresholds
from confsim.membership.transfer import transfer_at
from confsim.statistics import FPR_LEVELS

FloatArray = NDArray[np.float64]

#: Models that the pooled variance of ``lira_online_shrunken_variance`` counts as.
SHRINKAGE = 16.0

#: The false-positive rate at which attacks are compared by what they find: one of ``FPR_LEVELS``.
AGREEMENT_LEVEL = 0.01


def shadow_attacks(
    log_odds: FloatArray, design: Design, new: Callable[[], FloatArray], *, n_threads: int
) -> Iterator[tuple[str, Callable[[], FloatArray]]]:
    """Yield (name, what computes its scores) of attacks that take any statistic.

    ``new`` returns a matrix for scores.
    """
    member, given = design.is_member, _given(design, n_threads)
    yield (
        "lira_online_shrunken_variance",
        lambda: lira(log_odds, member, shrinkage=SHRINKAGE, out=new(), **given),
    )
    yield "attack_r", lambda: attack_r(log_odds, member, out=new(), **given)


def class_attacks(
    log_odds: FloatArray,
    design: Design,
    labels: NDArray[Any],
    new: Callable[[], FloatArray],
    *,
    statistic: Callable[[], FloatArray],
    n_threads: int,
) -> Iterator[tuple[str, Callable[[], FloatArray]]]:
    """Yield (name, what computes its scores) of attacks that need probabilities of classes."""
    member, given = design.is_member, _given(design, n_threads)

    def calibrated() -> FloatArray:
        log_p = new()
        for found, row in zip(log_p, log_odds, strict=True):
            found[:] = log_probability(row)
        return difficulty_calibration(log_p, member, out=new(), **given)

    yield "difficulty_calibration", calibrated
    yield "base_online", lambda: base(log_odds, member, out=new(), **given)
    yield "base_offline", lambda: base(log_odds, member, online=False, out=new(), **given)
    if not design.trim:  # counts of models in and out of each class may reveal membership
        yield (
            "class_thresholds",
            lambda: class_thresholds(
                statistic(),
                member,
                labels,
                partner=design.partner,
                n_threads=n_threads,
                out=new(),
            ),
        )


def _given(design: Design, n_threads: int) -> dict[str, Any]:
    return {
        "partner": design.partner,
        "trim": design.trim,
        "seed": design.seed,
        "n_threads": n_threads,
    }


def evidence_tables(
    scores: Mapping[str, FloatArray],
    thresholds: Mapping[str, FloatArray],
    log_odds: FloatArray,
    design: Design,
    targets: NDArray[np.int64],
    new: Callable[[], FloatArray],
) -> dict[str, list[dict[str, Any]]]:
    """Return rows of transferred thresholds, agreement and false discoveries.

    Parameters
    ----------
    scores : mapping of str to ndarray, (trials, examples)
        By attack: those to be compared.
    thresholds : mapping of str to ndarray, (trials, levels)
        Of :func:`confsim.membership.transferred_thresholds` at ``FPR_LEVELS``.
    log_odds : ndarray, (trials, examples)
    design : Design
    targets : ndarray, (trials,)
        Numbers of the trials.
    new : callable
        Returns a matrix for p-values.

    Returns
    -------
    dict of list of dict
        ``transfer``, ``agreement``, ``agreement_pairs`` and ``discoveries``: see
        :func:`confsim.membership.transfer`, ``agreement`` and ``discoveries``.
    """
    member, partner = design.is_member, design.partner
    found = agreement_at(_at_level(thresholds), scores, member)
    given: dict[str, Any] = {"partner": partner, "trim": design.trim, "seed": design.seed}
    lists = [
        {"p_values": kind, **row, "target": str(row["target"])}
        for kind in ("rank", "normal")
        for row in discoveries(
            p_values(log_odds, member, kind=kind, out=new(), **given), member, targets=targets
        )
    ]
    return {
        "transfer": [
            {"attack": name, **row, "target": str(row["target"])}
            for name, values in scores.items()
            for row in transfer_at(
                thresholds[name], values, member, partner=partner, targets=targets
            )
        ],
        "agreement": [{"level": AGREEMENT_LEVEL, **row} for row in found.attacks],
        "agreement_pairs": [{"level": AGREEMENT_LEVEL, **row} for row in found.pairs],
        "discoveries": lists,
    }


def _at_level(thresholds: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    column = FPR_LEVELS.index(AGREEMENT_LEVEL)
    return {name: cuts[:, column] for name, cuts in thresholds.items()}
