"""Engines: TensorFlow, JAX and torch mirror each other and pass one contract test suite.

An :class:`~confsim.deep.engines.base.Engine` is one model, built and compiled once, with the run's
images on the device. A trial resets its weights, trains epochs on rows of the images and reads
logits and features; none of that traces or compiles anything again. Engines know neither files nor
trials, and only the engine of the framework in use is imported.
"""

from typing import Any

from numpy.typing import NDArray

from confsim.deep.engines.base import (
    FORWARD,
    Engine,
    Epoch,
    Settings,
    Sources,
    Standardisation,
    State,
)

__all__ = [
    "FORWARD",
    "Engine",
    "Epoch",
    "Settings",
    "Sources",
    "Standardisation",
    "State",
    "open_engine",
]


def open_engine(settings: Settings, images: NDArray[Any], labels: NDArray[Any]) -> Engine:
    """Return an engine for the backend that Keras uses in this process."""
    import keras

    name = keras.backend.backend()
    if name == "tensorflow":
        from confsim.deep.engines.tensorflow import TensorFlowEngine

        return TensorFlowEngine(settings, images, labels)
    if name == "jax":
        from confsim.deep.engines.jax import JaxEngine

        return JaxEngine(settings, images, labels)
    from confsim.deep.engines.torch import TorchEngine

    return TorchEngine(settings, images, labels)
