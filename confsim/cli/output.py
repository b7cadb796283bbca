"""Standard output of the commands: what cannot be written is said, once, in one line.

Python writes most of it when a command ends, where nothing is left that could say so.
"""

import os
import sys
from collections.abc import Callable


def written(prog: str, work: Callable[[], int]) -> int:
    """Do ``work`` and write out what it printed.

    Parameters
    ----------
    prog : str
        The command, for the message.
    work : callable
        Returns an exit code, or raises ``SystemExit``.

    Returns
    -------
    int
        The exit code of ``work``; 0 if the reader has gone, as with ``| head``, which is no error
        of ours; 1 if standard output cannot be written for another reason, as on a full disk.
    """
    try:
        try:
            return work()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return 0
    except OSError as error:
        _drop_output()
        reason = error.strerror or str(error)
        print(f"{prog}: error: standard output cannot be written: {reason}", file=sys.stderr)
        return 1


def _drop_output() -> None:
    """Let what is still to be written go nowhere, lest the interpreter's exit tries it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
