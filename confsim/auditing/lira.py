"""Folders in the layouts of published LiRA code: one folder per model, with who was kept.

``MODEL/keep.npy`` beside ``MODEL/scores/*.npy`` or ``MODEL/logits/*.npy`` (one file a checkpoint,
of which the last counts), or beside ``MODEL/scores.npy`` or ``MODEL/logits.npy`` as a PyTorch port
writes them. Models are taken in natural order: trial 2 is folder 2, not folder 10.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim._errors import check_finite
from confsim.auditing.classes import Classes
from confsim.auditing.columns import Given, clean
from confsim.given_files import load_npy, natural_order
from confsim.scores import check_logits

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

#: Added to probabilities before logarithms, as in the published code.
TINY_PROBABILITY = 1e-45

_KINDS = ("scores", "logits")
_LABELS = ("labels.npy", "y_train.npy")


def find_models(path: Path) -> list[Path]:
    """Return the folders of models in a folder, in natural order; none if it is of another kind."""
    folders = {p.name: p for p in path.iterdir() if p.is_dir()}
    models = [folders[name] for name in natural_order(folders) if _is_model(folders[name])]
    return models if any((model / "keep.npy").exists() for model in models) else []


def _is_model(folder: Path) -> bool:
    return (folder / "keep.npy").exists() or any(_outputs_of(folder, kind) for kind in _KINDS)


def _outputs_of(model: Path, kind: str) -> Path | None:
    """Return a model's file of scores or logits: the last checkpoint's."""
    found = {p.name: p for p in (model / kind).glob("*.npy")}
    if found:
        return found[natural_order(found)[-1]]
    single = model / f"{kind}.npy"
    return single if single.exists() else None


def read_lira_folder(path: Path) -> Given:
    """Return membership and log-odds, or probabilities, of every model in a folder.

    Raises
    ------
    ValueError
        If a file is missing, damaged or does not fit the others: the message names it.
    """
    models = find_models(path)
    for model in models:
        if not (model / "keep.npy").exists():
            raise ValueError(f"{model} has no keep.npy, which says what it was trained on")
    kind = _kind_of_outputs(models)
    given = Given(models=tuple(model.name for model in models))
    outputs = [file for m in models if (file := _outputs_of(m, kind))]
    given.notes += _notes_on_folders(path, models, kind, outputs)
    values = _load_all(kind, outputs)
    keep = _load_keep(models, values.shape[1], given.notes)
    label = _load_labels(path, values.shape[1], given.notes)
    given.columns = {"is_member": keep} | ({} if label is None else {"label": label})
    if kind == "scores":
        given.columns["log_odds_true"] = values
        return given
    if label is None:
        raise ValueError(f"{path} holds logits but no {' or '.join(_LABELS)}")
    check_logits(f"{path}: logits", values)
    given.columns |= _from_logits(values, _codes(path, label, values.shape[-1]))
    return given


def _notes_on_folders(
    path: Path, models: Sequence[Path], kind: str, outputs: Sequence[Path]
) -> list[str]:
    """Say which folders and outputs were not read, and whether the models' checkpoints differ."""
    notes = []
    others = natural_order(
        {p.name for p in path.iterdir() if p.is_dir()} - {m.name for m in models}
    )
    if others:
        notes.append(f"folders without keep.npy and outputs are left out: {', '.join(others[:5])}")
    unread = [
        model.name
        for model in models
        if any(_outputs_of(model, other) for other in _KINDS if other != kind)
    ]
    if unread:
        other = _KINDS[1 - _KINDS.index(kind)]
        notes.append(f"{kind} were read; the {other} beside them, as in {unread[0]}, were not")
    last = natural_order({file.name for file in outputs})
    if len(last) > 1:
        notes.append(f"the models' last checkpoints differ: {', '.join(last[:5])}")
    return notes


def _kind_of_outputs(models: Sequence[Path]) -> str:
    """Return what every model has: scores, else logits."""
    lacking = {}
    for kind in _KINDS:
        missing = [model for model in models if _outputs_of(model, kind) is None]
        if not missing:
            return kind
        lacking[kind] = missing
    for model in lacking["scores"]:
        if model in lacking["logits"]:
            raise ValueError(
                f"{model} has neither scores nor logits: none of scores/*.npy, scores.npy, "
                "logits/*.npy, logits.npy"
            )
    raise ValueError(
        f"{lacking['scores'][0]} has logits but no scores, {lacking['logits'][0]} scores but no "
        "logits: all models must have the same"
    )


def _load_all(kind: str, files: Sequence[Path]) -> Array:
    """Stack the models' arrays, which must be numbers of one shape."""
    depths = {"scores": (1, 2), "logits": (2, 3, 4)}[kind]
    arrays = []
    for file in files:
        array = load_npy(file)
        if array.dtype.kind not in "iuf":
            raise ValueError(f"{file} must hold numbers, not {array.dtype}")
        if array.ndim not in depths or 0 in array.shape:
            wanted = "(examples[, views])" if kind == "scores" else "(examples[, ...], classes)"
            raise ValueError(f"{file} must have shape {wanted}, not {array.shape}")
        check_finite(str(file), array)
        arrays.append(array)
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"{file} has shape {array.shape}, but {files[0]} has {arrays[0].shape}"
            )
    return np.stack(arrays)


def _load_keep(models: Sequence[Path], examples: int, notes: list[str]) -> Array:
    rows: list[Array] = []
    length = 0
    for model in models:
        file = model / "keep.npy"
        keep = load_npy(file)
        if keep.ndim != 1 or keep.dtype.kind not in "biuf":
            raise ValueError(
                f"{file} must be one 0 or 1 per example, not {keep.dtype} {keep.shape}"
            )
        if not np.isin(keep, (0, 1)).all():
            row = int(np.argmin(np.isin(keep, (0, 1))))
            raise ValueError(f"{file} must be 0 or 1, but row {row} is {keep[row]}")
        if len(keep) < examples:
            raise ValueError(f"{file} has {len(keep)} rows, but there are {examples} outputs")
        keep = keep.astype(bool)
        if keep[:examples].all() or not keep[:examples].any():
            one = "non-member" if keep[0] else "member"
            raise ValueError(f"{file} holds no {one}: nothing can be told apart")
        length = length or len(keep)
        if len(keep) != length:
            raise ValueError(
                f"{file} has {len(keep)} rows, but {models[0] / 'keep.npy'} has {length}"
            )
        rows.append(keep[:examples])
    if length != examples:
        notes.append(
            f"keep.npy has {length} rows; the {examples} that have outputs were used, as "
            "the published code does"
        )
    return np.stack(rows)


def _load_labels(path: Path, examples: int, notes: list[str]) -> Array | None:
    files = [path / name for name in _LABELS if (path / name).exists()]
    if not files:
        return None
    every = [_labels_in(file, examples) for file in files]
    label = every[0][:examples]
    if not all(np.array_equal(other[:examples], label) for other in every[1:]):
        raise ValueError(f"{files[0]} and {files[1]} differ: remove the one that is not meant")
    if len(every[0]) > examples:
        notes.append(f"{files[0].name} has {len(every[0])} rows; the first {examples} were used")
    return label


def _labels_in(file: Path, examples: int) -> Array:
    """Return the labels in a file, which has one for each example that has outputs."""
    label = clean("label", load_npy(file))
    if label.ndim == 2 and label.shape[1] == 1:
        label = label[:, 0]
    if label.ndim != 1:
        raise ValueError(f"{file} must hold one label per example, not shape {label.shape}")
    if len(label) < examples:
        raise ValueError(f"{file} has {len(label)} rows, but there are {examples} outputs")
    return label


def _codes(path: Path, label: Array, classes: int) -> NDArray[np.int64]:
    """Return the column of logits that belongs to each label."""
    file = next(path / name for name in _LABELS if (path / name).exists())
    try:
        return Classes.of(label, classes).columns("label", label)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file}: {error}") from None


def _from_logits(logits: Array, at: NDArray[np.int64]) -> dict[str, Array]:
    """Return what logits (model, example[, pass][, view], class) give: averaged over passes."""
    probabilities = _softmax(logits)
    if logits.ndim == 5:
        probabilities = probabilities.mean(axis=2)
    if probabilities.ndim == 3:
        return {"probabilities": probabilities}
    views = [_log_odds(probabilities[:, :, view], at) for view in range(probabilities.shape[2])]
    return {"probabilities": probabilities[:, :, 0], "log_odds_true": np.stack(views, axis=2)}


def _softmax(logits: Array) -> FloatArray:
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    found: FloatArray = shifted / shifted.sum(axis=-1, keepdims=True)
    return found


def _log_odds(probabilities: FloatArray, at: NDArray[np.int64]) -> FloatArray:
    """Return log p_y - log sum_{i != y} p_i of (models, examples, classes), as LiRA's script."""
    index = at[None, :, None]
    true = np.take_along_axis(probabilities, index, axis=2)[..., 0]
    others = probabilities.copy()
    np.put_along_axis(others, np.broadcast_to(index, (*true.shape, 1)), 0.0, axis=2)
    found: FloatArray = np.log(true + TINY_PROBABILITY)
    found -= np.log(others.sum(axis=2) + TINY_PROBABILITY)
    return found
