"""``confsim-audit``: membership inference against a user's own models, from the command line."""

import argparse
import json
import math
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from confsim._errors import ConfsimWarning
from confsim.auditing import COLUMNS, DESIGNS, run_audit
from confsim.cli import common
from confsim.membership import MembershipTables, membership_tables
from confsim.report.numbers import with_interval
from confsim.runner import resolve_workers
from confsim.scores import Zeros

if TYPE_CHECKING:
    from confsim.runner import Outcome
    from confsim.store import Run

DESCRIPTION = """\
Audit models that were trained elsewhere: membership inference, memorisation, vulnerability.

DATA is an .npz, .parquet, .feather or .csv file with named columns, a folder of NAME.npy files, or
a folder in a layout of published LiRA code: MODEL/keep.npy with MODEL/scores/*.npy, scores.npy,
logits/*.npy or logits.npy, models in natural order (trial 2 is folder 2, not folder 10).
The result is a run directory; what is missing from the data disables the analyses that need it.
"""

_COLUMN_HELP = [
    "columns (is_member and one of the scores are needed):",
    *(f"  {name:{max(map(len, COLUMNS))}}  {meaning}" for name, meaning in COLUMNS.items()),
]

_SHAPE_HELP = """
In a table: logit_0, logit_1, ..., probability_0, ... or, by the names of classes, logit_cat, ...;
feature_0, ...; or columns of lists. One row per example, or one per model and example with the
columns trial and id. Arrays may have a leading axis of models, each of which is attacked with the
others as shadow models. CSV may have semicolons, tabs, decimal commas, and be packed (.csv.gz,
.csv.zip).
"""

_SHOWN = ("auc", "tpr_at_fpr_1pct", "tpr_at_fpr_0.1pct")


def build_parser() -> common.Parser:
    """Return the command's parser."""
    parser = common.Parser(
        prog="confsim-audit",
        description=DESCRIPTION,
        epilog="\n".join([*_COLUMN_HELP, _SHAPE_HELP]),
    )
    parser.add_argument(
        "data", metavar="DATA", type=common.path_of, help="file or folder; see above"
    )
    parser.add_argument(
        "--design",
        choices=DESIGNS,
        default="unknown",
        help="how training sets were drawn: 'independent' of each other, 'balanced' (models 2k and "
        "2k+1 are complements), or 'unknown': use equally many shadow models in and out "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--features",
        type=common.path_of,
        metavar="FILE",
        help="one more, fixed space to measure similarity in: an .npy file, one row an example",
    )
    parser.add_argument(
        "--percent",
        type=float,
        default=5.0,
        metavar="P",
        help="size of either extreme, in percent of the examples, more than 0 and at most 50 "
        "(default: %(default)g)",
    )
    parser.add_argument(
        "--same-class",
        action=common.YesOrNo,
        default=False,
        help="only training examples of the same class count as neighbours (default: no)",
    )
    parser.add_argument(
        "--votes",
        type=common.integer,
        metavar="V",
        help="probabilities are shares of V votes (trees of a forest, nearest neighbours): smooth "
        "them, so that none is 0 (default: zeros become half the smallest other probability)",
    )
    parser.add_argument(
        "--smoothing",
        type=float,
        metavar="S",
        help="with --votes: votes added to each class, at least 0 (default: 0.5)",
    )
    parser.add_argument(
        "--seed",
        type=common.integer,
        default=0,
        metavar="S",
        help="seed of the bootstrap and of trimming, at least 0 (default: %(default)s)",
    )
    parser.add_argument(
        "--unpack-limit",
        type=float,
        metavar="GIB",
        help="refuse a file that unpacks to more, as decompression bombs do (default: 1, or 100 "
        "times its size where that is more)",
    )
    parser.add_argument(
        "--workers",
        type=common.integer,
        metavar="W",
        help="threads to use (default: the CPUs this process may use)",
    )
    parser.add_argument(
        "--out",
        type=common.path_of,
        metavar="DIR",
        help="run directory (default: runs/confsim-audit-<hash of data and settings>)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="remove an existing run first; a directory that is no run is never removed",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return common.main(build_parser(), _main, argv)


def _main(given: argparse.Namespace) -> int:
    threads = None if given.workers is None else resolve_workers(given.workers)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConfsimWarning)
        outcome = run_audit(
            given.data,
            {},
            design=given.design,
            percent=given.percent,
            same_class=given.same_class,
            zeros=Zeros(given.votes, given.smoothing),
            seed=given.seed,
            unpack_limit=given.unpack_limit,
            out=given.out,
            overwrite=given.overwrite,
            n_threads=threads,
            space=given.features,
        )
        if outcome.exit_code:
            return _unfinished(outcome)
        run = outcome.run
        found = membership_tables(run, features=given.features, seed=given.seed, n_threads=threads)
    for warning in caught:
        if issubclass(warning.category, ConfsimWarning) and str(warning.message) not in found.notes:
            print(f"confsim-audit: warning: {warning.message}", file=sys.stderr)
    print(_as_json(run, found) if given.json else _render(run, found))
    return 0


def _unfinished(outcome: "Outcome") -> int:
    """Say which models failed; that it was stopped has been said."""
    for trial, cause in outcome.failed.items():
        print(f"confsim-audit: error: model {trial} failed: {cause}", file=sys.stderr)
    return outcome.exit_code


def _headline(found: MembershipTables) -> list[dict[str, Any]]:
    """Return the pooled row of each attack, the strongest first."""
    table = found["attacks"]
    if "auc" not in table:  # none was possible
        return []
    rows = table[table["target"] == "pooled"].sort_values("auc", ascending=False)
    return [
        {
            str(key): None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        for row in rows.to_dict("records")
    ]


def _as_json(run: "Run", found: MembershipTables) -> str:
    return json.dumps(
        {
            "run": str(run.path),
            "trials": len(run.trials),
            "attacks": _headline(found),
            "answers": list(found.answers),
            "notes": list(found.notes),
        },
        allow_nan=False,
    )


def _render(run: "Run", found: MembershipTables) -> str:
    rows = _headline(found)
    lines = [f"{run.path}: {_models(len(run.trials))}, tables in {run.path / 'tables'}"]
    if rows:
        width = max(len(row["attack"]) for row in rows)
        heads = "  ".join(f"{name:>24}" for name in _SHOWN)
        lines += ["", f"{'attack':{width}}  {heads}"]
        lines += [
            f"{row['attack']:{width}}  " + "  ".join(f"{_cell(row, n):>24}" for n in _SHOWN)
            for row in rows
        ]
        lines += ["", f"all models pooled; intervals: {rows[0]['interval']}"]
    return "\n".join([*lines, *found.answers, *(f"note: {note}" for note in found.notes)])


def _models(count: int) -> str:
    return "1 model" if count == 1 else f"{count} models"


def _cell(row: dict[str, Any], name: str) -> str:
    value, low, high = (row.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    ends = [math.nan if x is None else float(x) for x in (value, low, high)]
    return with_interval(ends[0], ends[1], ends[2])


if __name__ == "__main__":
    sys.exit(main())
