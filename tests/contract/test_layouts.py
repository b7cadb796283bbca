"""Arrays as files and records leave them: unaligned, in the other byte order, in any layout.

C may not read an unaligned number at all; each public function gives the answer for a plain copy.
"""

import numpy as np
import pytest

import confsim
from confsim._kernels import nearest, stats
from confsim._kernels.lp import Points
from confsim.confidence import softmax_columns
from confsim.linear.program import fit_program

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
CLASS = np.arange(60) % 3
SIDE = np.where(X[:, 0] > 0, 1, -1)


def unaligned(array):
    moved = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    assert not moved.flags.aligned
    return moved


def swapped(array):
    return array.astype(array.dtype.newbyteorder("S"))


LAYOUTS = {
    "unaligned": unaligned,
    "swapped": swapped,
    "both": lambda array: unaligned(swapped(array)),
    "fortran": np.asfortranarray,
    "strided": lambda array: np.repeat(array, 2, axis=0)[::2],
    "backwards": lambda array: np.ascontiguousarray(array[::-1])[::-1],
}

OF_POINTS = {
    "euclidean": lambda x: confsim.nearest_training(x, x[:20]).distance,
    "euclidean, 3": lambda x: confsim.nearest_training(x[:, :3], x[:20, :3]).distance,
    "angular": lambda x: confsim.nearest_training(x, x[:20], metric="angular").distance,
    "softmax": confsim.softmax_confidence,
    "sigmoid": lambda x: confsim.sigmoid_confidence(x[:, 0]),
    "boundary": lambda x: confsim.boundary_confidence(x[:, 0], x[0], 1.0, 5.0),
    "extremes": lambda x: confsim.extremes(x[:, 0], 10)[0],
    "program": lambda x: fit_program(x, SIDE).weights,
    "weights": lambda x: fit_program(X, SIDE, sample_weight=np.abs(x)[:, 0] + 0).weights,
    "hyperplane": lambda x: confsim.Lattice(dimensions=4, granularity=100).labels(
        np.arange(50), x[0], 0.5
    ),
}

OF_INTEGERS = {
    "labels": lambda i: confsim.nearest_training(X, X, query_labels=i, training_labels=i).index,
    "self": lambda i: confsim.nearest_training(X, X, self_index=i).index_excluding_self,
    "classes": lambda i: softmax_columns(X, i)["loss"],
    "ids": lambda i: confsim.extremes(CLASS.astype(float), 10, ids=i)[0],
    "points": confsim.Lattice().points,
    "integers as points": lambda i: confsim.nearest_training(i[:, None], i[:5, None]).distance,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", OF_POINTS)
def test_points_in_any_layout(function, dtype, layout):
    plain = X.astype(dtype)
    expected = OF_POINTS[function](plain)
    given = LAYOUTS[layout](plain)
    assert np.array_equal(OF_POINTS[function](given), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.int16, np.int64])
@pytest.mark.parametrize("function", OF_INTEGERS)
def test_integers_in_any_layout(function, dtype, layout):
    plain = CLASS.astype(dtype)
    expected = OF_INTEGERS[function](plain)
    assert np.array_equal(OF_INTEGERS[function](LAYOUTS[layout](plain)), expected)


def test_kernels_refuse_what_they_cannot_read():
    bad = unaligned(X)
    with pytest.raises(ValueError, match="aligned"):
        stats.softmax(bad, None, 1)
    with pytest.raises(ValueError, match="aligned"):
        nearest.extent(bad, 1)
    with pytest.raises(TypeError, match="aligned"):
        Points(bad, SIDE > 0)
