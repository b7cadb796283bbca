"""``confsim-report``: tables, figures and a page from finished trials."""

import argparse
import json
import sys
from collections.abc import Sequence

from confsim._errors import ConfsimError, to_copy
from confsim.cli import common

DESCRIPTION = """\
Turn a run into tables, figures and one page, report.html; or compare several runs.

Figures are written as PNG, SVG and PDF, sized for a two-column paper; tables as CSV. The page needs
nothing beside it. Everything can be deleted and made again, and the same run gives the same files.

examples:
  confsim-report runs/confsim-linear-338e531a29
  confsim-report runs/n10 runs/n100 runs/n1000     each headline number against n
  confsim-report RUN --partial                     while trials are still missing
  confsim-report RUN --shard 0/8                   an eighth of the work on tables of attacks; in
                                                   the end, confsim-report RUN
"""

#: What files of the right form and of strange content lead to.
_MISFIT = (LookupError, AttributeError, ArithmeticError, AssertionError, RecursionError)

#: Trials are missing or damaged: finish or repair the run and try again.
INCOMPLETE = 75


def build_parser() -> common.Parser:
    """Return the command's parser."""
    parser = common.Parser(prog="confsim-report", description=DESCRIPTION)
    parser.add_argument(
        "runs",
        nargs="+",
        type=common.path_of,
        metavar="RUN",
        help="run directory; several are compared",
    )
    parser.add_argument(
        "--out",
        type=common.path_of,
        metavar="DIR",
        help="where to write (default: the run itself; several: comparison-... beside the first)",
    )
    parser.add_argument(
        "--partial",
        action=common.YesOrNo,
        default=False,
        help="report what is there when trials are missing or damaged, and say so (default: no)",
    )
    parser.add_argument(
        "--attacks",
        action=common.YesOrNo,
        default=None,
        help="make the membership tables where they are missing (default: unless a linear run has "
        "more than 10,000,000 scores)",
    )
    parser.add_argument(
        "--remake-tables",
        action="store_true",
        help="make the membership tables with default options, also in the place of tables that "
        "were made with others (default: those are shown, and how they were made)",
    )
    parser.add_argument(
        "--shard",
        metavar="I/K",
        help="only make part I of K, 0 <= I < K, of what tables of attacks are made of: pieces in "
        "the run's tables/, from which a report without --shard makes the same tables as it would "
        "alone (default: a report)",
    )
    common.add_limit_option(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the result as one JSON object, and nothing else, on standard output",
    )
    return parser


def run(given: argparse.Namespace) -> int:
    """Make the report; return the exit code."""
    from confsim.report.build import Incomplete, report

    try:
        if given.shard is not None:
            return _share(given)
        made = report(
            given.runs,
            out=given.out,
            partial=given.partial,
            attacks=given.attacks,
            remake_tables=given.remake_tables,
            limit=given.limit,
            progress=_say if sys.stderr.isatty() else None,
        )
    except Incomplete as error:
        if given.debug:
            raise
        print(f"confsim-report: error: {error}", file=sys.stderr)
        return INCOMPLETE
    except _MISFIT as error:
        # Hashes tell that a file is what was written, not that it was confsim that wrote it.
        if given.debug:
            raise
        names = ", ".join(str(path) for path in given.runs)
        raise ConfsimError(
            f"{names} cannot be reported: what is in the files does not fit together "
            f"({type(error).__name__}: {error}); --debug shows where"
        ) from None
    finally:
        if sys.stderr.isatty():
            _say("")
    for damage in made.damage:
        print(f"confsim-report: warning: {damage}", file=sys.stderr)
    if given.json:
        print(
            json.dumps(
                {
                    "page": str(made.page),
                    "figures": made.figures,
                    "tables": made.tables,
                    "skipped": dict(made.skipped),
                    "sentences": made.sentences,
                }
            )
        )
        return 0
    print("\n".join(made.sentences))
    print(f"\npage      {made.page}")
    print(f"figures   {made.page.parent / 'figures'}   ({len(made.figures)} files)")
    print(f"tables    {made.page.parent / 'tables'}   ({len(made.tables)} files)")
    for title, reason in made.skipped:
        print(f"left out  {title} {reason}")
    return 0


def _share(given: argparse.Namespace) -> int:
    """Make a shard's pieces of the tables; return the exit code."""
    from confsim.report.build import share_tables
    from confsim.runner import resolve_shard

    shard = resolve_shard(given.shard)
    if len(given.runs) > 1:
        raise ValueError("--shard is for the tables of one run")
    for name in ("out", "attacks"):
        if getattr(given, name) is not None:
            raise ValueError(f"--{name} is for a report; --shard makes pieces of tables alone")
    [path] = given.runs
    made = share_tables(
        path,
        shard.index,
        shard.count,
        partial=given.partial,
        remake_tables=given.remake_tables,
        limit=given.limit,
    )
    if given.json:
        print(json.dumps({"made": made.made, "pieces": made.pieces}))
    elif not made.pieces:
        print(f"the tables of {path} are up to date: no piece is needed")
    else:
        print(f"pieces    {made.made} made now, of {made.pieces} of all shards")
        print(f"next      {to_copy('confsim-report', path)}    (when all shards have ended)")
    return 0


def _say(doing: str) -> None:
    """Show on a terminal what is being done, in the place of what was before."""
    text = f"confsim-report: {doing}" if doing else ""
    print(f"\r\x1b[K{text[:79]}", end="", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return common.main(build_parser(), run, argv)
