"""Which members attacks find, by how similar they are to others: success in bins of examples.

Arrays in, rows out. Bins are those of attack power, so that tables stand side by side.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import check_mapping
from confsim.membership.vulnerability import bins_of, check_binned
from confsim.statistics import RATE, check_membership, mean_interval

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

INTERVAL = "Student-t over examples, on the logit scale: these trials, examples drawn anew"


def success_by(
    values: ArrayLike,
    called: Mapping[str, ArrayLike],
    is_member: ArrayLike,
    *,
    bins: int | None = 10,
    memorization: ArrayLike | None = None,
) -> list[dict[str, Any]]:
    """Measure, among examples that are alike in something, how often attacks find them.

    Parameters
    ----------
    values : array_like, (examples,)
        What examples are sorted by, such as a distance; NaN ones are left out.
    called : mapping of str to array_like of bool, (trials, examples)
        By attack, what it calls a member: scores at or above a threshold that was chosen elsewhere.
    is_member : array_like of bool or 0/1, (trials, examples)
    bins : int or None
        How many bins of equally many examples; ``None``: one for each distinct value.
    memorization : array_like, (examples,), optional

    Returns
    -------
    list of dict
        For each bin and attack: ``bin``, ``value_low``, ``value_high``, ``examples``, ``attack``;
        ``tpr``: mean over examples of the share of trials in which they were found, of those that
        they were members of, with ``tpr_low`` and ``tpr_high``; ``fpr``: the same of those that
        they were no members of, with bounds; ``coverage`` and ``stability``: share of examples
        found at least once, and always (of those that were members at least twice);
        ``memorization``: its mean; ``interval``: what the bounds are about.

    Examples
    --------
    >>> import numpy as np
    >>> from confsim.membership import success_by
    >>> member = np.array([[1, 1, 0, 0], [1, 0, 1, 1], [0, 1, 1, 1]])
    >>> called = {"loss": np.array([[1, 0, 0, 1], [1, 0, 0, 1], [0, 0, 1, 0]], dtype=bool)}
    >>> rows = success_by([0.1, 0.2, 0.8, 0.9], called, member, bins=2)
    >>> [(row["tpr"], row["fpr"], row["coverage"], row["stability"]) for row in rows]
    [(0.5, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 0.0)]
    """
    member = check_membership(is_member)
    if member.ndim != 2:
        raise ValueError(f"is_member must have shape (trials, examples), not {member.shape}")
    order_by = check_binned("values", values, member.shape[1])
    check_mapping("called", called)
    found = {}
    for name, given in called.items():
        found[name] = check_membership(given, f"called[{name!r}]")
        if found[name].shape != member.shape:
            raise ValueError(
                f"called[{name!r}] must have the shape of is_member, {member.shape}, not "
                f"{found[name].shape}"
            )
    rows = []
    chosen = bins_of(order_by, bins)
    remembered = None
    if memorization is not None:
        remembered = check_binned("memorization", memorization, member.shape[1]).astype(np.float64)
    for name, hits in found.items():
        rates = _Rates(hits, member)
        for number, examples in enumerate(chosen):
            row: dict[str, Any] = {
                "bin": number,
                "value_low": float(order_by[examples].min()),
                "value_high": float(order_by[examples].max()),
                "examples": len(examples),
                "attack": name,
                **rates.of(examples),
            }
            if remembered is not None:
                row["memorization"] = _mean(remembered[examples])
            rows.append(row | {"interval": INTERVAL})
    return rows


class _Rates:
    """How often each example was found, as a member and as none."""

    def __init__(self, called: BoolArray, member: BoolArray) -> None:
        self._held, trials = member.sum(axis=0), len(member)
        self._found = (called & member).sum(axis=0)
        with np.errstate(invalid="ignore"):
            self._by_kind = {
                "tpr": self._found / self._held,
                "fpr": (called & ~member).sum(axis=0) / (trials - self._held),
            }

    def of(self, examples: NDArray[np.int64]) -> dict[str, float]:
        row: dict[str, float] = {}
        for name, rates in self._by_kind.items():
            mean, low, high = mean_interval(rates[examples], RATE)
            row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        held, found = self._held[examples], self._found[examples]
        once, twice = held >= 1, held >= 2
        row["coverage"] = _mean(found[once] > 0)
        row["stability"] = _mean((found == held)[twice])
        return row


def _mean(values: NDArray[Any]) -> float:
    known = values[~np.isnan(values.astype(np.float64))]
    return float(np.mean(known)) if len(known) else float("nan")
