"""The contract of an engine: one suite for every backend, on small models.

A process can use one backend. This one takes the first that is installed, or what
``CONFSIM_TEST_BACKEND`` names: run the suite once for each.
"""

import dataclasses
import errno
import gc
import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_experiments import Scratch

from confsim import ConfsimError
from confsim.deep import backend as backends
from confsim.deep import design, networks, training
from confsim.deep.backend import Settings, Standardisation
from confsim.deep.engines import Epoch
from confsim.deep.models import Architecture, check_model, whitening_filters
from confsim.deep.optimisation import Optimisation
from confsim.experiment import Interrupted
from confsim.store import artifacts


def installed(name):
    return all(importlib.util.find_spec(package) for package in (name, "keras"))


WANTED = os.environ.get("CONFSIM_TEST_BACKEND")
BACKEND = WANTED or next((name for name in backends.BACKENDS if installed(name)), None)

needs_keras = pytest.mark.skipif(BACKEND is None, reason="no Keras backend is installed")
needs_jax = pytest.mark.skipif(BACKEND != "jax", reason="ensembles need the JAX backend")


DROPOUT = """
import keras
def build(shape, classes):
    L = keras.layers
    return keras.Sequential([keras.Input(shape), L.Flatten(), L.Dense(24, "tanh"),
        L.Dropout(0.3), L.Dense(classes)])
"""


class Problem:
    """Blobs as 8x8 images, plans, and an engine a architecture."""

    def __init__(self, folder):
        source = folder / "own.py"
        source.write_text(DROPOUT)
        #: Quick to compile everywhere, and with a state beside its weights.
        self.dropout = f"{source}:build"
        backends.prepare(BACKEND, 1, None)
        rng = np.random.default_rng(1)
        self.labels = np.arange(240) % 3
        centres = rng.integers(60, 190, (3, 8, 8, 2))
        noise = rng.integers(-50, 51, (240, 8, 8, 2))
        self.images = (centres[self.labels] + noise).astype(np.uint8)
        self.engines = {}

    def engine(self, model="mlp", optimisation=None, settings=(), **options):
        key = (model, optimisation, settings, *options.items())
        if key not in self.engines:
            architecture = Architecture(model, (8, 8, 2), 3, hidden=16, **options)
            self.engines[key] = backends.open_engine(
                Settings(architecture, optimisation or Optimisation(), **dict(settings)),
                self.images,
                self.labels,
            )
        return self.engines[key]

    def plan(self, trial=0, members=90):
        rng = np.random.default_rng(trial)
        order = rng.permutation(240)
        rows = np.sort(order[:members])
        held = np.sort(order[200:])
        return training.Plan(
            trial, rows, held, self.labels[held], Standardisation.of(self.images[rows])
        )

    def traced_plan(self, trial=0):
        return replace(self.plan(trial), traced=np.arange(40), traced_labels=self.labels[:40])


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    return Problem(tmp_path_factory.mktemp("models"))


def moved(image, sources):
    """Shift an image, reflecting at its border, then mirror it: pixel by pixel."""
    mirrored, down, right = sources[:3]
    height, width = image.shape[:2]

    def reflected(at, extent):
        at = abs(at)
        return 2 * (extent - 1) - at if at >= extent else at

    out = np.empty_like(image)
    for row in range(height):
        for column in range(width):
            across = width - 1 - column if mirrored else column
            out[row, column] = image[
                reflected(row - down, height), reflected(across - right, width)
            ]
    return out


def an_epoch(members, rate=1e-3, sources=None):
    rows, weights = design.epoch_batches(members, 20, 0, 0, 0)
    return Epoch(rows, weights, np.full(len(rows), rate, np.float32), sources)


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


SCHEDULE = training.Schedule(epochs=6, batch_size=20, seed=3)


@needs_keras
class TestContract:
    def test_standardisation(self, problem):
        s = Standardisation.of(problem.images)
        x = (problem.images.astype(np.float64) - s.mean) * s.scale
        assert np.allclose(x.mean(axis=(0, 1, 2)), 0, atol=1e-5)
        assert np.allclose(x.std(axis=(0, 1, 2)), 1, atol=1e-5)
        flat = Standardisation.of(np.full((4, 2), 7, np.uint8))
        assert flat.scale.tolist() == [1, 1]

    @pytest.mark.parametrize("shape", [(1, 3), (130, 5), (3, 2, 1, 4), (200, 3, 5, 3)])
    def test_sums_of_bytes_are_those_of_numbers(self, shape):
        images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        for pixels in (images, np.full(shape, 255, np.uint8)):
            found = Standardisation.of(pixels)
            expected = Standardisation.of(pixels.astype(np.float32))
            assert found.mean.tolist() == expected.mean.tolist()
            assert found.scale.tolist() == expected.scale.tolist()

    def test_logits_and_features_are_those_of_the_model(self, problem):
        engine, plan = problem.engine("softmax"), problem.plan()
        engine.reset(1)
        rows = np.arange(7, 240)
        logits, features = engine.forward(rows, plan.standardisation)
        s = plan.standardisation
        x = (problem.images[rows].astype(np.float32) - s.mean) * s.scale
        assert np.allclose(features, x.reshape(len(x), -1), atol=1e-5)
        weights = list(engine.named_weights().values())
        assert np.allclose(logits, features @ weights[0] + weights[1], atol=1e-4)

    def test_reset_depends_on_the_seed_alone(self, problem):
        engine, plan = problem.engine(), problem.plan()
        engine.reset(5)
        first = engine.state()
        epoch = an_epoch(plan.members)
        engine.train(epoch, plan.standardisation, 0, len(epoch))
        assert not equal(engine.state(), first)
        engine.reset(6)
        assert not equal(engine.state(), first)
        engine.reset(5)
        assert equal(engine.state(), first)

    def test_cutting_an_epoch_changes_nothing(self, problem):
        engine, plan = problem.engine(problem.dropout), problem.plan()
        epoch = an_epoch(plan.members)
        engine.reset(5)
        engine.train(epoch, plan.standardisation, 0, 5)
        whole = engine.state()
        engine.reset(5)
        for start, stop in ((0, 1), (1, 4), (4, 5)):
            engine.train(epoch, plan.standardisation, start, stop)
        assert equal(engine.state(), whole)

    def test_what_fills_a_batch_has_no_weight(self, problem):
        """A step on 7 images and 13 fillers is the step that Adam takes on the 7 alone."""
        import keras

        engine, plan = problem.engine("softmax", l2=0.01), problem.plan()
        rows = np.resize(plan.members[:20], (1, 20)).astype(np.int32)
        weights = np.zeros((1, 20), np.float32)
        weights[0, :7] = 1
        engine.reset(5)
        before = list(engine.named_weights().values())
        engine.train(Epoch(rows, weights, np.float32([1e-3])), plan.standardisation, 0, 1)
        after = list(engine.named_weights().values())
        chosen = rows[0, :7]
        s = plan.standardisation
        x = ((problem.images[chosen] - s.mean) * s.scale).reshape(7, -1)
        z = x @ before[0] + before[1]
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(7), problem.labels[chosen]] -= 1
        gradients = [x.T @ p / 7 + 2 * 0.01 * before[0], p.mean(axis=0)]
        for old, new, gradient in zip(before, after, gradients, strict=True):
            # Adam's first step is the learning rate in the direction of each gradient's sign.
            clear = np.abs(gradient) > 1e-4
            assert np.allclose((new - old)[clear], -1e-3 * np.sign(gradient)[clear], rtol=1e-2)
        assert keras.backend.backend() == BACKEND

    def test_training_learns_and_repeats(self, problem, tmp_path):
        engine, plan = problem.engine("cnn"), problem.plan()
        schedule = training.Schedule(epochs=12, batch_size=20, seed=3)
        outcome = training.train(engine, schedule, plan, Scratch(tmp_path))
        first = engine.forward(np.arange(240), plan.standardisation)[0]
        others = np.setdiff1d(np.arange(240), plan.members)
        accuracy = np.mean(first.argmax(axis=1)[others] == problem.labels[others])
        assert accuracy > 0.9
        assert outcome.epochs == 12
        (tmp_path / "0" / training.CHECKPOINT).unlink()
        training.train(engine, schedule, problem.plan(1), Scratch(tmp_path))
        assert training.train(engine, schedule, plan, Scratch(tmp_path)) == outcome
        again = engine.forward(np.arange(240), plan.standardisation)[0]
        assert np.array_equal(first, again)

    @pytest.mark.parametrize("stop_after", [1, 4])
    def test_interrupted_training_ends_the_same(self, problem, tmp_path, stop_after):
        engine, plan = problem.engine(problem.dropout), problem.plan()
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        whole = training.train(engine, SCHEDULE, plan, Scratch(tmp_path / "a"))
        expected = engine.state()
        engine.steps_a_call = 2
        with pytest.raises(Interrupted):
            training.train(engine, SCHEDULE, plan, Scratch(tmp_path / "b", stop_after))
        engine.reset(99)
        resumed = training.train(engine, SCHEDULE, plan, Scratch(tmp_path / "b"))
        assert resumed == whole
        assert equal(
            {k: v for k, v in engine.state().items() if k.startswith("model")},
            {k: v for k, v in expected.items() if k.startswith("model")},
        )

    @pytest.mark.parametrize(
        ("optimisation", "precision"),
        [
            (Optimisation("sgd", weight_decay=0.01, clip_norm=1.0, ema=0.9), "float32"),
            (Optimisation("muon", momentum=0.95, ema=0.5), "float32"),
            (Optimisation("adam", weight_decay=0.01), "bfloat16"),
        ],
    )
    def test_stopped_at_any_step_training_ends_the_same(
        self, problem, tmp_path, optimisation, precision
    ):
        """Everything is in the checkpoint, in the middle of an epoch too."""
        engine = problem.engine(problem.dropout, optimisation, precision=precision)
        plan = problem.traced_plan()
        schedule = training.Schedule(
            epochs=3, batch_size=20, seed=3, schedule="one-cycle", warmup=1, learning_rate=0.02
        )
        for folder in ("whole", "cut"):
            (tmp_path / folder).mkdir()
        whole = training.train(engine, schedule, plan, Scratch(tmp_path / "whole"))
        expected = engine.weights()
        for _ in range(20):
            engine.steps_a_call = 2
            try:
                resumed = training.train(engine, schedule, plan, Scratch(tmp_path / "cut", 2))
                break
            except Interrupted:
                engine.reset(99)
        assert resumed == whole
        assert np.array_equal(resumed.traces, whole.traces)
        assert np.shape(whole.traces) == (3, 40)
        assert resumed.curve == whole.curve
        assert len(whole.curve) == whole.epochs
        assert whole.curve[whole.best_epoch - 1][1] == whole.validation_loss
        assert equal(engine.weights(), expected)

    def test_a_damaged_checkpoint_counts_for_nothing(self, problem, tmp_path):
        """Whatever byte it is, nothing of it is used."""
        engine, plan = problem.engine(), problem.plan()
        whole = training.train(engine, SCHEDULE, plan, Scratch(tmp_path))
        expected = engine.weights()
        path = tmp_path / "0" / training.CHECKPOINT
        intact = path.read_bytes()
        checkpoint = training.checkpoint_of(SCHEDULE, plan, Scratch(tmp_path), [])
        assert checkpoint.resume(engine, training.EarlyStopping(1, 0.0)) != (0, 0)
        rng = np.random.default_rng(0)
        places = [*range(0, 200, 7), *rng.integers(0, len(intact), 40), -1, -40, -60, -100]
        for place in places:
            damaged = bytearray(intact)
            damaged[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            stopping = training.EarlyStopping(1, 0.0)
            assert checkpoint.resume(engine, stopping) == (0, 0)
            assert not stopping.weights
        for damaged in (b"", intact[:1000], intact[:-1], intact + b"0", intact[:32]):
            path.write_bytes(damaged)
            assert checkpoint.resume(engine, training.EarlyStopping(1, 0.0)) == (0, 0)
        assert training.train(engine, SCHEDULE, plan, Scratch(tmp_path)) == whole
        assert equal(engine.weights(), expected)

    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda p: p.symlink_to("/dev/zero")])
    def test_what_is_no_file_is_no_checkpoint(self, problem, tmp_path, make):
        make(tmp_path / training.CHECKPOINT)
        checkpoint = training.Checkpoint(tmp_path / training.CHECKPOINT, b"")
        assert checkpoint.resume(problem.engine(), training.EarlyStopping(1, 0.0)) == (0, 0)

    def test_another_models_checkpoint_counts_for_nothing(self, problem, tmp_path):
        plan = problem.plan()
        training.train(problem.engine(), SCHEDULE, plan, Scratch(tmp_path))
        checkpoint = training.checkpoint_of(SCHEDULE, plan, Scratch(tmp_path), [])
        other, stopping = problem.engine("softmax"), training.EarlyStopping(1, 0.0)
        assert checkpoint.resume(other, stopping) == (0, 0)

    def test_another_trials_checkpoint_counts_for_nothing(self, problem, tmp_path):
        """Nor does one of the same trial under another schedule."""
        engine, plan = problem.engine(), problem.plan()
        training.train(engine, SCHEDULE, plan, Scratch(tmp_path))
        stolen = (tmp_path / "0" / training.CHECKPOINT).read_bytes()
        longer = dataclasses.replace(SCHEDULE, learning_rate=2e-3)
        for schedule, of in ((SCHEDULE, problem.plan(1)), (longer, plan)):
            checkpoint = training.checkpoint_of(schedule, of, Scratch(tmp_path), [])
            checkpoint.path.write_bytes(stolen)
            assert checkpoint.resume(engine, training.EarlyStopping(1, 0.0)) == (0, 0)
        own = training.checkpoint_of(SCHEDULE, plan, Scratch(tmp_path), [])
        assert own.resume(engine, training.EarlyStopping(1, 0.0)) != (0, 0)

    def test_a_checkpoint_that_was_being_written_is_swept(self, problem, tmp_path):
        """What a living process writes stays; names never meet."""
        plan = problem.plan()
        training.train(problem.engine(), SCHEDULE, plan, Scratch(tmp_path))
        alive = tmp_path / "0" / artifacts.partial_name()
        dead = tmp_path / "0" / alive.name.replace(f"-{os.getpid()}-", "-999999999-")
        for path in (alive, dead):
            path.write_bytes(b"half")
        checkpoint = training.checkpoint_of(SCHEDULE, plan, Scratch(tmp_path), [])
        assert checkpoint.resume(problem.engine(), training.EarlyStopping(1, 0.0)) != (0, 0)
        assert {path.name for path in (tmp_path / "0").iterdir()} == {
            training.CHECKPOINT,
            alive.name,
        }

    def test_a_checkpoint_that_cannot_be_written_leaves_nothing(
        self, problem, tmp_path, monkeypatch
    ):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left") as found:
            training.train(problem.engine(), SCHEDULE, problem.plan(), Scratch(tmp_path))
        assert found.value.errno == errno.ENOSPC
        assert found.value.filename == str(tmp_path / "0" / training.CHECKPOINT)
        assert list((tmp_path / "0").iterdir()) == []

    @pytest.mark.parametrize("index", [1, 5, 8, 17])
    def test_augmented_queries(self, problem, index):
        plan, rows = problem.plan(), np.arange(30)
        sources = design.query_sources((8, 8, 2), index)
        found = problem.engine("softmax").forward(rows, plan.standardisation, sources)[1]
        pixels = np.stack([moved(image, sources) for image in problem.images[rows]])
        s = plan.standardisation
        expected = ((pixels - s.mean) * s.scale).reshape(30, -1)
        assert np.allclose(found, expected, atol=1e-5)

    @pytest.mark.parametrize(("kind", "cutout"), [("weak", 0), ("none", 3), ("weak", 4)])
    def test_a_step_on_augmented_images(self, problem, kind, cutout):
        """One step of SGD is the step on images that were moved and cut by hand."""
        settings = (("augmented", True), ("cutout", cutout))
        engine = problem.engine("softmax", Optimisation("sgd", momentum=0.0), settings)
        plan, s = problem.plan(), problem.plan().standardisation
        rng = np.random.default_rng(3)
        sources = design.augmentation(kind, (8, 8, 2), (1, 20), rng, cutout=cutout > 0)
        epoch = Epoch(plan.members[None, :20], np.ones((1, 20)), np.ones(1), sources)
        epoch = Epoch(*(np.asarray(a, d) for a, d in zip(epoch.arrays, "iffi", strict=True)))
        engine.reset(5)
        before = list(engine.named_weights().values())
        engine.train(epoch, s, 0, 1)
        after = list(engine.named_weights().values())
        images = np.stack(
            [moved(problem.images[r], m) for r, m in zip(epoch.rows[0], sources[0], strict=True)]
        )
        x = (images - s.mean) * s.scale
        if cutout:
            for image, (row, column) in zip(x, sources[0, :, 3:], strict=True):
                for i in range(8):
                    for j in range(8):
                        inside = (0 <= i - row + cutout // 2 < cutout) and (
                            0 <= j - column + cutout // 2 < cutout
                        )
                        image[i, j] *= not inside
            assert (x == 0).sum() > 100
        x = x.reshape(20, -1)
        z = x @ before[0] + before[1]
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(20), problem.labels[epoch.rows[0]]] -= 1
        assert np.allclose(after[0], before[0] - x.T @ p / 20, atol=2e-5)
        assert np.allclose(after[1], before[1] - p.mean(axis=0), atol=2e-5)

    def test_label_smoothing_is_the_cross_entropy_with_smoothed_targets(self, problem):
        engine = problem.engine("softmax", None, (("label_smoothing", 0.2),))
        plan, s = problem.plan(), problem.plan().standardisation
        engine.reset(5)
        rows = plan.members[:20]
        logits = engine.forward(rows, s)[0].astype(np.float64)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        targets = 0.8 * np.eye(3)[problem.labels[rows]] + 0.2 / 3
        epoch = Epoch(
            rows[None].astype(np.int32), np.ones((1, 20), np.float32), np.zeros(1, np.float32)
        )
        found = engine.train(epoch, s, 0, 1)
        assert found == pytest.approx(-(targets * log_p).sum(axis=1).mean(), rel=1e-5)

    def test_averages_of_the_weights(self, problem):
        """What is examined are averages; training goes on from the weights themselves."""
        plain = problem.engine("mlp", Optimisation("sgd"))
        averaged = problem.engine("mlp", Optimisation("sgd", ema=0.8))
        plan, s = problem.plan(), problem.plan().standardisation
        epoch = an_epoch(plan.members, 0.1)
        expected = None
        plain.reset(4)
        for step in range(4):
            plain.train(epoch, s, step, step + 1)
            new = plain.weights()
            expected = (
                new if expected is None else {k: 0.8 * expected[k] + 0.2 * new[k] for k in new}
            )
        averaged.reset(4)
        averaged.train(epoch, s, 0, 2)
        with averaged.averaged():
            averaged.forward(np.arange(20), s)
        averaged.train(epoch, s, 2, 4)
        found = averaged.weights()
        assert all(np.allclose(found[k], expected[k], atol=1e-6) for k in found)
        state = averaged.state()
        assert all(np.allclose(state[k], new[k], atol=1e-6) for k in new)
        averaged.take_averages()
        assert equal({k: averaged.state()[k] for k in found}, found)

    def test_bfloat16_trains_and_leaves_as_float32(self, problem, tmp_path):
        engine = problem.engine(problem.dropout, Optimisation(), precision="bfloat16")
        plan = problem.plan()
        schedule = training.Schedule(epochs=10, batch_size=20, seed=3, learning_rate=0.01)
        training.train(engine, schedule, plan, Scratch(tmp_path))
        logits, features = engine.forward(np.arange(240), plan.standardisation)
        assert logits.dtype == features.dtype == np.float32
        assert all(v.dtype == np.float32 for v in engine.named_weights().values())
        assert {layer.compute_dtype for layer in engine.model.layers} == {"bfloat16"}
        others = np.setdiff1d(np.arange(240), plan.members)
        assert np.mean(logits.argmax(axis=1)[others] == problem.labels[others]) > 0.9
        import keras

        assert keras.config.dtype_policy().name == "float32"

    @pytest.mark.skipif(BACKEND == "jax", reason="XLA compiles it for half a minute on a CPU")
    @pytest.mark.parametrize(
        ("model", "width"), [("resnet", 256), ("wrn28-2", 128), ("resnet18", 512), ("wide", 256)]
    )
    def test_convolutional_networks(self, problem, model, width):
        """One step moves every weight but the whitening; moving statistics are what queries use."""
        engine, plan = problem.engine(model, Optimisation("sgd")), problem.plan()
        engine.reset(3, plan.members, plan.standardisation)
        before = engine.named_weights()
        engine.train(an_epoch(plan.members, 0.01), plan.standardisation, 0, 1)
        after = engine.named_weights()
        same = [name for name in before if np.array_equal(before[name], after[name])]
        assert same == (["whitening/kernel"] if model == "wide" else [])
        logits, features = engine.forward(np.arange(20), plan.standardisation)
        assert logits.shape == (20, 3)
        assert features.shape == (20, width)
        alone = engine.forward(np.arange(1), plan.standardisation)[0]
        assert np.allclose(alone, logits[:1], atol=1e-4)

    def test_preparing_again_with_another_backend_is_refused(self, problem):
        other = next(name for name in ("tensorflow", "jax") if name != BACKEND)
        if not installed(other):
            pytest.skip(f"{other} is not installed")
        with pytest.raises(ConfsimError, match=f"already uses {BACKEND}"):
            backends.prepare(other, 1, None)


@needs_keras
class TestOwnModels:
    SOURCE = """
import keras
from keras import layers as L, ops
def good(shape, classes):
    return keras.Sequential([keras.Input(shape), L.Flatten(), L.Dense(9, activation="relu"),
        L.Dense(classes)])
def half(shape, classes):
    return keras.Sequential([keras.Input(shape), L.Flatten(), L.Dense(9, dtype="mixed_bfloat16"),
        L.Dense(classes, dtype="mixed_bfloat16")])
def global_half(shape, classes):
    keras.config.set_dtype_policy("mixed_bfloat16")
    return good(shape, classes)
def half16(shape, classes):
    return keras.Sequential([keras.Input(shape), L.Flatten(), L.Dense(9),
        L.Dense(classes, dtype="mixed_float16")])
def from_zero(shape, classes):
    return keras.Sequential([keras.Input(shape), L.Flatten(),
        L.Dense(classes, kernel_initializer="zeros")])
def log_probabilities(shape, classes):
    return keras.Sequential([keras.Input(shape), L.Flatten(), L.Dense(classes),
        L.Activation("log_softmax")])
def narrow(shape, classes):
    return keras.Sequential([keras.Input(shape), L.Flatten(), L.Dense(2)])
def nothing(shape, classes):
    return 3
def body(shape):
    i = keras.Input(shape)
    return i, L.Dense(8, name="features")(L.Flatten()(i))
def probabilities(s, k): i, x = body(s); return keras.Model(i, L.Dense(k, activation="softmax")(x))
def layer(s, k): i, x = body(s); return keras.Model(i, L.Softmax()(L.Dense(k)(x)))
def operation(s, k): i, x = body(s); return keras.Model(i, ops.softmax(L.Dense(k)(x)))
def function(s, k):
    i, x = body(s); return keras.Model(i, L.Dense(k, activation=lambda z: ops.softmax(z))(x))
def by_hand(s, k):
    i, x = body(s); e = ops.exp(L.Dense(k)(x)); return keras.Model(i, e / ops.sum(e, -1, True))
def wrapped(s, k):
    i, x = body(s); return keras.Model(i, L.Lambda(lambda z: ops.softmax(z))(L.Dense(k)(x)))
def float32_last(s, k):
    i, x = body(s); x = L.Dense(k, activation="softmax")(x)
    return keras.Model(i, L.Activation("linear", dtype="float32")(x))
def half_last(s, k):
    i, x = body(s); last = L.Dense(k, activation="softmax", dtype="mixed_bfloat16")
    return keras.Model(i, last(x))
def nested(s, k):
    i, x = body(s); head = [keras.Input((8,)), L.Dense(k, activation="softmax")]
    return keras.Model(i, keras.Sequential(head)(x))
def sigmoid(s, k): i, x = body(s); return keras.Model(i, L.Dense(k, activation="sigmoid")(x))
def percent(s, k): i, x = body(s); return keras.Model(i, 100 * ops.softmax(L.Dense(k)(x)))
def smooth(s, k): i, x = body(s); return keras.Model(i, .9 * ops.softmax(L.Dense(k)(x)) + .1 / k)
def from_bias(s, k):
    i, x = body(s)
    last = L.Dense(k, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(3))
    return keras.Model(i, last(x))
def zero_softmax(s, k):
    i, x = body(s)
    return keras.Model(i, L.Dense(k, activation="softmax", kernel_initializer="zeros")(x))
"""

    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "own.py"
        path.write_text(self.SOURCE)
        return path

    def test_the_layer_before_the_logits_is_the_feature_space(self, problem, path):
        engine = problem.engine(f"{path}:good")
        assert engine.forward(np.arange(5), problem.plan().standardisation)[1].shape == (5, 9)

    @pytest.mark.parametrize("function", ["good", "from_zero", "from_bias", "log_probabilities"])
    def test_fit_models(self, problem, path, function):
        Architecture(f"{path}:{function}", (8, 8, 2), 3).build()

    @pytest.mark.parametrize("function", ["half", "global_half"])
    def test_models_of_mixed_precision_train(self, problem, path, function, tmp_path):
        import keras

        engine, plan = problem.engine(f"{path}:{function}"), problem.plan()
        assert keras.config.dtype_policy().name == "float32"
        schedule = training.Schedule(epochs=8, batch_size=20, seed=3, learning_rate=0.01)
        training.train(engine, schedule, plan, Scratch(tmp_path))
        logits, features = engine.forward(np.arange(240), plan.standardisation)
        assert logits.dtype == features.dtype == np.float32
        others = np.setdiff1d(np.arange(240), plan.members)
        assert np.mean(logits.argmax(axis=1)[others] == problem.labels[others]) > 0.9

    @pytest.mark.parametrize("classes", [2, 3, 40])
    @pytest.mark.parametrize(
        "function",
        [
            "probabilities",
            "layer",
            "operation",
            "function",
            "by_hand",
            "wrapped",
            "float32_last",
            "half_last",
            "nested",
            "sigmoid",
            "percent",
            "smooth",
            "zero_softmax",
        ],
    )
    def test_models_of_probabilities_are_refused(self, problem, path, function, classes):
        with pytest.raises(ConfsimError, match="must end in logits"):
            Architecture(f"{path}:{function}", (8, 8, 2), classes).build()

    @pytest.mark.parametrize(
        "model", ["mlp", "softmax", "cnn", "wide", "wrn28-2", "tanh-1024-512", "good"]
    )
    @pytest.mark.parametrize("classes", [2, 10])
    def test_no_model_of_logits_is(self, problem, path, model, classes):
        from confsim.deep import models

        architecture = Architecture(model, (8, 8, 2), classes)
        built = (
            architecture.build()
            if model != "good"
            else Architecture(f"{path}:good", (8, 8, 2), classes).build()
        )
        models._check_outputs(architecture, built)

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            ("half16", "float16"),
            ("narrow", "logits of shape"),
            ("nothing", "returned int"),
            ("absent", "defines no function"),
        ],
    )
    def test_unfit_models(self, problem, path, function, message):
        with pytest.raises(ConfsimError, match=message):
            Architecture(f"{path}:{function}", (8, 8, 2), 3).build()


def test_whitening_filters_whiten():
    """Filtered patches have unit second moments, up to what is added to the eigenvalues."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (150, 9, 7, 3)).astype(np.uint8)
    images[:, 1:] = images[:, :-1] // 2 + images[:, 1:] // 2
    s = Standardisation.of(images)
    members = np.arange(0, 150, 2)
    filters = whitening_filters(images, members, s.mean, s.scale)
    assert filters.shape == (2, 2, 3, 24)
    assert np.array_equal(filters[..., :12], -filters[..., 12:])
    x = (images[members].astype(np.float64) - s.mean) * s.scale
    responses = [
        np.tensordot(image[i : i + 2, j : j + 2], filters[..., :12], 3)
        for image in x
        for i in range(8)
        for j in range(6)
    ]
    moments = np.transpose(responses) @ responses / len(responses)
    assert np.allclose(moments, np.eye(12), atol=0.01)


@pytest.mark.parametrize("name", ["vgg", "file.py", "file.txt:build", "nowhere.py:build"])
def test_unknown_models(name):
    with pytest.raises(ValueError, match="model"):
        check_model(name)


@pytest.fixture(scope="module", params=["step by step, as on a CPU", "in a loop, as on a GPU"])
def ensemble(problem, request):
    import jax

    from confsim.deep.ensemble import Ensemble

    with pytest.MonkeyPatch.context() as patch:
        if "loop" in request.param:
            patch.setattr(jax, "default_backend", lambda: "gpu")
        return Ensemble(problem.engine(), 3)


@needs_jax
def test_steps_in_a_loop_are_the_steps_one_by_one(problem, monkeypatch):
    import jax

    engine, plan = problem.engine(problem.dropout), problem.plan()
    epoch, s = an_epoch(plan.members), plan.standardisation
    ends = []
    for device in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda device=device: device)
        engine.reset(5)
        engine._train = engine.program(engine.step)
        losses = [engine.train(epoch, s, start, stop) for start, stop in ((0, 2), (2, len(epoch)))]
        ends.append((losses, engine.state()))
    monkeypatch.undo()
    engine._train = engine.program(engine.step)
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-5)
    for name, value in ends[0][1].items():
        assert np.allclose(value, ends[1][1][name], atol=1e-6), name


@needs_jax
@pytest.mark.parametrize("sources", [None, [1, 0, -1]])
@pytest.mark.parametrize("count", [3, 500, 501, 10_001])
def test_passes_in_one_program_are_the_passes_one_by_one(problem, monkeypatch, count, sources):
    import jax

    engine, s = problem.engine(), problem.plan().standardisation
    rows = np.random.default_rng(0).integers(0, len(problem.labels), count)
    sources = None if sources is None else np.array(sources, np.int32)
    found = []
    for device in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda device=device: device)
        found.append(engine.forward(rows, s, sources))
    for one_by_one, together in zip(*found, strict=True):
        assert one_by_one.shape == together.shape == (count, one_by_one.shape[1])
        assert np.allclose(one_by_one, together, rtol=1e-5, atol=1e-6)
    # Each row's numbers are its own, wherever it is in a pass.
    order = np.unique(rows, return_index=True)
    alone = engine.forward(order[0], s, sources)[0]
    assert np.allclose(found[1][0][order[1]], alone, rtol=1e-5, atol=1e-6)


@needs_jax
class TestEnsemble:
    @pytest.mark.parametrize("patience", [2, 100])
    def test_a_member_is_the_trial_trained_alone(self, problem, ensemble, tmp_path, patience):
        schedule = training.Schedule(epochs=8, batch_size=20, patience=patience, seed=3)
        plans = [problem.plan(trial) for trial in range(4)]
        engine = problem.engine()
        for folder in ("alone", "together"):
            (tmp_path / folder).mkdir()
        alone = {}
        for plan in plans:
            outcome = training.train(engine, schedule, plan, Scratch(tmp_path / "alone"))
            alone[plan.trial] = outcome, engine.weights()
        seen = []
        for plan, outcome in ensemble.train(schedule, plans, Scratch(tmp_path / "together")):
            expected, weights = alone[plan.trial]
            seen.append(plan.trial)
            assert outcome.epochs == expected.epochs
            assert outcome.best_epoch == expected.best_epoch
            assert outcome.validation_loss == pytest.approx(expected.validation_loss, rel=1e-4)
            assert np.allclose(outcome.curve, expected.curve, rtol=1e-3, equal_nan=True)
            for name, value in engine.weights().items():
                assert np.allclose(value, weights[name], atol=2e-4)
        assert seen == [0, 1, 2, 3]

    def test_interrupted_ensembles_go_on(self, problem, ensemble, tmp_path):
        plans = [problem.traced_plan(trial) for trial in range(3)]
        for folder in ("whole", "cut"):
            (tmp_path / folder).mkdir()

        def losses(folder, **options):
            context = Scratch(tmp_path / folder, **options)
            found = [trained for _, trained in ensemble.train(SCHEDULE, plans, context)]
            assert all(len(trained.traces) == trained.epochs for trained in found)
            assert all(len(trained.curve) == trained.epochs for trained in found)
            traces = [trained.traces[-1].tolist() for trained in found]
            return [trained.validation_loss for trained in found], traces

        whole = losses("whole")
        ensemble.steps_a_call = 2
        with pytest.raises(Interrupted):
            losses("cut", stop_after=3)
        assert (tmp_path / "cut" / "1" / training.CHECKPOINT).exists()
        assert losses("cut") == whole

    def test_without_early_stopping(self, problem, ensemble, tmp_path):
        plan = problem.plan()
        plan = training.Plan(
            0, plan.members, plan.validation[:0], plan.validation_labels[:0], plan.standardisation
        )
        (_, outcome), *rest = ensemble.train(SCHEDULE, [plan], Scratch(tmp_path))
        assert not rest
        assert outcome.epochs == outcome.best_epoch == SCHEDULE.epochs
        assert np.isnan(outcome.validation_loss)

    def test_averages_and_rates_are_each_trials_own(self, problem, tmp_path):
        """Averaged weights, warm-up and early stopping in an ensemble, resumed after a stop."""
        from confsim.deep.ensemble import Ensemble

        engine = problem.engine("mlp", Optimisation("sgd", ema=0.7))
        together = Ensemble(engine, 3)
        schedule = training.Schedule(
            6, 20, patience=2, seed=3, schedule="cosine", warmup=2, learning_rate=0.2
        )
        plans = [problem.plan(trial) for trial in range(3)]
        for folder in ("alone", "together", "cut"):
            (tmp_path / folder).mkdir()
        alone = []
        for plan in plans:
            training.train(engine, schedule, plan, Scratch(tmp_path / "alone"))
            alone.append(engine.weights())
        for (_, _), expected in zip(
            together.train(schedule, plans, Scratch(tmp_path / "together")), alone, strict=True
        ):
            found = engine.weights()
            assert all(np.allclose(found[k], expected[k], atol=2e-4) for k in found)
        together.steps_a_call = 2
        with pytest.raises(Interrupted):
            list(together.train(schedule, plans, Scratch(tmp_path / "cut", 3)))
        for (_, _), expected in zip(
            together.train(schedule, plans, Scratch(tmp_path / "cut")), alone, strict=True
        ):
            found = engine.weights()
            assert all(np.allclose(found[k], expected[k], atol=2e-4) for k in found)

    def test_with_dropout_members_train_as_well(self, tmp_path, problem):
        """Dropout draws differ under mapping; accuracies do not."""
        from confsim.deep.ensemble import Ensemble

        engine = problem.engine(problem.dropout)
        schedule = training.Schedule(epochs=10, batch_size=20, seed=3)
        plans = [problem.plan(trial) for trial in range(3)]
        (tmp_path / "alone").mkdir()
        alone = [
            training.train(engine, schedule, plan, Scratch(tmp_path / "alone")).validation_loss
            for plan in plans
        ]
        (tmp_path / "together").mkdir()
        together = [
            outcome.validation_loss
            for _, outcome in Ensemble(engine, 3).train(
                schedule, plans, Scratch(tmp_path / "together")
            )
        ]
        assert np.allclose(alone, together, rtol=0.5, atol=0.05)


@needs_keras
def test_nothing_is_traced_again_from_trial_to_trial(problem, tmp_path):
    engine = problem.engine(problem.dropout)
    counted = []
    build = type(engine.model).call
    try:
        type(engine.model).call = lambda *a, **k: counted.append(1) or build(*a, **k)
        for trial in range(5, 8):
            training.train(engine, SCHEDULE, problem.plan(trial), Scratch(tmp_path))
            counted.append("trial")
    finally:
        type(engine.model).call = build
    if BACKEND != "torch":
        first = counted.index("trial")
        assert 1 not in counted[first:]


@needs_keras
def test_memory_does_not_grow_with_trials(problem, tmp_path):
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    engine = problem.engine(problem.dropout)
    schedule = training.Schedule(epochs=1, batch_size=20)
    sizes = []
    for trial in range(20):
        training.train(engine, schedule, problem.plan(trial), Scratch(tmp_path))
        engine.forward(np.arange(240), problem.plan(trial).standardisation)
        gc.collect()
        sizes.append(resident())
    assert sizes[-1] - sizes[1] < 8e6


@needs_keras
@pytest.mark.parametrize("shape", [(6, 6), (7, 5), (3, 2)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_halving_is_max_pooling_of_2x2_pixels(problem, shape, padding):
    import keras

    inputs = keras.Input((*shape, 3))
    ours = keras.Model(inputs, networks._halved(inputs, padding))
    plain = keras.Model(inputs, keras.layers.MaxPooling2D(2, padding=padding)(inputs))
    images = np.random.default_rng(0).normal(-3, 1, (4, *shape, 3)).astype(np.float32)
    found, expected = (keras.ops.convert_to_numpy(m(images)) for m in (ours, plain))
    np.testing.assert_array_equal(found, expected)
