"""Distances of examples to training sets: by search, and from a space that trials share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confsim import nearest_training, similarity
from confsim.similarity import SharedSpace, Similarity


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


def equal(one, other):
    for name in ("distance", "distance_excluding_self", "nearest_id"):
        first, second = getattr(one, name), getattr(other, name)
        assert first.dtype == second.dtype
        assert first.tobytes() == second.tobytes(), name


@given(st.data())
def test_a_shared_space_answers_as_searches_do(data):
    seed = data.draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    count, width = int(rng.integers(1, 40)), int(rng.integers(1, 4))
    # Few distinct values: zeros, repeats, and equal distances in plenty.
    points = rng.integers(-1, 2, (count, width)) * data.draw(st.sampled_from([1.0, 1e-200, 0.3]))
    if data.draw(st.booleans()):
        points = points + 1e-3 * rng.normal(size=points.shape)
    labels = rng.integers(0, data.draw(st.sampled_from([1, 3, 40])), count)
    if not data.draw(st.booleans()):
        labels = None
    ids = rng.permutation(1000)[:count]
    # Those of more points that are examples, in an order of their own.
    more = rng.permutation(np.concatenate([np.arange(count), np.full(count, -1)]))
    rows = np.argsort(np.where(more < 0, count, more), kind="stable")[:count]
    shared = SharedSpace(points[more], ids, labels, rows)
    share = data.draw(st.sampled_from([0.1, 0.5, 0.9, 1.0]))
    for _ in range(similarity._WORTH + 2):
        member = rng.random(count) < share
        member[rng.integers(count)] = True
        wanted = Similarity.search(points, member, ids, labels, threads=1)
        equal(shared.search(member, threads=1), wanted)
    # Including self, a member is at exactly 0: the search itself says so, too.
    rows = np.flatnonzero(member)
    classes = {} if labels is None else {"query_labels": labels, "training_labels": labels[rows]}
    found = nearest_training(points, points[rows], metric="angular", n_threads=1, **classes)
    assert found.distance.tobytes() == wanted.distance.tobytes()


def test_examples_whose_neighbours_were_no_members_are_searched(monkeypatch):
    rng = np.random.default_rng(0)
    points, ids = rng.normal(size=(2000, 5)), np.arange(2000)
    monkeypatch.setattr(similarity, "_BLOCK", 300)
    shared = SharedSpace(points, ids, None)
    half = rng.random(2000) < 0.5
    for _ in range(similarity._WORTH):
        equal(shared.search(half, threads=1), Similarity.search(points, half, ids, None, threads=1))
    distances, neighbours = shared._table
    assert distances.shape == neighbours.shape == (2000, 15)
    few = rng.random(2000) < 0.08
    assert 100 < np.sum(~few[neighbours].any(axis=1)) < 1900
    equal(shared.search(few, threads=1), Similarity.search(points, few, ids, None, threads=1))


@pytest.mark.parametrize("share", [0.0005, 1.0])
def test_few_members_need_no_table_and_all_one_neighbour(share):
    rng = np.random.default_rng(0)
    points, ids = rng.normal(size=(2000, 3)), np.arange(2000)
    shared = SharedSpace(points, ids, None)
    member = np.arange(2000) < share * 2000
    for _ in range(similarity._WORTH):
        found = shared.search(member, threads=1)
        equal(found, Similarity.search(points, member, ids, None, threads=1))
    assert (shared._table is None) == (share < 1)
