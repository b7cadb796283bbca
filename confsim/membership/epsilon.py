r"""Lower bounds on a training algorithm's epsilon, from attacks on canaries.

A canary is an example whose membership was decided by an independent fair coin. If the algorithm is
:math:`(\varepsilon, \delta)`-differentially private, no attack can tell the sides apart better than
:math:`\varepsilon` allows; one that does refutes it. Bounds hold with a stated confidence, and only
where membership was drawn like that: other data are refused with the reason. A bound of 0 says that
this attack on so many canaries found nothing, not that nothing leaks.

Two kinds of audits. In ``clopper-pearson`` and ``gdp`` every score comes from a training run of its
own. In ``one-run`` and ``one-run-fdp`` all scores come from a single run with many canaries.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_array, check_choice, check_integer, check_number
from confsim.membership.epsilon_formulas import (
    gaussian_epsilon,
    one_run_epsilon,
    one_run_fdp_epsilon,
)
from confsim.seeds import Purpose, stream
from confsim.statistics import check_membership
from confsim.statistics.order import ascending, ascending_order

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

METHODS = ("clopper-pearson", "one-run", "one-run-fdp", "gdp")
THRESHOLDS = ("split", "multi-split", "bonferroni")

#: Why other draws of membership than independent fair coins cannot be audited.
REFUSED_DESIGNS = {
    "independent": "a stratified share of the examples is drawn, so coins depend on each other",
    "balanced": "every second trial is trained on the complement of the one before",
    "trimmed": "models were left out until counts were equal, which depends on membership",
}

#: Splits of ``threshold="multi-split"``.
SPLITS = 11

#: Thresholds of ``threshold="bonferroni"``: quantiles of the scores, from the highest down.
GRID = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8)

#: Shares of canaries with a score that are guessed, (as members, as non-members); from the others
#: the attack abstains.
GUESSES = tuple((f, g) for f in (1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32) for g in (f, 0.0))

#: Share of the runs that ``bonferroni`` spends on placing its thresholds.
_PLACING = 0.1

#: Membership this unlikely to come from fair coins is refused.
_NO_COINS = 1e-9

#: How much stricter the half that chooses is: few lucky guesses should not win the choice.
_STRICTER = 100

#: Most thresholds that are compared on one half.
_CANDIDATES = 256


@dataclass(frozen=True)
class EpsilonBound:
    """What :func:`epsilon_lower_bound` found.

    Attributes
    ----------
    epsilon : float
        With probability at least ``confidence``, the algorithm's epsilon at ``delta`` is no
        smaller. At least 0.
    delta, confidence : float
    method, rule : str
        ``rule`` is how the threshold was chosen.
    threshold : float or None
        A score at or above it was called a member; ``None`` where there is no single one.
    canaries : int
        Scores that were given.
    evaluated : int
        Those of them that the bound stands on: not those that chose the threshold.
    guesses, correct : int or None
        One run only.
    tpr_low, fpr_high : float or None
        Bounds on the rates at the threshold; independent runs only.
    mu : float or None
        Lower bound on the parameter of Gaussian differential privacy; ``gdp`` only.
    assumptions : tuple of str
        What must hold.
    """

    epsilon: float
    delta: float
    confidence: float
    method: str
    rule: str
    threshold: float | None
    canaries: int
    evaluated: int
    guesses: int | None
    correct: int | None
    tpr_low: float | None
    fpr_high: float | None
    mu: float | None
    assumptions: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"epsilon >= {self.epsilon:.3g} at delta = {self.delta:g} ({self.confidence:.0%} "
            f"confidence, {self.method}, threshold: {self.rule}, {self.canaries} canaries); "
            f"assumes: {'; '.join(self.assumptions)}"
        )


@dataclass(frozen=True)
class _Finding:
    """One bound, before it is cut at 0, and what it was made from."""

    epsilon: float
    threshold: float | None = None
    evaluated: int = 0
    guesses: int | None = None
    correct: int | None = None
    tpr_low: float | None = None
    fpr_high: float | None = None
    mu: float | None = None


def epsilon_lower_bound(
    scores: ArrayLike,
    is_member: ArrayLike,
    *,
    delta: float = 0.0,
    confidence: float = 0.95,
    method: str = "clopper-pearson",
    threshold: str | float = "split",
    seed: int = 0,
    design: str = "coin",
    canaries: ArrayLike | None = None,
) -> EpsilonBound:
    r"""Bound epsilon from below, by how well scores tell canaries in from canaries out.

    Parameters
    ----------
    scores : array_like, (n,)
        Higher means "member". ``clopper-pearson`` and ``gdp``: one score from each of ``n``
        independent training runs. ``one-run`` and ``one-run-fdp``: the scores of ``n`` canaries in
        one training run; NaN is an abstention, as of an attack that lacks shadow models for a
        canary: it is a canary of the audit, and no guess.
    is_member : array_like of bool or 0/1, (n,)
    delta : float
        In [0, 1).
    confidence : float
        In (0, 1).
    method : {"clopper-pearson", "one-run", "one-run-fdp", "gdp"}
        ``"clopper-pearson"``: from bounds on the true- and the false-positive rate,
        :math:`\varepsilon \ge \log((TPR - \delta) / FPR)` and the same of the negative rates
        (Kairouz et al. 2015; Jagielski et al. 2020). ``"gdp"``: from the same bounds,
        :math:`\mu = \Phi^{-1}(TPR) - \Phi^{-1}(FPR)`, and the epsilon of :math:`\mu`-Gaussian
        differential privacy at ``delta`` (Nasr et al. 2023); needs ``delta`` above 0.
        ``"one-run"``: from the number of correct guesses (Steinke, Nasr & Jagielski 2023).
        ``"one-run-fdp"``: from the same guesses by the recursion of Mahloujifar, Melis & Chaudhuri
        (2024), with the trade-off curve of :math:`(\varepsilon, \delta)`-differential privacy.
    threshold : {"split", "multi-split", "bonferroni"} or float
        How scores become guesses. ``"split"``: what is best on one random half is used on the
        other. ``"multi-split"``: the median of 11 such bounds, each at half of the error that is
        allowed, which holds by Markov's inequality and depends less on luck. ``"bonferroni"``: the
        best of 10, each at a tenth of the error; for independent runs a random tenth of them only
        places the thresholds, at quantiles of its scores. A number: must have been fixed before
        these scores were seen; one run guesses every canary by it.
    seed : int
        Of the splits.
    design : {"coin", "independent", "balanced", "trimmed"}
        How membership was drawn. All but independent fair coins are refused.
    canaries : array_like of int, optional
        Which of the ``n`` entries are canaries; default: all.

    Returns
    -------
    EpsilonBound

    Raises
    ------
    ValueError
        If arguments are not as described, or membership was not drawn by independent fair coins.

    Notes
    -----
    How close bounds come, in the mean over simulated audits at 95% confidence with 500 canaries.
    Randomised response with epsilon 1: ``clopper-pearson`` 0.74 with a fixed threshold, 0.64 split;
    ``one-run`` 0.83 fixed, 0.73 Bonferroni, 0.67 split; ``one-run-fdp`` 0.82 fixed. The Laplace
    mechanism with epsilon 1: ``clopper-pearson`` 0.58 and 0.45, ``one-run`` 0.67, 0.68 and 0.60.
    The Gaussian mechanism with ``mu`` 1, whose epsilon is 4.38 at ``delta`` 1e-5: ``gdp`` 2.7
    fixed, 2.3 Bonferroni, 2.0 split; ``one-run`` 1.1 and ``clopper-pearson`` 0.6 split, for the
    rates near 0 that tell more need more canaries (4,000: 3.4, 1.8 and 1.4). At most 5% of audits
    exceed the true epsilon.

    Examples
    --------
    Randomised response with epsilon 1:

    >>> import numpy as np
    >>> from confsim.membership import epsilon_lower_bound
    >>> rng = np.random.default_rng(0)
    >>> member = rng.random(4000) < 0.5
    >>> kept = rng.random(4000) < np.e / (1 + np.e)
    >>> scores = np.where(kept, member, ~member)
    >>> found = epsilon_lower_bound(scores, member, method="one-run", threshold=0.5)
    >>> 0.9 < found.epsilon < 1
    True
    """
    check_choice("method", method, METHODS)
    delta = check_number("delta", delta, minimum=0)
    if delta >= 1:
        raise ValueError(f"delta must be in [0, 1), not {delta:g}")
    confidence = check_number("confidence", confidence, above=0)
    if confidence >= 1:
        raise ValueError(f"confidence must be in (0, 1), not {confidence:g}")
    if method == "gdp" and delta == 0:
        raise ValueError(
            "delta must be above 0 for gdp: no Gaussian mechanism has a finite epsilon at delta 0"
        )
    check_integer("seed", seed, minimum=0)
    _check_design(design)
    single = method.startswith("one-run")
    values, member = _canaries(scores, is_member, canaries, method)
    audit = _OneRun(method, delta) if single else _Runs(method, delta)
    rule, found = _apply(audit, values, member, 1 - confidence, threshold, seed)
    return EpsilonBound(
        epsilon=max(0.0, found.epsilon),
        delta=delta,
        confidence=confidence,
        method=method,
        rule=rule,
        threshold=found.threshold,
        canaries=len(values),
        evaluated=found.evaluated,
        guesses=found.guesses,
        correct=found.correct,
        tpr_low=found.tpr_low,
        fpr_high=found.fpr_high,
        mu=found.mu,
        assumptions=_assumptions(method, rule),
    )


def _check_design(design: str) -> None:
    check_choice("design", design, ("coin", *REFUSED_DESIGNS))
    if design != "coin":
        raise ValueError(
            f"design {design!r} is no test of differential privacy: {REFUSED_DESIGNS[design]}; "
            "membership must be drawn by an independent fair coin for each canary"
        )


def _canaries(
    scores: ArrayLike, is_member: ArrayLike, canaries: ArrayLike | None, method: str
) -> tuple[FloatArray, BoolArray]:
    """Return scores and membership of the canaries, or say why they cannot be audited."""
    values, member = as_array("scores", scores), check_membership(is_member)
    if values.dtype.kind not in "fiub":
        raise TypeError(f"scores must be numbers, not {values.dtype}")
    if values.shape != member.shape:
        raise ValueError(
            f"scores and is_member must have the same shape, not {values.shape} and {member.shape}"
        )
    if values.ndim == 2 and min(values.shape) == 1:
        values, member = values.reshape(-1), member.reshape(-1)
    if values.ndim != 1:
        raise ValueError(
            f"scores must have one dimension, not the shape {values.shape}: rates pooled over "
            "models that share a population are no test of differential privacy; give one trial's "
            "row to one-run, or one example's column to clopper-pearson"
        )
    if canaries is not None:
        chosen = np.asarray(canaries)
        if chosen.dtype.kind not in "iu" or chosen.ndim != 1:
            raise TypeError("canaries must be a vector of integers")
        outside = (chosen < 0) | (chosen >= len(values))
        if outside.any():
            raise ValueError(
                f"canaries must be among the {len(values)} examples, but entry "
                f"{int(np.argmax(outside))} is {chosen[outside][0]}"
            )
        if len(np.unique(chosen)) < len(chosen):
            raise ValueError("canaries must be named once each")
        values, member = values[chosen], member[chosen]
    values = values.astype(np.float64)
    unknown = np.isnan(values)
    if unknown.any() and not method.startswith("one-run"):
        raise ValueError(
            f"scores must not be NaN, but entry {int(np.argmax(unknown))} is: only one-run and "
            "one-run-fdp can abstain"
        )
    if unknown.all():
        raise ValueError("scores are NaN for every canary: nothing can be guessed")
    _check_coins(member)
    return values, member


def _check_coins(member: BoolArray) -> None:
    from scipy.special import bdtr

    members = int(np.count_nonzero(member))
    if members in (0, len(member)):
        missing = "member" if members == 0 else "non-member"
        raise ValueError(f"is_member must hold both classes, but there is no {missing}")
    # The two-sided exact test: at one half its tails are alike.
    if 2 * bdtr(min(members, len(member) - members), len(member), 0.5) < _NO_COINS:
        raise ValueError(
            f"is_member holds {members} members of {len(member)} canaries, which independent fair "
            "coins do not give: no test of differential privacy"
        )


def _assumptions(method: str, rule: str) -> tuple[str, ...]:
    found = ["each canary was a member by an independent fair coin"]
    if method.startswith("one-run"):
        found.append("all scores come from one training run, all else in the data being fixed")
    else:
        found.append("each score comes from an independent training run")
    if method == "gdp":
        found.append("the algorithm's trade-off curve is that of a Gaussian mechanism")
    if rule == "fixed":
        found.append("the threshold was fixed before the scores were seen")
    return tuple(found)


# ---- from a rule to one bound ------------------------------------------------------------------


class _Runs:
    """Independent runs: candidates are thresholds, bounds stand on two binomial rates."""

    def __init__(self, method: str, delta: float) -> None:
        self.gaussian, self.delta = method == "gdp", delta

    def best(self, scores: FloatArray, member: BoolArray, beta: float) -> Any:
        cuts = np.unique(scores)
        if len(cuts) > _CANDIDATES:
            cuts = np.quantile(scores, np.linspace(0, 1, _CANDIDATES), method="nearest")
        found = self._bounds(scores, member, cuts, beta)[0]
        return float(cuts[int(np.argmax(found))])

    def bound(self, scores: FloatArray, member: BoolArray, candidate: Any, beta: float) -> _Finding:
        epsilon, mu, low, high = self._bounds(scores, member, np.array([candidate]), beta)
        return _Finding(
            float(epsilon[0]),
            threshold=float(candidate),
            evaluated=len(scores),
            tpr_low=float(low[0]),
            fpr_high=float(high[0]),
            mu=float(max(mu[0], 0.0)) if self.gaussian else None,
        )

    def bonferroni(
        self, scores: FloatArray, member: BoolArray, beta: float, rng: np.random.Generator
    ) -> _Finding:
        placing, rest = _parts(len(scores), _PLACING, rng)
        cuts = np.quantile(scores[placing], 1 - np.array(GRID))
        return _largest(
            self.bound(scores[rest], member[rest], cut, beta / len(GRID)) for cut in cuts
        )

    def _bounds(
        self, scores: FloatArray, member: BoolArray, cuts: FloatArray, beta: float
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return epsilon, mu, the lowest TPR and the highest FPR of each threshold."""
        from scipy.special import betaincinv, ndtri

        held, out = ascending(scores[member]), ascending(scores[~member])
        if not len(held) or not len(out):
            nothing = np.full(len(cuts), -np.inf)
            return nothing, nothing, np.zeros(len(cuts)), np.ones(len(cuts))
        hits = len(held) - np.searchsorted(held, cuts)
        false = len(out) - np.searchsorted(out, cuts)
        tail = beta / 2  # both rates must be right at once
        low = np.where(hits == 0, 0.0, betaincinv(np.maximum(hits, 1), len(held) - hits + 1, tail))
        misses = np.maximum(len(out) - false, 1)
        high = np.where(false == len(out), 1.0, betaincinv(false + 1, misses, 1 - tail))
        with np.errstate(divide="ignore", invalid="ignore"):
            mu = ndtri(low) - ndtri(high)
            mu = np.where(np.isnan(mu), -np.inf, mu)
            if self.gaussian:
                epsilon = np.array([gaussian_epsilon(m, self.delta) for m in mu])
                return np.where(mu > 0, epsilon, mu), mu, low, high
            positive = np.log(np.maximum(low - self.delta, 0.0)) - np.log(high)
            negative = np.log(np.maximum(1 - high - self.delta, 0.0)) - np.log1p(-low)
        return np.fmax(positive, negative), mu, low, high


class _OneRun:
    """One run: candidates say how many canaries are guessed, bounds stand on correct guesses."""

    def __init__(self, method: str, delta: float) -> None:
        self.curve, self.delta = method == "one-run-fdp", delta

    def best(self, scores: FloatArray, member: BoolArray, beta: float) -> Any:
        # By the bound at delta 0, which has a closed form: any choice made here is valid.
        found = [
            one_run_epsilon(len(scores), *_guess(scores, member, c), 0.0, beta) for c in GUESSES
        ]
        return GUESSES[int(np.argmax(found))]

    def bound(self, scores: FloatArray, member: BoolArray, candidate: Any, beta: float) -> _Finding:
        guesses, correct = _guess(scores, member, candidate)
        bound = one_run_fdp_epsilon if self.curve else one_run_epsilon
        return _Finding(
            bound(len(scores), guesses, correct, self.delta, beta),
            threshold=candidate if isinstance(candidate, float) else None,
            evaluated=len(scores),
            guesses=guesses,
            correct=correct,
        )

    def bonferroni(
        self, scores: FloatArray, member: BoolArray, beta: float, rng: np.random.Generator
    ) -> _Finding:
        return _largest(self.bound(scores, member, c, beta / len(GUESSES)) for c in GUESSES)


def _guess(
    scores: FloatArray, member: BoolArray, candidate: float | tuple[float, float]
) -> tuple[int, int]:
    """Return how many canaries are guessed and how many of the guesses are right."""
    known = ~np.isnan(scores)
    scores, member = scores[known], member[known]
    if isinstance(candidate, float):
        return len(scores), int(np.count_nonzero((scores >= candidate) == member))
    top, bottom = (int(np.floor(share * len(scores))) for share in candidate)
    order = ascending_order(scores)
    hits = np.count_nonzero(member[order[len(order) - top :]])
    return top + bottom, int(hits + bottom - np.count_nonzero(member[order[:bottom]]))


def _largest(findings: Iterable[_Finding]) -> _Finding:
    return max(findings, key=lambda found: found.epsilon)


def _parts(
    count: int, share: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split rows at random, without a look at membership."""
    order = rng.permutation(count)
    first = int(np.clip(round(share * count), 1, max(count - 1, 1)))
    return order[:first], order[first:]


def _apply(
    audit: _Runs | _OneRun,
    scores: FloatArray,
    member: BoolArray,
    beta: float,
    threshold: str | float,
    seed: int,
) -> tuple[str, _Finding]:
    """Return the name of the rule, and the bound that it gives."""
    if not isinstance(threshold, str):
        cut = check_number("threshold", threshold)
        return "fixed", audit.bound(scores, member, cut, beta)
    check_choice("threshold", threshold, THRESHOLDS)
    rng = stream(seed, Purpose.THRESHOLD)
    if threshold == "bonferroni":
        return threshold, audit.bonferroni(scores, member, beta, rng)
    if threshold == "split":
        return threshold, _one_split(audit, scores, member, beta, rng)
    found = [_one_split(audit, scores, member, beta / 2, rng) for _ in range(SPLITS)]
    return threshold, sorted(found, key=lambda f: f.epsilon)[(SPLITS - 1) // 2]


def _one_split(
    audit: _Runs | _OneRun,
    scores: FloatArray,
    member: BoolArray,
    beta: float,
    rng: np.random.Generator,
) -> _Finding:
    choosing, rest = _parts(len(scores), 0.5, rng)
    candidate = audit.best(scores[choosing], member[choosing], beta / _STRICTER)
    return audit.bound(scores[rest], member[rest], candidate, beta)
