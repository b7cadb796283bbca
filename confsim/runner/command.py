"""One command from its arguments to its outcome."""

import os
from typing import Any

from confsim._errors import ConfsimError, check_choice, check_number
from confsim.experiment import Experiment
from confsim.given_files import expanded
from confsim.runner import plan
from confsim.runner.supervisor import Outcome, Supervisor
from confsim.store import Run, check_place, check_target, default_path
from confsim.store.writer import discard_run

#: Seconds that trials in hand get after a stop signal, unless the caller says otherwise.
GRACE = 1.5


def run(
    experiment: Experiment,
    *,
    trials: int,
    out: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    shard: str | plan.Shard | None = None,
    steal: bool | None = None,
    grace: float = GRACE,
    overwrite: bool = False,
    keep: str = "all",
    mix_versions: bool = False,
    quiet: bool = False,
    progress: bool | None = None,
) -> Outcome:
    """Run the trials of an experiment that are missing in its run directory.

    Parameters
    ----------
    experiment : Experiment
        What to run.
    trials : int
        Trials 0 to ``trials - 1``, of all shards together.
    out : path-like, optional
        The run directory; by default ``runs/COMMAND-HASH``, the hash being the identity's.
    workers : int, optional
        Processes at most; the CPUs are divided among as many as there are trials left. By default
        ``SLURM_CPUS_PER_TASK``, else the CPUs that this process may use.
    shard : str or Shard, optional
        ``"I/K"``: trials I, I + K, ... By default from Slurm's variables, else all.
    steal : bool, optional
        Whether to take missing trials of other shards when its own are running or done. By default
        under Slurm.
    grace : float
        Seconds that trials in hand get, after a signal, to end or to leave a checkpoint.
    overwrite : bool
        Remove the run that is there, and begin again.
    keep : {"all", "summary"}
        ``"summary"`` leaves the rows of the extremes out.
    mix_versions : bool
        Add to a run that another version of confsim began.
    quiet : bool
        Print nothing but errors and how to resume.
    progress : bool, optional
        Whether to draw a progress bar; by default on a terminal and in a notebook.

    Returns
    -------
    Outcome
        Failed trials do not raise: they are listed.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad or does not fit what is in ``out``. No directory is left behind.
    ConfsimError
        If nothing can be run: the directory is full or gone, or the experiment cannot be opened.
    ImportError
        If a module that every trial needs is missing. No directory is left behind.
    """
    trials = plan.check_trials(trials)
    plan.check_environment()
    grace = check_number("grace", grace, minimum=0)
    check_choice("keep", keep, ("all", "summary"))
    processors = plan.resolve_workers(workers)
    part = plan.resolve_shard(shard)
    if overwrite and part.count > 1:
        raise ValueError(
            "--overwrite cannot be used with shards: one would remove another's trials"
        )
    check_place(out)
    path = default_path(experiment) if out is None else expanded(out)
    command = Supervisor(
        experiment,
        path,
        trials=trials,
        own=part.trials(trials),
        steal=plan.under_slurm() if steal is None else steal,
        processors=processors,
        grace=grace,
        keep=keep,
        quiet=quiet,
        bar=progress,
    )
    return carry_out(command, overwrite=overwrite, mix_versions=mix_versions)


def carry_out(command: Supervisor, *, overwrite: bool, mix_versions: bool) -> Outcome:
    """Check what can be checked before anything is made, then run a command; see :func:`run`."""
    path, experiment = command.path, command.experiment
    try:
        check_target(path, experiment, overwrite=overwrite, mix_versions=mix_versions)
    except OSError as error:
        raise ValueError(f"--out {path} cannot be written: {error.strerror}") from None
    experiment.check(command.trials)
    absent = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        return command.run(overwrite=overwrite)
    except ImportError:
        if absent:
            discard_run(path, absent)
        raise
    finally:
        command.claims.close()


def run_to_end(experiment: Experiment, *, trials: int, **options: Any) -> Run:
    """Run as :func:`run` does, for callers who want all of the run or an exception.

    Raises
    ------
    ConfsimError
        Also if a trial failed.
    KeyboardInterrupt
        If a signal ended it; the same call goes on from there.
    """
    return whole_run(run(experiment, trials=trials, **options))


def whole_run(outcome: Outcome) -> Run:
    """Return the run of an outcome that lacks nothing; see :func:`run_to_end`."""
    if outcome.interrupted:
        raise KeyboardInterrupt
    if outcome.failed:
        trial, cause = next(iter(outcome.failed.items()))
        raise ConfsimError(f"{len(outcome.failed)} trials failed; trial {trial}: {cause}")
    return outcome.run
