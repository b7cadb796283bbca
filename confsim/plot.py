"""The report's figures one by one, each drawn into Axes of yours: ``confsim.plot.roc(run, ax)``.

Every function takes a run (:func:`confsim.open_run`, or what a pipeline returned) and Axes, makes
new ones with ``matplotlib.pyplot`` where none are given, draws one panel, and returns the Axes.
Nothing is written and no setting of Matplotlib is changed, so your style sheet applies. Attack
tables are read where they are up to date, and made where not.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from confsim._errors import ConfsimError, check_choice, check_integer
from confsim._suggest import explain_all
from confsim.report import attacks, bins, figures, lattice, pictures
from confsim.report import groups as own_groups
from confsim.report import training as epochs
from confsim.report import transfer as transferred
from confsim.report.canvas import colour_bar
from confsim.report.context import ReportContext
from confsim.report.registry import FigureKind
from confsim.store import check_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from confsim.store import Run

__all__ = [
    "agreement",
    "classes",
    "epsilon",
    "extremes",
    "groups",
    "images",
    "joint",
    "lattice_map",
    "leverage",
    "low_rates",
    "membership",
    "memorization",
    "roc",
    "success",
    "training",
    "transfer",
    "trials",
    "vulnerability",
    "vulnerability_correlations",
]


def roc(run: "Run", ax: "Axes | None" = None, *, names: Sequence[str] | None = None) -> "Axes":
    """Draw ROC curves of attacks, both axes logarithmic.

    Parameters
    ----------
    run : Run
    ax : Axes, optional
    names : sequence of str, optional
        Attacks of the table ``roc``; default: all that are there.

    Returns
    -------
    Axes
        Mean over targets, with a band that holds the middle 80% of them; dashed: guessing.

    Raises
    ------
    ConfsimError
        If the run has no attack tables, and why.
    ValueError
        If an attack has no curve.
    """
    context = _context(run, attacks.roc)
    curves = context.tables["roc"]
    present = list(dict.fromkeys(curves["attack"]))
    for name in names or ():
        check_choice("names", name, tuple(present))
    ax = _axes(ax)
    attacks.roc_panel(ax, curves, list(names or present))
    ax.set_ylabel("true-positive rate")
    ax.legend()
    return ax


def low_rates(run: "Run", ax: "Axes | None" = None, *, rate: str = "1pct") -> "Axes":
    """Draw how many members each attack tells at a low false-positive rate, with intervals.

    Parameters
    ----------
    run : Run
    ax : Axes, optional
    rate : {"1pct", "0.1pct"}

    Returns
    -------
    Axes
    """
    check_choice("rate", rate, ("1pct", "0.1pct"))
    ax, context = _axes(ax), _context(run, attacks.low_rates)
    attacks.rates_panel(ax, context, rate)
    return ax


def vulnerability(
    run: "Run",
    ax: "Axes | None" = None,
    *,
    by: str = "distance_out",
    figure: str = "auc",
) -> "Axes":
    """Draw the power of LiRA among examples of similar distance from others.

    Parameters
    ----------
    run : Run
    ax : Axes, optional
    by : {"distance_out", "fixed_distance", "density_distance", "leverage"}
        Distance in the model's own space, to the nearest other in a fixed space, or the mean to the
        20 nearest there, or leverage there.
    figure : {"auc", "tpr_at_fpr_1pct"}

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the run has no bins of that kind.
    """
    check_choice("figure", figure, ("auc", "tpr_at_fpr_1pct"))
    context = _context(run, attacks.vulnerability_bins)
    _check_by(by, context.tables["vulnerability_bins"])
    ax = _axes(ax)
    attacks.bins_panel(ax, context, by, figure)
    return ax


def vulnerability_correlations(
    run: "Run", ax: "Axes | None" = None, *, measure: str = "exposure"
) -> "Axes":
    """Draw rank correlations of vulnerability with distances, overall and within classes.

    Parameters
    ----------
    run : Run
    ax : Axes, optional
    measure : {"exposure", "exposure_lira", "effect_size", "memorization"}

    Returns
    -------
    Axes
    """
    context = _context(run, attacks.vulnerability_correlations)
    known = dict.fromkeys(context.tables["vulnerability_correlations"]["vulnerability"])
    check_choice("measure", measure, tuple(known))
    ax = _axes(ax)
    attacks.correlations_panel(ax, context, measure)
    ax.legend()
    return ax


def memorization(run: "Run", ax: "Axes | None" = None) -> "Axes":
    """Draw how memorisation is distributed over examples (Feldman & Zhang 2020)."""
    ax, context = _axes(ax), _context(run, attacks.memorization)
    attacks.memorization_panel(ax, context.tables["memorization"]["memorization"].to_numpy())
    return ax


def classes(run: "Run", ax: "Axes | None" = None, *, figure: str = "accuracy") -> "Axes":
    """Draw a figure of each class, the most exposed class first.

    Parameters
    ----------
    run : Run
    ax : Axes, optional
    figure : {"accuracy", "auc"}
        Accuracy as members and as non-members, or the AUC of LiRA.

    Returns
    -------
    Axes
    """
    check_choice("figure", figure, ("accuracy", "auc"))
    ax, context = _axes(ax), _context(run, attacks.classes)
    attacks.classes_panel(ax, context, figure)
    if figure == "accuracy":
        ax.legend()
    return ax


def success(run: "Run", ax: "Axes | None" = None, *, by: str = "distance_out") -> "Axes":
    """Draw the share of members that attacks find, by distance, at thresholds chosen elsewhere.

    Parameters
    ----------
    run : Run
    ax : Axes, optional
    by : {"distance_out", "fixed_distance", "density_distance", "leverage"}

    Returns
    -------
    Axes
    """
    context = _context(run, bins.success)
    _check_by(by, context.tables["success_bins"])
    ax = _axes(ax)
    bins.success_panel(ax, context, by)
    ax.set_ylabel("share of members found")
    ax.legend()
    return ax


def epsilon(run: "Run", ax: "Axes | None" = None, *, by: str = "fixed_distance") -> "Axes":
    """Draw lower bounds on epsilon that examples alike in distance prove alone.

    Parameters
    ----------
    run : Run
        Of a design by independent fair coins.
    ax : Axes, optional
    by : {"fixed_distance", "density_distance", "leverage"}

    Returns
    -------
    Axes
    """
    context = _context(run, bins.epsilon)
    _check_by(by, context.tables["epsilon_bins"])
    ax = _axes(ax)
    bins.epsilon_panel(ax, context, by)
    ax.set_ylabel("lower bound on epsilon, mean over trials")
    ax.legend()
    return ax


def leverage(run: "Run", ax: "Axes | None" = None) -> "Axes":
    """Draw how well confidence tells members among queries of similar leverage (linear runs)."""
    ax, context = _axes(ax), _context(run, bins.leverage)
    bins.leverage_panel(ax, context)
    return ax


def groups(run: "Run", ax: "Axes | None" = None, *, figure: str = "auc") -> "Axes":
    """Draw the power of an attack in each group of the user's own, the most exposed first.

    Parameters
    ----------
    run : Run
        Whose population has a column ``group``.
    ax : Axes, optional
    figure : {"auc", "tpr_at_fpr_1pct"}

    Returns
    -------
    Axes
    """
    check_choice("figure", figure, ("auc", "tpr_at_fpr_1pct"))
    ax, context = _axes(ax), _context(run, own_groups.groups)
    own_groups.groups_panel(ax, context, figure)
    return ax


def transfer(run: "Run", ax: "Axes | None" = None, *, rate: str = "tpr") -> "Axes":
    """Draw what attacks get with thresholds that were chosen on the other trials.

    Parameters
    ----------
    run : Run
    ax : Axes, optional
    rate : {"tpr", "fpr"}
        The true-positive rate, beside that of the best threshold for the target itself, or the
        realised false-positive rate, beside the one that was wanted.

    Returns
    -------
    Axes
        Means over targets with 95% intervals; diamonds are what they are held against.
    """
    check_choice("rate", rate, tuple(transferred.RATES))
    context = _context(run, transferred.transfer)
    ax = _axes(ax)
    transferred.transfer_panel(ax, context, rate)
    return ax


def agreement(run: "Run", ax: "Axes | None" = None, *, figure: str = "share") -> "Axes":
    """Draw whether attacks find the same members, trial after trial.

    Parameters
    ----------
    run : Run
    ax : Axes, optional
    figure : {"share", "jaccard"}
        Shares of members found in every trial, on average and at least once, or the Jaccard index
        of what two trials find, beside that of chance.

    Returns
    -------
    Axes
    """
    check_choice("figure", figure, tuple(transferred.MEASURES))
    context = _context(run, transferred.agreement)
    ax = _axes(ax)
    transferred.agreement_panel(ax, context, figure)
    ax.legend()
    return ax


def images(
    run: "Run", ax: "Axes | None" = None, *, which: str = "vulnerable", count: int = 8
) -> "Axes":
    """Draw images, each beside the training image that is nearest to it in most trials.

    Parameters
    ----------
    run : Run
        That keeps images.
    ax : Axes, optional
    which : {"vulnerable", "confident", "unsure"}
        Those that attacks tell best, or those with the highest or the lowest mean confidence.
    count : int
        Pairs, at most.

    Returns
    -------
    Axes
        Which holds an inset for each image. Above a pair: ids, and the mean distance; below:
        classes.
    """
    check_choice("which", which, pictures.WHICH)
    check_integer("count", count, minimum=1)
    vulnerable = which == "vulnerable"
    context = _context(run, pictures.vulnerable_images if vulnerable else pictures.confident_images)
    ax = _axes(ax)
    pictures.images_panel(ax, context, which, count)
    return ax


def training(run: "Run", ax: "Axes | None" = None, *, figure: str = "loss") -> "Axes":
    """Draw losses, or the accuracy, of the trials' models by epoch (deep runs).

    Parameters
    ----------
    run : Run
    ax : Axes, optional
    figure : {"loss", "accuracy"}

    Returns
    -------
    Axes
        Medians over the trials still in training, and single trials, thin.
    """
    check_choice("figure", figure, tuple(epochs.PANELS))
    ax, context = _axes(ax), _context(run, epochs.training)
    epochs.training_panel(ax, context, figure)
    ax.legend()
    return ax


def _check_by(by: str, table: Any) -> None:
    check_choice("by", by, tuple(sorted(set(table["by"].dropna()) - {"label", "all"})))


def joint(run: "Run", ax: "Axes | None" = None, *, members: bool = False) -> "Axes":
    """Draw the joint density of confidence and distance, a member's own row left out.

    Parameters
    ----------
    run : Run
    ax : Axes, optional
    members : bool
        Of members; default: of non-members.

    Returns
    -------
    Axes
        With a colour bar beside it.
    """
    ax, context = _axes(ax), _context(run, figures.joint)
    drawn = figures.joint_panel(ax, context, members=members)
    ax.set_ylabel("distance to nearest training point")
    if drawn is not None:
        colour_bar(ax.figure, drawn, ax, "pairs")
    return ax


def extremes(run: "Run", ax: "Axes | None" = None, *, own_rows: bool = False) -> "Axes":
    """Draw how distances are distributed among the least and the most confident, cumulatively.

    Parameters
    ----------
    run : Run
    ax : Axes, optional
    own_rows : bool
        Let members' own rows count: they are then at distance 0.

    Returns
    -------
    Axes
    """
    ax, context = _axes(ax), _context(run, figures.extremes)
    figures.extremes_panel(ax, context, "self" if own_rows else "other")
    ax.set_ylabel(figures.CUMULATIVE)
    ax.legend()
    return ax


def membership(run: "Run", ax: "Axes | None" = None, *, by: str = "confidence") -> "Axes":
    """Draw the share of members by confidence or by distance, as multiples of that of all.

    Parameters
    ----------
    run : Run
    ax : Axes, optional
    by : {"confidence", "distance"}

    Returns
    -------
    Axes
    """
    check_choice("by", by, ("confidence", "distance"))
    ax, context = _axes(ax), _context(run, figures.membership)
    figures.membership_panel(ax, context, by)
    ax.set_ylabel("share of members, times that of all")
    return ax


def trials(run: "Run", ax: "Axes | None" = None, *, own_rows: bool = False) -> "Axes":
    """Draw each trial's mean distance of the most confident against that of the least confident.

    Parameters
    ----------
    run : Run
    ax : Axes, optional
    own_rows : bool
        Let members' own rows count.

    Returns
    -------
    Axes
    """
    ax, context = _axes(ax), _context(run, figures.trials)
    figures.trials_panel(ax, context, "self" if own_rows else "other")
    return ax


def lattice_map(run: "Run", ax: "Axes | None" = None, *, field: str = "confidence") -> "Axes":
    """Draw confidence or distance over a lattice of two dimensions, for the typical trial.

    Parameters
    ----------
    run : Run
    ax : Axes, optional
    field : {"confidence", "distance"}

    Returns
    -------
    Axes
        With a colour bar beside it.
    """
    check_choice("field", field, tuple(lattice.FIELDS))
    ax, context = _axes(ax), _context(run, lattice.lattice_map)
    drawn = lattice.map_panel(ax, context, field)
    colour_bar(ax.figure, drawn, ax, lattice.FIELDS[field])
    return ax


def _axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        return ax
    from matplotlib import pyplot

    made: Axes = pyplot.subplots(layout="constrained")[1]
    return made


def _context(run: "Run", kind: FigureKind) -> ReportContext:
    """Return what a figure is drawn from; raise with the reason where it cannot be drawn."""
    check_run(run)
    context = ReportContext(run, run.trials)
    if not context.trials:
        raise ConfsimError(f"{run.path} has no finished trial to draw")
    if kind not in (*figures.FIGURES, *lattice.FIGURES, *epochs.FIGURES):
        _add_tables(context)
    reason = kind.needs(context)
    if reason is not None:
        raise ConfsimError(f"{run.path} has nothing to draw here: {reason}")
    return context


def _add_tables(context: ReportContext) -> None:
    from confsim.membership import membership_tables

    found: Any = membership_tables(context.run)
    context.tables = dict(found.tables)
    context.notes += found.notes


explain_all(__name__, globals(), __all__)
