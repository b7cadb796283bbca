"""Evaluation, memorisation, vulnerability, and the tables of a run."""

import doctest
import importlib
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import confsim
from confsim.membership import (
    agreement,
    associations,
    discoveries,
    evaluate,
    fixed_space,
    linear_scores,
    lira,
    mean_distances,
    membership_tables,
    memorization,
    power_by,
    reliability,
    split_exposure,
    success_by,
    transfer,
    vulnerability,
)
from confsim.membership.linear import _experiment
from confsim.membership.linear_leverage import LinearLeverage
from confsim.membership.reliability import halves, reliability_of_bins
from confsim.membership.vulnerability import answer
from confsim.statistics import (
    RATE,
    auc,
    auc_by_column,
    clopper_pearson,
    closeness_chance,
    delong_interval,
    mean_interval,
    roc,
    spearman_interval,
    two_way_bootstrap,
)


@pytest.mark.parametrize(
    "module",
    [
        "confsim.statistics.bootstrap",
        "confsim.statistics.checks",
        "confsim.statistics.correlation",
        "confsim.statistics.curves",
        "confsim.statistics.intervals",
        "confsim.auditing",
        "confsim.membership.attacks",
        "confsim.membership.evaluation",
        "confsim.membership.memorization",
        "confsim.membership.reliability",
        "confsim.membership.vulnerability",
    ],
)
def test_examples_in_docstrings(module):
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0
    assert found.failed == 0


# ---- evaluation --------------------------------------------------------------------------------


def scored(trials=6, examples=300, seed=0):
    rng = np.random.default_rng(seed)
    member = rng.random((trials, examples)) < 0.5
    return rng.normal(size=member.shape) + member, member


def test_evaluate_rows():
    scores, member = scored()
    scores[2, :5] = np.nan
    rows = evaluate(scores, member, targets=[3, 4, 5, 6, 7, 9])
    assert [row["target"] for row in rows] == [3, 4, 5, 6, 7, 9, "mean", "pooled"]
    assert [row["unanswered"] for row in rows[:3]] == [0, 0, 5]
    one = roc(scores[0], member[0])
    assert rows[0]["auc"] == one.auc
    point = one.at_fpr(0.01)
    assert rows[0]["tpr_at_fpr_1pct"] == point.tpr
    assert rows[0]["realised_fpr_at_fpr_1pct"] == point.fpr
    assert rows[0]["threshold_at_fpr_1pct"] == point.threshold
    assert rows[0]["precision_at_fpr_1pct_prior_10pct"] == point.precision(0.1)
    assert rows[0]["precision_bound_at_fpr_0pct_prior_1pct"] == one.at_fpr(0).precision_bound(0.01)
    expected = clopper_pearson(point.true_positives, point.members)
    found = rows[0]["tpr_at_fpr_1pct_low"], rows[0]["tpr_at_fpr_1pct_high"]
    assert found == pytest.approx(expected)
    assert rows[0]["few_false_positives"] == "1pct 0.1pct 0.01pct"
    mean = rows[-2]
    assert (rows[0]["auc_low"], rows[0]["auc_high"]) == delong_interval(scores[0], member[0])[1:]
    expected = mean_interval([row["auc"] for row in rows[:6]], RATE)
    assert (mean["auc"], mean["auc_low"], mean["auc_high"]) == pytest.approx(expected)
    pooled, known = rows[-1], ~np.isnan(scores)
    assert pooled["auc"] == auc(scores[known], member[known])
    assert pooled["auc_low"] < pooled["auc"] < pooled["auc_high"]
    assert "shared" not in rows[0]["interval"]
    assert "shadow models is not accounted for" in pooled["interval"]


def test_evaluate_counts_pairs_once():
    scores, member = scored(trials=8)
    groups = np.arange(8) // 2
    mean = evaluate(scores, member, row_groups=groups)[-2]
    by_pair = np.array([auc(s, m) for s, m in zip(scores, member, strict=True)])
    expected = mean_interval(by_pair.reshape(4, 2).mean(axis=1), RATE)
    assert (mean["auc"], mean["auc_low"], mean["auc_high"]) == pytest.approx(expected)


def test_evaluate_few_targets_and_one_class():
    scores, member = scored(trials=3)
    member[1] = True
    rows = evaluate(scores, member)
    assert [row["target"] for row in rows] == [0, 2, "mean", "pooled"]
    assert np.isnan(rows[-2]["auc_low"])
    assert "fewer than 4" in rows[-1]["interval"]
    assert "fewer than 3" in rows[-2]["interval"]
    assert evaluate(np.full((1, 3), np.nan), np.array([[True, False, True]])) == []
    with pytest.raises(ValueError, match="shape"):
        evaluate(scores, member[:2])


def test_a_single_target_has_its_intervals_over_examples_in_every_row():
    scores, member = scored(trials=1)
    target, mean, pooled = evaluate(scores, member)
    _, low, high = delong_interval(scores, member)
    for row in (target, mean, pooled):
        assert (row["auc_low"], row["auc_high"]) == (low, high)
        assert row["tpr_at_fpr_1pct_low"] < row["tpr_at_fpr_1pct"] < row["tpr_at_fpr_1pct_high"]
        assert "DeLong" in row["interval"]


def test_intervals_of_rates_are_rates():
    """Nearly perfect attacks, few targets: a symmetric interval would exceed 1."""
    scores, member = scored(trials=3, examples=60)
    mean = evaluate(scores + 3 * member, member)[-2]
    for name in ("auc", "advantage", "balanced_accuracy", "tpr_at_fpr_10pct", "tpr_at_fpr_1pct"):
        assert 0 <= mean[f"{name}_low"] <= mean[name] <= mean[f"{name}_high"] <= 1


NO_MEMBERSHIP = {
    "signs": lambda m: np.where(m, 1, -1),
    "text": lambda m: np.where(m, "True", "False"),
    "gaps": lambda m: np.where(m, 1.0, np.nan),
    "shares": lambda m: np.where(m, 0.9, 0.1),
    "none": lambda m: np.where(m, True, None),
    "masked": lambda m: np.ma.masked_array(m, mask=m),
    "counts": lambda m: 2 * m.astype(np.uint8),
    "complex": lambda m: m.astype(complex),
}


@pytest.mark.parametrize("kind", NO_MEMBERSHIP)
@pytest.mark.parametrize(
    "function",
    [
        evaluate,
        lambda s, m: memorization(s > 0, m),
        lambda s, m: memorization(m, s > 0),
        lambda s, m: power_by(np.arange(s.shape[1]), s, m, replicates=10),
        lambda s, m: two_way_bootstrap(s, m, replicates=10),
        lambda s, m: mean_distances(np.abs(s), m),
        lambda s, m: vulnerability(None, s, m),
        split_exposure,
        auc_by_column,
        auc,
        delong_interval,
    ],
)
def test_membership_is_boolean_or_0_and_1(function, kind):
    scores, member = scored(trials=4, examples=20)
    with pytest.raises(ValueError, match=r"must be boolean, or hold only 0 and 1, but row \d"):
        function(scores, NO_MEMBERSHIP[kind](member))


NO_SCORES = {
    "text": lambda s: s.astype(str),
    "complex": lambda s: s + 1j,
    "one row": lambda s: s[0],
    "another shape": lambda s: s[:, :-1],
    "none": lambda s: s[:0],
}


@pytest.mark.parametrize("kind", NO_SCORES)
@pytest.mark.parametrize(
    "function",
    [
        evaluate,
        transfer,
        lambda s, m: power_by(np.arange(20), s, m, replicates=10),
        lambda s, m: mean_distances(s, m),
        lambda s, m: vulnerability(None, s, m),
        split_exposure,
    ],
)
def test_scores_are_real_numbers_of_the_shape_of_membership(function, kind):
    scores, member = scored(trials=4, examples=20)
    with pytest.raises((ValueError, TypeError), match=r"must (both have shape|be real numbers)"):
        function(NO_SCORES[kind](scores), member)


def test_data_frames_are_arrays():
    scores, member = scored(trials=4, examples=20)
    frames = pd.DataFrame(scores), pd.DataFrame(member).astype("boolean")
    assert evaluate(*frames) == evaluate(scores, member)
    np.testing.assert_array_equal(split_exposure(*frames), split_exposure(scores, member))
    np.testing.assert_array_equal(
        vulnerability(None, *frames)["exposure"], vulnerability(None, scores, member)["exposure"]
    )
    found = power_by(pd.Series(np.arange(20)), *frames, bins=2, replicates=20)
    assert found == power_by(np.arange(20), scores, member, bins=2, replicates=20)


def test_power_needs_a_value_for_each_example():
    scores, member = scored(trials=4, examples=20)
    words = r"values must be a number for each of the 20 examples, not float64 of shape \(4, 20\)"
    with pytest.raises(ValueError, match=words):
        power_by(scores, scores, member)
    with pytest.raises(ValueError, match=r"values must be a number for each .* not <U"):
        power_by(["near"] * 20, scores, member)
    with pytest.raises(ValueError, match="bins must be at least 1, not 0"):
        power_by(np.arange(20), scores, member, bins=0)
    objects = np.array([*range(19), None], dtype=object)
    found = power_by(objects, scores, member, bins=2, replicates=20)
    known = np.r_[np.arange(19.0), np.nan]
    assert found == power_by(known, scores, member, bins=2, replicates=20)


NO_GROUPS = {
    "too few": ([0, 1], "one group for each of the 6 rows, not shape"),
    "too many": (np.arange(7), "one group for each of the 6 rows, not shape"),
    "two dimensions": (np.zeros((6, 1)), "one group for each of the 6 rows, not shape"),
    "NaN": ([0, 0, np.nan, 1, 1, 2], "must not be missing, but row 2 is"),
    "None": (np.array(["a", "a", "b", None, "b", "c"], object), "must not be missing, but row 3"),
}


@pytest.mark.parametrize("kind", NO_GROUPS)
@pytest.mark.parametrize(
    "function",
    [
        evaluate,
        two_way_bootstrap,
        split_exposure,
        lambda s, m, row_groups: power_by(np.arange(300), s, m, row_groups=row_groups),
        lambda s, m, row_groups: reliability(lambda rows: s[rows].mean(0), 6, row_groups),
    ],
)
def test_every_row_has_a_group(function, kind):
    """Rows of no group would be left out, and fewer trials counted, without a word."""
    groups, words = NO_GROUPS[kind]
    with pytest.raises(ValueError, match=f"row_groups .*{words}"):
        function(*scored(), row_groups=groups)


def test_groups_may_have_any_names():
    scores, member = scored(trials=8)
    named = evaluate(scores, member, row_groups=list("bbaaccdd"), replicates=20)
    assert named == evaluate(scores, member, row_groups=[1, 1, 0, 0, 2, 2, 3, 3], replicates=20)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ([3], "for each of the 6 trials"),
        (np.arange(7), "for each of the 6 trials"),
        (np.arange(6) + 0.5, "must be a whole number for each"),
        ([True] * 6, "must be a whole number for each"),
        ([0, 1, 2, 3, 4, 4], "must be distinct"),
    ],
)
@pytest.mark.parametrize(
    "function",
    [evaluate, transfer, lambda s, m, targets: discoveries(norm.cdf(s), m, targets=targets)],
)
def test_every_target_has_a_number(function, targets, words):
    with pytest.raises(ValueError, match=f"targets .*{words}"):
        function(*scored(), targets=targets)


def test_attacks_that_have_no_names():
    scores, member = scored(trials=4, examples=20)
    with pytest.raises(TypeError, match="scores must be a mapping of names to arrays, not ndarray"):
        agreement(scores, member)
    with pytest.raises(TypeError, match="called must be a mapping of names to arrays, not ndarray"):
        success_by(np.arange(20), scores > 0, member)
    with pytest.raises(ValueError, match="memorization must be a number for each of the 20"):
        success_by(np.arange(20), {"a": scores > 0}, member, memorization=[0.5])


def test_columns_of_another_shape():
    scores, member = scored(trials=4, examples=20)
    with pytest.raises(
        ValueError, match=r"must both have shape \(rows, columns\), not .*\(3, 20\)"
    ):
        auc_by_column(scores, member[:3])


def test_membership_given_as_numbers_is_the_same():
    scores, member = scored(trials=4, examples=200)
    for kind in (int, float, object, np.uint8):
        given = member.astype(kind)
        assert evaluate(scores, given) == evaluate(scores, member)
        same = two_way_bootstrap(scores, given, replicates=20)
        assert same == two_way_bootstrap(scores, member, replicates=20)
        found = power_by(np.arange(200), scores, given, bins=2, replicates=20)
        assert found == power_by(np.arange(200), scores, member, bins=2, replicates=20)
        counts = memorization(scores > 0, given)["trials_in"]
        np.testing.assert_array_equal(counts, member.sum(axis=0))


# ---- memorisation and vulnerability on arrays --------------------------------------------------


def test_memorization():
    rng = np.random.default_rng(1)
    member = rng.random((60, 9)) < 0.5
    member[:, 0] = True
    correct = rng.random(member.shape) < np.where(member, 0.9, 0.4)
    found = memorization(correct, member)
    for x in range(1, 9):
        expected = correct[member[:, x], x].mean() - correct[~member[:, x], x].mean()
        assert found["memorization"][x] == pytest.approx(expected)
        assert found["memorization_low"][x] < expected < found["memorization_high"][x]
    assert np.isnan(found["memorization"][0])
    assert np.isnan(found["memorization_low"][0])
    enough = np.minimum(member.sum(axis=0), 60 - member.sum(axis=0)) >= 20
    np.testing.assert_array_equal(found["reliable"], enough)
    with pytest.raises(ValueError, match="correct and is_member"):
        memorization(correct, member[:, :3])


def test_vulnerability():
    log_odds, member = scored(trials=11, examples=20)
    member[:, 0], member[:, 1] = True, np.arange(11) == 0
    found = vulnerability(None, log_odds, member)
    for x in range(2, 20):
        held, out = log_odds[member[:, x], x], log_odds[~member[:, x], x]
        assert found["exposure"][x] == pytest.approx(auc(log_odds[:, x], member[:, x]))
        spread = np.sqrt((held.std() ** 2 + out.std() ** 2) / 2)
        expected = (np.median(held) - np.median(out)) / spread
        assert found["effect_size"][x] == pytest.approx(expected)
    assert np.isnan(found["exposure"][0])
    assert np.isnan(found["effect_size"][:2]).all()


def noise(trials, examples=3000, seed=0):
    """Examples of unequal difficulty about which membership says nothing."""
    rng = np.random.default_rng(seed)
    member = rng.random((trials, examples)) < 0.5
    return 3 * rng.normal(size=examples) + rng.normal(size=member.shape), member


@pytest.mark.parametrize("trials", [8, 16, 32, 64, 130])
def test_exposure_is_a_half_where_nothing_leaks(trials):
    log_odds, member = noise(trials, examples=4000 if trials < 100 else 1000)
    for found in (
        vulnerability(None, log_odds, member)["exposure"],
        split_exposure(log_odds, member),
    ):
        assert np.nanmean(found) == pytest.approx(0.5, abs=0.01)
        low, high = np.nanmean(found < 0.3), np.nanmean(found > 0.7)
        assert low == pytest.approx(high, abs=0.03)


def test_split_exposure_equals_the_definition():
    log_odds, member = scored(trials=10, examples=6, seed=3)
    groups = np.arange(10) // 2
    found = split_exposure(log_odds, member, row_groups=groups)
    first, second = halves(10, groups)
    assert first.tolist() == [0, 1, 4, 5, 8, 9]
    areas = []
    for fitted, test in ((first, second), (second, first)):
        spread = []
        for side in (True, False):
            offsets = [
                log_odds[t, x] - np.median(log_odds[fitted, x][member[fitted, x] == side])
                for t in fitted
                for x in range(6)
                if member[t, x] == side
            ]
            spread.append(np.std(offsets))
        part = []
        for x in range(6):
            x_fit, m_fit = log_odds[fitted, x], member[fitted, x]
            if m_fit.all() or not m_fit.any() or len(set(member[test, x])) < 2:
                part.append(np.nan)
                continue
            density = [
                norm.logpdf(log_odds[test, x], np.median(x_fit[m_fit == side]), s)
                for side, s in zip((True, False), spread, strict=True)
            ]
            part.append(auc(density[0] - density[1], member[test, x]))
        areas.append(part)
    np.testing.assert_allclose(found, np.nanmean(areas, axis=0))


def test_reliability_tells_noise_from_exposure():
    log_odds, member = noise(16)
    leaking = log_odds + member * np.linspace(0, 4, log_odds.shape[1])

    def of(values):
        def exposure(rows):
            return vulnerability(None, values[rows], member[rows])["exposure"]

        return reliability(exposure, 16)

    assert abs(of(log_odds)) < 0.1
    assert of(leaking) > 0.5
    assert np.isnan(reliability(lambda rows: log_odds[rows].mean(axis=0), 1))


def test_reliability_of_bins():
    rng = np.random.default_rng(4)
    exposed, noise = np.arange(1000) / 1000, rng.normal(size=(8, 1000))
    bins = np.split(np.arange(1000), 10)

    def found(values, parts=bins):
        return reliability_of_bins(lambda rows: values[rows].mean(axis=0), parts, 8)

    assert found(exposed + noise) > 0.9
    null = [found(rng.normal(size=(8, 1000))) for _ in range(200)]
    halves = [n / (2 - n) for n in null]  # Spearman-Brown undone
    assert abs(np.mean(halves)) < 4 / np.sqrt(9 * 200)
    assert np.isnan(found(exposed + noise, bins[:2]))
    holes = np.where(np.arange(1000) % 100 < 50, np.nan, exposed + noise)
    assert found(holes) > 0.9


def test_bins_and_lists_carry_their_reliability(tmp_path):
    made = membership_tables(balanced_run(tmp_path / "run", trials=12)[0])
    known = dict(made["vulnerability_reliability"].itertuples(index=False))
    lists = {name for name in made["vulnerability"] if name.startswith(("found_", "exposure"))}
    assert lists <= set(known)
    for table, column in (("vulnerability_bins", "exposure_reliability"),
                          ("success_bins", "reliability")):  # fmt: skip
        assert (made[table][column].dropna() <= 1).all()
        assert made[table][column].notna().any()


def test_mean_distances():
    distance = np.array([[0.1, np.nan], [0.3, 0.2], [0.5, np.nan]])
    member = np.array([[True, False], [False, True], [False, False]])
    found = mean_distances(distance, member)
    np.testing.assert_allclose(found["distance_out"], [0.4, np.nan])
    np.testing.assert_allclose(found["distance_in"], [0.1, 0.2])


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(1, 25))
def test_fixed_space_equals_brute_force(seed, n, neighbours):
    rng = np.random.default_rng(seed)
    points = rng.integers(-2, 3, size=(n, rng.integers(1, 5))).astype(float)
    groups = rng.integers(0, max(1, n // 3), n)
    found = fixed_space(points, groups, neighbours=neighbours)
    length = np.linalg.norm(points, axis=1, keepdims=True)
    zero = length[:, 0] == 0
    unit = np.column_stack([points / np.where(length > 0, length, 1), zero])
    chord = np.linalg.norm(unit[:, None] - unit[None], axis=2)
    total = np.linalg.norm(unit[:, None] + unit[None], axis=2)
    angle = 2 * np.arctan2(chord, total) / np.pi
    for i in range(n):
        others = np.arange(n) != i
        foreign = groups != groups[i]
        expected = np.sort(chord[i, others])[:neighbours].mean()
        assert found["density_distance"][i] == pytest.approx(expected, abs=1e-6)
        assert found["fixed_distance"][i] == pytest.approx(angle[i, others].min(), abs=1e-6)
        nearest = angle[i, foreign].min() if foreign.any() else np.nan
        found_other = found["fixed_distance_other_group"][i]
        assert found_other == pytest.approx(nearest, abs=1e-6, nan_ok=True)


def test_fixed_space_of_equals_and_of_one():
    found = fixed_space(np.ones((2000, 2)))
    assert found["density_distance"].max() == 0
    assert np.isnan(fixed_space(np.ones((1, 2)))["fixed_distance"]).all()
    with pytest.raises(ValueError, match="features"):
        fixed_space(np.ones(3))
    with pytest.raises(ValueError, match="groups"):
        fixed_space(np.ones((3, 2)), groups=[1, 2])


def test_power_by_bins():
    rng = np.random.default_rng(2)
    member = rng.random((6, 400)) < 0.5
    value = np.arange(400.0)
    value[7] = np.nan
    scores = rng.normal(size=member.shape) + member * (np.arange(400) / 100)
    rows = power_by(value, scores, member, bins=4)
    assert [row["examples"] for row in rows] == [100, 100, 100, 99]
    assert [row["auc"] for row in rows] == sorted(row["auc"] for row in rows)
    assert rows[3]["auc"] == auc(scores[:, 301:], member[:, 301:])
    classes = power_by(np.arange(400) % 3, scores, member, bins=None)
    assert [row["value_low"] for row in classes] == [0, 1, 2]


def test_associations_and_their_answer():
    rng = np.random.default_rng(3)
    distance = rng.random(500)
    columns = {
        "label": rng.integers(0, 4, 500),
        "exposure": distance + 0.1 * rng.normal(size=500),
        "distance_out": distance,
        "has_duplicate": np.arange(500) < 50,
    }
    found = associations(columns, ("exposure",), ("distance_out",))
    assert [(a.scope, a.examples) for a in found] == [
        ("overall", "all"),
        ("within class", "all"),
        ("overall", "without duplicates"),
        ("within class", "without duplicates"),
    ]
    assert found[2].correlation.pairs == 450
    assert all("rises with distance" in answer(a) for a in found)
    expected = spearman_interval(columns["exposure"], distance, columns["label"])
    assert found[1].correlation == expected


# ---- tables of runs ----------------------------------------------------------------------------


def balanced_run(path, trials=8, examples=150):
    rng = np.random.default_rng(4)
    half = rng.random((trials // 2, examples)) < 0.5
    member = np.stack([half, ~half], axis=1).reshape(trials, examples)
    label = rng.integers(0, 3, examples)
    logits = rng.normal(size=(trials, examples, 3))
    logits += (member + 2 * rng.normal(size=examples))[..., None] * np.eye(3)[label]
    run = confsim.audit(
        is_member=member,
        label=label,
        logits=logits,
        distance=rng.random((trials, examples)),
        design="balanced",
        out=path,
    )
    return run, member


def test_tables_are_made_once(tmp_path):
    run, _ = balanced_run(tmp_path / "run")
    first = membership_tables(run)
    again = membership_tables(confsim.open_run(run.path))
    assert first.made
    assert not again.made
    assert (first.notes, first.answers) == (again.notes, again.answers)
    assert set(first.tables) == set(again.tables)
    for name, table in first.tables.items():
        pd.testing.assert_frame_equal(table, again[name], check_dtype=False, rtol=1e-12)
    names = {path.name for path in (run.path / "tables").iterdir()}
    assert {"attacks.csv", "memorization.parquet", "vulnerability.parquet"} <= names
    record = json.loads((run.path / "tables" / "membership.json").read_text())
    assert len(record["inputs"]["trial 0"]["examples.parquet"]) == 64


def test_who_is_found_adds_up_to_what_is_found(tmp_path):
    run, _ = balanced_run(tmp_path / "run")
    made = membership_tables(run)
    held = run.examples(columns=["id", "is_member"]).groupby("id")["is_member"].sum()
    table = made["vulnerability"].set_index("id")
    for row in made["agreement"].to_dict("records"):
        times = table[f"found_{row['attack']}"] * held.loc[table.index]
        assert times.sum() == pytest.approx(row["found"])


def test_tables_are_made_again_when_something_changed(tmp_path):
    run, _ = balanced_run(tmp_path / "run")
    membership_tables(run)
    assert membership_tables(run, seed=1).made
    table = run.path / "tables" / "attacks.csv"
    table.write_text(table.read_text().replace("loss", "gain"))
    assert membership_tables(run, seed=1).made
    assert "gain" not in table.read_text()
    space = tmp_path / "space.npy"
    np.save(space, np.random.default_rng(0).normal(size=(150, 4)))
    assert membership_tables(run, features=space).made
    assert not membership_tables(run, features=space).made


def test_balanced_runs_leave_partners_out(tmp_path):
    run, member = balanced_run(tmp_path / "run")
    found = membership_tables(run)
    log_odds = run.examples()["log_odds_true"].to_numpy().reshape(member.shape)
    scores = lira(log_odds, member, partner=np.arange(8) ^ 1)
    pooled = found["attacks"].query("target == 'pooled'").set_index("attack")["auc"]
    assert pooled["lira_online_fixed_variance"] == pytest.approx(auc(scores, member), abs=1e-12)
    (run.path / "trials" / "000003").rename(tmp_path / "elsewhere")
    found = membership_tables(run)
    assert any("no finished partner" in note for note in found.notes)
    kept = found["attacks"].query("attack == 'loss'")["target"]
    assert list(kept) == ["0", "1", "4", "5", "6", "7", "mean", "pooled"]


def test_success_in_bins_is_that_of_the_agreement(tmp_path):
    run, _ = balanced_run(tmp_path / "run")
    found = membership_tables(run)
    assert repr(found).startswith(f"MembershipTables(rows of attacks: {len(found['attacks'])}, ")
    rows = (
        found["success_bins"]
        .query("by == 'label'")
        .replace({"attack": {"lira_online_fixed_variance": "lira_online"}})
    )
    for attack, row in found["agreement"].set_index("attack").iterrows():
        own = rows[rows["attack"] == attack]
        assert own["examples"].sum() == 150
        coverage = (own["coverage"] * own["examples"]).sum() / 150
        assert coverage == pytest.approx(row["coverage"])  # each is a member of half the trials
        tpr = (own["tpr"] * own["examples"]).sum() / 150
        assert tpr == pytest.approx(row["tpr"])
    assert {"distance_out", "label"} <= set(found["success_bins"]["by"])
    scored = set(found["attacks"].dropna(subset=["auc"])["attack"])
    assert len(scored) > 12
    assert set(rows["attack"].replace("lira_online", "lira_online_fixed_variance")) == scored


def test_a_run_without_trials(tmp_path):
    run, _ = balanced_run(tmp_path / "run")
    for number in run.trials:
        (run.path / "trials" / f"{number:06d}").rename(tmp_path / f"gone{number}")
    with pytest.raises(confsim.ConfsimError, match="no finished trial"):
        membership_tables(run)


@pytest.fixture(scope="module")
def linear_run(tmp_path_factory):
    return confsim.linear.run(
        trials=5, out=tmp_path_factory.mktemp("linear") / "run", n=30, queries=3000, workers=1
    )


def test_linear_scores_are_those_of_the_run(linear_run):
    for trial in linear_run.trials:
        scores = linear_scores(linear_run, trial)
        summary = linear_run.trial(trial).summary()
        assert scores.is_member.sum() == 30
        bound = summary["auc_error_bound"] + 1e-12
        found = auc(scores.confidence, scores.is_member)
        assert found == pytest.approx(summary["auc_confidence"], abs=bound)
        found = auc(scores.closeness, scores.is_member)
        assert found == pytest.approx(summary["auc_closeness_other"], abs=bound)


def test_matched_drops_a_candidate_of_each_non_member(linear_run):
    plain, matched = linear_scores(linear_run, 0), linear_scores(linear_run, 0, matched=True)
    member = plain.is_member
    np.testing.assert_array_equal(plain.closeness[member], matched.closeness[member])
    farther = matched.closeness[~member] < plain.closeness[~member]
    assert 0 < farther.mean() < 0.1  # one in thirty loses its nearest
    assert (matched.closeness[~member] <= plain.closeness[~member]).all()
    again = linear_scores(linear_run, 0, matched=True)
    np.testing.assert_array_equal(again.closeness, matched.closeness)


def test_matched_closeness_is_unbiased():
    """Members drawn at random: closeness has AUC of about (n - 1) / (2 n - 1), matched 0.5."""
    n, rng = 5, np.random.default_rng(5)
    plain, matched = [], []
    for _ in range(1500):
        x = rng.normal(size=(40, 30))
        member = np.arange(40) < n
        gaps = np.linalg.norm(x[:, None] - x[None, :n], axis=2)
        gaps[np.arange(n), np.arange(n)] = np.inf
        plain.append(auc(-gaps.min(axis=1), member))
        gaps[np.arange(n, 40), rng.integers(n, size=40 - n)] = np.inf
        matched.append(auc(-gaps.min(axis=1), member))
    assert np.mean(plain) == pytest.approx((n - 1) / (2 * n - 1), abs=0.01)
    assert np.mean(matched) == pytest.approx(0.5, abs=0.01)


def test_linear_tables(linear_run):
    found = membership_tables(linear_run)
    attacks = found["attacks"]
    kinds = {"confidence", "closeness", "closeness_matched", "leverage"}
    assert set(attacks["attack"]) == kinds
    assert set(found["leverage_bins"]["bin"]) == set(range(5))
    assert found["leverage_bins"]["members"].sum() == 5 * 30
    assert len(found["leverage_correlations"]) == 4
    nulls = attacks.set_index("attack")["null_auc"]
    assert nulls["closeness"].iloc[0] == pytest.approx(29 / 59, abs=0.004)
    assert nulls["closeness"].iloc[0] == linear_run.summary()["auc_closeness_other_null"].iloc[0]
    assert nulls["closeness_matched"].iloc[0] == pytest.approx(0.5, abs=0.004)
    summary = linear_run.summary()
    top = found["extremes_membership"].set_index("side").loc["top"]
    assert top["members"] == round((summary["top_membership_rate"] * summary["top_count"]).sum())
    assert set(found["angle_correlations"]["trials"]) == {5}
    assert not membership_tables(linear_run).made
    assert membership_tables(linear_run, matched=False).made


def test_leverage_of_linear_trials_is_a_half_on_average():
    """Members are drawn at random: with one training point fewer on both sides nothing is told."""
    lattice, rng = confsim.Lattice(grid_size=50.0, dimensions=3), np.random.default_rng(6)
    measured, areas = LinearLeverage(lattice, 0), []
    for trial in range(300):
        ids = lattice.sample(200, rng)
        member = np.zeros(200, dtype=bool)
        member[rng.choice(200, 8, replace=False)] = True
        noise = rng.normal(size=(2, 200))
        areas.append(auc(measured.add(trial, ids, member, *noise), member))
    assert np.mean(areas) == pytest.approx(0.5, abs=4 * np.std(areas) / np.sqrt(300))
    rows = measured.bins()
    assert sum(row["members"] for row in rows) == 300 * 8
    assert [row["leverage_low"] for row in rows] == sorted(row["leverage_low"] for row in rows)
    for row in rows:  # confidence is noise
        assert abs(row["auc_confidence"] - 0.5) < 0.04
    for row in measured.correlations():
        assert abs(row["spearman"]) < 0.05


def test_leverage_of_linear_trials_equals_the_hat_matrix():
    lattice, rng = confsim.Lattice(grid_size=50.0, dimensions=2), np.random.default_rng(7)
    ids = lattice.sample(40, rng)
    member = np.arange(40) % 4 == 0
    found = -LinearLeverage(lattice, 0).add(3, ids, member, np.zeros(40), np.zeros(40))
    points = lattice.points(ids)
    z = np.column_stack([np.ones(40), points])
    for i in np.flatnonzero(member):
        rows = z[member & (np.arange(40) != i)]
        assert found[i] == pytest.approx(z[i] @ np.linalg.solve(rows.T @ rows, z[i]))
    for i in np.flatnonzero(~member):
        each = [np.delete(z[member], j, axis=0) for j in range(10)]
        possible = [z[i] @ np.linalg.solve(rows.T @ rows, z[i]) for rows in each]
        assert np.isclose(found[i], possible).any()


def test_too_few_training_points_have_no_leverage(tmp_path):
    run = confsim.linear.run(trials=2, out=tmp_path / "run", n=4, queries=300, workers=1)
    found = membership_tables(run)
    reasons = found["attacks"].query("target == 'none'").set_index("attack")["reason"]
    assert "every fit without one of them is exact" in reasons["leverage"]
    assert any(note.startswith("leverage: skipped") for note in found.notes)
    assert "leverage_bins" not in found.tables


def test_linear_nulls_follow_the_classes_of_each_trial(tmp_path):
    """Many training points: the formula, with the members of either class."""
    run = confsim.linear.run(
        trials=3, out=tmp_path / "run", n=90, queries=400, same_class=True, bias=300.0, workers=1
    )
    rows = membership_tables(run)["attacks"].set_index(["attack", "target"])["null_auc"]
    experiment = _experiment(run)
    labels = experiment.lattice.labels(experiment.query_ids(), *experiment.ideal)
    for trial in run.trials:
        model = run.trial(trial).model()
        held = experiment.lattice.labels(model["training_ids"], *experiment.ideal)
        members = [int(np.sum(held == side)) for side in (-1, 1)]
        others = [int(np.sum(labels == side)) - m for side, m in zip((-1, 1), members, strict=True)]
        expected = closeness_chance(members, others)
        assert rows["closeness", str(trial)] == pytest.approx(expected)
        summary = run.trial(trial).summary()
        assert summary["auc_closeness_other_null"] == pytest.approx(expected)
        expected = closeness_chance(members, others, matched=True)
        assert rows["closeness_matched", str(trial)] == pytest.approx(expected)
    assert rows["confidence", "mean"] == 0.5


def test_nulls_of_examples_follow_the_classes(tmp_path):
    rng = np.random.default_rng(6)
    label = np.arange(80) // 8
    run = confsim.audit(
        is_member=rng.random((4, 80)) < 0.5,
        label=label,
        logits=rng.normal(size=(4, 80, 10)),
        features=rng.normal(size=(80, 3)),
        same_class=True,
        out=tmp_path / "run",
    )
    rows = membership_tables(run)["attacks"].query("attack == 'closeness'").set_index("target")
    for trial in range(4):
        member = run.trial(trial).table("examples", ["is_member"])["is_member"].to_numpy()
        held = np.bincount(label[member], minlength=10)
        expected = closeness_chance(held, 8 - held)
        assert rows["null_auc"][str(trial)] == pytest.approx(expected)
        summary = run.trial(trial).summary()
        assert summary["auc_closeness_other_null"] == pytest.approx(expected)


def test_attacks_that_are_impossible_are_listed_with_the_reason(tmp_path):
    rng = np.random.default_rng(7)
    member = rng.random((3, 60)) < 0.5
    run = confsim.audit(
        is_member=member,
        label=rng.integers(0, 3, 60),
        logits=rng.normal(size=(3, 60, 3)),
        distance=np.where(member, np.nan, rng.random((3, 60))),
        out=tmp_path / "run",
    )
    found = membership_tables(run)
    rows = found["attacks"].query("target == 'none'").set_index("attack")["reason"]
    assert rows["closeness"] == "known scores are of non-members only"
    assert "no score is known: too few models" in rows["lira_online_own_variance"]
    for name, reason in rows.items():
        assert any(name in note and f": skipped, {reason}" in note for note in found.notes)
        assert list(found["attacks"].query("attack == @name")["target"]) == ["none"]
    one = confsim.audit(
        is_member=member[:1], logits=rng.normal(size=(1, 60, 3)), out=tmp_path / "x"
    )
    rows = membership_tables(one)["attacks"].query("target == 'none'").set_index("attack")["reason"]
    assert {"lira_online_own_variance", "rmia_online", "closeness"} <= set(rows.index)


def test_linear_same_class_and_degenerate_are_read(tmp_path):
    run = confsim.linear.run(
        trials=2, out=tmp_path / "run", n=6, queries=500, same_class=True, workers=1
    )
    plain, matched = linear_scores(run, 1), linear_scores(run, 1, matched=True)
    summary = run.trial(1).summary()
    assert auc(plain.confidence, plain.is_member) == pytest.approx(
        summary["auc_confidence"], abs=summary["auc_error_bound"] + 1e-12
    )
    known = ~np.isnan(matched.closeness)
    assert (matched.closeness[known] <= plain.closeness[known]).all()


def test_linear_runs_too_large_to_pool(linear_run, monkeypatch):
    pooled = membership_tables(linear_run, seed=7)["attacks"].query("target == 'mean'")
    monkeypatch.setattr("confsim.membership.linear._POOLED_LIMIT", 1)
    found = membership_tables(linear_run, seed=8)
    assert any("too many scores to pool" in note for note in found.notes)
    alone = found["attacks"].query("target == 'mean' and attack == 'confidence'")
    expected = pooled.query("attack == 'confidence'")
    assert alone["auc_low"].iloc[0] == pytest.approx(expected["auc_low"].iloc[0])
    monkeypatch.setattr("confsim.membership.linear.QUERIES_LIMIT", 1)
    assert "attacks" not in membership_tables(linear_run, seed=9).tables
    with pytest.raises(confsim.ConfsimError, match="queries"):
        linear_scores(linear_run, 0)
