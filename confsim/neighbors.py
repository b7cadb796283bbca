"""Exact nearest training points: the public door to the nearest-neighbour kernels.

:func:`nearest_training` checks the arguments, asks :func:`why_not` whether the kernels can take
them exactly, and dispatches on the metric. It computes nothing itself.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_array, check_choice, check_integer
from confsim._kernels import memory, resolve_isa, resolve_threads
from confsim._kernels import nearest as _kernel

Array: TypeAlias = NDArray[Any]
Float64Array: TypeAlias = NDArray[np.float64]
Int64Array: TypeAlias = NDArray[np.int64]

METRICS = ("euclidean", "angular")


@dataclass(frozen=True)
class Nearest:
    """The nearest training point of each query, or the ``k`` nearest.

    Attributes
    ----------
    distance : ndarray of float64, shape (q,) or (q, k)
        Euclidean distance, or angle divided by pi; along a row in ascending order. NaN where there
        is no training point to compare with (none of the query's class, or fewer than ``k``).
    index : ndarray of int64, shape (q,) or (q, k)
        Row of that training point, the lowest among equal distances; -1 where there is none.
    distance_excluding_self, index_excluding_self : ndarray or None
        The same when a query's own training row does not count, nor the rows of its duplicate
        group; ``None`` unless ``self_index`` or groups were given.
    """

    distance: Float64Array
    index: Int64Array
    distance_excluding_self: Float64Array | None = None
    index_excluding_self: Int64Array | None = None


def nearest_training(
    queries: ArrayLike,
    training: ArrayLike,
    *,
    metric: str = "euclidean",
    query_labels: ArrayLike | None = None,
    training_labels: ArrayLike | None = None,
    self_index: ArrayLike | None = None,
    k: int | None = None,
    query_groups: ArrayLike | None = None,
    training_groups: ArrayLike | None = None,
    n_threads: int | None = None,
) -> Nearest:
    """Find each query's nearest training point, or its ``k`` nearest, exactly.

    Parameters
    ----------
    queries : array_like, shape (q, d)
        Floating-point arrays are read where they are, in any layout; integers are converted.
    training : array_like, shape (n, d)
        At least one training point.
    metric : {"euclidean", "angular"}
        ``sqrt(sum((q - t)**2))``, or ``theta / pi`` with the angle theta between the vectors.
    query_labels, training_labels : array_like of int, shapes (q,) and (n,), optional
        Given together: only training points with the query's label count.
    self_index : array_like of int, shape (q,), optional
        The row of ``training`` that is the query itself, -1 for a query that is no member.
        Distances without that row are then computed in the same search.
    k : int, optional
        How many neighbours, 1 to 1024: answers are then arrays (q, k), in ascending order of
        distance and, among equal distances, of index. Default: the nearest alone, in arrays (q,).
    query_groups, training_groups : array_like of int, shapes (q,) and (n,), optional
        Duplicate groups. Given together: where a query's own row does not count, no training row of
        the query's group does.
    n_threads : int, optional
        Default: the CPUs this process may use, at most ``OMP_NUM_THREADS``.

    Returns
    -------
    Nearest
        In float64, bit for bit what float64 arithmetic in the order of the coordinates gives.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, length or type, is empty, holds NaN or infinity, or if
        coordinates lie so far apart that a squared distance is no float64.

    Examples
    --------
    >>> import numpy as np
    >>> found = nearest_training([[0.0, 0.0], [3.0, 4.0]], [[0.0, 4.0], [0.0, 0.0]])
    >>> found.distance, found.index
    (array([0., 3.]), array([1, 0]))
    """
    check_choice("metric", metric, METRICS)
    queries = as_points("queries", queries)
    training = as_points("training", training)
    if len(training) == 0:
        raise ValueError("training must hold at least one point")
    if queries.shape[1] != training.shape[1]:
        raise ValueError(
            f"queries and training must have as many columns, not {queries.shape[1]} and "
            f"{training.shape[1]}"
        )
    classes, training_classes = as_label_pair(
        query_labels, training_labels, len(queries), len(training)
    )
    members = None if self_index is None else as_labels("self_index", self_index, len(queries))
    if members is not None:
        check_rows(members, len(training))
    threads = resolve_threads(n_threads)
    groups, training_group = as_label_pair(
        query_groups, training_groups, len(queries), len(training), kind="groups"
    )
    extents = _extent("queries", queries, threads), _extent("training", training, threads)
    settings = (threads, resolve_isa())
    if metric == "euclidean" and (reason := why_not(*extents)):
        raise ValueError(reason)
    count = 1 if k is None else check_integer("k", k)
    if count != 1 or groups is not None:
        found = Nearest(
            *_kernel.k_nearest(
                queries,
                training,
                classes,
                training_classes,
                members,
                groups,
                training_group,
                count,
                metric == "angular",
                *settings,
            )
        )
        return _reshaped(found, -1) if k is None else found
    search = _kernel.angular if metric == "angular" else _kernel.euclidean
    found = Nearest(*search(queries, training, classes, training_classes, members, *settings))
    return found if k is None else _reshaped(found, -1, 1)


def why_not(
    queries: tuple[Float64Array, Float64Array], training: tuple[Float64Array, Float64Array]
) -> str | None:
    """Say why the Euclidean kernels cannot take these arrays exactly; ``None`` when they can.

    Parameters
    ----------
    queries, training : (lowest, highest)
        The corners of the box around each array's points, shape (d,) each.
    """
    low = np.minimum(queries[0], training[0])
    high = np.maximum(queries[1], training[1])
    with np.errstate(over="ignore"):
        largest = float(np.sum((high - low) ** 2)) * (1 + 1e-9)
    if not np.isfinite(largest):
        return (
            "queries and training lie too far apart for float64: their squared distances overflow "
            f"(coordinates run from {low.min():g} to {high.max():g}); rescale them"
        )
    return None


def as_points(name: str, points: ArrayLike) -> Array:
    """Return a two-dimensional native float32 or float64 array, without copying one."""
    array = as_array(name, points)
    if array.ndim != 2:
        raise ValueError(f"{name} must be 2-D (points, coordinates), not {array.ndim}-D")
    if array.shape[1] == 0:
        raise ValueError(f"{name} must have at least one column")
    array = memory.native(array)
    if array.dtype.kind in "iu":
        if array.dtype.itemsize > 4 and array.size and np.abs(array).max() > 2**53:
            raise ValueError(f"{name} holds integers beyond 2**53, which float64 cannot represent")
        return array.astype(np.float64)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise TypeError(f"{name} must be real numbers (float32, float64), not {array.dtype}")
    return array


def as_labels(name: str, labels: ArrayLike, length: int, *, keep_int8: bool = False) -> Array:
    """Return contiguous int64 labels, one for each of ``length`` points; or the int8 ones given."""
    array = memory.native(np.asarray(labels))
    if array.shape != (length,):
        raise ValueError(f"{name} must have shape ({length},), not {array.shape}")
    if array.dtype.kind not in "iub" and array.size:
        raise TypeError(f"{name} must be integers, not {array.dtype}")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must fit into int64, not {array.max()}")
    if array.dtype == np.int64 or (keep_int8 and array.dtype == np.int8):
        return np.ascontiguousarray(array)
    wide = memory.empty(length, np.int64)
    wide[...] = array
    return wide


def as_label_pair(
    query_labels: ArrayLike | None,
    training_labels: ArrayLike | None,
    q: int,
    n: int,
    *,
    keep_int8: bool = False,
    kind: str = "labels",
) -> tuple[Array, Int64Array] | tuple[None, None]:
    """Return both label arrays or neither; see :func:`as_labels`. ``kind``: labels or groups."""
    if query_labels is None and training_labels is None:
        return None, None
    if query_labels is None or training_labels is None:
        missing = f"query_{kind}" if query_labels is None else f"training_{kind}"
        what = "a same-class search needs labels" if kind == "labels" else "groups are needed"
        raise ValueError(f"{missing} must be given: {what} on both sides")
    return (
        as_labels(f"query_{kind}", query_labels, q, keep_int8=keep_int8),
        as_labels(f"training_{kind}", training_labels, n),
    )


def check_rows(self_index: Int64Array, n: int) -> None:
    """Raise ValueError where an entry is not in [-1, n)."""
    if self_index.size and (self_index.min() < -1 or self_index.max() >= n):
        bad = int(np.argmax((self_index < -1) | (self_index >= n)))
        raise ValueError(
            f"self_index must be -1 or a row of training, 0 to {n - 1}, but entry {bad} is "
            f"{self_index[bad]}"
        )


def _reshaped(found: Nearest, *shape: int) -> Nearest:
    distance, index = found.distance_excluding_self, found.index_excluding_self
    return Nearest(
        found.distance.reshape(shape),
        found.index.reshape(shape),
        None if distance is None else distance.reshape(shape),
        None if index is None else index.reshape(shape),
    )


def _extent(name: str, points: Array, threads: int) -> tuple[Float64Array, Float64Array]:
    """Return the corners of the box around ``points``, which must be finite."""
    low, high = _kernel.extent(points, threads)
    if len(points) and not (np.isfinite(low).all() and np.isfinite(high).all()):
        row = int(np.argmin(np.isfinite(points).all(axis=1)))
        raise ValueError(f"{name} must be finite, but row {row} holds NaN or infinity")
    return low, high
