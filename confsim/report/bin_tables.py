"""Tables of whom each attack finds: the ends of the bins by distance, by density and by class.

All bins of all attacks are in the membership tables; the figures of :mod:`confsim.report.bins` draw
those of the main attacks.
"""

from typing import TYPE_CHECKING, Any

from confsim.report.attacks import attack_name
from confsim.report.classes import records
from confsim.report.context import ReportContext
from confsim.report.evidence import Z
from confsim.report.table import Column, Table

if TYPE_CHECKING:
    import pandas as pd

#: What examples are sorted by, for people; the first is the model's own space where it has one.
_BY = {
    "distance_out": "distance to training set",
    "fixed_distance": "distance, fixed space",
    "density_distance": "density, fixed space",
    "leverage": "leverage, fixed space",
    "label": "class",
}

_FOUND = "mean over examples of the share of trials as a member in which the attack finds it"


def success(context: ReportContext) -> Table | None:
    """List how often every attack finds members that are close to others, and far from them."""
    table = context.tables.get("success_bins")
    if table is None or table.empty:
        return None
    rows = [
        _about(row, context) | _ends(rows, "tpr", ("coverage", "stability", "memorization"))
        for row, rows in _sorted(table, "tpr")
    ]
    level = f"{100 * float(table['level'].iloc[0]):g}%"
    interval = "[95% Student-t interval over examples]"
    return Table(
        "success_summary",
        f"Which members every attack finds at a false-positive rate of {level}",
        [
            Column("attack", "attack", "every attack with scores"),
            Column("by", "examples sorted by", "into bins of equally many, or by class; leverage "
                   "and density: how far from all others"),
            Column("tpr_first", "found, first bin", f"{_FOUND}, of the closest examples or of the "
                   f"class found least {interval}"),
            Column("tpr_last", "found, last bin", f"the same of the farthest examples, or of the "
                   f"class found most, the extreme of many {interval}"),
            Column("reliability", "reliability", "of the order of the bins: rank correlation "
                   "between halves of the trials, stepped up to all; 0: noise, also where it "
                   "would be negative"),
            *(
                Column(f"{key}_{end}", f"{title}, {end} bin", meaning, folded=True)
                for key, title, meaning in (
                    ("coverage", "coverage", "share of examples found at least once"),
                    ("stability", "stability", "share found whenever they were members"),
                    ("memorization", "memorisation", "mean accuracy in minus out"),
                )
                for end in ("first", "last")
            ),
            Z,
        ],
        rows,
        "All bins are in success_bins.csv.",
        folded=True,
    )  # fmt: skip


def epsilon(context: ReportContext) -> Table | None:
    """List what canaries prove by every attack: all, those close to others, those far from them."""
    table = context.tables.get("epsilon_bins")
    if table is None or "epsilon" not in table or not (table["epsilon"] > 0).any():
        return None
    known = table[table["epsilon"].notna()]
    whole = dict(known.loc[known["by"] == "all", ["attack", "epsilon"]].to_numpy())
    rows = [
        _about(row, context)
        | {"epsilon_all": whole.get(row["attack"]), "canaries": int(row["canaries"])}
        | _ends(rows, "epsilon", ())
        for row, rows in _sorted(known[known["by"] != "all"], "epsilon")
    ]
    return Table(
        "epsilon_bins_summary",
        "What canaries alike in something prove alone",
        [
            Column("attack", "attack", "every attack whose scores know nothing of the coins"),
            Column("by", "canaries sorted by", "into bins of equally many, or by class"),
            Column("epsilon_all", "epsilon, all", "mean over trials of the lower bounds that all "
                   "canaries give"),
            Column("epsilon_first", "epsilon, first bin", "by the closest canaries alone, or by "
                   "the class that proves least"),
            Column("epsilon_last", "epsilon, last bin", "by the farthest alone, or by the class "
                   "that proves most, the extreme of many"),
            Column("canaries", "canaries", "in a bin: few prove little"),
            Z,
        ],
        rows,
        "Means of bounds are no bounds themselves; all bins are in epsilon_bins.csv.",
        folded=True,
    )  # fmt: skip


def _sorted(table: "pd.DataFrame", figure: str) -> "list[tuple[dict[str, Any], pd.DataFrame]]":
    """Return for each attack and order its first row and its bins in that order."""
    found = []
    for by in (name for name in _BY if name in set(table["by"])):
        for _, rows in table[table["by"] == by].groupby("attack", sort=False):
            ordered = rows.sort_values(figure if by == "label" else "bin", kind="stable")
            found.append((next(iter(records(ordered))), ordered))
    return found


def _about(row: dict[str, Any], context: ReportContext) -> dict[str, Any]:
    made: dict[str, Any] = {"attack": attack_name(str(row["attack"])), "by": _BY[str(row["by"])]}
    if row["by"] == "distance_out" and context.own_space:
        made["by"] = "distance, own space"
    if "reliability" in row:
        made["reliability"] = round(max(float(row["reliability"]), 0.0), 2)
    return made | ({"z": row["z"]} if isinstance(row.get("z"), str) else {})


def _ends(rows: "pd.DataFrame", figure: str, more: tuple[str, ...]) -> dict[str, Any]:
    """Return figures of the first and of the last bin."""
    made: dict[str, Any] = {}
    for end, place in (("first", 0), ("last", -1)):
        row = rows.iloc[place]
        made |= {
            f"{figure}_{end}{bound}": float(row[f"{figure}{bound}"])
            for bound in ("", "_low", "_high")
            if f"{figure}{bound}" in row
        }
        made |= {f"{name}_{end}": float(row[name]) for name in more if name in row}
    return made
