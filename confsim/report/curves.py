"""ROC curves of the attacks on every target, for the one figure that needs more than the tables.

The tables hold what attacks achieve at fixed false-positive rates; a curve needs all thresholds.
Scores are computed again, the curves of all targets are summarised on a grid of rates, and that is
kept in ``tables/roc.csv`` beside a record of what it was made from.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from confsim._errors import ConfsimError
from confsim._version import __version__
from confsim.membership import (
    Design,
    Gaussians,
    fit_gaussians,
    lira_scores,
    rmia,
    threshold_scores,
)
from confsim.membership.attacks import FEW_SHADOW_MODELS
from confsim.report.material import Material
from confsim.statistics import Roc, roc
from confsim.store.layout import file_hash

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: Names of the attacks whose curves are drawn, in the order of the legend.
THRESHOLDS = {
    "confidence": "log_odds_max",
    "loss": "log_odds_true",
    "modified_entropy": "modified_entropy",
    "closeness": "distance_excluding_self",
}
SHADOW = ("lira_online", "lira_offline", "rmia_online", "rmia_offline")

_FIELDS = ["attack", "fpr", "tpr", "tpr_low", "tpr_high", "targets"]

#: Points of a curve.
_GRID = 121

#: The share of targets that a band leaves out on either side.
_TAIL = 0.1


def roc_curves(material: Material, folder: Path) -> "pd.DataFrame":
    """Return the curves, made now or read from ``folder`` where nothing has changed.

    Returns
    -------
    DataFrame
        ``attack``, ``fpr`` (false-positive rate allowed), ``tpr`` (mean over targets), ``tpr_low``
        and ``tpr_high`` (10th and 90th percentile over targets), ``targets``.
    """
    import pandas as pd

    table, record = folder / "roc.csv", folder / "roc.json"
    digest = _made_from(material)
    try:
        found = json.loads(record.read_bytes())
        if found == {"made_from": digest, "sha256": file_hash(table)}:
            kept: pd.DataFrame = pd.read_csv(table)
            return kept
    except (OSError, ValueError):
        pass
    parts = [_summarised(*part) for part in _curves(material)]
    curves = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=_FIELDS)
    curves.to_csv(table, index=False, float_format="%.6g")
    record.write_text(json.dumps({"made_from": digest, "sha256": file_hash(table)}) + "\n")
    made: pd.DataFrame = pd.read_csv(table)
    return made


def _made_from(material: Material) -> str:
    hashes = [
        material.run.trial(number).record["files"].get(name, {}).get("sha256")
        for number in material.trials
        for name in ("examples.parquet", "holdout.parquet")
    ]
    text = json.dumps([__version__, material.run.identity_hash, material.trials, hashes])
    return hashlib.sha256(text.encode()).hexdigest()


def _curves(material: Material) -> "Iterator[tuple[str, FloatArray, FloatArray]]":
    """Yield (attack, grid of false-positive rates, true-positive rates of every target)."""
    columns = ["id", "is_member", *dict.fromkeys(THRESHOLDS.values())]
    members, log_odds, grid = [], [], None
    found: dict[str, list[FloatArray]] = {name: [] for name in THRESHOLDS}
    for i, number in enumerate(material.trials):
        table = material.run.trial(number).table("examples", columns)
        ids = table["id"].to_numpy()
        if i == 0:
            first = ids
        elif not np.array_equal(ids, first):
            raise ConfsimError(
                f"trial {number} of {material.run.path} has other examples than the rest"
            )
        member = table["is_member"].to_numpy()
        grid = _grid(int(np.count_nonzero(~member))) if grid is None else grid
        for name, column in THRESHOLDS.items():
            values = table[column].to_numpy()
            curve = _known_roc(threshold_scores(**{column: values})[name], member)
            if curve is not None:
                found[name].append(_on_grid(curve, grid))
        members.append(member)
        log_odds.append(table["log_odds_true"].to_numpy())
    assert grid is not None
    for name, rows in found.items():
        if rows:
            yield name, grid, np.stack(rows)
    matrix = np.stack(log_odds)
    del log_odds
    for name, targets in _shadow_scores(material, matrix, np.stack(members)):
        curves = [_known_roc(s, m) for s, m in zip(targets, members, strict=True)]
        rates = [_on_grid(curve, grid) for curve in curves if curve is not None]
        if rates:
            yield name, grid, np.stack(rates)


def _known_roc(scores: FloatArray, member: BoolArray) -> Roc | None:
    """Return the curve of a target's known scores, ``None`` if they are of one class."""
    known = ~np.isnan(scores)
    if not (member & known).any() or not (~member & known).any():
        return None
    return roc(scores[known], member[known])


def _shadow_scores(
    material: Material, log_odds: FloatArray, member: BoolArray
) -> "Iterator[tuple[str, Iterable[FloatArray]]]":
    """Yield every target's scores by attacks that learn from the other trials, if there are enough.

    The shadow models, their trimming and the choice of variance are those of the tables.
    """
    if len(log_odds) < 3 or np.isnan(log_odds).any():
        return
    kind = material.config.get("design")
    numbers = np.array(material.trials)
    partner = None
    if kind == "balanced":
        if not np.isin(numbers ^ 1, numbers).all():
            return
        partner = np.searchsorted(numbers, numbers ^ 1)
    audited = material.run.manifest["command"] == "confsim-audit"
    trim = audited and kind not in ("balanced", "independent")
    design = Design(member, partner, trim)
    fixed = design.shadow_models < FEW_SHADOW_MODELS
    gaussians = fit_gaussians(log_odds, design)
    for online in (True, False):
        scores = _lira(log_odds, gaussians, online=online, fixed_variance=fixed)
        yield f"lira_{'online' if online else 'offline'}", scores
    del gaussians
    holdout = _holdout(material)
    for online in (True, False):
        yield (
            f"rmia_{'online' if online else 'offline'}",
            rmia(
                log_odds,
                member,
                holdout_log_odds=holdout,
                online=online,
                partner=partner,
                trim=trim,
            ),
        )


def _lira(log_odds: FloatArray, fit: Gaussians, **how: bool) -> Iterator[FloatArray]:
    """Yield the scores of one target after another: all at once take many times the memory."""
    for i in range(len(log_odds)):
        one = slice(i, i + 1)
        part = Gaussians(
            fit.median[:, one], fit.deviation[:, one], fit.models[:, one], fit.residuals[..., one]
        )
        yield lira_scores(log_odds[one], part, **how)[0]


def _holdout(material: Material) -> FloatArray | None:
    if not material.has("holdout.parquet"):
        return None
    rows = [
        material.run.trial(t).table("holdout", ["log_odds_true"])["log_odds_true"].to_numpy()
        for t in material.trials
    ]
    return np.stack(rows) if len(rows[0]) else None


def _grid(non_members: int) -> FloatArray:
    return np.geomspace(1 / max(2, non_members), 1, _GRID)


def _on_grid(curve: Roc, grid: FloatArray) -> FloatArray:
    """Return the largest TPR at an FPR of at most each of ``grid``; no interpolation."""
    strangers, members = curve.non_member_scores, curve.member_scores
    allowed = np.floor(grid * len(strangers) + 1e-9).astype(np.int64)
    beyond = len(strangers) - 1 - allowed
    # The highest score that is one false positive too many: members above it are told.
    barred = np.where(beyond >= 0, strangers[np.maximum(beyond, 0)], -np.inf)
    told = 1 - np.searchsorted(members, barred, side="right") / len(members)
    return np.where(beyond >= 0, told, 1.0)


def _summarised(name: str, grid: FloatArray, rates: FloatArray) -> "pd.DataFrame":
    import pandas as pd

    low, high = np.quantile(rates, (_TAIL, 1 - _TAIL), axis=0)
    frame: pd.DataFrame = pd.DataFrame(
        {
            "attack": name,
            "fpr": grid,
            "tpr": rates.mean(axis=0),
            "tpr_low": low,
            "tpr_high": high,
            "targets": len(rates),
        }
    )
    return frame
