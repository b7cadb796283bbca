from typing import Any

import numpy as np
from numpy.typing import NDArray

def sigmoid(scores: NDArray[np.float64], complement: bool, threads: int) -> NDArray[np.float64]: ...
def softmax(
    logits: NDArray[np.floating[Any]], labels: NDArray[np.int64] | None, threads: int
) -> dict[str, NDArray[Any]]: ...
