"""Run an experiment for a command: dry run, run, exports, closing table."""

import argparse
import json
import math
import shutil
import sys
from typing import Any

from confsim import exports, runner
from confsim._errors import check_number
from confsim.cli.closing import closing_table
from confsim.experiment import Experiment
from confsim.report.summary import headline_of
from confsim.store import artifacts, check_place, check_target, default_path, files, layout, survey


def execute(experiment: Experiment, given: argparse.Namespace) -> int:
    """Do what the shared options ask; return the exit code."""
    if given.csv and given.keep == "summary":  # said before the trials are run, not after
        raise ValueError("--csv needs the extremes, which --keep summary leaves out")
    check_number("grace", given.grace, minimum=0)
    if given.dry_run:
        return _dry_run(experiment, given)
    if given.zip:
        artifacts.check_room(exports.zip_path(given.out or layout.RUNS / "run").parent)
    outcome = runner.run(
        experiment,
        trials=experiment.trials_of(given.trials),
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
    if outcome.complete and (given.csv or given.zip):
        if outcome.signalled:  # it was said when only the exports were left to do
            raise KeyboardInterrupt
        told = exports.export(outcome.run, csv=given.csv, archive=given.zip, trials=given.trials)
        for line in told if not given.quiet else []:
            print(f"{experiment.command}: {line}", file=sys.stderr)
    trials = [number for number in outcome.run.trials if number < given.trials]
    found = headline_of(outcome.run, trials)
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
    """Say what would run, and its cost. Nothing is written."""
    trials = experiment.trials_of(runner.check_trials(given.trials))
    check_place(given.out)
    path = given.out or default_path(experiment)
    check_target(path, experiment, overwrite=given.overwrite, mix_versions=given.mix_versions)
    experiment.check(trials)
    done: frozenset[int] = frozenset()
    if path.exists() and not given.overwrite:
        done = survey(path, layout.identity_hash(experiment.identity())).finished
    shard = runner.resolve_shard(given.shard)
    left = [trial for trial in shard.trials(trials) if trial not in done]
    cpus = runner.resolve_workers(given.workers)
    processes = max(1, min(cpus, len(left)))
    cost = experiment.estimate()
    seconds = cost.seconds_per_trial * len(left) / cpus
    told = {
        "run": str(path),
        "trials": trials,
        "to_run": len(left),
        "processes": processes,
        "threads_per_process": cpus // processes,
        "runs_on": experiment.runs_on(),
        "seconds": None if math.isnan(seconds) else round(seconds, 1),
        "bytes_of_memory": cost.bytes_of_memory_per_worker * processes,
        "bytes_of_disk": cost.bytes_per_trial * len(left),
        "bytes_of_disk_free": shutil.disk_usage(files.nearest(path)).free,
        "configuration": experiment.identity(),
    }
    print(json.dumps(told) if given.json else _describe(told))
    return 0


def _describe(told: dict[str, Any]) -> str:
    settings = [f"  {name} = {value}" for name, value in told["configuration"].items()]
    free = _size(told["bytes_of_disk_free"])
    place = [f"  on      {told['runs_on']}"] if told["runs_on"] else []
    return "\n".join(
        [
            f"would run {told['to_run']} of {told['trials']} trials",
            f"  in      {told['run']}",
            f"  with    {told['processes']} processes of {told['threads_per_process']} threads",
            *place,
            f"  time    {'' if told['seconds'] is None else 'about '}{_time(told['seconds'])}",
            f"  memory  about {_size(told['bytes_of_memory'])}",
            f"  disk    about {_size(told['bytes_of_disk'])}, of {free} that are free",
            *settings,
        ]
    )


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "what a trial takes, which is not known (--check measures it)"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
