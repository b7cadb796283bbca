"""What goes in where arrays do: lists, DataFrames, tensors; what does not is one clear line."""

import importlib.util

import numpy as np
import pandas as pd
import pytest

import confsim
from confsim import membership, statistics

POINTS = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float16).astype(np.float64)

SAME = {
    "list": lambda a: a.tolist(),
    "frame": pd.DataFrame,
    "nullable frame": lambda a: pd.DataFrame(a).astype("Float64"),
    "float16": lambda a: a.astype(np.float16),
    "float32": lambda a: a.astype(np.float32),
    "big-endian": lambda a: a.astype(">f8"),
    "nothing masked": np.ma.masked_array,
}
if importlib.util.find_spec("torch"):
    SAME["torch"] = lambda a: __import__("torch").tensor(a)
    SAME["torch float16"] = lambda a: __import__("torch").tensor(a).half()
if importlib.util.find_spec("jax"):
    SAME["jax"] = lambda a: __import__("jax").numpy.asarray(a)

REFUSED = {
    "complex": (lambda a: a + 0j, "real numbers"),
    "text": (lambda a: a.astype(str), "real numbers"),
    "wider": (lambda a: a.astype(np.longdouble), "real numbers"),
    "masked": (lambda a: np.ma.masked_greater(a, 0), "masked entries"),
    "missing": (lambda a: pd.DataFrame(a).astype("Float64").mask(a > 1), "row "),
}


def first_column(given):
    if isinstance(given, list):
        return [row[0] for row in given]
    return given.iloc[:, 0] if isinstance(given, pd.DataFrame) else given[:, 0]


USES = {
    "queries": lambda given: confsim.nearest_training(given, POINTS[:10]).distance,
    "logits": lambda given: confsim.softmax_confidence(given),
    "decision": lambda given: confsim.sigmoid_confidence(first_column(given)),
}


#: 30 trials, three examples.
MEMBER = np.random.default_rng(1).random(POINTS.shape) < 0.5

ATTACKS = {
    "log_odds": [
        membership.attack_p,
        membership.attack_r,
        membership.base,
        membership.lira,
        membership.p_values,
        membership.rmia,
    ],
    "scores": [
        membership.difficulty_calibration,
        lambda given, member: membership.class_thresholds(given, member, [0, 1, 0]),
        lambda given, member: statistics.two_way_bootstrap(given, member, replicates=3)["auc"],
        lambda given, member: statistics.delong(given, member),
        lambda given, member: statistics.auc(given, member),
    ],
    "points": [lambda given, _: membership.leverage(given).leverage],
    "features": [lambda given, _: membership.fixed_space(given)["fixed_distance"]],
    "log_odds_true": [
        lambda given, _: membership.threshold_scores(log_odds_true=given)["loss"],
    ],
    "x": [lambda given, _: statistics.spearman_interval(first_column(given), POINTS[:, 1]).value],
}
ATTACKS_USED = [(name, use) for name, uses in ATTACKS.items() for use in uses]


@pytest.mark.parametrize("kind", SAME)
@pytest.mark.parametrize(("name", "use"), ATTACKS_USED)
def test_every_kind_of_scores_gives_the_same(name, use, kind):
    found = use(SAME[kind](POINTS), MEMBER)
    np.testing.assert_allclose(found, use(POINTS, MEMBER), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["complex", "text", "masked"])
@pytest.mark.parametrize(("name", "use"), ATTACKS_USED)
def test_scores_that_would_lose_something_are_refused_by_name(name, use, kind):
    with pytest.raises((TypeError, ValueError), match=f"^{name} ") as caught:
        use(REFUSED[kind][0](POINTS), MEMBER)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", SAME)
def test_every_kind_gives_the_same(use, kind):
    found = USES[use](SAME[kind](POINTS))
    np.testing.assert_allclose(found, USES[use](POINTS), rtol=1e-6)


@pytest.mark.parametrize("use", ["queries", "logits"])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_lose_something_is_refused_by_name(use, kind):
    make, said = REFUSED[kind]
    if kind == "wider" and np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("there is no wider float here")
    with pytest.raises((TypeError, ValueError), match=f"^{use} .*{said}") as caught:
        USES[use](make(POINTS))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["complex", "text", "masked"])
def test_a_vector_that_would_lose_something_is_refused_by_name(kind):
    make, said = REFUSED[kind]
    for name, function in (
        ("confidence", lambda given: confsim.extremes(given, 10)),
        ("decision", confsim.sigmoid_confidence),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{name} .*{said}"):
            function(make(POINTS[:, 0]))


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch")
def test_a_tensor_that_has_a_gradient_is_one_clear_line():
    import torch

    with pytest.raises(TypeError, match=r"^queries cannot be read as an array: .*detach"):
        confsim.nearest_training(torch.tensor(POINTS, requires_grad=True), POINTS)
