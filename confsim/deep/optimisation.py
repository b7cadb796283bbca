"""How weights move: the optimiser, its learning rate in every step, and averages of the weights.

Learning rates are plain numbers, one for each step, made here and handed to the compiled program
with the step's batch: every backend gets the same ones. Updates are Keras' optimisers;
Muon is added to them. Nothing here knows data or trials, and Keras is imported when one is built.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPTIMIZERS = ("adam", "sgd", "muon")
SCHEDULES = ("constant", "cosine", "cosine-7-16", "one-cycle")

#: Coefficients of the quintic Newton-Schulz iteration of Muon (Jordan et al. 2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 5

#: Root mean square of a Muon update per unit of learning rate, as Adam's (Liu et al. 2025).
_MUON_RMS = 0.2


@dataclass(frozen=True)
class Optimisation:
    """An optimiser and what goes with it.

    Attributes
    ----------
    name : str
        One of :data:`OPTIMIZERS`. Adam (Kingma & Ba 2015) with Keras' constants; SGD with momentum
        ``v <- momentum v - rate g`` and, with ``nesterov``, steps of ``momentum v - rate g``;
        Muon, which moves kernels by orthogonalised momentum, and everything else by Adam.
    momentum : float
        Of SGD and Muon.
    nesterov : bool
        Of SGD and Muon.
    weight_decay : float
        Decoupled (Loshchilov & Hutter 2019): ``w <- w - rate weight_decay w`` before each step, for
        kernels (two dimensions or more), not for biases and normalisation.
    clip_norm : float or None
        Gradients of all weights together are scaled down to this Euclidean norm.
    ema : float
        Decay of the exponential moving average of the weights, 0 for none: after the first step the
        weights themselves, then ``ema a + (1 - ema) w``. Moving statistics of batch normalisation
        are averages already and are taken as they are.
    """

    name: str = "adam"
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.0
    clip_norm: float | None = None
    ema: float = 0.0

    def build(self, model: Any) -> Any:
        """Return a Keras optimiser for the model's trainable variables."""
        from keras import optimizers

        options: dict[str, Any] = {}
        if self.weight_decay:
            options["weight_decay"] = self.weight_decay
        if self.clip_norm is not None:
            options["global_clipnorm"] = self.clip_norm
        if self.ema:
            options |= {"use_ema": True, "ema_momentum": self.ema}
        # Rates come with the steps; what is given here is replaced before the first.
        if self.name == "sgd":
            momentum = {"momentum": self.momentum, "nesterov": self.nesterov and self.momentum > 0}
            optimizer = optimizers.SGD(1.0, **momentum, **options)
        elif self.name == "muon":
            optimizer = _muon(model, self.momentum, self.nesterov, options)
        else:
            optimizer = optimizers.Adam(1.0, **options)
        variables = model.trainable_variables
        if self.weight_decay:
            kept = [v for v in variables if len(v.shape) < 2]
            optimizer.exclude_from_weight_decay(var_list=kept)
        optimizer.build(variables)
        return optimizer


#: What a model is trained with where nobody says.
ADAM = Optimisation()


def learning_rates(
    schedule: str, peak: float, warmup_steps: int, steps: int
) -> NDArray[np.float32]:
    """Return the learning rate of every step of a training of ``steps`` steps.

    During the warm-up, step t (from 0) has ``peak (t + 1) / warmup_steps``. Afterwards, with u the
    part done of the rest, from 0 on:

    - ``constant``: ``peak``;
    - ``cosine``: ``peak (1 + cos(pi u)) / 2`` (Loshchilov & Hutter 2017);
    - ``cosine-7-16``: ``peak cos(7 pi u / 16)`` (Sohn et al. 2020), which ends at a fifth;
    - ``one-cycle``: ``peak (1 - u)``: up and down in straight lines (Smith & Topin 2018).
    """
    t = np.arange(steps, dtype=np.float64)
    u = np.maximum(t - warmup_steps, 0) / max(1, steps - warmup_steps)
    shape = {
        "constant": np.ones_like(u),
        "cosine": (1 + np.cos(math.pi * u)) / 2,
        "cosine-7-16": np.cos(7 * math.pi * u / 16),
        "one-cycle": 1 - u,
    }[schedule]
    rising = np.minimum(1.0, (t + 1) / max(1, warmup_steps))
    rates: NDArray[np.float32] = (peak * np.where(t < warmup_steps, rising, shape)).astype(
        np.float32
    )
    return rates


def _muon(model: Any, momentum: float, nesterov: bool, options: dict[str, Any]) -> Any:
    """Return Muon: orthogonalised momentum for hidden kernels, Adam for the rest.

    A kernel is a matrix of (inputs, outputs), a convolution's of (height * width * channels,
    filters). The last kernel, of the logits, is Adam's. Updates have the root mean square of
    Adam's, so one learning rate fits both.
    """
    from keras import ops, optimizers

    kernels = [k for k, v in enumerate(model.trainable_variables) if len(v.shape) >= 2]
    hidden = set(kernels[:-1])

    class Muon(optimizers.Adam):  # type: ignore[misc]
        """Keras' Adam, with another step for the kernels in ``hidden``."""

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            place = self._get_variable_index(variable)
            if place not in hidden:
                super().update_step(gradient, variable, learning_rate)
                return
            moving = self._momentums[place]
            self.assign(moving, moving * momentum + gradient)
            step = gradient + momentum * moving if nesterov else moving
            outputs = variable.shape[-1]
            matrix = ops.reshape(step, (-1, outputs))
            scale = _MUON_RMS * math.sqrt(max(matrix.shape[0], outputs))
            update = ops.reshape(_orthogonalised(matrix), variable.shape)
            self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * scale * update)

    return Muon(1.0, **options)


def _orthogonalised(matrix: Any) -> Any:
    """Return about U V' of a matrix U S V', by Newton-Schulz iterations."""
    from keras import ops

    a, b, c = _QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (ops.sqrt(ops.sum(ops.square(x))) + 1e-7)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        square = ops.matmul(x, ops.transpose(x))
        x = a * x + ops.matmul(b * square + c * ops.matmul(square, square), x)
    return ops.transpose(x) if tall else x
