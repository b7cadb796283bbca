"""What the commands share: options, exit codes, one clear line for every error.

Exit codes: 0 done; 1 failed; 2 bad usage; 75 interrupted or incomplete, and resumable. Standard
output carries the result; everything else goes to standard error. A stop signal ends a command
within two seconds, whatever it does.
"""

import argparse
import errno
import io
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from confsim._errors import ConfsimError
from confsim._stopping import INTERRUPTED, Interruptible, describe, tell
from confsim._suggest import did_you_mean
from confsim._version import __version__
from confsim.cli import settings
from confsim.cli.output import written
from confsim.given_files import expanded
from confsim.runner import GRACE, check_environment

#: The command line was wrong, or asks for what cannot be.
USAGE = 2

#: The work failed.
FAILED = 1

#: Digits of a whole number: a seed of 128 bits has 39.
_DIGITS = 100

#: Characters of an error that are printed.
_LONGEST = 2000


class Parser(argparse.ArgumentParser):
    """An argument parser with negative and scientific numbers, and short errors."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs
        )
        # argparse takes "-1e3" for a flag, unless this matches it.
        self._negative_number_matcher = re.compile(
            r"-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$|-inf$|-nan$"
        )
        self.add_argument("--version", action="version", version=f"confsim {__version__}")
        self.add_argument(
            "--debug", action="store_true", help="show a traceback when something fails"
        )
        self.add_argument(
            "--print-completion",
            choices=("bash", "zsh", "tcsh"),
            action=_PrintCompletion,
            help="print a completion script for your shell and exit",
        )
        settings.add_options(self)

    def error(self, message: str) -> NoReturn:
        """Print one line and exit."""
        self.exit(USAGE, f"{self.prog}: error: {message} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print help or a version; argparse would drop what goes wrong with that."""
        if file is sys.stdout:
            file.write(message)
        else:
            super()._print_message(message, file)


def _meant(parser: argparse.ArgumentParser, given: str) -> str:
    """Return ``": did you mean '--x'?"`` for the flag nearest to one that there is not."""
    if not given.startswith("--"):
        return ""
    flags = {flag for action in parser._actions for flag in action.option_strings}
    plain = {flag[2:].replace("-", "_"): flag for flag in sorted(flags) if flag.startswith("--")}
    hint = did_you_mean(given[2:].partition("=")[0], plain)
    for name, flag in plain.items():
        hint = hint.replace(f"'{name}'", f"'{flag}'")
    return hint


#: What arguments complete to, by their metavar.
_COMPLETES = {
    "DIR": "DIRECTORY",
    "RUN": "DIRECTORY",
    "FILE": "FILE",
    "DATA": "FILE",
    "TASK.py": "FILE",
}


class YesOrNo(argparse.BooleanOptionalAction):
    """``--flag`` and ``--no-flag``; before Python 3.13 the base class adds to the help."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.help = settings.get("help")


class _PrintCompletion(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        try:
            import shtab
        except ImportError:
            parser.error(f"{option_string} needs a package that is missing: pip install shtab")
        _say_what_is_a_path(parser, shtab)
        script = shtab.complete(parser, shell=values)
        # Bash: blanks in names are quoted, and what nothing else completes may be a file.
        print(script.replace("complete -o bashdefault ", "complete -o filenames -o default "))
        parser.exit()


def _say_what_is_a_path(parser: argparse.ArgumentParser, shtab: Any) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _say_what_is_a_path(command, shtab)
        elif action.metavar in _COMPLETES:
            action.complete = getattr(shtab, _COMPLETES[action.metavar])  # type: ignore[attr-defined]


def main(
    parser: Parser, run: Callable[[argparse.Namespace], int], argv: Sequence[str] | None
) -> int:
    """Parse, run, and turn every failure into one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):  # a path may hold what the terminal cannot show
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with Interruptible() as stopping:
        try:
            return written(parser.prog, lambda: _parse_and_run(parser, run, argv, stopping))
        except KeyboardInterrupt:
            return _stopped(parser, stopping)


def _parse_and_run(
    parser: Parser,
    run: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None,
    stopping: Interruptible,
) -> int:
    try:
        settings.apply(parser, argv)
    except (ValueError, ConfsimError) as error:
        return _fail(parser, error)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(f"unknown argument {unknown[0]}{_meant(parser, unknown[0])}")
    try:
        if arguments.print_config:
            print(settings.render(parser, vars(arguments)))
            return 0
        check_environment()
        return run(arguments)
    except BrokenPipeError:
        raise
    except Exception as error:
        if stopping.number is not None:  # what a library made of the interruption
            return _stopped(parser, stopping)
        if isinstance(error, OSError) and error.filename is None:
            sys.stdout.flush()  # fails in the same way if standard output is what failed
        if arguments.debug:
            raise
        return _fail(parser, error)


def _stopped(parser: Parser, stopping: Interruptible) -> int:
    tell(f"{parser.prog}: {describe(stopping.number)}", stopping.stderr)
    return INTERRUPTED


def _fail(parser: Parser, error: Exception) -> int:
    message = _one_line(str(error)) or type(error).__name__
    code = FAILED
    if isinstance(error, ImportError):
        code, message = USAGE, f"something that is needed cannot be imported: {message}"
    elif isinstance(error, (ValueError, TypeError)) or _is_no_name(error):
        code = USAGE
    elif not isinstance(error, (ConfsimError, OSError, MemoryError)):
        message = f"{type(error).__name__}: {message} (a fault of confsim; --debug shows where)"
    print(f"{parser.prog}: error: {message}", file=sys.stderr)
    return code


def _is_no_name(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG


def _one_line(text: str) -> str:
    """Return a message that may quote foreign text, as one line that does nothing to a terminal."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
    cut = len(line) - _LONGEST
    return line if cut <= 0 else f"{line[:_LONGEST]} ... ({cut:,} more characters)"


def path_of(text: str) -> Path:
    """Parse a path, as :func:`~confsim.given_files.expanded` does; shells leave ``--out=~/x``.

    An empty one, as of a variable that is not set, is no name of this folder.
    """
    if not text:
        raise argparse.ArgumentTypeError("must not be empty; this folder is called .")
    return expanded(text)


def integer(text: str) -> int:
    """Parse a whole number: ``5000``, ``5_000`` or ``5e3``."""
    try:
        found = int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise argparse.ArgumentTypeError(f"must be a whole number, not {text}") from None
        found = int(number)
    if abs(found) >= 10**_DIGITS:
        raise argparse.ArgumentTypeError(f"must have at most {_DIGITS} digits")
    return found


integer.__name__ = "whole number"


def add_limit_option(parser: Parser) -> None:
    """Add the option of every command that reads runs, which may be anybody's."""
    parser.add_argument(
        "--limit",
        type=integer,
        metavar="BYTES",
        help="memory that one file of a run may take when it is read; files of four times as much "
        "on disk are refused, too (default: 1073741824, which a run meets only with tens of "
        "millions of rows in one trial)",
    )


def add_run_options(parser: Parser, *, trials: int = 100) -> None:
    """Add the options of every command that runs trials."""
    group = parser.add_argument_group("the run")
    group.add_argument(
        "--trials",
        type=integer,
        default=trials,
        metavar="N",
        help="independent trials (default: %(default)s); a larger number extends a finished run",
    )
    group.add_argument(
        "--percent",
        type=float,
        default=5.0,
        metavar="P",
        help="size of the most and the least confident extreme, in percent of the queries, "
        "more than 0 and at most 50 (default: %(default)g)",
    )
    group.add_argument(
        "--seed",
        type=integer,
        default=0,
        metavar="S",
        help="seed of every random stream, at least 0 (default: %(default)s)",
    )
    group.add_argument(
        "--same-class",
        action=YesOrNo,
        default=False,
        help="only training points of the query's own class count as neighbours (default: no)",
    )
    _add_machine_options(parser)
    _add_output_options(parser)


def _add_machine_options(parser: Parser) -> None:
    group = parser.add_argument_group("how it runs (changes no number)")
    group.add_argument(
        "--workers",
        type=integer,
        metavar="W",
        help="CPUs to use (default: Slurm's for this task, else those this process may use)",
    )
    group.add_argument(
        "--shard",
        metavar="I/K",
        help="run part I of K, 0 <= I < K (default: Slurm's array and step, else 0/1)",
    )
    group.add_argument(
        "--steal",
        action=YesOrNo,
        default=None,
        help="take other shards' missing trials when one's own are done (default: under Slurm)",
    )
    group.add_argument(
        "--grace",
        type=float,
        default=GRACE,
        metavar="SECONDS",
        help="after a stop signal, time for trials in flight to finish or to leave a checkpoint "
        "(default: %(default)g)",
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would run, and what time, memory and disk it needs; change nothing",
    )
    group.add_argument("--quiet", action="store_true", help="no progress and no notes")


def _add_output_options(parser: Parser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out",
        type=path_of,
        metavar="DIR",
        help="run directory (default: runs/<command>-<hash of the settings>); an unfinished run "
        "there is resumed",
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="remove an existing run first; a directory that is no run is never removed",
    )
    group.add_argument(
        "--mix-versions",
        action="store_true",
        help="add to trials that another version of confsim made",
    )
    group.add_argument(
        "--keep",
        choices=("all", "summary"),
        default="all",
        help="store the extremes of every trial row by row, or only what summarises them "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--csv",
        action="store_true",
        help="when the run is complete, also write both extremes of all trials as CSV files, "
        "top_percent.csv and bottom_percent.csv",
    )
    group.add_argument(
        "--zip",
        action="store_true",
        help="when the run is complete, also pack it into <run directory>.zip",
    )
    group.add_argument(
        "--json",
        action="store_true",
        help="print the result as one JSON object, and nothing else, on standard output",
    )
