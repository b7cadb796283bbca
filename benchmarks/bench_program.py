"""The linear program beside SciPy's sparse and dense ``linprog``, one thread each, in the same run.

``python benchmarks/bench_program.py`` prints a table of larger programs (several minutes: SciPy
needs them; ``--quick`` leaves out the rows where SciPy takes more than a minute).
"""

import argparse
import os
import resource
import time
from pathlib import Path

import numpy as np
import peers
import pytest
from scipy import sparse
from scipy.optimize import linprog
from tracking import record

from confsim.linear.program import fit_program

#: points, features, part of the labels flipped, peer, and whether the peer takes more than a minute
WORK = [
    (100_000, 2, 0.0, "sparse", False),
    (1_000_000, 2, 0.0, "sparse", False),
    (100_000, 20, 0.0, "sparse", False),
    (20_000, 2, 0.1, "sparse", False),
    (100_000, 2, 0.1, "sparse", True),
    (100_000, 20, 0.1, None, True),
    (5_000, 2, 0.0, "dense", True),
    (10, 2, 0.0, "dense", False),
]
CASES = {
    "separable": {},
    "margin": {"objective": "margin"},
    "margin linf": {"objective": "margin", "norm": "linf"},
}


def data(n, d, noise):
    """Uniform points on both sides of a hyperplane through the middle of the unit cube."""
    rng = np.random.default_rng(0)
    X = rng.random((n, d))
    y = np.where((X - 0.5) @ np.resize([1.0, -1.0], d) > 0, 1, -1)
    return X, np.where(rng.random(n) < noise, -y, y)


def fit_sparse(X, y):
    """Solve the slack program with a sparse matrix, as a careful user of SciPy would."""
    n, d = X.shape
    matrix = sparse.hstack([-y[:, None] * np.column_stack([X, np.ones(n)]), -sparse.eye_array(n)])
    cost = np.concatenate([np.zeros(d + 1), np.ones(n)])
    bounds = np.zeros((n + d + 1, 2))
    bounds[:, 1] = np.inf
    bounds[: d + 1, 0] = -np.inf
    return linprog(cost, matrix.tocsc(), -np.ones(n), bounds=bounds, method="highs").fun


@pytest.mark.full
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize(("n", "d"), [(10, 2), (5_000, 2), (100_000, 2), (100_000, 20)])
@pytest.mark.benchmark(group="linear program, one thread")
def test_fit_program(benchmark, n, d, noise, case):
    X, y = data(n, d, noise)
    benchmark(fit_program, X, y, **CASES[case])


#: (points, labels flipped, how many times as long SciPy is to take, at least)
BESIDE_SCIPY = [(5_000, 0.0, None), (20_000, 0.0, None), (2_000, 0.1, None)]


@pytest.mark.parametrize("who", ["confsim", "SciPy, sparse"])
@pytest.mark.parametrize(("n", "noise", "goal"), BESIDE_SCIPY)
@pytest.mark.benchmark(group="linear program, one thread")
def test_beside_scipy(benchmark, n, noise, goal, who):
    ours = who == "confsim"
    work = (lambda X, y: fit_program(X, y).objective_value) if ours else fit_sparse
    found = benchmark.pedantic(work, data(n, 2, noise), rounds=25 if ours else 1)
    record(benchmark, f"linear program, n={n}, {noise:.0%} flipped", who, goal=goal)
    assert found == pytest.approx(fit_program(*data(n, 2, noise)).objective_value, abs=1e-6 * n)


def seconds(function, *arguments, repeat):
    """Best time of several."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return min(times)


def memory_of_a_million():
    """Peak memory in MB that a fit of 1,000,000 points adds to the input, in a fresh process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        fit_program(*data(10, 2, 0.0))
        X, y = data(1_000_000, 2, 0.0)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024
        ballast = np.ones(max(0, int((before - held) * 1024)), np.uint8)  # up to the earlier peak
        fit_program(X, y)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        os.write(writer, f"{(after - max(before, held)) / 1024:.0f} {ballast[:1].size}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(reader, 64).split()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="leave out slow peers")
    quick = parser.parse_args().quick
    os.environ["OMP_NUM_THREADS"] = "1"
    print(f"memory above the input, n = 1,000,000: {memory_of_a_million()} MB", flush=True)
    print("| n | d | flipped | confsim | SciPy | ratio |\n|---|---|---|---|---|---|")
    for n, d, noise, peer, slow in WORK:
        X, y = data(n, d, noise)
        own = seconds(fit_program, X, y, repeat=5)
        row = f"| {n:,} | {d} | {noise:.0%} | {own * 1e3:.3g} ms |"
        if peer and not (slow and quick):
            other = seconds(peers.fit_dense if peer == "dense" else fit_sparse, X, y, repeat=1)
            row += f" {other:.3g} s ({peer}) | {other / own:.0f}x |"
        else:
            row += " | |"
        print(row, flush=True)


if __name__ == "__main__":
    main()
