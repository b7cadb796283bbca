"""Holdout, members, batches, augmentation: invariants of pure functions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confsim.deep import design

PROBLEMS = st.tuples(
    st.integers(2, 6), st.integers(20, 200), st.floats(0.05, 0.6), st.integers(0, 10**6)
)


def labels_and_groups(classes, count, seed):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, count)])
    groups = rng.integers(0, max(2, len(labels) * 4 // 5), len(labels))
    return labels, np.unique(groups, return_inverse=True)[1]


@given(PROBLEMS)
@settings(max_examples=40)
def test_holdout_is_closed_under_groups_and_stratified(problem):
    classes, count, fraction, seed = problem
    labels, groups = labels_and_groups(classes, count, seed)
    held = design.holdout_rows(labels, groups, fraction, seed)
    others = np.setdiff1d(np.arange(len(labels)), held)
    assert not set(groups[held]) & set(groups[others])
    assert (np.diff(held) > 0).all()
    share = np.bincount(labels) * fraction
    assert (np.bincount(labels[held], minlength=classes) <= np.ceil(share) + 1).all()


def test_holdout_without_duplicates_has_its_exact_size():
    labels = np.repeat(np.arange(10), 100)
    held = design.holdout_rows(labels, np.arange(1000), 0.1, 3)
    assert np.bincount(labels[held]).tolist() == [10] * 10


@given(PROBLEMS, st.integers(0, 50))
@settings(max_examples=40)
def test_members_are_a_stratified_fraction(problem, trial):
    classes, count, ratio, seed = problem
    labels, _ = labels_and_groups(classes, count, seed)
    rows = design.member_rows(labels, ratio, "independent", seed, trial)
    assert len(rows) == round(ratio * len(labels))
    assert (np.diff(rows) > 0).all()
    quota = np.bincount(labels) * len(rows) / len(labels)
    assert (np.abs(np.bincount(labels[rows], minlength=classes) - quota) < 1).all()


@given(PROBLEMS, st.integers(0, 50))
@settings(max_examples=30)
def test_balanced_trials_are_complements(problem, pair):
    classes, count, _, seed = problem
    labels, _ = labels_and_groups(classes, count, seed)
    one = design.member_rows(labels, 0.5, "balanced", seed, 2 * pair)
    other = design.member_rows(labels, 0.5, "balanced", seed, 2 * pair + 1)
    assert sorted([*one, *other]) == list(range(len(labels)))


def test_coins_are_fair_and_independent():
    labels = np.zeros(2000, np.int64)
    drawn = np.array(
        [
            np.isin(np.arange(2000), design.member_rows(labels, 0.5, "coin", 3, trial))
            for trial in range(200)
        ]
    )
    # Neither the share of a trial nor that of an example is fixed: both vary as sums of coins do.
    for axis in (0, 1):
        share = drawn.mean(axis=axis)
        expected = 0.5 / np.sqrt(drawn.shape[axis])
        assert abs(share.mean() - 0.5) < 0.005
        assert 0.85 < share.std() / expected < 1.15
    together = np.corrcoef(drawn[:, :50].T)[np.triu_indices(50, 1)]
    assert abs(together.mean()) < 0.01
    again = design.member_rows(labels, 0.5, "coin", 3, 7)
    np.testing.assert_array_equal(again, np.flatnonzero(drawn[7]))


def test_trials_differ():
    labels = np.repeat(np.arange(3), 50)
    draws = {
        design.member_rows(labels, 0.5, "independent", 0, trial).tobytes() for trial in range(20)
    }
    assert len(draws) == 20


@pytest.mark.parametrize("count", [100, 101, 199, 250])
def test_every_member_counts_once_an_epoch(count):
    members = np.arange(count) * 3
    rows, weights = design.epoch_batches(members, 100, 0, 1, 2)
    assert rows.shape == weights.shape == (-(-count // 100), 100)
    assert sorted(rows[weights == 1]) == members.tolist()
    assert np.isin(rows, members).all()
    again = design.epoch_batches(members, 100, 0, 1, 3)[0]
    assert not np.array_equal(rows, again)


@pytest.mark.parametrize("index", range(design.MAX_QUERY_AUGMENT))
def test_query_augmentation_flips_and_shifts(index):
    sources = design.query_sources((16, 32, 1), index)
    down, right = design._SHIFTS[index // 2]
    if index == 0:
        assert sources is None
    else:
        assert sources.tolist() == [index % 2, down, 2 * right]
    assert len({str(design.query_sources((16, 16, 1), k)) for k in range(18)}) == 18


def test_training_augmentation_shifts_by_an_eighth_and_mirrors_half():
    rng = np.random.default_rng(0)
    mirrored, down, right = np.moveaxis(
        design.augmentation("weak", (32, 24, 3), (50, 20), rng), -1, 0
    )
    assert mirrored.shape == (50, 20)
    assert 0.4 < mirrored.mean() < 0.6
    assert set(down.ravel()) == set(range(-4, 5))
    assert set(right.ravel()) == set(range(-3, 4))
    mirrored, down, right = np.moveaxis(
        design.augmentation("mirror", (4, 4, 1), (9, 9), rng), -1, 0
    )
    assert 0 < mirrored.mean() < 1
    assert not down.any()
    assert not right.any()


def test_cutout_draws_centres_and_leaves_the_rest_alone():
    draws = [
        design.augmentation("weak", (32, 24, 3), (50, 20), np.random.default_rng(0), cutout=cut)
        for cut in (False, True)
    ]
    assert np.array_equal(draws[0], draws[1][..., :3])
    assert set(draws[1][..., 3].ravel()) == set(range(32))
    assert set(draws[1][..., 4].ravel()) == set(range(24))
    alone = design.augmentation("none", (8, 8, 1), (5, 5), np.random.default_rng(0), cutout=True)
    assert not alone[..., :3].any()
