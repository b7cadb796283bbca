"""Shadow models: which trials may vote on a target, and how their values are put together.

Who votes on a target. The target itself never does. In a balanced design neither does its
``partner``, the trial trained on the complement: it knows the target's members. With ``trim``, each
example is described by equally many models that held it and that did not, and by equally many for
every target: where each example is held by a fixed number of models, the counts alone would tell
members from others.

Arrays are ``(trials, examples)`` or ``(trials, examples, views)``; they may be memory-mapped and of
any float type. Work is done in blocks of examples, each converted to float64 by itself, so that
memory beyond inputs and outputs stays within a few blocks. Nothing here knows an attack.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_array, check_integer, check_size
from confsim._kernels import resolve_threads
from confsim.seeds import Purpose, stream
from confsim.statistics import check_membership
from confsim.statistics.order import ascending_columns, ascending_order
from confsim.statistics.order import counts_below as counts_in_order

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

_BLOCK = 1024


def check_scores(scores: ArrayLike, is_member: ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Return scores (trials, examples), where NaN means "no answer", and membership."""
    values, member = check_pairs("scores", scores, is_member)
    return values.astype(np.float64, copy=False), member


def check_pairs(
    name: str, given: ArrayLike, is_member: ArrayLike
) -> tuple[NDArray[Any], BoolArray]:
    """Return real numbers (trials, examples), in their own precision, and membership."""
    values, member = as_array(name, given), check_membership(is_member)
    if values.dtype.kind == "O":  # numbers of pandas that may be missing
        values = values.astype(np.float64)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers, not {values.dtype}")
    if values.ndim != 2 or values.shape != member.shape:
        raise ValueError(
            f"{name} and is_member must both have shape (trials, examples), not "
            f"{values.shape} and {member.shape}"
        )
    return values, member


@dataclass(frozen=True, eq=False)
class Design:
    """Which trials were trained on which examples, and who may vote on whom.

    Attributes
    ----------
    is_member : ndarray of bool, (trials, examples)
    partner : ndarray of int64, (trials,), or None
        In a balanced design, the trial that was trained on the complement.
    trim : bool
        Whether each example is described by equally many models in and out.
    seed : int
        Decides which models are left out where there are too many.
    """

    is_member: BoolArray
    partner: IntArray | None = None
    trim: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        member = self.is_member
        if member.ndim != 2 or member.dtype != np.bool_:
            raise ValueError("is_member must be a boolean array (trials, examples)")
        check_integer("seed", self.seed, minimum=0)
        if self.partner is not None:
            self._check_partner(self.partner)
            if self.trim:
                raise ValueError("trim is for designs without partner")

    def _check_partner(self, partner: IntArray) -> None:
        trials = np.arange(self.trials)
        if partner.shape != (self.trials,) or not np.isin(partner, trials).all():
            raise ValueError("partner must hold the number of a trial for each trial")
        if np.any(partner[partner] != trials) or np.any(partner == trials):
            raise ValueError("partner must pair the trials off")
        for trial in trials:
            if np.any(self.is_member[trial] == self.is_member[partner[trial]]):
                raise ValueError(
                    f"partner of trial {trial} is trial {partner[trial]}, which was not trained "
                    "on the complement"
                )

    @property
    def trials(self) -> int:
        """Number of trials."""
        return len(self.is_member)

    @property
    def shadow_models(self) -> int:
        """Number of trials that may vote on a target."""
        return self.trials - (1 if self.partner is None else 2)

    def voters(self, target: int) -> IntArray:
        """Return the trials that may vote on a target, ascending."""
        silent = [target] if self.partner is None else [target, self.partner[target]]
        return np.setdiff1d(np.arange(self.trials), silent)

    def blocks(self) -> Iterator[slice]:
        """Yield the examples of one piece of work each; part of what ``seed`` means."""
        for start in range(0, self.is_member.shape[1], _BLOCK):
            yield slice(start, start + _BLOCK)

    def sides(self, block: slice) -> tuple["Side", "Side"]:
        """Return the models with and those without each example of a block."""
        member = self.is_member[:, block]
        if self.trim:
            return self._trimmed(member, block)
        if self.partner is None:
            return Side(member), Side(~member)
        own, other = np.arange(self.trials)[:, None], self.partner[:, None]
        return (
            Side(member, np.where(member, own, other)),
            Side(~member, np.where(member, other, own)),
        )

    def _trimmed(self, member: BoolArray, block: slice) -> tuple["Side", "Side"]:
        """Keep ``c + 1`` models a side, of which one is left out for every target.

        The target itself is left out where it is among them, else the last of them, so that ``c``
        models remain on both sides whether the target was trained on the example or not.
        """
        rng = stream(self.seed, Purpose.TRIMMING, block.start)
        priority = rng.random(member.shape)
        fewest = np.minimum(member.sum(axis=0), (~member).sum(axis=0))
        own = np.arange(self.trials)[:, None]
        sides = []
        for held in (member, ~member):
            order = np.argsort(np.where(held, priority, np.inf), axis=0)
            chosen = held & (_inverse(order) < fewest)
            last = np.take_along_axis(order, np.maximum(fewest - 1, 0)[None], axis=0)
            sides.append(Side(chosen, np.where(chosen, own, np.where(fewest > 0, last, -1))))
        return sides[0], sides[1]


@dataclass(frozen=True, eq=False)
class Side:
    """Models of one kind, with or without the example, for a block of examples.

    Attributes
    ----------
    models : ndarray of bool, (trials, block)
        Which there are.
    left_out : ndarray of int64, (trials, block), or None
        Which of them does not vote on a target, -1 for none. ``None``: the target itself, where it
        is among them.
    """

    models: BoolArray
    left_out: IntArray | None = None

    @property
    def excludes(self) -> BoolArray:
        """Where a model is left out."""
        return self.models if self.left_out is None else self.left_out >= 0

    @property
    def counts(self) -> IntArray:
        """Models that vote on each target and example."""
        found: IntArray = self.models.sum(axis=0) - self.excludes
        return found

    def of_left_out(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values of the models left out; anything where none is."""
        if self.left_out is None:
            return values
        return np.take_along_axis(values, np.maximum(self.left_out, 0), axis=0)

    def sum(self, terms: FloatArray) -> FloatArray:
        """Add ``terms``, 0 where there is no model, over the models that vote on each target.

        The term of largest magnitude is kept apart: as long as it stays, what is subtracted is
        small beside it, and where it goes the others were never added to it. So no outlier that is
        left out takes the digits of the others with it.
        """
        rows, columns = np.arange(len(terms))[:, None], np.arange(terms.shape[1])
        top = np.abs(terms).argmax(axis=0)
        largest = terms[top, columns]
        rest = terms.copy()
        rest[top, columns] = 0.0
        total = rest.sum(axis=0)
        excludes = self.excludes
        found = np.where(excludes, self.of_left_out(rest), 0.0)
        np.subtract(total, found, out=found)
        left_top = excludes & ((rows if self.left_out is None else self.left_out) == top)
        found += np.where(left_top, 0.0, largest)
        return found

    def log_mean(self, log_values: FloatArray) -> FloatArray:
        """Return the log of the mean of ``exp(log_values)`` over the models that vote.

        The largest term of an example is kept apart from the sum of the others: as long as it
        stays, what is left out is small beside it, and where it goes the others are summed anew in
        their own scale. So nothing cancels, and nothing underflows. NaN where no model votes.
        """
        rows, columns = np.arange(len(log_values))[:, None], np.arange(log_values.shape[1])
        rest = np.where(self.models, log_values, -np.inf)
        top = rest.argmax(axis=0)
        first = rest[top, columns]
        rest[top, columns] = -np.inf
        second = rest.max(axis=0)
        second = np.where(np.isfinite(second), second, 0.0)
        terms = np.exp(rest - second, out=rest)
        total = terms.sum(axis=0)
        excludes = self.excludes
        left = np.where(excludes, self.of_left_out(terms), 0.0)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            scale = np.where(total > 0, np.exp(second - first), 0.0)
            found: FloatArray = np.subtract(total, left, out=left)
            np.maximum(found, 0.0, out=found)
            found *= scale
            found += 1.0
            without_top = excludes & ((rows if self.left_out is None else self.left_out) == top)
            found = np.where(without_top, total, found)
            counts = self.counts
            np.log(np.divide(found, counts, out=found), out=found)
            found += np.where(without_top, second, first)
        found[counts <= 0] = np.nan
        return found

    def log_trimmed_mean(self, log_values: FloatArray, cut: float) -> FloatArray:
        """Return the log of the trimmed mean of ``exp(log_values)`` over the models that vote.

        Of ``n`` models the ``floor(cut n)`` smallest and as many of the largest are left out, as by
        ``scipy.stats.trim_mean``. NaN where no model votes.
        """
        ordered = ascending_columns(np.where(self.models, log_values, np.inf))
        count = self.models.sum(axis=0)
        columns = np.arange(log_values.shape[1])
        low, low_one = (
            np.floor(cut * np.maximum(n, 0)).astype(np.int64) for n in (count, count - 1)
        )
        high = np.maximum(count - 1 - low, 0)
        high_one = np.maximum(count - 1 - low_one, 0)  # one more than is kept: one is left out
        lowest, largest = ordered[low_one, columns], ordered[high_one, columns]
        # Nothing above this rank is ever kept; terms ascend, so that differences of sums are exact.
        unit = ordered[np.maximum(high, high_one), columns]
        with np.errstate(invalid="ignore"):  # inf where there is no model
            np.minimum(np.subtract(ordered, unit, out=ordered), 0.0, out=ordered)
        terms = np.exp(ordered, out=ordered)
        upto = np.zeros((len(terms) + 1, len(columns)))
        np.cumsum(terms, axis=0, out=upto[1:])

        def between(first: IntArray, last: IntArray) -> FloatArray:
            found: FloatArray = upto[last + 1, columns] - upto[first, columns]
            return found

        left = self.of_left_out(log_values)
        # What is left out is below what is kept, above it, or one of it but not the largest.
        kept = between(low_one, high_one) - np.exp(np.minimum(left - unit, 0.0))
        kept = np.where(left >= largest, between(low_one, high_one - 1), kept)
        kept = np.where(left <= lowest, between(low_one + 1, high_one), kept)
        kept /= np.maximum(high_one - low_one, 1)
        everyone = between(low, high) / (high - low + 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            found: FloatArray = np.log(np.where(self.excludes, kept, everyone)) + unit
        found[self.counts <= 0] = np.nan
        return found

    def medians(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the medians over the models that vote (trials, block), and over all (block,).

        Anything where there is no model.
        """
        ordered = ascending_columns(np.where(self.models, values, np.inf))
        count = self.models.sum(axis=0)
        last = len(ordered) - 1
        columns = np.arange(values.shape[1])

        def at(rank: IntArray) -> FloatArray:
            found: FloatArray = ordered[np.clip(rank, 0, last), columns]
            return found

        everyone: FloatArray = (at((count - 1) // 2) + at(count // 2)) / 2
        left = self.of_left_out(values)
        total = np.zeros_like(values)
        for rank in ((count - 2) // 2, (count - 1) // 2):
            # Without a value no larger than the one of this rank, the next one takes its place.
            total += np.where(left <= at(rank), at(rank + 1), at(rank))
        total /= 2
        return np.where(self.excludes, total, everyone), everyone


def _inverse(order: IntArray) -> IntArray:
    """Return each entry's place in an ordering of axis 0."""
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(len(order))[:, None], axis=0)
    return places


def make_design(
    name: str,
    values: NDArray[Any],
    is_member: ArrayLike,
    partner: ArrayLike | None = None,
    trim: bool = False,
    seed: int = 0,
) -> Design:
    """Check an attack's arguments; return who was trained on what and who may vote."""
    member = check_membership(is_member)
    if values.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be numbers, not {values.dtype}")
    if values.ndim not in (2, 3) or values.shape[:2] != member.shape:
        raise ValueError(
            f"{name} must have shape (trials, examples) or (trials, examples, augmentations) and "
            f"is_member (trials, examples), not {values.shape} and {member.shape}"
        )
    if values.size == 0:
        raise ValueError(f"{name} must not be empty")
    check_size(name, values)
    partners = None if partner is None else np.asarray(partner, dtype=np.int64)
    return Design(member, partners, trim, seed)


def room_for_scores(design: Design, out: FloatArray | None, content: float) -> FloatArray:
    """Return where scores (trials, examples) are written, which ``out`` says, with one content.

    Raises
    ------
    ValueError
        If ``out`` is no such place.
    """
    shape = design.is_member.shape
    if out is None:
        return np.full(shape, content)
    if out.shape != shape or out.dtype != np.float64 or not out.flags.writeable:
        raise ValueError(
            f"out must be a float64 array of shape {shape} that can be written to, not {out.dtype} "
            f"of shape {out.shape}"
        )
    out[...] = content
    return out


def each_block(design: Design, work: Callable[[slice], Any], n_threads: int | None) -> list[Any]:
    """Call ``work`` for every block, on several threads; return the results in order."""
    with ThreadPoolExecutor(resolve_threads(n_threads)) as pool:
        return list(pool.map(work, design.blocks()))


def each_target(design: Design, work: Callable[[int], Any], n_threads: int | None) -> list[Any]:
    """Call ``work`` for every target, on several threads; return the results in order."""
    with ThreadPoolExecutor(resolve_threads(n_threads)) as pool:
        return list(pool.map(work, range(design.trials)))


def counts_below(points: FloatArray, values: FloatArray, *sides: Any) -> list[IntArray]:
    """Count the ascending ``points`` below each value (left), or not above it (right).

    Values are looked up in their order: otherwise most of the time goes into waiting for memory.
    """
    order = ascending_order(values)
    known = len(values) - np.count_nonzero(np.isnan(values))
    ordered, found = values[order[:known]], []
    for side in sides:
        counts = np.full(len(values), len(points), dtype=np.int64)
        counts[order[:known]] = counts_in_order(points, ordered, up_to=side == "right")
        found.append(counts)
    return found


def views_of(values: NDArray[Any]) -> int:
    """Return the number of views of an array (trials, examples[, views])."""
    return 1 if values.ndim == 2 else values.shape[2]


def block_views(values: NDArray[Any], block: slice) -> Iterator[FloatArray]:
    """Yield each view of a block of examples (trials, block) in float64."""
    part = np.asarray(values[:, block])
    if part.ndim == 2:
        yield part.astype(np.float64)
        return
    # One pass over memory that is contiguous in views, instead of one for each of them.
    for view in np.ascontiguousarray(np.moveaxis(part, 2, 0)):
        yield view.astype(np.float64)
