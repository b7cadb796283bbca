"""The population of a task, checked: what all its models share."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim._errors import check_finite
from confsim._suggest import did_you_mean
from confsim.experiment import Coded
from confsim.given_files import NO_GROUP
from confsim.labelled_tables import example_ids
from confsim.neighbors import as_points
from confsim.own_groups import own_groups
from confsim.statistics import check_membership

Array = NDArray[Any]
Rows = NDArray[np.int64]

#: What ``population()`` may return, and what it means.
ENTRIES = {
    "label": "true classes, any numbers or text",
    "id": "numbers or names of the examples, each once",
    "duplicate_group": "examples of one group are duplicates; -1, NaN or '' belong to none",
    "group": "groups such as sites that results are told apart by; NaN or '' for none",
    "canary": "True where a fair coin decides on membership; the others are always members",
    "label_names": "what the classes 0, 1, ... are called",
    "features": "a fixed space (examples, d) that similarity is measured in",
    "images": "pictures for the report, uint8 (examples, height, width[, channels])",
    "examples": "how many there are, where nothing else says so",
}


@dataclass(frozen=True, eq=False)
class Population:
    """All examples, the holdout among them.

    Attributes
    ----------
    ids, labels, groups : ndarray of int64, (examples,)
        Labels are numbers from 0, -1 throughout where there are none.
    own_groups : Coded or None
        Groups that results are told apart by.
    id_names : tuple of str
        What examples are called; empty where they are numbered.
    names : tuple of str
        What the classes are called.
    features : ndarray or None, (examples, d)
    images : ndarray of uint8 or None
    fingerprint : str
        Hash of all of it.
    canary : ndarray of bool or None, (examples,)
        Examples that coins decide on, where the task says which.
    """

    ids: Rows
    labels: Rows
    groups: Rows
    own_groups: Coded | None
    id_names: tuple[str, ...]
    names: tuple[str, ...]
    features: Array | None
    images: Array | None
    fingerprint: str
    canary: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labelled(self) -> bool:
        """Whether true classes are known."""
        return bool(self.names)

    @property
    def strata(self) -> Rows:
        """What draws are stratified by."""
        return self.labels if self.labelled else np.zeros(len(self), np.int64)

    @classmethod
    def of(cls, given: Any, name: str) -> "Population":
        """Check what ``population()`` returned.

        Raises
        ------
        ValueError, TypeError
            The message names the entry, and the row.
        """
        what = f"population() of {name}"
        if not isinstance(given, Mapping):
            raise TypeError(f"{what} must return a mapping, not {type(given).__name__}")
        for key in given:
            if key not in ENTRIES:
                hint = did_you_mean(str(key), ENTRIES) or f": it may give {', '.join(ENTRIES)}"
                raise ValueError(f"{what} gives {key!r}, which is unknown{hint}")
        arrays = {
            key: _array(f"{what}: {key}", value)
            for key, value in given.items()
            if value is not None and key not in ("examples", "label_names")
        }
        count = _count(what, arrays, given.get("examples"))
        labels, names = _labels(what, arrays.get("label"), count, given.get("label_names"))
        ids, id_names = example_ids(what, arrays.get("id"), count)
        groups = duplicate_groups(what, arrays.get("duplicate_group"), count)
        own = arrays.get("group")
        told_apart = None if own is None else own_groups(f"{what}: group", own, count)
        canary = _canary(what, arrays.get("canary"))
        features = arrays.get("features")
        if features is not None:
            features = _features(what, features)
        images = _images(what, arrays.get("images"))
        digest = hashlib.sha256(repr((names, id_names)).encode())
        for part in (ids, labels, groups, features, images):
            if part is not None:
                digest.update(repr((part.shape, part.dtype.str)).encode())
                digest.update(np.ascontiguousarray(part).data)
        if told_apart is not None:
            digest.update(repr((told_apart.names, told_apart.codes.tolist())).encode())
        if canary is not None:
            digest.update(canary.tobytes())
        return cls(
            ids,
            labels,
            groups,
            told_apart,
            id_names,
            names,
            features,
            images,
            digest.hexdigest(),
            canary,
        )


def as_array(values: Any) -> Array:
    """Return an array of what frameworks and tables have: tensors, columns, lists."""
    if hasattr(values, "detach"):  # a tensor of torch's
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":
            values = values.float()
        values = values.numpy()
    elif hasattr(values, "to_numpy"):  # a column of pandas'
        values = values.to_numpy()
    if isinstance(values, np.ma.MaskedArray):
        if np.ma.is_masked(values):
            raise ValueError("a masked array has values that are missing")
        values = values.data
    return np.asarray(values)


def _array(what: str, values: Any) -> Array:
    try:
        return as_array(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{what} is no array: {error}") from None


def _count(what: str, arrays: Mapping[str, Array], stated: Any) -> int:
    lengths = {key: len(value) if value.ndim else -1 for key, value in arrays.items()}
    if stated is not None:
        lengths["examples"] = _whole(f"{what}: examples", stated)
    if not lengths:
        raise ValueError(f"{what} gives nothing: label, or examples, says how many there are")
    for key, length in lengths.items():
        first = next(iter(lengths))
        if length != lengths[first]:
            raise ValueError(
                f"{what} gives {lengths[first]} of {first} and {length} of {key}: "
                "each example has one of each"
            )
    count = next(iter(lengths.values()))
    if count < 4:
        raise ValueError(f"{what} gives {max(0, count)} examples: at least 4 are needed")
    return count


def _whole(what: str, value: Any) -> int:
    try:
        number = int(value)
        whole = bool(number == value)
    except (ValueError, TypeError, OverflowError):
        whole = False
    if not whole:
        raise ValueError(f"{what} must be a whole number, not {_shown(value)}")
    return number


def _shown(value: Any) -> str:
    return " ".join(f"{value!r:.100}".split())


def _labels(
    what: str, values: Array | None, count: int, names: Any
) -> tuple[Rows, tuple[str, ...]]:
    """Return labels as numbers from 0, and the names of classes."""
    if values is None:
        return np.full(count, -1, np.int64), ()
    _check_flat(what, "label", values)
    missing = _missing(values)
    if missing.any():
        raise ValueError(f"{what}: label must not be missing, but row {np.argmax(missing)} is")
    if values.dtype.kind == "f":
        broken = (values != np.floor(values)) | (np.abs(values) > 2**53)
    else:
        broken = np.zeros(len(values), bool)
    if broken.any():
        row = int(np.argmax(broken))
        raise ValueError(
            f"{what}: label holds classes, but row {row} is {values[row]}; what a regression "
            "predicts is no label: leave it out, and let predict() return a statistic"
        )
    if names is not None:
        classes = _names(what, names)
        numbers = values.astype(np.int64) if values.dtype.kind in "iub" else None
        if numbers is None or numbers.min() < 0 or numbers.max() >= len(classes):
            raise ValueError(
                f"{what}: with label_names, label must be numbers from 0 to {len(classes) - 1}"
            )
        return numbers, classes
    if values.dtype.kind == "O":
        values = np.array([str(value) for value in values])
    found, numbers = np.unique(values, return_inverse=True)
    if len(found) < 2:
        raise ValueError(f"{what}: label holds one class, {found[0]}: at least two are needed")
    if values.dtype.kind == "f":
        found = found.astype(np.int64)
    return numbers.reshape(-1).astype(np.int64), tuple(str(name) for name in found)


def _names(what: str, names: Any) -> tuple[str, ...]:
    try:
        found = None if isinstance(names, str) else tuple(str(name) for name in names)
    except TypeError:
        found = None
    if found is None:
        raise ValueError(f"{what}: label_names must be a list of texts, not {_shown(names)}")
    return found


def _missing(values: Array) -> NDArray[np.bool_]:
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind == "O":
        return np.array([v is None or v != v or type(v).__name__ == "NAType" for v in values])
    return np.zeros(len(values), bool)


def duplicate_groups(what: str, values: Array | None, count: int) -> Rows:
    """Return groups of duplicates; an example of no group gets one of its own."""
    if values is None:
        return np.arange(count, dtype=np.int64)
    _check_flat(what, "duplicate_group", values)
    text = np.array([str(v) for v in values])
    alone = np.isin(np.char.lower(text), tuple(NO_GROUP))
    if values.dtype.kind in "iu" and values.max() < 1 << 62:
        found = values.astype(np.int64)  # draws go by the groups' order
    else:
        names = values if values.dtype.kind in "iu" else text
        found = np.unique(names, return_inverse=True)[1].reshape(-1).astype(np.int64)
    found[alone] = found.max() + 1 + np.arange(np.count_nonzero(alone))
    return found


def _canary(what: str, values: Array | None) -> NDArray[np.bool_] | None:
    """Return who is a canary."""
    if values is None:
        return None
    _check_flat(what, "canary", values)
    try:
        found = check_membership(values, "canary")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: {error}") from None
    if np.count_nonzero(found) < 2:
        raise ValueError(f"{what}: canary must mark at least 2 examples")
    return found


def _features(what: str, values: Array) -> Array:
    if values.ndim < 2 or values.dtype.kind not in "biuf":
        raise ValueError(
            f"{what}: features must be numbers (examples, d), not {values.dtype} {values.shape}"
        )
    check_finite(f"{what}: features", values)
    flat = values.reshape(len(values), -1)
    if flat.dtype.kind == "b" or (flat.dtype.kind in "iu" and _fits_float32(flat)):
        flat = flat.astype(np.float32)
    return as_points(f"{what}: features", flat)


def _fits_float32(values: Array) -> bool:
    return not values.size or (values.min() >= -(1 << 24) and values.max() <= 1 << 24)


def _images(what: str, values: Array | None) -> Array | None:
    if values is None:
        return None
    if values.dtype != np.uint8 or values.ndim not in (3, 4) or 0 in values.shape:
        raise ValueError(
            f"{what}: images must be uint8 (examples, height, width[, channels]), not "
            f"{values.dtype} {values.shape}"
        )
    return values[..., None] if values.ndim == 3 else values


def _check_flat(what: str, key: str, values: Array) -> None:
    if values.ndim != 1:
        raise ValueError(f"{what}: {key} must have one value an example, not shape {values.shape}")
