"""LiRA and RMIA beside straightforward NumPy programs that follow the published ones.

The peers go through targets one by one and examples one by one, as the published scripts do, and
hold everything in memory; their scores must be ours. ``python benchmarks/bench_membership.py`` runs
the large case, 256 trials x 50,000 examples x 18 views in float32 on disk, every trial a target,
and prints seconds and megabytes.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from confsim.membership import lira, rmia

TRIALS, EXAMPLES, VIEWS = 64, 500, 2


def data(trials, examples, views, seed=0, path=None):
    """Return log-odds (trials, examples, views) in float32, memory-mapped if asked, and members."""
    rng = np.random.default_rng(seed)
    member = rng.random((trials, examples)) < 0.5
    shape = (trials, examples, views)
    values = np.empty(shape, np.float32)
    if path is not None:
        values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    hard = 4 * rng.standard_normal((examples, views), dtype=np.float32)
    for trial in range(trials):
        noise = rng.standard_normal((examples, views), dtype=np.float32)
        values[trial] = hard + noise + member[trial, :, None]
    return values, member


def published_lira(scores, keep):
    """Score online with own variances, as the script of Carlini et al. (2022) does."""
    scores = scores.astype(np.float64)
    found = np.empty(keep.shape)
    for target in range(len(scores)):
        dat, held = np.delete(scores, target, axis=0), np.delete(keep, target, axis=0)
        for j in range(scores.shape[1]):
            log_ratio = np.zeros(scores.shape[2])
            for sign, side in ((1, held[:, j]), (-1, ~held[:, j])):
                values = dat[side, j]
                mean, spread = np.median(values, axis=0), np.std(values, axis=0) + 1e-30
                z = (scores[target, j] - mean) / spread
                log_ratio += sign * (-(z**2) / 2 - np.log(spread))
            found[target, j] = log_ratio.mean()
    return found


def published_rmia(log_odds, keep):
    """Score online with gamma 1, all pairs in a matrix, as the program of the paper does."""
    p = 1 / (1 + np.exp(-log_odds.astype(np.float64)))
    found = np.empty(keep.shape)
    for target in range(len(p)):
        others, held = np.delete(p, target, axis=0), np.delete(keep, target, axis=0)[..., None]
        mean_in = np.sum(others * held, axis=0) / held.sum(axis=0)
        mean_out = np.sum(others * ~held, axis=0) / (~held).sum(axis=0)
        ratio = (p[target] / ((mean_in + mean_out) / 2)).mean(axis=1)
        points = ratio[~keep[target]]
        wins = ratio[:, None] / points >= 1
        count, size = wins.sum(axis=1) - ~keep[target], len(points) - ~keep[target]
        found[target] = count / size
    return found


ATTACKS = {
    "lira": (lambda x, m: lira(x, m, fixed_variance=False), published_lira),
    "rmia": (rmia, published_rmia),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("who", ["confsim", "published"])
@pytest.mark.benchmark(group=f"membership: {TRIALS} x {EXAMPLES} x {VIEWS}, all targets")
def test_attack(benchmark, attack, who):
    values, member = data(TRIALS, EXAMPLES, VIEWS)
    ours, theirs = ATTACKS[attack]
    found = benchmark.pedantic(ours if who == "confsim" else theirs, (values, member), rounds=3)
    other = (theirs if who == "confsim" else ours)(values, member)
    np.testing.assert_allclose(found, other, rtol=1e-7, atol=1e-9)


def main():
    """Run the large case, or one of the sizes given."""
    size = [int(word) for word in sys.argv[1:]] or [256, 50_000, 18]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log_odds.npy"
        _, member = data(*size, path=path)
        values = np.load(path, mmap_mode="r")
        for name in ATTACKS:
            start, cpu = time.perf_counter(), time.process_time()
            ATTACKS[name][0](values, member)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{name}: {seconds:.1f} s, {cpu:.1f} s of CPU, {peak:.0f} MB at most")


if __name__ == "__main__":
    main()
