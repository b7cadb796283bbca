"""Which members attacks find, by how similar they are to others: success in bins of examples.

Arrays in, rows out. Bins are those of attack power, so that tables stand side by side.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import check_mapping
from confsim.membership.reliability import halves, reliability_of_halves
from confsim.membership.vulnerability import bins_of, check_binned
from confsim.statistics import RATE, check_membership, mean_interval

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

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
    remembered = None
    if memorization is not None:
        remembered = check_binned("memorization", memorization, member.shape[1]).astype(np.float64)
    success = Success(member)
    for name, hits in found.items():
        success.add(name, hits)
    return success.rows(order_by, bins_of(order_by, bins), remembered)


class Success:
    """Whom attacks find, one attack after another: counts of each example, and rows of any bins.

    Parameters
    ----------
    is_member : ndarray of bool, (trials, examples)
    row_groups : array_like, (trials,), optional
        Trials of one group stay in one half; see :func:`confsim.membership.reliability.halves`.

    Notes
    -----
    What attacks call a member is needed once, trial after trial; kept are three counts an example.
    """

    def __init__(self, is_member: BoolArray, row_groups: ArrayLike | None = None) -> None:
        self._member = is_member
        self._half = np.zeros(len(is_member), dtype=np.int64)
        self._half[halves(len(is_member), row_groups)[1]] = 1
        self._held = np.stack([is_member[self._half == k].sum(axis=0) for k in (0, 1)])
        self._hits: dict[str, NDArray[np.uint32]] = {}
        self._false: dict[str, NDArray[np.uint32]] = {}

    def add(self, attack: str, called: Iterable[BoolArray]) -> None:
        """Count what an attack calls a member in each trial: arrays (examples,)."""
        self.keep(attack, self.counts(called))

    def counts(self, called: Iterable[BoolArray]) -> NDArray[np.uint32]:
        """Return the three counts (3, examples): hits in either half, and false positives."""
        found = np.zeros((3, self._member.shape[1]), dtype=np.uint32)
        for said, member, half in zip(called, self._member, self._half, strict=True):
            found[half] += said & member
            found[2] += said & ~member
        return found

    def keep(self, attack: str, counts: NDArray[np.uint32]) -> None:
        """Add an attack by its :meth:`counts`."""
        self._hits[attack], self._false[attack] = counts[:2], counts[2]

    @property
    def attacks(self) -> list[str]:
        """Those that were added, in their order."""
        return list(self._hits)

    def share(self, attack: str) -> FloatArray:
        """Return the share of trials with an example as a member in which an attack finds it."""
        with np.errstate(invalid="ignore"):
            found: FloatArray = self._hits[attack].sum(axis=0) / self._held.sum(axis=0)
        return found

    def reliability(self, attack: str, bins: Sequence[IntArray] | None = None) -> float:
        """Return the split-half reliability of that share, or of its means in bins."""
        with np.errstate(invalid="ignore"):
            first, second = self._hits[attack] / self._held
        return reliability_of_halves(first, second, bins=bins)

    def rows(
        self, values: NDArray[Any], bins: Sequence[IntArray], memorization: FloatArray | None = None
    ) -> list[dict[str, Any]]:
        """Return the rows of :func:`success_by` for the examples of each bin."""
        rows = []
        for attack in self._hits:
            rates = self._rates(attack)
            for number, chosen in enumerate(bins):
                row: dict[str, Any] = {
                    "bin": number,
                    "value_low": float(values[chosen].min()),
                    "value_high": float(values[chosen].max()),
                    "examples": len(chosen),
                    "attack": attack,
                    **self._row(attack, rates, chosen),
                }
                if memorization is not None:
                    row["memorization"] = _mean(memorization[chosen])
                rows.append(row | {"interval": INTERVAL})
        return rows

    def _rates(self, attack: str) -> dict[str, FloatArray]:
        """Return how often each example is found, as a member and as none."""
        others = len(self._member) - self._held.sum(axis=0)
        with np.errstate(invalid="ignore"):
            return {"tpr": self.share(attack), "fpr": self._false[attack] / others}

    def _row(
        self, attack: str, rates: dict[str, FloatArray], examples: IntArray
    ) -> dict[str, float]:
        row: dict[str, float] = {}
        for name, every in rates.items():
            mean, low, high = mean_interval(every[examples], RATE)
            row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        held = self._held[:, examples].sum(axis=0)
        found = self._hits[attack][:, examples].sum(axis=0)
        once, twice = held >= 1, held >= 2
        row["coverage"] = _mean(found[once] > 0)
        row["stability"] = _mean((found == held)[twice])
        return row


def _mean(values: NDArray[Any]) -> float:
    known = values[~np.isnan(values.astype(np.float64))]
    return float(np.mean(known)) if len(known) else float("nan")
