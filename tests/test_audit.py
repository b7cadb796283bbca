"""confsim.audit and confsim-audit: readers, checks, and the run that comes out."""

import json
import runpy
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import confsim
from confsim import ConfsimWarning
from confsim.cli.audit import main
from confsim.membership import lira, membership_tables, rmia
from confsim.statistics import auc


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
    assert any("lira, rmia: skipped" in note for note in found.notes)
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


def test_probabilities_of_zero_warn(tmp_path):
    given = {"is_member": [0, 1], "label": [0, 1], "probabilities": [[1.0, 0.0], [0.5, 0.5]]}
    with pytest.warns(ConfsimWarning, match="exactly 0"):
        run = confsim.audit(given, out=tmp_path / "run")
    assert np.isfinite(run.examples()["log_odds_true"]).all()


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
    assert {"loss", "lira", "rmia"} <= set(rows[rows["target"] == "none"]["attack"])
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
    ({"confidences": np.zeros(4)}, "unknown column 'confidences'; columns are is_member, label"),
    ({"features": np.full((4, 2), np.inf)}, "features must be finite"),
    ({"features": np.zeros((5, 2))}, "features must have shape"),
    ({"distance": np.array([0, 1, -1, 0])}, "distance must be at least 0 and finite, but row 2"),
    ({"distance": np.zeros(4), "features": np.zeros((4, 2))}, "must not both be given"),
    ({"id": np.array([1, 2, 2, 3])}, "id must not hold a number twice"),
    ({"holdout_logits": np.zeros((5, 3))}, "holdout_logits needs holdout_label"),
    ({"holdout_logits": np.zeros((5, 3)), "holdout_label": np.zeros(4)}, "holdout_label must have"),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_bad_columns(tmp_path, change, words):
    good = {
        "is_member": np.array([0, 1, 0, 1]),
        "label": np.array([0, 1, 2, 1]),
        "probabilities": np.full((4, 3), 1 / 3),
    }
    with pytest.raises(ValueError, match=words):
        confsim.audit(good | change, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"design": "paired"}, "design must be one of"),
        ({"design": "balanced"}, "not trained on complements"),
        ({"percent": 60}, "percent"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_options(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        confsim.audit(outputs(), out=tmp_path / "run", **options)


def test_text_is_no_number(tmp_path):
    with pytest.raises(TypeError, match="label must be numbers"):
        confsim.audit(is_member=[0, 1], label=["a", "b"], confidence=[0.1, 0.2], out=tmp_path / "r")


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
        (lambda p: p / "x.txt", "must be an .npz, .parquet or .csv"),
    ],
)
def test_command_reports_one_line(tmp_path, capsys, make, words):
    assert main([str(make(tmp_path)), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


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
    example = Path(__file__).parents[1] / "examples" / "audit_sklearn.py"
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
