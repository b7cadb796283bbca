"""What an audit takes: the names of its columns, and values of any usual kind as arrays.

Whatever holds the values (lists, objects of pandas, text of a spreadsheet, the other byte order)
becomes an array of native numbers here, or of text where classes, ids and groups may be text.
Nothing is judged but whether a value is of its kind.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim._errors import check_same_order
from confsim._suggest import did_you_mean
from confsim.given_files import MISSING
from confsim.tabular import DECIMAL_COMMA

Array = NDArray[Any]

#: What an audit takes: an array of one model, or with a leading axis of models.
COLUMNS = {
    "is_member": "whether the example was trained on: 0/1, true/false or yes/no",
    "label": "true class: a number from 0, or a name",
    "logits": "one number a class, or one of a binary model",
    "probabilities": "one number a class, adding up to 1; or that of class 1 of a binary model",
    "confidence": "largest probability, in [0, 1]",
    "log_odds_true": "log p - log(1 - p) of the true class's probability p",
    "loss": "cross-entropy of the true class, -log p",
    "statistic": "any other score that is higher for members",
    "predicted": "predicted class",
    "features": "what similarity is measured by: embeddings, one row an example",
    "distance": "to the nearest training example other than itself, instead of features",
    "id": "the examples' numbers or names",
    "duplicate_group": "examples with the same number or name are duplicates of each other; -1 or "
    "nothing: of none",
    "group": "a group of yours, such as a site or a sex, that results are told apart by; nothing: "
    "of none",
    "holdout_label": "true class of examples that no model was trained on",
    "holdout_logits": "their logits",
    "holdout_probabilities": "their probabilities",
    "holdout_log_odds_true": "their log-odds, instead of logits and labels",
}

#: What else columns are called, for "did you mean".
SYNONYMS = {
    "member": "is_member",
    "membership": "is_member",
    "in": "is_member",
    "keep": "is_member",
    "train": "is_member",
    "in_train": "is_member",
    "is_train": "is_member",
    "trained": "is_member",
    "seen": "is_member",
    "split": "is_member",
    "class": "label",
    "target": "label",
    "y": "label",
    "y_true": "label",
    "score": "statistic",
    "scores": "statistic",
    "nll": "loss",
    "cross_entropy": "loss",
    "y_pred": "predicted",
    "prediction": "predicted",
    "softmax": "confidence",
    "embedding": "features",
    "embeddings": "features",
    "x": "features",
    "name": "id",
    "row": "id",
    "idx": "id",
    "sample": "id",
    "example": "id",
    "filename": "id",
    "file": "id",
    "groups": "group",
    "site": "group",
    "sex": "group",
    "gender": "group",
    "source": "group",
    "slice": "group",
    "model": "trial",
    "seed": "trial",
}

#: Columns of which each example has one value, whatever the number of models.
SHARED = ("label", "id", "duplicate_group", "group", "holdout_label")

#: Columns with one value a class or dimension.
PER_CLASS = ("logits", "probabilities", "features", "holdout_logits", "holdout_probabilities")

#: Columns that may be text.
_TEXT = ("label", "holdout_label", "predicted", "id", "duplicate_group", "group")

#: Columns of scores, which true and false are not.
_NO_BOOLEANS = ("logits", "log_odds_true", "loss", "distance", "holdout_logits")

_YES = ("yes", "y", "true", "t", "member", "in", "train", "wahr", "vrai")
_NO = ("no", "n", "false", "f", "non-member", "nonmember", "out", "test", "falsch", "faux")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:[.,' \u00a0\u202f\u2019]\d{3})+(?:[.,]\d*)?")


@dataclass
class Given:
    """What was read, before it is checked.

    Attributes
    ----------
    columns : dict of str to ndarray
        By the names of :data:`COLUMNS`.
    source : str
        The file or folder; "" where there is none.
    classes : sequence of int or str, optional
        The class of each column of logits or probabilities, where a file names them.
    models : tuple of str
        What the models are called there, in order; empty where they have no names.
    notes : list of str
        What a user should know about how the data were read.
    """

    columns: dict[str, Array] = field(default_factory=dict)
    source: str = ""
    classes: Sequence[int] | Sequence[str] | None = None
    models: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def check_names(names: Iterable[str]) -> None:
    """Raise ``ValueError`` for a column that there is not, with the one that was meant."""
    for name in names:
        if name not in COLUMNS:
            hint = did_you_mean(name, COLUMNS, SYNONYMS) or ";"
            raise ValueError(f"unknown column {name!r}{hint} columns are {', '.join(COLUMNS)}")


def clean_all(given: Mapping[str, Any]) -> dict[str, Array]:
    """Return columns as arrays of native numbers or text.

    Raises
    ------
    ValueError, TypeError
        If a column is unknown or holds something else; the message names it, and the row.
    """
    check_names(given)
    for held in (False, True):
        check_same_order({name: v for name, v in given.items() if _of_rows(name, v, held=held)})
    return {name: clean(name, values) for name, values in given.items() if values is not None}


def _of_rows(name: str, values: Any, *, held: bool) -> bool:
    """Whether an index would number examples: those of the holdout, or the others."""
    per_model = getattr(values, "ndim", 1) > 1 and name not in PER_CLASS
    return name.startswith("holdout") is held and not per_model


def clean(name: str, values: Any) -> Array:
    """Return a column as an array of native numbers, or of text where ``name`` may be text."""
    array = _as_array(name, values)
    if array.dtype.kind == "O":
        array = _from_objects(name, array)
    if array.dtype.kind == "S":
        array = _decoded(name, array)
    if array.dtype.kind == "U":
        array = _from_text(name, array)
    if array.dtype.kind in "US" and name in _TEXT:
        return array
    if array.dtype.kind not in ("iuf" if name in _NO_BOOLEANS else "biuf"):
        wanted = "numbers or text" if name in _TEXT else "numbers"
        raise TypeError(f"{name} must be {wanted}, not {_kind_of(array)}")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = _narrowed(name, array)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _as_array(name: str, values: Any) -> Array:
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        row = int(np.argwhere(np.ma.getmaskarray(values))[0][0])
        raise ValueError(f"{name} must not hold masked values, but row {row} does")
    if hasattr(values, "toarray"):  # a sparse matrix
        values = values.toarray()
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        try:
            return _ragged(values)
        except (TypeError, ValueError, RuntimeError):
            said = " ".join(str(error).split())
            raise TypeError(f"{name} cannot be read as an array: {said}") from None


def _ragged(values: Any) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array


def _narrowed(name: str, values: Array) -> Array:
    with np.errstate(over="ignore"):
        found = values.astype(np.float64)
    wrong = np.isinf(found) & np.isfinite(values)
    if wrong.any():
        row = int(np.argwhere(wrong)[0][0])
        raise ValueError(f"{name} must fit into float64, but row {row} does not")
    return found


def _decoded(name: str, values: Array) -> Array:
    try:
        return np.char.decode(values, "utf-8")
    except UnicodeDecodeError:
        flat = values.ravel()
        row = next(i for i, text in enumerate(flat) if not _is_utf8(text))
        raise ValueError(
            f"{name} holds text that is not UTF-8: row {row} is {bytes(flat[row])!r}"
        ) from None


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


# ---- objects and text --------------------------------------------------------------------------


def _from_objects(name: str, values: Array) -> Array:
    """Return numbers, text or stacked rows that were Python objects, missing ones as NaN or ""."""
    if values.ndim == 0:
        raise TypeError(f"{name} must be an array, not {type(values.item()).__name__}")
    flat = values.ravel()
    missing = np.array([_is_missing(value) for value in flat], dtype=bool)
    known = flat[~missing]
    if len(known) and isinstance(known[0], (list, tuple, np.ndarray)):
        return _stacked(name, flat)
    if any(isinstance(value, (str, bytes)) for value in known):
        for value, at in _numbered(flat, ~missing):
            if isinstance(value, bytes) and not _is_utf8(value):
                raise ValueError(f"{name} holds text that is not UTF-8: row {at} is {value!r}")
        text = [str(v, "utf-8") if isinstance(v, bytes) else str(v) for v in known]
        for value, row in zip(text, np.flatnonzero(~missing).tolist(), strict=True):
            if value.endswith("\0"):  # which an array would lose
                raise ValueError(f"{name} must not end in NUL, but row {row} does")
        found: Array = np.full(len(flat), "", dtype=f"U{max(map(len, text))}")
        found[~missing] = text
        return found.reshape(values.shape)
    if missing.any():
        found = np.full(len(flat), np.nan)
        found[~missing] = [_number(name, v, int(row)) for v, row in _numbered(flat, ~missing)]
        return found.reshape(values.shape)
    numbers = [_number(name, value, row) for row, value in enumerate(flat)]
    if all(isinstance(value, int) for value in numbers):
        for row, value in enumerate(numbers):
            if not -(2**63) <= value < 2**63:
                raise ValueError(f"{name} must be below 2**63, but row {row} is {value}")
        return np.array(numbers, dtype=np.int64).reshape(values.shape)
    return np.array(numbers, dtype=np.float64).reshape(values.shape)


def _numbered(flat: Array, chosen: NDArray[np.bool_]) -> Iterable[tuple[Any, int]]:
    return ((flat[row], int(row)) for row in np.flatnonzero(chosen))


def _stacked(name: str, rows: Array) -> Array:
    """Stack rows that are lists or arrays: a list column of Parquet."""
    arrays = []
    for row, value in enumerate(rows):
        if _is_missing(value):
            raise ValueError(f"{name} must not be missing, but row {row} is")
        array = _as_array(name, value)
        arrays.append(_from_objects(name, array) if array.dtype.kind == "O" else array)
        if arrays[row].shape != arrays[0].shape:
            raise ValueError(
                f"{name} must have equally many values in each row, but row 0 has shape "
                f"{arrays[0].shape} and row {row} {arrays[row].shape}"
            )
    return np.stack(arrays)


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def _number(name: str, value: Any, row: int) -> int | float:
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        return int(value)
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(
            f"{name} must be numbers{' or text' if name in _TEXT else ''}, but row {row} is "
            f"{type(value).__name__}"
        ) from None


def _from_text(name: str, values: Array) -> Array:
    """Return text as numbers if all of it is; membership may be in words."""
    text = np.char.strip(values)
    if name == "is_member":
        return _yes_or_no(text)
    if name in _TEXT:
        whole = [value.lstrip("+-").isdecimal() and value.isascii() for value in text.ravel()]
        # "007" and "7" are two ids.
        plain = all(whole) and len(set(text.ravel())) == len({int(v) for v in text.ravel()})
        if plain and text.size and max(map(len, text.ravel())) < 19:
            return text.astype(np.int64)
        _check_blanks(name, values, text)
        return text
    flat = text.ravel()
    found = np.array([_parsed(name, value, row) for row, value in enumerate(flat)])
    if any("," in value for value in flat) and any("." in value for value in flat):
        both = [next(str(v) for v in flat if sign in v) for sign in ",."]
        raise ValueError(
            f"{name} holds {both[0]!r} and {both[1]!r}: write decimal points, and no separators "
            "of thousands"
        )
    return found.reshape(text.shape)


def _check_blanks(name: str, values: Array, text: Array) -> None:
    """Raise ``ValueError`` for two names that become one without the blanks around them."""
    as_given = np.unique(values)
    stripped, counts = np.unique(np.char.strip(as_given), return_counts=True)
    if len(stripped) < len(as_given):
        name_twice = stripped[int(np.argmax(counts > 1))]
        row = int(np.argmax((text == name_twice) & (values != name_twice)))
        raise ValueError(
            f"{name} holds {str(name_twice)!r} with and without blanks around it, as in row {row}: "
            "write it in one way"
        )


def _parsed(name: str, text: str, row: int) -> float:
    text = text.replace("\u2212", "-").strip()  # some spreadsheets write a true minus sign
    if text.casefold() in MISSING:
        return float("nan")
    try:
        return float(text)
    except ValueError:
        pass
    if DECIMAL_COMMA.fullmatch(text):
        return float(text.replace(",", "."))
    hint = ""
    if text.endswith("%"):
        hint = ": leave out percent signs, and divide by 100"
    elif _GROUPED.fullmatch(text):
        hint = ": leave out separators of thousands"
    raise TypeError(f"{name} must be numbers, but row {row} is {str(text)!r}{hint}")


def _yes_or_no(text: Array) -> Array:
    found = np.empty(text.shape, dtype=np.float64)
    for index, value in np.ndenumerate(text):
        word = re.sub(r"[\s_-]+", "-", str(value).casefold())
        if word in _YES or word in _NO:
            found[index] = word in _YES
        else:
            try:
                found[index] = float(word)
            except ValueError:
                raise ValueError(
                    f"is_member must be 0 or 1, true or false, yes or no, but row {index[-1]} is "
                    f"{str(value)!r}"
                ) from None
    return found


def _kind_of(array: Array) -> str:
    kinds = {"b": "true or false", "c": "complex numbers"}
    kinds |= {"M": "dates", "m": "times", "V": "records"}
    return kinds.get(array.dtype.kind, str(array.dtype))
