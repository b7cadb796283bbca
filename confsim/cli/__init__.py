"""The commands: one module each, the options they share, and how each is started.

What is installed as a command starts here, and takes the stop signals before it imports anything
else: from its first moment to its last, it ends in one line.
"""

import signal


def start_program() -> int:
    """Run ``confsim``, whose first word names one of the others."""
    return start("program")


def start_linear() -> int:
    """Run ``confsim-linear``."""
    return start("linear")


def start_deep() -> int:
    """Run ``confsim-deep``."""
    return start("deep")


def start_shadow() -> int:
    """Run ``confsim-shadow``."""
    return start("shadow")


def start_audit() -> int:
    """Run ``confsim-audit``."""
    return start("audit")


def start_report() -> int:
    """Run ``confsim-report``."""
    return start("report")


def start_status() -> int:
    """Run ``confsim-status``."""
    return start("status")


def start(module: str) -> int:
    """Run ``confsim.cli.MODULE.main()``; return its exit code."""
    # Before and after, where nothing is to be cleaned up, Ctrl-C ends the process as it ends any.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    import sys
    from importlib import import_module
    from pathlib import PurePath

    _open_streams()
    from confsim._environment import thread_limit
    from confsim._interpreter import ignore_settings_in_working_directory
    from confsim._stopping import INTERRUPTED, Interruptible, describe, end_process, tell

    ignore_settings_in_working_directory()
    try:
        thread_limit()  # before OpenMP is loaded, which has words of its own for it
    except ValueError as error:
        print(f"{PurePath(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        return 2
    with Interruptible() as stopping:
        try:
            code: int = import_module(f"confsim.cli.{module}").main()
        except BaseException as error:
            # Whatever a library that is being imported makes of the interruption.
            if stopping.number is None or isinstance(error, SystemExit):
                raise
            tell(f"{PurePath(sys.argv[0]).name}: {describe(stopping.number)}", stopping.stderr)
            code = INTERRUPTED
    if code == INTERRUPTED:
        end_process(code)
    return code


def _open_streams() -> None:
    """Open what the caller closed of the three standard streams, on the null device.

    Else the next file that is opened, one of a trial perhaps, becomes what libraries write errors
    to.
    """
    import os
    import sys
    from pathlib import Path

    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # the lowest number that is free is this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
