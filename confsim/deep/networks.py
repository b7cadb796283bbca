"""The named networks: functions of a ``models.Architecture`` that build Keras models.

All end in a layer called ``features`` and one called ``logits``. Logits are computed in float32,
also where everything before them is in bfloat16. Batch normalisation trains on the statistics of
its batch (the images that fill the last one up included) and keeps moving averages of them, which
are what it uses for queries, features and validation.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from confsim.deep.models import Architecture

#: The name of a first layer whose filters are set from a trial's members.
WHITENING = "whitening"

#: Networks that take any array; the others need images.
FLAT = ("mlp", "softmax", "tanh-1024-512")


def _cnn(architecture: "Architecture") -> Any:
    """Two blocks of two convolutions, as in Keras' old CIFAR-10 example, and a tanh layer."""
    from keras import Input, Model, layers

    inputs = x = Input(architecture.input_shape)
    for filters in (32, 64):
        # Without padding the second convolution trims the border; small images keep theirs.
        roomy = min(x.shape[1:3]) >= 12
        for padding in ("same", "valid" if roomy else "same"):
            x = layers.Conv2D(
                filters, 3, padding=padding, activation="relu", kernel_regularizer=_l2(architecture)
            )(x)
        x = _halved(x)
        x = layers.Dropout(0.25)(x)
    x = layers.Flatten()(x)
    x = _dense(architecture, architecture.hidden, activation="tanh", name="features")(x)
    x = layers.Dropout(0.5)(x)
    return Model(inputs, _logits(architecture, x))


def _mlp(architecture: "Architecture") -> Any:
    from keras import Input, Model, layers

    inputs = Input(architecture.input_shape)
    x = layers.Flatten()(inputs)
    x = _dense(architecture, architecture.hidden, activation="tanh", name="features")(x)
    return Model(inputs, _logits(architecture, x))


def _two_layers(architecture: "Architecture") -> Any:
    """Two tanh layers, as for Purchase-100 in the literature."""
    from keras import Input, Model, layers

    inputs = Input(architecture.input_shape)
    x = layers.Flatten()(inputs)
    x = _dense(architecture, 1024, activation="tanh")(x)
    x = _dense(architecture, 512, activation="tanh", name="features")(x)
    return Model(inputs, _logits(architecture, x))


def _softmax(architecture: "Architecture") -> Any:
    from keras import Input, Model, layers

    inputs = Input(architecture.input_shape)
    x = layers.Flatten(name="features")(inputs)
    return Model(inputs, _logits(architecture, x))


def _resnet(architecture: "Architecture") -> Any:
    """Nine weighted layers with two residual blocks (the network of fast CIFAR-10 training)."""
    from keras import Input, Model, layers

    def convolution(x: Any, filters: int) -> Any:
        x = layers.Conv2D(
            filters, 3, padding="same", use_bias=False, kernel_regularizer=_l2(architecture)
        )(x)
        return layers.Activation("relu")(layers.BatchNormalization(momentum=0.9)(x))

    def residual(x: Any, filters: int) -> Any:
        return layers.Add()([x, convolution(convolution(x, filters), filters)])

    inputs = Input(architecture.input_shape)
    x = convolution(inputs, 64)
    x = residual(_halved(convolution(x, 128)), 128)
    x = _halved(convolution(x, 256))
    x = residual(_halved(convolution(x, 256)), 256)
    x = layers.GlobalMaxPooling2D(name="features")(x)
    return Model(inputs, _logits(architecture, x))


def _wide_residual(architecture: "Architecture") -> Any:
    """WRN-28-2 (Zagoruyko & Komodakis 2016): 12 pre-activated blocks of 32, 64 and 128 filters."""
    from keras import Input, Model, layers

    inputs = Input(architecture.input_shape)
    x = _convolution(architecture, inputs, 16)
    for filters, first in ((32, 1), (64, 2), (128, 2)):
        for block in range(4):
            strides = first if block == 0 else 1
            active = _active(x)
            # A block that changes the shape has its shortcut behind the first activation.
            same = strides == 1 and x.shape[-1] == filters
            shortcut = x if same else _convolution(architecture, active, filters, 1, strides)
            active = _active(_convolution(architecture, active, filters, 3, strides))
            x = layers.Add()([shortcut, _convolution(architecture, active, filters)])
    x = layers.GlobalAveragePooling2D(name="features")(_active(x))
    return Model(inputs, _logits(architecture, x))


def _resnet18(architecture: "Architecture") -> Any:
    """ResNet-18 (He et al. 2016) in its form for small images: a 3x3 stem, no pooling before."""
    from keras import Input, Model, layers

    inputs = Input(architecture.input_shape)
    x = _active(_convolution(architecture, inputs, 64))
    for filters, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for strides in (first, 1):
            shortcut = x
            if strides != 1 or x.shape[-1] != filters:
                shortcut = _normalised(_convolution(architecture, x, filters, 1, strides))
            inner = _active(_convolution(architecture, x, filters, 3, strides))
            inner = _normalised(_convolution(architecture, inner, filters))
            x = layers.Activation("relu")(layers.Add()([shortcut, inner]))
    x = layers.GlobalAveragePooling2D(name="features")(x)
    return Model(inputs, _logits(architecture, x))


def _wide(architecture: "Architecture") -> Any:
    """Build a wide and shallow network that trains in seconds (Jordan 2024, "94% on CIFAR-10").

    A frozen layer of 2x2 whitening filters, computed from the trial's members, each with its
    negative; three groups of two 3x3 convolutions, the first pooled, with batch normalisation
    (without scale, momentum 0.6) and GELU; the largest values; logits scaled by 1/9. Convolutions
    start as the identity on their first filters.
    """
    from keras import Input, Model, layers

    def convolution(x: Any, filters: int) -> Any:
        return layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=False,
            kernel_initializer=_starts_as_identity,
            kernel_regularizer=_l2(architecture),
        )(x)

    def active(x: Any) -> Any:
        x = layers.BatchNormalization(momentum=0.6, epsilon=1e-5, scale=False)(x)
        return layers.Activation("gelu")(x)

    inputs = Input(architecture.input_shape)
    patch = 4 * architecture.input_shape[-1]
    x = layers.Conv2D(2 * patch, 2, use_bias=False, trainable=False, name=WHITENING)(inputs)
    x = layers.Activation("gelu")(x)
    for filters in (64, 256, 256):
        x = convolution(x, filters)
        # Small images keep what is left of them.
        x = _halved(x, padding="valid" if min(x.shape[1:3]) > 1 else "same")
        x = active(x)
        x = active(convolution(x, filters))
    x = layers.GlobalMaxPooling2D(name="features")(x)
    x = _dense(architecture, architecture.classes, use_bias=False, dtype="float32", name="logits")(
        x
    )
    return Model(inputs, layers.Rescaling(1 / 9, dtype="float32", name="scaled")(x))


def _starts_as_identity(shape: Any, dtype: Any = None) -> Any:
    """Initialise a convolution: the identity on as many channels as it has, the rest at random."""
    import numpy as np
    from keras import initializers, ops

    # Uniform within one over the root of the inputs, as PyTorch's convolutions are.
    drawn = initializers.VarianceScaling(1 / 3, "fan_in", "uniform")(shape, dtype=dtype)
    height, width, channels, filters = shape
    kept = min(channels, filters)
    identity = np.zeros((height, width, channels, kept), np.float32)
    identity[height // 2, width // 2, range(kept), range(kept)] = 1
    return ops.concatenate([ops.convert_to_tensor(identity, drawn.dtype), drawn[..., kept:]], -1)


def _convolution(
    architecture: "Architecture", x: Any, filters: int, size: int = 3, strides: int = 1
) -> Any:
    from keras import layers

    return layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        kernel_regularizer=_l2(architecture),
    )(x)


def _halved(x: Any, padding: str = "same") -> Any:
    """Max pooling of 2x2 pixels.

    On JAX as a maximum over axes of their own: the gradient of its window reduction is a scatter,
    which takes 15 times as long on a CPU and much of a step on a GPU.
    """
    import keras
    from keras import layers, ops

    if keras.backend.backend() != "jax":
        return layers.MaxPooling2D(2, padding=padding)(x)
    height, width = (extent // 2 for extent in x.shape[1:3])
    if padding == "same":
        bottom, right = (extent % 2 for extent in x.shape[1:3])
        height, width = height + bottom, width + right
        # A copy of the last row or column never is larger than what it is compared with.
        if bottom:
            x = layers.Concatenate(axis=1)([x, x[:, -1:]])
        if right:
            x = layers.Concatenate(axis=2)([x, x[:, :, -1:]])
    x = x[:, : 2 * height, : 2 * width]
    return ops.max(layers.Reshape((height, 2, width, 2, x.shape[-1]))(x), axis=(2, 4))


def _normalised(x: Any) -> Any:
    """Batch normalisation with the constants of PyTorch, and of most published results."""
    from keras import layers

    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def _active(x: Any) -> Any:
    from keras import layers

    return layers.Activation("relu")(_normalised(x))


def _logits(architecture: "Architecture", x: Any) -> Any:
    return _dense(architecture, architecture.classes, dtype="float32", name="logits")(x)


def _dense(architecture: "Architecture", units: int, **options: Any) -> Any:
    from keras import layers

    return layers.Dense(units, kernel_regularizer=_l2(architecture), **options)


def _l2(architecture: "Architecture") -> Any:
    from keras import regularizers

    return regularizers.L2(architecture.l2) if architecture.l2 else None


BUILDERS: dict[str, Callable[["Architecture"], Any]] = {
    "cnn": _cnn,
    "mlp": _mlp,
    "softmax": _softmax,
    "tanh-1024-512": _two_layers,
    "resnet": _resnet,
    "wrn28-2": _wide_residual,
    "resnet18": _resnet18,
    "wide": _wide,
}
