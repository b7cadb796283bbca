"""What models gave, checked, with the scores that follow from it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from warnings import warn

import numpy as np
from numpy.typing import NDArray

from confsim._errors import ConfsimWarning, check_finite
from confsim.auditing.columns import COLUMNS
from confsim.confidence import softmax_columns

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

#: Probabilities that went through float16 or a text file do not add up to 1 exactly.
SUM_TOLERANCE = 1e-3

#: Added to probabilities before logarithms, as in the published code of LiRA.
TINY_PROBABILITY = 1e-45

_PER_CLASS = ("logits", "probabilities", "features", "holdout_logits", "holdout_probabilities")


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

    @property
    def holdout_ids(self) -> NDArray[np.int64]:
        """Numbers of the holdout examples: those after all others."""
        first = int(self.ids.max()) + 1
        return np.arange(first, first + len(self.holdout_labels), dtype=np.int64)

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
