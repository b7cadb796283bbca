"""What a GPU makes of the deep pipeline: one script for a short slot on a machine that has one.

Stages, most valuable first, each in a process and with a time limit of its own; every result is
written as soon as it is known, as one line of JSON, so that nothing is lost when time runs out::

    python benchmarks/gpu.py --data folder:cifar10-50k.zip --out results

``cnn``
    Trials an hour of the small network: a plain Keras ``fit`` loop, one engine trial after another,
    and ensembles of several sizes in one program, in float32 and bfloat16. Needs no data.
``recipe``
    A fast recipe as its command: 16 shadow models and a target, trained and attacked.
``determinism``
    The same trial twice, in processes of their own: every file byte for byte.
``together``
    What ``--trials-per-device auto`` measures and chooses for the small network.
``views``
    Seconds in which 50,000 images are looked at, in passes one by one and in one program.
``networks``
    Seconds an epoch of 25,000 images, float32 and bfloat16.
``accuracy``
    A residual network trained on all images of ``--data``, tested on those of ``--test``.
``nearest``
    Nearest training images in feature space: the compiled search on the CPU against the device.

Without a GPU the same stages run on the CPU; ``--tiny`` makes them small enough for a test.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

#: Stages in their order, with the seconds that each may take.
STAGES = {
    "device": 30,
    "cnn": 150,
    "recipe": 300,
    "determinism": 110,
    "together": 100,
    "views": 60,
    "networks": 110,
    "accuracy": 250,
    "nearest": 30,
}

#: Trials together and precision of the stage ``cnn``, most valuable first.
WAYS = (
    (1, "float32"),
    (32, "float32"),
    (1, "bfloat16"),
    (32, "bfloat16"),
    (8, "float32"),
    (8, "bfloat16"),
    (128, "bfloat16"),
    (128, "float32"),
)


def parse(argv):
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", default="jax", choices=("tensorflow", "jax", "torch"))
    parser.add_argument(
        "--data", metavar="DATASET", help="of confsim-deep, for instance folder:DIR"
    )
    parser.add_argument("--test", metavar="DATASET", help="images that none of --data repeats")
    parser.add_argument("--recipe", default="lira-cifar10-fast")
    parser.add_argument(
        "--out", type=Path, default=Path("gpu-results"), help="folder for the lines"
    )
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--seconds", type=float, default=530, help="for all stages together")
    parser.add_argument("--tiny", action="store_true", help="everything small: for tests")
    parser.add_argument("--runs", type=Path, help="folder for the recipe's run (default: removed)")
    parser.add_argument("--only", choices=STAGES, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    given.ways = WAYS if given.backend == "jax" else [way for way in WAYS if way[0] == 1]
    if given.tiny:
        given.ways = [(min(together, 2), precision) for together, precision in given.ways[:4]]
        given.data = given.data or "digits"
    return given


class Lines:
    """The results so far: one line of JSON each, written through to the disk."""

    def __init__(self, folder, stage):
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.stage = folder / "gpu.jsonl", stage
        self.started = time.perf_counter()

    def write(self, **found):
        """Append a result, and show it."""
        at = round(time.perf_counter() - self.started, 1)
        line = json.dumps({"stage": self.stage, **found, "at_seconds": at})
        with self.path.open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(line, flush=True)


def main(argv=None):
    """Run the stages one after another; a stage that fails or overruns ends only itself."""
    given = parse(argv)
    if given.only:
        run_stage(given)
        return 0
    ends = time.monotonic() + given.seconds
    failed = 0
    for stage in given.stages:
        lines = Lines(given.out, stage)
        left = ends - time.monotonic()
        if left < 5:
            lines.write(skipped="no time left")
            continue
        words = list(argv) if argv is not None else sys.argv[1:]
        command = [sys.executable, __file__, *words, "--only", stage]
        code = ended_within(command, left if given.tiny else min(left, STAGES[stage]))
        if code is None:
            lines.write(stopped="the stage's time is over")
        elif code:
            failed = 1
            lines.write(failed=f"exit code {code}")
    return failed


def ended_within(command, seconds):
    """Return the exit code of a command; ``None`` if it had to be ended, with all that it began."""
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait(seconds)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            return None
        raise


def run_stage(given):
    """Run one stage in this process."""
    lines = Lines(given.out, given.only)
    {
        "device": device,
        "cnn": cnn,
        "recipe": recipe,
        "determinism": determinism,
        "together": together,
        "views": views,
        "networks": networks,
        "accuracy": accuracy,
        "nearest": nearest,
    }[given.only](given, lines)


# -- Stages ----------------------------------------------------------------------------------------


def device(given, lines):
    """Name the device, the versions and the processor."""
    import confsim
    from confsim.deep import backend

    gpus = backend.gpus()
    name = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    lines.write(
        gpu=subprocess.run(name, capture_output=True, text=True).stdout.strip() if gpus else None,
        confsim=confsim.__version__,
        versions=backend.versions(given.backend),
        python=sys.version.split()[0],
        cores=len(os.sched_getaffinity(0)),
    )


def cnn(given, lines):
    """Compare a plain ``fit`` loop with the engine and with ensembles, compilation apart."""
    engines = start(given)
    from confsim.deep import training

    size, count, epochs, batch = (8, 200, 3, 50) if given.tiny else (32, 20_000, 10, 100)
    images, labels = noise(count, size)
    members = [trial_rows(count, k) for k in range(2 if given.tiny else 128)]
    plain_seconds(images, labels, members[0], 1, batch, size)  # starts the framework
    plain = {}

    schedule = training.Schedule(epochs, batch, patience=epochs + 1)
    none = np.empty(0, np.int64)

    def plan(k):
        return training.Plan(
            k, members[k], none, none, engines.Standardisation.of(images[members[k]])
        )

    opened = {}
    for together, precision in given.ways:
        if precision not in opened:
            # A fresh model is compiled in each; the difference of the two is epochs alone.
            short, long = (
                plain_seconds(images, labels, members[0], n, batch, size, precision)
                for n in (1, epochs)
            )
            plain[precision] = {"trial": long, "epoch": (long - short) / (epochs - 1)}
            said = f"plain Keras fit, one by one, {precision}"
            lines.write(way=said, **speed(long, epochs, plain[precision]))
            opened[precision] = open_cnn(engines, precision, size, images, labels)
        with tempfile.TemporaryDirectory() as folder:
            each = seconds_each(opened[precision], together, schedule, plan, Scratch(folder))
        way = "one by one" if together == 1 else f"{together} at once"
        lines.write(way=f"{way}, {precision}", **speed(each, epochs, plain[precision]))


def open_cnn(engines, precision, size, images, labels):
    """Return an engine with the small network."""
    from confsim.deep.models import Architecture

    architecture = Architecture("cnn", (size, size, 3), 10, precision=precision)
    return engines.open_engine(engines.Settings(architecture), images, labels)


def seconds_each(engine, together, schedule, plan, context):
    """Return the seconds of a trial, one by one or several together, after one that compiles."""
    from confsim.deep import training

    if together == 1:
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            training.train(engine, schedule, plan(0), context)
            seconds.append(time.perf_counter() - started)
        return min(seconds[1:])
    from confsim.deep.ensemble import Ensemble

    ensemble, plans = Ensemble(engine, together), [plan(k) for k in range(together)]
    list(ensemble.train(replace(schedule, epochs=1), plans, context))
    started = time.perf_counter()
    list(ensemble.train(schedule, plans, context))
    return (time.perf_counter() - started) / together


def recipe(given, lines):
    """Train and attack what a recipe says, as a user would: by its command."""
    import confsim
    from confsim import recipes

    with tempfile.TemporaryDirectory() as folder:
        out = (given.runs or Path(folder)) / "recipe"
        words = [*recipe_words(given), "--trials", "4" if given.tiny else "17"]
        seconds = command("deep", *words, "--out", str(out), "--quiet")
        run = confsim.open_run(out)
        summary = run.summary()
        lines.write(
            recipe=given.recipe,
            models=len(summary),
            wall_seconds=round(seconds, 1),
            seconds_a_model=round(seconds / len(summary), 2),
            **{c: round(float(summary[c].mean()), 4) for c in summary if c.endswith("accuracy")},
        )
        started = time.perf_counter()
        found = recipes.compare(run)
        lines.write(
            attack_seconds=round(time.perf_counter() - started, 1),
            compared=found.to_dict("records"),
            differences=found.attrs["differences"],
        )


def recipe_words(given):
    """Return the command line of the recipe, which is made small where things are tiny."""
    words = ["--recipe", given.recipe, "--backend", given.backend]
    if given.data:
        words += ["--dataset", given.data, "--holdout", "0"]
    if given.tiny:
        words += ["--limit", "200", "--epochs", "1", "--warmup", "0", "--batch-size", "50"]
    return words


def determinism(given, lines):
    """Train the same trial twice in processes of their own and compare what was stored."""
    words = [*recipe_words(given), "--trials", "1", "--save-model"]
    if not given.tiny:
        words += ["--epochs", "3", "--warmup", "0"]
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder) / name for name in ("one", "two")]
        for out in outs:
            command("deep", *words, "--out", str(out), "--quiet")
        first, second = (
            {p.name: p.read_bytes() for p in sorted((out / "trials" / "000000").iterdir())}
            for out in outs
        )
    names = sorted({*first, *second} - {"trial.json"})
    differing = [name for name in names if first.get(name) != second.get(name)]
    lines.write(files=names, differing=differing, same_bytes=not differing)


def together(given, lines):
    """Measure how many trials of the small network should share the device, as ``auto`` does."""
    if given.backend != "jax":
        lines.write(skipped="trials share a device on JAX only")
        return
    from confsim.deep import engines, sharing
    from confsim.deep.models import Architecture

    size, batch, numbers = (8, 20, (1, 2)) if given.tiny else (32, 100, sharing.CANDIDATES)
    for precision in ("float32", "bfloat16")[: 1 if given.tiny else 2]:
        settings = engines.Settings(Architecture("cnn", (size, size, 3), 10, precision=precision))
        found = sharing.measured(settings, batch, numbers, threads=1)
        each = {number: round(1e6 * seconds) for number, seconds in found.items()}
        chosen = sharing.best(found)
        lines.write(precision=precision, microseconds_a_step_and_trial=each, chosen=chosen)


def views(given, lines):
    """Look at all images, in passes one by one and in one program, of themselves and moved."""
    engines = start(given)
    from confsim.deep.engines.base import Engine
    from confsim.deep.models import Architecture

    size, count = (8, 120) if given.tiny else (32, 50_000)
    images, labels = noise(count, size)
    standardisation = engines.Standardisation.of(images[:1000])
    moved = np.array([1, 1, 0], np.int32)
    for name in ("cnn",) if given.tiny else ("cnn", "wide"):
        chosen = Architecture(name, (size, size, 3), 10, precision="bfloat16")
        settings = engines.Settings(chosen, augmented=True)
        engine = engines.open_engine(settings, images, labels)
        whole, seconds, logits = engine._forward_all, {}, {}
        for way, passes in (("one by one", Engine._forward_all), ("one program", None)):
            engine._forward_all = passes.__get__(engine) if passes else whole
            for sources in (None, moved, moved, moved):
                started = time.perf_counter()
                logits[way], _ = engine.forward(np.arange(count), standardisation, sources)
                seconds[way] = round(time.perf_counter() - started, 3)
        same = bool(np.array_equal(*logits.values()))
        lines.write(model=name, images=count, seconds=seconds, same_numbers=same)


def networks(given, lines):
    """Time an epoch of the larger networks, after one that compiles."""
    engines = start(given)
    from confsim.deep import training
    from confsim.deep.models import Architecture
    from confsim.deep.optimisation import Optimisation

    size, count, batch = (8, 120, 20) if given.tiny else (32, 50_000, 500)
    images, labels = noise(count, size)
    members = trial_rows(count, 0)
    none = np.empty(0, np.int64)
    plan = training.Plan(0, members, none, none, engines.Standardisation.of(images[members]))
    names = ("wide",) if given.tiny else ("wrn28-2", "resnet18", "wide", "resnet")
    for precision in ("bfloat16", "float32"):
        for name in names:
            chosen = Architecture(name, (size, size, 3), 10, precision=precision)
            settings = engines.Settings(chosen, Optimisation("sgd"), augmented=True)
            engine = engines.open_engine(settings, images, labels)
            schedule = training.Schedule(1, batch, augment="weak", learning_rate=0.01)
            seconds = []
            for _ in range(3):
                with tempfile.TemporaryDirectory() as folder:
                    started = time.perf_counter()
                    training.train(engine, schedule, plan, Scratch(folder))
                    seconds.append(round(time.perf_counter() - started, 3))
            lines.write(
                model=name,
                precision=precision,
                batch=batch,
                images=len(members),
                first_seconds=seconds[0],
                epoch_seconds=min(seconds[1:]),
            )


def accuracy(given, lines):
    """Train a residual network on everything and test it on other images."""
    if not (given.data and given.test) and not given.tiny:
        lines.write(skipped="needs --data and --test")
        return
    engines = start(given)
    from confsim.deep import training
    from confsim.deep.models import Architecture
    from confsim.deep.optimisation import Optimisation

    if given.tiny:
        (images, labels), names = noise(120, 8), 10
        held = 20
    else:
        parts = [load(name) for name in (given.data, given.test)]
        images = np.concatenate([part.images for part in parts])
        labels = np.concatenate([part.labels for part in parts])
        names, held = parts[0].classes, len(parts[1].labels)
    epochs, batch = (1, 20) if given.tiny else (200, 250)
    name = "resnet" if given.tiny else "resnet18"
    chosen = Architecture(name, images.shape[1:], names, precision="bfloat16")
    optimisation = Optimisation("sgd", weight_decay=5e-3)
    options = {"augmented": True, "cutout": 16, "label_smoothing": 0.1}
    settings = engines.Settings(chosen, optimisation, **options)
    engine = engines.open_engine(settings, images, labels)
    members = np.arange(len(labels) - held)
    none = np.empty(0, np.int64)
    plan = training.Plan(0, members, none, none, engines.Standardisation.of(images[members]))
    schedule = training.Schedule(
        epochs,
        batch,
        augment="weak",
        cutout=True,
        learning_rate=0.2,
        schedule="one-cycle",
        warmup=0.2 * epochs,
    )
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        training.train(engine, schedule, plan, Scratch(folder))
        seconds = time.perf_counter() - started
    tested = np.arange(len(labels) - held, len(labels))
    mirrored = np.array([1, 0, 0], np.int32)
    views = [engine.forward(tested, plan.standardisation, moved)[0] for moved in (None, mirrored)]
    right, right_mean = (
        float(np.mean(logits.argmax(axis=1) == labels[tested]))
        for logits in (views[0], views[0] + views[1])
    )
    lines.write(
        model=name,
        epochs=epochs,
        trained_on=len(members),
        tested_on=held,
        seconds=round(seconds, 1),
        test_accuracy=round(right, 4),
        test_accuracy_of_two_views=round(right_mean, 4),
    )


def nearest(given, lines):
    """Search the nearest training image for every image: compiled on the CPU, and on the device."""
    start(given)
    from confsim import nearest_training

    count, width = (400, 16) if given.tiny else (50_000, 256)
    rng = np.random.default_rng(0)
    # Class means and a decaying spectrum, as features of trained networks have.
    spread = rng.normal(size=(count, width)) * 0.95 ** np.arange(width)
    features = (rng.normal(size=(10, width))[rng.integers(0, 10, count)] + spread).astype("f4")
    rows = trial_rows(count, 0)
    own = np.full(count, -1, np.int64)
    own[rows] = np.arange(len(rows))
    started = time.perf_counter()
    nearest_training(features, features[rows], metric="angular", self_index=own)
    on_cpu = time.perf_counter() - started
    lines.write(way="compiled search, CPU, exact", queries=count, seconds=round(on_cpu, 3))
    if given.backend != "jax":
        return
    import jax

    unit = features / np.linalg.norm(features, axis=1, keepdims=True)

    @jax.jit
    def best(queries, training):
        product = jax.numpy.matmul(queries, training.T, precision="highest")
        return jax.lax.top_k(product, 2)

    training_rows = jax.device_put(unit[rows])
    for _ in range(2):
        started = time.perf_counter()
        for at in range(0, count, 5000):
            jax.block_until_ready(best(jax.device_put(unit[at : at + 5000]), training_rows))
        seconds = time.perf_counter() - started
    lines.write(
        way="float32 product and two largest, device, not exact",
        queries=count,
        seconds=round(seconds, 3),
    )


# -- What stages share -----------------------------------------------------------------------------


class Scratch:
    """A context that never asks to stop."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def progress(self, trial, fraction, note=""):
        """Report nothing."""

    def should_stop(self):
        """Go on."""
        return False

    def scratch(self, trial):
        """Return a fresh folder, so that no trial finds a checkpoint."""
        return Path(tempfile.mkdtemp(dir=self.folder))


def start(given):
    """Configure this process for the backend and the first GPU, if any; return the module."""
    from confsim.deep import backend

    backend.prepare(given.backend, 1, (backend.gpus() or [None])[0])
    return backend


def load(name):
    """Return a dataset as ``confsim-deep`` reads it."""
    from confsim.deep.experiment import DeepExperiment

    return DeepExperiment(dataset=name).load()


def noise(count, size):
    """Return images around ten centres, because a cost does not depend on what they show."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, count)
    centres = rng.integers(64, 192, (10, size, size, 3), dtype=np.int16)
    drawn = rng.integers(-60, 61, (count, size, size, 3), dtype=np.int16)
    return (centres[labels] + drawn).astype(np.uint8), labels


def trial_rows(count, trial):
    """Return a random half of the rows, ascending."""
    return np.sort(np.random.default_rng(trial).permutation(count)[: count // 2])


def plain_seconds(images, labels, members, epochs, batch, size, precision="float32"):
    """Return the seconds of a trial of the loop that a researcher writes."""
    from plain_keras import trial

    from confsim.deep.models import Architecture

    architecture = Architecture("cnn", (size, size, 3), 10, precision=precision)
    options = {"epochs": epochs, "batch_size": batch, "seed": 0, "distances": False}
    started = time.perf_counter()
    trial(architecture, images, labels, members, None, **options)
    return time.perf_counter() - started


def speed(seconds, epochs, plain):
    """Return the figures of one way of training: of an epoch, and of a trial with all it takes."""
    return {
        "epochs": epochs,
        "seconds_a_trial": round(seconds, 3),
        "trials_an_hour": round(3600 / seconds, 1),
        "times_plain_epoch": round(plain["epoch"] * epochs / seconds, 2),
        "times_plain_trial": round(plain["trial"] / seconds, 2),
    }


def command(name, *words):
    """Run a command of confsim's; return its seconds."""
    started = time.perf_counter()
    code = f"import sys; from confsim.cli.{name} import main; sys.exit(main(sys.argv[1:]))"
    subprocess.run([sys.executable, "-c", code, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
