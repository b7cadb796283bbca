"""What confsim reads from the environment before its kernels are loaded; standard library alone."""

import os
import re
from collections.abc import Mapping


def thread_limit(environ: Mapping[str, str] = os.environ) -> int | None:
    """Return the first number of ``OMP_NUM_THREADS``, ``None`` where it is not set.

    Raises
    ------
    ValueError
        If it is neither a positive integer nor a list of them.
    """
    given = environ.get("OMP_NUM_THREADS", "").strip()
    if not given:
        return None
    levels = [level.strip() for level in given.split(",")]
    if not all(re.fullmatch("[0-9]{1,9}", level) and int(level) for level in levels):
        raise ValueError(f"OMP_NUM_THREADS must be a positive integer, not {given!r}")
    return int(levels[0])
