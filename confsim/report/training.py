"""How the models' training went, epoch after epoch."""

from typing import TYPE_CHECKING, Any

import numpy as np

from confsim.report.canvas import (
    MEMBERS,
    MUTED,
    NON_MEMBERS,
    Canvas,
    FigureText,
    legend_below,
    plain_ticks,
)
from confsim.report.context import ReportContext, plural
from confsim.report.numbers import number
from confsim.report.registry import figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: Trials whose own curves are drawn, thin: more would be one grey area.
_OWN_CURVES = 30

#: From this ratio of the largest to the smallest loss on, the axis is logarithmic.
_LOGARITHMIC = 5

#: What is drawn of an epoch: where, what it is called, its colour and dashes.
_LOSSES = {
    "validation_loss": ("mean, examples watched", NON_MEMBERS, "-"),
    "batch_loss": ("last training batch", MEMBERS, (0, (4, 1.5))),
}
_ACCURACY = {"validation_accuracy": ("accuracy, examples watched", NON_MEMBERS, "-")}

#: Panels: the columns drawn and the axis's label.
PANELS: dict[str, tuple[dict[str, tuple[str, str, Any]], str]] = {
    "loss": (_LOSSES, "loss, nats"),
    "accuracy": (_ACCURACY, "accuracy"),
}


def curves(context: ReportContext) -> "pd.DataFrame":
    """Return the training curves of all trials: ``trial``, ``epoch``, losses and accuracy."""
    import pandas as pd

    return pd.concat([context.run.trial(n).table("training") for n in context.trials])


def _needs_curves(context: ReportContext) -> str | None:
    if not all(context.run.trial(n).has("training.parquet") for n in context.trials):
        return "trials hold no training curves; those of deep runs do"
    if int(curves(context)["epoch"].max()) < 2:
        return "it needs at least two epochs"
    return None


@figure("How did training go?", _needs_curves)
def training(context: ReportContext, canvas: Canvas) -> FigureText:
    """Draw losses and accuracy by epoch."""
    table = curves(context)
    names = [n for n, (kinds, _) in PANELS.items() if not table[list(kinds)].isna().all().all()]
    axes = canvas.panels(len(names), height=2.5)
    for axis, name in zip(axes, names, strict=True):
        training_panel(axis, context, name)
        legend_below(axis, 1)
    epochs = table.groupby("trial")["epoch"].max()
    kept = context.column("best_epoch")
    watched = {"holdout": "the holdout", "nonmembers": "the trial's non-members"}.get(
        str(context.config.get("early_stopping")), ""
    )
    return FigureText(
        f"Median over {plural(len(context.trials), 'trial')} still in training"
        + (
            ", thin lines: single trials"
            if len(_own(context)) == len(context.trials)
            else f", thin lines: {len(_own(context))} of them"
        )
        + (f". Watched for early stopping: {watched}" if watched else "")
        + ". Dotted: median of the epochs whose weights were kept.",
        f"Trained for {_span(epochs.min(), epochs.max())} epochs; kept, in the median, the weights "
        f"of epoch {number(float(np.nanmedian(kept)), 3)}.",
    )


def _own(context: ReportContext) -> list[int]:
    """Return the trials whose own curves are drawn: all, or some at even steps."""
    trials = context.trials
    if len(trials) <= _OWN_CURVES:
        return trials
    steps = np.linspace(0, len(trials) - 1, _OWN_CURVES).round().astype(int)
    return [trials[step] for step in steps]


def _span(least: int, most: int) -> str:
    return f"{least}" if least == most else f"{least} to {most}"


def training_panel(axis: "Axes", context: ReportContext, panel: str) -> None:
    """Draw ``loss`` or ``accuracy`` by epoch: medians over trials, and single trials, thin."""
    from matplotlib.ticker import MaxNLocator

    table = curves(context)
    kinds, label = PANELS[panel]
    own = _own(context)
    least, most = float("inf"), 0.0
    for column, (words, colour, dashes) in kinds.items():
        if table[column].isna().all():
            continue
        for trial in own:
            rows = table[table["trial"] == trial]
            axis.plot(rows["epoch"], rows[column], color=colour, alpha=0.25, linewidth=0.6)
        median = table.groupby("epoch")[column].median()
        axis.plot(median.index, median, color=colour, linestyle=dashes, label=words)
        least = min(least, float(table[column].min()))
        most = max(most, float(table[column].max()))
    axis.axvline(
        float(np.nanmedian(context.column("best_epoch"))), color=MUTED, linestyle=(0, (1, 1.5)),
        linewidth=1.0,
    )  # fmt: skip
    if panel == "loss" and least > 0 and most > _LOGARITHMIC * least:
        axis.set_yscale("log")
        plain_ticks(axis.yaxis)
    axis.set_xlabel("epoch")
    axis.set_ylabel(label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


FIGURES = (training,)
