"""The epsilon that counts of correct guesses, or a Gaussian trade-off, refute: formulas alone."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

#: Decorates what is asked for the same few counts again and again, by splits and by simulations.
_remembered = lru_cache(maxsize=1 << 14)


@_remembered
def one_run_epsilon(canaries: int, guesses: int, correct: int, delta: float, beta: float) -> float:
    """Return the largest epsilon that so many correct guesses refute at level ``beta``.

    Theorem 5.2 of Steinke, Nasr & Jagielski (2023): if the run is (epsilon, delta)-private, the
    chance of ``correct`` or more of ``guesses`` is at most
    ``P[B >= v] + 2 m delta max_i P[v > B >= v - i] / i`` with ``B`` binomial with chance
    ``1 / (1 + exp(-epsilon))``. Negative where even epsilon 0 is not refuted.
    """
    from scipy.special import betaincinv
    from scipy.stats import binom

    if guesses == 0 or correct == 0:
        return -np.inf
    chance = float(betaincinv(correct, guesses - correct + 1, beta))
    largest = float(np.log(chance) - np.log1p(-chance))
    if delta == 0 or largest <= 0:
        return largest
    below = np.arange(correct - 1, -1, -1)

    def refuted(epsilon: float) -> bool:
        q = 1 / (1 + np.exp(-epsilon))
        spread = np.max(np.cumsum(binom.pmf(below, guesses, q)) / np.arange(1, correct + 1))
        tail = binom.sf(correct - 1, guesses, q)
        return bool(tail + 2 * canaries * delta * spread < beta)

    return _last_refuted(refuted, largest)


@_remembered
def one_run_fdp_epsilon(
    canaries: int, guesses: int, correct: int, delta: float, beta: float
) -> float:
    """Return the largest epsilon whose trade-off curve so many correct guesses refute.

    Algorithm of Mahloujifar, Melis & Chaudhuri (2024) for two answers: assuming that ``correct`` or
    more are right with probability ``beta``, the probabilities of fewer are bounded one after the
    other; if they cannot add up, the curve is refuted. Negative where nothing is.
    """
    if guesses == 0:
        return -np.inf

    def refuted(epsilon: float) -> bool:
        up, down = np.exp(epsilon), np.exp(-epsilon)
        right = beta * correct / canaries
        wrong = beta * (guesses - correct) / canaries
        for i in range(correct - 1, -1, -1):
            # The least probability that being right with probability `right` leaves for the other.
            least = max((right - delta) * down, 1 - delta - up * (1 - right), wrong)
            right += i / (guesses - i) * (least - wrong)
            wrong = least
        return bool(right + wrong > guesses / canaries)

    if not refuted(0.0):
        return -np.inf
    upper = 1.0
    while upper < 64 and refuted(upper):
        upper *= 2
    return _last_refuted(refuted, upper)


def _last_refuted(refuted: Callable[[float], bool], upper: float) -> float:
    """Return the end of the refuted values, from below, by bisection from 0 to ``upper``."""
    if not refuted(0.0):
        return -np.inf
    low, high = 0.0, upper
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


@_remembered
def gaussian_epsilon(mu: float, delta: float) -> float:
    r"""Return the epsilon of :math:`\mu`-Gaussian differential privacy at ``delta`` above 0.

    The solution of :math:`\delta = \Phi(-\varepsilon/\mu + \mu/2) - e^\varepsilon
    \Phi(-\varepsilon/\mu - \mu/2)` (Dong, Roth & Su 2022), 0 where ``delta`` allows that.

    Examples
    --------
    >>> from confsim.membership.epsilon_formulas import gaussian_epsilon
    >>> round(gaussian_epsilon(1.0, 1e-5), 3)
    4.377
    """
    from scipy.special import log_ndtr, ndtr

    if not mu > 0:
        return 0.0
    if mu == np.inf:
        return np.inf

    def exceeds(epsilon: float) -> bool:
        second = np.exp(epsilon + log_ndtr(-epsilon / mu - mu / 2))
        return bool(ndtr(-epsilon / mu + mu / 2) - second > delta)

    upper = 1.0
    while exceeds(upper):
        upper *= 2
    found = _last_refuted(exceeds, upper)
    return max(found, 0.0)
