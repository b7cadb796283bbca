"""Models: which network, how it is built, and whether a user's own is fit.

A model is a function of the input shape and the number of classes; it knows no data, training or
backend. Keras is imported when one is built, in a worker process.
"""

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from confsim._errors import ConfsimError
from confsim.deep.networks import BUILDERS, FLAT

#: Models that come with the package.
NAMED = tuple(BUILDERS)

#: Models that need images, and whose ensembles are hopeless on a CPU.
CONVOLUTIONAL = tuple(name for name in NAMED if name not in FLAT)

PRECISIONS = ("float32", "bfloat16")

#: Members whose patches decide whitening filters, and what is added to their variances.
_WHITENING_IMAGES = 2000
_WHITENING_EPSILON = 5e-4

#: Inputs on which a user's model is looked at, and their sizes in standard deviations.
_LOOKED_AT = 32
_LOOKED_AT_SCALES = (1.0, 30.0)

#: Differences within which a row of outputs counts as probabilities: bfloat16 has 8 bits.
_PROBABILITY_SLACK = 0.02

Shape: TypeAlias = "tuple[int, ...]"


@dataclass(frozen=True)
class Architecture:
    """What is needed to build a model.

    Attributes
    ----------
    model : str
        One of :data:`NAMED` or ``path/to/file.py:function``.
    input_shape : tuple of int
    classes : int
    hidden : int
        Units of the ``features`` layer of ``cnn`` and ``mlp``.
    l2 : float
        Penalty on the squared weights of every kernel of a named model.
    precision : str
        One of :data:`PRECISIONS`: what layers compute in; weights are float32 in any case.
    """

    model: str
    input_shape: Shape
    classes: int
    hidden: int = 128
    l2: float = 0.0
    precision: str = "float32"

    def build(self) -> Any:
        """Return a new ``keras.Model`` with random weights.

        Raises
        ------
        ConfsimError
            If a user's own function fails or returns something else.
        """
        model = self.network()
        if self.model not in NAMED:
            _check_own(self, model)
        return model

    def network(self) -> Any:
        """Return a new model as :meth:`build` does, without looking at it."""
        import keras

        policy = keras.config.dtype_policy()
        if self.precision != "float32":
            keras.config.set_dtype_policy(f"mixed_{self.precision}")
        try:
            if self.model in NAMED:
                return BUILDERS[self.model](self)
            return _from_file(self.model)(self.input_shape, self.classes)
        finally:
            # A user's function may have set one for itself, too.
            keras.config.set_dtype_policy(policy)


#: What version 0.1 called it, for code that was written then.
Recipe = Architecture


def check_model(model: str) -> None:
    """Raise ``ValueError`` that offers the names unless ``model`` is one or a file's function."""
    if model in NAMED:
        return
    path, separator, function = model.rpartition(":")
    if not separator or not function.isidentifier() or not path.endswith(".py"):
        raise ValueError(
            f"model must be one of {', '.join(NAMED)} or path/to/file.py:function, not {model!r}"
        )
    if not Path(path).is_file():
        raise ValueError(f"model: there is no file {path}")


def model_identity(model: str) -> str:
    """Return the model's part in a run's identity: its name, or the hash of its source."""
    if model in NAMED:
        return model
    path, _, function = model.rpartition(":")
    return f"{function} of {hashlib.sha256(Path(path).read_bytes()).hexdigest()}"


def features_of(model: Any) -> Any:
    """Return the tensor of the feature space: the ``features`` layer's, else the logits' input."""
    names = [layer.name for layer in model.layers]
    if "features" in names:
        return model.get_layer("features").output
    return model.layers[-1].input


def _from_file(model: str) -> Callable[[Shape, int], Any]:
    path, _, function = model.rpartition(":")
    spec = importlib.util.spec_from_file_location("confsim_user_model", path)
    if spec is None or spec.loader is None:
        raise ConfsimError(f"model: {path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, function, None)):
        raise ConfsimError(f"model: {path} defines no function {function}")
    build: Callable[[Shape, int], Any] = getattr(module, function)
    return build


def _check_own(architecture: Architecture, model: Any) -> None:
    import keras

    name = architecture.model
    if not isinstance(model, (keras.Sequential, keras.Model)) or not hasattr(model, "layers"):
        raise ConfsimError(f"model: {name} returned {type(model).__name__}, no keras.Model")
    if len(getattr(model, "inputs", None) or ()) != 1 or len(model.outputs) != 1:
        raise ConfsimError(
            f"model: {name} must return a functional or Sequential model with one input "
            "and one output"
        )
    expected = (None, architecture.classes)
    if tuple(model.outputs[0].shape) != expected:
        raise ConfsimError(
            f"model: {name} must return logits of shape {expected}, not "
            f"{tuple(model.outputs[0].shape)}"
        )
    _check_outputs(architecture, model)


def _check_outputs(architecture: Architecture, model: Any) -> None:
    """Raise ``ConfsimError`` if a model's outputs on random inputs look like probabilities.

    It is the numbers that are looked at, because layers can hide a softmax in many ways. On inputs
    of several sizes and both signs, logits leave [0, 1] somewhere; outputs that are all zero are
    those of a last layer that starts at zero.
    """
    from keras import ops

    name = architecture.model
    if "float16" in {layer.compute_dtype for layer in all_layers(model)}:
        raise ConfsimError(
            f"model: {name} computes in float16, in which small gradients vanish: build it "
            "in float32 or bfloat16, or leave it to --precision bfloat16"
        )
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((_LOOKED_AT, *architecture.input_shape)).astype(np.float32)
    found = []
    for scale in _LOOKED_AT_SCALES:
        for sign in (1, -1):
            inputs = ops.convert_to_tensor(np.float32(sign * scale) * drawn)
            outputs = ops.cast(model(inputs, training=False), "float32")
            found.append(np.asarray(ops.convert_to_numpy(ops.stop_gradient(outputs))))
    values = np.concatenate(found)
    # A softmax by hand overflows on the large ones.
    values = values[np.isfinite(values).all(axis=1)]
    if not values.any():
        return
    within = (values >= -_PROBABILITY_SLACK).all() and (values <= 1 + _PROBABILITY_SLACK).all()
    total = float(np.median(values.sum(axis=1)))
    slack = _PROBABILITY_SLACK * max(1.0, abs(total))
    sums = np.abs(values.sum(axis=1) - total).max() <= slack
    # Percentages are shares, too; equal outputs are those of a last layer that starts at a bias.
    shares = sums and (values >= -slack).all() and np.ptp(values, axis=0).max() > slack
    if not within and not shares:
        return
    what = f"add up to {1 if within else total:.3g}" if sums else "are all in [0, 1]"
    raise ConfsimError(
        f"model: {name} must end in logits, without a softmax or a sigmoid: its outputs "
        f"{what} on random inputs"
    )


def all_layers(model: Any) -> list[Any]:
    """Return the layers of a model and of the models within it."""
    return [model, *model._flatten_layers(include_self=False)]


def whitening_filters(
    images: NDArray[Any], members: NDArray[np.int64], mean: NDArray[Any], scale: NDArray[Any]
) -> NDArray[np.float32]:
    """Return filters (2, 2, channels, 8 channels) that whiten 2x2 patches, and their negatives.

    They are the eigenvectors of the patches' second moments, over the first members, each divided
    by the root of its eigenvalue (plus a little); largest first.
    """
    moments, patches = np.zeros((4 * images.shape[-1],) * 2), 0
    for start in range(0, min(len(members), _WHITENING_IMAGES), 100):
        block = images[members[start : min(start + 100, _WHITENING_IMAGES)]]
        x = (block.astype(np.float64) - mean) * scale
        corners = [x[:, :-1, :-1], x[:, :-1, 1:], x[:, 1:, :-1], x[:, 1:, 1:]]
        flat = np.concatenate(corners, axis=-1).reshape(-1, len(moments))
        # One fixed order of summation: a matrix product's may depend on the number of threads.
        moments += np.einsum("pi,pj->ij", flat, flat)
        patches += len(flat)
    values, vectors = np.linalg.eigh(moments / patches)
    # A vector and its negative are both right: the sign of the largest entry decides.
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, range(len(values))])
    filters = (vectors / np.sqrt(values + _WHITENING_EPSILON))[:, ::-1]
    both = np.concatenate([filters, -filters], axis=1)
    return both.reshape(2, 2, images.shape[-1], -1).astype(np.float32)
