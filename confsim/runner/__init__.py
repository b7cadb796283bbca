"""Running trials: worker processes, shards, claims, progress, signals, and going on after a crash.

The runner knows no models: an :class:`~confsim.experiment.Experiment` is opened in each worker,
which publishes what it yields through :mod:`confsim.store`. Nothing but short messages goes between
the processes, and nothing is shared but the run directory. A trial is addressed by its number, is
the same whoever runs it, and is visible only when it is complete; all that follows rests on that:

- A command that was stopped or killed in any way is simply given again: it runs what is missing.
- Commands on one directory, on one machine or many, share its trials by claims
  (:mod:`confsim.runner.claims`) and never spoil each other's work.
- A worker that dies is replaced, its trial is run once more, and reported if that fails too.
- Ctrl-C, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 stop a command within its grace period; checkpoints
  of unfinished trials (``context.scratch``) stay for the next one.
- No worker outlives its parent, and whatever a dead command left behind is swept by the next.
"""

from confsim.runner.command import GRACE, run, run_to_end
from confsim.runner.plan import (
    Shard,
    check_environment,
    check_trials,
    resolve_shard,
    resolve_workers,
)
from confsim.runner.supervisor import Outcome

__all__ = [
    "GRACE",
    "Outcome",
    "Shard",
    "check_environment",
    "check_trials",
    "resolve_shard",
    "resolve_workers",
    "run",
    "run_to_end",
]
