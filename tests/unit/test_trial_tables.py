"""The tables of one trial, against what a reader would work out by hand."""

import numpy as np
import pytest

from confsim.trial_tables import SCORES, Examined, Similarity, holdout_table


def angle(a, b):
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return np.arccos(np.clip(cosine, -1, 1)) / np.pi


@pytest.mark.parametrize("same_class", [False, True])
def test_similarity_is_that_of_every_pair(same_class):
    rng = np.random.default_rng(0)
    features, member = rng.normal(size=(30, 4)), rng.random(30) < 0.5
    ids, labels = rng.permutation(100)[:30], rng.integers(0, 2, 30)
    found = Similarity.search(features, member, ids, labels if same_class else None, threads=1)
    for i in range(30):
        rows = [j for j in range(30) if member[j] and not (same_class and labels[j] != labels[i])]
        others = {j: angle(features[i], features[j]) for j in rows if j != i}
        nearest = min(others, key=others.get)
        assert found.distance_excluding_self[i] == pytest.approx(others[nearest], abs=1e-7)
        assert found.nearest_id[i] == ids[nearest]
        expected = 0.0 if member[i] else others[nearest]
        assert found.distance[i] == pytest.approx(expected, abs=1e-7)


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
