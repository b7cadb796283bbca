"""LiRA and RMIA beside straightforward NumPy programs that follow the published ones.

The peers go through targets one by one and examples one by one, as the published scripts do, and
hold everything in memory; their scores must be ours. ``python benchmarks/bench_membership.py`` runs
the large case, 256 trials x 50,000 examples x 18 views in float32 on disk, every trial a target,
and prints seconds and megabytes; ``... tables`` makes all tables of a run of 100 x 60,000 with a
fixed space, and ``... curve`` those of growing runs without one: what each score costs. Tables are
made in a process of their own, whose memory is theirs alone. Large runs need room for temporary
files (``TMPDIR``): 45 bytes for each score of a run, and twice as much again for its tables.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from tracking import record

import confsim
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
    work, rounds = (ours, 5) if who == "confsim" else (theirs, 1)
    found = benchmark.pedantic(work, (values, member), rounds=rounds)
    record(benchmark, f"{attack}, {TRIALS} x {EXAMPLES} x {VIEWS}", who)
    other = (theirs if who == "confsim" else ours)(values, member)
    np.testing.assert_allclose(found, other, rtol=1e-7, atol=1e-9)


def timed(name, work):
    """Print what a piece of work takes."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name}: {seconds:.1f} s, {cpu:.1f} s of CPU, {peak:.0f} MB at most")


def attack(folder, trials=256, examples=50_000, views=18):
    """Attack every trial, with all values on disk."""
    path = folder / "log_odds.npy"
    _, member = data(trials, examples, views, path=path)
    values = np.load(path, mmap_mode="r")
    for name in ATTACKS:
        timed(name, lambda name=name: ATTACKS[name][0](values, member))


def made_run(folder, trials, examples, width=32):
    """Make a run of so many trials and examples, and features beside it."""
    values, member = data(trials, examples, 1)
    rng = np.random.default_rng(1)
    label = rng.integers(0, 3, examples)
    logits = np.zeros((trials, examples, 3), np.float32)
    logits[:, np.arange(examples), label] = values[..., 0]
    np.save(folder / "features.npy", rng.normal(size=(examples, width)).astype(np.float32))
    confsim.audit(
        is_member=member,
        label=label,
        logits=logits,
        distance=rng.random(member.shape, dtype=np.float32),
        design="independent",
        out=folder / "run",
    )


class Noise:
    """A task whose models know their members a little, and cost nothing to train."""

    def __init__(self, examples):
        self.hard = 4 * np.random.default_rng(0).standard_normal(examples, dtype=np.float32)
        self.label = np.random.default_rng(1).integers(0, 3, examples)

    def population(self):
        """Return what all models share."""
        return {"label": self.label}

    def train(self, members, seed, context):
        """Return a model that is surer of its members."""
        sure = np.random.default_rng(seed).standard_normal(len(self.label), dtype=np.float32)
        sure += self.hard
        sure[members] += 1

        def predict(rows):
            logits = np.zeros((len(rows), 3), np.float32)
            logits[np.arange(len(rows)), self.label[rows]] = sure[rows]
            return {"logits": logits}

        return predict


def trained_run(folder, trials, examples):
    """Make a run trial by trial, of any size, without distances."""
    confsim.shadow.run(Noise(examples), trials=trials, workers=1, out=folder / "run")


#: What the process runs that makes tables: seconds, seconds of CPU, megabytes at most; and those
#: of them that are no pages of files, looked at every half second: the system can drop the others.
MAKE = """
import re, resource, sys, threading, time
import confsim
from confsim.membership import membership_tables
from confsim.membership.run_attacks import RunAttacks
most = 0
def watch():
    global most
    while True:
        with open("/proc/self/status") as file:
            most = max(most, int(re.search(r"RssAnon:\\s+(\\d+)", file.read())[1]))
        time.sleep(0.5)
threading.Thread(target=watch, daemon=True).start()
chosen, every = sys.argv[3:], RunAttacks.__iter__
if chosen:
    RunAttacks.__iter__ = lambda self: (one for one in every(self) if one[0] in chosen)
run = confsim.open_run(sys.argv[1])
start = time.perf_counter()
membership_tables(run, features=sys.argv[2] or None)
usage = resource.getrusage(resource.RUSAGE_SELF)
print(time.perf_counter() - start, time.process_time(), usage.ru_maxrss / 1024, most / 1024)
"""

#: Seconds and megabytes that are no pages of files: with a fixed space, and of two sizes without.
GOALS = {True: (90, 2000), (100, 60_000): (10, 600), (256, 1_281_167): (900, 4000)}

#: Runs with more scores are made trial by trial.
MOST_AT_ONCE = 50_000_000


def made_tables(folder, trials, examples, space, chosen=()):
    """Make the tables of a run in a process of its own; print what that takes, and the verdict."""
    features = str(folder / "features.npy") if space else ""
    command = [sys.executable, "-P", "-c", MAKE, str(folder / "run"), features, *chosen]
    words = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    seconds, cpu, resident, megabytes = map(float, words)
    scores = trials * examples
    print(
        f"{trials} x {examples} = {scores:.2g} scores: {seconds:.1f} s, {cpu:.1f} s of CPU, "
        f"{1e6 * cpu / scores:.2f} us of CPU a score, {megabytes:.0f} MB at most, and "
        f"{resident:.0f} MB with pages of files",
        flush=True,
    )
    goal = GOALS.get(True if space else (trials, examples))
    if goal is not None:
        for name, found, wanted in zip(("s", "MB"), (seconds, megabytes), goal, strict=True):
            print(f"  under {wanted} {name}: {'met' if found < wanted else 'MISSED'}", flush=True)


def tables(folder, trials=100, examples=60_000):
    """Make all tables of a run, with a fixed space."""
    made_run(folder, trials, examples)
    made_tables(folder, trials, examples, space=True)


def curve(folder, *sizes, chosen=()):
    """Make all tables of growing runs (trials, examples, trials, ...), without a fixed space."""
    sizes = sizes or (100, 10_000, 100, 60_000, 100, 200_000)
    for i, (trials, examples) in enumerate(zip(sizes[::2], sizes[1::2], strict=True)):
        one = folder / str(i)
        one.mkdir()
        (made_run if trials * examples <= MOST_AT_ONCE else trained_run)(one, trials, examples)
        made_tables(one, trials, examples, space=False, chosen=chosen)


def main():
    """Run the large case, the tables or the curve, or either of the sizes given.

    Names of attacks after the sizes of ``curve`` say which are evaluated; default: all.
    """
    words = sys.argv[1:]
    work = {"tables": tables, "curve": curve}.get(words[0] if words else "", attack)
    words = words if work is attack else words[1:]
    sizes = [int(word) for word in words if word.isdigit()]
    chosen = [word for word in words if not word.isdigit()]
    with tempfile.TemporaryDirectory() as folder:
        work(Path(folder), *sizes, **({"chosen": chosen} if chosen else {}))


if __name__ == "__main__":
    main()
