"""confsim.audit and confsim-audit: readers, checks, and the run that comes out."""

import json
import os
import runpy
import signal
import threading
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import confsim
from confsim import ConfsimWarning
from confsim.auditing.experiment import AuditExperiment, AuditSession
from confsim.cli.audit import main
from confsim.membership import lira, membership_tables, rmia
from confsim.statistics import auc
from confsim.store.capabilities import Capabilities


def outputs(models=6, examples=120, classes=4, seed=0):
    """Logits that give members away a little, with features."""
    rng = np.random.default_rng(seed)
    member = rng.random((models, examples)) < 0.5
    label = rng.integers(0, classes, examples)
    hard = 2 * rng.normal(size=examples)
    logits = rng.normal(size=(models, examples, classes))
    logits += ((hard + 1.5 * member)[..., None] + 1) * np.eye(classes)[label]
    features = rng.normal(size=(models, examples, 5)) + np.eye(classes, 5)[label]
    return {"is_member": member, "label": label, "logits": logits, "features": features}


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("design", ["unknown", "independent", "balanced"])
def test_what_can_be_made_of_the_run_is_stated_by_the_experiment(tmp_path, design):
    given = outputs()
    given["is_member"][1::2] = ~given["is_member"][::2]
    run = confsim.audit(given, design=design, out=tmp_path / "run")
    stated = AuditExperiment.capabilities(
        whole := AuditExperiment(
            **{field: tuple(v) if isinstance(v, list) else v for field, v in run.config.items()}
        )
    )
    assert whole.design == design
    assert run.capabilities == Capabilities.of({**run.manifest, "capabilities": stated})
    earlier = {key: v for key, v in run.manifest.items() if key != "capabilities"}
    assert run.capabilities == Capabilities.of(earlier)


def test_one_model(tmp_path):
    given = {name: v if name == "label" else v[0] for name, v in outputs().items()}
    run = confsim.audit(given, out=tmp_path / "run", percent=10)
    assert run.trials == [0]
    assert run.manifest["command"] == "confsim-audit"
    examples, extremes = run.examples(), run.extremes()
    np.testing.assert_array_equal(examples["is_member"], given["is_member"])
    np.testing.assert_allclose(examples["softmax"], softmax(given["logits"]).max(axis=1))
    p = softmax(given["logits"])[np.arange(120), given["label"]]
    np.testing.assert_allclose(examples["log_odds_true"], np.log(p) - np.log1p(-p), rtol=1e-9)
    unit = given["features"] / np.linalg.norm(given["features"], axis=1, keepdims=True)
    cosine = np.clip(unit @ unit[given["is_member"]].T, -1, 1)
    np.testing.assert_allclose(
        examples["distance"][~given["is_member"]],
        np.arccos(cosine).min(axis=1)[~given["is_member"]] / np.pi,
        atol=1e-7,
    )
    assert (examples["distance"][given["is_member"]] == 0).all()
    assert (examples["distance_excluding_self"][given["is_member"]] > 0).all()
    assert len(extremes) == 24
    assert extremes["softmax"].iloc[:12].max() < extremes["softmax"].iloc[12:].min()
    assert run.joint()["including_self"][0].sum() == 120
    found = membership_tables(run)
    assert "vulnerability" not in found.tables
    assert any("rmia_online" in n and "at least three trials" in n for n in found.notes)
    row = found["attacks"].query("attack == 'loss' and target == '0'").iloc[0]
    assert row["auc"] == pytest.approx(auc(examples["log_odds_true"], examples["is_member"]))


def test_same_call_same_run(tmp_path):
    first = confsim.audit(outputs(), out=tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run/trials").glob("*/*")}
    again = confsim.audit(outputs(), out=tmp_path / "run")
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "run/trials").glob("*/*")}
    assert first.identity_hash == again.identity_hash
    with pytest.raises(ValueError, match="another identity"):
        confsim.audit(outputs(seed=1), out=tmp_path / "run")
    replaced = confsim.audit(outputs(seed=1), out=tmp_path / "run", overwrite=True)
    assert replaced.identity_hash != first.identity_hash


def test_many_models_give_the_attacks_on_arrays(tmp_path):
    given = outputs()
    rng = np.random.default_rng(9)
    holdout = rng.normal(size=(6, 30, 4))
    run = confsim.audit(
        given,
        design="independent",
        holdout_logits=holdout,
        holdout_label=rng.integers(0, 4, 30),
        out=tmp_path / "run",
    )
    found = membership_tables(run)
    shape = given["is_member"].shape
    log_odds = run.examples()["log_odds_true"].to_numpy().reshape(shape)
    others = run.holdout()["log_odds_true"].to_numpy().reshape(6, 30)
    pooled = found["attacks"].query("target == 'pooled'").set_index("attack")["auc"]
    member = given["is_member"]
    for name, scores in {
        "lira_online_fixed_variance": lira(log_odds, member),
        "lira_offline_own_variance": lira(log_odds, member, online=False, fixed_variance=False),
        "rmia_online": rmia(log_odds, member, holdout_log_odds=others),
    }.items():
        known = ~np.isnan(scores)
        assert pooled[name] == pytest.approx(auc(scores[known], member[known]), abs=1e-12), name
    trimmed = membership_tables(confsim.audit(given, out=tmp_path / "trimmed"))
    assert any("trimmed" in note for note in trimmed.notes)


def write_text(path, text):
    path.write_text(text)
    return path


def write_folder(path, given):
    path.mkdir()
    for name, values in given.items():
        np.save(path / f"{name}.npy", values)
    return path


def write_npz(path, given):
    path = path.with_suffix(".npz")
    np.savez(path, **given)
    return path


def as_table(given):
    frames = []
    for model, member in enumerate(given["is_member"]):
        columns = {"trial": model, "id": np.arange(len(member)), "is_member": member.astype(int)}
        columns["label"] = given["label"]
        for name, wide in (("logit", "logits"), ("feature", "features")):
            values = given[wide][model]
            columns |= {f"{name}_{k}": values[:, k] for k in range(values.shape[1])}
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames).sample(frac=1, random_state=0)


def write_parquet(path, given):
    path = path.with_suffix(".parquet")
    as_table(given).to_parquet(path)
    return path


def write_csv(path, given):
    path = path.with_suffix(".csv")
    as_table(given).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("write", [write_folder, write_npz, write_parquet, write_csv])
def test_formats_agree(tmp_path, write):
    given = outputs(models=3, examples=40)
    expected = confsim.audit(given, out=tmp_path / "expected").examples()
    found = confsim.audit(write(tmp_path / "data", given), out=tmp_path / "run").examples()
    pd.testing.assert_frame_equal(found, expected, rtol=1e-12)


def test_probabilities_give_what_logits_give(tmp_path):
    given = outputs(models=2)
    expected = confsim.audit(given, out=tmp_path / "a").examples()
    given["probabilities"] = softmax(given.pop("logits"))
    found = confsim.audit(given, out=tmp_path / "b").examples()
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9)


def log_odds(p, label, floor=0.0):
    true = np.take_along_axis(p, np.broadcast_to(label[..., None], (*p.shape[:-1], 1)), axis=-1)
    rest = p.sum(axis=-1, keepdims=True) - true
    return (np.log(true + floor) - np.log(np.maximum(rest, 0) + floor))[..., 0]


def votes_of(given, voters):
    """Let voters choose classes by the models' probabilities; return their shares."""
    p = softmax(given.pop("logits"))
    drawn = np.random.default_rng(4).multinomial(voters, p)
    assert (drawn == 0).any()
    return drawn / voters


def test_zeros_become_half_the_smallest_other_probability(tmp_path):
    given = outputs()
    p = votes_of(given, 10)
    with pytest.warns(ConfsimWarning, match="probabilities are exactly 0.* replaced by 0.05"):
        run = confsim.audit(given, probabilities=p, out=tmp_path / "run", design="independent")
    clipped = np.where(p == 0, 0.05, p)
    found = run.examples()["log_odds_true"].to_numpy().reshape(p.shape[:2])
    np.testing.assert_allclose(found, log_odds(clipped, given["label"]), rtol=1e-9, atol=1e-12)
    # The attack that fits densities to log-odds sees no outliers of the floor's making.
    by_floor = lira(log_odds(p, given["label"], floor=1e-45), given["is_member"])
    by_clip = lira(found, given["is_member"])
    known = ~np.isnan(by_clip)
    member = given["is_member"][known]
    assert auc(by_clip[known], member) > auc(by_floor[known], member)
    note = f"{np.count_nonzero(p == 0):,} of {p.size:,} probabilities are exactly 0"
    assert any(note in words for words in membership_tables(run).notes)
    assert run.manifest["identity"]["zeros_replaced_by"] == 0.05


def test_votes_are_smoothed(tmp_path):
    given = outputs()
    p = votes_of(given, 10)
    holdout = {"holdout_label": given["label"], "holdout_probabilities": p}
    for smoothing in (None, 2.0):
        added = 0.5 if smoothing is None else smoothing
        run = confsim.audit(
            given,
            probabilities=p,
            votes=10,
            smoothing=smoothing,
            out=tmp_path / f"run{added}",
            **holdout,
        )
        expected = log_odds((10 * p + added) / (10 + added * 4), given["label"])
        for table in (run.examples(), run.holdout()):
            found = table["log_odds_true"].to_numpy().reshape(p.shape[:2])
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
        assert f"shares of 10 votes, with {added:g} more" in " ".join(run.config["notes"])
        assert run.config["votes"] == 10
    assert run.manifest["identity"]["smoothing"] == 2.0


def test_rounded_probabilities_are_divided_by_their_sum(tmp_path):
    given = outputs(models=1)
    label, p = given["label"], 0.9 * softmax(given.pop("logits")) + 0.025
    for name, values in {"rounded": p.round(2), "off": 1.004 * p / p.sum(2, keepdims=True)}.items():
        with pytest.warns(ConfsimWarning, match="miss a sum of 1 by up to 0.0"):
            run = confsim.audit(given, probabilities=values, out=tmp_path / name)
        expected = log_odds(values / values.sum(axis=2, keepdims=True), label)
        np.testing.assert_allclose(
            run.examples()["log_odds_true"], expected[0], rtol=1e-9, atol=1e-12
        )


def test_one_column_of_a_binary_model_is_that_of_class_1(tmp_path):
    given = outputs(models=2, classes=2)
    both = confsim.audit(given, out=tmp_path / "both").examples()
    z = given.pop("logits")
    for name, one in {
        "logits": {"logits": z[..., 1] - z[..., 0]},
        "a last axis": {"logits": (z[..., 1] - z[..., 0])[..., None]},
        "probabilities": {"probabilities": softmax(z)[..., 1]},
    }.items():
        run = confsim.audit(given, **one, out=tmp_path / name)
        pd.testing.assert_frame_equal(run.examples(), both, rtol=1e-8)
        assert "taken as class 1's" in " ".join(run.config["notes"])


def test_a_loss_gives_log_odds(tmp_path):
    given = outputs()
    expected = confsim.audit(given, out=tmp_path / "logits").examples()
    del given["logits"]
    loss = expected["loss"].to_numpy().reshape(6, 120)
    run = confsim.audit(given, loss=loss, out=tmp_path / "loss", design="independent")
    found = run.examples()
    np.testing.assert_allclose(found["log_odds_true"], expected["log_odds_true"], rtol=1e-9)
    np.testing.assert_array_equal(found["loss"], expected["loss"])
    assert "lira_online_fixed_variance" in set(membership_tables(run)["attacks"]["attack"])
    with pytest.raises(ValueError, match="loss must be at least 0, but row 3"):
        confsim.audit(given, loss=np.where(np.arange(120) == 3, -1.0, loss), out=tmp_path / "no")


def test_any_score_is_attacked(tmp_path):
    member = outputs()["is_member"]
    rng = np.random.default_rng(5)
    statistic = 1000 * (rng.normal(size=120) + rng.normal(size=member.shape) + member)
    run = confsim.audit(
        is_member=member, statistic=statistic, out=tmp_path / "run", design="independent"
    )
    found = membership_tables(run)["attacks"].query("target == 'pooled'").set_index("attack")["auc"]
    assert found["loss"] == pytest.approx(auc(statistic.ravel(), member.ravel()))
    scores = lira(statistic, member)
    known = ~np.isnan(scores)
    assert found["lira_online_fixed_variance"] == pytest.approx(auc(scores[known], member[known]))
    assert run.summary()["ranked_by"].unique().tolist() == ["log_odds_true"]


def test_examples_of_no_group_have_no_duplicates(tmp_path):
    given = outputs(models=1)
    groups = np.arange(120) // 2
    for name, marked in {
        "-1": np.where(groups < 3, groups, -1),
        "NaN": np.where(groups < 3, groups, np.nan),
        "text": np.where(groups < 3, groups.astype(str), ""),
        "NA": np.where(groups < 3, groups.astype(str), "NA"),
        "a text": np.where(groups < 3, np.char.add("g", groups.astype(str)), "#N/A"),
    }.items():
        run = confsim.audit(given, duplicate_group=marked, out=tmp_path / name)
        found = run.population()["duplicate_group"].to_numpy()
        same = found[:, None] == found
        np.testing.assert_array_equal(same[:6, :6], (groups[:, None] == groups)[:6, :6])
        np.testing.assert_array_equal(same[6:, 6:], np.eye(114, dtype=bool))
        assert not same[:6, 6:].any()


def test_confidence_and_distance_are_enough_for_something(tmp_path):
    rng = np.random.default_rng(1)
    member = rng.random(50) < 0.5
    run = confsim.audit(
        is_member=member, confidence=rng.random(50), distance=rng.random(50), out=tmp_path / "run"
    )
    assert (run.examples()["distance"][member] == 0).all()
    found = membership_tables(run)
    rows = found["attacks"]
    assert set(rows[rows["target"] != "none"]["attack"]) == {"confidence", "closeness"}
    unknown = set(rows[rows["target"] == "none"]["attack"])
    assert {"loss", "lira_online_own_variance", "rmia_online", "attack_p"} <= unknown
    assert any("the run has no log_odds_true" in note for note in found.notes)
    assert any("no predictions" in note for note in found.notes)
    null = found["attacks"].query("attack == 'closeness'")["null_auc"].iloc[0]
    assert null == pytest.approx((member.sum() - 1) / (2 * member.sum() - 1))


@pytest.mark.parametrize("kind", ["scores", "logits"])
def test_layout_of_published_lira_code(tmp_path, kind):
    rng = np.random.default_rng(2)
    keep = rng.random((5, 60)) < 0.5
    labels = rng.integers(0, 3, 60)
    logits = rng.normal(size=(5, 60, 1, 2, 3)) + 2 * np.eye(3)[labels][None, :, None, None]
    p = softmax(logits)[:, :, 0]
    true = np.take_along_axis(p, labels[None, :, None, None], axis=3)[..., 0]
    scores = np.log(true) - np.log(1 - true)
    for model in range(5):
        folder = tmp_path / "exp" / f"experiment-{model}_5"
        (folder / kind).mkdir(parents=True)
        np.save(folder / "keep.npy", keep[model])
        np.save(folder / kind / "0000000050.npy", np.zeros(1))  # an earlier checkpoint
        np.save(
            folder / kind / "0000000100.npy", scores[model] if kind == "scores" else logits[model]
        )
    np.save(tmp_path / "exp" / "y_train.npy", labels)
    run = confsim.audit(tmp_path / "exp", out=tmp_path / "run", design="independent")
    views = run.table("augmented").sort_values(["trial", "id", "augmentation"])["log_odds_true"]
    np.testing.assert_allclose(views.to_numpy().reshape(5, 60, 2), scores, rtol=1e-9)
    found = membership_tables(run)["attacks"].query("target == 'pooled'").set_index("attack")
    expected = lira(scores, keep)
    known = ~np.isnan(expected)
    truth = auc(expected[known], keep[known])
    assert found["auc"]["lira_online_augmented"] == pytest.approx(truth, abs=1e-12)


def test_duplicates_and_a_fixed_space(tmp_path):
    given = outputs(models=8)
    given["duplicate_group"] = np.arange(120) // 2 * (np.arange(120) < 20) + 1000 * (
        np.arange(120) >= 20
    ) * np.arange(120)
    run = confsim.audit(given, out=tmp_path / "run", design="independent")
    space = tmp_path / "space.npy"
    np.save(space, np.random.default_rng(3).normal(size=(120, 6)))
    found = membership_tables(run, features=space)
    assert found["vulnerability"]["has_duplicate"].sum() == 20
    kinds = found["vulnerability_correlations"]
    assert set(kinds["examples"]) == {"all", "without duplicates"}
    counts = kinds.query("examples == 'without duplicates' and vulnerability == 'exposure'")
    assert set(counts["count"]) <= set(range(90, 101))
    assert {"fixed_distance", "fixed_distance_other_group"} <= set(kinds["similarity"])
    np.save(space, np.zeros((7, 6)))
    with pytest.raises(ValueError, match="features"):
        membership_tables(run, features=space)


BAD = [
    ({"is_member": np.array([0, 1, 2, 1])}, "is_member must be 0 or 1, but row 2 is 2"),
    ({"is_member": np.ones(4)}, "model 0 has no non-member"),
    ({"is_member": np.zeros((4, 2, 2))}, "is_member must have shape"),
    ({"label": np.array([0, 1, 1])}, r"label must have shape \(4,\)"),
    ({"label": np.array([0, 1, 5, 1])}, "label must be below 3, but row 2 is 5"),
    ({"label": np.array([0, 1, 0.5, 1])}, "label must be whole numbers, but row 2"),
    ({"label": np.array([0, -1, 0, 1])}, "label must be at least 0, but row 1"),
    ({"probabilities": np.zeros((3, 3))}, r"probabilities must have shape \(examples, classes\)"),
    ({"probabilities": np.full((4, 3), 0.4)}, "probabilities must be .* row 0 .* add up to 1.2"),
    ({"probabilities": np.array([[0.5, 0.5, np.nan]] * 4)}, "probabilities must be finite"),
    ({"logits": np.zeros((4, 3))}, "must not be given together"),
    ({"confidences": np.zeros(4)}, "unknown column 'confidences': did you mean 'confidence'"),
    ({"features": np.full((4, 2), np.inf)}, "features must be finite"),
    ({"features": np.zeros((5, 2))}, "features must have shape"),
    ({"distance": np.array([0, 1, -1, 0])}, "distance must be at least 0 and finite, but row 2"),
    ({"distance": np.zeros(4), "features": np.zeros((4, 2))}, "must not both be given"),
    ({"id": np.array([1, 2, 2, 3])}, "id must hold each example once, but 2 is"),
    ({"id": np.array(["a", "b ", "b", "c"])}, "id holds 'b' with and without blanks .* row 1"),
    ({"label": ["a", "b", " b", "c"]}, "label holds 'b' with and without blanks .* row 2"),
    ({"duplicate_group": ["a", "b ", "b", ""]}, "duplicate_group holds 'b' with and without"),
    ({"group": ["a\0", "a", None, "b"]}, "group must not end in NUL, but row 0 does"),
    ({"id": np.arange(4).astype("M8[D]")}, "id must be numbers or text, not dates"),
    ({"distance": np.array([True, False, True, False])}, "distance must be numbers, not true or"),
    ({"probabilities": None, "logits": np.eye(4, 3) > 0}, "logits must be numbers, not true or"),
    (
        {"is_member": np.array([[1, 0, 1, 0]])},
        r"probabilities must have shape .* \(1, 4\), not \(4, 3\)",
    ),
    ({"id": np.array([0, 1, 2, 1e300])}, r"id must be below 2\*\*53 .* row 3 is 1e\+300"),
    ({"id": np.arange(4, dtype=np.uint64) + np.uint64(2**63)}, r"id must be below 2\*\*63"),
    ({"label": np.array([1, 2, 3, 1])}, "must be below 3, but row 2 is 3; classes count from 0"),
    ({"probabilities": np.full((4, 3), 100 / 3)}, "add up to 100 .percent: divide by 100"),
    ({"is_member": np.array([[0], [1], [0], [1]])}, "is_member must have shape"),
    ({"features": np.zeros((4, 0))}, "features must have at least one column"),
    ({"features": np.full((4, 2), 2**60)}, "features holds integers beyond"),
    ({"features": np.ma.masked_equal(np.eye(4), 1)}, "must not hold masked values, but row 0"),
    ({"holdout_logits": np.zeros((5, 3))}, "holdout_logits needs holdout_label"),
    ({"holdout_logits": np.zeros((5, 3)), "holdout_label": np.zeros(4)}, "holdout_label must have"),
]


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("logits", softmax(np.random.default_rng(0).normal(size=(24, 3))), "add up to 1 for each"),
        ("logits", np.full((24, 3), 1e200), r"at most 1e\+100 in size, but row 0 holds 1e\+200"),
        ("statistic", np.r_[np.zeros(20), -1e300, np.zeros(3)], r"row 20 holds -1e\+300"),
    ],
)
def test_scores_that_are_something_else(tmp_path, name, values, words):
    member = np.arange(24) % 2
    with pytest.raises(ValueError, match=words):
        confsim.audit(is_member=member, label=member, out=tmp_path / "run", **{name: values})


def test_a_binary_model_may_have_logits_between_0_and_1(tmp_path):
    logits, member = np.random.default_rng(0).random(24), np.arange(24) % 2
    with pytest.warns(confsim.ConfsimWarning, match="if they are probabilities, give them as such"):
        run = confsim.audit(is_member=member, label=member, logits=logits, out=tmp_path / "run")
    kept = run.trial(0).table("examples")["log_odds_true"].to_numpy()
    np.testing.assert_allclose(kept, np.where(member, logits, -logits), rtol=1e-6)


def test_true_of_numpy_is_true(tmp_path):
    run = confsim.audit(outputs(), out=tmp_path / "run", same_class=np.True_)
    assert run.config["same_class"] is True


def test_one_hot_labels_are_named(tmp_path):
    given = outputs()
    given["label"] = np.eye(4)[given["label"]]
    with pytest.raises(ValueError, match=r"of one-hot labels take argmax"):
        confsim.audit(given, out=tmp_path / "run")


def test_swapped_labels_and_logits_are_named(tmp_path):
    given = outputs()
    given["label"], given["logits"] = given["logits"][0], given["label"]
    with pytest.raises(ValueError, match=r"as of logits or probabilities: are the two swapped\?"):
        confsim.audit(given, out=tmp_path / "run")


def test_one_probability_cannot_tell_three_classes_apart(tmp_path):
    given = outputs(models=1, classes=3)
    given = {name: v if name == "label" else v[0] for name, v in given.items()}
    given["probabilities"] = softmax(given.pop("logits")).max(axis=1)
    with pytest.raises(ValueError, match=r"label holds 3 classes.*the largest probability is conf"):
        confsim.audit(given, out=tmp_path / "run")


def test_a_warning_points_at_the_call(tmp_path):
    logits, member = np.random.default_rng(0).random(24), np.arange(24) % 2
    with pytest.warns(confsim.ConfsimWarning) as caught:
        confsim.audit(is_member=member, label=member, logits=logits, out=tmp_path / "run")
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]


class TestObjectsOfPandas:
    """One model's outputs, as frames and series."""

    def given(self):
        found = {name: v if name == "label" else v[0] for name, v in outputs(models=1).items()}
        return {name: found[name] for name in ("is_member", "label", "logits")}

    def log_odds(self, folder, **given):
        run = confsim.audit(**given, out=folder)
        return run.trial(0).table("examples")["log_odds_true"].to_numpy()

    def test_the_same_index_in_different_orders_is_refused(self, tmp_path):
        given = self.given()
        label = pd.Series(given["label"])
        given |= {"is_member": pd.Series(given["is_member"]), "label": label[::-1]}
        words = r"label and is_member have the same index in different orders: give label\.loc\["
        with pytest.raises(ValueError, match=words):
            confsim.audit(**given, out=tmp_path / "run")
        with pytest.raises(ValueError, match=words):
            confsim.audit(given, out=tmp_path / "run")

    def test_indexes_of_other_rows_say_nothing(self, tmp_path):
        plain = self.given()
        given = dict(plain, is_member=pd.Series(plain["is_member"], index=np.arange(120) + 7))
        given["label"] = pd.Series(plain["label"])
        found = self.log_odds(tmp_path / "pandas", **given)
        np.testing.assert_array_equal(found, self.log_odds(tmp_path / "plain", **plain))

    @pytest.mark.parametrize("names", [[2, 0, 3, 1], ["2", "0", "3", "1"], ["c", "a", "d", "b"]])
    def test_columns_called_by_class_are_these_classes(self, tmp_path, names):
        plain = self.given()
        kinds = np.array(sorted(names))
        order = [sorted(names).index(name) for name in names]
        frame = pd.DataFrame(plain["logits"][:, order], columns=names)
        given = dict(plain, label=pd.Series(kinds[plain["label"]]), logits=frame)
        found = self.log_odds(tmp_path / "pandas", **given)
        np.testing.assert_array_equal(found, self.log_odds(tmp_path / "plain", **plain))

    def test_classes_with_gaps_have_their_columns(self, tmp_path):
        plain = self.given()
        classes = np.array([1, 4, 5, 9])
        frame = pd.DataFrame(plain["logits"], columns=classes)
        given = dict(plain, label=classes[plain["label"]], logits=frame)
        found = self.log_odds(tmp_path / "pandas", **given)
        np.testing.assert_array_equal(found, self.log_odds(tmp_path / "plain", **plain))

    def test_columns_called_by_something_else_count_from_0(self, tmp_path):
        plain = self.given()
        frame = pd.DataFrame(plain["logits"], columns=["p0", "p1", "p2", "p3"])
        found = self.log_odds(tmp_path / "pandas", **dict(plain, logits=frame))
        np.testing.assert_array_equal(found, self.log_odds(tmp_path / "plain", **plain))


def test_text_is_neither_true_nor_false(tmp_path):
    with pytest.raises(TypeError, match="same_class must be True or False, not 'no'"):
        confsim.audit(outputs(), out=tmp_path / "run", same_class="no")
    with pytest.raises(TypeError, match="same_class must be True or False, not 'no'"):
        confsim.linear.run(n=5, queries=100, out=tmp_path / "run", same_class="no")


@pytest.mark.parametrize(("change", "words"), BAD)
def test_bad_columns(tmp_path, change, words):
    good = {
        "is_member": np.array([0, 1, 0, 1]),
        "label": np.array([0, 1, 2, 1]),
        "probabilities": np.full((4, 3), 1 / 3),
    }
    with pytest.raises((ValueError, TypeError), match=words):
        confsim.audit(good | change, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"design": "paired"}, "design must be one of"),
        ({"design": "balanced"}, "not trained on complements"),
        ({"percent": 60}, "percent"),
        ({"votes": 10}, "votes needs probabilities"),
        ({"smoothing": 1.0}, "smoothing needs votes"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_options(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        confsim.audit(outputs(), out=tmp_path / "run", **options)


@pytest.mark.parametrize(
    ("typo", "meant"), [("lable", "label"), ("threads", "n_threads"), ("score", "statistic")]
)
def test_a_keyword_that_there_is_not(typo, meant):
    words = rf"audit\(\) has no argument '{typo}': did you mean '{meant}'"
    with pytest.raises(TypeError, match=words):
        confsim.audit(is_member=[0, 1], **{typo: [0, 1]})


def test_text_is_no_number(tmp_path):
    with pytest.raises(TypeError, match="confidence must be numbers, but row 1 is 'high'"):
        confsim.audit(is_member=[0, 1], confidence=["0.1", "high"], out=tmp_path / "r")


def test_command(tmp_path, capsys):
    data = write_npz(tmp_path / "data", outputs())
    assert main([str(data), "--out", str(tmp_path / "run"), "--design", "independent"]) == 0
    text = capsys.readouterr().out
    assert "lira_online_fixed_variance" in text
    assert "Spearman" in text
    assert (
        main([str(data), "--out", str(tmp_path / "run"), "--design", "independent", "--json"]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["trials"] == 6
    assert told["attacks"][0]["auc"] >= told["attacks"][-1]["auc"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "absent.npz", "cannot be read"),
        (lambda p: write_folder(p / "empty", {}), "holds no .npy files"),
        (lambda p: write_folder(p / "typo", {"is_member": [0, 1], "lable": [0, 1]}), "'lable'"),
        (lambda p: write_text(p / "x.dat", "?"), "must be an .npz, .parquet, .feather or .csv"),
    ],
)
def test_command_reports_one_line(tmp_path, capsys, make, words):
    assert main([str(make(tmp_path)), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("workers", ["0", "100000"])
def test_workers_are_bounded_by_name(tmp_path, capsys, workers):
    data = write_npz(tmp_path / "data", outputs())
    assert main([str(data), "--out", str(tmp_path / "run"), "--workers", workers]) == 2
    assert capsys.readouterr().err.startswith("confsim-audit: error: workers must be at ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_one_line(tmp_path, capsys, monkeypatch, number):
    data = write_npz(tmp_path / "data", outputs())
    similarity = AuditSession._similarity

    def signalled(session, trial):
        if trial == 2:
            os.kill(os.getpid(), number)
            threading.Event().wait(0.5)
        return similarity(session, trial)

    monkeypatch.setattr(AuditSession, "_similarity", signalled)
    command = [str(data), "--out", str(tmp_path / "run")]
    assert main(command) == os.EX_TEMPFAIL
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "of 6 trials are done and kept" in captured.err
    assert captured.err.count("\n") == 1
    assert not list((tmp_path / "run" / "trials").glob(".tmp-*"))
    monkeypatch.undo()
    assert main(command) == 0


def test_a_bad_space_is_refused_before_anything_is_made(tmp_path, capsys):
    data = write_npz(tmp_path / "data", outputs())
    np.save(tmp_path / "space.npy", np.zeros((7, 6)))
    (tmp_path / "empty.npy").write_bytes(b"")
    for name, words in {
        "space.npy": "must have a row for each of the 120 examples, not 7 rows",
        "empty.npy": "cannot be read as .npy",
        "absent.npy": "No such file",
    }.items():
        run = tmp_path / "run"
        assert main([str(data), "--out", str(run), "--features", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert name in error
        assert not run.exists()


def test_broken_files(tmp_path):
    for name in ("a.npz", "a.parquet", "a.csv"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(ValueError, match=rf"{name} cannot be read"):
            confsim.audit(tmp_path / name, out=tmp_path / "run")


def test_uneven_trials_of_a_table(tmp_path):
    table = as_table(outputs(models=2, examples=10)).iloc[:-1]
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match="each must have every id once"):
        confsim.audit(tmp_path / "t.csv", out=tmp_path / "run")


def test_example(tmp_path, monkeypatch, capsys):
    example = Path(__file__).parents[2] / "examples" / "audit_sklearn.py"
    code = [x for x in example.read_text().splitlines() if x.strip()]
    assert len(code) < 30
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConfsimWarning)
        runpy.run_path(str(example))
    assert "rises with distance" in capsys.readouterr().out


def test_logits_that_the_deep_pipeline_saved_give_the_numbers_of_its_run(tmp_path):
    pytest.importorskip("keras")
    run = confsim.deep.run(
        dataset="digits",
        limit=400,
        trials=4,
        model="softmax",
        epochs=3,
        early_stopping="off",
        save_logits=True,
        workers=1,
        out=tmp_path / "deep",
    )
    saved = [run.trial(trial).arrays("logits") for trial in run.trials]
    member = np.stack([arrays["is_member"] for arrays in saved])
    distance = run.examples()["distance_excluding_self"].to_numpy()
    audited = confsim.audit(
        is_member=member,
        label=saved[0]["label"],
        id=saved[0]["id"],
        logits=np.stack([arrays["logits"] for arrays in saved]),
        distance=distance.reshape(member.shape),
        holdout_log_odds_true=run.holdout()["log_odds_true"].to_numpy().reshape(4, -1),
        design="independent",
        out=tmp_path / "audit",
    )
    expected, found = membership_tables(run), membership_tables(audited)
    pd.testing.assert_frame_equal(found["attacks"], expected["attacks"])
    pd.testing.assert_frame_equal(found["memorization"], expected["memorization"])
    same = ["exposure", "effect_size", "distance_out", "distance_in"]
    pd.testing.assert_frame_equal(found["vulnerability"][same], expected["vulnerability"][same])
    same = ["auc_confidence", "auc_closeness_other", "top_membership_rate", "spearman_self"]
    pd.testing.assert_frame_equal(audited.summary()[same], run.summary()[same])
