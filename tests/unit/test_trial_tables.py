"""The tables of one trial, against what a reader would work out by hand."""

import numpy as np
import pytest

from confsim.similarity import Similarity
from confsim.trial_tables import SCORES, Examined, holdout_table


def test_result_holds_every_table():
    rng = np.random.default_rng(1)
    member = np.arange(20) % 2 == 0
    scores = {name: rng.normal(size=20) for name in SCORES} | {"predicted": np.zeros(20, np.int64)}
    distance = rng.random(20)
    examined = Examined(
        3,
        np.arange(20) + 100,
        np.arange(20) % 3,
        member,
        scores,
        Similarity.given(distance, member),
        3,
        ranked_by="loss",
    )
    held = holdout_table(3, np.arange(2), np.zeros(2, np.int64), np.zeros(2))
    views = [rng.normal(size=20) for _ in range(2)]
    result = examined.result(
        examined.counts(2),
        percent=10,
        same_class=False,
        threads=1,
        holdout=held,
        views=iter(views),
    )
    assert list(result.tables) == ["extremes", "examples", "holdout", "augmented"]
    order = np.argsort(scores["loss"])
    np.testing.assert_array_equal(
        result.tables["extremes"]["id"], 100 + np.concatenate([order[:2], order[:-3:-1]])
    )
    assert (result.tables["examples"]["distance"][member] == 0).all()
    batches = list(result.tables["augmented"])
    assert [batch["augmentation"][0] for batch in batches] == [0, 1]
    np.testing.assert_array_equal(batches[1]["log_odds_true"], views[1])
    assert result.summary["members"] == 10
    assert result.summary["holdout"] == 2
    right = np.arange(20) % 3 == 0
    assert examined.accuracies()["accuracy_gap"] == pytest.approx(
        right[member].mean() - right[~member].mean()
    )
