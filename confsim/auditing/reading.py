"""Reading what is given to an audit: files and folders become arrays by column name.

Nothing is checked here beyond what reading needs; see :mod:`confsim.auditing.outputs`.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from confsim.auditing.outputs import TINY_PROBABILITY

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

_WIDE = re.compile(r"(logits?|probabilit(?:y|ies)|features?)_?(\d+)")
_WIDE_NAMES = {"l": "logits", "p": "probabilities", "f": "features"}


def read(data: str | os.PathLike[str] | Mapping[str, Any] | None) -> dict[str, Array]:
    """Return arrays by column name."""
    if data is None:
        return {}
    if isinstance(data, Mapping):
        return {name: np.asarray(value) for name, value in data.items()}
    path = Path(data)
    try:
        if path.is_dir():
            return _read_folder(path)
        if path.suffix == ".npz":
            return _load_archive(path)
        if path.suffix in (".parquet", ".csv"):
            return _read_table(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    raise ValueError(f"{path} must be an .npz, .parquet or .csv file, or a folder")


def _read_folder(path: Path) -> dict[str, Array]:
    models = sorted(p.parent for p in path.glob("*/keep.npy"))
    if models:
        return _read_lira_layout(path, models)
    files = sorted(path.glob("*.npy"))
    if not files:
        raise ValueError(f"{path} holds no .npy files, and no */keep.npy of published LiRA code")
    return {file.stem: _load(file) for file in files}


def _load_archive(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (ValueError, TypeError, EOFError, BadZipFile):
        raise ValueError(f"{path} cannot be read: it is no .npz file of plain arrays") from None


def _load(path: Path) -> Array:
    try:
        found: Array = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as .npy: {error}") from None
    return found


def _read_lira_layout(path: Path, models: Sequence[Path]) -> dict[str, Array]:
    """Read ``MODEL/keep.npy`` with the last of ``MODEL/scores/*.npy`` or ``MODEL/logits/*.npy``."""
    keep = np.stack([_load(model / "keep.npy") for model in models])
    kinds = {
        kind: [sorted(model.glob(f"{kind}/*.npy")) for model in models]
        for kind in ("scores", "logits")
    }
    for kind, files in kinds.items():
        if all(files):
            values = _stack(kind, [_load(found[-1]) for found in files], models)
            break
    else:
        raise ValueError(f"{path}: some model has neither scores/*.npy nor logits/*.npy")
    labels = {}
    for name in ("labels.npy", "y_train.npy"):
        if (path / name).is_file():
            labels = {"label": _load(path / name)[: keep.shape[1]]}
            break
    if kind == "scores":
        return {"is_member": keep, "log_odds_true": values, **labels}
    if not labels:
        raise ValueError(f"{path} holds logits but no labels.npy or y_train.npy")
    # (model, example[, pass][, augmentation], class): probabilities are averaged over passes.
    probabilities = _softmax(values)
    if values.ndim == 5:
        probabilities = probabilities.mean(axis=2)
    if probabilities.ndim == 3:
        return {"is_member": keep, "probabilities": probabilities, **labels}
    views = [
        _log_odds(probabilities[:, :, view], labels["label"])
        for view in range(probabilities.shape[2])
    ]
    plain = {"is_member": keep, "probabilities": probabilities[:, :, 0], **labels}
    return plain | {"log_odds_true": np.stack(views, axis=2)}


def _stack(kind: str, arrays: Sequence[Array], models: Sequence[Path]) -> Array:
    for array, model in zip(arrays, models, strict=True):
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"{kind} of {model} have shape {array.shape}, those of {models[0]} "
                f"{arrays[0].shape}"
            )
    return np.stack(arrays)


def _read_table(path: Path) -> dict[str, Array]:
    """Read a table: one row an example, or a model and an example where it has a column trial."""
    import pandas as pd

    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except ValueError as error:  # also what pyarrow and pandas raise
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    wide: dict[str, list[tuple[int, str]]] = {}
    found = {}
    for name in map(str, table.columns):
        match = _WIDE.fullmatch(name)
        if match:
            wide.setdefault(_WIDE_NAMES[name[0]], []).append((int(match[2]), name))
        else:
            found[name] = table[name].to_numpy()
    for name, parts in wide.items():
        found[name] = table[[column for _, column in sorted(parts)]].to_numpy()
    trial = found.pop("trial", None)
    return found if trial is None else _by_trial(found, trial)


def _by_trial(found: dict[str, Array], trial: Array) -> dict[str, Array]:
    """Give columns a leading axis of models; every model must have the same ids."""
    if "id" not in found:
        raise ValueError("a table with a column trial needs a column id")
    order = np.lexsort((found["id"], trial))
    models, counts = np.unique(trial, return_counts=True)
    if counts.min() != counts.max():
        raise ValueError(
            f"trial {models[np.argmin(counts)]} has {counts.min()} rows and trial "
            f"{models[np.argmax(counts)]} has {counts.max()}: each must have every id once"
        )
    shaped = {
        name: values[order].reshape(len(models), counts[0], *values.shape[1:])
        for name, values in found.items()
    }
    for name in ("id", "label", "duplicate_group"):
        if name in shaped:
            same = (shaped[name] == shaped[name][0]).all(axis=1)
            if not same.all():
                raise ValueError(f"{name} of trial {models[np.argmin(same)]} differs from the rest")
            shaped[name] = shaped[name][0]
    return shaped


def _softmax(logits: Array) -> FloatArray:
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    found: FloatArray = shifted / shifted.sum(axis=-1, keepdims=True)
    return found


def _log_odds(probabilities: FloatArray, labels: Array) -> FloatArray:
    """Return log p_y - log sum_{i != y} p_i of (models, examples, classes), as LiRA's script."""
    at = labels.astype(np.int64)[None, :, None]
    true = np.take_along_axis(probabilities, at, axis=2)[..., 0]
    others = probabilities.copy()
    np.put_along_axis(others, np.broadcast_to(at, (*true.shape, 1)), 0.0, axis=2)
    found: FloatArray = np.log(true + TINY_PROBABILITY)
    found -= np.log(others.sum(axis=2) + TINY_PROBABILITY)
    return found
