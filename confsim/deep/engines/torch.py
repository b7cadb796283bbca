"""The torch engine."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.deep.engines.base import (
    Engine,
    Sources,
    Standardisation,
    State,
    batch,
    spread,
    weighted_loss,
)


class TorchEngine(Engine):
    """Eager steps on resident data; dropout draws from torch's own generators."""

    def put_data(self, images: NDArray[Any], labels: NDArray[Any]) -> None:
        """Place the data."""
        from keras import ops

        self._images, self._labels = (ops.convert_to_tensor(np.array(a)) for a in (images, labels))

    def train(
        self,
        rows: NDArray[np.int32],
        weights: NDArray[np.float32],
        standardisation: Standardisation,
        sources: Sources | None,
        start: int,
        stop: int,
    ) -> float:
        """Take the steps one by one."""
        import torch
        from keras import ops

        trainable = self.model.trainable_variables
        loss = None
        for k in range(start, stop):
            chosen = ops.convert_to_tensor(rows[k].astype(np.int64))
            x = self._inputs(chosen, standardisation, sources and tuple(s[k] for s in sources))
            self.model.zero_grad()
            logits = self.model(x, training=True)
            loss = weighted_loss(logits, self._labels[chosen], ops.convert_to_tensor(weights[k]))
            (loss + sum(self.model.losses)).backward()
            with torch.no_grad():
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

    def _inputs(self, rows: Any, standardisation: Standardisation, sources: Any) -> Any:
        from keras import ops

        s = standardisation
        moved = sources and tuple(ops.convert_to_tensor(p.astype(np.int64)) for p in sources)
        constants = ops.convert_to_tensor(s.mean), ops.convert_to_tensor(s.scale)
        return batch(self._images[rows], constants, moved)

    def _forward(
        self, rows: NDArray[np.int32], standardisation: Standardisation, sources: Sources | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        import torch
        from keras import ops

        with torch.no_grad():
            chosen = ops.convert_to_tensor(rows.astype(np.int64))
            x = self._inputs(chosen, standardisation, sources and spread(*sources))
            logits, features = self.forward_model(x, training=False)
        return ops.convert_to_numpy(logits), ops.convert_to_numpy(features)
