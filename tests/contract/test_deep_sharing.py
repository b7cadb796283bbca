"""How many trials share a GPU, measured; and what makes many at once fast: products of matrices."""

import os
from dataclasses import replace

import numpy as np
import pytest
from toy_experiments import Scratch

from confsim import store
from confsim.cli import deep as command
from confsim.deep import backend as backends
from confsim.deep import sharing, training
from confsim.deep.engines import Settings
from confsim.deep.experiment import DeepExperiment
from confsim.deep.models import Architecture
from confsim.deep.sharing import best, measured, settled

jax = pytest.importorskip("jax", reason="jax is not installed")
pytest.importorskip("keras", reason="keras is not installed")

#: A process can use one backend, and this one's others may take TensorFlow.
needs_jax = pytest.mark.skipif(
    os.environ.get("CONFSIM_TEST_BACKEND") != "jax", reason="runs with CONFSIM_TEST_BACKEND=jax"
)

CONVOLUTIONS = """
import keras
def build(shape, classes):
    L = keras.layers
    return keras.Sequential([keras.Input(shape), L.Conv2D(4, 3, activation="tanh"),
        L.Conv2D(4, 3, strides=2, padding="same"), L.Flatten(), L.Dense(classes)])
"""


QUICK = {"limit": 200, "model": "mlp", "hidden": 8, "epochs": 1, "batch_size": 50, "backend": "jax"}


@pytest.mark.parametrize(
    ("strides", "size", "batch"),
    [((1, 1), (3, 3), 20), ((2, 2), (3, 3), 7), ((1, 3), (2, 5), 1), ((2, 1), (1, 1), 22)],
)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_gradients_of_kernels_by_products(strides, padding, size, batch):
    from confsim.deep.engines.convolutions import kernel_gradient

    rng = np.random.default_rng(0)
    models, channels, filters = 2, 3, 4
    x = rng.normal(size=(models, batch, 9, 8, channels)).astype("f4")
    kernel = rng.normal(size=(models, *size, channels, filters)).astype("f4")
    around = [(0, 0), (0, 0)]
    if padding == "SAME":
        wanted = [
            max((-(-extent // step) - 1) * step + reach - extent, 0)
            for extent, step, reach in zip((9, 8), strides, size, strict=True)
        ]
        around = [(n // 2, n - n // 2) for n in wanted]
    padded = np.pad(x, ((0, 0), (0, 0), *around, (0, 0))).astype(np.float64)
    down, right = (
        (extent - reach) // step + 1
        for extent, reach, step in zip(padded.shape[2:4], size, strides, strict=True)
    )
    flowing = rng.normal(size=(models, batch, down, right, filters)).astype("f4")
    literal = np.zeros(kernel.shape)
    for i in range(down):
        for j in range(right):
            top, left = i * strides[0], j * strides[1]
            patch = padded[:, :, top : top + size[0], left : left + size[1]]
            literal += np.einsum("mbrcd,mbf->mrcdf", patch, flowing[:, :, i, j])
    found = jax.vmap(lambda *each: kernel_gradient(*each, strides, padding))(x, kernel, flowing)
    assert np.allclose(found, literal, rtol=1e-4, atol=1e-4)


@needs_jax
def test_only_plain_convolutions_are_changed():
    backends.prepare("jax", 1, None)
    import keras
    from keras import layers

    from confsim.deep.engines.convolutions import multiply_for_gradients

    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, name="plain")(inputs)
    x = layers.Conv2D(4, 3, dilation_rate=2, padding="same", name="dilated")(x)
    x = layers.Conv2D(4, 3, groups=2, padding="same", name="groups")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    inner = keras.Sequential([keras.Input(x.shape[1:]), layers.Conv2D(2, 1, name="inner")])
    model = keras.Model(inputs, layers.Flatten()(inner(x)))
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 4)).astype("f4")
    before = np.asarray(model(images))
    multiply_for_gradients(model)
    every = [*model.layers, *inner.layers]
    assert {v.name for v in every if "convolution_op" in vars(v)} == {"plain", "inner"}
    assert np.array_equal(before, np.asarray(model(images)))


@needs_jax
def test_an_ensemble_of_convolutions_learns_what_each_would_alone(tmp_path):
    backends.prepare("jax", 1, None)
    from confsim.deep.ensemble import Ensemble

    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = (
        rng.integers(60, 190, (3, 8, 8, 1))[labels] + rng.integers(-50, 50, (60, 8, 8, 1))
    ).astype(np.uint8)
    file = tmp_path / "own.py"
    file.write_text(CONVOLUTIONS)
    settings = Settings(Architecture(f"{file}:build", (8, 8, 1), 3))
    engine = backends.open_engine(settings, images, labels)
    schedule = training.Schedule(3, 10, patience=9)
    none = np.empty(0, np.int64)
    plans = [
        training.Plan(k, rows, none, none, backends.Standardisation.of(images[rows]))
        for k, rows in enumerate(np.sort(rng.permuted([np.arange(60)] * 2, axis=1)[:, :40]))
    ]
    (tmp_path / "alone").mkdir()
    alone = []
    for plan in plans:
        training.train(engine, schedule, plan, Scratch(tmp_path / "alone"))
        alone.append(engine.weights())
    (tmp_path / "together").mkdir()
    together = Ensemble(engine, 2).train(schedule, plans, Scratch(tmp_path / "together"))
    for (_, _), expected in zip(together, alone, strict=True):
        found = engine.weights()
        assert all(np.allclose(found[k], expected[k], atol=1e-4) for k in found)


def test_a_larger_number_must_be_worth_it():
    assert best({}) == 1
    assert best({1: 5e-4}) == 1
    assert best({1: 5e-4, 8: 4.8e-4, 32: 4.6e-4}) == 1
    assert best({1: 5e-4, 8: 4e-4, 32: 3.9e-4}) == 8
    assert best({1: 5e-4, 8: 6e-4, 32: 3e-4}) == 32


def test_steps_are_measured_in_a_process_of_its_own(monkeypatch):
    settings = Settings(Architecture("mlp", (8, 8, 1), 10, hidden=8), augmented=True, cutout=2)
    found = measured(settings, 20, (1, 2), threads=1)
    assert list(found) == [1, 2]
    assert all(0 < seconds < 10 for seconds in found.values())
    monkeypatch.setattr(sharing, "_LIMIT", 0.01)
    assert measured(settings, 20, (1, 2), threads=1) == {}


def test_what_a_call_costs_beside_its_steps_is_left_out(monkeypatch):
    now = [0.0]

    def take(steps):
        now[0] += 0.2 + 0.001 * steps

    monkeypatch.setattr(sharing.time, "perf_counter", lambda: now[0])
    assert sharing._step_seconds(take) == pytest.approx(0.001)


def test_what_fails_ends_the_measurement(tmp_path):
    file = tmp_path / "own.py"
    file.write_text("def build(shape, classes):\n    raise MemoryError\n")
    assert measured(Settings(Architecture(f"{file}:build", (4,), 2)), 4, (1, 2), threads=1) == {}


def test_on_a_gpu_the_fastest_is_taken(monkeypatch):
    asked, said = [], []

    def fake(settings, batch, numbers, threads):
        asked.append(list(numbers))
        return {1: 5e-4, 8: 4e-4, 32: 3e-4}

    monkeypatch.setattr(sharing, "measured", fake)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    experiment = DeepExperiment(**QUICK)
    assert settled(experiment, 100, None, said.append).trials_per_device == 32
    settled(experiment, 10, None)
    assert asked == [[1, 8, 32], [1, 8]]
    assert said == [
        "trials on each GPU: 32 (microseconds a step and trial: 500 at 1, 400 at 8, 300 at 32)"
    ]
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    with pytest.raises(ValueError, match="tasks of an array could measure different numbers"):
        settled(experiment, 100, None)


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_elsewhere_it_is_one(monkeypatch, backend):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1" if backend == "jax" else "0")
    experiment = DeepExperiment(**{**QUICK, "backend": backend})
    assert settled(experiment, 100, None).trials_per_device == 1


def test_a_run_that_has_begun_keeps_its_number(tmp_path, monkeypatch):
    experiment = DeepExperiment(**QUICK)
    begun = replace(experiment, trials_per_device=8)
    store.create(tmp_path / "run", begun, 1, overwrite=False, owner="me", keep="all")
    monkeypatch.setattr(sharing, "measured", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert settled(experiment, 100, tmp_path / "run") == begun


def test_from_the_command_line(tmp_path, capsys):
    words = [
        *("--limit", "200", "--model", "mlp", "--hidden", "8", "--epochs", "1"),
        *("--batch-size", "50", "--backend", "jax", "--dry-run"),
    ]
    assert command.main([*words, "--trials-per-device", "auto"]) == 0
    assert "ensemble = 1" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        command.main([*words, "--trials-per-device", "many"])
    assert ended.value.code == 2
    assert "--trials-per-device: invalid whole number value: 'many'" in capsys.readouterr().err
