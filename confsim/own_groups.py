"""Groups of the user's own, such as sites or sexes, that results are told apart by.

They decide nothing: no draw, no training and no score knows of them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.experiment import Coded

#: More groups than this are no groups: a column of numbers or names was taken by mistake.
MOST_GROUPS = 200

#: How values that stand for "of no group" are printed.
_NONE = ("nan", "None", "<NA>", "NaT")


def own_groups(what: str, values: NDArray[Any], count: int) -> Coded:
    """Return a column of groups as text, ``""`` for examples of none.

    Parameters
    ----------
    what : str
        What the values are called in messages.
    values : ndarray, (examples,)
        Numbers or text; whole numbers lose what a program may have made of them: 2.0 is ``"2"``.
    count : int
        Examples.

    Raises
    ------
    ValueError
        If there is not one value for each example, or there are more than :data:`MOST_GROUPS`
        groups, or none.

    Examples
    --------
    >>> import numpy as np
    >>> from confsim.own_groups import own_groups
    >>> found = own_groups("group", np.array(["b", "a", "", "b"]), 4)
    >>> found.names, found.codes.tolist()
    (('', 'a', 'b'), [2, 1, 0, 2])
    """
    if values.shape != (count,):
        raise ValueError(f"{what} must have shape ({count},), not {values.shape}")
    text = np.array([_name_of(value) for value in values.tolist()])
    names, codes = np.unique(text, return_inverse=True)
    known = len(names) - int("" in names)
    if not known:
        raise ValueError(f"{what} holds nothing: leave it out")
    if known > MOST_GROUPS:
        raise ValueError(
            f"{what} holds {known:,} groups, and at most {MOST_GROUPS} can be told apart: it is "
            "for coarse ones such as sites; numbers or names of examples are their id"
        )
    return Coded(codes.reshape(-1).astype(np.int64), tuple(str(name) for name in names))


def _name_of(value: Any) -> str:
    """Return a group as text: text as it is, whole numbers without a point, nothing for NaN."""
    if isinstance(value, str):
        name = value.strip()
        return "" if name == "nan" else name
    if isinstance(value, bytes):
        return value.decode(errors="replace").strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if str(value) in _NONE else str(value)
