"""The curve of a whole matrix, met in chunks, is that of all its scores in order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confsim.membership import evaluate
from confsim.statistics import FPR_LEVELS, Roc, bootstrap, pooled, roc, two_way_bootstrap

SCORES = st.sampled_from([-np.inf, -1.5, -0.25, 0.0, 1e-300, 0.25, 1.0, 2.0, np.inf, np.nan])


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(pooled, "_CHUNK", 7)
    monkeypatch.setattr(bootstrap, "_COLUMNS_AT_ONCE", 5)
    monkeypatch.setattr(bootstrap, "_BOOTSTRAP_THRESHOLDS", 16)


def drawn(seed, rows, columns, values):
    rng = np.random.default_rng(seed)
    member = rng.random((rows, columns)) < 0.5
    scores = rng.normal(size=member.shape) + member
    if values is not None:
        scores = np.array(values)[rng.integers(len(values), size=member.shape)]
    return scores, member


def in_order(scores, member):
    known = ~np.isnan(scores)
    return Roc(np.sort(scores[known & member]), np.sort(scores[known & ~member]))


def figures(curve):
    points = [curve.at_fpr(level) for level in (*FPR_LEVELS, 0.5, 1.0)]
    return curve.auc, curve.advantage, curve.balanced_accuracy, points


@pytest.mark.parametrize("threads", [1, 3])
@settings(max_examples=150)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 5),
    st.integers(4, 60),
    st.none() | st.lists(SCORES, min_size=1, max_size=5),
)
def test_chunks_give_the_curve_of_everything(threads, seed, rows, columns, values):
    scores, member = drawn(seed, rows, columns, values)
    whole = in_order(scores, member)
    at_once, pooled._CHUNK = pooled._CHUNK, 7
    try:
        found = bootstrap.pooled_curve(scores, member, threads)
        assert (found.members, found.non_members) == (whole.members, whole.non_members)
        if whole.members and whole.non_members:
            assert figures(found) == figures(whole)
        for side, ordered in ((True, whole.member_scores), (False, whole.non_member_scores)):
            ranks = np.arange(len(ordered))[::-1]
            np.testing.assert_array_equal(found.scores_at(ranks, members=side), ordered[ranks])
    finally:
        pooled._CHUNK = at_once


def test_a_score_of_very_many_is_not_copied(monkeypatch):
    """Half of all scores are equal: their chunk is a single one."""
    monkeypatch.setattr(pooled, "_CHUNK", 1 << 10)
    scores, member = drawn(0, 40, 1000, None)
    scores[:, ::2] = 0.5
    found = bootstrap.pooled_curve(scores, member)
    assert figures(found) == figures(roc(scores, member))
    sizes = [
        sum(found._chunk(chunk, members=side).base is None for side in (True, False))
        and len(found._chunk(chunk, members=True)) + len(found._chunk(chunk, members=False))
        for chunk in range(len(found._bounds) + 1)
    ]
    assert 10_000 < sum(sizes) <= 20_000
    assert max(sizes) < 4000


def test_chunks_change_no_row(small_chunks, monkeypatch):
    for seed, values in enumerate((None, [0.0, 1.0, np.nan, -np.inf, np.inf, 2.0])):
        scores, member = drawn(seed, 6, 43, values)
        parts = evaluate(scores, member, row_groups=[0, 0, 1, 1, 2, 3], replicates=5)
        bins = two_way_bootstrap(scores, member, replicates=5)
        with monkeypatch.context() as whole:
            whole.setattr(pooled, "_CHUNK", 1 << 19)
            whole.setattr(bootstrap, "_COLUMNS_AT_ONCE", 1 << 16)
            again = evaluate(scores, member, row_groups=[0, 0, 1, 1, 2, 3], replicates=5)
            assert repr(parts) == repr(again)
            assert bins == two_way_bootstrap(scores, member, replicates=5)


def test_some_columns_are_a_matrix_of_their_own(small_chunks):
    scores, member = drawn(3, 6, 43, None)
    columns = np.array([7, 40, 2, 3, 11, 30, 29, 28])
    part = np.ascontiguousarray(scores[:, columns]), np.ascontiguousarray(member[:, columns])
    some = bootstrap.pooled_curve(scores, member, columns=columns)
    assert figures(some) == figures(bootstrap.pooled_curve(*part))
    found = bootstrap.bootstrap_bounds(scores, member, some, columns=columns, replicates=7)
    assert found == two_way_bootstrap(*part, replicates=7)
