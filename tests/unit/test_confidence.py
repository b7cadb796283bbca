"""Confidences against literal float64 formulas and exact arithmetic."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import confsim
from confsim._kernels.stats import extremes_by_code, median
from confsim.confidence import extreme_count, softmax_columns

finite = st.floats(-1e6, 1e6)


def corners(dimensions, size):
    return np.array(list(itertools.product([0.0, size], repeat=dimensions)))


@pytest.mark.parametrize("dimensions", [1, 2, 3, 7, 12])
def test_boundary_confidence_equals_the_corner_definition(dimensions):
    rng = np.random.default_rng(dimensions)
    weights, bias, size = rng.normal(size=dimensions), rng.normal() * 100, 1000.0
    points = rng.uniform(0, size, (50, dimensions))
    decision = points @ weights + bias
    largest = np.abs(corners(dimensions, size) @ weights + bias).max()
    got = confsim.boundary_confidence(decision, weights, bias, size)
    np.testing.assert_allclose(got, np.abs(decision) / largest, rtol=1e-12)


def test_boundary_confidence_in_a_thousand_dimensions():
    weights = np.where(np.arange(1000) % 2, -1.0, 1.0)
    assert confsim.boundary_confidence([500.0], weights, 0.0, 2.0) == [0.5]


def test_boundary_confidence_of_a_degenerate_model_is_zero():
    assert confsim.boundary_confidence([1.0, 1.0], [0.0, 0.0], 1.0, 10.0).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"decision": [1.0, np.nan]}, "decision.*row 1"),
        ({"weights": [np.inf, 1.0]}, "weights"),
        ({"bias": np.nan}, "bias"),
        ({"grid_size": 0.0}, "grid_size"),
        ({"decision": [[1.0]]}, "decision.*dimension"),
    ],
)
def test_boundary_confidence_names_the_bad_argument(changed, match):
    arguments = {"decision": [1.0], "weights": [1.0, 2.0], "bias": 0.0, "grid_size": 1.0}
    with pytest.raises(ValueError, match=match):
        confsim.boundary_confidence(**(arguments | changed))


@given(hnp.arrays(np.float64, st.integers(0, 40), elements=st.floats(-1e300, 1e300)))
@settings(max_examples=50)
def test_sigmoid_confidence_and_its_complement(decision):
    got = confsim.sigmoid_confidence(decision)
    assert got.tolist() == [math.tanh(abs(s) / 2) for s in decision]
    rest = confsim.sigmoid_confidence(decision, complement=True)
    for s, value in zip(np.abs(decision), rest, strict=True):
        assert value == pytest.approx(2 * math.exp(-s) / (1 + math.exp(-s)), rel=1e-15)
    np.testing.assert_allclose(got + rest, 1.0, atol=3e-16)


def test_sigmoid_confidence_saturates_and_its_complement_does_not():
    assert confsim.sigmoid_confidence([38.2]) == [1.0]
    assert 0 < confsim.sigmoid_confidence([700.0], complement=True)[0] < 1e-300


def softmax_oracle(row, label):
    """Columns with digits to spare."""
    from decimal import Decimal, getcontext

    getcontext().prec = 40 + int(max(row) - min(row))
    z = [Decimal(float(v)) for v in row]
    weights = [(v - max(z)).exp() for v in z]
    p = [w / sum(weights) for w in weights]
    best = max(range(len(z)), key=lambda k: (z[k], -k))

    def odds(k):
        return (weights[k] / sum(w for j, w in enumerate(weights) if j != k)).ln()

    modified = -(1 - p[label]) * p[label].ln() - sum(
        p[i] * (1 - p[i]).ln() for i in range(len(p)) if i != label
    )
    return {
        "predicted": best,
        "softmax": float(p[best]),
        "log_odds_max": float(odds(best)),
        "log_odds_true": float(odds(label)),
        "loss": float(-p[label].ln()),
        "entropy": float(-sum(q * q.ln() for q in p)),
        "modified_entropy": float(modified),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0, 200.0])
def test_softmax_columns_equal_long_decimal_arithmetic(dtype, spread):
    rng = np.random.default_rng(3)
    logits = (rng.normal(size=(12, 5)) * spread + 50).astype(dtype)
    labels = rng.integers(0, 5, 12)
    got = softmax_columns(logits, labels)
    for i, row in enumerate(logits):
        for name, value in softmax_oracle(row, labels[i]).items():
            assert got[name][i] == pytest.approx(value, rel=1e-12, abs=1e-300), (name, i)


def test_softmax_columns_do_not_depend_on_strides_or_threads():
    logits = np.random.default_rng(0).normal(size=(9000, 6)).astype(np.float32)
    wide = np.zeros((9000, 13), dtype=np.float32)
    wide[:, 1::2] = logits
    plain = softmax_columns(logits, n_threads=1)
    for other in (softmax_columns(wide[:, 1::2]), softmax_columns(np.asfortranarray(logits))):
        assert all(plain[name].tobytes() == other[name].tobytes() for name in plain)


def test_equal_logits_predict_the_lowest_class():
    columns = softmax_columns(np.zeros((1, 4)), [2])
    assert columns["predicted"] == [0]
    assert columns["softmax"] == pytest.approx([0.25])
    assert columns["loss"] == pytest.approx([math.log(4)])


@pytest.mark.parametrize(
    ("logits", "labels", "error", "match"),
    [
        ([[1.0, np.nan]], None, ValueError, "logits.*row 0"),
        ([[1.0]], None, ValueError, "K >= 2"),
        ([1.0, 2.0], None, ValueError, "K >= 2"),
        ([[1.0, 2.0]], [2], ValueError, r"labels must be in \[0, 2\).*row 0 is 2"),
        ([[1.0, 2.0]], [0, 1], ValueError, "labels must have shape"),
        ([[1.0, 2.0]], [0.5], TypeError, "labels must be integers"),
    ],
)
def test_softmax_columns_name_the_bad_argument(logits, labels, error, match):
    with pytest.raises(error, match=match):
        softmax_columns(np.array(logits), labels)


def extremes_oracle(values, percent, ids):
    n = len(values)
    k = min(max(1, round(n * percent / 100)), max(1, n // 2))
    order = sorted(range(n), key=lambda i: (values[i], ids[i]))
    reverse = sorted(range(n), key=lambda i: (-values[i], ids[i]))
    return order[:k], reverse[:k]


@given(st.data())
@settings(max_examples=150)
def test_extremes_equal_a_full_sort(data):
    n = data.draw(st.integers(1, 300))
    pool = data.draw(
        st.sampled_from(
            [
                st.sampled_from([0.0, -0.0, 1.0, 2.0]),
                st.floats(-1e308, 1e308),
                st.floats(0, 1e-310),
                st.sampled_from([1e300, 1.0, np.nextafter(1, 2), -1e308, 1e308]),
            ]
        )
    )
    values = data.draw(hnp.arrays(np.float64, n, elements=pool))
    ids = np.array(data.draw(st.permutations(range(n))))
    percent = data.draw(st.floats(1e-3, 50))
    bottom, top = confsim.extremes(values, percent, ids)
    assert (bottom.tolist(), top.tolist()) == extremes_oracle(values, percent, ids)
    bottom, top = confsim.extremes(values, percent)
    assert (bottom.tolist(), top.tolist()) == extremes_oracle(values, percent, range(n))


def test_extremes_of_a_million_with_an_outlier():
    values = np.random.default_rng(0).normal(size=200_000)
    values[77] = 1e300  # all others share one bucket
    bottom, top = confsim.extremes(values, 1)
    order = np.argsort(values, kind="stable")
    assert bottom.tolist() == order[:2000].tolist()
    assert top.tolist() == np.argsort(-values, kind="stable")[:2000].tolist()


def test_extreme_count_rounds_half_to_even_and_keeps_bounds():
    assert [extreme_count(n, 5) for n in (1, 2, 10, 30, 50, 100)] == [1, 1, 1, 2, 2, 5]
    assert extreme_count(3, 50) == 1
    assert extreme_count(1, 50) == 1


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([1.0, np.nan], 5), "confidence.*row 1"),
        (([], 5), "at least one"),
        (([1.0], 0), "percent"),
        (([1.0], 51), "percent"),
        (([1.0], np.nan), "percent"),
        (([1.0], 5, [1, 2]), "ids"),
    ],
)
def test_extremes_name_the_bad_argument(arguments, match):
    with pytest.raises(ValueError, match=match):
        confsim.extremes(*arguments)


@given(hnp.arrays(np.float64, st.integers(1, 300), elements=finite), st.data())
def test_extremes_by_code_equal_those_without_codes(values, data):
    k = data.draw(st.integers(0, len(values)))
    bins = np.searchsorted(np.unique(values)[:: data.draw(st.integers(1, 9))], values, "right")
    codes = bins.astype(np.uint32) << 16 | np.arange(len(values), dtype=np.uint32)
    histogram = np.bincount(bins, minlength=1 << 16)
    numbers = np.arange(len(values)) * 3
    got = extremes_by_code(values, codes, histogram, k, numbers)
    for sign, (rows, along, numbered) in zip((1, -1), got, strict=True):
        order = np.argsort(sign * values, kind="stable")[:k]
        assert rows.tolist() == order.tolist()
        assert along.tolist() == values[order].tolist()
        assert numbered.tolist() == numbers[order].tolist()


def test_extremes_by_code_refuse_a_histogram_of_other_values():
    codes = np.zeros(3, dtype=np.uint32)
    with pytest.raises(ValueError, match="count 3 values"):
        extremes_by_code(np.ones(3), codes, np.zeros(1 << 16, dtype=np.int64), 1)
    with pytest.raises(ValueError, match="k must be"):
        extremes_by_code(np.ones(3), codes, np.zeros(1 << 16, dtype=np.int64), 4)
    three = np.bincount([0, 0, 0], minlength=1 << 16)
    for column in (np.ones(2), np.ones(3, dtype=np.float32)):
        with pytest.raises(ValueError, match="columns must have one entry"):
            extremes_by_code(np.ones(3), codes, three, 1, column)


@given(hnp.arrays(np.float64, st.integers(1, 200), elements=finite), st.integers(1, 40))
def test_median_equals_numpy(values, repeats):
    values = np.tile(values, repeats)
    assert median(values) == np.median(values)


@pytest.mark.parametrize("size", [100_001, 100_000])
def test_median_of_many_that_crowd(size):
    rng = np.random.default_rng(size)
    for values in (rng.gamma(0.01, size=size), np.round(rng.normal(size=size), 2), np.ones(size)):
        assert median(values) == np.median(values)
