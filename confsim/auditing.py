"""``confsim.audit``: a user's own model, from any framework, as a run directory like any other.

What is given is checked, put behind the seam that the pipelines use (an ``Experiment``, one trial a
model) and published through the store. Nothing is trained here; what is missing disables, by name,
the analyses that need it.
"""

import contextlib
import hashlib
import math
import os
import re
import secrets
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from warnings import warn
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from confsim._errors import (
    ConfsimWarning,
    check_choice,
    check_finite,
    check_integer,
    check_number,
)
from confsim._kernels import resolve_threads
from confsim.confidence import extreme_count, extremes, softmax_columns
from confsim.experiment import (
    Coded,
    Columns,
    Context,
    Estimate,
    Experiment,
    RunData,
    Session,
    TrialResult,
)
from confsim.joint import relate
from confsim.neighbors import nearest_training

if TYPE_CHECKING:
    from confsim.store import Run

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

#: What an audit takes: an array of one model, or with a leading axis of models.
COLUMNS = {
    "is_member": "whether the example was trained on: 0 or 1",
    "label": "true class, from 0",
    "logits": "one number a class",
    "probabilities": "one number a class, adding up to 1",
    "confidence": "largest probability, in [0, 1]",
    "log_odds_true": "log p - log(1 - p) of the true class's probability p",
    "predicted": "predicted class",
    "features": "what similarity is measured by: embeddings, one row an example",
    "distance": "to the nearest training example other than itself, instead of features",
    "id": "the examples' numbers",
    "duplicate_group": "examples with the same number are duplicates of each other",
    "holdout_label": "true class of examples that no model was trained on",
    "holdout_logits": "their logits",
    "holdout_probabilities": "their probabilities",
    "holdout_log_odds_true": "their log-odds, instead of logits and labels",
}

DESIGNS = ("unknown", "independent", "balanced")

#: Probabilities that went through float16 or a text file do not add up to 1 exactly.
SUM_TOLERANCE = 1e-3

#: Added to probabilities before logarithms, as in the published code of LiRA.
TINY_PROBABILITY = 1e-45

#: Upper end of the joint histogram's log-odds axis, as in the deep pipeline.
LOG_ODDS_LIMIT = 30.0

_WIDE = re.compile(r"(logits?|probabilit(?:y|ies)|features?)_?(\d+)")
_WIDE_NAMES = {"l": "logits", "p": "probabilities", "f": "features"}
_PER_CLASS = ("logits", "probabilities", "features", "holdout_logits", "holdout_probabilities")


def audit(
    data: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *,
    design: str = "unknown",
    percent: float = 5.0,
    same_class: bool = False,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    n_threads: int | None = None,
    **columns: Any,
) -> "Run":
    """Make a run directory from the outputs of models that were trained elsewhere.

    Parameters
    ----------
    data : path or mapping, optional
        An ``.npz``, Parquet or CSV file with named columns, a folder of ``.npy`` files, a folder in
        the layout of published LiRA code, or a mapping of arrays. Instead, or in addition, columns
        are given as keywords.
    design : {"unknown", "independent", "balanced"}
        How the models' training sets were drawn. ``"independent"``: each example's membership in
        each model by a separate draw. ``"balanced"``: models 2k and 2k + 1 are complements.
        ``"unknown"``: shadow models are trimmed so that counts cannot tell members from others.
    percent : float
        Size of either extreme, in percent of the examples, in (0, 50].
    same_class : bool
        Whether only training examples of the same class count as neighbours.
    seed : int
        Of whatever analyses draw at random.
    out : path, optional
        Run directory; default: ``runs/confsim-audit-<hash>``.
    overwrite : bool
        Remove a run that is there first.
    n_threads : int, optional
    **columns
        ``is_member`` is needed; ``label``, ``logits``, ``probabilities``, ``confidence``,
        ``log_odds_true``, ``predicted``, ``features``, ``distance``, ``id``, ``duplicate_group``
        and, of examples that no model was trained on, ``holdout_label`` with ``holdout_logits`` or
        ``holdout_probabilities``, or ``holdout_log_odds_true``. Shapes are (examples, ...) for one
        model and (models, examples, ...) for several; ``label``, ``id``, ``duplicate_group`` and
        ``holdout_label`` are always (examples,).

    Returns
    -------
    Run

    Raises
    ------
    ValueError, TypeError
        If something is wrong with the data: the message names the column, and the row.

    Warns
    -----
    ConfsimWarning
        If probabilities of exactly 0 had to be replaced by 1e-45.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> import confsim
    >>> from confsim.membership import membership_tables
    >>> rng = np.random.default_rng(0)
    >>> member = rng.random(400) < 0.5
    >>> label = rng.integers(0, 3, 400)
    >>> logits = rng.normal(size=(400, 3)) + (1 + member)[:, None] * np.eye(3)[label]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = confsim.audit(is_member=member, label=label, logits=logits, out=folder + "/run")
    ...     attacks = membership_tables(run)["attacks"]
    >>> sorted(attacks[attacks["target"] == "0"]["attack"])
    ['confidence', 'correctness', 'entropy', 'loss', 'modified_entropy']
    """
    from confsim.store import check_target, create, default_path

    threads = resolve_threads(n_threads)
    given = _read(data) | {name: np.asarray(value) for name, value in columns.items()}
    experiment = AuditExperiment.of(
        Outputs.of(given, threads), design=design, percent=percent, same_class=same_class, seed=seed
    )
    path = default_path(experiment) if out is None else Path(out)
    check_target(path, experiment, overwrite=overwrite, mix_versions=False)
    experiment.check(experiment.models)
    owner = f"{socket.gethostname().split('.')[0]}-{os.getpid()}-{secrets.token_hex(4)}"
    store = create(
        path, experiment, experiment.models, overwrite=overwrite, owner=owner, keep="all"
    )
    store.publish_run_data(experiment.run_data())
    from confsim.store import open_run

    run = open_run(path)
    missing = sorted(set(range(experiment.models)) - set(run.trials))
    with contextlib.closing(experiment.open(threads)) as session:
        for result in session.run(missing, _Quiet()):
            store.publish(result)
    return run


class _Quiet:
    """A context for trials that take no time."""

    def progress(self, trial: int, fraction: float) -> None:
        """Report nothing."""

    def should_stop(self) -> bool:
        """Go on."""
        return False

    def scratch(self, trial: int) -> Path:
        """Offer nothing: there are no checkpoints."""
        raise AssertionError("an audit has no checkpoints")


# ---- reading -----------------------------------------------------------------------------------


def _read(data: str | os.PathLike[str] | Mapping[str, Any] | None) -> dict[str, Array]:
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


# ---- checking ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Outputs:
    """What models gave, checked: everything with a leading axis of models.

    Attributes
    ----------
    is_member : ndarray of bool, (models, examples)
    ids, labels, groups : ndarray of int64, (examples,)
        Labels -1 where there are none; groups are numbers of duplicates.
    scores : dict of ndarray, (models, examples)
        ``predicted`` (int64, -1 unknown), ``softmax``, ``log_odds_max``, ``log_odds_true``,
        ``loss``, ``entropy``, ``modified_entropy``: NaN where unknown.
    augmented : ndarray or None, (models, examples, augmentations)
        Log-odds of the true class.
    features, distance : ndarray or None
        (models or 1, examples, d) and (models, examples).
    holdout_labels : ndarray of int64
    holdout : ndarray or None, (models, holdout examples)
        Log-odds of the true class.
    classes : int
        2 where unknown.
    fingerprint : str
        Hash of all that was given.
    """

    is_member: NDArray[np.bool_]
    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    scores: dict[str, Array]
    augmented: FloatArray | None
    features: Array | None
    distance: FloatArray | None
    holdout_labels: NDArray[np.int64]
    holdout: FloatArray | None
    classes: int
    fingerprint: str

    @classmethod
    def of(cls, given: Mapping[str, Array], threads: int) -> "Outputs":
        """Check what was given, and work out what follows from it."""
        unknown = sorted(set(given) - set(COLUMNS))
        if unknown:
            raise ValueError(
                f"unknown column {unknown[0]!r}; columns are {', '.join(COLUMNS)}"
                + (" (in a table also trial)" if unknown[0] == "trial" else "")
            )
        if "is_member" not in given:
            raise ValueError("is_member is missing: nothing can be audited without it")
        member = _membership(given["is_member"])
        many = given["is_member"].ndim == 2
        shaped = {name: _shaped(name, given[name], member.shape, many) for name in given}
        labels = _integers("label", shaped.get("label"), member.shape[1], -1)
        scores, augmented, classes = _scores(shaped, labels, member.shape, threads)
        holdout_labels, holdout = _holdout(shaped, member.shape[0], threads)
        features = shaped.get("features")
        if features is not None:
            for values in features:
                check_finite("features", values)
        distance = shaped.get("distance")
        if features is not None and distance is not None:
            raise ValueError("features and distance must not both be given")
        return cls(
            member,
            _ids(shaped.get("id"), member.shape[1]),
            labels,
            _groups(shaped.get("duplicate_group"), member.shape[1]),
            scores,
            augmented,
            features,
            None if distance is None else _distances(distance),
            holdout_labels,
            holdout,
            classes,
            _fingerprint(given),
        )


def _membership(values: Array) -> NDArray[np.bool_]:
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(
            f"is_member must have shape (examples,) or (models, examples), not {values.shape}"
        )
    if values.dtype != np.bool_:
        if values.dtype.kind not in "iuf":
            raise TypeError(f"is_member must be 0 or 1, not {values.dtype}")
        wrong = ~np.isin(values, (0, 1))
        if wrong.any():
            row = int(np.argmax(wrong.reshape(-1, values.shape[-1]).any(axis=0)))
            raise ValueError(f"is_member must be 0 or 1, but row {row} is {values[..., row]}")
    member = np.atleast_2d(values.astype(np.bool_))
    for model, row in enumerate(member):
        if row.all() or not row.any():
            kind = "non-member" if row.all() else "member"
            raise ValueError(f"is_member must hold both kinds, but model {model} has no {kind}")
    return member


def _shaped(name: str, values: Array, shape: tuple[int, ...], many: bool) -> Array:
    """Give a column its leading axis of models, or say what is wrong with its shape."""
    models, examples = shape
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be numbers, not {values.dtype}")
    if name in ("label", "id", "duplicate_group", "holdout_label"):
        if values.ndim != 1 or (not name.startswith("holdout") and len(values) != examples):
            raise ValueError(
                f"{name} must have shape ({examples},) as is_member, not {values.shape}"
            )
        return values
    inner = 1 if name in _PER_CLASS else 0
    shared = name == "features" and values.ndim == 2 and len(values) == examples
    if not many or shared:
        values = values[None]
        models = 1
    depths = (2 + inner, 3) if name == "log_odds_true" and many else (2 + inner,)
    length = None if name.startswith("holdout") else examples
    fits = values.ndim in depths and len(values) == models
    if not fits or (length is not None and values.shape[1] != length):
        wanted = "(models, examples" if many else "(examples"
        raise ValueError(
            f"{name} must have shape {wanted}{', classes' if inner else ''}) with the models and "
            f"examples of is_member, {tuple(shape) if many else (examples,)}, not "
            f"{values.shape if many else values.shape[1:]}"
        )
    return values


def _integers(name: str, values: Array | None, count: int, default: int) -> NDArray[np.int64]:
    if values is None:
        return np.full(count, default, dtype=np.int64)
    if values.dtype.kind == "f":
        check_finite(name, values)
        if not np.all(values == np.floor(values)):
            row = int(np.argmax(values != np.floor(values)))
            raise ValueError(f"{name} must be whole numbers, but row {row} is {values[row]}")
    found = values.astype(np.int64)
    if (found < 0).any():
        row = int(np.argmax(found < 0))
        raise ValueError(f"{name} must be at least 0, but row {row} is {found[row]}")
    return found


def _ids(values: Array | None, count: int) -> NDArray[np.int64]:
    if values is None:
        return np.arange(count, dtype=np.int64)
    found = _integers("id", values, count, 0)
    if len(np.unique(found)) < count:
        raise ValueError("id must not hold a number twice")
    return found


def _groups(values: Array | None, count: int) -> NDArray[np.int64]:
    if values is None:
        return np.arange(count, dtype=np.int64)
    return _integers("duplicate_group", values, count, 0)


def _distances(values: Array) -> FloatArray:
    found = np.ascontiguousarray(values, dtype=np.float64)
    wrong = np.isinf(found) | (found < 0)
    if wrong.any():
        row = int(np.argmax(wrong.any(axis=0)))
        raise ValueError(f"distance must be at least 0 and finite, but row {row} is not")
    if np.isnan(found).all():
        raise ValueError("distance must not be NaN throughout: leave it out")
    return found


def _scores(
    shaped: Mapping[str, Array], labels: NDArray[np.int64], shape: tuple[int, ...], threads: int
) -> tuple[dict[str, Array], FloatArray | None, int]:
    """Return score columns, log-odds of augmentations, and the number of classes."""
    outputs = [n for n in ("logits", "probabilities", "confidence") if n in shaped]
    if len(outputs) > 1:
        raise ValueError(f"{' and '.join(outputs)} must not be given together: one is enough")
    if not outputs and "log_odds_true" not in shaped:
        raise ValueError("one of logits, probabilities, confidence, log_odds_true is needed")
    known = labels if (labels >= 0).all() else None
    scores: dict[str, Array] = {
        name: np.full(shape, np.nan)
        for name in (
            "softmax",
            "log_odds_max",
            "log_odds_true",
            "loss",
            "entropy",
            "modified_entropy",
        )
    }
    scores["predicted"] = np.full(shape, -1, dtype=np.int64)
    classes = max(2, int(labels.max(initial=1)) + 1)
    if "confidence" in shaped:
        scores |= _from_confidence(shaped["confidence"])
    elif outputs:
        logits = _logits(outputs[0], shaped[outputs[0]])
        classes = logits.shape[2]
        _check_labels("label", known, classes)
        for model, rows in enumerate(logits):
            for name, column in softmax_columns(rows, known, n_threads=threads).items():
                scores[name][model] = column
    if "predicted" in shaped:
        for model, values in enumerate(shaped["predicted"]):
            scores["predicted"][model] = _integers("predicted", values, shape[1], -1)
    augmented = None
    if "log_odds_true" in shaped:
        given = shaped["log_odds_true"].astype(np.float64)
        for values in given:
            check_finite("log_odds_true", values)
        if given.ndim == 3:
            augmented, given = (given if given.shape[2] > 1 else None), given[..., 0]
        given = np.ascontiguousarray(given)
        scores["log_odds_true"] = given
        scores["loss"] = np.logaddexp(0.0, -given)
    return scores, augmented, classes


def _from_confidence(values: Array) -> dict[str, Array]:
    confidence = np.ascontiguousarray(values, dtype=np.float64)
    wrong = ~((confidence >= 0) & (confidence <= 1))
    if wrong.any():
        model, row = np.argwhere(wrong)[0]
        raise ValueError(f"confidence must be in [0, 1], but row {row} is {confidence[model, row]}")
    rest = np.log(1 - confidence + TINY_PROBABILITY)
    return {"softmax": confidence, "log_odds_max": np.log(confidence + TINY_PROBABILITY) - rest}


def _logits(name: str, values: Array) -> Array:
    if values.shape[2] < 2:
        raise ValueError(f"{name} must have at least two classes, not {values.shape[2]}")
    for rows in values:
        check_finite(name, rows)
    return values if name.endswith("logits") else _log_probabilities(name, values)


def _log_probabilities(name: str, values: Array) -> FloatArray:
    """Check probabilities; return logits that give them."""
    found = values.astype(np.float64)
    for rows in found:
        wrong = (rows < 0).any(axis=1) | (np.abs(rows.sum(axis=1) - 1) > SUM_TOLERANCE)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"{name} must be at least 0 and add up to 1, but those of row {row} are "
                f"{np.array2string(rows[row], precision=4, threshold=6)}, "
                f"which add up to {rows[row].sum():.6g}"
            )
    zeros = int(np.count_nonzero(found == 0))
    if zeros:
        warn(
            f"{zeros} {name} are exactly 0; {TINY_PROBABILITY:g} was added to all of them before "
            "taking logarithms: give logits for exact scores",
            ConfsimWarning,
            stacklevel=2,
        )
        found += TINY_PROBABILITY
    log: FloatArray = np.log(found)
    return log


def _check_labels(name: str, labels: NDArray[np.int64] | None, classes: int) -> None:
    if labels is not None and len(labels) and labels.max() >= classes:
        row = int(np.argmax(labels))
        raise ValueError(f"{name} must be below {classes}, but row {row} is {labels[row]}")


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


def _holdout(
    shaped: Mapping[str, Array], models: int, threads: int
) -> tuple[NDArray[np.int64], FloatArray | None]:
    """Return labels and log-odds of the examples that no model was trained on."""
    given = [n for n in shaped if n.startswith("holdout_") and n != "holdout_label"]
    if not given:
        return np.empty(0, dtype=np.int64), None
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} must not be given together: one is enough")
    values = shaped[given[0]]
    count = values.shape[1]
    labels = _integers("holdout_label", shaped.get("holdout_label"), count, -1)
    if len(labels) != count:
        raise ValueError(
            f"holdout_label must have shape ({count},) as {given[0]}, not {labels.shape}"
        )
    if given[0] == "holdout_log_odds_true":
        for rows in values:
            check_finite(given[0], rows)
        return labels, values.astype(np.float64)
    if "holdout_label" not in shaped:
        raise ValueError(f"{given[0]} needs holdout_label")
    logits = _logits(given[0], values)
    _check_labels("holdout_label", labels, logits.shape[2])
    rows = [softmax_columns(z, labels, n_threads=threads)["log_odds_true"] for z in logits]
    return labels, np.stack(rows)


def _fingerprint(given: Mapping[str, Array]) -> str:
    digest = hashlib.sha256()
    for name in sorted(given):
        values = np.ascontiguousarray(given[name])
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(values.data)
    return digest.hexdigest()


# ---- the experiment ----------------------------------------------------------------------------


@dataclass(frozen=True)
class AuditExperiment(Experiment):
    """Models that were trained elsewhere, one trial each; made by :meth:`of`.

    Attributes
    ----------
    data_sha256 : str
        Hash of what was given.
    models, examples : int
    design : {"unknown", "independent", "balanced"}
    percent : float
    same_class : bool
    seed : int
    ranked_by : str
        What extremes are ranked by: ``log_odds_max``, or ``log_odds_true`` where only that is
        known.
    """

    command: ClassVar[str] = "confsim-audit"
    confidences: ClassVar[tuple[str, ...]] = ("softmax",)

    data_sha256: str
    models: int
    examples: int
    design: str
    percent: float
    same_class: bool
    seed: int
    ranked_by: str

    @classmethod
    def of(
        cls, outputs: Outputs, *, design: str, percent: float, same_class: bool, seed: int
    ) -> "AuditExperiment":
        """Check the settings against the data."""
        check_choice("design", design, DESIGNS)
        check_number("percent", percent, above=0, maximum=50)
        check_integer("seed", seed, minimum=0)
        if same_class and (outputs.labels < 0).any():
            raise ValueError("same_class needs label")
        if design == "balanced":
            _check_balanced(outputs.is_member)
        known = not np.isnan(outputs.scores["log_odds_max"]).any()
        experiment = cls(
            outputs.fingerprint,
            outputs.is_member.shape[0],
            outputs.is_member.shape[1],
            design,
            float(percent),
            bool(same_class),
            int(seed),
            "log_odds_max" if known else "log_odds_true",
        )
        # No field: fields are the configuration, which is stored and printed.
        object.__setattr__(experiment, "outputs", outputs)
        return experiment

    outputs: ClassVar[Outputs]

    def identity(self) -> dict[str, Any]:
        """Return what decides a trial's numbers."""
        return {
            "data_sha256": self.data_sha256,
            "models": self.models,
            "examples": self.examples,
            "design": self.design,
            "percent": self.percent,
            "same_class": self.same_class,
            "seed": self.seed,
        }

    def open(self, threads: int, device: str | None = None) -> "AuditSession":
        """Return the session; the data are there already."""
        return AuditSession(self, self.outputs, threads)

    def estimate(self) -> Estimate:
        """Predict the cost of a model, most of it the search for neighbours."""
        features = self.outputs.features
        width = 0 if features is None else features.shape[2]
        return Estimate(
            seconds_per_trial=0.05 + self.examples**2 * width * 2e-11,
            bytes_per_trial=100_000 + 100 * self.examples,
            bytes_of_memory_per_worker=200_000_000 + self.examples * (200 + 8 * width),
        )

    def run_data(self) -> RunData:
        """Return the table of examples."""
        outputs = self.outputs
        held = np.repeat(np.array([0, 1], np.int8), [len(outputs.ids), len(outputs.holdout_labels)])
        # Holdout examples get the numbers, and groups, after all others.
        count = np.arange(len(outputs.holdout_labels))
        population: Columns = {
            "id": np.concatenate([outputs.ids, outputs.ids.max() + 1 + count]),
            "label": np.concatenate([outputs.labels, outputs.holdout_labels]),
            "duplicate_group": np.concatenate([outputs.groups, outputs.groups.max() + 1 + count]),
            "split": Coded(held, ("population", "holdout")),
        }
        return RunData({"population": population})


def _check_balanced(is_member: NDArray[np.bool_]) -> None:
    if len(is_member) % 2:
        raise ValueError(f"design 'balanced' needs an even number of models, not {len(is_member)}")
    for model in range(0, len(is_member), 2):
        if np.any(is_member[model] == is_member[model + 1]):
            raise ValueError(
                f"design 'balanced': models {model} and {model + 1} were not trained on complements"
            )


class AuditSession(Session):
    """The checked outputs, ready to be published model by model."""

    def __init__(self, experiment: AuditExperiment, outputs: Outputs, threads: int) -> None:
        self._experiment, self._outputs, self._threads = experiment, outputs, threads

    def run(self, trials: Sequence[int], context: Context) -> Iterator[TrialResult]:
        """Yield one result a model."""
        for trial in trials:
            yield self._result(trial)

    def _result(self, trial: int) -> TrialResult:
        outputs, experiment = self._outputs, self._experiment
        member = outputs.is_member[trial]
        rank = outputs.scores[experiment.ranked_by][trial]
        distance, other, nearest = self._distances(trial)
        bottom, top = extremes(rank, experiment.percent, outputs.ids)
        joint, statistics = relate(
            rank,
            distance,
            other,
            member,
            bottom,
            top,
            grid=(-math.log(max(2, outputs.classes - 1)), LOG_ODDS_LIMIT),
            threads=self._threads,
            classes=outputs.labels if experiment.same_class else None,
        )
        examples: dict[str, Any] = {
            "trial": np.full(len(member), trial, np.int32),
            "id": outputs.ids,
            "label": outputs.labels,
            "predicted": outputs.scores["predicted"][trial],
            "is_member": member,
            **{
                name: outputs.scores[name][trial]
                for name in (
                    "softmax",
                    "log_odds_max",
                    "log_odds_true",
                    "loss",
                    "entropy",
                    "modified_entropy",
                )
            },
            "distance": distance,
            "distance_excluding_self": other,
            "nearest_id": nearest,
        }
        tables: dict[str, Any] = {
            "extremes": self._extremes(examples, rank, bottom, top),
            "examples": examples,
        }
        tables |= self._more_tables(trial)
        return TrialResult(
            trial, tables, {"joint": joint}, self._summary(trial, examples) | statistics
        )

    def _distances(self, trial: int) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
        """Return distances including and excluding self, and the nearest other training id."""
        outputs, member = self._outputs, self._outputs.is_member[trial]
        nobody = np.full(len(member), -1, dtype=np.int64)
        if outputs.distance is not None:
            other = outputs.distance[trial]
            # A member is its own nearest training example.
            return np.where(member, 0.0, other), other, nobody
        if outputs.features is None:
            nothing = np.full(len(member), np.nan)
            return nothing, nothing, nobody
        features = outputs.features[min(trial, len(outputs.features) - 1)]
        rows = np.flatnonzero(member)
        own = nobody.copy()
        own[rows] = np.arange(len(rows))
        labels = outputs.labels if self._experiment.same_class else None
        found = nearest_training(
            features,
            features[rows],
            metric="angular",
            query_labels=labels,
            training_labels=None if labels is None else labels[rows],
            self_index=own,
            n_threads=self._threads,
        )
        assert found.distance_excluding_self is not None
        assert found.index_excluding_self is not None
        index = found.index_excluding_self
        nearest = np.where(index >= 0, outputs.ids[rows][index], -1)
        return found.distance, found.distance_excluding_self, nearest

    def _extremes(
        self,
        examples: Mapping[str, Any],
        rank: FloatArray,
        bottom: NDArray[np.int64],
        top: NDArray[np.int64],
    ) -> Columns:
        rows = np.concatenate([bottom, top])
        side = np.repeat(np.array([0, 1], np.int8), [len(bottom), len(top)])
        softmax = examples["softmax"]
        if self._experiment.ranked_by == "log_odds_true":
            softmax = 1 / (1 + np.exp(-rank))
        return {
            "trial": examples["trial"][rows],
            "side": Coded(side, ("bottom", "top")),
            "id": examples["id"][rows],
            "is_member": examples["is_member"][rows],
            "softmax": softmax[rows],
            "distance": examples["distance"][rows],
            "distance_excluding_self": examples["distance_excluding_self"][rows],
        }

    def _more_tables(self, trial: int) -> dict[str, Columns | Iterator[Columns]]:
        """Return the tables of the holdout and of augmentations, where there are any."""
        outputs = self._outputs
        tables: dict[str, Columns | Iterator[Columns]] = {}
        if outputs.holdout is not None:
            count = len(outputs.holdout_labels)
            tables["holdout"] = {
                "trial": np.full(count, trial, np.int32),
                "id": outputs.ids.max() + 1 + np.arange(count),
                "label": outputs.holdout_labels,
                "log_odds_true": outputs.holdout[trial],
            }
        if outputs.augmented is not None:
            views = outputs.augmented[trial]
            tables["augmented"] = (
                {
                    "trial": np.full(len(views), trial, np.int32),
                    "id": outputs.ids,
                    "augmentation": np.full(len(views), index, np.int8),
                    "log_odds_true": np.ascontiguousarray(views[:, index]),
                }
                for index in range(views.shape[1])
            )
        return tables

    def _summary(self, trial: int, examples: Mapping[str, Any]) -> dict[str, Any]:
        outputs, member = self._outputs, self._outputs.is_member[trial]
        summary = {
            "trial": trial,
            "population": len(member),
            "members": int(np.count_nonzero(member)),
            "holdout": len(outputs.holdout_labels),
            "distance_scale": 1.0,
            "extreme_count": extreme_count(len(member), self._experiment.percent),
            "ranked_by": self._experiment.ranked_by,
        }
        if (examples["predicted"] >= 0).all() and (outputs.labels >= 0).all():
            right = examples["predicted"] == outputs.labels
            summary |= {
                "member_accuracy": float(np.mean(right[member])),
                "non_member_accuracy": float(np.mean(right[~member])),
                "accuracy_gap": float(np.mean(right[member]) - np.mean(right[~member])),
            }
        if not np.isnan(examples["loss"]).any():
            summary |= {
                "member_loss": float(np.mean(examples["loss"][member])),
                "non_member_loss": float(np.mean(examples["loss"][~member])),
            }
        return summary
