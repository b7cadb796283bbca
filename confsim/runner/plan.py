"""Which trials a command runs, and with how many processes: as asked, else as Slurm says.

All that a command takes from its environment is read and checked here, before anything is made.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import overload

from confsim._errors import check_integer
from confsim._kernels import available_cpus, resolve_isa, resolve_threads

#: CPUs at most, of a machine that is larger than any.
MOST_WORKERS = 4096

#: Trials at most: their names have six digits.
MOST_TRIALS = 1_000_000


def check_environment() -> None:
    """Check what every process of a command reads from its environment.

    Raises
    ------
    ValueError
        If ``CONFSIM_ISA``, ``OMP_NUM_THREADS``, or ``SOURCE_DATE_EPOCH``, which libraries read when
        they are imported, is set to what cannot be.
    """
    resolve_isa()
    resolve_threads(None)
    _number(os.environ, "SOURCE_DATE_EPOCH", digits=18)


def check_trials(trials: int) -> int:
    """Return a number of trials that can be, or raise ``ValueError`` or ``TypeError``."""
    trials = check_integer("trials", trials, minimum=1)
    if trials > MOST_TRIALS:
        raise ValueError(f"trials must be at most {MOST_TRIALS:,}, not {trials:,}")
    return trials


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count``: trials ``index, index + count, ...``."""

    index: int = 0
    count: int = 1

    def trials(self, total: int) -> range:
        """Return the numbers of the shard's trials."""
        return range(self.index, total, self.count)


def resolve_shard(shard: "str | Shard | None", environ: Mapping[str, str] = os.environ) -> Shard:
    """Return the shard that is asked for, else Slurm's, else the whole.

    Raises
    ------
    ValueError
        If it is no ``I/K`` with ``0 <= I < K``.
    """
    if shard is None:
        return slurm_shard(environ)
    if isinstance(shard, Shard):
        index, count = shard.index, shard.count
    else:
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", str(shard).strip())
        if match is None:
            raise ValueError(f"--shard must be I/K, for instance 0/4, not {shard!r}")
        index, count = int(match[1]), int(match[2])
    if not 0 <= index < count:
        raise ValueError(f"--shard I/K needs 0 <= I < K, not {index}/{count}")
    return Shard(index, count)


def slurm_shard(environ: Mapping[str, str]) -> Shard:
    """Return this process's part among the tasks of a job array and of its step.

    An array is cut by its lowest and highest task number, so a gap in it leaves a part to nobody:
    claims let the other tasks take it.
    """
    shard = Shard()
    task = _number(environ, "SLURM_ARRAY_TASK_ID")
    if task is not None:
        first = _number(environ, "SLURM_ARRAY_TASK_MIN", 0)
        last = _number(environ, "SLURM_ARRAY_TASK_MAX", task)
        step = _number(environ, "SLURM_ARRAY_TASK_STEP", 1, minimum=1)
        shard = Shard((task - first) // step, (last - first) // step + 1)
    process = _number(environ, "SLURM_PROCID")
    if process is not None:
        tasks = _number(environ, "SLURM_NTASKS", 1, minimum=1)
        tasks = _number(environ, "SLURM_STEP_NUM_TASKS", tasks, minimum=1)
        if process >= tasks:
            raise ValueError(f"SLURM_PROCID={process} is no task of {tasks}; use --shard")
        shard = Shard(shard.index * tasks + process, shard.count * tasks)
    if not 0 <= shard.index < shard.count:
        raise ValueError(f"Slurm's variables name part {shard.index} of {shard.count}; use --shard")
    return shard


def under_slurm(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process belongs to a Slurm job."""
    return "SLURM_JOB_ID" in environ


def resolve_workers(workers: int | None, environ: Mapping[str, str] = os.environ) -> int:
    """Return the CPUs to use: as asked, else what Slurm gave this task, else this process's."""
    if workers is not None:
        number = check_integer("workers", workers, minimum=1)
        if number > MOST_WORKERS:
            raise ValueError(f"workers must be at most {MOST_WORKERS}, not {number}")
        return number
    return _number(environ, "SLURM_CPUS_PER_TASK", available_cpus(), minimum=1)


@overload
def _number(environ: Mapping[str, str], name: str, *, digits: int = 9) -> int | None: ...
@overload
def _number(environ: Mapping[str, str], name: str, default: int, *, minimum: int = 0) -> int: ...
def _number(
    environ: Mapping[str, str],
    name: str,
    default: int | None = None,
    *,
    minimum: int = 0,
    digits: int = 9,
) -> int | None:
    """Return a variable that is a number, ``default`` where it is not set or empty."""
    text = environ.get(name, "").strip()
    if not text:
        return default
    if re.fullmatch(f"[0-9]{{1,{digits}}}", text) is None:
        raise ValueError(f"{name} must be a number, not {text!r}")
    if int(text) < minimum:
        raise ValueError(f"{name} must be at least {minimum}, not {text}")
    return int(text)
