"""What is known of each class: shared by a figure and a table."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from confsim.report.context import ReportContext

if TYPE_CHECKING:
    import pandas as pd


def known(value: Any) -> float:
    """Return a rate for sorting: the unknown comes last."""
    return -1.0 if value is None or math.isnan(value) else float(value)


def records(table: "pd.DataFrame") -> Iterable[dict[str, Any]]:
    """Return the rows of a table as dicts."""
    found: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    return found


def class_rows(context: ReportContext) -> list[dict[str, Any]]:
    """Return a row for each class, the most exposed first."""
    table = context.tables["memorization"]
    names = context.label_names
    power = {}
    bins = context.tables.get("vulnerability_bins")
    if bins is not None and not bins.empty and "auc" in bins:
        of_class = bins[bins["by"] == "label"]
        power = {int(row["value_low"]): row for row in records(of_class)}
    rows = []
    for label, part in table.groupby("label", sort=True):
        row: dict[str, Any] = {
            "class": names.get(int(str(label)), str(label)),
            "examples": len(part),
            "memorization": float(part["memorization"].mean()),
        }
        for side in ("in", "out"):
            weight = part[f"trials_{side}"].to_numpy(dtype=np.float64)
            right = part[f"accuracy_{side}"].fillna(0).to_numpy(dtype=np.float64) * weight
            row[f"accuracy_{side}"] = float(right.sum() / weight.sum()) if weight.any() else np.nan
        found = power.get(int(str(label)), {})
        for key in ("auc", "tpr_at_fpr_1pct"):
            if key in found:
                row |= {k: found[k] for k in (key, f"{key}_low", f"{key}_high")}
        rows.append(row)
    return sorted(rows, key=lambda row: -known(row.get("auc", row["memorization"])))
