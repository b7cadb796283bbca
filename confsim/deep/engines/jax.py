"""The JAX engine."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.deep.engines.base import (
    PASSES,
    Engine,
    Epoch,
    Sources,
    Standardisation,
    as_float32,
    pixel_sources,
)


class JaxEngine(Engine):
    """Whole epochs in one program; the state is threaded through, as JAX wants it.

    On a CPU each step is a call of its own: XLA compiles convolutions in a loop to code that takes
    20 times as long there.
    """

    def put_data(self, images: NDArray[Any], labels: NDArray[Any]) -> None:
        """Place the data and declare the programs; they compile at their first use."""
        import jax

        self._images, self._labels = jax.device_put(images), jax.device_put(labels)
        self._train = self.program(self.step)
        self._infer = jax.jit(self.infer)
        self._infer_all = jax.jit(self._inferred)
        rate = self.optimizer.learning_rate
        own = [id(v) for v in self.optimizer.variables]
        self._rate_at = own.index(id(rate))
        self._averages_at = [own.index(id(v)) for v in self.averages]

    def program(self, step: Any, **options: Any) -> Any:
        """Compile steps ``start`` to ``stop`` of an epoch: return a function of them.

        It takes the state, the data, an epoch's arrays, the standardisation and both bounds, and
        returns the new state and the last step's loss. ``step`` is :meth:`step`, or a map of it
        over trials; ``options`` are those of ``jax.jit``.
        """
        import jax

        def in_a_loop(state: Any, data: Any, epoch: Any, s: Any, start: Any, stop: Any) -> Any:
            # Bounds are traced, so that one program takes any number of steps.
            rates = epoch[2]
            loss = jax.numpy.zeros(rates.shape[:-1], "float32")  # of each trial, if there are many
            return jax.lax.fori_loop(
                start, stop, lambda k, carried: step(carried[0], data, epoch, s, k), (state, loss)
            )

        if jax.default_backend() != "cpu":
            return jax.jit(in_a_loop, **options)
        one = jax.jit(step, **options)

        def one_by_one(state: Any, data: Any, epoch: Any, s: Any, start: int, stop: int) -> Any:
            epoch, loss = jax.device_put(epoch), None
            for k in range(start, stop):
                state, loss = one(state, data, epoch, s, k)
            return state, loss

        return one_by_one

    def step(
        self, state: Any, data: Any, epoch: Any, standardisation: Any, k: Any
    ) -> tuple[Any, Any]:
        """Take step ``k`` of an epoch from ``state``; return the new one and the batch's loss.

        ``epoch`` are the arrays of an :class:`~confsim.deep.engines.base.Epoch`.
        """
        import jax

        trainable, fixed, optimizer = state
        labels = data[1]
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

    def infer(
        self, trainable: Any, fixed: Any, data: Any, rows: Any, standardisation: Any, sources: Any
    ) -> Any:
        """Return logits and features of images ``rows``."""
        x = self._batch(data, rows, standardisation, sources)
        outputs = self.forward_model.stateless_call(trainable, fixed, x, training=False)[0]
        return tuple(map(as_float32, outputs))

    def _inferred(
        self, passes: Any, count: Any, values: Any, data: Any, s: Any, sources: Any
    ) -> Any:
        """Return :meth:`infer` of the first ``count`` rows of ``passes``, with a leading axis."""
        import jax

        trainable, fixed = values

        def infer(rows: Any) -> Any:
            return self.infer(trainable, fixed, data, rows, s, sources)

        def put(k: Any, found: Any) -> Any:
            return jax.tree.map(lambda every, new: every.at[k].set(new), found, infer(passes[k]))

        shapes = jax.eval_shape(infer, passes[0])
        empty = [jax.numpy.zeros((len(passes), *one.shape), one.dtype) for one in shapes]
        return jax.lax.fori_loop(0, count, put, tuple(empty))

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
        s = standardisation
        inputs = self.values(), self.data, epoch.arrays, (s.mean, s.scale)
        state, loss = self._train(*inputs, start, stop)
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

    def _forward_all(
        self, passes: NDArray[np.int32], standardisation: Standardisation, sources: Sources | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Take the passes in one program: alone, each would wait for the call of the one before."""
        import jax

        if jax.default_backend() == "cpu":
            return super()._forward_all(passes, standardisation, sources)
        s, count = standardisation, len(passes)
        values, filled = self.values()[:2], np.resize(passes, (PASSES, passes.shape[1]))
        given = filled, count, values, self.data, (s.mean, s.scale), sources
        logits, features = self._infer_all(*given)
        return np.asarray(logits)[:count], np.asarray(features)[:count]
