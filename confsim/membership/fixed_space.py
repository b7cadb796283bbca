"""Every example's surroundings in one space that no trial has changed: nearest others, density."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_reals, check_finite, check_integer
from confsim.neighbors import nearest_training

FloatArray = NDArray[np.float64]

#: Neighbours that an example's density is measured by.
DENSITY_NEIGHBOURS = 20


def fixed_space(
    features: ArrayLike, groups: ArrayLike | None = None, neighbours: int = DENSITY_NEIGHBOURS
) -> dict[str, FloatArray]:
    """Measure every example's surroundings in one space that no trial has changed.

    Parameters
    ----------
    features : array_like, (examples, ...)
        Pixels, or the output of a pretrained encoder; flattened.
    groups : array_like, (examples,), optional
        Examples with the same value are duplicates of one another.
    neighbours : int
        How many the density looks at; fewer where there are fewer examples.

    Returns
    -------
    dict of ndarray, (examples,)
        ``fixed_distance``: angular distance to the nearest other example, as a fraction of a half
        turn; ``fixed_distance_other_group``: to the nearest one that is no duplicate (with
        ``groups``); ``density_distance``: mean Euclidean distance to the nearest others after L2
        normalisation. NaN with one example only.

    Examples
    --------
    >>> import numpy as np
    >>> from confsim.membership import fixed_space
    >>> found = fixed_space(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), groups=[0, 0, 1])
    >>> found["fixed_distance"].tolist(), found["fixed_distance_other_group"].tolist()
    ([0.0, 0.0, 0.5], [0.5, 0.5, 0.5])
    """
    points = as_reals("features", features)
    if points.ndim < 2 or points.size == 0:
        raise ValueError(f"features must have shape (examples, ...), not {points.shape}")
    neighbours = check_integer("neighbours", neighbours, minimum=1)
    points = points.reshape(len(points), -1)
    points = _searchable(points)
    count = min(neighbours, len(points) - 1)
    if count == 0:
        nothing = np.full(1, np.nan)
        found = {"fixed_distance": nothing, "density_distance": nothing}
        return found if groups is None else found | {"fixed_distance_other_group": nothing}
    own = np.arange(len(points))
    others = nearest_training(points, points, metric="angular", self_index=own, k=count)
    angle = np.asarray(others.distance_excluding_self)
    # The chord of a unit circle that an angle spans.
    density = (2 * np.sin(np.pi / 2 * angle)).mean(axis=1)
    found = {"fixed_distance": angle[:, 0].copy(), "density_distance": density}
    if groups is not None:
        _, group = np.unique(_checked_groups(groups, len(points)), return_inverse=True)
        foreign = nearest_training(
            points, points, metric="angular", query_groups=group, training_groups=group
        )
        found["fixed_distance_other_group"] = np.asarray(foreign.distance_excluding_self)
    return found


def _searchable(points: NDArray[Any]) -> NDArray[Any]:
    """Return finite rows that the search reads: small integers, as of pixels, fit into float32."""
    if points.dtype.kind in "iub" and points.dtype.itemsize <= 2:
        return points.astype(np.float32)
    check_finite("features", points)
    return points


def _checked_groups(groups: ArrayLike, length: int) -> NDArray[Any]:
    array = np.asarray(groups)
    if array.shape != (length,):
        raise ValueError(f"groups must be as long as features, {length}, not {array.shape}")
    return array
