"""Order by compiled code against NumPy's, on every instruction set."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confsim._kernels import isa
from confsim.statistics import auc, auc_by_column
from confsim.statistics.order import ascending, ascending_columns, ascending_order, counts_below

#: Numbers that meet each other often, and those that are hard to order.
ODD = (np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, 1.0, np.nextafter(1.0, 2.0))


@st.composite
def numbers(draw, known: bool = False):
    """Draw an array of one of several kinds, longer or shorter than what NumPy sorts."""
    size = draw(st.sampled_from([0, 1, 7, 511, 512, 700, 3000]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["odd", "few", "float32", "wide", "near"]))
    found = {
        "odd": lambda: rng.choice(ODD, size),
        "few": lambda: rng.integers(0, 3, size).astype(float),
        "float32": lambda: rng.normal(size=size).astype(np.float32).astype(float),
        "wide": lambda: rng.normal(size=size) * 10.0 ** rng.integers(-300, 300, size),
        "near": lambda: 1e9 + rng.random(size),
    }[kind]()
    return found[~np.isnan(found)] if known else found


@given(numbers())
def test_order_is_numpys_stable_one(values):
    before = values.copy()
    np.testing.assert_array_equal(ascending_order(values), np.argsort(values, kind="stable"))
    np.testing.assert_array_equal(ascending(values), np.sort(values))
    np.testing.assert_array_equal(values, before)


def test_order_of_other_types_and_strides():
    rng = np.random.default_rng(0)
    for values in (
        rng.normal(size=1000).astype(np.float32),
        rng.integers(0, 9, 1000),
        rng.normal(size=3000)[::3],
        rng.normal(size=1000)[::-1],
    ):
        np.testing.assert_array_equal(ascending_order(values), np.argsort(values, kind="stable"))
        np.testing.assert_array_equal(ascending(values), np.sort(values))


@given(numbers(known=True), numbers(known=True), st.booleans())
def test_counts_below_are_numpys(points, values, up_to):
    points, values = np.sort(points), np.sort(values)
    wanted = np.searchsorted(points, values, side="right" if up_to else "left")
    np.testing.assert_array_equal(counts_below(points, values, up_to=up_to), wanted)


@pytest.mark.parametrize("isa_name", isa.available())
@settings(max_examples=30)
@given(
    st.integers(0, 40), st.integers(0, 70), st.sampled_from([0, 3, len(ODD)]), st.integers(0, 99)
)
def test_columns_are_sorted_and_have_their_areas(isa_name, rows, columns, kinds, seed):
    rng = np.random.default_rng(seed)
    shape = (rows, columns)
    scores = rng.choice(ODD[-kinds:], shape) if kinds else rng.normal(size=shape)
    member = rng.random(shape) < 0.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONFSIM_ISA", isa_name)
        found = auc_by_column(scores, member)
        ordered = ascending_columns(scores.copy())
    np.testing.assert_array_equal(ordered, np.sort(scores, axis=0))
    for column, area in enumerate(found):
        known = ~np.isnan(scores[:, column])
        sides = member[known, column]
        if sides.any() and not sides.all():
            assert area == auc(scores[known, column], sides)
        else:
            assert np.isnan(area)
