"""The JAX engine."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.deep.engines.base import (
    Engine,
    Epoch,
    Sources,
    Standardisation,
    as_float32,
    pixel_sources,
)


class JaxEngine(Engine):
    """Whole epochs in one program; the state is threaded through, as JAX wants it."""

    def put_data(self, images: NDArray[Any], labels: NDArray[Any]) -> None:
        """Place the data and declare the programs; they compile at their first use."""
        import jax

        self._images, self._labels = jax.device_put(images), jax.device_put(labels)
        self._train = jax.jit(self.steps, donate_argnums=0)
        self._infer = jax.jit(self.infer)
        rate = self.optimizer.learning_rate
        own = [id(v) for v in self.optimizer.variables]
        self._rate_at = own.index(id(rate))
        self._averages_at = [own.index(id(v)) for v in self.averages]

    def steps(
        self, state: Any, data: Any, epoch: Any, standardisation: Any, start: Any, stop: Any
    ) -> tuple[Any, Any]:
        """Take steps ``start`` to ``stop`` from ``state``; return the new one and the last loss.

        ``epoch`` are the arrays of an :class:`~confsim.deep.engines.base.Epoch`.
        """
        import jax

        labels = data[1]

        def step(k: Any, carried: Any) -> tuple[Any, Any]:
            trainable, fixed, optimizer = carried[0]
            chosen, weight, rate, moved = jax.tree.map(lambda a: a[k], epoch)
            x = self._batch(data, chosen, standardisation, moved)

            def objective(trainable: Any, fixed: Any) -> tuple[Any, Any]:
                logits, fixed, penalties = self.model.stateless_call(
                    trainable, fixed, x, training=True, return_losses=True
                )
                loss = self.loss(logits, labels[chosen], weight)
                return loss + sum(penalties), (loss, fixed)

            gradient = jax.value_and_grad(objective, has_aux=True)
            (_, (loss, fixed)), gradients = gradient(trainable, fixed)
            optimizer = [*optimizer]
            optimizer[self._rate_at] = rate
            trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
            return (trainable, fixed, optimizer), loss

        # Bounds are traced, so that one program takes any number of steps.
        end: tuple[Any, Any] = jax.lax.fori_loop(start, stop, step, (state, jax.numpy.float32(0)))
        return end

    def infer(
        self, trainable: Any, fixed: Any, data: Any, rows: Any, standardisation: Any, sources: Any
    ) -> Any:
        """Return logits and features of images ``rows``."""
        x = self._batch(data, rows, standardisation, sources)
        outputs = self.forward_model.stateless_call(trainable, fixed, x, training=False)[0]
        return tuple(map(as_float32, outputs))

    def _batch(self, data: Any, rows: Any, standardisation: Any, sources: Any) -> Any:
        images = data[0]
        if sources is None:
            return self.standardised(images[rows], standardisation, None)
        from_rows, from_columns = pixel_sources(sources, self.images.shape[1:])
        moved = images[rows[:, None, None], from_rows[:, :, None], from_columns[:, None, :]]
        return self.standardised(moved, standardisation, sources)

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

    def examined(self, state: Any) -> Any:
        """Return the trainable values of a state that are to be examined: their averages, if any.

        The state may have a leading axis of trials.
        """
        return [state[2][k] for k in self._averages_at] or state[0]

    def train(self, epoch: Epoch, standardisation: Standardisation, start: int, stop: int) -> float:
        """Take the steps in one call."""
        import jax

        s = standardisation
        # Donated buffers are consumed; the variables get the new ones.
        state = jax.tree.map(lambda value: value.copy(), self.values())
        state, loss = self._train(state, self.data, epoch.arrays, (s.mean, s.scale), start, stop)
        self.set_values(state)
        return float(loss)

    def _forward(
        self, rows: NDArray[np.int32], standardisation: Standardisation, sources: Sources | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        s = standardisation
        trainable, fixed, _ = self.values()
        logits, features = self._infer(
            trainable, fixed, self.data, rows, (s.mean, s.scale), sources
        )
        return np.asarray(logits), np.asarray(features)
