"""What every column means: of ``run.summary()`` and ``trials.csv``, and of the report's tables."""

from collections.abc import Iterable, Sequence

from confsim.report.table import Column, Table

_SIDES = {"bottom": "least confident", "top": "most confident"}
_OWN = {"self": "members' own rows count", "other": "members' own rows left out"}

#: Columns of ``run.summary()``, one row a trial.
SUMMARY: dict[str, str] = {
    "trial": "the trial's number, from 0",
    "queries": "points whose confidence was measured",
    "members": "queries that were training points",
    "population": "examples that could be members",
    "holdout": "examples set aside: never member, never query",
    "duplicates": "examples with an equal one in the population",
    "redraws": "training sets that held one class and were drawn again",
    "flipped_labels": "training labels flipped on purpose",
    "solver_status": "what the solver said",
    "solver_rounds": "rounds of the working set",
    "objective_value": "the linear program's optimum",
    "separable": "1 where a hyperplane separates the training points",
    "degenerate": "1 where the fit has no hyperplane",
    "training_error": "share of training points on the wrong side",
    "right_side": "share of queries on the right side of the learned hyperplane",
    "angle_degrees": "angle between learned and ideal hyperplane, degrees",
    "distance_scale": "what distances are divided by, in the units of the data",
    "extreme_count": "queries of either extreme",
    "pearson_self": "Pearson correlation of confidence and distance, members' own rows count",
    "pearson_other": "the same, members' own rows left out",
    "spearman_self": "Spearman correlation of confidence and distance, members' own rows count",
    "spearman_other": "the same, members' own rows left out",
    "spearman_error_bound": "most that counting in bins can have moved Spearman's correlation",
    "auc_confidence": "chance that a member is more confident than a non-member, ties half",
    "auc_closeness_self": "chance that a member is closer, members' own rows count: 1",
    "auc_closeness_other": "the same, members' own rows left out",
    "auc_closeness_other_null": "that AUC if membership meant nothing",
    "auc_error_bound": "most that counting in bins can have moved an AUC",
    "epochs": "epochs trained",
    "best_epoch": "epoch whose weights were kept",
    "validation_loss": "loss on the holdout at that epoch, nats",
    "member_accuracy": "share of members predicted right",
    "non_member_accuracy": "share of non-members predicted right",
    "holdout_accuracy": "share of the holdout predicted right",
    "accuracy_gap": "accuracy of members minus that of non-members",
    "member_loss": "mean loss of members, nats",
    "non_member_loss": "mean loss of non-members, nats",
    "holdout_loss": "mean loss of the holdout, nats",
    "features": "dimensions of the model's feature space",
    "ranked_by": "what confidence is ranked by",
    "space": "the space that distances are measured in",
    "zeros_replaced": "probabilities of exactly 0 that were replaced",
    "target": "1 for a model of the user's own",
    **{
        f"{side}_{key}": f"{meaning}, of the {words} queries"
        for side, words in _SIDES.items()
        for key, meaning in (
            ("count", "how many there are"),
            ("membership_rate", "share of members"),
            *(
                (f"distance_{figure}_{own}", f"{figure} normalised distance, {kind}")
                for figure in ("mean", "median")
                for own, kind in _OWN.items()
            ),
        )
    },
}


def meaning(column: str) -> str:
    """Return what a column of ``run.summary()`` means, empty if nobody knows.

    Examples
    --------
    >>> from confsim.report.dictionary import meaning
    >>> meaning("accuracy_gap"), meaning("auc_confidence_low")[:22]
    ('accuracy of members minus that of non-members', 'lower end of the 95% i')
    """
    for end, words in (("_low", "lower"), ("_high", "upper")):
        if column.endswith(end) and column.removesuffix(end) in SUMMARY:
            return f"{words} end of the 95% interval over examples of {column.removesuffix(end)}"
    return SUMMARY.get(column, "")


def trial_columns(names: Iterable[str]) -> list[Column]:
    """Return the columns of ``trials.csv`` with their meanings."""
    return [Column(name, name, meaning(name)) for name in names]


def dictionary(tables: Sequence[Table], trials: Sequence[Column]) -> Table:
    """Return the meaning of every column of every CSV file that a report writes."""
    rows = [
        {"file": f"{name}.csv", "column": column.key, "title": column.title, "meaning": text}
        for name, columns in (*((t.name, t.columns) for t in tables), ("trials", trials))
        for column in columns
        if (text := column.meaning)
    ]
    heads = ("file", "column", "title", "meaning")
    return Table("dictionary", "Columns", [Column(head, head, head) for head in heads], rows)
