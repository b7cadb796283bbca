"""What every engine is: one model, built and compiled once, with a run's images on the device."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.deep.models import Architecture, features_of, whitening_filters
from confsim.deep.networks import WHITENING
from confsim.deep.optimisation import ADAM, Optimisation

#: Images of a forward pass; part of what makes results repeatable, so it never adapts.
FORWARD = 500

#: The most forward passes of one call.
PASSES = 20

#: Arrays of a model and its optimiser by name.
State = dict[str, NDArray[Any]]

#: Where the pixels of images come from, (..., 3) or (..., 5): whether mirrored, shifts down and
#: right, and with cut-out the centre of the square; see :func:`confsim.deep.design.augmentation`.
Sources = NDArray[np.int32]


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
        """Measure the mean and the standard deviation of each channel (last axis) in float64.

        Of numbers that are not missing (NaN); a channel in which all are has mean 0.
        """
        total, count = _sums(images)
        mean = total[0] / np.maximum(count, 1)
        deviation = np.sqrt(np.maximum(total[1] / np.maximum(count, 1) - mean**2, 0.0))
        # A constant channel carries nothing, whatever it is divided by.
        deviation[deviation <= 1e-7 * np.abs(mean)] = 1.0
        return cls(mean.astype(np.float32), (1 / deviation).astype(np.float32))


def _sums(images: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return each channel's sums of values and of squares (2, channels), and how many there are."""
    channels = images.shape[-1]
    if images.dtype == np.uint8:
        # Sums of whole numbers are exact, so their order is free: over images first, which is fast.
        pixels = images.reshape(len(images), -1)
        exact = np.zeros((2, pixels.shape[1]), np.int64)
        for start in range(0, len(pixels), 64):
            block = pixels[start : start + 64].astype(np.uint16)
            exact[0] += block.sum(axis=0, dtype=np.uint32)
            exact[1] += (block * block).sum(axis=0, dtype=np.uint32)
        count = np.full(channels, images.size // channels)
        return exact.reshape(2, -1, channels).sum(axis=1).astype(np.float64), count
    rows = images.reshape(-1, channels)
    total, count = np.zeros((2, channels)), np.zeros(channels, np.int64)
    for start in range(0, len(rows), 1 << 20):
        block = rows[start : start + (1 << 20)].astype(np.float64)
        missing = np.isnan(block)
        block[missing] = 0.0
        total += block.sum(axis=0), np.square(block).sum(axis=0)
        count += len(block) - missing.sum(axis=0)
    return total, count


@dataclass(frozen=True)
class Settings:
    """What an engine is compiled for.

    Attributes
    ----------
    architecture : Architecture
    optimisation : Optimisation
    augmented : bool
        Whether training gets sources.
    cutout : int
        Edge of the square that training images lose, in pixels; 0 for none.
    label_smoothing : float
        Part of the target that is spread evenly over all classes, in [0, 1).
    """

    architecture: Architecture
    optimisation: Optimisation = ADAM
    augmented: bool = False
    cutout: int = 0
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class Epoch:
    """What the steps of an epoch work on.

    Attributes
    ----------
    rows : ndarray of int32, (steps, batch)
    weights : ndarray of float32, (steps, batch)
        Both as :func:`confsim.deep.design.epoch_batches` returns them.
    rates : ndarray of float32, (steps,)
        The learning rate of each step.
    sources : Sources, (steps, batch, 3 or 5), optional
    """

    rows: NDArray[np.int32]
    weights: NDArray[np.float32]
    rates: NDArray[np.float32]
    sources: Sources | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def arrays(self) -> tuple[Any, ...]:
        """The arrays in the order of the attributes."""
        return self.rows, self.weights, self.rates, self.sources


class Engine(ABC):
    """One compiled model with the run's images; trains one trial after another.

    Parameters
    ----------
    settings : Settings
    images : ndarray, (n, ...) uint8 or float32
    labels : ndarray of int64, (n,)

    Attributes
    ----------
    missing : bool
        Whether some of the numbers are: NaN.
    steps_a_call : int
        Steps that one call of :meth:`train` should take; its user tunes it.
    """

    steps_a_call = 4

    def __init__(self, settings: Settings, images: NDArray[Any], labels: NDArray[Any]) -> None:
        import keras

        self.settings = settings
        self.images = images
        self.missing = images.dtype.kind == "f" and bool(np.isnan(images).any())
        self.model = settings.architecture.build()
        self.forward_model = keras.Model(
            self.model.inputs, [self.model.outputs[0], features_of(self.model)]
        )
        self.optimizer = settings.optimisation.build(self.model)
        self._fresh_optimizer = [np.array(v) for v in map(to_numpy, self.optimizer.variables)]
        self.put_data(images, labels.astype(np.int32))

    @abstractmethod
    def put_data(self, images: NDArray[Any], labels: NDArray[Any]) -> None:
        """Place the data on the device and compile what uses them."""

    @abstractmethod
    def train(self, epoch: Epoch, standardisation: Standardisation, start: int, stop: int) -> float:
        """Take an epoch's optimiser steps ``start`` to ``stop``; return the last one's loss.

        Cutting an epoch into calls compiles nothing again and changes no number.
        """

    @abstractmethod
    def _forward(
        self, rows: NDArray[np.int32], standardisation: Standardisation, sources: Sources | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits and features of :data:`FORWARD` images; ``sources`` (FORWARD, 3)."""

    def forward(
        self,
        rows: NDArray[np.int64],
        standardisation: Standardisation,
        sources: Sources | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits (k, classes) and features (k, d) of images, in inference mode.

        ``sources`` (3,) apply to all of them. Reduced precision ends here: both are float32.
        """
        if sources is not None:
            sources = np.tile(sources, (FORWARD, 1))
        # Every pass has one shape, so nothing is compiled for the last one.
        passes = np.resize(rows, (max(1, -(-len(rows) // FORWARD)), FORWARD)).astype(np.int32)
        parts = [
            self._forward_all(passes[start : start + PASSES], standardisation, sources)
            for start in range(0, len(passes), PASSES)
        ]
        logits, features = (np.concatenate(outputs) for outputs in zip(*parts, strict=True))
        shape = len(passes) * FORWARD, -1
        return logits.reshape(shape)[: len(rows)], features.reshape(shape)[: len(rows)]

    def _forward_all(
        self, passes: NDArray[np.int32], standardisation: Standardisation, sources: Sources | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return :meth:`_forward` of at most :data:`PASSES` rows of images, with a leading axis."""
        each = [self._forward(rows, standardisation, sources) for rows in passes]
        return np.stack([logits for logits, _ in each]), np.stack([found for _, found in each])

    def reset(
        self,
        seed: int,
        members: NDArray[np.int64] | None = None,
        standardisation: Standardisation | None = None,
    ) -> None:
        """Give the model new random weights and dropout seeds, and the optimiser a new start.

        ``members`` and their ``standardisation`` decide the filters of a whitening layer.
        """
        import keras

        keras.utils.set_random_seed(seed)
        fresh = self.settings.architecture.network()
        for variable, new in zip(self.model.variables, fresh.variables, strict=True):
            variable.assign(new.value)
        for variable, start in zip(self.optimizer.variables, self._fresh_optimizer, strict=True):
            variable.assign(start)
        if members is not None and standardisation is not None:
            for layer in self.model.layers:
                if layer.name == WHITENING:
                    s = standardisation
                    layer.kernel.assign(whitening_filters(self.images, members, s.mean, s.scale))

    @property
    def averages(self) -> list[Any]:
        """The optimiser's variables that hold averages of the weights; none without them."""
        if not self.settings.optimisation.ema:
            return []
        return list(self.optimizer._model_variables_moving_average)

    def take_averages(self) -> None:
        """Put the averages of the weights, where there are any, into the model."""
        for variable, average in zip(self.model.trainable_variables, self.averages, strict=False):
            variable.assign(average.value)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the averages of the weights, where there are any, in the model for a while."""
        from keras import ops

        averages = self.averages
        trained = [ops.copy(v.value) for v in self.model.trainable_variables] if averages else []
        self.take_averages()
        try:
            yield
        finally:
            for variable, value in zip(self.model.trainable_variables, trained, strict=False):
                variable.assign(value)

    def weights(self) -> State:
        """Return copies of the model's variables (weights, moving statistics, dropout seeds).

        The weights are those to be examined: their averages, where there are any.
        """
        with self.averaged():
            return self._model_state()

    def state(self) -> State:
        """Return copies of everything that training changes."""
        return self._model_state() | {
            f"optimizer/{k}": to_numpy(v) for k, v in enumerate(self.optimizer.variables)
        }

    def _model_state(self) -> State:
        return {f"model/{k}": to_numpy(v) for k, v in enumerate(self.model.variables)}

    def load(self, state: State) -> None:
        """Set what :meth:`state` or :meth:`weights` returned.

        Of the latter, weights are their own averages.
        """
        for kind, variables in (
            ("model", self.model.variables),
            ("optimizer", self.optimizer.variables),
        ):
            for k, variable in enumerate(variables):
                if f"{kind}/{k}" in state:
                    variable.assign(state[f"{kind}/{k}"])
        if not any(name.startswith("optimizer/") for name in state):
            trainable = self.model.trainable_variables
            for average, variable in zip(self.averages, trainable, strict=False):
                average.assign(variable.value)

    def named_weights(self) -> State:
        """Return the weights by layer and name, for ``model.npz``."""
        return {v.path: to_numpy(v) for v in self.model.weights}

    def loss(self, logits: Any, labels: Any, weights: Any) -> Any:
        """Return the weighted mean cross-entropy of a batch, in float32."""
        from keras import losses, ops

        logits, smoothing = as_float32(logits), self.settings.label_smoothing
        each = losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        if smoothing:
            evenly = -ops.mean(ops.log_softmax(logits, axis=-1), axis=-1)
            each = (1 - smoothing) * each + smoothing * evenly
        return ops.sum(each * weights) / ops.sum(weights)

    def standardised(self, images: Any, standardisation: tuple[Any, Any], sources: Any) -> Any:
        """Return a batch's images standardised and, with five sources, with their squares cut.

        A missing number is taken for the mean.
        """
        from keras import ops

        mean, scale = standardisation
        x = (ops.cast(images, "float32") - mean) * scale
        if self.missing:
            x = ops.where(ops.isnan(x), ops.zeros_like(x), x)
        if sources is None or sources.shape[-1] == 3:
            return x
        size = self.settings.cutout
        first = sources[:, 3:] - size // 2
        inside = []
        for axis, extent in enumerate(x.shape[1:3]):
            at = ops.arange(extent, dtype="int32")[None, :] - first[:, axis : axis + 1]
            inside.append(ops.logical_and(at >= 0, at < size))
        cut = ops.logical_and(inside[0][:, :, None], inside[1][:, None, :])
        return ops.where(cut[..., None], ops.zeros_like(x), x)


def pixel_sources(sources: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return the rows (batch, height) and columns (batch, width) that pixels are taken from.

    The image is shifted, reflected at its border, and then mirrored.
    """
    from keras import ops

    height, width = shape[:2]
    mirrored, down, right = (sources[:, k : k + 1] for k in range(3))
    columns = ops.arange(width, dtype="int32")[None, :]
    columns = ops.where(mirrored > 0, width - 1 - columns, columns)
    rows = ops.arange(height, dtype="int32")[None, :]
    return _reflected(rows - down, height), _reflected(columns - right, width)


def _reflected(positions: Any, extent: int) -> Any:
    from keras import ops

    positions = ops.abs(positions)
    return ops.where(positions >= extent, 2 * (extent - 1) - positions, positions)


def as_float32(values: Any) -> Any:
    """Return logits or features as float32, whatever precision the model computes in."""
    from keras import ops

    return ops.cast(values, "float32")


def to_numpy(variable: Any) -> NDArray[Any]:
    """Return a copy of a variable's value."""
    import keras

    return np.array(keras.ops.convert_to_numpy(variable.value))
