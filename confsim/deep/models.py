"""The models: Keras 3 networks that end in a ``features`` layer and a layer of logits.

A model is a function of the input shape and the number of classes; it knows no data, training or
backend. Keras is imported when one is built, in a worker process.
"""

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from confsim._errors import ConfsimError

#: Classic image models, and those that take any array.
NAMED = ("cnn", "mlp", "softmax", "resnet")

#: Models that need images, and whose ensembles are hopeless on a CPU.
CONVOLUTIONAL = ("cnn", "resnet")

Shape: TypeAlias = "tuple[int, ...]"


@dataclass(frozen=True)
class Recipe:
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
    """

    model: str
    input_shape: Shape
    classes: int
    hidden: int = 128
    l2: float = 0.0

    def build(self) -> Any:
        """Return a new ``keras.Model`` with random weights.

        Raises
        ------
        ConfsimError
            If a user's own function fails or returns something else.
        """
        if self.model in NAMED:
            return _BUILDERS[self.model](self)
        model = _from_file(self.model)(self.input_shape, self.classes)
        _check_own(self, model)
        return model


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


def _cnn(recipe: Recipe) -> Any:
    """Two blocks of two convolutions, as in Keras' old CIFAR-10 example, and a tanh layer."""
    from keras import Input, Model, layers

    inputs = x = Input(recipe.input_shape)
    for filters in (32, 64):
        # Without padding the second convolution trims the border; small images keep theirs.
        roomy = min(x.shape[1:3]) >= 12
        for padding in ("same", "valid" if roomy else "same"):
            x = layers.Conv2D(
                filters, 3, padding=padding, activation="relu", kernel_regularizer=_l2(recipe)
            )(x)
        x = layers.MaxPooling2D(2, padding="same")(x)
        x = layers.Dropout(0.25)(x)
    x = layers.Flatten()(x)
    x = _dense(recipe, recipe.hidden, activation="tanh", name="features")(x)
    x = layers.Dropout(0.5)(x)
    return Model(inputs, _dense(recipe, recipe.classes, name="logits")(x))


def _mlp(recipe: Recipe) -> Any:
    from keras import Input, Model, layers

    inputs = Input(recipe.input_shape)
    x = layers.Flatten()(inputs)
    x = _dense(recipe, recipe.hidden, activation="tanh", name="features")(x)
    return Model(inputs, _dense(recipe, recipe.classes, name="logits")(x))


def _softmax(recipe: Recipe) -> Any:
    from keras import Input, Model, layers

    inputs = Input(recipe.input_shape)
    x = layers.Flatten(name="features")(inputs)
    return Model(inputs, _dense(recipe, recipe.classes, name="logits")(x))


def _resnet(recipe: Recipe) -> Any:
    """Nine weighted layers with two residual blocks (the network of fast CIFAR-10 training)."""
    from keras import Input, Model, layers

    def convolution(x: Any, filters: int) -> Any:
        x = layers.Conv2D(
            filters, 3, padding="same", use_bias=False, kernel_regularizer=_l2(recipe)
        )(x)
        return layers.Activation("relu")(layers.BatchNormalization(momentum=0.9)(x))

    def residual(x: Any, filters: int) -> Any:
        return layers.Add()([x, convolution(convolution(x, filters), filters)])

    def halve(x: Any) -> Any:
        return layers.MaxPooling2D(2, padding="same")(x)

    inputs = Input(recipe.input_shape)
    x = convolution(inputs, 64)
    x = residual(halve(convolution(x, 128)), 128)
    x = halve(convolution(x, 256))
    x = residual(halve(convolution(x, 256)), 256)
    x = layers.GlobalMaxPooling2D(name="features")(x)
    return Model(inputs, _dense(recipe, recipe.classes, name="logits")(x))


_BUILDERS: dict[str, Callable[[Recipe], Any]] = {
    "cnn": _cnn,
    "mlp": _mlp,
    "softmax": _softmax,
    "resnet": _resnet,
}


def _dense(recipe: Recipe, units: int, **options: Any) -> Any:
    from keras import layers

    return layers.Dense(units, kernel_regularizer=_l2(recipe), **options)


def _l2(recipe: Recipe) -> Any:
    from keras import regularizers

    return regularizers.L2(recipe.l2) if recipe.l2 else None


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


def _check_own(recipe: Recipe, model: Any) -> None:
    import keras

    if not isinstance(model, (keras.Sequential, keras.Model)) or not hasattr(model, "layers"):
        raise ConfsimError(f"model: {recipe.model} returned {type(model).__name__}, no keras.Model")
    if len(getattr(model, "inputs", None) or ()) != 1 or len(model.outputs) != 1:
        raise ConfsimError(
            f"model: {recipe.model} must return a functional or Sequential model with one input "
            "and one output"
        )
    expected = (None, recipe.classes)
    if tuple(model.outputs[0].shape) != expected:
        raise ConfsimError(
            f"model: {recipe.model} must return logits of shape {expected}, not "
            f"{tuple(model.outputs[0].shape)}"
        )
    last = getattr(model.layers[-1], "activation", None)
    if isinstance(model.layers[-1], keras.layers.Softmax) or last is keras.activations.softmax:
        raise ConfsimError(f"model: {recipe.model} must end in logits, without a softmax")
