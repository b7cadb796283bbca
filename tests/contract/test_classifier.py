"""The scikit-learn face of the linear program."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from confsim import LinearBinaryClassifier
from confsim.linear.program import fit_program

ESTIMATORS = [
    LinearBinaryClassifier(),
    LinearBinaryClassifier(solver="direct"),
    LinearBinaryClassifier(objective="margin"),
    LinearBinaryClassifier(objective="margin", norm="linf", C=10.0),
]


def blobs(n=300, d=3, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    y = X.sum(axis=1) > 0
    return X, np.where(rng.random(n) < noise, ~y, y)


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_conformance(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_it_is_the_program(estimator):
    X, y = blobs()
    weight = np.random.default_rng(1).random(300)
    model = clone(estimator).fit(X, y, sample_weight=weight)
    fit = fit_program(X, np.where(y, 1, -1), sample_weight=weight, **estimator.get_params())
    assert np.array_equal(model.coef_, [fit.weights])
    assert np.array_equal(model.intercept_, [fit.bias])
    assert model.objective_value_ == fit.objective_value
    assert model.n_iter_ == fit.rounds
    assert np.array_equal(model.working_set_, fit.working_set)
    assert (model.separable_, model.degenerate_) == (fit.separable, fit.degenerate)
    assert np.array_equal(model.decision_function(X), X @ fit.weights + fit.bias)
    assert np.sum((model.predict(X) != y) & (weight > 0)) == fit.training_errors


@pytest.mark.parametrize(
    "labels",
    [
        (0, 1),
        (-1, 1),
        (3, 7),
        (np.uint8(0), np.uint8(255)),
        (False, True),
        ("no", "yes"),
        (0.0, 1.0),
        (-(2**62), 2**62),
    ],
)
def test_labels_of_any_kind(labels):
    X, y = blobs(noise=0)
    named = np.array(labels)[y.astype(int)]
    model = LinearBinaryClassifier().fit(X, named)
    assert model.classes_.tolist() == np.array(labels).tolist()
    assert model.classes_.dtype == named.dtype
    assert np.array_equal(model.predict(X), named)
    assert model.separable_


def test_labels_in_an_object_array():
    X, y = blobs(noise=0)
    named = np.array(["no", "yes"], dtype=object)[y.astype(int)]
    assert np.array_equal(LinearBinaryClassifier().fit(X, named).predict(X), named)


def test_decision_function_is_a_signed_distance():
    X = np.array([[0.0, 0.0], [0.0, 1.0], [3.0, 0.0], [3.0, 1.0]])
    model = LinearBinaryClassifier(objective="margin").fit(X, [0, 0, 1, 1])
    np.testing.assert_allclose(model.decision_function([[4, 0.5], [1.5, 9]]), [2.5, 0], atol=1e-12)
    np.testing.assert_allclose(model.coef_, [[1, 0]], atol=1e-12)


def test_degenerate_model_predicts_one_class():
    X = np.array([[0.0, 0], [1, 1], [0, 1], [1, 0]])
    model = LinearBinaryClassifier().fit(X, [1, 1, 0, 0], sample_weight=[1, 1, 5, 5])
    assert model.degenerate_
    assert model.predict([[9, 9], [-9, 2]]).tolist() == [0, 0]
    assert model.decision_function([[9, 9]]).tolist() == [-1]


@pytest.mark.parametrize("labels", [[1, 1, 1], ["a", "a", "a"], [0, 1, 2], [0.5, 1.5, 2.5]])
def test_other_than_two_classes(labels):
    with pytest.raises(ValueError, match=r"one class|Only binary|continuous"):
        LinearBinaryClassifier().fit([[0.0], [1], [2]], labels)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"objective": "hinge"}, "objective must be one of"),
        ({"norm": "l2"}, "norm must be one of"),
        ({"C": -1}, "C must be greater"),
        ({"solver": "fast"}, "solver must be one of"),
    ],
)
def test_bad_parameters_are_found_in_fit(parameters, words):
    with pytest.raises(ValueError, match=words):
        LinearBinaryClassifier(**parameters).fit([[0.0], [1]], [0, 1])


def test_bad_input():
    model = LinearBinaryClassifier()
    with pytest.raises(ValueError, match="NaN"):
        model.fit([[0.0], [np.nan]], [0, 1])
    with pytest.raises(ValueError, match="infinity"):
        model.fit([[0.0], [np.inf]], [0, 1])
    with pytest.raises(ValueError, match="sample_weight"):
        model.fit([[0.0], [1]], [0, 1], sample_weight=[1, -1])
    model.fit([[0.0], [1]], [0, 1])
    with pytest.raises(ValueError, match="features"):
        model.predict([[0.0, 1.0]])


def test_float32_is_not_copied_and_gives_the_same_answer():
    X, y = blobs(5000, 4)
    X = X.astype(np.float32)
    single, double = (LinearBinaryClassifier().fit(Z, y) for Z in (X, X.astype(np.float64)))
    assert np.array_equal(single.coef_, double.coef_)
    assert np.array_equal(single.intercept_, double.intercept_)


def test_pickle_and_grid_search():
    X, y = blobs()
    model = pickle.loads(pickle.dumps(LinearBinaryClassifier().fit(X, y)))
    assert model.score(X, y) > 0.8
    search = GridSearchCV(LinearBinaryClassifier(objective="margin"), {"C": [1e-3, 1.0]}, cv=3)
    assert search.fit(X, y).best_score_ > 0.8


def test_the_program_never_imports_scikit_learn():
    code = "import sys, confsim.linear.program; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_shows_itself_in_a_notebook():
    shown = LinearBinaryClassifier(objective="margin", C=10)._repr_html_()
    assert "LinearBinaryClassifier" in shown
    assert "margin" in shown
