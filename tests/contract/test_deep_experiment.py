"""The deep pipeline end to end, on small data: what is stored, repeatability, bad input."""

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import confsim
from confsim.cli.deep import main
from confsim.deep import backend as backends
from confsim.deep import datasets
from confsim.deep.experiment import DeepExperiment
from confsim.seeds import Purpose


def installed(name):
    return all(importlib.util.find_spec(package) for package in (name, "keras"))


BACKEND = next((name for name in backends.BACKENDS if installed(name)), None)
needs_keras = pytest.mark.skipif(BACKEND is None, reason="no Keras backend is installed")

QUICK = {
    "limit": 400,
    "model": "mlp",
    "epochs": 4,
    "batch_size": 50,
    "hidden": 12,
    "backend": BACKEND,
    "seed": 7,
}


#: Training as the literature does it; none of it is a default.
PUBLISHED = {
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "schedule": "one-cycle",
    "warmup": 1.5,
    "weight_decay": 0.001,
    "clip_norm": 1.0,
    "ema": 0.9,
    "label_smoothing": 0.1,
    "augment": "weak",
    "cutout": 3,
    "precision": "bfloat16",
    "query_augment": 2,
}


def flags(**settings):
    words = []
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, str(value)]
    return words


def published(run):
    """Every stored byte of every trial, but trial.json."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted((Path(run) / "trials").rglob("*"))
        if path.is_file() and path.name != "trial.json"
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    if BACKEND is None:
        pytest.skip("no Keras backend is installed")
    out = tmp_path_factory.mktemp("deep") / "run"
    settings = {
        **QUICK,
        "query_augment": 3,
        "save_logits": True,
        "save_features": True,
        "save_model": True,
    }
    return confsim.deep.run(trials=3, out=out, workers=1, **settings)


class TestStored:
    def test_members_queries_and_holdout_are_disjoint(self, run):
        population = run.population()
        held = set(population["id"][population["split"] == "holdout"])
        queried = set(population["id"][population["split"] == "population"])
        assert len(held) == 40
        assert len(population) == 400
        examples = run.examples()
        for trial in range(3):
            rows = examples[examples["trial"] == trial]
            assert set(rows["id"]) == queried
            assert not set(rows["id"]) & held
            assert rows["is_member"].sum() == 180
            members = set(rows["id"][rows["is_member"]])
            assert set(rows["nearest_id"]) <= members
            assert (rows["nearest_id"] != rows["id"]).all()
        assert set(run.holdout()["id"]) == held

    def test_distances(self, run):
        examples = run.examples()
        member = examples["is_member"]
        assert (examples["distance"][member] == 0).all()
        others = examples[~member]
        assert (others["distance"] == others["distance_excluding_self"]).all()
        assert (others["distance"] > 0).all()
        assert (examples["distance_excluding_self"] <= 1).all()

    def test_columns_follow_from_the_saved_logits(self, run):
        examples = run.examples(trials=[1])
        with np.load(run.path / "trials" / "000001" / "logits.npz") as saved:
            logits = saved["logits"].astype(np.float64)
            assert np.array_equal(saved["id"], examples["id"])
            assert np.array_equal(saved["is_member"], examples["is_member"])
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        assert np.allclose(examples["softmax"], p.max(axis=1))
        true = p[np.arange(len(p)), examples["label"]]
        assert np.allclose(examples["loss"], -np.log(true))
        assert np.allclose(examples["log_odds_true"], np.log(true / (1 - true)))
        assert np.array_equal(examples["predicted"], logits.argmax(axis=1))

    def test_saved_model_gives_the_saved_logits(self, run):
        with np.load(run.path / "trials" / "000002" / "model.npz") as saved:
            model = {name: saved[name] for name in saved.files}
        with np.load(run.path / "trials" / "000002" / "logits.npz") as saved:
            logits, ids = saved["logits"], saved["id"]
        images = datasets.load("digits").images[ids]
        x = ((images - model["mean"]) * model["scale"]).reshape(len(images), -1)
        layers = [value for name, value in model.items() if "kernel" in name or "bias" in name]
        hidden = np.tanh(x @ layers[0] + layers[1])
        assert np.allclose(hidden @ layers[2] + layers[3], logits, atol=1e-4)
        examples = run.examples(trials=[2])
        assert set(model["training_ids"]) == set(examples["id"][examples["is_member"]])

    def test_features_are_the_space_of_the_distances(self, run):
        examples = run.examples(trials=[0])
        with np.load(run.path / "trials" / "000000" / "features.npz") as saved:
            x = saved["features"].astype(np.float64)
        x /= np.sqrt((x * x).sum(axis=1, keepdims=True))
        member = examples["is_member"].to_numpy()
        angle = np.arccos(np.clip(x @ x[member].T, -1, 1)) / np.pi
        angle[np.flatnonzero(member), np.arange(member.sum())] = np.inf
        assert np.allclose(angle.min(axis=1), examples["distance_excluding_self"], atol=1e-7)

    def test_augmented_scores(self, run):
        table = _table(run, 0, "augmented")
        assert sorted(set(table["augmentation"])) == [0, 1, 2]
        examples = run.examples(trials=[0])
        plain = table[table["augmentation"] == 0]
        assert np.array_equal(plain["log_odds_true"], examples["log_odds_true"])
        assert not np.array_equal(
            table[table["augmentation"] == 1]["log_odds_true"], plain["log_odds_true"]
        )

    def test_summary(self, run):
        summary = run.summary()
        examples = run.examples()
        for trial, row in enumerate(summary.to_dict("records")):
            rows = examples[examples["trial"] == trial]
            right = rows["label"] == rows["predicted"]
            assert row["member_accuracy"] == pytest.approx(right[rows["is_member"]].mean())
            assert row["non_member_accuracy"] == pytest.approx(right[~rows["is_member"]].mean())
            assert row["epochs"] == 4
            assert 0 <= row["auc_confidence"] <= 1
        assert run.images().shape == (400, 8, 8, 1)

    def test_extremes_are_the_lowest_and_highest_log_odds(self, run):
        extremes, examples = run.extremes(trials=[0]), run.examples(trials=[0])
        order = examples.sort_values(["log_odds_max", "id"])
        assert extremes["id"][extremes["side"] == "bottom"].tolist() == order["id"][:18].tolist()
        order = examples.sort_values(["log_odds_max", "id"], ascending=[False, True])
        assert extremes["id"][extremes["side"] == "top"].tolist() == order["id"][:18].tolist()


def _table(run, trial, name):
    import pandas as pd

    return pd.read_parquet(run.path / "trials" / f"{trial:06d}" / f"{name}.parquet")


@needs_keras
class TestRepeatable:
    def test_any_number_of_workers(self, run, tmp_path):
        settings = {
            **QUICK,
            "query_augment": 3,
            "save_logits": True,
            "save_features": True,
            "save_model": True,
        }
        again = confsim.deep.run(trials=3, out=tmp_path / "run", workers=2, **settings)
        assert published(again.path) == published(run.path)

    def test_any_number_of_workers_with_the_settings_of_the_literature(self, tmp_path):
        one, two = (
            confsim.deep.run(
                trials=3, out=tmp_path / f"{workers}", workers=workers, **{**QUICK, **PUBLISHED}
            )
            for workers in (1, 2)
        )
        assert published(one.path) == published(two.path)

    @pytest.mark.parametrize("chosen", [{}, PUBLISHED], ids=["usual", "of the literature"])
    def test_killed_inside_a_trial(self, chosen, tmp_path):
        """Kill the whole group while checkpoints appear; the same command ends the same."""
        settings = {**QUICK, "model": "cnn", "epochs": 12, "early_stopping": "off", **chosen}
        words = [*flags(**settings), "--trials", "2", "--workers", "1", "--quiet"]
        calm = tmp_path / "calm"
        assert main([*words, "--out", str(calm), "--csv"]) == 0
        killed = tmp_path / "killed"
        command = "import sys; from confsim.cli.deep import main; sys.exit(main())"
        child = subprocess.Popen(
            [sys.executable, "-c", command, *words, "--out", str(killed)],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 120
            while not list(killed.rglob("epoch.npz")):
                assert time.monotonic() < deadline
                assert child.poll() is None, "it ended before it could be killed"
                time.sleep(0.005)
        finally:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        assert not list(killed.glob("trials/000001/trial.json"))
        assert main([*words, "--out", str(killed)]) == 0
        assert published(killed) == published(calm)
        assert not list(killed.rglob("epoch.npz"))
        with (calm / "top_percent.csv").open() as file:
            assert file.readline() == "ID,Train distance,Confidence,Membership,Trial\n"

    def test_same_class_and_balanced_halves(self, tmp_path):
        run = confsim.deep.run(
            trials=2, out=tmp_path / "run", design="balanced", same_class=True, **QUICK
        )
        examples = run.examples()
        one, other = (examples[examples["trial"] == t] for t in (0, 1))
        assert (one["is_member"].to_numpy() != other["is_member"].to_numpy()).all()
        labels = dict(zip(one["id"], one["label"], strict=True))
        assert all(
            labels[n] == label for n, label in zip(one["nearest_id"], one["label"], strict=True)
        )


@pytest.mark.skipif(not installed("jax"), reason="jax is not installed")
def test_an_ensemble_run(tmp_path):
    settings = {**QUICK, "backend": "jax"}
    together = confsim.deep.run(
        trials=3, out=tmp_path / "together", workers=1, trials_per_device=3, **settings
    )
    alone = confsim.deep.run(trials=3, out=tmp_path / "alone", workers=1, **settings)
    one, other = together.examples(), alone.examples()
    assert (one["is_member"] == other["is_member"]).all()
    assert np.allclose(one["log_odds_true"], other["log_odds_true"], atol=1e-3)


def real_images():
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("CONFSIM_TEST_DATA", root.parent / "shared" / "data"))
    path = folder / "cifar10-10k.tar"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    return path


@needs_keras
@pytest.mark.filterwarnings("ignore:.* of 60,000 of the official cifar10")
def test_real_colour_images_from_an_archive_and_in_the_official_format(tmp_path):
    """The tar itself, its unpacked folder, and a CIFAR archive made of it give equal trials."""
    import pickle

    source = real_images()
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    unpacked = next((tmp_path / "unpacked").iterdir())
    settings = {**QUICK, "limit": 300, "epochs": 1, "quiet": True}
    words = [*flags(**settings), "--trials", "1"]
    for name, path in (("tar", source), ("folder", unpacked)):
        assert main([*words, "--dataset", f"folder:{path}", "--out", str(tmp_path / name)]) == 0
    assert published(tmp_path / "tar") == published(tmp_path / "folder")

    data = datasets.load(f"folder:{source}", limit=300, seed=7)
    batch = {
        b"data": data.images.transpose(0, 3, 1, 2).reshape(-1, 3072),
        b"labels": data.labels.tolist(),
    }
    content = pickle.dumps(batch, protocol=2)
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    official = ["--dataset", "cifar10", "--data-dir", str(tmp_path)]
    assert main([*words, *official, "--out", str(tmp_path / "official")]) == 0
    run = confsim.open_run(tmp_path / "official")
    assert (run.examples()["distance"][run.examples()["is_member"]] == 0).all()


@needs_keras
class TestBadInput:
    OWN = """
import os
from keras import Input, Sequential, layers
def soft(shape, classes):
    return Sequential([Input(shape), layers.Flatten(), layers.Dense(classes, "softmax")])
def fails(shape, classes):
    raise ValueError("I cannot\\ndo it")
def leaves(shape, classes):
    os._exit(3)
"""

    def unfit(self, capsys, tmp_path, *words, trials="2"):
        out = tmp_path / "run"
        assert main([*words, "--trials", trials, "--out", str(out)]) == 2
        captured = capsys.readouterr()
        assert not out.exists()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        return captured.err

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("--dataset digit", "one of digits, cifar10, cifar100, mnist"),
            ("--model vgg", "one of cnn, mlp"),
            ("--train-ratio 0", "train_ratio"),
            ("--train-ratio 1", "train_ratio must be in (0, 1)"),
            ("--train-ratio nan", "train_ratio"),
            ("--holdout 0", "holdout must be in (0, 1)"),
            ("--holdout 1", "holdout must be in (0, 1)"),
            ("--holdout -0.1", "holdout"),
            ("--design balanced --train-ratio 0.4", "needs train_ratio 0.5"),
            ("--batch-size 810", "at most the size of the training set, 80"),
            ("--limit 9", "within limit 9"),
            ("--limit 0", "limit must be at least"),
            ("--holdout 0.0001", "leaves none to watch"),
            ("--learning-rate 0", "learning_rate"),
            ("--epochs 0", "epochs"),
            ("--query-augment 19", "at most 18"),
            ("--seed -1", "seed"),
            ("--data-dir /nowhere --dataset mnist", "data_dir /nowhere does not exist"),
            ("--dataset folder:/nowhere", "/nowhere does not exist"),
            ("--duplicates /nowhere.csv", "/nowhere.csv does not exist"),
            ("--keep summary --csv", "--csv needs the extremes"),
        ],
    )
    def test_one_clear_line(self, capsys, tmp_path, words, message):
        assert message in self.unfit(capsys, tmp_path, *words.split())

    def test_balanced_with_odd_trials(self, capsys, tmp_path):
        error = self.unfit(capsys, tmp_path, "--design", "balanced", trials="3")
        assert "even number of trials" in error

    def test_rows_for_a_convolutional_model(self, capsys, tmp_path):
        np.savez(tmp_path / "d.npz", x=np.arange(1200.0).reshape(300, 4), y=np.arange(300) % 2)
        error = self.unfit(capsys, tmp_path, "--dataset", f"npz:{tmp_path / 'd.npz'}")
        assert "needs images" in error

    def test_pickled_objects(self, capsys, tmp_path):
        np.savez(tmp_path / "d.npz", x=np.array([{}] * 4), y=np.arange(4))
        error = self.unfit(capsys, tmp_path, "--dataset", f"npz:{tmp_path / 'd.npz'}")
        assert "pickled objects" in error

    def test_convolutional_ensembles_need_a_gpu(self, capsys, tmp_path, monkeypatch):
        if not installed("jax"):
            pytest.skip("jax is not installed")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        error = self.unfit(capsys, tmp_path, "--backend", "jax", "--trials-per-device", "4")
        assert "need a GPU" in error

    def test_a_missing_backend_says_what_to_install(self, capsys, tmp_path, monkeypatch):
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, *a: None if name == "torch" else find(name, *a),
        )
        error = self.unfit(capsys, tmp_path, "--backend", "torch")
        assert "backend torch needs torch" in error
        assert "pip install 'keras>=3.5' 'pillow>=10' 'torch>=2.4'" in error

    def test_a_backend_that_is_there_is_named(self, monkeypatch):
        there = {"jax", "keras"}
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in there or None)
        with pytest.raises(ValueError, match=r"needs tensorflow, .*; or --backend jax, which is$"):
            backends.check_installed("tensorflow")
        there.remove("keras")
        with pytest.raises(ValueError, match=r"backend jax needs keras, .*'pillow>=10'$"):
            backends.check_installed("jax")

    @needs_keras
    @pytest.mark.parametrize(
        ("function", "message"),
        [
            ("soft", "must end in logits, without a softmax"),
            ("fails", "failed: ValueError: I cannot do it"),
            ("leaves", "ended the process that tried it"),
            ("absent", "defines no function absent"),
        ],
    )
    def test_a_model_of_one_s_own(self, capfd, tmp_path, function, message):
        path = tmp_path / "own.py"
        path.write_text(self.OWN)
        error = self.unfit(capfd, tmp_path, "--model", f"{path}:{function}", "--backend", BACKEND)
        assert f"model: {path}" in error
        assert message in error

    def test_a_diverging_trial_is_named(self, capsys, tmp_path):
        words = flags(
            **{**QUICK, "learning_rate": 1e38, "model": "softmax", "epochs": 2, "hidden": 128}
        )
        assert main([*words, "--trials", "1", "--out", str(tmp_path / "run"), "--quiet"]) == 1
        assert "diverged" in capsys.readouterr().err


@needs_keras
def test_the_gpu_benchmark_runs_tiny(tmp_path):
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"
    backend = "jax" if installed("jax") else BACKEND
    words = ["--tiny", "--backend", backend, "--out", str(tmp_path / "out")]
    stages = ["device", "cnn", "determinism", "views", "nearest"]
    stages += ["together"] * (backend == "jax")
    subprocess.run([sys.executable, str(script), *words, "--stages", *stages], check=True)
    lines = [json.loads(line) for line in (tmp_path / "out" / "gpu.jsonl").open()]
    assert {line["stage"] for line in lines} == set(stages)
    assert not any({"failed", "stopped", "skipped"} & set(line) for line in lines)
    ways = {line["way"]: line for line in lines if line["stage"] == "cnn"}
    assert min(line["trials_an_hour"] for line in ways.values()) > 0
    assert ("2 at once, float32" in ways) == (backend == "jax")
    assert next(line for line in lines if line["stage"] == "determinism")["same_bytes"]
    assert next(line for line in lines if line["stage"] == "views")["same_numbers"]


def alive(number):
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_stage_of_the_gpu_benchmark_that_overruns_ends_with_all_that_it_began(tmp_path):
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"
    spec = importlib.util.spec_from_file_location("gpu_benchmark", path)
    gpu = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gpu)
    told = tmp_path / "child"
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(told)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)"
    )
    assert gpu.ended_within([sys.executable, "-c", code], 10) is None
    deadline = time.monotonic() + 60
    while alive(int(told.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert gpu.ended_within([sys.executable, "-c", "raise SystemExit(3)"], 60) == 3


def test_identity_ignores_places_and_knows_data(tmp_path, monkeypatch):
    one = DeepExperiment().identity()
    assert one["data_sha256"] != DeepExperiment(limit=500).identity()["data_sha256"]
    assert json.loads(json.dumps(one)) == one
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert DeepExperiment().identity()["backend"] == "jax"
    assert len({int(p) for p in Purpose}) == len(Purpose)
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    with pytest.raises(ValueError, match="KERAS_BACKEND must be one of"):
        DeepExperiment()


def test_gpus_are_what_the_environment_shows(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0, 2")
    assert backends.gpus() == ["0", "2"]
    shared = DeepExperiment(trials_per_device=2, backend="tensorflow")
    assert list(shared.devices()) == ["0", "2", "0", "2"]
    assert list(DeepExperiment(trials_per_device=2, backend="jax").devices()) == ["0", "2"]
    assert DeepExperiment(trials_per_device=2, backend="jax").trials_at_once() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert backends.gpus() == []
    assert list(DeepExperiment().devices()) == [None]
