"""The table at the end of a run."""

from confsim._errors import to_copy
from confsim.report.numbers import number, share, with_interval
from confsim.report.summary import MEANS, TOTALS, Estimate, Headline
from confsim.store import Run

_PAIRS = (
    ("mean distance incl. self", "distance_mean_self"),
    ("mean distance excl. self", "distance_mean_other"),
    ("median distance incl. self", "distance_median_self"),
    ("median distance excl. self", "distance_median_other"),
)
#: Columns of a label and of each of two values, which make 80 with a space between.
_LABEL, _VALUE = 27, 26

_RELATIONS = (
    ("Pearson correlation", "pearson_self", "pearson_other"),
    ("Spearman correlation", "spearman_self", "spearman_other"),
    ("AUC of closeness", "auc_closeness_self", "auc_closeness_other"),
)


def closing_table(run: Run, found: Headline, percent: float, *, complete: bool) -> str:
    """Return the table: extremes, relations, the model, and what to do next."""
    means = found.means
    lines = [
        f"{found.trials} trials; mean [95% interval over trials]",
        "",
        _row("", f"least confident {percent:g}%", f"most confident {percent:g}%"),
    ]
    lines += [
        _row(label, _cell(means[f"bottom_{key}"]), _cell(means[f"top_{key}"]))
        for label, key in _PAIRS
    ]
    rates = found.membership
    lines += [
        _row("membership rate (pooled)", *(_share(rates[side]) for side in ("bottom", "top"))),
        "",
        _row("confidence, distance", "including self", "excluding self"),
    ]
    lines += [
        _row(label, _cell(means[including]), _cell(means[excluding]))
        for label, including, excluding in _RELATIONS
    ]
    lines += [
        _row("  if nothing leaked", "", number(means["auc_closeness_other_null"].value)),
        _row("AUC of confidence", _cell(means["auc_confidence"]), ""),
        "",
    ]
    shown = {key for _, *keys in _RELATIONS for key in keys} | {"auc_confidence"}
    lines += [
        _row(MEANS[key], _cell(value), "")
        for key, value in means.items()
        if key not in shown and not key.startswith(("bottom_", "top_", "auc_"))
    ]
    lines += [_row(TOTALS[key], str(value), "") for key, value in found.totals.items() if value]
    following = "figures and a page" if complete else "what is missing"
    command = "confsim-report" if complete else "confsim-status"
    lines += ["", f"results   {run.path}"]
    lines += [f"next      {to_copy(command, run.path)}    ({following})"]
    return "\n".join(line.rstrip() for line in lines)


def _row(label: str, first: str, second: str) -> str:
    """Return a line of at most 80 columns; a long label moves its only value to the right."""
    if len(label) >= _LABEL:
        return f"{label}  {first}"
    return f"{label:<{_LABEL}}{first:<{_VALUE}} {second}"


def _share(estimate: Estimate) -> str:
    return share(estimate.value, estimate.low, estimate.high)


def _cell(estimate: Estimate) -> str:
    return with_interval(estimate.value, estimate.low, estimate.high)
