"""Trials an hour on one device: a plain Keras loop, one engine trial after another, an ensemble.

All three train the same network on the same members for the same epochs, in this process, on the
backend that ``--backend`` names::

    python benchmarks/gpu_trials.py --backend jax --images 20000 --epochs 5 --ensemble 32

Compilation is timed apart: each way first trains once for nothing. Needs no data: images are noise
around a few centres, because the cost does not depend on what they show. A table goes to standard
output, or with ``--json`` one JSON object. Ensembles need ``--backend jax``.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np


class Scratch:
    """A context that never asks to stop."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def progress(self, trial, fraction):
        """Report nothing."""

    def should_stop(self):
        """Go on."""
        return False

    def scratch(self, trial):
        """Return a fresh folder, so that no trial finds a checkpoint."""
        return Path(tempfile.mkdtemp(dir=self.folder))


def parse(argv):
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="jax", choices=("tensorflow", "jax", "torch"))
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=32, help="height and width of an image")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--trials", type=int, default=4, help="of the plain loop and the engine")
    parser.add_argument("--ensemble", type=int, default=32, help="trials in one program")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    return parser.parse_args(argv)


def main(argv=None):
    """Measure the three ways; return and print trials an hour."""
    given = parse(argv)
    from confsim.deep import backend as backends

    device = (backends.gpus() or [None])[0]
    backends.prepare(given.backend, 1, device)

    from confsim.deep import training
    from confsim.deep.models import Recipe

    rng = np.random.default_rng(0)
    shape = (given.size, given.size, 3)
    labels = rng.integers(0, 10, given.images)
    centres = rng.integers(64, 192, (10, *shape), dtype=np.int16)
    noise = rng.integers(-60, 61, (given.images, *shape), dtype=np.int16)
    images = (centres[labels] + noise).astype(np.uint8)
    recipe = Recipe(given.model, shape, 10)
    engine = backends.open_engine(backends.Settings(recipe), images, labels)
    # Patience beyond the epochs: every way runs them all.
    schedule = training.Schedule(given.epochs, given.batch_size, patience=given.epochs + 1)

    def plan(trial):
        order = np.random.default_rng(trial).permutation(given.images)
        members, held = np.sort(order[: given.images // 2]), order[-given.images // 10 :]
        standardisation = backends.Standardisation.of(images[members])
        return training.Plan(trial, members, held, labels[held], standardisation)

    def plain(trials):
        from plain_keras import trial as plain_trial

        for k in range(trials):
            p = plan(k)
            options = {"epochs": given.epochs, "batch_size": given.batch_size, "seed": k}
            plain_trial(recipe, images, labels, p.members, p.validation, distances=False, **options)

    with tempfile.TemporaryDirectory() as folder:
        context = Scratch(folder)

        def one_by_one(trials):
            for k in range(trials):
                training.train(engine, schedule, plan(k), context)

        found = {
            "backend": given.backend,
            "device": "cpu" if device is None else f"gpu {device}",
            "plain_keras": rate(plain, given.trials),
            "engine": rate(one_by_one, given.trials),
        }
        if given.backend == "jax":
            from confsim.deep.ensemble import Ensemble

            ensemble = Ensemble(engine, given.ensemble)
            found["ensemble"] = rate(
                lambda trials: list(ensemble.train(schedule, [*map(plan, range(trials))], context)),
                given.ensemble,
            )
    best = max(found["engine"], found.get("ensemble", 0.0))
    found["times_plain"] = round(best / found["plain_keras"], 2)
    print(json.dumps(found) if given.json else table(found, given))
    return found


def table(found, given):
    """Return the result for a reader: trials an hour of each way, and how many times the plain."""
    ways = {
        "plain_keras": "plain Keras fit, one by one",
        "engine": "one by one (confsim)",
        "ensemble": f"{given.ensemble} at once (confsim)",
    }
    data = f"{given.images // 2} training images of {given.size}x{given.size}"
    lines = [
        f"{given.model}, {data}, {given.epochs} epochs, batches of {given.batch_size}",
        f"{found['backend']} on {found['device']}",
        "",
        f"{'':<32}{'trials an hour':>16}{'times plain':>14}",
    ]
    for way, name in ways.items():
        if way in found:
            ratio = found[way] / found["plain_keras"]
            lines.append(f"{name:<32}{found[way]:>16,.1f}{ratio:>14.2f}")
    return "\n".join(lines)


def rate(train, trials):
    """Return trials an hour, after one call that compiles."""
    train(1)
    started = time.perf_counter()
    train(trials)
    return round(3600 * trials / (time.perf_counter() - started), 1)


if __name__ == "__main__":
    main()
