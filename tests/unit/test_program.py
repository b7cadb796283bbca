"""The linear program against SciPy, against itself in other guises, and on degenerate data."""

import itertools
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.stats import ks_2samp

from confsim import ConfsimError
from confsim._kernels.lp import Points
from confsim.linear.program import LinearFit, fit_program
from confsim.linear.program import data as program_data
from confsim.linear.program import dual as program_dual
from confsim.linear.program.highs import Solution

GOALS = [
    {},
    {"objective": "margin"},
    {"objective": "margin", "norm": "linf"},
    {"objective": "margin", "C": 0.01},
    {"objective": "margin", "norm": "linf", "C": 100.0},
]


def separable(n, d, seed, lattice=False):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 1001, (n, d)) * 1.0 if lattice else rng.random((n, d))
    w = np.resize([1.0, -1.0], d)
    y = np.where(X @ w > (500 if lattice else 0.5) * w.sum(), 1, -1)
    y[:2] = 1, -1
    X[0] = np.where(w > 0, X.max(), X.min())  # both classes are there
    X[1] = np.where(w > 0, X.min(), X.max())
    return X, y


def noisy(n, d, seed, noise=0.1, lattice=False):
    X, y = separable(n, d, seed, lattice)
    flip = np.random.default_rng(seed + 1).random(n) < noise
    flip[:2] = False
    return X, np.where(flip, -y, y)


def scipy_objective(X, y, weight=None, objective="slack", norm="l1", C=1.0):
    """The textbook program, dense, in the user's units."""
    n, d = X.shape
    weight = np.ones(n) if weight is None else np.asarray(weight, float)
    extra = {"slack": 0, "margin": d if norm == "l1" else 1}[objective]
    cost = np.concatenate([np.zeros(d + 1), weight * (C if extra else 1), np.ones(extra)])
    rows = [np.hstack([-y[:, None] * np.c_[X, np.ones(n)], -np.eye(n), np.zeros((n, extra))])]
    bound = [-np.ones(n)]
    if extra:
        top = -np.eye(d) if norm == "l1" else -np.ones((d, 1))
        for sign in (1, -1):
            rows.append(np.hstack([sign * np.eye(d), np.zeros((d, 1 + n)), top]))
            bound.append(np.zeros(d))
    limits = [(None, None)] * (d + 1) + [(0, None)] * (n + extra)
    result = linprog(cost, np.vstack(rows), np.concatenate(bound), bounds=limits, method="highs")
    assert result.status == 0
    return result.fun


def close(a, b):
    return abs(a - b) <= 1e-7 * max(1, abs(b))


def value_of(fit, X, y, weight, objective, norm, C, factor):
    """The objective at the fitted hyperplane, made as long as ``factor``."""
    slack = np.maximum(0, 1 - factor * y * (X @ fit.weights + fit.bias))
    value = np.sum(slack * (1 if weight is None else weight))
    if objective == "slack":
        return value
    order = {"l1": 1, "linf": np.inf}[norm]
    return np.linalg.norm(factor * fit.weights, order) + C * value


def same(a: LinearFit, b: LinearFit):
    return (
        a.weights.tobytes() == b.weights.tobytes()
        and (a.bias, a.objective_value, a.rounds) == (b.bias, b.objective_value, b.rounds)
        and (a.separable, a.degenerate) == (b.separable, b.degenerate)
    )


@st.composite
def problems(draw):
    d = draw(st.sampled_from([1, 2, 5, 20]))
    n = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = rng.random((n, d))
    if draw(st.booleans()):
        X = rng.integers(0, 4, (n, d)) * 1.0  # duplicates, also with opposite labels
    w = rng.normal(size=d)
    y = np.where(X @ w > np.median(X @ w), 1, -1)
    y = np.where(rng.random(n) < draw(st.sampled_from([0, 0.1, 0.5])), -y, y)
    y[:2] = 1, -1
    X = X * 10.0 ** rng.integers(-draw(st.integers(0, 2)), 3, d)
    weight = draw(st.sampled_from([None, "whole", "real"]))
    if weight == "whole":
        weight = rng.integers(0, 4, n) * 1.0
    elif weight == "real":
        weight = rng.random(n)
    if weight is not None:
        weight[:2] = 1
    return X, y, weight


@settings(max_examples=120)
@given(problems(), st.sampled_from(GOALS), st.sampled_from(["working-set", "direct"]))
def test_objective_equals_scipys(problem, goal, solver):
    X, y, weight = problem
    fit = fit_program(X, y, sample_weight=weight, solver=solver, **goal)
    assert close(fit.objective_value, scipy_objective(X, y, weight, **goal))
    distance = y * (X @ fit.weights + fit.bias)
    if weight is not None:
        distance = distance[weight > 0]
    if not fit.degenerate:  # rounding decides about a point on the hyperplane
        assert np.sum(distance < -1e-9) <= fit.training_errors <= np.sum(distance < 1e-9)
    assert fit.degenerate or np.linalg.norm(fit.weights) == pytest.approx(1, rel=1e-14)
    if fit.objective_value == 0:
        assert fit.separable
    if fit.separable and not goal:
        assert fit.training_errors == 0
        assert fit.objective_value == 0


@settings(max_examples=40)
@given(problems(), st.sampled_from(GOALS))
def test_solvers_agree(problem, goal):
    X, y, weight = problem
    fits = [
        fit_program(X, y, sample_weight=weight, solver=s, **goal) for s in ("working-set", "direct")
    ]
    assert close(fits[0].objective_value, fits[1].objective_value)
    assert fits[0].separable == fits[1].separable
    assert fits[0].degenerate == fits[1].degenerate


@pytest.mark.parametrize("d", [1, 2, 5, 20])
@pytest.mark.parametrize("noise", [0, 0.01, 0.1, 0.5])
def test_objective_equals_scipys_at_n_2000(d, noise):
    X, y = noisy(2000, d, d, noise, lattice=d < 3)
    assert close(fit_program(X, y).objective_value, scipy_objective(X, y))


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize(("d", "noise"), [(2, 0), (2, 0.1), (5, 0.3), (20, 0.02)])
def test_aggregated_dual_agrees_with_the_whole_dual(goal, d, noise, monkeypatch):
    X, y = noisy(6000, d, 3, noise)
    fit = fit_program(X, y, **goal)
    monkeypatch.setattr(program_dual, "_aggregate", lambda problem: iter(()))
    whole = fit_program(X, y, **goal)
    assert close(fit.objective_value, whole.objective_value)
    assert fit.separable == whole.separable == (noise == 0)


@pytest.mark.parametrize("goal", GOALS)
def test_the_hyperplane_attains_the_objective(goal):
    X, y = noisy(400, 3, 7)
    weight = np.random.default_rng(0).random(400)
    fit = fit_program(X, y, sample_weight=weight, **goal)
    arguments = (weight, goal.get("objective", "slack"), goal.get("norm", "l1"), goal.get("C", 1.0))
    # The length of w is not returned; the objective is convex in it, so look for the best.
    factors = np.geomspace(1e-3, 1e5, 20001)
    best = min(value_of(fit, X, y, *arguments, factor) for factor in factors)
    assert fit.degenerate or best == pytest.approx(fit.objective_value, rel=1e-4)


@pytest.mark.parametrize(("norm", "order"), [("l1", np.inf), ("linf", 1)])
@pytest.mark.parametrize("d", [1, 2, 4])
def test_margin_objective_maximises_the_distance_in_the_dual_norm(norm, order, d):
    X, y = separable(60, d, 11)
    fit = fit_program(X, y, objective="margin", norm=norm, C=1e6)
    # Independent: the distance between the convex hulls in the dual norm, itself a linear program.
    positive, negative = X[y > 0], X[y < 0]
    p, q = len(positive), len(negative)
    width = d if order == 1 else 1
    gap = np.hstack([positive.T, -negative.T])
    top = -np.eye(d) if order == 1 else -np.ones((d, 1))
    inequality = np.vstack([np.hstack([gap, top]), np.hstack([-gap, top])])
    sums = np.zeros((2, p + q + width))
    sums[0, :p] = sums[1, p : p + q] = 1
    cost = np.concatenate([np.zeros(p + q), np.ones(width)])
    hulls = linprog(cost, inequality, np.zeros(2 * d), sums, np.ones(2), method="highs")
    dual = np.linalg.norm(fit.weights, 1 if order == np.inf else np.inf)
    smallest = np.min(y * (X @ fit.weights + fit.bias)) / dual
    assert smallest == pytest.approx(hulls.fun / 2, rel=1e-7)
    assert fit.objective_value == pytest.approx(1 / smallest, rel=1e-7)
    assert fit.training_errors == 0


def test_margin_without_slack_has_no_training_error_and_small_c_leaves_slack():
    X, y = separable(3000, 2, 1, lattice=True)
    assert fit_program(X, y, objective="margin", C=1e6).training_errors == 0
    loose = fit_program(X, y, objective="margin", C=1e-5)
    assert loose.separable
    assert loose.training_errors > 0
    flat = fit_program(X, y, objective="margin", C=1e-12)
    assert flat.degenerate
    assert flat.separable


# --- the answer is a function of the set of weighted points ---------------------------------------


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("solver", ["working-set", "direct"])
@pytest.mark.parametrize(("n", "noise"), [(50, 0), (50, 0.2), (2500, 0), (2500, 0.1)])
def test_order_repetition_and_layout_change_no_bit(goal, solver, n, noise):
    if solver == "direct" and n > 1000 and noise:
        pytest.skip("slow, and nothing in it depends on n")
    X, y = noisy(n, 2, 5, noise, lattice=True)
    rng = np.random.default_rng(0)
    weight = rng.integers(1, 4, n) * 1.0
    fit = fit_program(X, y, sample_weight=weight, solver=solver, **goal)
    order = rng.permutation(n)
    shuffled = fit_program(X[order], y[order], sample_weight=weight[order], solver=solver, **goal)
    assert same(fit, shuffled)
    assert {tuple(row) for row in X[fit.working_set]} == {
        tuple(row) for row in X[order][shuffled.working_set]
    }
    repeated = np.repeat(np.arange(n), weight.astype(int))
    rng.shuffle(repeated)
    assert same(fit, fit_program(X[repeated], y[repeated], solver=solver, **goal))
    dropped = np.vstack([X, rng.random((9, 2)) * 5000])
    zeros = np.append(weight, np.zeros(9))
    extra = np.append(y, rng.choice([-1, 1], 9))
    assert same(fit, fit_program(dropped, extra, sample_weight=zeros, solver=solver, **goal))
    for other in (np.asfortranarray(X), np.repeat(X, 2, axis=1)[::1, ::2], X.astype(np.float32)):
        assert same(fit, fit_program(other, y, sample_weight=weight, solver=solver, **goal))
    assert same(
        fit, fit_program(X[::-1], y[::-1], sample_weight=weight[::-1], **goal, solver=solver)
    )


def test_earlier_fits_leave_no_trace():
    data = [noisy(300, 2, 1), noisy(300, 3, 2, 0.3), separable(2000, 2, 3), separable(20, 1, 4)]
    first = [fit_program(*a, **goal) for a, goal in itertools.product(data, GOALS)]
    again = [fit_program(*a, **goal) for a, goal in reversed([*itertools.product(data, GOALS)])]
    assert all(same(a, b) for a, b in zip(first, reversed(again), strict=True))


def test_signed_zeros_are_equal_points():
    X = np.array([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0], [1.0, -0.0], [2.0, 2.0]])
    y = np.array([1, 1, -1, -1, -1])
    assert same(fit_program(X, y), fit_program(np.abs(X), y))


def test_angle_is_distributed_alike_for_both_solvers():
    ideal = np.array([1, -1]) / np.sqrt(2)
    angles = []
    for seed in range(120):
        X, y = separable(1300, 2, seed)
        angles.append(
            [
                np.arccos(min(1, fit_program(X, y, solver=s).weights @ ideal))
                for s in ("working-set", "direct")
            ]
        )
    first, second = np.transpose(angles)
    assert ks_2samp(first, second).pvalue > 0.01
    assert np.mean(first) == pytest.approx(np.mean(second), rel=0.2)


# --- separability ---------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [1e-3, 1e-6])
@pytest.mark.parametrize("d", [1, 2, 5, 20])
@pytest.mark.parametrize("solver", ["working-set", "direct"])
def test_narrow_gaps_are_seen_and_one_point_closes_them(gap, d, solver):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        n = [30, 3000][seed % 2] if solver == "working-set" else 200
        w = rng.normal(size=d)
        w /= np.linalg.norm(w)
        X = rng.random((n, d)) * 2 - 1
        side = X @ w
        y = np.where(side > 0, 1, -1)
        y[:2] = 1, -1
        on_plane = rng.random(n) < 0.5
        on_plane[:2] = True
        X[on_plane] -= np.outer(side[on_plane], w)
        X += np.outer(y * gap / 2, w)
        for scale in (np.ones(d), 10.0 ** rng.integers(-6, 7, d)):
            fit = fit_program(X * scale, y, solver=solver)
            assert fit.separable
            assert (fit.objective_value, fit.training_errors) == (0, 0)
            assert (np.where(X * scale @ fit.weights + fit.bias >= 0, 1, -1) == y).all()
            spoiler = X[y > 0][:2].mean(axis=0) if d > 1 else X[y > 0].max(axis=0)
            spoiled = fit_program(np.vstack([X, spoiler]) * scale, np.append(y, -1), solver=solver)
            assert not spoiled.separable
            assert spoiled.objective_value >= 1


# --- degenerate data ------------------------------------------------------------------------------

XOR = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("solver", ["working-set", "direct"])
def test_xor_has_no_normal(goal, solver):
    fit = fit_program(XOR, np.array([1, 1, -1, -1]), solver=solver, **goal)
    assert fit.degenerate
    assert not fit.separable
    assert fit.weights.tolist() == [0, 0]
    assert fit.bias == 0
    assert fit.training_errors == 2
    heavy = fit_program(
        XOR, np.array([1, 1, -1, -1]), sample_weight=np.array([1, 1, 9, 9.0]), solver=solver, **goal
    )
    assert heavy.degenerate
    assert heavy.bias == -1


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("solver", ["working-set", "direct"])
def test_degenerate_data(goal, solver):
    def fit(X, y):
        return fit_program(np.array(X, float), np.array(y), solver=solver, **goal)

    one_each = fit([[1.0, 5.0], [3.0, 5.0]], [-1, 1])
    assert one_each.separable
    if not one_each.degenerate:
        np.testing.assert_allclose(one_each.weights, [1, 0], atol=1e-12)
        assert one_each.training_errors == 0
    opposite = fit([[1.0, 2.0], [1.0, 2.0]], [-1, 1])
    assert opposite.degenerate
    assert not opposite.separable
    constant = fit([[7.0, 1], [7, 2], [7, 3], [7, 4]], [-1, -1, 1, 1])
    assert constant.weights[0] == 0
    assert constant.separable
    wide = fit(np.random.default_rng(0).random((3, 40)), [1, -1, 1])
    assert wide.separable
    line = fit([[0.0], [1], [2], [3]], [1, 1, -1, -1])
    assert line.separable
    assert line.degenerate or line.weights.tolist() == [-1]


def test_features_of_very_different_scales():
    X, y = separable(500, 4, 9)
    scale = np.array([1e-6, 1e6, 1.0, 1e3])
    fit = fit_program(X * scale, y)
    assert (fit.objective_value, fit.training_errors, fit.separable) == (0, 0, True)
    Z, t = noisy(500, 4, 9)
    assert close(fit_program(Z * scale, t).objective_value, scipy_objective(Z, t))


def solved_exactly(rows):
    """Solve linear equations, given with their right sides; None if they are singular."""
    rows = [list(row) for row in rows]
    for k in range(len(rows)):
        pivot = next((row for row in rows[k:] if row[k] != 0), None)
        if pivot is None:
            return None
        rows.remove(pivot)
        pivot = [value / pivot[k] for value in pivot]
        rows = [[v - row[k] * p for v, p in zip(row, pivot, strict=True)] for row in rows]
        rows.insert(k, pivot)
    return [row[-1] for row in rows]


def exact_margin_objective(X, y, norm, C):
    """The optimum in rational arithmetic: it is at a vertex of the planes where a piece ends."""
    d = X.shape[1]
    signed = [[Fraction(v) * int(t) for v in (*x, 1)] for x, t in zip(X, y, strict=True)]
    unit = [[Fraction(int(i == j)) for j in range(d + 1)] for i in range(d)]
    ends = [[*row, 1] for row in signed]
    if norm == "l1":
        ends += [[*row, 0] for row in unit]
    else:
        for one, other in itertools.combinations(unit, 2):
            ends += [
                [u + sign * v for u, v in zip(one, other, strict=True)] + [0] for sign in (1, -1)
            ]
    best = None
    for chosen in itertools.combinations(ends, d + 1):
        plane = solved_exactly(chosen)
        if plane is None:
            continue
        margins = [sum(u * v for u, v in zip(row, plane, strict=True)) for row in signed]
        sizes = [abs(w) for w in plane[:d]]
        value = (sum if norm == "l1" else max)(sizes)
        value += Fraction(C) * sum(max(0, 1 - margin) for margin in margins)
        best = value if best is None else min(best, value)
    return float(best)


@pytest.mark.parametrize("solver", ["working-set", "direct"])
@pytest.mark.parametrize("norm", ["l1", "linf"])
@pytest.mark.parametrize("C", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("seed", range(4))
def test_margin_objective_with_norm_weights_a_trillion_apart(seed, C, norm, solver):
    rng = np.random.default_rng(seed)
    d = 2 + seed % 2
    X = rng.random((7, d)) * np.array([1e-6, 1e6, 1.0])[rng.permutation(3)[:d]]
    y = np.resize([1, -1, 1, 1, -1], 7)
    fit = fit_program(X, y, objective="margin", norm=norm, C=C, solver=solver)
    assert close(fit.objective_value, exact_margin_objective(X, y, norm, C))


@pytest.mark.parametrize("solver", ["working-set", "direct"])
@pytest.mark.parametrize(
    ("n", "d", "norm", "C", "noise"),
    [
        (20, 10, "l1", 1e3, 0.0),
        (200, 20, "linf", 1e3, 0.3),  # multipliers need more digits than a float has
        (60, 20, "linf", 1e6, 0.02),
        (20, 20, "linf", 1e6, 0.3),
        (600, 20, "linf", 1e4, 0.02),
    ],
)
def test_margin_objective_with_many_scales(n, d, norm, C, noise, solver):
    for seed in range(4):
        X, y = noisy(n, d, seed, noise)
        X = X * 10.0 ** np.random.default_rng(seed).integers(-6, 7, d)
        goal = {"objective": "margin", "norm": norm, "C": C}
        fit = fit_program(X, y, solver=solver, **goal)
        other = fit_program(X[::-1], y[::-1], solver=solver, **goal)
        assert fit.objective_value == other.objective_value


@pytest.mark.parametrize("solver", ["working-set", "direct"])
@pytest.mark.parametrize("norm", ["l1", "linf"])
@pytest.mark.parametrize("cheap", [1e-20, 1e-150])
def test_slack_too_cheap_for_any_plane(cheap, norm, solver):
    X, y = noisy(60, 3, 5)
    goal = {"objective": "margin", "norm": norm, "solver": solver}
    fit = fit_program(X * cheap, y, **goal)
    assert fit.degenerate
    assert fit.objective_value == 2 * min(np.sum(y == 1), np.sum(y == -1))
    fit = fit_program(X, y, sample_weight=np.full(60, cheap), **goal)
    assert fit.degenerate


@pytest.mark.parametrize("size", [5e-324, 1e-300, 1e-100, 1e-3])
@pytest.mark.parametrize("goal", [{}, {"C": 1e-6, "objective": "margin"}])
@pytest.mark.filterwarnings("error")
def test_weights_of_any_size(size, goal):
    X, y = noisy(60, 3, 5)
    fit = fit_program(X, y, sample_weight=np.full(60, size), **goal)
    assert fit.degenerate == bool(goal)


@pytest.mark.parametrize("norm", ["l1", "linf"])
@pytest.mark.parametrize("scale", [1e20, 1e150, 1e300, [1e-300, 1e300, 1.0]])
def test_a_bound_that_overflows_certifies_nothing(scale, norm):
    X, y = noisy(60, 3, 5, 0.3)
    objectives = []
    for solver in ("working-set", "direct"):
        try:
            fit = fit_program(X * scale, y, objective="margin", norm=norm, solver=solver)
        except ConfsimError:
            continue  # beyond what floats resolve: refused rather than wrong
        objectives.append(fit.objective_value)
    assert all(close(value, objectives[0]) for value in objectives)


@pytest.mark.parametrize("span", [3, 6, 30])
def test_weights_of_very_different_sizes(span):
    """Gaps are judged in the user's units, not in those of the largest weight."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        X, y = noisy(60, 3, seed, 0.3)
        weight = 10.0 ** rng.integers(-span, span + 1, 60)
        objectives = []
        for solver in ("working-set", "direct"):
            try:
                fit = fit_program(X, y, sample_weight=weight, solver=solver)
            except ConfsimError:
                assert span > 6  # beyond what floats resolve: refused rather than wrong
            else:
                objectives.append(fit.objective_value)
        assert all(close(value, objectives[0]) for value in objectives)


@pytest.mark.parametrize("solver", ["working-set", "direct"])
def test_one_weight_of_many(solver):
    """A point of weight 1e15 must be on its side; the others' slacks still count."""
    X, y = noisy(60, 3, 5, 0.3)
    fits = [
        fit_program(X, y, sample_weight=np.r_[weight, np.ones(59)], solver=solver)
        for weight in (1e4, 1e15)
    ]
    assert close(fits[0].objective_value, fits[1].objective_value)


def test_exact_products():
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(50, 3)) * 10.0 ** rng.integers(-9, 1, (50, 3))
    for size in (1e-200, 1.0, 1e12, 1e300):
        high = rng.random(50) * 10.0 ** rng.integers(-9, 1, 50) * size
        low = high * 1e-16 * rng.normal(size=50)
        # The last multiplier all but cancels the first column.
        matrix[-1, 0], high[-1], low[-1] = -1.0, high[:-1] @ matrix[:-1, 0], 0.0
        found = program_data._exact_products(matrix, high, low)
        factors = [Fraction(h) + Fraction(rest) for h, rest in zip(high, low, strict=True)]
        for column, total in zip(matrix.T, found, strict=True):
            terms = [f * Fraction(x) for f, x in zip(factors, column, strict=True)]
            allowed = Fraction(1e-15) * abs(sum(terms)) + Fraction(1e-30) * sum(map(abs, terms))
            assert abs(Fraction(total) - sum(terms)) <= allowed


def test_scaling_keeps_the_margin_objective_in_the_users_units():
    X, y = noisy(200, 2, 4)
    stretched = X * [1e-3, 50] + [10, -3]
    for goal in GOALS:
        fit = fit_program(stretched, y, **goal)
        assert close(fit.objective_value, scipy_objective(stretched, y, **goal))


def test_huge_and_tiny_values():
    X, y = separable(100, 2, 3)
    for factor in (1e-150, 1e150, 1e300):
        fit = fit_program(X * factor, y)
        assert fit.training_errors == 0
        assert np.isfinite(fit.weights).all()


# --- arguments ------------------------------------------------------------------------------------

X4 = np.array([[0.0], [1], [2], [3]])
Y4 = np.array([-1, -1, 1, 1])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"X": np.array([[0.0], [np.nan], [2], [3]])}, ValueError, "X must be finite.*row 1"),
        ({"X": np.array([[0.0], [1], [np.inf], [3]])}, ValueError, "X must be finite.*row 2"),
        ({"X": X4[:, 0]}, ValueError, "X must have shape"),
        ({"X": X4[:0], "y": Y4[:0]}, ValueError, "X must have shape"),
        ({"X": X4.astype(complex)}, TypeError, "X must hold real"),
        ({"y": Y4[:3]}, ValueError, "y must have shape"),
        ({"y": np.array([0, 0, 1, 1])}, ValueError, "y must hold only -1 and 1, but row 0"),
        ({"y": np.ones(4)}, ValueError, "both classes"),
        ({"y": np.array(["a", "a", "b", "b"])}, TypeError, "y must hold -1 and 1"),
        ({"sample_weight": np.array([1, 1, 0, 0.0])}, ValueError, "both classes"),
        ({"sample_weight": np.zeros(4)}, ValueError, "sample_weight must be positive"),
        ({"sample_weight": np.array([1, -1, 1, 1.0])}, ValueError, "sample_weight .* row 1"),
        ({"sample_weight": np.array([1, np.nan, 1, 1])}, ValueError, "sample_weight .* row 1"),
        ({"sample_weight": np.ones(3)}, ValueError, "sample_weight must have shape"),
        ({"C": 0}, ValueError, "C must be greater"),
        ({"C": np.nan}, ValueError, "C must be finite"),
        ({"C": "1"}, TypeError, "C must be a number"),
        ({"objective": "hinge"}, ValueError, "objective must be one of"),
        ({"norm": "l2"}, ValueError, "norm must be one of"),
        ({"solver": "magic"}, ValueError, "solver must be one of"),
    ],
)
def test_bad_arguments(change, error, words):
    arguments = {"X": X4, "y": Y4, **change}
    with pytest.raises(error, match=words):
        fit_program(arguments.pop("X"), arguments.pop("y"), **arguments)


def test_input_is_left_alone_and_integers_work():
    X, y = noisy(100, 2, 0, lattice=True)
    before = X.copy(), y.copy()
    fit = fit_program(X, y)
    assert np.array_equal(X, before[0])
    assert np.array_equal(y, before[1])
    assert same(fit, fit_program(X.astype(np.int16), y.astype(float)))


def test_an_uncertified_answer_is_never_returned(monkeypatch):
    X, y = noisy(60, 2, 0)

    def wrong(signed, *_, **__):
        return Solution("Optimal", np.array([1.0, 0, 0]), np.zeros(len(signed)))

    right = fit_program(X, y)
    monkeypatch.setattr(program_dual, "solve_dual", wrong)
    assert close(fit_program(X, y).objective_value, right.objective_value)
    monkeypatch.setattr(program_dual, "solve_primal", wrong)
    for solver in ("working-set", "direct"):
        with pytest.raises(ConfsimError, match="not solved to a certified optimum; HiGHS says"):
            fit_program(X, y, solver=solver)


def test_nothing_is_printed(capfd):
    fit_program(*noisy(3000, 2, 0))
    fit_program(*noisy(100, 2, 0), solver="direct")
    assert capfd.readouterr() == ("", "")


OTHER_POOL = """
import highspy, numpy, confsim.linear.program
solver = highspy.Highs()
solver.setOptionValue("output_flag", False)
solver.setOptionValue("threads", 2)
solver.minimize(solver.addVariable(0, 1))
X = numpy.array([[0.0], [1.0], [2.0], [3.0]])
print(confsim.linear.program.fit_program(X, numpy.array([-1, 1, -1, 1])).objective_value)
"""


def test_another_user_of_highs_in_the_process_may_have_more_threads():
    command = [sys.executable, "-c", OTHER_POOL]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    alone = fit_program(np.arange(4.0)[:, np.newaxis], np.array([-1, 1, -1, 1]))
    assert float(printed.split()[-1]) == alone.objective_value


# --- the kernel -----------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 700), st.integers(1, 5), st.booleans())
def test_kernel_equals_its_definition(seed, n, d, weighted):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 4, (n, d)).astype(rng.choice([np.float32, np.float64]))
    positive = rng.random(n) < 0.5
    weight = rng.integers(0, 3, n) * 1.0 if weighted else None
    counted = np.ones(n, bool) if weight is None else weight > 0
    points = Points(X, positive, weight)
    slope, centre, bias = rng.normal(size=d), rng.random(d), rng.normal()
    distance = np.full(n, bias)
    for k in range(d):
        distance = distance + slope[k] * (X[:, k].astype(float) - centre[k])
    margin = np.where(positive, distance, -distance)
    everything = np.arange(n)
    assert np.array_equal(points.margins(everything, slope, centre, bias), margin)

    capacity, limit = int(rng.integers(1, 20)), float(rng.normal())
    found, smallest = points.violations(slope, centre, bias, limit, capacity)
    assert smallest == (margin[counted].min() if counted.any() else np.inf)
    expected = []
    for side in (False, True):
        rows = [i for i in everything if counted[i] and positive[i] == side and margin[i] < limit]
        seen = {}
        for i in rows:
            seen.setdefault((margin[i], *X[i].tolist()), i)
        expected += [seen[key] for key in sorted(seen)][:capacity]
    assert found.tolist() == expected

    groups = {}
    for i in everything[counted]:
        groups.setdefault((*X[i].tolist(), bool(positive[i])), []).append(i)
    listed, weights = points.merge()
    assert listed.tolist() == [groups[key][0] for key in sorted(groups)]
    ones = np.ones(n) if weight is None else weight
    assert weights.tolist() == [ones[groups[key]].sum() for key in sorted(groups)]

    order = rng.permutation(n)
    shuffled = Points(X[order], positive[order], None if weight is None else weight[order])
    sample, again = points.sample(capacity), order[shuffled.sample(capacity)]
    assert np.array_equal(X[sample], X[again])
    assert np.array_equal(positive[sample], positive[again])
    for side in (False, True):
        distinct = {key[:-1] for key in groups if key[-1] == side}
        picked = [tuple(X[i].tolist()) for i in sample if positive[i] == side]
        assert len(picked) == len(set(picked)) == min(capacity, len(distinct))
