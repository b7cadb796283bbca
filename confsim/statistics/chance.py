"""What an AUC is on average where membership means nothing, when that is not a half.

Closeness excluding self is such a figure: a member's own training row does not count, so that a
member has one candidate fewer than a non-member, and is a little farther from the nearest.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_float64

FloatArray = NDArray[np.float64]


def closeness_chance(members: ArrayLike, non_members: ArrayLike, *, matched: bool = False) -> float:
    r"""Return the AUC of closeness excluding self if members are any of the points.

    Let a point have ``c`` candidates at distances that are independent draws of one continuous law.
    The nearest of ``a`` draws is nearer than the nearest of ``b`` others exactly when the nearest
    of all ``a + b`` is among the ``a``, whatever the law: with probability :math:`a / (a + b)`. A
    member of a class with ``n_c`` members has ``n_c - 1`` candidates, a non-member ``n_c``. The AUC
    is the mean over pairs of a member and a non-member that have a candidate; with a single class,
    or none, :math:`(n - 1) / (2 n - 1)`.

    In truth the distances of a point are not independent of where it is, and nearest neighbours are
    often mutual. Both matter little unless there are few members (of a class): simulated in a box
    of two dimensions, 0.336 for 0.400 at n = 3, 0.464 for 0.474 at n = 10, 0.487 for 0.492 at 30.

    Parameters
    ----------
    members, non_members : array_like of int, (classes,)
        How many there are of each class; a number where only training points of any class count.
    matched : bool
        Whether every non-member is robbed of one candidate, too.

    Returns
    -------
    float
        NaN where no member or no non-member has a candidate.

    Examples
    --------
    >>> from confsim.statistics import closeness_chance
    >>> round(closeness_chance(10, 1000), 4)  # 9 / 19
    0.4737
    >>> round(closeness_chance([5] * 100, [5] * 100), 4)  # a hundred classes: 4 / 9
    0.4444
    >>> round(closeness_chance([8, 2], [500, 500], matched=True), 4)  # most members have many
    0.6125
    """
    held = np.atleast_1d(as_float64("members", members))
    others = np.atleast_1d(as_float64("non_members", non_members))
    # Classes of the same size are alike: few sizes are left of many classes.
    sizes, size = np.unique(held, return_inverse=True)
    a, b = sizes - 1, sizes - float(matched)
    weight_a = np.bincount(size, weights=held) * (a > 0)
    weight_b = np.bincount(size, weights=others) * (b > 0)
    if not weight_a.any() or not weight_b.any():
        return float("nan")
    total = np.where(a[:, None] + b[None] > 0, a[:, None] + b[None], 1.0)
    share_a, share_b = weight_a / weight_a.sum(), weight_b / weight_b.sum()
    return float(share_a @ (a[:, None] / total) @ share_b)
