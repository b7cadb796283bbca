"""``confsim-linear``: the linear pipeline from the command line."""

import argparse
from collections.abc import Sequence

from confsim.cli import common
from confsim.cli.execute import execute
from confsim.linear.experiment import LinearExperiment

DESCRIPTION = """\
How a linear classifier's confidence relates to similarity with its training set.

Each trial trains a linear program on N random points of a lattice and asks, for every query point,
how confident the model is, how far the nearest training point is, and whether the point was in the
training set. The same command resumes an interrupted run; nothing finished is run twice.

examples:
  confsim-linear --n 5000                    100 trials, a million queries each
  confsim-linear --n 10 --queries all        every lattice point is a query
  confsim-linear --dimensions 10 --granularity 100 --label-noise 0.1
"""


def build_parser() -> common.Parser:
    """Return the command's parser."""
    parser = common.Parser(prog="confsim-linear", description=DESCRIPTION)
    default = LinearExperiment()
    group = parser.add_argument_group("the experiment")
    group.add_argument(
        "--n",
        type=common.integer,
        default=default.n,
        metavar="N",
        help="training points per trial, at least 2 (default: %(default)s)",
    )
    group.add_argument(
        "--queries",
        type=_queries,
        default=default.queries,
        metavar="Q",
        help="lattice points queried, drawn once per run, or 'all' (default: %(default)s)",
    )
    group.add_argument(
        "--dimensions",
        type=common.integer,
        default=default.dimensions,
        metavar="D",
        help="dimensions of the lattice (default: %(default)s)",
    )
    group.add_argument(
        "--grid-size",
        type=float,
        default=default.grid_size,
        metavar="L",
        help="side of the lattice, in lattice units (default: %(default)g)",
    )
    group.add_argument(
        "--granularity",
        type=float,
        default=default.granularity,
        metavar="G",
        help="distance of neighbouring lattice points, in lattice units (default: %(default)g)",
    )
    group.add_argument(
        "--weights",
        type=float,
        nargs="+",
        default=None,
        metavar="W",
        help="normal of the ideal hyperplane, one number per dimension (default: 1 -1 1 -1 ...)",
    )
    group.add_argument(
        "--bias",
        type=_bias,
        default=None,
        metavar="B",
        help="offset of the ideal hyperplane, or 'auto': through the centre (default: auto)",
    )
    group.add_argument(
        "--label-noise",
        type=float,
        default=default.label_noise,
        metavar="P",
        help="probability that a training label is flipped, in [0, 1] (default: %(default)g)",
    )
    _add_program_options(parser, default)
    common.add_run_options(parser)
    return parser


def _add_program_options(parser: common.Parser, default: LinearExperiment) -> None:
    group = parser.add_argument_group("the linear program")
    group.add_argument(
        "--objective",
        choices=("slack", "margin"),
        default=default.objective,
        help="what training minimises: 'slack', by how much training points miss the right side, "
        "or "
        "'margin', the norm of the weights plus C times that slack (default: %(default)s)",
    )
    group.add_argument(
        "--norm",
        choices=("l1", "linf"),
        default=default.norm,
        help="with --objective margin: the norm of the weights, l1 (sum of their sizes) or linf "
        "(largest of them) (default: %(default)s)",
    )
    group.add_argument(
        "--C",
        type=float,
        default=default.C,
        metavar="C",
        help="with --objective margin: weight of the slack, more than 0; the larger, the more "
        "training points are on the right side (default: %(default)g)",
    )
    group.add_argument(
        "--solver",
        choices=("working-set", "direct"),
        default=default.solver,
        help="how the program is solved: 'working-set' adds training points while they are "
        "violated, 'direct' takes all at once and is slower (default: %(default)s)",
    )


def _queries(text: str) -> int | None:
    return None if text == "all" else common.integer(text)


def _bias(text: str) -> float | None:
    return None if text == "auto" else float(text)


def experiment_from(arguments: argparse.Namespace) -> LinearExperiment:
    """Return the experiment that the command line describes."""
    return LinearExperiment(
        n=arguments.n,
        queries=arguments.queries,
        dimensions=arguments.dimensions,
        grid_size=arguments.grid_size,
        granularity=arguments.granularity,
        weights=None if arguments.weights is None else tuple(arguments.weights),
        bias=arguments.bias,
        objective=arguments.objective,
        norm=arguments.norm,
        C=arguments.C,
        solver=arguments.solver,
        label_noise=arguments.label_noise,
        percent=arguments.percent,
        same_class=arguments.same_class,
        seed=arguments.seed,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = build_parser()
    return common.main(parser, lambda given: execute(experiment_from(given), given), argv)
