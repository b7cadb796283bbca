"""The linear experiment against a slow, literal account of the same trial."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from confsim import ConfsimError
from confsim.experiment import Coded
from confsim.linear import draw as draw_module
from confsim.linear import extremes as extremes_module
from confsim.linear import queries as queries_module
from confsim.linear.experiment import LinearExperiment
from confsim.linear.trial import angle_degrees


class Context:
    """A context that never stops and remembers progress."""

    def __init__(self, stop_after=math.inf):
        self.calls = []
        self.stop_after = stop_after

    def progress(self, trial, fraction, note=""):
        self.calls.append((trial, fraction))

    def should_stop(self):
        return len(self.calls) >= self.stop_after


def run(experiment, trial=0, threads=1, context=None):
    """Run one trial: (extremes as one dict of arrays, arrays, summary)."""
    (result,) = experiment.open(threads).run([trial], context or Context())
    batches = list(result.tables["extremes"])
    columns = {}
    for name in batches[0]:
        parts = [batch[name] for batch in batches]
        if isinstance(parts[0], Coded):
            parts = [np.array(part.names)[part.codes] for part in parts]
        columns[name] = np.concatenate(parts)
    result = result.finished()
    return columns, result.arrays, result.summary


SMALL = LinearExperiment(n=12, queries=300, grid_size=24.0, seed=3)
CASES = {
    "default": SMALL,
    "all points": dataclasses.replace(SMALL, queries=None),
    "same class": dataclasses.replace(SMALL, same_class=True),
    "noise": dataclasses.replace(SMALL, label_noise=0.3, seed=5),
    "noise, same class": dataclasses.replace(SMALL, label_noise=0.4, same_class=True, n=4, seed=1),
    "three dimensions": dataclasses.replace(
        SMALL, dimensions=3, grid_size=9.0, granularity=0.75, percent=20.0
    ),
    "one dimension": dataclasses.replace(
        SMALL, dimensions=1, grid_size=400.0, granularity=0.5, weights=(-2.0,), bias=300.0
    ),
    "margin": dataclasses.replace(SMALL, objective="margin", norm="linf", C=10.0, label_noise=0.1),
    "two points": dataclasses.replace(SMALL, n=2),
    "every query a member": dataclasses.replace(SMALL, n=300),
}


def account(experiment, arrays):
    """Every query's columns, one point at a time, from the stored model and training ids."""
    lattice = experiment.lattice
    ids = np.asarray(experiment.query_ids())
    weights, bias = arrays["model"]["weights"], float(arrays["model"]["bias"])
    ideal_weights, ideal_bias = experiment.ideal
    training = arrays["model"]["training_ids"].tolist()

    def coordinates(point):
        m = lattice.points_per_axis
        return [
            (point // m ** (experiment.dimensions - 1 - k)) % m * experiment.granularity
            for k in range(experiment.dimensions)
        ]

    def score(x, w, b):
        total = 0.0
        for k in range(len(w)):
            total += float(w[k]) * x[k]
        return total + b

    def label(point):
        return 1 if score(coordinates(point), ideal_weights, ideal_bias) > 0 else -1

    corners = itertools.product([0.0, experiment.grid_size], repeat=experiment.dimensions)
    largest = max(abs(score(c, weights, bias)) for c in corners)
    rows = []
    for point in ids.tolist():
        x = coordinates(point)
        s = score(x, weights, bias)
        best = other = math.nan
        for t in training:
            if experiment.same_class and label(t) != label(point):
                continue
            squares = 0.0
            for a, b in zip(x, coordinates(t), strict=True):
                squares += (a - b) * (a - b)
            d = math.sqrt(squares)
            best = d if not d >= best else best
            if t != point:
                other = d if not d >= other else other
        degenerate = not weights.any()
        rows.append(
            {
                "id": point,
                "is_member": point in set(training),
                "margin": abs(s),
                "boundary": 0.0 if degenerate else abs(s) / largest,
                "sigmoid": 0.0 if degenerate else math.tanh(abs(s) / 2),
                "distance_raw": best,
                "other_raw": other,
                "right": (s >= 0) == (label(point) > 0),
            }
        )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def extreme_rows(columns, count):
    order = np.lexsort([columns["id"], columns["margin"]])
    reverse = np.lexsort([columns["id"], -columns["margin"]])
    return np.concatenate([order[:count], reverse[:count]])


@pytest.mark.parametrize("experiment", CASES.values(), ids=CASES)
def test_a_trial_equals_its_literal_account(experiment):
    table, arrays, summary = run(experiment, trial=2)
    truth = account(experiment, arrays)
    queries = len(truth["id"])
    count = min(max(1, round(queries * experiment.percent / 100)), max(1, queries // 2))
    rows = extreme_rows(truth, count)
    scale = np.nanmax(truth["distance_raw"])
    divisor = scale or 1.0

    assert table["side"].tolist() == ["bottom"] * count + ["top"] * count
    assert set(table["trial"]) == {2}
    for name in ("id", "is_member", "sigmoid", "distance_raw"):
        assert np.array_equal(table[name], truth[name][rows], equal_nan=name != "is_member"), name
    np.testing.assert_allclose(table["boundary"], truth["boundary"][rows], rtol=1e-12)
    assert np.array_equal(table["distance"], truth["distance_raw"][rows] / divisor, equal_nan=True)
    other = truth["other_raw"][rows] / divisor
    assert np.array_equal(table["distance_excluding_self"], other, equal_nan=True)

    assert summary["distance_scale"] == scale
    assert summary["queries"] == queries
    assert summary["members"] == experiment.n == truth["is_member"].sum()
    assert summary["right_side"] == truth["right"].mean()
    check_statistics(summary, truth, divisor)


def check_statistics(summary, truth, divisor):
    members = truth["is_member"]
    for suffix, name in (("self", "distance_raw"), ("other", "other_raw")):
        d = truth[name] / divisor
        known = ~np.isnan(d)
        if np.ptp(d[known]) == 0 or np.ptp(truth["margin"][known]) == 0:
            continue
        exact = scipy.stats.pearsonr(truth["boundary"][known], d[known]).statistic
        assert summary[f"pearson_{suffix}"] == pytest.approx(exact, abs=1e-9)
        exact = scipy.stats.spearmanr(truth["margin"][known], d[known]).statistic
        assert summary[f"spearman_{suffix}"] == pytest.approx(exact, abs=1e-12, nan_ok=True)
        if 0 < members[known].sum() < known.sum():
            exact = roc_auc_score(members[known], -d[known])
            assert summary[f"auc_closeness_{suffix}"] == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("experiment", CASES.values(), ids=CASES)
def test_streaming_in_small_blocks_gives_the_same_trial(experiment, monkeypatch):
    table, arrays, summary = run(experiment)
    monkeypatch.setattr(queries_module, "KEPT_QUERIES", 0)
    monkeypatch.setattr(queries_module, "BLOCK", 37)
    streamed, streamed_arrays, streamed_summary = run(experiment)
    for name in table:
        assert table[name].tobytes() == streamed[name].tobytes(), name
    for file in arrays:
        for name in arrays[file]:
            assert np.array_equal(arrays[file][name], streamed_arrays[file][name]), name
    for name, value in summary.items():
        kind = name.partition("_")[0]
        if name.endswith("_error_bound"):
            assert value == 0
        elif kind in ("spearman", "auc"):  # exact where queries are kept
            bound = streamed_summary[f"{kind}_error_bound"] + 1e-12
            assert streamed_summary[name] == pytest.approx(value, abs=bound, nan_ok=True), name
        elif isinstance(value, float):  # sums are grouped by other blocks
            assert streamed_summary[name] == pytest.approx(value, rel=1e-12, nan_ok=True), name
        else:
            assert streamed_summary[name] == value, name


def test_overfull_bins_are_divided_down_to_single_values(monkeypatch):
    """Margins that crowd into one bin of one bin, with many ties."""
    rng = np.random.default_rng(0)
    margin = np.concatenate([1 + rng.integers(0, 5, 900) * 1e-13, [5e3], rng.random(50)])
    rng.shuffle(margin)
    ids = np.sort(rng.choice(10_000, len(margin), replace=False))

    def scan():
        for start in range(0, len(margin), 100):
            part = margin[start : start + 100]
            yield ids[start : start + 100], part, part.min(), part.max()

    low, high = margin.min(), margin.max()
    fine = extremes_module.FINE
    bins = np.clip((margin - low) * (fine / (high - low)), 0, fine - 1).astype(int)
    histogram = np.bincount(bins, minlength=fine)
    for side, key in (("bottom", margin), ("top", -margin)):
        found = list(extremes_module.ExtremeScan(scan, 64).ordered(side, 700, low, high, histogram))
        order = np.lexsort([ids, key])[:700]
        assert np.array_equal(np.concatenate([batch[0] for batch in found]), ids[order])
        assert np.array_equal(np.concatenate([batch[1] for batch in found]), margin[order])


def test_threads_and_instruction_sets_change_nothing(monkeypatch):
    from confsim._kernels import isa

    experiment = LinearExperiment(n=50, queries=90_000, same_class=True, label_noise=0.1)
    results = []
    for name in isa.available():
        monkeypatch.setenv("CONFSIM_ISA", name)
        for threads in (1, 3):
            table, arrays, summary = run(experiment, threads=threads)
            results.append(
                (
                    {k: v.tobytes() for k, v in table.items()},
                    {f: {k: v.tobytes() for k, v in a.items()} for f, a in arrays.items()},
                    repr(summary),
                )
            )
    assert all(result == results[0] for result in results)


def test_trials_do_not_depend_on_their_company():
    session = SMALL.open(1)
    together = {r.trial: dict(r.arrays["model"]) for r in session.run([4, 0, 2], Context())}
    alone = run(SMALL, trial=2)[1]["model"]
    assert all(np.array_equal(together[2][name], alone[name]) for name in alone)


def test_draws_of_one_class_are_repeated_and_counted():
    experiment = LinearExperiment(n=2, queries=100, grid_size=30.0, weights=(1.0, 0.0), bias=-25.0)
    redraws = [run(experiment, trial)[2]["redraws"] for trial in range(8)]
    assert max(redraws) > 0
    for trial in range(8):
        labels = run(experiment, trial)[1]["model"]["training_labels"]
        assert set(labels.tolist()) == {-1, 1}


def test_a_class_that_is_never_drawn_fails_by_trial_number(monkeypatch):
    monkeypatch.setattr(draw_module, "MAX_ATTEMPTS", 3)
    experiment = LinearExperiment(
        n=2, queries=None, grid_size=100.0, bias=-99.5, weights=(1.0, 0.0)
    )
    with pytest.raises(ConfsimError, match="trial 7: each of 3 draws"):
        run(experiment, trial=7)


def test_absent_class_with_same_class_gives_nan():
    """Noise can make a draw of one true class acceptable; the other class has no neighbour."""
    experiment = LinearExperiment(
        n=2, queries=200, grid_size=20.0, same_class=True, label_noise=0.5, percent=50.0, seed=8
    )
    for trial in range(40):
        table, arrays, summary = run(experiment, trial)
        labels = experiment.lattice.labels(arrays["model"]["training_ids"], *experiment.ideal)
        if labels.min() == labels.max():
            assert np.isnan(table["distance"]).any()
            assert summary["distance_scale"] > 0
            assert not np.isnan(summary["auc_closeness_self"])
            return
    pytest.fail("no draw of one class among 40 trials")


def test_a_degenerate_model_has_confidence_zero():
    """XOR at the corners of a tiny lattice, drawn in some trial under noise."""
    experiment = LinearExperiment(
        n=4, queries=None, grid_size=1.0, label_noise=0.5, percent=50.0, bias=-0.5
    )
    for trial in range(60):
        table, arrays, summary = run(experiment, trial)
        if summary["degenerate"]:
            assert not table["boundary"].any()
            assert not table["sigmoid"].any()
            assert not arrays["model"]["weights"].any()
            assert math.isnan(summary["angle_degrees"])
            assert math.isnan(summary["pearson_self"])
            assert table["id"].tolist() == [0, 1, 0, 1]  # all tied: lower ids, on both sides
            return
    pytest.fail("no degenerate fit among 60 trials")


def test_stops_between_blocks(monkeypatch):
    from confsim.experiment import Interrupted

    monkeypatch.setattr(queries_module, "KEPT_QUERIES", 0)
    monkeypatch.setattr(queries_module, "BLOCK", 50)
    context = Context(stop_after=3)
    with pytest.raises(Interrupted):
        run(SMALL, context=context)
    assert len(context.calls) == 3


def test_progress_rises_to_the_end(monkeypatch):
    context = Context()
    run(SMALL, context=context)
    fractions = [fraction for _, fraction in context.calls]
    assert fractions == sorted(fractions)
    assert 0.5 < fractions[-1] < 1


BAD = [
    ({"n": 1}, ValueError, "n must be at least 2"),
    ({"n": 301, "queries": 300}, ValueError, "n must be at most"),
    ({"n": 2.5}, TypeError, "n must be an integer"),
    ({"dimensions": 0}, ValueError, "dimensions"),
    ({"granularity": 2000.0}, ValueError, "granularity"),
    ({"granularity": 0.0}, ValueError, "granularity"),
    ({"grid_size": math.nan}, ValueError, "grid_size"),
    ({"grid_size": math.inf}, ValueError, "grid_size"),
    ({"percent": 0.0}, ValueError, "percent"),
    ({"percent": 51.0}, ValueError, "percent"),
    ({"percent": math.nan}, ValueError, "percent"),
    ({"label_noise": 1.1}, ValueError, "label_noise"),
    ({"label_noise": -0.1}, ValueError, "label_noise"),
    ({"weights": (1.0,)}, ValueError, "weights must have one entry"),
    ({"weights": (0.0, 0.0)}, ValueError, "weights must not all be zero"),
    ({"weights": (math.nan, 1.0)}, ValueError, "weights"),
    ({"bias": math.inf}, ValueError, "bias"),
    ({"dimensions": 22}, ValueError, r"2\*\*63"),
    ({"queries": 1}, ValueError, "queries"),
    ({"seed": -1}, ValueError, "seed"),
    ({"objective": "hinge"}, ValueError, "objective"),
    ({"solver": "magic"}, ValueError, "solver"),
    ({"C": 0.0, "objective": "margin"}, ValueError, "C"),
    ({"C": 2.0}, ValueError, "objective='margin'"),
]


@pytest.mark.parametrize(("settings", "error", "match"), BAD)
def test_bad_settings_are_named(settings, error, match):
    with pytest.raises(error, match=match):
        LinearExperiment(**settings)


@pytest.mark.parametrize("queries", [500, None])
def test_queries_of_one_class_are_refused(queries):
    with pytest.raises(ValueError, match=r"put all .* queries in class -1"):
        LinearExperiment(queries=queries, bias=-1e3).check(1)
    with pytest.raises(ValueError, match=r"class \+1"):
        LinearExperiment(queries=queries, bias=1e3 + 1).check(1)
    LinearExperiment(queries=queries, bias=999.0 if queries is None else 500.0).check(1)


def test_a_billion_points_are_checked_without_being_made():
    experiment = LinearExperiment(dimensions=3, queries=None)
    assert experiment.query_count == 1_003_003_001
    experiment.check(1)
    assert experiment.open(1).query_ids == range(1_003_003_001)


def test_default_hyperplane_passes_through_the_centre():
    weights, bias = LinearExperiment(dimensions=3).ideal
    assert weights.tolist() == [1.0, -1.0, 1.0]
    assert bias == -500.0
    assert LinearExperiment().ideal[1] == 0.0


def test_angle_is_exact_for_parallel_vectors():
    a = np.array([0.6, 0.8])
    assert angle_degrees(a, a * 3) == pytest.approx(0.0, abs=1e-13)
    assert angle_degrees(a, -a) == pytest.approx(180.0)
    assert angle_degrees(a, np.array([-0.8, 0.6])) == pytest.approx(90.0)
    assert math.isnan(angle_degrees(a, np.zeros(2)))


def test_identity_is_json_and_names_every_setting():
    import json

    identity = json.loads(json.dumps(LinearExperiment().identity(), allow_nan=False))
    settings = {field.name for field in dataclasses.fields(LinearExperiment)}
    assert settings <= identity.keys()
