"""Scores in order, by the compiled code of ``confsim.statistics.order`` beside NumPy's sorts.

One thread each, 60,000 scores as an attack gives them, and the columns of 100 trials.
"""

import numpy as np
import pytest
from tracking import record
from turns import in_turns

from confsim.statistics import auc_by_column
from confsim.statistics.order import ascending, ascending_columns, ascending_order, counts_below

SCORES = np.random.default_rng(0).normal(size=60_000)
HALVES = tuple(np.sort(half) for half in np.split(SCORES, 2))
COLUMNS = np.random.default_rng(1).normal(size=(100, 4096))
MEMBER = np.random.default_rng(2).random(COLUMNS.shape) < 0.5


def areas(scores, member):
    """AUC of each column by its sum of ranks, without ties."""
    ranks = np.argsort(np.argsort(scores, axis=0), axis=0) + 1
    members = member.sum(axis=0)
    rank_sum = np.sum(ranks, axis=0, where=member)
    return (rank_sum - members * (members + 1) / 2) / (members * (len(scores) - members))


CASES = {
    "sorted": (lambda: ascending(SCORES), lambda: np.sort(SCORES)),
    "order": (lambda: ascending_order(SCORES), lambda: np.argsort(SCORES)),
    "counts below": (lambda: counts_below(*HALVES), lambda: np.searchsorted(*HALVES)),
    "sorted columns": (
        lambda: ascending_columns(COLUMNS.copy()),
        lambda: np.sort(COLUMNS, axis=0),
    ),
    "areas of columns": (lambda: auc_by_column(COLUMNS, MEMBER), lambda: areas(COLUMNS, MEMBER)),
}


@pytest.mark.parametrize("case", CASES)
def test_beside_numpy(benchmark, case):
    ours, numpy = CASES[case]
    benchmark.group = "scores in order"
    found, theirs = in_turns(benchmark, ours, numpy, rounds=15)
    np.testing.assert_array_equal(found, numpy())
    record(benchmark, f"{case}, one thread", "NumPy", goal=1, beside=theirs)
