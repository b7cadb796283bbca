"""Resuming, looking at and summarising a run of many packed trials, each in a process of its own.

``python benchmarks/packed.py --trials 100000 --run /dev/shm/packed`` makes the run (minutes; a
second call goes on), measures, and exits with 1 where a goal is missed. The trials are a thousand
of ``confsim-linear``, under other numbers again and again: what is measured is the directory.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from confsim import open_run
from confsim.runner.packing import pack
from confsim.store import files, layout, packing
from confsim.store.artifacts import entry_of
from confsim.store.writer import raise_schema

SECONDS, MEGABYTES = 3.0, 300
SETTINGS = ["--n", "10", "--queries", "200", "--grid-size", "100", "--quiet"]
#: What is installed is measured, not the folder that this is called from.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}

LINEAR = "import sys; from confsim.cli.linear import main; sys.exit(main(sys.argv[1:]))"
STATUS = "import sys; from confsim.cli.status import main; sys.exit(main(sys.argv[1:]))"
SUMMARY = "import sys, confsim; print(confsim.open_run(sys.argv[1]).summary().shape)"


def make(run: Path, trials: int) -> None:
    """Make a run of packed trials, a thousand at a time."""
    master = run.with_name(run.name + ".master")
    base = min(trials, packing.MOST_TRIALS)
    words = [*SETTINGS, "--trials", str(base), "--out", str(master)]
    subprocess.run([sys.executable, "-c", LINEAR, *words], check=True, env=ENVIRONMENT)
    if not run.exists():
        run.mkdir()
        for name in (layout.MANIFEST, layout.MANIFEST_COPY):
            manifest = files.read_sealed(master / layout.MANIFEST)
            (run / name).write_bytes(files.seal({**manifest, "trials": trials}))
        (run / layout.TRIALS).mkdir()
        raise_schema(run, layout.PACKED_SCHEMA)
    there = set(layout.trial_numbers(run))
    for first in range(0, trials, base):
        if first not in there:
            for trial in range(first, min(trials, first + base)):
                renumber(layout.trial_path(master, trial - first), run, trial)
            pack(open_run(run))
            print(f"{first + base:,} of {trials:,} trials", file=sys.stderr)


def renumber(source: Path, run: Path, trial: int) -> None:
    """Copy a trial under another number."""
    target = layout.trial_path(run, trial)
    shutil.copytree(source, target)
    summary = target / layout.SUMMARY
    summary.write_text(
        summary.read_text().replace(f'"trial": {int(source.name)},', f'"trial": {trial},')
    )
    record = files.read_sealed(target / layout.TRIAL_RECORD)
    entries = {**record["files"], layout.SUMMARY: entry_of(summary.read_bytes())}
    content = files.seal({**record, "trial": trial, "files": entries})
    (target / layout.TRIAL_RECORD).write_bytes(content)


def measured(code: str, words: list[str]) -> tuple[float, float]:
    """Run Python code; return its seconds, and the megabytes that its process took at most."""
    peak = (
        "import atexit; atexit.register(lambda: print([line for line in open('/proc/self/status') "
        "if line.startswith('VmHWM')][0].split()[1], file=sys.stderr)); "
    )
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", "import sys; " + peak + code, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(done.stderr)
    return seconds, int(done.stderr.split()[-1]) / 1e3


def main() -> int:
    """Measure; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--only-make", action="store_true")
    given = parser.parse_args()
    make(given.run, given.trials)
    if given.only_make:
        return 0
    entries = sum(1 for _ in given.run.rglob("*"))
    print(f"{given.trials:,} trials, {entries:,} files and directories")
    words = [*SETTINGS, "--trials", str(given.trials), "--out", str(given.run)]
    missed = 0
    for name, code, arguments in (
        ("resume", LINEAR, words),
        ("status", STATUS, [str(given.run)]),
        ("summary", SUMMARY, [str(given.run)]),
    ):
        seconds, megabytes = min(measured(code, arguments) for _ in range(3))
        met = seconds < SECONDS and megabytes < MEGABYTES
        missed += not met
        verdict = "met" if met else "MISSED"
        print(
            f"{name:8s} {seconds:6.2f} s (goal {SECONDS:g}) {megabytes:6.0f} MB "
            f"(goal {MEGABYTES}) {verdict}"
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
