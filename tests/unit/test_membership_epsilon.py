"""Lower bounds on epsilon, on mechanisms whose epsilon is known."""

import math

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import beta as beta_distribution
from scipy.stats import binom, norm

from confsim.membership import epsilon_lower_bound
from confsim.membership.epsilon import GUESSES
from confsim.membership.epsilon_formulas import (
    gaussian_epsilon,
    one_run_epsilon,
    one_run_fdp_epsilon,
)

DELTA = 1e-5


def randomised_response(member, rng):
    return np.where(rng.random(len(member)) < math.e / (1 + math.e), member, ~member).astype(float)


def laplace(member, rng):
    return member + rng.laplace(size=len(member))


def gaussian(member, rng):
    return member + rng.normal(size=len(member))


def noise(member, rng):
    return rng.normal(size=len(member))


#: Simulated audits of each mechanism.
AUDITS = 2000

#: Mechanism, its epsilon, delta.
KNOWN = {
    "randomised response": (randomised_response, 1.0, 0.0),
    "laplace": (laplace, 1.0, 0.0),
    "gaussian": (gaussian, gaussian_epsilon(1.0, DELTA), DELTA),
    "noise": (noise, 0.0, 0.0),
    "noise, delta": (noise, 0.0, DELTA),
}


@pytest.mark.parametrize(
    ("mechanism", "method", "threshold", "least"),
    [
        ("randomised response", "clopper-pearson", "split", 0.3),
        ("randomised response", "clopper-pearson", 0.5, 0.55),
        ("randomised response", "one-run", 0.5, 0.7),
        ("randomised response", "one-run", "bonferroni", 0.5),
        ("randomised response", "one-run-fdp", 0.5, 0.7),
        ("laplace", "clopper-pearson", "bonferroni", 0.2),
        ("laplace", "one-run", "split", 0.2),
        ("laplace", "one-run", "multi-split", 0.2),
        ("laplace", "clopper-pearson", "multi-split", 0.1),
        ("gaussian", "gdp", "split", 0.7),
        ("gaussian", "gdp", 0.5, 1.5),
        ("gaussian", "one-run", 0.5, 0.4),
        ("noise", "clopper-pearson", "split", 0.0),
        ("noise", "one-run", "split", 0.0),
        ("noise", "one-run-fdp", "split", 0.0),
        ("noise, delta", "gdp", "split", 0.0),
    ],
)
def test_few_audits_exceed_the_true_epsilon(mechanism, method, threshold, least):
    respond, epsilon, delta = KNOWN[mechanism]
    rng = np.random.default_rng(1)
    found = []
    for audit in range(AUDITS):
        member = rng.random(240) < 0.5
        how = {"method": method, "threshold": threshold, "delta": delta, "seed": audit}
        found.append(epsilon_lower_bound(respond(member, rng), member, **how).epsilon)
    exceeding = np.count_nonzero(np.array(found) > epsilon + 1e-9)
    assert exceeding <= binom.ppf(0.999, AUDITS, 0.05)
    assert np.mean(found) >= least  # it is not valid by saying nothing


#: Of the simulated training: features, steps, and the length that gradients are clipped to.
FEATURES, STEPS, CLIP = 8, 5, 1.0


def dp_sgd(member, noise, rng):
    """Train a logistic regression in each row with differentially private gradient descent.

    Gradients of single canaries are clipped, those of the row's members are added, and Gaussian
    noise of ``noise`` times the clip is added to each coordinate: with or without one canary the
    steps are a Gaussian mechanism of mu = sqrt(STEPS) / noise. Returned are the log-odds that the
    last model gives to each canary's label.
    """
    canaries = np.random.default_rng(0).normal(size=(member.shape[1], FEATURES))
    canaries *= 3 / np.linalg.norm(canaries, axis=1, keepdims=True)  # signed by their labels
    weights = np.zeros((len(member), FEATURES))
    for _ in range(STEPS):
        pull = expit(-weights @ canaries.T)  # gradient of the likelihood: pull * canary
        clipped = np.minimum(pull, CLIP / 3)
        sums = (clipped * member) @ canaries
        weights += sums + noise * CLIP * rng.normal(size=weights.shape)
    return weights @ canaries.T


@pytest.mark.parametrize(
    ("method", "noise", "least"),
    [
        ("one-run", 50.0, 0.0),
        ("one-run-fdp", 50.0, 0.0),
        ("clopper-pearson", 50.0, 0.0),
        ("gdp", 50.0, 0.0),
        ("one-run", 1.0, 0.0),
        ("clopper-pearson", 1.0, 0.15),
        ("gdp", 1.0, 0.3),
    ],
)
def test_few_audits_of_private_training_exceed_its_epsilon(method, noise, least):
    """With much noise nothing leaks (epsilon 0.14), and with little what leaks is known."""
    epsilon = gaussian_epsilon(math.sqrt(STEPS) / noise, DELTA)
    rng = np.random.default_rng(3)
    found = []
    for audit in range(AUDITS):
        if method.startswith("one-run"):
            member = rng.random((1, 240)) < 0.5
            scores, coins = dp_sgd(member, noise, rng)[0], member[0]
        else:  # one canary in many runs, all else being the same
            member = np.ones((240, 5), dtype=bool)
            member[:, 0] = coins = rng.random(240) < 0.5
            scores = dp_sgd(member, noise, rng)[:, 0]
        how = {"method": method, "threshold": "split", "delta": DELTA, "seed": audit}
        found.append(epsilon_lower_bound(scores, coins, **how).epsilon)
    exceeding = np.count_nonzero(np.array(found) > epsilon + 1e-9)
    assert exceeding <= binom.ppf(0.999, AUDITS, 0.05)
    assert np.mean(found) >= least


def test_clopper_pearson_equals_the_formula():
    rng = np.random.default_rng(2)
    member = rng.random(300) < 0.5
    scores = gaussian(member, rng)
    found = epsilon_lower_bound(scores, member, threshold=0.8, delta=0.01, confidence=0.9)
    hits, false = (scores[member] >= 0.8).sum(), (scores[~member] >= 0.8).sum()
    n, m = member.sum(), (~member).sum()
    low = beta_distribution.ppf(0.05, hits, n - hits + 1)
    high = beta_distribution.ppf(0.95, false + 1, m - false)
    assert (found.tpr_low, found.fpr_high) == pytest.approx((low, high))
    expected = max(math.log((low - 0.01) / high), math.log((1 - high - 0.01) / (1 - low)))
    assert found.epsilon == pytest.approx(expected)
    mu = epsilon_lower_bound(scores, member, threshold=0.8, delta=0.01, method="gdp").mu
    low, high = (
        beta_distribution.ppf(0.025, hits, n - hits + 1),
        beta_distribution.ppf(0.975, false + 1, m - false),
    )
    assert mu == pytest.approx(norm.ppf(low) - norm.ppf(high))


def literal_one_run(m, r, v, eps, delta):
    """The p-value of Appendix D of the paper."""
    q = 1 / (1 + math.exp(-eps))
    p = binom.sf(v - 1, r, q)
    alpha = total = 0.0
    for i in range(1, v + 1):
        total += binom.pmf(v - i, r, q)
        alpha = max(alpha, total / i)
    return min(p + alpha * delta * 2 * m, 1)


@pytest.mark.parametrize(("m", "r", "v", "delta"), [(1000, 100, 75, 1e-4), (200, 200, 150, 0.0)])
def test_one_run_inverts_the_published_p_value(m, r, v, delta):
    found = one_run_epsilon(m, r, v, delta, 0.05)
    assert literal_one_run(m, r, v, found - 1e-6, delta) < 0.05
    assert literal_one_run(m, r, v, found + 1e-6, delta) >= 0.05
    if delta:
        assert found == pytest.approx(0.673, abs=1e-3)  # as printed in the paper


def test_one_run_fdp_is_a_fixed_point_of_the_recursion():
    """With every canary guessed, both ways of counting guesses agree closely."""
    for v in (130, 160, 190):
        counted = one_run_epsilon(200, 200, v, 0.0, 0.05)
        assert one_run_fdp_epsilon(200, 200, v, 0.0, 0.05) == pytest.approx(counted, rel=0.05)
    assert one_run_fdp_epsilon(200, 200, 100, 0.0, 0.05) == -np.inf
    assert one_run_fdp_epsilon(200, 100, 90, 0.3, 0.05) < one_run_fdp_epsilon(
        200, 100, 90, 0.0, 0.05
    )


def literal_one_run_fdp(m, guesses, correct, epsilon, delta, beta):
    """Whether the published recursion refutes a curve; its inverse is found by bisection.

    Arrays over numbers of correct guesses, as in the algorithm of Mahloujifar et al. (2024), which
    knows the mechanism by the largest true-positive rate that a false-positive rate allows.
    """

    def blow_up(x):
        return 1 - max(0.0, 1 - delta - math.exp(epsilon) * x, math.exp(-epsilon) * (1 - delta - x))

    def inverse(y):
        low, high = 0.0, 1.0
        if blow_up(0.0) >= y:
            return 0.0
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if blow_up(middle) < y else (low, middle)
        return high

    share = beta * guesses / m
    r, h = np.zeros(guesses + 1), np.zeros(guesses + 1)
    r[correct] = share * correct / guesses
    h[correct] = share * (guesses - correct) / guesses
    for i in range(correct - 1, -1, -1):
        h[i] = max(h[i + 1], inverse(r[i + 1]))
        r[i] = r[i + 1] + i / (guesses - i) * (h[i] - h[i + 1])
    return r[0] + h[0] > guesses / m


@pytest.mark.parametrize(
    ("m", "guesses", "correct", "delta"),
    [(200, 200, 150, 0.0), (400, 100, 80, 1e-5), (300, 40, 39, 1e-3), (1000, 500, 330, 1e-4)],
)
def test_one_run_fdp_inverts_the_published_recursion(m, guesses, correct, delta):
    found = one_run_fdp_epsilon(m, guesses, correct, delta, 0.05)
    assert found > 0
    assert literal_one_run_fdp(m, guesses, correct, found - 1e-6, delta, 0.05)
    assert not literal_one_run_fdp(m, guesses, correct, found + 1e-6, delta, 0.05)


def test_a_large_delta_lets_one_run_fdp_say_nothing():
    assert one_run_fdp_epsilon(300, 40, 39, 1e-2, 0.05) == -np.inf
    assert not literal_one_run_fdp(300, 40, 39, 0.0, 1e-2, 0.05)


@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("delta", [1e-6, 1e-2])
def test_gaussian_epsilon_inverts_the_trade_off(mu, delta):
    found = gaussian_epsilon(mu, delta)
    if found:
        back = norm.cdf(-found / mu + mu / 2) - math.exp(found) * norm.cdf(-found / mu - mu / 2)
        assert back == pytest.approx(delta, rel=1e-4)


def test_what_is_reported():
    rng = np.random.default_rng(3)
    member = rng.random(400) < 0.5
    scores = gaussian(member, rng)
    found = epsilon_lower_bound(scores, member, canaries=np.arange(300), delta=0.001)
    assert (found.canaries, found.evaluated, found.rule) == (300, 150, "split")
    assert found.threshold in scores
    assert "independent training run" in str(found)
    one = epsilon_lower_bound(scores[None], member[None], method="one-run", threshold="bonferroni")
    assert one.guesses in {int(f * 400) + int(g * 400) for f, g in GUESSES}
    assert one.correct <= one.guesses
    again = epsilon_lower_bound(scores, member, canaries=np.arange(300), delta=0.001)
    assert again == found


@pytest.mark.parametrize("method", ["one-run", "one-run-fdp"])
def test_canaries_without_a_score_are_abstained_from(method):
    """They count as canaries, which delta is paid for, and not as guesses."""
    rng = np.random.default_rng(4)
    member = rng.random(600) < 0.5
    scores = np.where(np.arange(600) < 400, gaussian(member, rng), np.nan)
    found = epsilon_lower_bound(scores, member, method=method, threshold=0.5, delta=DELTA)
    correct = int(np.count_nonzero((scores[:400] >= 0.5) == member[:400]))
    assert (found.canaries, found.guesses, found.correct) == (600, 400, correct)
    formula = one_run_epsilon if method == "one-run" else one_run_fdp_epsilon
    assert found.epsilon == pytest.approx(max(0, formula(600, 400, correct, DELTA, 0.05)))


@pytest.mark.parametrize("threshold", [0.5, "split", "bonferroni"])
def test_bounds_hold_where_attacks_abstain(threshold):
    rng = np.random.default_rng(5)
    found = []
    for audit in range(AUDITS):
        member = rng.random(240) < 0.5
        scores = randomised_response(member, rng)
        scores[rng.random(240) < 0.3] = np.nan
        how = {"method": "one-run", "threshold": threshold, "seed": audit}
        found.append(epsilon_lower_bound(scores, member, **how).epsilon)
    exceeding = np.count_nonzero(np.array(found) > 1 + 1e-9)
    assert exceeding <= binom.ppf(0.999, AUDITS, 0.05)
    assert np.mean(found) >= 0.3


MEMBER = np.arange(40) % 2 == 0


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"delta": 1.0}, ValueError, r"delta must be in \[0, 1\)"),
        ({"delta": -0.1}, ValueError, "delta must be at least 0"),
        ({"confidence": 1.0}, ValueError, r"confidence must be in \(0, 1\)"),
        ({"method": "gdp"}, ValueError, "delta must be above 0 for gdp"),
        ({"method": "guess"}, ValueError, "method must be one of"),
        ({"threshold": "best"}, ValueError, "threshold must be one of"),
        ({"threshold": float("nan")}, ValueError, "threshold must be finite"),
        ({"design": "balanced"}, ValueError, "no test of differential privacy: every second"),
        ({"design": "independent"}, ValueError, "no test of differential privacy: a stratified"),
        ({"design": "trimmed"}, ValueError, "no test of differential privacy: models were left"),
        ({"is_member": np.where(MEMBER, 1, -1)}, ValueError, "0 and 1, but .* holds -1"),
        ({"is_member": np.where(MEMBER, "yes", "no")}, ValueError, "is_member must be boolean"),
        ({"is_member": np.where(MEMBER, 1, np.nan)}, ValueError, "0 and 1, but .* holds nan"),
        ({"is_member": np.ones(40)}, ValueError, "no non-member"),
        ({"is_member": np.arange(40) < 1}, ValueError, "independent fair coins do not give"),
        ({"scores": np.zeros(39)}, ValueError, "same shape"),
        ({"scores": np.full(40, np.nan)}, ValueError, "NaN, but entry 0 is: only one-run"),
        (
            {"scores": np.full(40, np.nan), "method": "one-run"},
            ValueError,
            "NaN for every canary: nothing can be guessed",
        ),
        ({"scores": np.full(40, "a")}, TypeError, "scores must be numbers"),
        ({"canaries": [1, 40]}, ValueError, "among the 40 examples, but entry 1 is 40"),
        ({"canaries": [1, 1]}, ValueError, "named once each"),
        ({"canaries": [0.5]}, TypeError, "vector of integers"),
        (
            {"scores": np.zeros((2, 20)), "is_member": MEMBER.reshape(2, 20)},
            ValueError,
            "rates pooled over models that share a population",
        ),
    ],
)
def test_refusals_name_the_reason(change, error, words):
    with pytest.raises(error, match=words):
        epsilon_lower_bound(**{"scores": np.zeros(40), "is_member": MEMBER, **change})
