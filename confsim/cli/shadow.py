"""``confsim-shadow``: shadow models of the user's own training, from the command line."""

import argparse
import ast
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from confsim import benchmark_tables, labelled_tables
from confsim.benchmark_tables import BENCHMARKS
from confsim.canary_ids import read_ids
from confsim.cli import common
from confsim.cli.execute import execute
from confsim.given_files import limit_of
from confsim.labelled_tables import LabelledTable
from confsim.shadow.estimators import EstimatorSource
from confsim.shadow.experiment import CANARIES, DESIGNS, DEVICES, ShadowExperiment
from confsim.shadow.prepare import experiment_of
from confsim.shadow.probe import Tried
from confsim.shadow.tasks import FileSource, Source
from confsim.store import check_place

DESCRIPTION = """\
Train shadow models with your own training code, and record for every example how sure each model
is, how far the nearest training example is, and whether the example was in the training set.

TASK.py is a Python file with two functions; rows are numbers from 0 into what population() gives:

  def population():                     what all models share: a mapping with "label" (N,), and
                                        perhaps "id", "duplicate_group", "group" (sites, sexes:
                                        what results are told apart by), "label_names", "features"
                                        (N, d), a fixed space, "images" uint8, "canary" (who has
                                        a coin with --design coin), or "examples", N
  def train(members, seed, context):    trains on these rows and returns a function predict(rows),
                                        which returns probabilities (rows, classes), or a mapping
                                        with one of logits, probabilities, log_odds_true, statistic
                                        (higher: more like a member), and perhaps features (rows, d)
  def target():                         perhaps: (predict, members) of a model that exists
  def configure(**parameters):          perhaps: takes what --set gives, before population()

context has progress(fraction), should_stop(), scratch (a folder for checkpoints), device, threads
and trial; with --traces, train() calls trace(epoch, predict) after each epoch, from 1. The same
command resumes an interrupted run.

examples:
  confsim-shadow train.py --trials 64 --check
  confsim-shadow --estimator sklearn.ensemble.RandomForestClassifier --set n_estimators=50
                 --data adult.csv --label income
"""


def build_parser() -> common.Parser:
    """Return the command's parser."""
    parser = common.Parser(prog="confsim-shadow", description=DESCRIPTION)
    parser.add_argument("task", metavar="TASK.py", nargs="?", help="the task file; see above")
    _add_task_options(parser)
    _add_draw_options(parser)
    common.add_run_options(parser)
    return parser


def _add_task_options(parser: common.Parser) -> None:
    group = parser.add_argument_group("what is trained")
    group.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="parameters for configure(), or of the estimator (default: none)",
    )
    group.add_argument(
        "--estimator",
        metavar="NAME",
        help="instead of a task: package.Class with scikit-learn's interface; needs --data",
    )
    group.add_argument(
        "--data",
        metavar="FILE",
        help="table for the estimator: CSV, Parquet, Feather or npz; each category is a column of "
        "zeros and ones for estimators of scikit-learn that take numbers only; or one of "
        f"{', '.join(BENCHMARKS)}, whose files are in --data-dir",
    )
    group.add_argument(
        "--data-dir", metavar="DIR", help="where the files of a named table are (default: none)"
    )
    group.add_argument(
        "--unpack-limit",
        type=float,
        metavar="GIB",
        help="refuse a table that unpacks to more, as decompression bombs do (default: 1, or 100 "
        "times the size of the file where that is more)",
    )
    group.add_argument("--label", metavar="COLUMN", help="what the estimator predicts")
    group.add_argument(
        "--id", metavar="COLUMN", help="numbers or names of the rows (default: 0, 1, ...)"
    )
    group.add_argument(
        "--group",
        metavar="COLUMN",
        help="groups such as sites or sexes that results are told apart by; learnt from like any "
        "other column, unless --drop names it, too (default: none)",
    )
    group.add_argument(
        "--drop",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="columns that are not used (default: none)",
    )
    group.add_argument(
        "--votes",
        type=common.integer,
        metavar="V",
        help="probabilities are shares of V votes (trees of a forest): smooth them, so that none "
        "is 0 (default: zeros become half the smallest other probability of the trial)",
    )
    group.add_argument(
        "--threads-per-trial",
        type=common.integer,
        default=ShadowExperiment.threads_per_trial,
        metavar="N",
        help="CPU threads that train a model; may change last digits (default: %(default)s)",
    )
    group.add_argument(
        "--device",
        choices=DEVICES,
        default=ShadowExperiment.device,
        help="GPUs, one for each worker: 'auto' uses them where the task imports what can "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--traces",
        action=common.YesOrNo,
        default=ShadowExperiment.traces,
        help="keep what the task gives to context.trace(epoch, predict): every example's log-odds "
        "of the true class, 4 bytes each; attacks on traces need no shadow models (default: no)",
    )
    group.add_argument(
        "--check",
        action="store_true",
        help="first run trial 0 on few rows, twice, in a process of its own, and say what was "
        "found; with --dry-run nothing else, on all rows, so that the time of the run is known",
    )


def _add_draw_options(parser: common.Parser) -> None:
    group = parser.add_argument_group("who is a member")
    group.add_argument(
        "--train-ratio",
        type=float,
        default=ShadowExperiment.train_ratio,
        metavar="F",
        help="members as a fraction of the population, in (0, 1) (default: %(default)g)",
    )
    group.add_argument(
        "--design",
        choices=DESIGNS,
        default=ShadowExperiment.design,
        help="draw every training set afresh, halves and their complements, or a fair coin for "
        "each example (default: %(default)s)",
    )
    group.add_argument(
        "--canaries",
        type=common.integer,
        metavar="K",
        help="with --design coin: throw coins for K examples only, which are then those examined; "
        "the others are always members (default: coins for all)",
    )
    group.add_argument(
        "--canary",
        choices=CANARIES,
        help="what canaries are: examples of --estimator with labels of other classes, or those "
        "that population() or --canary-ids marks (default: those, else examples as they are)",
    )
    group.add_argument(
        "--canary-ids",
        metavar="FILE",
        help="CSV file with a column id: rows of --data that are canaries, as they are "
        "(default: none)",
    )
    group.add_argument(
        "--holdout",
        type=float,
        default=ShadowExperiment.holdout,
        metavar="F",
        help="fraction that is never trained on nor queried, in [0, 1) (default: %(default)g)",
    )


def _parameters(given: Sequence[str]) -> dict[str, Any]:
    """Return ``--set``'s names and values: numbers, lists, True, None, else text."""
    found: dict[str, Any] = {}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"--set takes NAME=VALUE, not {item!r}")
        if name in found:
            raise ValueError(f"--set gives {name} twice")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
        if not isinstance(found[name], (int, float, str, list, tuple, dict, type(None))):
            found[name] = text
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def _source(given: argparse.Namespace, folder: Path) -> Source:
    of_estimators = {
        name: getattr(given, name)
        for name in (
            "data", "data_dir", "unpack_limit", "label", "id", "group", "drop", "canary_ids",
        )
    }  # fmt: skip
    if given.estimator is None:
        if given.task is None:
            raise ValueError("a task is missing: TASK.py, or --estimator NAME --data FILE")
        for name, value in of_estimators.items():
            if value:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} is for --estimator; a task has a population()")
        return FileSource.of(given.task)
    if given.task is not None:
        raise ValueError("either TASK.py or --estimator, not both")
    if given.data is None:
        raise ValueError("--estimator needs --data FILE and --label COLUMN")
    chosen = None if given.canary_ids is None else read_ids(given.canary_ids)
    data = _table(given)
    for note in data.notes:
        print(f"confsim-shadow: warning: {note}", file=sys.stderr)
    return EstimatorSource.of(
        given.estimator, data.X, data.y, folder, ids=data.ids, group=data.group, canary_ids=chosen
    )


def _table(given: argparse.Namespace) -> LabelledTable:
    if given.data not in BENCHMARKS:
        if given.data_dir is not None:
            raise ValueError(f"--data-dir is for --data {' or '.join(BENCHMARKS)}")
        return labelled_tables.read(
            given.data,
            label=given.label,
            id_column=given.id,
            drop=given.drop,
            group=given.group,
            limit=limit_of(given.unpack_limit),
        )
    for name in ("label", "id", "group", "drop", "unpack_limit"):
        if getattr(given, name):
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} is for tables of your own, not for {given.data}")
    return benchmark_tables.read(given.data, given.data_dir)


def _run(given: argparse.Namespace) -> int:
    check_place(given.out)  # before the user's own code runs
    with tempfile.TemporaryDirectory(prefix="confsim-") as folder:
        experiment, tried = experiment_of(
            _source(given, Path(folder)),
            given.trials,
            check=given.check,
            whole=given.dry_run,
            out=given.out,
            parameters=_parameters(given.set),
            data=given.data,
            data_dir=given.data_dir,
            unpack_limit=given.unpack_limit,
            label=given.label,
            id=given.id,
            group=given.group,
            drop=tuple(given.drop),
            **{
                name: getattr(given, name)
                for name in (
                    "train_ratio",
                    "design",
                    "canaries",
                    "canary",
                    "canary_ids",
                    "holdout",
                    "same_class",
                    "percent",
                    "traces",
                    "votes",
                    "threads_per_trial",
                    "device",
                    "seed",
                )
            },
        )
        if tried is not None:
            print(_told(tried), file=sys.stderr)
        return execute(experiment, given)


def _told(tried: Tried) -> str:
    """Say what trying the task out showed."""
    again = "the same numbers" if tried.repeatable else "other numbers"
    return (
        f"confsim-shadow: check: trained on {tried.members} rows, asked about {tried.asked}: "
        f"{tried.said}\nconfsim-shadow: check: {tried.seconds:.3g} s, "
        f"{tried.bytes_of_memory / 1e6:.0f} MB; a second run with the same seed gave {again}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return common.main(build_parser(), _run, argv)


if __name__ == "__main__":
    sys.exit(main())
