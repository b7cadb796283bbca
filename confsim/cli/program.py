"""``confsim``: the commands as subcommands, ``confsim linear`` for ``confsim-linear``.

Also ``python -m confsim``. Only the module of the command that is asked for is imported.
"""

import sys
from collections.abc import Sequence
from importlib import import_module

from confsim._version import __version__
from confsim.cli.output import written

#: Subcommands, each ``confsim.cli.NAME``, and what they do.
COMMANDS = {
    "linear": "run trials of a linear classifier on a lattice",
    "deep": "run trials of a neural network on images",
    "shadow": "train shadow models with your own training code",
    "audit": "bring outputs of your own models into the same form",
    "report": "make tables, figures and a page from a run, or compare runs",
    "status": "say what of a run is done, running, missing, failed or damaged",
}


def usage() -> str:
    """Return the help of the command."""
    lines = [f"  {name:8}{what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: confsim {{{','.join(COMMANDS)}}} ...",
            "",
            "How a model's confidence relates to similarity with its training set.",
            "",
            *lines,
            "",
            "`confsim NAME --help` lists a command's options; confsim-NAME is the same command.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the subcommand; return its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and given[0] in COMMANDS:
        code: int = import_module(f"confsim.cli.{given[0]}").main(given[1:])
        return code
    if given and given[0] in ("-h", "--help"):
        return written("confsim", lambda: _say(usage()))
    if given == ["--version"]:
        return written("confsim", lambda: _say(f"confsim {__version__}"))
    what = f"unknown command {given[0]!r}" if given else "a command is missing"
    print(
        f"confsim: error: {what}: choose from {', '.join(COMMANDS)} (see confsim --help)",
        file=sys.stderr,
    )
    return 2


def _say(text: str) -> int:
    print(text)
    return 0
