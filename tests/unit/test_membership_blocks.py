"""What is made part by part is what is made at once, for parts of any size and any threads."""

import errno
import inspect
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confsim.membership import (
    attack_p,
    attack_r,
    base,
    benjamini_hochberg,
    class_thresholds,
    difficulty_calibration,
    discoveries,
    evaluate,
    lira,
    matrices,
    p_values,
    rmia,
    scratch,
    split_exposure,
    transferred_thresholds,
    vulnerability,
)
from confsim.membership.discoveries import _largest_flagged
from confsim.membership.matrices import _Columns
from confsim.membership.shadow import counts_below
from confsim.statistics import curves, roc, spearman_interval
from confsim.store import artifacts


def drawn(seed, trials, examples, ties):
    rng = np.random.default_rng(seed)
    member = rng.random((trials, examples)) < 0.5
    scores = rng.normal(size=member.shape) + member
    return (np.round(scores) if ties else scores), member


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=60),
    st.integers(1, 7),
)
def test_curves_in_parts(pairs, size):
    scores = np.array([float(score) for score, _ in pairs])
    member = np.array([side for _, side in pairs])
    member[:2] = True, False
    whole = roc(scores, member)
    at_once, curves._AT_ONCE = curves._AT_ONCE, size
    try:
        parts = roc(scores, member)
        assert (parts.auc, parts.advantage) == (whole.auc, whole.advantage)
    finally:
        curves._AT_ONCE = at_once
    assert whole.advantage == pytest.approx(max(0.0, np.max(whole.tpr - whole.fpr)), abs=1e-15)
    above = scores[member][:, None] - scores[~member]
    assert whole.auc == ((above > 0).sum() + (above == 0).sum() / 2) / above.size


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(4, 60), st.booleans())
def test_threads_change_no_figure(seed, trials, examples, ties):
    scores, member = drawn(seed, trials, examples, ties)
    scores[:, 0] = np.nan
    groups = np.arange(trials) // 2
    one, three = (
        evaluate(scores, member, row_groups=groups, replicates=5, n_threads=n) for n in (1, 3)
    )
    assert repr(one) == repr(three)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 5, 8, 130]), st.integers(1, 40))
def test_blocks_change_no_exposure(seed, trials, size):
    scores, member = drawn(seed, trials, 37, False)
    module = inspect.unwrap(split_exposure).__globals__
    whole = split_exposure(scores, member), vulnerability(None, scores, member)
    block, module["_BLOCK"] = module["_BLOCK"], size
    try:
        parts = split_exposure(scores, member), vulnerability(None, scores, member)
    finally:
        module["_BLOCK"] = block
    np.testing.assert_array_equal(parts[0], whole[0])
    for name, values in whole[1].items():
        np.testing.assert_array_equal(parts[1][name], values)


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from([0.0, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, np.nan]) | st.floats(0, 1)),
    st.sampled_from([0.01, 0.05, 0.1, 0.5]),
)
def test_flagged_are_those_adjusted(p, q):
    values = np.array(p, dtype=float)
    with np.errstate(invalid="ignore"):
        expected = benjamini_hochberg(values) <= q
    np.testing.assert_array_equal(values <= _largest_flagged(values, q), expected)
    np.testing.assert_array_equal(values <= _largest_flagged(values[None], q), expected)
    module = inspect.unwrap(discoveries).__globals__
    block, module["_BLOCK"] = module["_BLOCK"], 3
    try:
        np.testing.assert_array_equal(values <= _largest_flagged(values, q), expected)
    finally:
        module["_BLOCK"] = block


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=40))
def test_correlation_without_groups_is_that_of_one_group(pairs):
    x, y = np.array(pairs, dtype=float).T
    one_group = spearman_interval(x, y, np.zeros(len(x), dtype=int))
    assert repr(spearman_interval(x, y)) == repr(one_group)


def test_columns_that_wait_in_a_file(tmp_path):
    rng = np.random.default_rng(0)
    columns = _Columns(tmp_path, ["one", "two", "none"], (4, 9))
    values = {name: rng.normal(size=(4, 9)) for name in ("one", "two")}
    values["none"] = np.full((4, 9), np.nan)
    for trial in (2, 0, 3, 1):
        for name, matrix in values.items():
            columns.write(name, trial, matrix[trial].astype(np.float64))
    assert [columns.is_known(name) for name in (*values, "other")] == [True, True, False, False]
    for name in ("two", "one", "two"):
        np.testing.assert_array_equal(columns.read(name), values[name])
    columns.add("more", values["two"])
    np.testing.assert_array_equal(columns.read("more"), values["two"])
    assert columns.holds("more")
    assert not columns.holds("other")
    assert not list(tmp_path.iterdir())


def test_columns_without_room(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def fileno(self):
            raise OSError(errno.ENOSPC, "No space left on device")

        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(matrices, "temporary", lambda folder: (folder, Full()))
    columns = matrices._Columns(tmp_path, ["one"], (1, 2))
    with pytest.raises(artifacts.NoRoom, match=r"cannot write .*temporary file.*No space left"):
        columns.write("one", 0, np.zeros(2))
    with pytest.raises(artifacts.NoRoom):
        columns.add("more", np.ones((1, 2)))
    assert not columns.is_known("one")
    assert not columns.holds("more")
    assert not columns.is_known("more")
    monkeypatch.setattr(scratch, "temporary", lambda folder: (folder, Full()))
    monkeypatch.setattr(scratch, "SMALLEST", 1)
    with pytest.raises(artifacts.NoRoom, match=r"cannot write .*temporary file.*No space left"):
        scratch.Scratch(tmp_path).empty((3, 4))


def test_scratch_in_a_file(tmp_path, monkeypatch):
    room = scratch.Scratch(tmp_path)
    assert room.empty((3, 4)).base is None
    for size in (1, 8, 4096, 1 << 20):
        monkeypatch.setattr(scratch, "SMALLEST", 1)
        found = room.empty((size, 3), np.uint16)
        assert found.base is not None
        assert (found.shape, found.dtype) == ((size, 3), np.uint16)
        found[:] = np.arange(3 * size).reshape(size, 3) % 7
        np.testing.assert_array_equal(found.reshape(-1), np.arange(3 * size) % 7)
    assert not list(tmp_path.iterdir())
    monkeypatch.delattr(scratch.os, "posix_fallocate", raising=False)
    assert (room.empty((3, 1 << 20), np.uint8) == 0).all()


@pytest.mark.parametrize("ties", [False, True])
def test_thresholds_look_at_the_highest_scores_only(monkeypatch, ties):
    scores, member = drawn(5, 12, 400, ties)
    scores[3, :50] = np.nan
    levels = (0.1, 0.01, 0.001, 0.0, 0.4, 0.9, 1.0)
    for partner in (None, np.arange(12) ^ 1):
        held = member.copy()
        if partner is not None:
            held[1::2] = ~held[::2]
        whole = transferred_thresholds(scores, held, levels=levels, partner=partner)
        with monkeypatch.context() as patched:
            patched.setitem(inspect.unwrap(transferred_thresholds).__globals__, "_SAMPLED", 200)
            some = transferred_thresholds(scores, held, levels=levels[:4], partner=partner)
            every = transferred_thresholds(scores, held, levels=levels, partner=partner)
        np.testing.assert_array_equal(some, whole[:, :4])
        np.testing.assert_array_equal(every, whole)


def test_scores_go_where_they_should():
    values, member = drawn(6, 6, 50, False)
    for attack in (lira, rmia, attack_p, attack_r, difficulty_calibration, base, p_values):
        expected, out = attack(values, member), np.full(values.shape, 7.0)
        assert attack(values, member, out=out) is out
        np.testing.assert_array_equal(out, expected)
        for wrong in (np.empty((6, 49)), np.empty((6, 50), np.float32)):
            with pytest.raises(ValueError, match="out must be a float64 array of shape"):
                attack(values, member, out=wrong)
    labels, out = np.arange(50) % 3, np.empty(values.shape)
    assert class_thresholds(values, member, labels, out=out) is out
    np.testing.assert_array_equal(out, class_thresholds(values, member, labels))
    for reading in ("tfp", "carlini-code"):
        assert lira(values, member, reading=reading, out=out) is out
        np.testing.assert_array_equal(out, lira(values, member, reading=reading))


def test_columns_where_no_folder_can_be_written(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(scratch.tempfile, "TemporaryFile", refuse)
    with pytest.raises(ValueError, match=r"temporary file. cannot be written: Permission denied"):
        matrices._Columns(tmp_path, ["one"], (1, 2))


@settings(max_examples=100)
@given(st.lists(st.integers(-3, 3)), st.lists(st.integers(-4, 4) | st.just(float("nan"))))
def test_counts_below(points, values):
    ordered, given_values = np.sort(np.array(points, float)), np.array(values, float)
    below, up_to = counts_below(ordered, given_values, "left", "right")
    np.testing.assert_array_equal(below, np.searchsorted(ordered, given_values, side="left"))
    np.testing.assert_array_equal(up_to, np.searchsorted(ordered, given_values, side="right"))
