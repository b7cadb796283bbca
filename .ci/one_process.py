"""Use confsim beside libraries that bring an OpenMP runtime of their own, in one process.

scikit-learn's wheels bundle one, PyTorch's another, and so may confsim's. Each order of loading is
tried in a process of its own; a clash would end it, hang it, or change an answer.
"""

import importlib.util
import itertools
import subprocess
import sys

USES = {
    "confsim": "import confsim; confsim.nearest_training(X, X[:500])",
    "sklearn": "from sklearn.cluster import KMeans; KMeans(4, n_init=1, random_state=0).fit(X)",
    "torch": "import torch; torch.from_numpy(X) @ torch.from_numpy(X).T",
}

CHECK = """
import numpy as np
X = np.random.default_rng(0).normal(size=(2000, 16))
{uses}
{uses}
found = confsim.nearest_training(X, X[:500], n_threads=4)
literal = np.sqrt(((X[:, None, :] - X[None, :500, :]) ** 2).sum(axis=2))
np.testing.assert_allclose(found.distance, literal.min(axis=1), rtol=1e-12, atol=0)
one = confsim.nearest_training(X, X[:500], n_threads=1)
assert np.array_equal(one.distance, found.distance) and np.array_equal(one.index, found.index)
"""


def main() -> None:
    """Try every order of what is installed."""
    there = [name for name in USES if importlib.util.find_spec(name)]
    for order in itertools.permutations(there):
        uses = "\n".join(USES[name] for name in order)
        subprocess.run([sys.executable, "-c", CHECK.format(uses=uses)], check=True, timeout=120)
        print("one process:", ", ".join(order))


if __name__ == "__main__":
    main()
