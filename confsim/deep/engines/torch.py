"""The torch engine."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.deep.engines.base import (
    Engine,
    Epoch,
    Sources,
    Standardisation,
    State,
    as_float32,
    pixel_sources,
)


class TorchEngine(Engine):
    """Eager steps on resident data; dropout draws from torch's own generators."""

    def put_data(self, images: NDArray[Any], labels: NDArray[Any]) -> None:
        """Place the data."""
        from keras import ops

        self._images, self._labels = (ops.convert_to_tensor(np.array(a)) for a in (images, labels))

    def train(self, epoch: Epoch, standardisation: Standardisation, start: int, stop: int) -> float:
        """Take the steps one by one."""
        import torch
        from keras import ops

        trainable = self.model.trainable_variables
        loss = None
        for k in range(start, stop):
            chosen = ops.convert_to_tensor(epoch.rows[k].astype(np.int64))
            moved = None if epoch.sources is None else epoch.sources[k]
            x = self._batch(chosen, standardisation, moved)
            self.model.zero_grad()
            logits = self.model(x, training=True)
            weights = ops.convert_to_tensor(epoch.weights[k])
            loss = self.loss(logits, self._labels[chosen], weights)
            (loss + sum(self.model.losses)).backward()
            with torch.no_grad():
                self.optimizer.learning_rate = float(epoch.rates[k])
                self.optimizer.apply([v.value.grad for v in trainable], trainable)
        return float("nan") if loss is None else float(loss.detach())

    def state(self) -> State:
        """Return copies of everything that training changes, torch's generators included."""
        import torch

        generators = {"torch/cpu": torch.get_rng_state().numpy()}
        if torch.cuda.is_available():
            generators["torch/cuda"] = torch.cuda.get_rng_state().numpy()
        return super().state() | generators

    def load(self, state: State) -> None:
        """Set what :meth:`state` or :meth:`weights` returned."""
        import torch

        super().load(state)
        if "torch/cpu" in state:
            torch.set_rng_state(torch.from_numpy(state["torch/cpu"]))
        if "torch/cuda" in state:
            torch.cuda.set_rng_state(torch.from_numpy(state["torch/cuda"]))

    def _batch(self, rows: Any, standardisation: Standardisation, sources: Any) -> Any:
        from keras import ops

        constants = tuple(map(ops.convert_to_tensor, (standardisation.mean, standardisation.scale)))
        if sources is None:
            return self.standardised(self._images[rows], constants, None)
        sources = ops.convert_to_tensor(sources)
        from_rows, from_columns = pixel_sources(sources, self.images.shape[1:])
        moved = self._images[
            rows[:, None, None], from_rows.long()[:, :, None], from_columns.long()[:, None, :]
        ]
        return self.standardised(moved, constants, sources)

    def _forward(
        self, rows: NDArray[np.int32], standardisation: Standardisation, sources: Sources | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        import torch
        from keras import ops

        with torch.no_grad():
            chosen = ops.convert_to_tensor(rows.astype(np.int64))
            x = self._batch(chosen, standardisation, sources)
            logits, features = self.forward_model(x, training=False)
        return tuple(ops.convert_to_numpy(as_float32(v)) for v in (logits, features))
