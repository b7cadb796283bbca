"""Recipes: what their files say, tiny versions of each, and published beside measured numbers."""

import importlib.util
import json
import math

import pytest

import confsim
from confsim import recipes
from confsim.cli.deep import main
from confsim.deep import backend as backends
from confsim.deep.experiment import DeepExperiment
from confsim.report.build import report


def installed(name):
    return all(importlib.util.find_spec(package) for package in (name, "keras"))


BACKEND = next((name for name in backends.BACKENDS if installed(name)), None)
needs_keras = pytest.mark.skipif(BACKEND is None, reason="no Keras backend is installed")

TINY = {"dataset": "digits", "limit": 120, "epochs": 2, "batch_size": 25, "backend": BACKEND}


def tiny(name, **settings):
    warmup = min(0.5, recipes.load(name).settings.get("warmup", 0.0))
    return {**TINY, "recipe": name, "warmup": warmup, **settings}


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_is_fit_to_run(name):
    recipe = recipes.load(name)
    settings = dict(recipe.settings)
    trials = settings.pop("trials")
    experiment = DeepExperiment(**{"dataset": "digits", **settings})
    assert trials == recipe.models
    assert experiment.epochs == recipe.epochs
    assert experiment.label_smoothing == 0
    assert experiment.early_stopping == "off"
    assert recipe.differences
    assert recipe.gpu_minutes > 0
    for number in recipe.published:
        assert 0 < number.value < 1


def test_the_names():
    assert recipes.names() == (
        "lira-cifar10",
        "lira-cifar10-fast",
        "lira-cifar100",
        "lira-cifar100-fast",
        "purchase100",
        "rmia-cifar10",
        "rmia-cifar10-fast",
    )


def test_help_lists_them_all(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--recipe", "help"])
    assert not ended.value.code
    said = capsys.readouterr().out
    assert all(name in said for name in recipes.names())
    assert "0.0593" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "lira"], "recipe must be one of lira-cifar10, "),
        pytest.param(
            ["--recipe", "purchase100"],
            "purchase100 is not downloaded: get dataset_purchase.tgz",
            marks=needs_keras,
        ),
        (["--recipe"], "expected one argument"),
        (["--recipe", "lira-cifar10", "--epochs", "1"], "of 1 epochs, not 1 (0: none)"),
        (["--warmup", "100"], "warmup must be shorter than the training of 100 epochs"),
        (["--weight-decay", "-1"], "weight_decay must be at least 0"),
        (["--momentum", "0.5"], "momentum is for optimizer 'sgd' or 'muon'"),
        (["--no-nesterov"], "nesterov is for optimizer"),
        (["--hidden", "5", "--model", "resnet"], "hidden is for model 'cnn' or 'mlp'"),
        (["--patience", "3", "--early-stopping", "off"], "patience is for early_stopping"),
        (["--min-delta", "1", "--early-stopping", "off"], "min_delta is for early_stopping"),
        (["--l2", "1", "--model", f"{__file__}:build"], "l2 is for named models"),
        (["--optimizer", "sgd", "--momentum", "1"], "momentum must be in [0, 1), not 1"),
        (["--ema", "1.5"], "ema must be in [0, 1), not 1.5"),
        (["--label-smoothing", "-0.1"], "label_smoothing must be at least 0"),
        (["--clip-norm", "0"], "clip_norm must be greater than 0"),
        pytest.param(
            ["--cutout", "8"],
            "cutout must be smaller than the images of 8 x 8 pixels",
            marks=needs_keras,
        ),
        (["--precision", "float8"], "invalid choice"),
        (["--schedule", "linear"], "invalid choice"),
    ],
)
def test_bad_input_is_one_line(words, message, capsys, tmp_path):
    out = tmp_path / "run"
    try:
        code = main([*words, "--limit", "100", "--out", str(out)])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_the_api_says_the_same():
    with pytest.raises(ValueError, match="recipe must be one of"):
        confsim.deep.run(recipe="nothing")
    with pytest.raises(ValueError, match="give --data-dir DIR"):
        confsim.deep.run(recipe="purchase100")


@needs_keras
def test_precision_that_cannot_be_computed_is_refused_before_the_run(monkeypatch, tmp_path):
    def no(*_, **__):
        raise ValueError("precision bfloat16 cannot be computed here: no kernel")

    monkeypatch.setattr(backends, "check_trains", no)
    with pytest.raises(ValueError, match="bfloat16 cannot be computed here"):
        confsim.deep.run(
            model="mlp", precision="bfloat16", batch_size=9, limit=99, out=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


@needs_keras
def test_dry_run_says_what_it_takes(capsys, tmp_path):
    out = str(tmp_path / "run")
    words = ["--dataset", "digits", "--limit", "300", "--batch-size", "20", "--dry-run"]
    assert main(["--recipe", "lira-cifar10", *words, "--out", out]) == 0
    said = capsys.readouterr().out
    assert "17 models of 100 epochs, about 30 minutes of one H100" in said
    assert "would run 17 of 17 trials" in said
    assert "recipe = lira-cifar10" in said
    assert "batch_size = 20" in said
    assert "model = wrn28-2" in said
    assert main(["--recipe", "lira-cifar10", *words, "--json", "--out", out]) == 0
    assert json.loads(capsys.readouterr().out)["trials"] == 17


def test_settings_that_came_later_leave_old_identities_alone():
    identity = DeepExperiment(backend="tensorflow").identity()
    assert sorted(identity) == sorted(
        [
            "dataset",
            "data_sha256",
            "model",
            "hidden",
            "l2",
            "train_ratio",
            "design",
            "holdout",
            "epochs",
            "batch_size",
            "learning_rate",
            "early_stopping",
            "patience",
            "min_delta",
            "augment",
            "query_augment",
            "same_class",
            "percent",
            "backend",
            "backend_versions",
            "threads_per_trial",
            "ensemble",
            "save",
            "seed",
        ]
    )
    changed = {
        "optimizer": "sgd",
        "weight_decay": 0.1,
        "schedule": "cosine",
        "warmup": 1,
        "clip_norm": 1,
        "ema": 0.9,
        "label_smoothing": 0.1,
        "cutout": 2,
        "precision": "bfloat16",
        "recipe": "lira-cifar10",
    }
    for name, value in changed.items():
        other = DeepExperiment(backend="tensorflow", **{name: value}).identity()
        assert other[name] == value
        assert identity.items() < other.items()
    sgd = DeepExperiment(backend="tensorflow", optimizer="sgd")
    said = DeepExperiment(backend="tensorflow", optimizer="sgd", momentum=0.9, nesterov=True)
    assert sgd.identity() == said.identity()
    other = DeepExperiment(backend="tensorflow", optimizer="sgd", momentum=0.8, nesterov=False)
    assert other.identity() == {**sgd.identity(), "momentum": 0.8, "nesterov": False}


#: Recipes whose network runs already in another's test: it takes minutes on a busy machine.
SAME_NETWORK = ("lira-cifar100", "lira-cifar100-fast", "rmia-cifar10", "rmia-cifar10-fast")


@needs_keras
@pytest.mark.parametrize("name", recipes.names())
def test_a_tiny_version_runs(name, tmp_path):
    if BACKEND == "jax" and name not in ("purchase100", *SAME_NETWORK):
        pytest.skip("XLA compiles it for minutes on a CPU")
    small = {"model": "mlp", "precision": "float32"} if name in SAME_NETWORK else {}
    run = confsim.deep.run(**tiny(name, trials=1, **small), out=tmp_path / "run", workers=1)
    assert run.trials == [0]
    identity = run.manifest["identity"]
    assert identity["recipe"] == name
    assert identity["recipe_sha256"] == recipes.load(name).sha256
    summary = run.summary()
    assert summary["epochs"].tolist() == [2]
    assert math.isfinite(summary["member_loss"][0])


@needs_keras
def test_published_beside_measured(tmp_path):
    settings = tiny("lira-cifar10-fast", model="mlp", precision="float32", trials=4)
    run = confsim.deep.run(**settings, out=tmp_path / "run", workers=1)
    table = recipes.compare(run)
    assert table["published"].tolist() == [0.6856, 0.0593, 0.6137, 0.91]
    assert table["measured"].between(0, 1).all()
    attacks = confsim.membership.membership_tables(run)["attacks"]
    chosen = (attacks["attack"] == "lira_online_augmented") & (attacks["target"] == "mean")
    assert table["measured"][0] == attacks.loc[chosen, "auc"].item()
    assert (table["low"][:2] <= table["measured"][:2]).all()
    assert (table["measured"][:2] <= table["high"][:2]).all()
    accuracy = run.summary()["non_member_accuracy"].mean()
    assert table["measured"][3] == pytest.approx(accuracy, rel=1e-12)
    differences = table.attrs["differences"]
    assert "model is mlp, not wide" in differences
    assert "epochs is 2, not 40" in differences
    assert not any(said.startswith("momentum") for said in differences)
    report([run.path], out=tmp_path / "page")
    page = (tmp_path / "page" / "report.html").read_text()
    assert "Published and measured" in page
    assert "model is mlp, not wide" in page


@needs_keras
def test_a_run_without_a_recipe_has_nothing_to_compare(tmp_path):
    run = confsim.deep.run(
        model="softmax", limit=100, epochs=1, batch_size=20, trials=1, out=tmp_path / "r", workers=1
    )
    with pytest.raises(ValueError, match="not made with a recipe"):
        recipes.compare(run)
