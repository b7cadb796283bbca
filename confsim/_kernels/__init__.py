"""The compiled core: one module for each header of ``csrc/``, and the only door to it.

Each wrapper checks shapes and dtypes, releases the GIL, calls C and raises what C reports. C knows
arrays and threads and nothing else; the two choices that depend on the environment are made here
and passed down: the number of threads (:func:`resolve_threads`) and the instruction set
(:func:`resolve_isa`).
"""

import os

from confsim._environment import thread_limit

try:
    from confsim._kernels import isa as _isa
except ImportError as error:
    raise ImportError(
        f"the compiled part of confsim is not in {os.path.dirname(__file__)}: {error}. "  # noqa: PTH120
        "If that is the source tree, run from another directory, or build in place: "
        "pip install -e ."
    ) from error


def available_cpus() -> int:
    """Count the CPUs this process may use: its affinity where the system knows one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_threads(n_threads: int | None) -> int:
    """Turn a public ``n_threads`` into a number of threads.

    ``None`` means the CPUs this process may use, at most ``OMP_NUM_THREADS`` where that is set.

    Raises
    ------
    ValueError
        If ``n_threads`` is not a positive integer, or ``OMP_NUM_THREADS`` is neither one nor a
        list of them.
    """
    if n_threads is None:
        return min(available_cpus(), thread_limit() or available_cpus())
    if isinstance(n_threads, bool) or not hasattr(n_threads, "__index__") or n_threads < 1:
        raise ValueError(f"n_threads must be a positive integer or None, not {n_threads!r}")
    return int(n_threads)


def resolve_isa() -> int:
    """Code of the instruction set in use: the best one, or what ``CONFSIM_ISA`` forces.

    Raises
    ------
    ValueError
        If ``CONFSIM_ISA`` names an instruction set that is unknown or that cannot run here.
    """
    return _isa.CODES[isa_in_use()]


def isa_in_use() -> str:
    """Name of the instruction set in use; see :func:`resolve_isa`."""
    forced = os.environ.get("CONFSIM_ISA", "")
    if not forced:
        return _isa.best()
    if forced not in _isa.CODES:
        raise ValueError(f"CONFSIM_ISA must be one of {', '.join(_isa.CODES)}, not {forced!r}")
    if forced not in _isa.available():
        raise ValueError(
            f"CONFSIM_ISA={forced} cannot run on this machine, which has "
            + ", ".join(_isa.available())
        )
    return forced
