"""``confsim-deep``: the deep pipeline from the command line."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import Any

from confsim import recipes
from confsim._errors import ConfsimError
from confsim.cli import common, settings
from confsim.cli.execute import execute
from confsim.cli.output import written
from confsim.deep.backend import BACKENDS
from confsim.deep.canaries import KINDS
from confsim.deep.datasets import CHOICES
from confsim.deep.design import AUGMENTATIONS, DESIGNS, MAX_QUERY_AUGMENT
from confsim.deep.experiment import DeepExperiment
from confsim.deep.models import NAMED, PRECISIONS
from confsim.deep.optimisation import OPTIMIZERS, SCHEDULES
from confsim.deep.sharing import settled
from confsim.deep.training import EARLY_STOPPING

DESCRIPTION = """\
How a neural network's confidence relates to similarity with its training set.

Each trial trains a Keras model on a random part of an image dataset or a table, and records, for
every example of the population, how confident the model is, how far the nearest training example is
in its feature space, and whether the example was in the training set. The same command resumes an
interrupted run.

examples:
  confsim-deep --trials 4                            scikit-learn's digits, no download
  confsim-deep --dataset cifar10 --data-dir ~/data   official archives, offline
  confsim-deep --dataset folder:pictures --epochs 30 class subfolders, a .tar or a .zip
  confsim-deep --dataset table:adult.csv --label income --model mlp

models: cnn (four convolutions and a tanh layer), mlp (one hidden layer), softmax (regression),
tanh-1024-512 (two hidden layers, as for Purchase-100), resnet (nine layers), wrn28-2 (a wide
residual network), resnet18, wide (shallow, trains on CIFAR-10 in seconds).
"""


def build_parser() -> common.Parser:
    """Return the command's parser."""
    parser = common.Parser(prog="confsim-deep", description=DESCRIPTION)
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="settings of a published experiment, which other flags override: one of "
        f"{', '.join(recipes.names())}; 'help' lists what they are (default: none)",
    )
    _add_data_options(parser)
    _add_model_options(parser)
    _add_optimisation_options(parser)
    _add_device_options(parser)
    common.add_run_options(parser)
    group = parser.add_argument_group("what else is stored with each trial")
    for name, what in (
        ("logits", "every image's logits"),
        ("features", "every image's features"),
        ("model", "the trained weights"),
    ):
        group.add_argument(
            f"--save-{name}",
            action=common.YesOrNo,
            default=False,
            help=f"{what} (default: no)",
        )
    group.add_argument(
        "--traces",
        action=common.YesOrNo,
        default=False,
        help="every image's log-odds of the true class after each epoch, 4 bytes each; attacks on "
        "traces need no shadow models (default: no)",
    )
    return parser


def _add_data_options(parser: common.Parser) -> None:
    add = _adder(parser, "the data")
    add("dataset", metavar="NAME", help=f"one of {', '.join(CHOICES)} (default: %(default)s)")
    add(
        "data-dir",
        metavar="DIR",
        help="official files of a named dataset (default: download); other datasets use none",
    )
    add("label", metavar="COLUMN", help="of a table: the classes (default: none)")
    add(
        "id",
        metavar="COLUMN",
        help="of a table: numbers or names of the rows (default: 0, 1, ...)",
    )
    add(
        "group",
        metavar="COLUMN",
        help="of a table: groups such as sites or sexes that results are told apart by; learnt "
        "from like any other column, unless --drop names it, too (default: none)",
    )
    add(
        "drop",
        nargs="+",
        metavar="COLUMN",
        help="of a table: columns that are not used (default: none)",
    )
    add(
        "limit",
        type=common.integer,
        metavar="N",
        help="use a stratified random part of N images (default: all)",
    )
    add(
        "near-duplicates",
        type=float,
        metavar="T",
        help="images within a root-mean-square difference of T per pixel value, 0 to 255, are "
        "duplicates and stay on one side of the holdout (default: only equal images)",
    )
    add(
        "duplicates",
        metavar="FILE",
        help="CSV file with columns id,group of further duplicates; no group, -1 or NaN is none "
        "(default: none)",
    )
    add(
        "unpack-limit",
        type=float,
        metavar="GIB",
        help="refuse data that unpack to more, as decompression bombs do (default: 0.5, or 100 "
        "times the size of their files where that is more)",
    )
    add(
        "train-ratio",
        type=float,
        metavar="F",
        help="members as a fraction of the population, in (0, 1) (default: %(default)g)",
    )
    add(
        "design",
        choices=DESIGNS,
        help="draw every training set afresh, or halves and their complements, or toss a coin for "
        "each image, as bounds on epsilon need (default: %(default)s)",
    )
    add(
        "canaries",
        type=common.integer,
        metavar="K",
        help="with --design coin: only K canaries have a coin, all other images are members of "
        "every trial (default: every image has a coin)",
    )
    add(
        "canary",
        choices=KINDS,
        help="what they are: images with a label of another class, added images without content "
        "and with random labels, or the images of --canary-ids (default: mislabelled)",
    )
    add(
        "canary-ids",
        metavar="FILE",
        help="CSV file with a column id: the images that are canaries (default: none)",
    )
    add(
        "holdout",
        type=float,
        metavar="F",
        help="fraction of the data that is never trained on nor queried, in (0, 1) (default: "
        "%(default)g)",
    )
    add(
        "query-augment",
        type=common.integer,
        metavar="K",
        help="views of each query that are scored: itself and its first flips and shifts, 1 to "
        f"{MAX_QUERY_AUGMENT} (default: %(default)s)",
    )


def _add_model_options(parser: common.Parser) -> None:
    add = _adder(parser, "the model and its training")
    add(
        "model",
        metavar="NAME",
        help=f"one of {', '.join(NAMED)}, or path/to/file.py:function with "
        "function(input_shape, num_classes) -> keras.Model (default: %(default)s)",
    )
    add(
        "hidden",
        type=common.integer,
        metavar="UNITS",
        help="with --model cnn or mlp: units of the last hidden layer, the feature space "
        "(default: %(default)s)",
    )
    add(
        "l2",
        type=float,
        metavar="X",
        help="this times the sum of squared weights is added to the loss (default: %(default)g)",
    )
    add(
        "learning-rate",
        type=float,
        metavar="X",
        help="learning rate, the largest of the schedule (default: %(default)g)",
    )
    add(
        "batch-size",
        type=common.integer,
        metavar="N",
        help="images per optimiser step (default: %(default)s)",
    )
    add(
        "epochs",
        type=common.integer,
        metavar="N",
        help="passes over the training images, at most (default: %(default)s)",
    )
    add(
        "early-stopping",
        choices=EARLY_STOPPING,
        help="whose loss ends training: the holdout's, that of queried non-members (leaky, as in "
        "older code), or nobody's (default: %(default)s)",
    )
    add(
        "patience",
        type=common.integer,
        metavar="N",
        help="epochs without improvement before training stops (default: %(default)s)",
    )
    add(
        "min-delta",
        type=float,
        metavar="X",
        help="smallest decrease of the loss that is an improvement, in nats (default: %(default)g)",
    )
    add(
        "augment",
        choices=AUGMENTATIONS,
        help="change training images at random: mirrored, or also shifted by up to an eighth "
        "(default: %(default)s)",
    )
    add(
        "cutout",
        type=common.integer,
        metavar="PIXELS",
        help="edge of a square that is blanked in each training image (default: %(default)s, none)",
    )


def _add_optimisation_options(parser: common.Parser) -> None:
    add = _adder(parser, "how weights move")
    add(
        "optimizer",
        choices=OPTIMIZERS,
        help="Adam, stochastic gradient descent with momentum, or Muon: orthogonalised momentum "
        "(default: %(default)s)",
    )
    add(
        "momentum",
        type=float,
        metavar="X",
        help="with sgd and muon: part of the last step that is kept, in [0, 1) (default: 0.9)",
    )
    add(
        "nesterov",
        action=common.YesOrNo,
        help="with sgd and muon: Nesterov's variant of momentum (default: yes)",
    )
    add(
        "schedule",
        choices=SCHEDULES,
        help="learning rate after the warm-up: as it is, half a cosine to 0, 7/16 of one to a "
        "fifth, or straight to 0 (default: %(default)s)",
    )
    add(
        "warmup",
        type=float,
        metavar="EPOCHS",
        help="epochs in which the learning rate rises in a straight line (default: %(default)g)",
    )
    add(
        "weight-decay",
        type=float,
        metavar="X",
        help="each step shrinks every kernel by the factor 1 - X times the learning rate "
        "(default: %(default)g)",
    )
    add(
        "clip-norm",
        type=float,
        metavar="X",
        help="scale gradients that are longer than this Euclidean norm down to it (default: no "
        "limit)",
    )
    add(
        "ema",
        type=float,
        metavar="X",
        help="examine an exponential moving average of the weights with this decay, in [0, 1) "
        "(default: %(default)g, the weights themselves)",
    )
    add(
        "label-smoothing",
        type=float,
        metavar="X",
        help="part of the target spread over all classes, in [0, 1); hides what attacks look for "
        "(default: %(default)g)",
    )
    add(
        "precision",
        choices=PRECISIONS,
        help="what layers compute in; weights and logits are float32 (default: %(default)s)",
    )


def _add_device_options(parser: common.Parser) -> None:
    add = _adder(parser, "what it runs on")
    add(
        "backend",
        choices=BACKENDS,
        help="framework (default: the environment variable KERAS_BACKEND, else tensorflow)",
    )
    add(
        "threads-per-trial",
        type=common.integer,
        metavar="N",
        help="CPU threads that train a trial; may change last digits (default: %(default)s)",
    )
    add(
        "trials-per-device",
        type=_number_or_auto,
        metavar="K",
        help="trials that share a GPU, in one program on jax, else in processes; auto: measured on "
        "jax before a run begins, else 1; no effect on CPUs (default: %(default)s)",
    )


def _adder(parser: common.Parser, title: str) -> Any:
    """Return a function that adds ``--name`` with the default of the experiment's attribute."""
    group = parser.add_argument_group(title)

    def add(name: str, **options: Any) -> None:
        default = getattr(DeepExperiment, name.replace("-", "_"))
        group.add_argument(f"--{name}", default=default, **options)

    return add


def _number_or_auto(text: str) -> int | str:
    return text if text == "auto" else common.integer(text)


_number_or_auto.__name__ = common.integer.__name__


def experiment_from(arguments: argparse.Namespace) -> DeepExperiment:
    """Return the experiment that the command line describes: an attribute for each flag.

    For ``--trials-per-device auto`` the machine is asked.
    """
    settings = {field.name: getattr(arguments, field.name) for field in fields(DeepExperiment)}
    if settings["trials_per_device"] != "auto":
        return DeepExperiment(**settings)
    experiment = DeepExperiment(**{**settings, "trials_per_device": 1})
    return settled(experiment, arguments.trials, arguments.out, partial(_say, arguments.quiet))


def _say(quiet: bool, line: str) -> None:
    if not quiet:
        print(f"confsim-deep: {line}", file=sys.stderr)


def _run(given: argparse.Namespace) -> int:
    if given.recipe is not None and given.dry_run and not given.json:
        print(f"recipe {given.recipe}: {recipes.cost(recipes.load(given.recipe))}")
    with warnings.catch_warnings():
        warnings.showwarning = _show
        return execute(experiment_from(given), given)


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """Print what a user should know about the data, in one line."""
    print(f"confsim-deep: warning: {message}", file=sys.stderr)


def _with_recipe(parser: common.Parser, argv: Sequence[str] | None) -> None:
    """Make a recipe's settings the parser's defaults; whatever else is given overrides them."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--recipe", nargs="?")
    try:
        first.set_defaults(recipe=settings.values(parser, argv).get("recipe"))
    except (ValueError, ConfsimError):
        return  # said when the command line is read
    given, _ = first.parse_known_args(argv)
    if given.recipe == "help":
        print(recipes.describe())
        parser.exit()
    try:
        parser.set_defaults(**recipes.apply(vars(given)))
    except ValueError as error:
        parser.error(str(error))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = build_parser()

    def work() -> int:
        _with_recipe(parser, argv)
        return common.main(parser, _run, argv)

    return written(parser.prog, work)
