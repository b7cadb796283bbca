"""The table at the end of a run."""

from confsim.report.numbers import number, with_interval
from confsim.report.summary import MEANS, TOTALS, Estimate, Headline
from confsim.store import Run

_PAIRS = (
    ("mean distance, including self", "distance_mean_self"),
    ("mean distance, excluding self", "distance_mean_other"),
    ("median distance, including self", "distance_median_self"),
    ("median distance, excluding self", "distance_median_other"),
)
_RELATIONS = (
    ("Pearson correlation", "pearson_self", "pearson_other"),
    ("Spearman correlation", "spearman_self", "spearman_other"),
    ("membership AUC of closeness", "auc_closeness_self", "auc_closeness_other"),
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
        _row("membership rate (pooled, approximate)", _cell(rates["bottom"]), _cell(rates["top"])),
        "",
        _row("confidence and distance", "including self", "excluding self"),
    ]
    lines += [
        _row(label, _cell(means[including]), _cell(means[excluding]))
        for label, including, excluding in _RELATIONS
    ]
    lines += [
        _row("  if membership meant nothing", "", number(means["auc_closeness_other_null"].value)),
        _row("membership AUC of confidence", _cell(means["auc_confidence"]), ""),
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
    lines += ["", f"results   {run.path}", f"next      {command} {run.path}    ({following})"]
    return "\n".join(line.rstrip() for line in lines)


def _row(label: str, first: str, second: str) -> str:
    return f"{label:<40}{first:<32}{second}"


def _cell(estimate: Estimate) -> str:
    return with_interval(estimate.value, estimate.low, estimate.high)
