"""Convolutions of many models at once on JAX, whose kernels' gradients are products of matrices.

Mapped over models, the gradient of a kernel is a grouped convolution, and deterministic algorithms
for those take each model in turn: 85% of a step on a GPU. Here it is one product per model of the
layer's patches with what flows back to them: the same sum in another order, repeatable and faster.
"""

from typing import Any

from confsim.deep.models import all_layers

#: Parts of a batch whose products are summed afterwards, at most: one long product of two narrow
#: matrices leaves most of a GPU idle. Their number decides rounding, so it never adapts.
_PARTS = 10


def multiply_for_gradients(model: Any) -> None:
    """Have a model's two-dimensional convolutions take the gradients of kernels by products.

    Convolutions that are dilated or in groups, or of images with channels first, stay as they are.
    """
    import keras

    for layer in all_layers(model):
        if (
            type(layer) is keras.layers.Conv2D
            and layer.data_format == "channels_last"
            and layer.groups == 1
            and set(layer.dilation_rate) == {1}
        ):
            layer.convolution_op = convolution(layer.strides, layer.padding.upper())


def convolution(strides: tuple[int, int], padding: str) -> Any:
    """Return the convolution of images (batch, height, width, channels) with a kernel.

    Parameters
    ----------
    strides : tuple of int
        Down and to the right.
    padding : str
        ``"SAME"`` or ``"VALID"``.
    """
    import jax
    from keras import ops

    def plain(x: Any, kernel: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def forward(x: Any, kernel: Any) -> Any:
        return plain(x, kernel), (x, kernel)

    def backward(kept: Any, flowing: Any) -> Any:
        x, kernel = kept
        _, to_images = jax.vjp(lambda x: plain(x, kernel), x)
        return *to_images(flowing), kernel_gradient(x, kernel, flowing, strides, padding)

    with_products = jax.custom_vjp(plain)
    with_products.defvjp(forward, backward)

    def of_variables(x: Any, kernel: Any) -> Any:
        return with_products(ops.convert_to_tensor(x), ops.convert_to_tensor(kernel))

    return of_variables


def kernel_gradient(
    x: Any, kernel: Any, flowing: Any, strides: tuple[int, int], padding: str
) -> Any:
    """Sum over images and places the products of a patch with what flows back to its place.

    Parameters
    ----------
    x : array, (batch, height, width, channels)
    kernel : array, (rows, columns, channels, filters)
        Only its shape and type matter.
    flowing : array, (batch, places down, places to the right, filters)
        The gradient with respect to the convolution's output.
    strides, padding
        As :func:`convolution` takes them.

    Returns
    -------
    array
        Of the kernel's shape and type; products are summed in float32.
    """
    from jax import lax, numpy

    rows, columns, channels, filters = kernel.shape
    batch, down, right = flowing.shape[:3]
    around = lax.padtype_to_pads(x.shape[1:3], (rows, columns), strides, padding)
    x = numpy.pad(x, ((0, 0), *around, (0, 0)))
    below, beside = (s * (n - 1) + 1 for s, n in zip(strides, (down, right), strict=True))
    patches = numpy.concatenate(
        [
            x[:, i : i + below : strides[0], j : j + beside : strides[1]]
            for i in range(rows)
            for j in range(columns)
        ],
        axis=-1,
    )
    parts = max(n for n in range(1, _PARTS + 1) if batch % n == 0)
    patches = patches.reshape(parts, -1, rows * columns * channels)
    flowing = flowing.reshape(parts, -1, filters)
    found = numpy.einsum("pnk,pnf->pkf", patches, flowing, preferred_element_type="float32")
    return found.sum(axis=0).reshape(kernel.shape).astype(kernel.dtype)
