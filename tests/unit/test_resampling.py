"""The kernels of the two-way bootstrap and of learned thresholds, against literal versions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confsim._kernels import isa
from confsim._kernels.stats import best_places, resample_counts, threshold_codes


def literal_counts(codes, row_weights, column_weights, bins):
    found = np.zeros((len(row_weights), bins), dtype=np.int64)
    for r, (of_rows, of_columns) in enumerate(zip(row_weights, column_weights, strict=True)):
        weights = of_rows[:, None].astype(np.int64) * of_columns
        np.add.at(found[r], codes, weights)
    return found


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(1, 700),
    st.sampled_from([1, 2, 63, 64, 65, 200]),
    st.sampled_from([1, 3, 1024, 1025, 2500]),
    st.sampled_from([1, 255, 256]),
)
def test_resampled_counts(seed, rows, columns, replicates, bins, heaviest):
    rng = np.random.default_rng(seed)
    codes = rng.integers(rng.integers(bins), bins, (rows, columns)).astype(np.uint16)
    of_rows = rng.integers(0, 4, (replicates, rows)).astype(np.uint16)
    of_columns = rng.integers(0, heaviest + 1, (replicates, columns)).astype(np.uint16)
    of_columns[:, 0] = heaviest
    expected = literal_counts(codes, of_rows, of_columns, bins)
    for name in isa.available():
        for threads in (1, 3):
            found = resample_counts(codes, of_rows, of_columns, bins, threads, isa.CODES[name])
            assert np.array_equal(found, expected), (name, threads)


@pytest.mark.parametrize("heaviest", [1, 255, 65535])
def test_counts_do_not_overflow(heaviest):
    codes = np.zeros((3, 600), dtype=np.uint16)
    of_rows = np.full((2, 3), heaviest, dtype=np.uint16)
    of_columns = np.full((2, 600), 255, dtype=np.uint16)
    found = resample_counts(codes, of_rows, of_columns, 1, 2, isa.CODES[isa.best()])
    assert (found == 3 * 600 * 255 * heaviest).all()


@settings(max_examples=100)
@given(
    st.lists(st.floats(allow_nan=False), max_size=40),
    st.lists(st.floats() | st.integers(-3, 3).map(float), max_size=60),
)
def test_codes_of_scores(thresholds, scores):
    steps, values = np.unique(np.array(thresholds, dtype=float)), np.array(scores, dtype=float)
    kinds = (np.arange(len(values)) % 3 == 0).astype(np.uint8)
    codes = np.empty(len(values), dtype=np.uint16)
    threshold_codes(values, kinds, steps, codes)
    for code, value, kind in zip(codes.tolist(), scores, kinds.tolist(), strict=True):
        below = sum(step <= value for step in steps)
        assert code == (2 * (len(steps) + 1) if np.isnan(value) else 2 * below + kind)


def literal_place(rows, members, last, left_out):
    votes = ~np.isin(rows, left_out)
    held, others = np.sum(votes & members), np.sum(votes & ~members)
    if held == 0 or others == 0:
        return -1
    best, place = None, -1
    for i in range(len(rows)):
        hits, false = np.sum((votes & members)[: i + 1]), np.sum((votes & ~members)[: i + 1])
        gain = int(hits) * int(others) - int(false) * int(held)
        if last[i] and hits + false > 0 and (best is None or gain > best):
            best, place = gain, i
    return place


@settings(max_examples=80)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 30), st.booleans())
def test_best_places(seed, pairs, count, paired):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 2 * pairs, count).astype(np.int32)
    members = rng.random(count) < rng.choice([0.1, 0.5])
    last = np.append(rng.random(count - 1) < 0.6, True)
    partner = np.arange(2 * pairs) ^ 1 if paired else None
    found = best_places(rows, members, last, partner, 2 * pairs, 2)
    for target in range(2 * pairs):
        left_out = [target, target ^ 1] if paired else [target]
        assert found[target] == literal_place(rows, members, last, left_out)
