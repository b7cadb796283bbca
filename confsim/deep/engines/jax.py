"""The JAX engine."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.deep.engines.base import Engine, Sources, Standardisation, batch, spread, weighted_loss


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
            x = batch(images[chosen], standardisation, moved)

            def objective(trainable: Any, fixed: Any) -> tuple[Any, Any]:
                logits, fixed, penalties = self.model.stateless_call(
                    trainable, fixed, x, training=True, return_losses=True
                )
                loss = weighted_loss(logits, labels[chosen], weight)
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
        x = batch(data[0][rows], standardisation, sources)
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
            trainable, fixed, self.data, rows, (s.mean, s.scale), sources and spread(*sources)
        )
        return np.asarray(logits), np.asarray(features)
