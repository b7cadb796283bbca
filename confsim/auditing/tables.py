"""Tables as people have them: CSV of every usual dialect, Parquet, Feather, DataFrames.

One row an example; or a model and an example, where there are columns ``trial`` and ``id``. Logits,
probabilities and features are columns with a class or a number at the end of their names, or one
column of lists.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confsim import tabular
from confsim._suggest import did_you_mean
from confsim.auditing.columns import COLUMNS, SHARED, SYNONYMS, Given, clean
from confsim.given_files import natural_order

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]

#: Beside the columns of an audit, the model that a row belongs to.
TRIAL = "trial"

# Logarithms of probabilities are logits, too: their softmax is the probabilities.
_PROBABILITY = r"p|probabilit(?:y|ies)|probs?|proba"
_LOGIT = rf"logits?|log_?(?:{_PROBABILITY})"
_WIDE = re.compile(rf"({_LOGIT}|{_PROBABILITY}|features?)_?(\d+)", re.IGNORECASE)
_WIDE_BY_NAME = re.compile(rf"({_LOGIT}|{_PROBABILITY})_(.+)", re.IGNORECASE)
_WIDE_NAMES = {"l": "logits", "p": "probabilities", "f": "features"}
_SINGULAR = {"logit": "logits", "probability": "probabilities", "prob": "probabilities"}
_NAMELESS = re.compile(r"(unnamed: \d+|index|level_\d+|__index_level_\d+__|)", re.IGNORECASE)


def read_parquet(path: Path, limit: int | None = None) -> Given:
    """Read a Parquet file, nullable types and lists included; at most ``limit`` bytes unpacked."""
    return from_frame(tabular.parquet_frame(path, limit))


def read_feather(path: Path, limit: int | None = None) -> Given:
    """Read a Feather (Arrow) file that unpacks to at most ``limit`` bytes."""
    return from_frame(tabular.feather_frame(path, limit))


def read_csv(path: Path, limit: int | None = None) -> Given:
    """Read a table of text: separators, decimal signs and encodings as spreadsheets write them."""
    found = tabular.csv_frame(path, known=_is_known, missing=_missing, limit=limit)
    if found.separator == ",":
        for name in found.table.columns:
            column = found.table[name]
            if column.dtype.kind not in "biuf" and _canonical(str(name)) not in _TEXT_COLUMNS:
                tabular.check_decimal_commas(str(name), map(str, column))
    given = from_frame(found.table)
    given.notes[:0] = found.notes
    return given


def _missing(name: str) -> tuple[str, ...]:
    """Return what stands for a missing value: in columns that may be text, nothing else does."""
    text = _canonical(name) in (*_TEXT_COLUMNS, "is_member")
    return ("",) if text else tabular.MISSING


_TEXT_COLUMNS = ("label", "id", "duplicate_group", "group", "predicted", TRIAL)


# ---- columns -----------------------------------------------------------------------------------


def from_frame(table: "pd.DataFrame") -> Given:
    """Return the columns of a table."""
    given = Given()
    table = _without_nameless(_with_index(table), given.notes)
    if table.shape[0] == 0:
        raise ValueError("the table has no rows")
    names = [str(name) for name in table.columns]
    wide: dict[str, dict[int | str, str]] = {}
    found: dict[str, Array] = {}
    for position, name in enumerate(names):
        target, key = _target(name)
        if key is not None:
            parts = wide.setdefault(target, {})
            if key in parts:
                other = names[int(parts[key])]
                raise ValueError(f"columns {other!r} and {name!r} are the same")
            parts[key] = str(position)
        elif target in found:
            raise ValueError(f"column {target} is there twice")
        else:
            found[target] = _values(target, table.iloc[:, position])
    for target, parts in wide.items():
        if target in found:
            raise ValueError(f"{target} is there as one column and as several")
        keys = _ordered(parts)
        columns = [_values(target, table.iloc[:, int(parts[key])]) for key in keys]
        found[target] = np.column_stack(columns)
        _note_classes(given, target, keys)
    trial = found.pop(TRIAL, None)
    if trial is not None:
        found, given.models = _by_trial(found, trial)
    given.columns = found
    return given


def _with_index(table: "pd.DataFrame") -> "pd.DataFrame":
    """Make columns of an index whose levels have names of ours."""
    levels = [
        name
        for name in table.index.names
        if name is not None and str(name) not in table and _is_known(str(name))
    ]
    return table.reset_index(levels) if levels else table


def _without_nameless(table: "pd.DataFrame", notes: list[str]) -> "pd.DataFrame":
    """Leave out row numbers and what trailing separators leave; refuse others without a name."""
    kept = []
    for position, name in enumerate(map(str, table.columns)):
        if not _NAMELESS.fullmatch(name.strip()):
            kept.append(position)
            continue
        values = table.iloc[:, position]
        if values.isna().all() or name.startswith("__index"):  # an index that nobody named
            continue
        numbers = values.to_numpy()
        if numbers.dtype.kind not in "iu" or len(np.unique(numbers)) < len(numbers):
            raise ValueError(f"column {position + 1} is called {name!r}: give it a name of ours")
        notes.append(f"column {position + 1} ({name}), which numbers the rows, is left out")
    named: pd.DataFrame = table.iloc[:, kept]
    return named


def _canonical(name: str) -> str:
    """Return a column's name as we write it: spaces, hyphens and capitals do not matter."""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    plain = re.sub(r"[\s\-.]+", "_", plain).casefold()
    return _SINGULAR.get(plain, plain)


def _is_known(name: str) -> bool:
    plain = _canonical(name)
    return plain in COLUMNS or plain == TRIAL or _WIDE.fullmatch(plain) is not None


def _target(name: str) -> tuple[str, int | str | None]:
    """Return the column that a table's column belongs to, and its class or number there."""
    plain = _canonical(name)
    if plain in COLUMNS or plain == TRIAL:
        return plain, None
    match = _WIDE.fullmatch(plain)
    if match:
        return _WIDE_NAMES[plain[0]], int(match[2])
    match = _WIDE_BY_NAME.fullmatch(name.strip())
    if match:
        return _WIDE_NAMES[match[1][0].casefold()], match[2]
    hint = did_you_mean(name, [*COLUMNS, TRIAL], SYNONYMS) or ";"
    raise ValueError(
        f"unknown column {name!r}{hint} columns are {', '.join(COLUMNS)}, {TRIAL} and, with a "
        "class or number at the end, logit_, probability_, feature_"
    )


def _ordered(parts: Mapping[int | str, str]) -> list[int | str]:
    """Order the columns of classes: by number, or by name as scikit-learn orders its classes."""
    if all(isinstance(key, int) for key in parts):
        return sorted(parts)
    if any(isinstance(key, int) for key in parts):
        raise ValueError(f"columns of classes are partly numbered, partly named: {list(parts)}")
    return sorted(parts)


def _note_classes(given: Given, target: str, keys: Sequence[int | str]) -> None:
    if target == "features":
        return
    if given.classes is not None:
        raise ValueError("logits and probabilities must not be given together: one is enough")
    if list(keys) != [1]:  # one column for class 1 speaks for class 0, too
        given.classes = keys  # type: ignore[assignment]


def _values(name: str, column: "pd.Series[Any]") -> Array:
    """Return a column of a table: nullable, categorical and Arrow types as what they stand for."""
    kind = column.dtype
    if getattr(kind, "kind", "O") in "iub" and column.isna().any():
        values: Array = column.astype(object).to_numpy()
    else:
        values = column.to_numpy()
    if values.dtype.kind in "fO" and name in (*SHARED, "is_member", "predicted", TRIAL):
        _check_present(name, column)
    return clean(name if name != TRIAL else "id", values)


def _check_present(name: str, column: "pd.Series[Any]") -> None:
    missing = column.isna().to_numpy()
    if missing.any() and name not in ("duplicate_group", "group"):
        raise ValueError(f"{name} must not be missing, but row {int(np.argmax(missing))} is")


# ---- several models ----------------------------------------------------------------------------


def _by_trial(found: dict[str, Array], trial: Array) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Give columns a leading axis of models; every model must have the same ids."""
    if "id" not in found:
        raise ValueError("a table with a column trial needs a column id")
    names = (
        natural_order(set(trial.tolist())) if trial.dtype.kind == "U" else np.unique(trial).tolist()
    )
    number = {name: model for model, name in enumerate(names)}
    models = np.array([number[name] for name in trial.tolist()])
    counts = np.bincount(models)
    if counts.min() != counts.max():
        raise ValueError(
            f"trial {names[int(np.argmin(counts))]} has {counts.min()} rows and trial "
            f"{names[int(np.argmax(counts))]} has {counts.max()}: each must have every id once"
        )
    order = np.lexsort((found["id"], models))
    shaped = {
        name: values[order].reshape(len(names), counts[0], *values.shape[1:])
        for name, values in found.items()
    }
    for name in ("id", "label", "duplicate_group", "group"):
        if name in shaped:
            values, first = shaped[name], shaped[name][0]
            both_missing = (values != values) & (first != first)
            same = ((values == first) | both_missing).all(axis=1)
            if not same.all():
                raise ValueError(
                    f"{name} of trial {names[int(np.argmin(same))]} differs from the rest"
                )
            shaped[name] = shaped[name][0]
    return shaped, tuple(str(name) for name in names)
