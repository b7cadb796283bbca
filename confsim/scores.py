"""Scores of models' outputs: probabilities, confidences and losses as log-odds.

Log-odds have no place for a probability of exactly 0 or 1, which averaged votes (forests, nearest
neighbours), rounding and narrow floats give. What stands in for it decides attacks that fit
densities to log-odds, so it is chosen here, once, and said.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim._errors import check_finite, check_integer, check_number

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

#: Rows of probabilities may miss 1 by so much (a text file, float16, a sum of rounded shares) ...
SUM_TOLERANCE = 1e-2

#: ... and it is said that they were divided by their sum when they miss it by more than this.
SUM_SAID = 1e-3

#: Decimals up to which rounding is recognised; each value may then be off by half of the last.
_DECIMALS = range(1, 7)

#: Values in [0, 1] that cannot all be logits by accident; as many rows that add up to 1 are fewer.
_ENOUGH_VALUES, _ENOUGH_ROWS = 20, 5

#: Votes that smoothing adds to each class, unless told otherwise (Krichevsky & Trofimov 1981).
DEFAULT_SMOOTHING = 0.5


@dataclass
class Zeros:
    """What probabilities of exactly 0 become.

    Attributes
    ----------
    votes : int, optional
        How many votes (trees, neighbours) a probability is a share of.
    smoothing : float, optional
        Votes that are added to each class; ``(p V + s) / (V + s K)``.
    replacement : float, optional
        What zeros were replaced by, if there were any.
    notes : list of str
        What was done that nobody asked for.
    """

    votes: int | None = None
    smoothing: float | None = None
    replacement: float | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.votes is not None:
            check_integer("votes", self.votes, minimum=1)
            if self.smoothing is None:
                self.smoothing = DEFAULT_SMOOTHING
        if self.smoothing is not None:
            check_number("smoothing", self.smoothing, minimum=0)
            if self.votes is None:
                raise ValueError("smoothing needs votes: the number of trees, or of neighbours")

    def check_used(self, names: Iterable[str]) -> None:
        """Raise ``ValueError`` if votes were given and there are no probabilities of theirs."""
        if self.votes is not None and not any(name.endswith("probabilities") for name in names):
            raise ValueError("votes needs probabilities, which are shares of them")

    def identity(self) -> dict[str, Any]:
        """Return what of this decides a trial's numbers; empty where there are no zeros."""
        found: dict[str, Any] = {}
        if self.votes is not None:
            assert self.smoothing is not None
            found |= {"votes": int(self.votes), "smoothing": float(self.smoothing)}
        if self.replacement is not None:
            found["zeros_replaced_by"] = self.replacement
        return found

    def smooth(self, values: FloatArray) -> FloatArray:
        """Add votes to each class of probabilities (..., classes), if their number is known."""
        if self.votes is None or not self.smoothing:
            return values
        classes = values.shape[-1]
        found: FloatArray = values * self.votes + self.smoothing
        found /= self.votes + self.smoothing * classes
        return found

    def replace(self, what: str, values: FloatArray, *, others: FloatArray | None = None) -> None:
        """Replace zeros in place by half the smallest other value, and say so.

        ``others`` are more values that may hold the smallest: every model's share one replacement.
        """
        zero = values == 0
        count = int(np.count_nonzero(zero))
        if not count:
            return
        if self.replacement is None:
            known = [v[v > 0].min(initial=1.0) for v in (values, others) if v is not None]
            self.replacement = float(min(known)) / 2 or float(np.nextafter(0.0, 1.0))
        values[zero] = self.replacement
        source, remedy = "", ""
        if "probabilities" in what:
            source = ", as of forests' and neighbours' votes"
            remedy = "votes= (--votes) smooths by counts, "
        self.notes.append(
            f"{count:,} of {values.size:,} {what} are exactly 0{source}; they were replaced by "
            f"{self.replacement:.3g}, half the smallest other one ({remedy}logits are exact)"
        )


def log_probabilities(name: str, values: Array, zeros: Zeros, others: Array | None) -> FloatArray:
    """Check probabilities (models, examples, classes); return logits that give them.

    Raises
    ------
    ValueError
        If there is a negative one, or a row does not add up to 1: the message names the row.
    """
    found: FloatArray = values.astype(np.float64)
    sums = found.sum(axis=2)
    farthest = float(np.abs(sums - 1).max(initial=0.0))
    tolerance = SUM_TOLERANCE if farthest <= SUM_TOLERANCE else _tolerance(found)
    for rows, total in zip(found, sums, strict=True):
        wrong = (rows < 0).any(axis=1) | (np.abs(total - 1) > tolerance)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"{name} must be at least 0 and add up to 1, but those of row {row} are "
                f"{np.array2string(rows[row], precision=4, threshold=6)}, "
                f"which add up to {total[row]:.6g}"
                + (" (percent: divide by 100)" if abs(total[row] - 100) < 1 else "")
            )
    if farthest > SUM_SAID:
        zeros.notes.append(
            f"{name} of an example miss a sum of 1 by up to {farthest:.2g}; they were divided by "
            "their sum"
        )
        found /= sums[..., None]
    found = zeros.smooth(found)
    zeros.replace(name, found, others=None if others is None else others.astype(np.float64))
    return np.log(found, out=found)


def _tolerance(values: FloatArray) -> float:
    """Return by how much sums may miss 1: more where all values are rounded to few decimals."""
    classes = values.shape[-1]
    for decimals in _DECIMALS:
        if np.array_equal(np.round(values, decimals), values):
            rounding = float(min(0.5, classes * 0.5 / 10**decimals))
            return max(SUM_TOLERANCE, rounding * (1 + 1e-9))
    return SUM_TOLERANCE


def from_confidence(values: Array, zeros: Zeros) -> dict[str, FloatArray]:
    """Return the scores that follow from the largest probability (models, examples)."""
    confidence = np.ascontiguousarray(values, dtype=np.float64)
    wrong = ~((confidence >= 0) & (confidence <= 1))
    if wrong.any():
        model, row = np.argwhere(wrong)[0]
        raise ValueError(
            f"confidence must be in [0, 1], but row {row} is {confidence[model, row]}"
            + (" (percent: divide by 100)" if 1 < confidence.max() <= 100 else "")
        )
    largest, rest = confidence.copy(), 1 - confidence
    zeros.replace("values of 1 - confidence", rest, others=largest)
    zeros.replace("values of confidence", largest, others=rest)
    return {"softmax": confidence, "log_odds_max": np.log(largest) - np.log(rest)}


def from_loss(values: Array, zeros: Zeros) -> dict[str, FloatArray]:
    """Return the scores that follow from the cross-entropy of the true class (models, examples)."""
    loss = np.ascontiguousarray(values, dtype=np.float64)
    for rows in loss:
        check_finite("loss", rows)
    if (loss < 0).any():
        row = int(np.argwhere(loss < 0)[0][1])
        raise ValueError(
            f"loss must be at least 0, but row {row} is {loss[:, row].min():g}: cross-entropies "
            "are; minus any other loss is a statistic"
        )
    loss = loss + 0.0  # a copy, in which -0 is 0
    zeros.replace("values of loss", loss)
    # p = exp(-loss), so log p - log(1 - p) = -log(exp(loss) - 1), without overflow:
    return {"loss": loss, "log_odds_true": -loss - np.log(-np.expm1(-loss))}


def check_logits(name: str, values: Array) -> None:
    """Raise ``ValueError`` if logits (..., classes) are probabilities by their looks.

    Attacks would take the largest probability for a logit, and be wrong without a word.
    """
    rows = values.reshape(-1, values.shape[-1])
    if len(rows) < _ENOUGH_ROWS or rows.min() < 0 or rows.max() > 1:
        return
    if np.abs(rows.sum(axis=1, dtype=np.float64) - 1).max() <= SUM_TOLERANCE:
        raise ValueError(
            f"{name} are all in [0, 1] and add up to 1 for each example, as probabilities do: "
            "give them as such"
        )


def like_probabilities(name: str, values: Array) -> str:
    """Say so where a binary model's logits look like probabilities, else ""."""
    within = values.size >= _ENOUGH_VALUES and ((values >= 0) & (values <= 1)).all()
    if not name.endswith("logits") or not within or values.min() == values.max():
        return ""
    return f"{name} are all in [0, 1]: if they are probabilities, give them as such"


def two_classes(name: str, values: Array) -> Array:
    """Return two columns for a binary model's one: the score of class 1, or its probability."""
    if name.endswith("logits"):
        return np.stack([np.zeros_like(values), values], axis=-1)
    wrong = ~((values >= 0) & (values <= 1))
    if wrong.any():
        row = int(np.argwhere(wrong)[0][-1])
        raise ValueError(
            f"{name} of class 1 must be in [0, 1], but row {row} is {values[..., row].ravel()[0]}"
        )
    return np.stack([1 - values.astype(np.float64), values.astype(np.float64)], axis=-1)
