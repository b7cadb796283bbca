"""What every engine is: one model, built and compiled once, with a run's images on the device."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.deep.models import Recipe, features_of

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
        self._fresh_optimizer = [np.array(v) for v in map(to_numpy, self.optimizer.variables)]
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
        return {f"model/{k}": to_numpy(v) for k, v in enumerate(self.model.variables)}

    def state(self) -> State:
        """Return copies of everything that training changes."""
        return self.weights() | {
            f"optimizer/{k}": to_numpy(v) for k, v in enumerate(self.optimizer.variables)
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
        return {v.path: to_numpy(v) for v in self.model.weights}


def to_numpy(variable: Any) -> NDArray[Any]:
    """Return a copy of a variable's value."""
    import keras

    return np.array(keras.ops.convert_to_numpy(variable.value))


def batch(images: Any, standardisation: tuple[Any, Any], sources: Any) -> Any:
    """Standardise a batch and move its pixels; the same on every backend."""
    from keras import ops

    mean, scale = standardisation
    x = (ops.cast(images, "float32") - mean) * scale
    if sources is None:
        return x
    rows, columns = sources
    x = ops.take_along_axis(x, rows[:, :, None, None], axis=1)
    return ops.take_along_axis(x, columns[:, None, :, None], axis=2)


def weighted_loss(logits: Any, labels: Any, weights: Any) -> Any:
    """Return the weighted mean cross-entropy."""
    from keras import losses, ops

    each = losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    return ops.sum(each * weights) / ops.sum(weights)


def spread(rows: NDArray[np.int32], columns: NDArray[np.int32]) -> Sources:
    """Return sources of one image as those of a forward pass."""
    return np.tile(rows, (FORWARD, 1)), np.tile(columns, (FORWARD, 1))
