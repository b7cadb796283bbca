"""The contract of an engine: one suite for every backend, on small models.

A process can use one backend. This one takes the first that is installed, or what
``CONFSIM_TEST_BACKEND`` names: run the suite once for each.
"""

import gc
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from confsim import ConfsimError
from confsim.deep import backend as backends
from confsim.deep import design, training
from confsim.deep.backend import Settings, Standardisation
from confsim.deep.models import Recipe, check_model
from confsim.experiment import Interrupted


def installed(name):
    return all(importlib.util.find_spec(package) for package in (name, "keras"))


WANTED = os.environ.get("CONFSIM_TEST_BACKEND")
BACKEND = WANTED or next((name for name in backends.BACKENDS if installed(name)), None)

needs_keras = pytest.mark.skipif(BACKEND is None, reason="no Keras backend is installed")
needs_jax = pytest.mark.skipif(BACKEND != "jax", reason="ensembles need the JAX backend")


class Scratch:
    """A context that can ask to stop at its n-th question."""

    def __init__(self, path, stop_after=None):
        self.path, self.left = path, stop_after

    def progress(self, trial, fraction):
        assert 0 <= fraction <= 1

    def should_stop(self):
        if self.left is not None:
            self.left -= 1
        return self.left is not None and self.left < 0

    def scratch(self, trial):
        path = self.path / str(trial)
        path.mkdir(exist_ok=True)
        return path


DROPOUT = """
import keras
def build(shape, classes):
    L = keras.layers
    return keras.Sequential([keras.Input(shape), L.Flatten(), L.Dense(24, "tanh"),
        L.Dropout(0.3), L.Dense(classes)])
"""


class Problem:
    """Blobs as 8x8 images, plans, and an engine a recipe."""

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

    def engine(self, model="mlp", augmented=False, **options):
        key = (model, augmented, *options.items())
        if key not in self.engines:
            recipe = Recipe(model, (8, 8, 2), 3, hidden=16, **options)
            self.engines[key] = backends.open_engine(
                Settings(recipe, 1e-3, augmented), self.images, self.labels
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


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    return Problem(tmp_path_factory.mktemp("models"))


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
        rows, weights = design.epoch_batches(plan.members, 20, 0, 0, 0)
        engine.train(rows, weights, plan.standardisation, None, 0, len(rows))
        assert not equal(engine.state(), first)
        engine.reset(6)
        assert not equal(engine.state(), first)
        engine.reset(5)
        assert equal(engine.state(), first)

    def test_cutting_an_epoch_changes_nothing(self, problem):
        engine, plan = problem.engine(problem.dropout), problem.plan()
        rows, weights = design.epoch_batches(plan.members, 20, 0, 0, 0)
        engine.reset(5)
        engine.train(rows, weights, plan.standardisation, None, 0, 5)
        whole = engine.state()
        engine.reset(5)
        for start, stop in ((0, 1), (1, 4), (4, 5)):
            engine.train(rows, weights, plan.standardisation, None, start, stop)
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
        engine.train(rows, weights, plan.standardisation, None, 0, 1)
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

    def test_a_damaged_checkpoint_counts_for_nothing(self, problem, tmp_path):
        engine, plan = problem.engine(), problem.plan()
        whole = training.train(engine, SCHEDULE, plan, Scratch(tmp_path))
        path = tmp_path / "0" / training.CHECKPOINT
        path.write_bytes(path.read_bytes()[:1000])
        assert training.train(engine, SCHEDULE, plan, Scratch(tmp_path)) == whole

    def test_augmented_training_and_queries(self, problem, tmp_path):
        plan = problem.plan()
        schedule = training.Schedule(epochs=2, batch_size=20, augment="weak", seed=3)
        engine = problem.engine(augmented=True)
        training.train(engine, schedule, plan, Scratch(tmp_path))
        rows = np.arange(30)
        sources = design.query_sources((8, 8, 2), 5)
        moved = problem.engine("softmax").forward(rows, plan.standardisation, sources)[1]
        pixels = problem.images[rows][:, sources[0]][:, :, sources[1]]
        s = plan.standardisation
        expected = ((pixels - s.mean) * s.scale).reshape(30, -1)
        assert np.allclose(moved, expected, atol=1e-5)

    @pytest.mark.skipif(BACKEND == "jax", reason="XLA compiles it for half a minute on a CPU")
    def test_residual_network(self, problem, tmp_path):
        engine, plan = problem.engine("resnet"), problem.plan()
        schedule = training.Schedule(epochs=1, batch_size=45, seed=3)
        training.train(engine, schedule, plan, Scratch(tmp_path))
        logits, features = engine.forward(np.arange(20), plan.standardisation)
        assert logits.shape == (20, 3)
        assert features.shape == (20, 256)
        assert np.isfinite(logits).all()

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
def good(shape, classes):
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(),
        keras.layers.Dense(9, activation="relu"), keras.layers.Dense(classes)])
def probabilities(shape, classes):
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(),
        keras.layers.Dense(classes, activation="softmax")])
def narrow(shape, classes):
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(2)])
def nothing(shape, classes):
    return 3
"""

    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "own.py"
        path.write_text(self.SOURCE)
        return path

    def test_the_layer_before_the_logits_is_the_feature_space(self, problem, path):
        engine = problem.engine(f"{path}:good")
        assert engine.forward(np.arange(5), problem.plan().standardisation)[1].shape == (5, 9)

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            ("probabilities", "without a softmax"),
            ("narrow", "logits of shape"),
            ("nothing", "returned int"),
            ("absent", "defines no function"),
        ],
    )
    def test_unfit_models(self, path, function, message):
        with pytest.raises(ConfsimError, match=message):
            Recipe(f"{path}:{function}", (8, 8, 2), 3).build()


@pytest.mark.parametrize("name", ["vgg", "file.py", "file.txt:build", "nowhere.py:build"])
def test_unknown_models(name):
    with pytest.raises(ValueError, match="model"):
        check_model(name)


@pytest.fixture(scope="module")
def ensemble(problem):
    from confsim.deep.ensemble import Ensemble

    return Ensemble(problem.engine(), 3)


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
            for name, value in engine.weights().items():
                assert np.allclose(value, weights[name], atol=2e-4)
        assert seen == [0, 1, 2, 3]

    def test_interrupted_ensembles_go_on(self, problem, ensemble, tmp_path):
        plans = [problem.plan(trial) for trial in range(3)]
        for folder in ("whole", "cut"):
            (tmp_path / folder).mkdir()

        def losses(folder, **options):
            context = Scratch(tmp_path / folder, **options)
            return [t.validation_loss for _, t in ensemble.train(SCHEDULE, plans, context)]

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
