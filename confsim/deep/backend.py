"""The only room that touches a deep-learning framework.

:func:`prepare` chooses and configures one for this process; :func:`open_engine` returns an
:class:`Engine`: one model, built and compiled once, with the run's images on the device. A trial
resets its weights, trains epochs on rows of the images and reads logits and features; none of that
traces or compiles anything again. TensorFlow, JAX and torch mirror each other and pass one contract
test suite. Engines know neither files nor trials.
"""

import importlib.util
import os
import pickle
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim._errors import ConfsimError, how_to_install
from confsim.deep.models import Recipe, features_of

BACKENDS = ("tensorflow", "jax", "torch")
_EXTRAS = {"tensorflow": "deep", "jax": "jax", "torch": "torch"}

#: Images of a forward pass; part of what makes results repeatable, so it never adapts.
FORWARD = 500

#: Arrays of a model and its optimiser by name.
State = dict[str, NDArray[Any]]

#: Source rows and columns of every pixel; see :func:`confsim.deep.design.pixel_sources`.
Sources = tuple[NDArray[np.int32], NDArray[np.int32]]


@dataclass(frozen=True)
class Standardisation:
    """What is subtracted from a trial's images, and what they are then multiplied by.

    Attributes
    ----------
    mean, scale : ndarray of float32, (channels,)
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def of(cls, images: NDArray[Any]) -> "Standardisation":
        """Measure the mean and the standard deviation of each channel (last axis) in float64."""
        rows = images.reshape(-1, images.shape[-1])
        total = np.zeros((2, rows.shape[1]))
        for start in range(0, len(rows), 1 << 20):
            block = rows[start : start + (1 << 20)].astype(np.float64)
            total += block.sum(axis=0), np.square(block).sum(axis=0)
        mean = total[0] / len(rows)
        deviation = np.sqrt(np.maximum(total[1] / len(rows) - mean**2, 0.0))
        # A constant channel carries nothing, whatever it is divided by.
        deviation[deviation <= 1e-7 * np.abs(mean)] = 1.0
        return cls(mean.astype(np.float32), (1 / deviation).astype(np.float32))


@dataclass(frozen=True)
class Settings:
    """What an engine is compiled for.

    Attributes
    ----------
    recipe : Recipe
    learning_rate : float
    augmented : bool
        Whether training gets pixel sources.
    """

    recipe: Recipe
    learning_rate: float
    augmented: bool = False


# -- Choosing a framework --------------------------------------------------------------------------


def chosen_backend(backend: str | None) -> str:
    """Return the backend: what is asked for, else ``KERAS_BACKEND``, else TensorFlow."""
    name = backend or os.environ.get("KERAS_BACKEND") or "tensorflow"
    if name not in BACKENDS:
        origin = "backend" if backend else "KERAS_BACKEND"
        raise ValueError(f"{origin} must be one of {', '.join(BACKENDS)}, not {name!r}")
    return name


def check_installed(backend: str) -> None:
    """Raise ``ConfsimError`` that says what to install; imports nothing."""
    for package in (backend, "keras"):
        if importlib.util.find_spec(package) is None:
            raise ConfsimError(
                f"backend {backend} needs {package}, which is not installed: "
                + how_to_install(_EXTRAS[backend])
            )


_TRY = """\
import pickle, sys
sys.path[:], backend, recipe = pickle.load(sys.stdin.buffer)
from confsim.deep.backend import prepare
prepare(backend, 1, None)
try:
    recipe.build()
except Exception as error:
    what = " ".join(str(error).split())
    own = type(error).__name__ == "ConfsimError"
    sys.exit(what if own else f"model: {recipe.model} failed: {type(error).__name__}: {what}")
"""


def check_builds(backend: str, recipe: Recipe) -> None:
    """Raise ``ValueError`` in one line unless a user's model builds; Keras stays out of here.

    A process of its own tries it, before anything of a run is written.
    """
    done = subprocess.run(
        [sys.executable, "-c", _TRY],
        input=pickle.dumps((sys.path, backend, recipe)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    if done.returncode:
        # Frameworks have their own words there, in front.
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        known = last.startswith("model: ")
        raise ValueError(
            last if known else f"model: {recipe.model} ended the process that tried it"
        )


def versions(backend: str) -> str:
    """Return the versions that decide what training computes; imports nothing."""
    return ", ".join(f"{name} {_version(name)}" for name in ("keras", backend))


def _version(package: str) -> str:
    for name in (package, f"{package}-cpu", f"{package}_cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"


def gpus() -> list[str]:
    """Return the CUDA devices that this process may use, by index or UUID; imports nothing."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return listed.stdout.split() if listed.returncode == 0 else []


def prepare(backend: str, threads: int, device: str | None) -> None:
    """Configure this process for a backend; before anything imports Keras.

    Parameters
    ----------
    backend : str
        One of :data:`BACKENDS`.
    threads : int
        Threads that train on a CPU.
    device : str, optional
        The CUDA device to use; ``None``: the CPU.
    """
    check_installed(backend)
    if "keras" in sys.modules:
        found = sys.modules["keras"].backend.backend()
        if found != backend:
            raise ConfsimError(f"Keras already uses {found} in this process, not {backend}")
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1" if device is None else device
    {"tensorflow": _prepare_tensorflow, "jax": _prepare_jax, "torch": _prepare_torch}[backend](
        threads, device
    )


def _prepare_tensorflow(threads: int, device: str | None) -> None:
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError as error:
        if tf.config.threading.get_intra_op_parallelism_threads() != threads:
            raise ConfsimError(
                "TensorFlow already runs in this process with other threads"
            ) from error
    tf.config.experimental.enable_op_determinism()


def _prepare_jax(threads: int, device: str | None) -> None:
    if device is None:
        os.environ["JAX_PLATFORMS"] = "cpu"
        flags = os.environ.get("XLA_FLAGS", "")
        if threads == 1 and "multi_thread_eigen" not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    else:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        flags = os.environ.get("XLA_FLAGS", "")
        if "deterministic_ops" not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()


def _prepare_torch(threads: int, device: str | None) -> None:
    import torch

    torch.set_num_threads(threads)
    if device is not None:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


# -- Engines ---------------------------------------------------------------------------------------


class Engine(ABC):
    """One compiled model with the run's images; trains one trial after another.

    Parameters
    ----------
    settings : Settings
    images : ndarray, (n, ...) uint8 or float32
    labels : ndarray of int64, (n,)

    Attributes
    ----------
    steps_a_call : int
        Steps that one call of :meth:`train` should take; its user tunes it.
    """

    steps_a_call = 4

    def __init__(self, settings: Settings, images: NDArray[Any], labels: NDArray[Any]) -> None:
        import keras

        self.settings = settings
        self.model = settings.recipe.build()
        self.forward_model = keras.Model(
            self.model.inputs, [self.model.outputs[0], features_of(self.model)]
        )
        self.optimizer = keras.optimizers.Adam(settings.learning_rate)
        self.optimizer.build(self.model.trainable_variables)
        self._fresh_optimizer = [np.array(v) for v in map(_to_numpy, self.optimizer.variables)]
        self.put_data(images, labels.astype(np.int32))

    @abstractmethod
    def put_data(self, images: NDArray[Any], labels: NDArray[Any]) -> None:
        """Place the data on the device and compile what uses them."""

    @abstractmethod
    def train(
        self,
        rows: NDArray[np.int32],
        weights: NDArray[np.float32],
        standardisation: Standardisation,
        sources: Sources | None,
        start: int,
        stop: int,
    ) -> float:
        """Take an epoch's optimiser steps ``start`` to ``stop``; return the last one's loss.

        Parameters
        ----------
        rows, weights : ndarray, (steps, batch)
            As :func:`confsim.deep.design.epoch_batches` returns them.
        standardisation : Standardisation
        sources : Sources, optional
            (steps, batch, height) and (steps, batch, width).
        start, stop : int
            Cutting an epoch into calls compiles nothing again and changes no number.
        """

    @abstractmethod
    def _forward(
        self, rows: NDArray[np.int32], standardisation: Standardisation, sources: Sources | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits and features of at most :data:`FORWARD` images."""

    def forward(
        self,
        rows: NDArray[np.int64],
        standardisation: Standardisation,
        sources: Sources | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits (k, classes) and features (k, d) of images, in inference mode.

        ``sources`` (height,) and (width,) apply to all of them.
        """
        parts = []
        for start in range(0, len(rows), FORWARD):
            part = rows[start : start + FORWARD]
            # Every call has one shape, so nothing is compiled for the last one.
            filled = np.resize(part, FORWARD).astype(np.int32)
            logits, features = self._forward(filled, standardisation, sources)
            parts.append((logits[: len(part)], features[: len(part)].reshape(len(part), -1)))
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def reset(self, seed: int) -> None:
        """Give the model new random weights and dropout seeds, and the optimiser a new start."""
        import keras

        keras.utils.set_random_seed(seed)
        fresh = self.settings.recipe.build()
        for variable, new in zip(self.model.variables, fresh.variables, strict=True):
            variable.assign(new.value)
        for variable, start in zip(self.optimizer.variables, self._fresh_optimizer, strict=True):
            variable.assign(start)

    def weights(self) -> State:
        """Return copies of the model's variables: weights, moving statistics, dropout seeds."""
        return {f"model/{k}": _to_numpy(v) for k, v in enumerate(self.model.variables)}

    def state(self) -> State:
        """Return copies of everything that training changes."""
        return self.weights() | {
            f"optimizer/{k}": _to_numpy(v) for k, v in enumerate(self.optimizer.variables)
        }

    def load(self, state: State) -> None:
        """Set what :meth:`state` or :meth:`weights` returned."""
        for kind, variables in (
            ("model", self.model.variables),
            ("optimizer", self.optimizer.variables),
        ):
            for k, variable in enumerate(variables):
                if f"{kind}/{k}" in state:
                    variable.assign(state[f"{kind}/{k}"])

    def named_weights(self) -> State:
        """Return the weights by layer and name, for ``model.npz``."""
        return {v.path: _to_numpy(v) for v in self.model.weights}


def open_engine(settings: Settings, images: NDArray[Any], labels: NDArray[Any]) -> Engine:
    """Return an engine for the backend that Keras uses in this process."""
    import keras

    kinds: dict[str, Callable[..., Engine]] = {
        "tensorflow": TensorFlowEngine,
        "jax": JaxEngine,
        "torch": TorchEngine,
    }
    return kinds[keras.backend.backend()](settings, images, labels)


def _to_numpy(variable: Any) -> NDArray[Any]:
    import keras

    return np.array(keras.ops.convert_to_numpy(variable.value))


def _batch(images: Any, standardisation: tuple[Any, Any], sources: Any) -> Any:
    """Standardise a batch and move its pixels; the same on every backend."""
    from keras import ops

    mean, scale = standardisation
    x = (ops.cast(images, "float32") - mean) * scale
    if sources is None:
        return x
    rows, columns = sources
    x = ops.take_along_axis(x, rows[:, :, None, None], axis=1)
    return ops.take_along_axis(x, columns[:, None, :, None], axis=2)


def _loss(logits: Any, labels: Any, weights: Any) -> Any:
    """Return the weighted mean cross-entropy."""
    from keras import losses, ops

    each = losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    return ops.sum(each * weights) / ops.sum(weights)


def _spread(rows: NDArray[np.int32], columns: NDArray[np.int32]) -> Sources:
    """Return sources of one image as those of a forward pass."""
    return np.tile(rows, (FORWARD, 1)), np.tile(columns, (FORWARD, 1))


class TensorFlowEngine(Engine):
    """Whole epochs in one graph: a loop over steps on resident data."""

    def put_data(self, images: NDArray[Any], labels: NDArray[Any]) -> None:
        """Place the data and trace the graphs."""
        import tensorflow as tf

        self._images, self._labels = tf.constant(images), tf.constant(labels)
        matrix = tf.TensorSpec([None, None], tf.int32)
        weights = tf.TensorSpec([None, None], tf.float32)
        vector = tf.TensorSpec([None], tf.float32)
        pixels = [tf.TensorSpec([None, None, None], tf.int32)] * 2
        self._train = tf.function(
            self._train_graph,
            input_signature=[
                matrix,
                weights,
                vector,
                vector,
                tf.TensorSpec([], tf.int32),
                tf.TensorSpec([], tf.int32),
                *(pixels if self.settings.augmented else ()),
            ],
            autograph=False,
        )
        rows = tf.TensorSpec([FORWARD], tf.int32)
        self._infer = tf.function(
            self._infer_graph, input_signature=[rows, vector, vector], autograph=False
        )
        self._infer_moved = tf.function(
            self._infer_graph,
            input_signature=[rows, vector, vector, matrix, matrix],
            autograph=False,
        )

    def _train_graph(
        self,
        rows: Any,
        weights: Any,
        mean: Any,
        scale: Any,
        start: Any,
        stop: Any,
        *sources: Any,
    ) -> Any:
        import tensorflow as tf

        trainable = self.model.trainable_variables

        def step(k: Any, _: Any) -> tuple[Any, Any]:
            moved = tuple(s[k] for s in sources) or None
            x = _batch(tf.gather(self._images, rows[k]), (mean, scale), moved)
            with tf.GradientTape() as tape:
                logits = self.model(x, training=True)
                loss = _loss(logits, tf.gather(self._labels, rows[k]), weights[k])
                total = tf.add_n([loss, *self.model.losses])
            gradients = tape.gradient(total, [v.value for v in trainable])
            self.optimizer.apply(gradients, trainable)
            return k + 1, loss

        return tf.while_loop(lambda k, _: k < stop, step, (start, 0.0), parallel_iterations=1)[1]

    def _infer_graph(self, rows: Any, mean: Any, scale: Any, *sources: Any) -> Any:
        import tensorflow as tf

        x = _batch(tf.gather(self._images, rows), (mean, scale), sources or None)
        return self.forward_model(x, training=False)

    def train(
        self,
        rows: NDArray[np.int32],
        weights: NDArray[np.float32],
        standardisation: Standardisation,
        sources: Sources | None,
        start: int,
        stop: int,
    ) -> float:
        """Take the steps in one call."""
        s = standardisation
        return float(self._train(rows, weights, s.mean, s.scale, start, stop, *(sources or ())))

    def _forward(
        self, rows: NDArray[np.int32], standardisation: Standardisation, sources: Sources | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        s = standardisation
        if sources is None:
            logits, features = self._infer(rows, s.mean, s.scale)
        else:
            logits, features = self._infer_moved(rows, s.mean, s.scale, *_spread(*sources))
        return logits.numpy(), features.numpy()


class JaxEngine(Engine):
    """Whole epochs in one program; the state is threaded through, as JAX wants it."""

    def put_data(self, images: NDArray[Any], labels: NDArray[Any]) -> None:
        """Place the data and declare the programs; they compile at their first use."""
        import jax

        self._images, self._labels = jax.device_put(images), jax.device_put(labels)
        self._train = jax.jit(self.steps, donate_argnums=0)
        self._infer = jax.jit(self.infer)

    def steps(
        self,
        state: Any,
        data: Any,
        rows: Any,
        weights: Any,
        standardisation: Any,
        sources: Any,
        start: Any,
        stop: Any,
    ) -> tuple[Any, Any]:
        """Take steps ``start`` to ``stop`` from ``state``; return the new one and the last loss."""
        import jax

        images, labels = data

        def step(k: Any, carried: Any) -> tuple[Any, Any]:
            trainable, fixed, optimizer = carried[0]
            chosen, weight, moved = jax.tree.map(lambda a: a[k], (rows, weights, sources))
            x = _batch(images[chosen], standardisation, moved)

            def objective(trainable: Any, fixed: Any) -> tuple[Any, Any]:
                logits, fixed, penalties = self.model.stateless_call(
                    trainable, fixed, x, training=True, return_losses=True
                )
                loss = _loss(logits, labels[chosen], weight)
                return loss + sum(penalties), (loss, fixed)

            gradient = jax.value_and_grad(objective, has_aux=True)
            (_, (loss, fixed)), gradients = gradient(trainable, fixed)
            trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
            return (trainable, fixed, optimizer), loss

        # Bounds are traced, so that one program takes any number of steps.
        end: tuple[Any, Any] = jax.lax.fori_loop(start, stop, step, (state, jax.numpy.float32(0)))
        return end

    def infer(
        self, trainable: Any, fixed: Any, data: Any, rows: Any, standardisation: Any, sources: Any
    ) -> Any:
        """Return logits and features of images ``rows``."""
        x = _batch(data[0][rows], standardisation, sources)
        return self.forward_model.stateless_call(trainable, fixed, x, training=False)[0]

    @property
    def data(self) -> tuple[Any, Any]:
        """Images and labels on the device."""
        return self._images, self._labels

    def values(self) -> tuple[list[Any], list[Any], list[Any]]:
        """Return the trainable, the other and the optimiser's values."""
        return (
            [v.value for v in self.model.trainable_variables],
            [v.value for v in self.model.non_trainable_variables],
            [v.value for v in self.optimizer.variables],
        )

    def set_values(self, values: tuple[list[Any], list[Any], list[Any]]) -> None:
        """Set what :meth:`values` returned."""
        groups = (
            self.model.trainable_variables,
            self.model.non_trainable_variables,
            self.optimizer.variables,
        )
        for variables, new in zip(groups, values, strict=True):
            for variable, value in zip(variables, new, strict=True):
                variable.assign(value)

    def train(
        self,
        rows: NDArray[np.int32],
        weights: NDArray[np.float32],
        standardisation: Standardisation,
        sources: Sources | None,
        start: int,
        stop: int,
    ) -> float:
        """Take the steps in one call."""
        import jax

        s = standardisation
        # Donated buffers are consumed; the variables get the new ones.
        state = jax.tree.map(lambda value: value.copy(), self.values())
        state, loss = self._train(
            state, self.data, rows, weights, (s.mean, s.scale), sources, start, stop
        )
        self.set_values(state)
        return float(loss)

    def _forward(
        self, rows: NDArray[np.int32], standardisation: Standardisation, sources: Sources | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        s = standardisation
        trainable, fixed, _ = self.values()
        logits, features = self._infer(
            trainable, fixed, self.data, rows, (s.mean, s.scale), sources and _spread(*sources)
        )
        return np.asarray(logits), np.asarray(features)


class TorchEngine(Engine):
    """Eager steps on resident data; dropout draws from torch's own generators."""

    def put_data(self, images: NDArray[Any], labels: NDArray[Any]) -> None:
        """Place the data."""
        from keras import ops

        self._images, self._labels = (ops.convert_to_tensor(np.array(a)) for a in (images, labels))

    def train(
        self,
        rows: NDArray[np.int32],
        weights: NDArray[np.float32],
        standardisation: Standardisation,
        sources: Sources | None,
        start: int,
        stop: int,
    ) -> float:
        """Take the steps one by one."""
        import torch
        from keras import ops

        trainable = self.model.trainable_variables
        loss = None
        for k in range(start, stop):
            chosen = ops.convert_to_tensor(rows[k].astype(np.int64))
            x = self._inputs(chosen, standardisation, sources and tuple(s[k] for s in sources))
            self.model.zero_grad()
            logits = self.model(x, training=True)
            loss = _loss(logits, self._labels[chosen], ops.convert_to_tensor(weights[k]))
            (loss + sum(self.model.losses)).backward()
            with torch.no_grad():
                self.optimizer.apply([v.value.grad for v in trainable], trainable)
        return float("nan") if loss is None else float(loss.detach())

    def state(self) -> State:
        """Return copies of everything that training changes, torch's generators included."""
        import torch

        generators = {"torch/cpu": torch.get_rng_state().numpy()}
        if torch.cuda.is_available():
            generators["torch/cuda"] = torch.cuda.get_rng_state().numpy()
        return super().state() | generators

    def load(self, state: State) -> None:
        """Set what :meth:`state` or :meth:`weights` returned."""
        import torch

        super().load(state)
        if "torch/cpu" in state:
            torch.set_rng_state(torch.from_numpy(state["torch/cpu"]))
        if "torch/cuda" in state:
            torch.cuda.set_rng_state(torch.from_numpy(state["torch/cuda"]))

    def _inputs(self, rows: Any, standardisation: Standardisation, sources: Any) -> Any:
        from keras import ops

        s = standardisation
        moved = sources and tuple(ops.convert_to_tensor(p.astype(np.int64)) for p in sources)
        constants = ops.convert_to_tensor(s.mean), ops.convert_to_tensor(s.scale)
        return _batch(self._images[rows], constants, moved)

    def _forward(
        self, rows: NDArray[np.int32], standardisation: Standardisation, sources: Sources | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        import torch
        from keras import ops

        with torch.no_grad():
            chosen = ops.convert_to_tensor(rows.astype(np.int64))
            x = self._inputs(chosen, standardisation, sources and _spread(*sources))
            logits, features = self.forward_model(x, training=False)
        return ops.convert_to_numpy(logits), ops.convert_to_numpy(features)
