"""The TensorFlow engine."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.deep.engines.base import (
    FORWARD,
    Engine,
    Sources,
    Standardisation,
    batch,
    spread,
    weighted_loss,
)


class TensorFlowEngine(Engine):
    """Whole epochs in one graph: a loop over steps on resident data."""

    def put_data(self, images: NDArray[Any], labels: NDArray[Any]) -> None:
        """Place the data and trace the graphs."""
        import tensorflow as tf

        self._images, self._labels = tf.constant(images), tf.constant(labels)
        matrix = tf.TensorSpec([None, None], tf.int32)
        weights = tf.TensorSpec([None, None], tf.float32)
        vector = tf.TensorSpec([None], tf.float32)
        pixels = [tf.TensorSpec([None, None, None], tf.int32)] * 2
        self._train = tf.function(
            self._train_graph,
            input_signature=[
                matrix,
                weights,
                vector,
                vector,
                tf.TensorSpec([], tf.int32),
                tf.TensorSpec([], tf.int32),
                *(pixels if self.settings.augmented else ()),
            ],
            autograph=False,
        )
        rows = tf.TensorSpec([FORWARD], tf.int32)
        self._infer = tf.function(
            self._infer_graph, input_signature=[rows, vector, vector], autograph=False
        )
        self._infer_moved = tf.function(
            self._infer_graph,
            input_signature=[rows, vector, vector, matrix, matrix],
            autograph=False,
        )

    def _train_graph(
        self,
        rows: Any,
        weights: Any,
        mean: Any,
        scale: Any,
        start: Any,
        stop: Any,
        *sources: Any,
    ) -> Any:
        import tensorflow as tf

        trainable = self.model.trainable_variables

        def step(k: Any, _: Any) -> tuple[Any, Any]:
            moved = tuple(s[k] for s in sources) or None
            x = batch(tf.gather(self._images, rows[k]), (mean, scale), moved)
            with tf.GradientTape() as tape:
                logits = self.model(x, training=True)
                loss = weighted_loss(logits, tf.gather(self._labels, rows[k]), weights[k])
                total = tf.add_n([loss, *self.model.losses])
            gradients = tape.gradient(total, [v.value for v in trainable])
            self.optimizer.apply(gradients, trainable)
            return k + 1, loss

        return tf.while_loop(lambda k, _: k < stop, step, (start, 0.0), parallel_iterations=1)[1]

    def _infer_graph(self, rows: Any, mean: Any, scale: Any, *sources: Any) -> Any:
        import tensorflow as tf

        x = batch(tf.gather(self._images, rows), (mean, scale), sources or None)
        return self.forward_model(x, training=False)

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
        s = standardisation
        return float(self._train(rows, weights, s.mean, s.scale, start, stop, *(sources or ())))

    def _forward(
        self, rows: NDArray[np.int32], standardisation: Standardisation, sources: Sources | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        s = standardisation
        if sources is None:
            logits, features = self._infer(rows, s.mean, s.scale)
        else:
            logits, features = self._infer_moved(rows, s.mean, s.scale, *spread(*sources))
        return logits.numpy(), features.numpy()
