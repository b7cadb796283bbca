"""Run an experiment for a command: dry run, run, exports, closing table."""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from confsim import exports, runner
from confsim.cli.closing import closing_table
from confsim.experiment import Experiment
from confsim.report.summary import headline


def execute(experiment: Experiment, given: argparse.Namespace) -> int:
    """Do what the shared options ask; return the exit code."""
    if given.dry_run:
        return _dry_run(experiment, given)
    outcome = runner.run(
        experiment,
        trials=given.trials,
        out=given.out,
        workers=given.workers,
        shard=given.shard,
        steal=given.steal,
        grace=given.grace,
        overwrite=given.overwrite,
        keep=given.keep,
        mix_versions=given.mix_versions,
        quiet=given.quiet,
    )
    if outcome.complete:
        exports.export(outcome.run, csv=given.csv, archive=given.zip, trials=given.trials)
    trials = [number for number in outcome.run.trials if number < given.trials]
    found = headline(outcome.run.trial(number).summary() for number in trials)
    if given.json:
        result = {
            "run": str(outcome.run.path),
            "complete": outcome.complete,
            "failed": list(outcome.failed),
            "missing": list(outcome.missing),
            **found.as_json(),
        }
        print(json.dumps(result, allow_nan=False))
    elif trials:
        print(closing_table(outcome.run, found, given.percent, complete=outcome.complete))
    return outcome.exit_code


def _dry_run(experiment: Experiment, given: argparse.Namespace) -> int:
    """Say what would run. Nothing is written."""
    plan = runner.plan(
        experiment,
        trials=given.trials,
        out=given.out,
        workers=given.workers,
        shard=given.shard,
        overwrite=given.overwrite,
        mix_versions=given.mix_versions,
    )
    cost = experiment.estimate()
    seconds = cost.seconds_per_trial * len(plan.trials) / max(1, plan.processes)
    disk = cost.bytes_per_trial * len(plan.trials)
    told = {
        "run": str(plan.path),
        "trials": given.trials,
        "to_run_here": len(plan.trials),
        "done": plan.done,
        "processes": plan.processes,
        "threads_per_process": plan.threads,
        "seconds": round(seconds, 1),
        "bytes_of_memory": cost.bytes_of_memory_per_worker * plan.processes,
        "bytes_of_disk": disk,
        "bytes_of_disk_free": shutil.disk_usage(_existing(plan.path)).free,
        "configuration": experiment.identity(),
    }
    if given.json:
        print(json.dumps(told))
        return 0
    print(f"would run {len(plan.trials)} of {given.trials} trials ({plan.done} are done)")
    print(f"  in      {plan.path}")
    print(f"  with    {plan.processes} processes of {plan.threads} threads")
    print(f"  time    about {_time(seconds)}")
    print(f"  memory  about {_size(told['bytes_of_memory'])}")
    print(f"  disk    about {_size(disk)} of {_size(told['bytes_of_disk_free'])} that are free")
    for name, value in experiment.identity().items():
        print(f"  {name} = {value}")
    sys.stdout.flush()
    return 0


def _existing(path: Path) -> str:
    return next(os.fspath(p) for p in (path.absolute(), *path.absolute().parents) if p.exists())


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
