"""What models gave, checked, with the scores that follow from it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim._errors import check_finite, check_size
from confsim.auditing.classes import Classes, whole_numbers
from confsim.auditing.columns import PER_CLASS, SHARED, Given
from confsim.confidence import softmax_columns
from confsim.experiment import Coded
from confsim.given_files import NO_GROUP, load_npy
from confsim.neighbors import as_points
from confsim.own_groups import own_groups
from confsim.scores import (
    Zeros,
    check_logits,
    from_confidence,
    from_loss,
    like_probabilities,
    log_probabilities,
    two_classes,
)
from confsim.trial_tables import SCORES

Array = NDArray[Any]
FloatArray = NDArray[np.float64]
Int64Array = NDArray[np.int64]

#: Of these one is needed; of the first four at most one may be given.
_OUTPUTS = ("logits", "probabilities", "confidence", "loss", "statistic", "log_odds_true")


@dataclass(frozen=True, eq=False)
class Outputs:
    """What models gave, checked: everything with a leading axis of models.

    Attributes
    ----------
    is_member : ndarray of bool, (models, examples)
    ids, labels, groups : ndarray of int64, (examples,)
        Labels -1 where there are none; groups are numbers of duplicates.
    own_groups : Coded or None
        Groups that results are told apart by.
    scores : dict of ndarray, (models, examples)
        ``predicted`` (int64, -1 unknown), ``softmax``, ``log_odds_max``, ``log_odds_true``,
        ``loss``, ``entropy``, ``modified_entropy``: NaN where unknown.
    augmented : ndarray or None, (models, examples, augmentations)
        Log-odds of the true class.
    features : list of ndarray or None, (examples, d)
        Of each model, or of all.
    distance : ndarray or None, (models, examples)
    holdout_labels : ndarray of int64
    holdout : ndarray or None, (models, holdout examples)
        Log-odds of the true class.
    classes : int
        2 where unknown.
    class_names : tuple of str
        By label; empty where classes have no names.
    id_names : tuple of str
        What examples are called; empty where they are numbered.
    zeros : Zeros
        What became of probabilities of exactly 0.
    notes : tuple of str
        What a user should know about the numbers.
    fingerprint : str
        Hash of all that was given.
    """

    is_member: NDArray[np.bool_]
    ids: Int64Array
    labels: Int64Array
    groups: Int64Array
    own_groups: Coded | None
    scores: dict[str, Array]
    augmented: FloatArray | None
    features: list[Array] | None
    distance: FloatArray | None
    holdout_labels: Int64Array
    holdout: FloatArray | None
    classes: int
    class_names: tuple[str, ...]
    id_names: tuple[str, ...]
    zeros: Zeros
    notes: tuple[str, ...]
    fingerprint: str

    @property
    def holdout_ids(self) -> Int64Array:
        """Numbers of the holdout examples: those after all others."""
        first = int(self.ids.max()) + 1
        return np.arange(first, first + len(self.holdout_labels), dtype=np.int64)

    def check_space(self, path: Path) -> None:
        """Check a file of one more, fixed space, before anything is made with it.

        Raises
        ------
        ValueError
            If it is no ``.npy`` file with a row for each example (or for each example and those of
            the holdout): the message names it.
        """
        space = load_npy(path)
        examples, held = len(self.ids), len(self.holdout_labels)
        if space.ndim < 2 or space.dtype.kind not in "biuf":
            raise ValueError(
                f"features {path} must be numbers (examples, ...), not {space.dtype} {space.shape}"
            )
        if len(space) not in (examples, examples + held):
            raise ValueError(
                f"features {path} must have a row for each of the {examples} examples, not "
                f"{len(space)} rows"
            )
        check_finite(f"features {path}", space)

    @classmethod
    def of(cls, given: Given, threads: int, zeros: Zeros) -> "Outputs":
        """Check what was given, and work out what follows from it.

        Raises
        ------
        ValueError, TypeError
            If something is wrong with a column: the message names it, and the row.
        """
        columns = given.columns
        if "is_member" not in columns:
            raise ValueError("is_member is missing: nothing can be audited without it")
        member = _membership(columns["is_member"])
        many = columns["is_member"].ndim == 2
        notes: list[str] = []
        columns = _with_classes(columns, many, notes, zeros.notes)
        zeros.check_used(columns)
        shaped = {
            name: _shaped(name, columns[name], member.shape, many, given.columns[name].shape)
            for name in columns
        }
        classes = _classes(shaped, given, notes)
        labels = _labels("label", shaped.get("label"), member.shape[1], classes)
        scores, augmented = _scores(shaped, labels, member.shape, classes, zeros, threads)
        holdout_labels, holdout = _holdout(shaped, classes, zeros, threads)
        if "features" in shaped and "distance" in shaped:
            raise ValueError("features and distance must not both be given")
        ids, id_names = _ids(shaped.get("id"), member.shape[1], len(holdout_labels))
        known = max(2, len(classes.numbers), int(labels.max(initial=1)) + 1)
        if zeros.votes is not None:
            notes.append(
                f"probabilities were smoothed as shares of {zeros.votes} votes, with "
                f"{zeros.smoothing:g} more for each class"
            )
        if "statistic" in shaped:
            notes.append(
                "log_odds_true holds the statistic that was given; attacks on log-odds take it as "
                "they would take those"
            )
        return cls(
            member,
            ids,
            labels,
            _groups(shaped.get("duplicate_group"), member.shape[1], notes),
            own_groups("group", shaped["group"], member.shape[1]) if "group" in shaped else None,
            scores,
            augmented,
            _features(shaped.get("features")),
            _distances(shaped.get("distance")),
            holdout_labels,
            holdout,
            len(classes.numbers) if _class_outputs(shaped) else known,
            classes.names,
            id_names,
            zeros,
            (*given.notes, *notes, *zeros.notes),
            _fingerprint(given),
        )


def _membership(values: Array) -> NDArray[np.bool_]:
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(
            f"is_member must have shape (examples,) or (models, examples), not {values.shape}"
        )
    if values.shape[-1] < 2:
        raise ValueError(
            "is_member must have shape (examples,) or (models, examples) with at least two "
            f"examples, not {values.shape}"
        )
    if values.dtype != np.bool_:
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


def _with_classes(
    columns: Mapping[str, Array], many: bool, notes: list[str], warnings: list[str]
) -> dict[str, Array]:
    """Give the one output of a binary model a second class."""
    found = dict(columns)
    for name in PER_CLASS:
        if name == "features" or name not in found:
            continue
        values = found[name]
        if values.ndim == 2 + many and values.shape[-1] == 1:
            values = values[..., 0]
        if values.ndim == 1 + many:
            what = "logit" if name.endswith("logits") else "probability"
            if values.shape == columns["is_member"].shape:
                _check_two(name, what, columns.get("label"))
            found[name] = two_classes(name, values)
            if warning := like_probabilities(name, values):
                warnings.append(warning)
            notes.append(f"{name}: one value for each example was taken as class 1's {what}")
    return found


def _check_two(name: str, what: str, labels: Array | None) -> None:
    """Raise ``ValueError`` if there are more classes than a single ``what`` can tell apart."""
    kinds = np.unique(labels) if labels is not None and labels.ndim == 1 else ()
    if len(kinds) > 2:
        raise ValueError(
            f"label holds {len(kinds)} classes, but {name} one value for each example, class "
            f"1's {what}; the largest probability is confidence, and -log of the true class's is "
            "loss"
        )


def _shaped(
    name: str, values: Array, shape: tuple[int, ...], many: bool, given: tuple[int, ...]
) -> Array:
    """Give a column its leading axis of models, or say what is wrong with its ``given`` shape."""
    models, examples = shape
    if name in SHARED:
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1 or (not name.startswith("holdout") and len(values) != examples):
            raise ValueError(
                f"{name} must have shape ({examples},) as is_member, not {values.shape}"
                + (_instead_of_labels(values, examples) if name == "label" else "")
            )
        return values
    inner = 1 if name in PER_CLASS else 0
    shared = name == "features" and values.ndim == 2 and len(values) == examples
    if not many or shared:
        values = values[None]
        models = 1
    depths = (2 + inner, 3) if name == "log_odds_true" and many else (2 + inner,)
    length = None if name.startswith("holdout") else examples
    fits = values.ndim in depths and len(values) == models
    if not fits or (length is not None and values.shape[1] != length):
        wanted = "(models, examples" if many else "(examples"
        last = "" if not inner else ", d" if name == "features" else ", classes"
        raise ValueError(
            f"{name} must have shape {wanted}{last}) with the models and "
            f"examples of is_member, {tuple(shape) if many else (examples,)}, not {given}"
        )
    return values


def _instead_of_labels(values: Array, examples: int) -> str:
    """Say what a table that was given as labels seems to be."""
    if values.ndim != 2 or len(values) != examples:
        return ""
    if np.isin(values, (0, 1)).all():
        return " (of one-hot labels take argmax(axis=1))"
    return " (one number a class, as of logits or probabilities: are the two swapped?)"


def _class_outputs(shaped: Mapping[str, Array]) -> str | None:
    """Return the column that has one value a class, if there is one."""
    return next((name for name in ("logits", "probabilities") if name in shaped), None)


def _classes(shaped: Mapping[str, Array], given: Given, notes: list[str]) -> Classes:
    """Return the classes, and note how they are numbered."""
    name = _class_outputs(shaped) or next(
        (n for n in ("holdout_logits", "holdout_probabilities") if n in shaped), None
    )
    count = None if name is None else shaped[name].shape[2]
    if name is not None and given.classes is not None and len(given.classes) != count:
        raise ValueError(
            f"{name} has the single column of class {given.classes[0]}: a binary model's only one "
            "must be that of class 1"
        )
    labels = [shaped[n] for n in ("label", "holdout_label") if n in shaped]
    text = [values.dtype.kind == "U" for values in labels]
    if any(text) and not all(text):
        raise TypeError("label and holdout_label must both be numbers or both be text")
    found = Classes.of(np.concatenate(labels) if labels else None, count, given.classes)
    notes += found.note()
    return found


def _labels(name: str, values: Array | None, count: int, classes: Classes) -> Int64Array:
    if values is None:
        return np.full(count, -1, dtype=np.int64)
    return classes.label_numbers(name, values)


def _ids(values: Array | None, count: int, held: int) -> tuple[Int64Array, tuple[str, ...]]:
    """Return the examples' numbers, and their names if they have some."""
    if values is None:
        return np.arange(count, dtype=np.int64), ()
    unique, counts = np.unique(values, return_counts=True)
    if values.dtype.kind != "U":
        found = whole_numbers("id", values)
        if found.max() >= 2**63 - 1 - held:
            raise ValueError(f"id must be below 2**63 - {held + 1}, not {found.max()}")
    if len(unique) < count:
        twice = unique[counts > 1][0]
        raise ValueError(f"id must hold each example once, but {twice} is there twice")
    if values.dtype.kind != "U":
        return found, ()
    if (values == "").any():
        raise ValueError(f"id must not be missing, but row {int(np.argmax(values == ''))} is")
    return np.arange(count, dtype=np.int64), tuple(values.tolist())


def _groups(values: Array | None, count: int, notes: list[str]) -> Int64Array:
    """Return groups of duplicates; an example of no group gets one of its own."""
    if values is None:
        return np.arange(count, dtype=np.int64)
    if values.dtype.kind == "U":
        alone = np.isin(np.char.lower(values), tuple(NO_GROUP))
        found = np.unique(values, return_inverse=True)[1].astype(np.int64).reshape(-1)
    else:
        alone = np.isnan(values) if values.dtype.kind == "f" else np.zeros(count, bool)
        alone |= values == -1  # how clustering marks what belongs to no cluster
        found = np.zeros(count, dtype=np.int64)
        found[~alone] = whole_numbers("duplicate_group", np.where(alone, 0, values))[~alone]
    if alone.any():
        first = int(found.max()) + 1
        found[alone] = np.arange(first, first + np.count_nonzero(alone))
        notes.append(
            f"{np.count_nonzero(alone):,} examples have no duplicate_group: none is theirs"
        )
    return found


def _features(values: Array | None) -> list[Array] | None:
    """Return the features of each model as the search for neighbours takes them."""
    if values is None:
        return None
    for rows in values:
        check_finite("features", rows)
    if values.dtype == np.bool_:
        values = values.astype(np.float64)
    return [as_points("features", rows) for rows in values]


def _distances(values: Array | None) -> FloatArray | None:
    if values is None:
        return None
    found = np.ascontiguousarray(values, dtype=np.float64)
    wrong = np.isinf(found) | (found < 0)
    if wrong.any():
        row = int(np.argmax(wrong.any(axis=0)))
        raise ValueError(f"distance must be at least 0 and finite, but row {row} is not")
    if np.isnan(found).all():
        raise ValueError("distance must not be NaN throughout: leave it out")
    return found


def _scores(
    shaped: Mapping[str, Array],
    labels: Int64Array,
    shape: tuple[int, ...],
    classes: Classes,
    zeros: Zeros,
    threads: int,
) -> tuple[dict[str, Array], FloatArray | None]:
    """Return score columns, and log-odds of augmentations."""
    outputs = [name for name in _OUTPUTS[:3] if name in shaped]
    true = [name for name in _OUTPUTS[3:] if name in shaped]
    for several in (outputs, true):
        if len(several) > 1:
            raise ValueError(f"{' and '.join(several)} must not be given together: one is enough")
    if not outputs and not true:
        raise ValueError(f"one of {', '.join(_OUTPUTS)} is needed")
    scores: dict[str, Array] = {name: np.full(shape, np.nan) for name in SCORES}
    scores["predicted"] = np.full(shape, -1, dtype=np.int64)
    if "confidence" in shaped:
        scores |= from_confidence(shaped["confidence"], zeros)
    elif outputs:
        logits = _logits(outputs[0], shaped, zeros)
        known = classes.columns("label", shaped["label"]) if "label" in shaped else None
        for model, rows in enumerate(logits):
            for name, column in softmax_columns(rows, known, n_threads=threads).items():
                scores[name][model] = column
        scores["predicted"] = classes.numbers[scores["predicted"]]
    if "predicted" in shaped:
        for model, values in enumerate(shaped["predicted"]):
            scores["predicted"][model] = classes.label_numbers("predicted", values)
    augmented = None
    if "loss" in shaped:
        scores |= from_loss(shaped["loss"], zeros)
    elif true:
        values = shaped[true[0]].astype(np.float64)
        for rows in values:
            check_size(true[0], rows)
        if values.ndim == 3:
            augmented, values = (values if values.shape[2] > 1 else None), values[..., 0]
        values = np.ascontiguousarray(values)
        scores["log_odds_true"] = values
        if "log_odds_true" in shaped:
            scores["loss"] = np.logaddexp(0.0, -values)
    return scores, augmented


def _logits(name: str, shaped: Mapping[str, Array], zeros: Zeros) -> Array:
    """Return logits (models, examples, classes), or what has the same softmax."""
    values = shaped[name]
    if values.shape[2] < 2:
        raise ValueError(f"{name} must have at least two classes, not {values.shape[2]}")
    for rows in values:
        check_size(name, rows)
    if name.endswith("logits"):
        check_logits(name, values)
        return values if values.dtype.kind == "f" else values.astype(np.float64)
    other = "probabilities" if name.startswith("holdout_") else "holdout_probabilities"
    return log_probabilities(name, values, zeros, shaped.get(other))


def _holdout(
    shaped: Mapping[str, Array], classes: Classes, zeros: Zeros, threads: int
) -> tuple[Int64Array, FloatArray | None]:
    """Return labels and log-odds of the examples that no model was trained on."""
    given = [n for n in shaped if n.startswith("holdout_") and n != "holdout_label"]
    if not given:
        return np.empty(0, dtype=np.int64), None
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} must not be given together: one is enough")
    values = shaped[given[0]]
    count = values.shape[1]
    labels = _labels("holdout_label", shaped.get("holdout_label"), count, classes)
    if len(labels) != count:
        raise ValueError(
            f"holdout_label must have shape ({count},) as {given[0]}, not {labels.shape}"
        )
    if given[0] == "holdout_log_odds_true":
        for rows in values:
            check_size(given[0], rows)
        return labels, values.astype(np.float64)
    if "holdout_label" not in shaped:
        raise ValueError(f"{given[0]} needs holdout_label")
    logits = _logits(given[0], shaped, zeros)
    if logits.shape[2] != len(classes.numbers):
        raise ValueError(
            f"{given[0]} must have {len(classes.numbers)} classes, not {logits.shape[2]}"
        )
    at = classes.columns("holdout_label", shaped["holdout_label"])
    rows = [softmax_columns(z, at, n_threads=threads)["log_odds_true"] for z in logits]
    return labels, np.stack(rows)


def _fingerprint(given: Given) -> str:
    """Return the hash of what decides the numbers: columns, and what classes are called."""
    digest = hashlib.sha256()
    for name in sorted(given.columns):
        values = np.ascontiguousarray(given.columns[name])
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(values.tobytes() if values.dtype.kind == "U" else values.data)
    if given.classes is not None and list(given.classes) != list(range(len(given.classes))):
        digest.update(f"classes {list(given.classes)}".encode())
    return digest.hexdigest()
