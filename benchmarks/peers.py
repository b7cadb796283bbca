"""The same trial as a researcher would write it: plain NumPy and SciPy, one trial after another.

An honest peer: it uses good libraries in the obvious way, and nothing is made slow on purpose. It
is what confsim's ratios are measured against, in the same run.
"""

import numpy as np
from scipy.optimize import linprog
from scipy.spatial import cKDTree


def fit_dense(X, y):
    """Solve the textbook slack program, dense with its identity block: ``min sum xi``."""
    n, d = X.shape
    cost = np.concatenate([np.zeros(d + 1), np.ones(n)])
    margins = -y[:, None] * np.column_stack([X, np.ones(n)])
    solved = linprog(
        cost,
        A_ub=np.hstack([margins, -np.eye(n)]),
        b_ub=-np.ones(n),
        bounds=[(None, None)] * (d + 1) + [(0, None)] * n,
        method="highs",
    )
    weights, bias = solved.x[:d], solved.x[d]
    length = np.linalg.norm(weights)
    return weights / length, bias / length


def linear_trial(queries, n, weights, bias, grid_size, percent, rng, fit=fit_dense):
    """One trial of the linear pipeline; ``queries`` is (q, d) float64."""
    labels = np.where(queries @ weights + bias > 0, 1.0, -1.0)
    while True:
        members = rng.choice(len(queries), n, replace=False)
        if len(np.unique(labels[members])) == 2:
            break
    w, b = fit(queries[members], labels[members])
    score = np.abs(queries @ w + b)
    corners = np.array(np.meshgrid(*[[0, grid_size]] * len(w))).reshape(len(w), -1).T
    boundary = score / np.abs(corners @ w + b).max()
    sigmoid = np.abs(2 / (1 + np.exp(-score)) - 1)
    distance = cKDTree(queries[members]).query(queries)[0]
    distance /= distance.max()
    is_member = np.zeros(len(queries), dtype=bool)
    is_member[members] = True
    k = round(len(queries) * percent / 100)
    order = np.argpartition(boundary, [k, len(boundary) - k])
    return {
        side: (rows, boundary[rows], sigmoid[rows], distance[rows], is_member[rows])
        for side, rows in (("bottom", order[:k]), ("top", order[-k:]))
    }
