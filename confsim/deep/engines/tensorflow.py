"""The TensorFlow engine."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.deep.engines.base import (
    FORWARD,
    Engine,
    Epoch,
    Sources,
    Standardisation,
    as_float32,
    pixel_sources,
)


class TensorFlowEngine(Engine):
    """Whole epochs in one graph: a loop over steps on resident data."""

    def put_data(self, images: NDArray[Any], labels: NDArray[Any]) -> None:
        """Place the data and trace the graphs."""
        import tensorflow as tf

        self._images, self._labels = tf.constant(images), tf.constant(labels)
        vector = tf.TensorSpec([None], tf.float32)
        width = 5 if self.settings.cutout else 3
        self._train = tf.function(
            self._train_graph,
            input_signature=[
                tf.TensorSpec([None, None], tf.int32),
                tf.TensorSpec([None, None], tf.float32),
                vector,
                vector,
                vector,
                tf.TensorSpec([], tf.int32),
                tf.TensorSpec([], tf.int32),
                *([tf.TensorSpec([None, None, width], tf.int32)] * self.settings.augmented),
            ],
            autograph=False,
        )
        rows = tf.TensorSpec([FORWARD], tf.int32)
        self._infer = tf.function(
            self._infer_graph, input_signature=[rows, vector, vector], autograph=False
        )
        self._infer_moved = tf.function(
            self._infer_graph,
            input_signature=[rows, vector, vector, tf.TensorSpec([FORWARD, 3], tf.int32)],
            autograph=False,
        )

    def _batch(self, rows: Any, standardisation: tuple[Any, Any], sources: Any) -> Any:
        import tensorflow as tf

        images = tf.gather(self._images, rows)
        if sources is not None:
            from_rows, from_columns = pixel_sources(sources, self.images.shape[1:])
            images = tf.gather(images, from_rows, batch_dims=1, axis=1)
            # Columns differ from image to image, not from row to row.
            images = tf.transpose(images, (0, 2, 1, 3))
            images = tf.gather(images, from_columns, batch_dims=1, axis=1)
            images = tf.transpose(images, (0, 2, 1, 3))
        return self.standardised(images, standardisation, sources)

    def _train_graph(
        self,
        rows: Any,
        weights: Any,
        rates: Any,
        mean: Any,
        scale: Any,
        start: Any,
        stop: Any,
        sources: Any = None,
    ) -> Any:
        import tensorflow as tf

        trainable = self.model.trainable_variables

        def step(k: Any, _: Any) -> tuple[Any, Any]:
            x = self._batch(rows[k], (mean, scale), None if sources is None else sources[k])
            with tf.GradientTape() as tape:
                logits = self.model(x, training=True)
                loss = self.loss(logits, tf.gather(self._labels, rows[k]), weights[k])
                total = tf.add_n([loss, *self.model.losses])
            gradients = tape.gradient(total, [v.value for v in trainable])
            self.optimizer.learning_rate = rates[k]
            self.optimizer.apply(gradients, trainable)
            return k + 1, loss

        return tf.while_loop(lambda k, _: k < stop, step, (start, 0.0), parallel_iterations=1)[1]

    def _infer_graph(self, rows: Any, mean: Any, scale: Any, sources: Any = None) -> Any:
        x = self._batch(rows, (mean, scale), sources)
        logits, features = self.forward_model(x, training=False)
        return as_float32(logits), as_float32(features)

    def train(self, epoch: Epoch, standardisation: Standardisation, start: int, stop: int) -> float:
        """Take the steps in one call."""
        s = standardisation
        moved = () if epoch.sources is None else (epoch.sources,)
        return float(
            self._train(
                epoch.rows, epoch.weights, epoch.rates, s.mean, s.scale, start, stop, *moved
            )
        )

    def _forward(
        self, rows: NDArray[np.int32], standardisation: Standardisation, sources: Sources | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        s = standardisation
        if sources is None:
            logits, features = self._infer(rows, s.mean, s.scale)
        else:
            logits, features = self._infer_moved(rows, s.mean, s.scale, sources)
        return logits.numpy(), features.numpy()
