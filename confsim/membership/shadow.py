"""Shadow models: which trials may speak about a target, and how their values are put together.

Who may speak about a target. The target itself never does. In a balanced design neither does its
``partner``, the trial trained on the complement: it knows the target's members. With ``trim``, each
example is described by equally many models that held it and that did not, and by equally many for
every target: where each example is held by a fixed number of models, the counts alone would tell
members from others.

All work is done in blocks of examples, and no example is compared with another one by one, so
memory stays within a few times the input. Nothing here knows an attack.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import check_finite, check_integer
from confsim._kernels import resolve_threads

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Design:
    """Which trials were trained on which examples, and who may speak about whom.

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
        """Number of trials that may speak about a target."""
        return self.trials - (1 if self.partner is None else 2)

    def blocks(self) -> Iterator[slice]:
        """Yield the examples of one piece of work each; part of what ``seed`` means."""
        for start in range(0, self.is_member.shape[1], _BLOCK):
            yield slice(start, start + _BLOCK)

    def sides(self, block: slice) -> tuple["Side", "Side"]:
        """Return the models with and those without each example of a block."""
        member = self.is_member[:, block]
        if self.trim:
            return self._trimmed(member, block)
        own = np.arange(self.trials)[:, None]
        other = -1 if self.partner is None else self.partner[:, None]
        return (
            Side(member, np.where(member, own, other)),
            Side(~member, np.where(member, other, own)),
        )

    def _trimmed(self, member: BoolArray, block: slice) -> tuple["Side", "Side"]:
        """Keep ``c + 1`` models a side, of which one is left out for every target.

        The target itself is left out where it is among them, else the last of them, so that ``c``
        models remain on both sides whether the target was trained on the example or not.
        """
        rng = np.random.Generator(np.random.PCG64([self.seed, block.start]))
        priority = rng.random(member.shape)
        fewest = np.minimum(member.sum(axis=0), (~member).sum(axis=0))
        own = np.arange(self.trials)[:, None]
        sides = []
        for held in (member, ~member):
            order = np.argsort(np.where(held, priority, np.inf), axis=0)
            chosen = held & (inverse(order) < fewest)
            last = np.take_along_axis(order, np.maximum(fewest - 1, 0)[None], axis=0)
            sides.append(Side(chosen, np.where(chosen, own, np.where(fewest > 0, last, -1))))
        return sides[0], sides[1]


@dataclass(frozen=True, eq=False)
class Side:
    """Models of one kind for a block of examples.

    ``models`` (trials, block) says which there are, ``left_out`` (trials, block) which of them may
    not speak about a target, -1 for none.
    """

    models: BoolArray
    left_out: IntArray

    @property
    def counts(self) -> IntArray:
        """Models that speak about each target and example."""
        found: IntArray = self.models.sum(axis=0) - (self.left_out >= 0)
        return found

    def reduce(self, terms: FloatArray, ufunc: np.ufunc) -> FloatArray:
        """Reduce ``terms`` over the models that may speak about each target.

        ``terms`` are the ufunc's identity where there is no model. What is left out is never
        added and subtracted again, so nothing cancels.
        """
        without, everyone = without_each(terms, ufunc)
        chosen = np.take_along_axis(without, np.maximum(self.left_out, 0), axis=0)
        return np.where(self.left_out >= 0, chosen, everyone)


def without_each(terms: FloatArray, ufunc: np.ufunc) -> tuple[FloatArray, FloatArray]:
    """Return the reductions over axis 0 without each row in turn, and that over all rows."""
    nothing = -np.inf if ufunc is np.logaddexp else 0.0
    before = np.full_like(terms, nothing)
    after = np.full_like(terms, nothing)
    before[1:] = ufunc.accumulate(terms[:-1], axis=0)
    after[:-1] = ufunc.accumulate(terms[:0:-1], axis=0)[::-1]
    return ufunc(before, after), ufunc(before[-1], terms[-1])


def inverse(order: IntArray) -> IntArray:
    """Return each entry's place in an ordering of axis 0."""
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(len(order))[:, None], axis=0)
    return places


def make_design(
    values: FloatArray,
    is_member: ArrayLike,
    partner: ArrayLike | None,
    trim: bool,
    seed: int,
) -> Design:
    """Check an attack's arguments; return who was trained on what and who may speak."""
    member = np.asarray(is_member)
    if member.dtype != np.bool_:
        raise TypeError(f"is_member must be boolean, not {member.dtype}")
    if values.ndim not in (2, 3) or values.shape[:2] != member.shape:
        raise ValueError(
            "log_odds must have shape (trials, examples) or (trials, examples, augmentations) and "
            f"is_member (trials, examples), not {values.shape} and {member.shape}"
        )
    if values.size == 0:
        raise ValueError("log_odds must not be empty")
    check_finite("log_odds", values)
    partners = None if partner is None else np.asarray(partner, dtype=np.int64)
    return Design(member, partners, trim, seed)


def each_block(design: Design, work: Callable[[slice], Any], n_threads: int | None) -> list[Any]:
    """Call ``work`` for every block, on several threads; return the results in order."""
    with ThreadPoolExecutor(resolve_threads(n_threads)) as pool:
        return list(pool.map(work, design.blocks()))
