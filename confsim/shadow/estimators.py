"""Anything with scikit-learn's interface as a task.

The estimator is cloned for each trial, every ``random_state`` in it (nested ones, too) is set from
the trial's seed, and it is fitted on the members' rows. Classifiers answer with ``predict_proba``,
else with ``decision_function``, whose values are taken for logits; regressors with the statistic
minus the squared error. Rows with equal values are duplicates, unless groups are given. An
estimator of scikit-learn that is named, not given, gets a table's categories as zeros and ones,
unless it takes them itself.

The fixed space for similarity, unless one is given: each number minus its mean, divided by its
standard deviation (a missing one is 0); each category a column of zeros and ones, for the commonest
of a column (:data:`confsim.labelled_tables.MAX_CATEGORIES`). It is fitted to the whole population.
"""

import copy
import hashlib
import inspect
import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim._errors import check_same_order
from confsim._suggest import did_you_mean
from confsim.labelled_tables import is_number, one_hot
from confsim.seeds import Purpose, stream
from confsim.shadow.population import as_array, duplicate_groups
from confsim.shadow.tasks import Source, Task, TaskError, pickled, users_code

Array = NDArray[Any]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class EstimatorSource(Source):
    """An estimator with its data, in files that live as long as the command.

    Attributes
    ----------
    path : str
        Folder of the data, written by joblib: workers map them instead of reading them.
    estimator : bytes or None
        Pickled; ``None``: ``name`` says where it is imported from.
    marked : bool
        Whether the data say who is a canary.
    """

    path: str
    estimator: bytes | None
    marked: bool = False

    @classmethod
    def of(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        folder: Path,
        *,
        ids: Any = None,
        groups: Any = None,
        group: Any = None,
        features: Any = None,
        canary_ids: Sequence[int] | None = None,
    ) -> "EstimatorSource":
        """Write the data down.

        Parameters
        ----------
        estimator : object or str
            ``"package.Class"`` is imported where it is needed.
        canary_ids : sequence of int, optional
            Ids of the canaries.

        Raises
        ------
        TypeError, ValueError
            If it is no estimator, or the lengths of the data differ.
        """
        import joblib

        for name, value in {"X": X, "y": y}.items():
            if value is None:
                raise TypeError(f"{name} is missing: an estimator is fitted to X and y")
        check_same_order(
            {"X": X, "y": y, "ids": ids, "groups": groups, "group": group, "features": features}
        )
        X = _indexable(X)
        data = {"X": X, "y": as_array(y), "ids": ids, "groups": groups, "features": features}
        if group is not None:
            data["group"] = group
        count = X.shape[0]
        for name in ("y", "ids", "groups", "group", "features"):
            if data.get(name) is not None and len(data[name]) != count:
                raise ValueError(f"{name} must have {count} rows as X, not {len(data[name])}")
        if canary_ids is not None:
            data["canary"] = _marked(canary_ids, ids, count)
        pickled = None
        if isinstance(estimator, str):
            what = _check_name(estimator)
            source = estimator
        else:
            what = type(estimator).__name__
            check_estimator(estimator, what)
            pickled, source = _pickled(estimator)
        joblib.dump(data, folder / "data.joblib")
        digest = hashlib.sha256(f"{source} {joblib.hash(data)}".encode()).hexdigest()
        marked = canary_ids is not None
        return cls(what, digest, os.fspath(folder / "data.joblib"), pickled, marked)

    def load(self) -> Task:
        """Map the data, and import the estimator."""
        import joblib

        data = joblib.load(self.path, mmap_mode="r")
        with users_code(f"importing {self.name}"):
            if self.estimator is not None:
                found = pickle.loads(self.estimator)
            else:
                found = _import(self.name)
        check_estimator(found, self.name)
        task = EstimatorTask(found, data)
        if self.estimator is None:  # who names one has no place to encode a table
            task.encode(self.name)
        return Task(task, self.name)

    def imports(self) -> set[str]:
        """Return the packages that estimators come from."""
        root = self.name.partition(".")[0] if self.estimator is None else ""
        return {"sklearn", root}


def _marked(canary_ids: Sequence[int], ids: Any, count: int) -> NDArray[np.bool_]:
    """Say of each row whether its id is a canary's."""
    known = (np.arange(count) if ids is None else as_array(ids)).astype(str)
    wanted = as_array(canary_ids).astype(str)
    absent = wanted[~np.isin(wanted, known)]
    if len(absent):
        raise ValueError(f"canary_ids: {absent[0]} is no id of the {count} rows")
    found: NDArray[np.bool_] = np.isin(known, wanted)
    return found


def _indexable(X: Any) -> Any:
    """Return X as something whose rows can be chosen: a DataFrame, a matrix, an array."""
    if hasattr(X, "iloc") or hasattr(X, "tocsr"):
        return X.tocsr() if hasattr(X, "tocsr") else X
    array = as_array(X)
    if array.dtype.kind in "US":
        array = array.astype(object)
    if array.ndim == 0:
        raise TypeError(f"X must be a table or an array, not {type(X).__name__}")
    return array


def _check_name(name: str) -> str:
    module, dot, kind = name.rpartition(".")
    parts = (*module.split("."), kind)
    if not dot or not all(part.isidentifier() for part in parts):
        raise ValueError(
            f"estimator {name!r} must be package.Class, as in sklearn.ensemble."
            "RandomForestClassifier"
        )
    return name


def _import(name: str) -> Any:
    module, _, kind = name.rpartition(".")
    found = import_module(module)
    if not hasattr(found, kind):
        hint = did_you_mean(kind, [n for n in dir(found) if not n.startswith("_")])
        raise TaskError(f"estimator {name}: {module} has no {kind}{hint}")
    what = getattr(found, kind)
    try:
        return what() if callable(what) else what
    except TypeError as error:
        raise TaskError(f"estimator {name} cannot be made without arguments: {error}") from None


def check_estimator(estimator: Any, name: str) -> None:
    """Raise ``TypeError`` if something has not scikit-learn's interface."""
    lacking = [
        part
        for part in ("fit", "get_params", "set_params")
        if not callable(getattr(estimator, part, None))
    ]
    if isinstance(estimator, type):
        raise TypeError(f"estimator {name} must be an object, not a class: {name}()")
    if lacking:
        raise TypeError(f"estimator {name} is none: it has no {lacking[0]}()")


def _pickled(estimator: Any) -> tuple[bytes, str]:
    """Return the estimator by value, and what decides what it does."""
    import joblib

    kind = type(estimator)
    content = pickled(estimator, f"estimator {kind.__name__}")
    try:
        text = joblib.hash(estimator)
    except Exception:  # what pickles by value only, such as a function of a notebook
        text = hashlib.sha256(content).hexdigest()
    if kind.__module__ == "__main__":
        try:
            text += inspect.getsource(kind)
        except (OSError, TypeError):
            text += hashlib.sha256(content).hexdigest()
    return content, f"{kind.__module__}.{kind.__qualname__} {text}"


class EstimatorTask:
    """The functions of a task, for an estimator and its data."""

    def __init__(self, estimator: Any, data: dict[str, Any]) -> None:
        self._estimator = estimator
        self._X, self._y = data["X"], data["y"]
        self._ids, self._groups, self._features = data["ids"], data["groups"], data["features"]
        self._group, self._canary = data.get("group"), data.get("canary")
        self._classes: Array | None = None
        self._wrong: tuple[int, int] | None = None
        self._fitted_to = self._X
        self._named = ""

    def encode(self, name: str) -> None:
        """Have categories of a table be zeros and ones, where the estimator takes numbers only."""
        self._named = name if type(self._estimator).__module__.startswith("sklearn.") else ""
        takes_categories = "categorical_features" in self._estimator.get_params()
        if not self._named or takes_categories or not hasattr(self._X, "iloc"):
            return
        if not all(is_number(self._X[column]) for column in self._X):
            parts = [_numbers(self._X[column], name) for column in self._X]
            self._fitted_to = np.concatenate(parts, axis=1)

    def _check_missing(self) -> None:
        """Raise ``TaskError`` for a missing number that the named estimator would refuse."""
        from sklearn.utils import get_tags

        if not self._named or not hasattr(self._X, "iloc"):
            return
        tags = get_tags(self._estimator)
        if tags.input_tags.allow_nan or tags.no_validation:
            return
        for column in self._X:
            missing = self._X[column].isna().to_numpy()
            if is_number(self._X[column]) and missing.any():
                raise TaskError(
                    f"column {column} must not be missing for {self._named}, but row "
                    f"{int(np.argmax(missing))} is: fill it in, leave the column out with --drop "
                    f"{column}, or take an estimator that allows it, such as "
                    "sklearn.ensemble.RandomForestClassifier"
                )

    def mislabel(self, count: int, seed: int) -> None:
        """Have so many examples carry the label of another class, before ``population()``."""
        if not is_classifier(self._estimator):
            raise TaskError("canary 'mislabelled' needs a classifier")
        self._wrong = count, seed

    def configure(self, **parameters: Any) -> None:
        """Set the estimator's parameters."""
        known = self._estimator.get_params(deep=True)
        for name, value in parameters.items():
            try:
                self._estimator.set_params(**{name: value})
            except (ValueError, TypeError) as error:
                hint = did_you_mean(name, known)
                said = "is unknown" if name not in known else f"cannot be {value!r}: {error}"
                raise TaskError(f"parameter {name} of the estimator {said}{hint}") from None

    def population(self) -> dict[str, Any]:
        """Return classes, groups of equal rows and the fixed space."""
        self._check_missing()
        space = fixed_space(self._X)
        groups = self._groups
        if groups is None:
            groups = _equal_rows(self._X, space)
        found = {
            "id": self._ids,
            "duplicate_group": groups,
            "group": self._group,
            "canary": self._canary,
            "features": space if self._features is None else self._features,
            "examples": len(self._y),
        }
        if is_classifier(self._estimator):
            if self._y.ndim == 2 and self._y.shape[1] == 1:  # a table of one column
                self._y = self._y[:, 0]
            labels = self._y
            missing = np.array([v is None or v != v for v in labels]) if labels.ndim == 1 else ()
            if np.any(missing):
                raise TaskError(f"y must not be missing, but row {int(np.argmax(missing))} is")
            if self._wrong is not None:
                labels, found["canary"] = mislabelled(labels, groups, *self._wrong)
                self._y = labels
            found["label"] = labels
            self._classes = np.unique(labels.astype(str) if labels.dtype.kind == "O" else labels)
        elif self._y.dtype.kind not in "biuf":
            raise TaskError(f"y of a regressor must be numbers, not {self._y.dtype}")
        elif not np.isfinite(self._y).all():
            row = int(np.argwhere(~np.isfinite(self._y))[0][0])
            raise TaskError(f"y of a regressor must be finite, but row {row} is not")
        return {key: value for key, value in found.items() if value is not None}

    def train(self, members: Rows, seed: int, context: Any) -> Callable[[Rows], Any]:
        """Fit a clone to the members."""
        fitted = _seeded(_unfitted(self._estimator), seed)
        wanted, classes = np.asarray(self._y[members]), None
        if self._classes is not None and _counts_classes(fitted):
            text = wanted.astype(str) if wanted.dtype.kind == "O" else wanted
            classes, codes = np.unique(text, return_inverse=True)
            if not np.array_equal(classes, np.arange(len(classes))):
                wanted = codes  # else their type, such as float32, may matter
        fitted.fit(self._rows(members), wanted)
        if self._classes is None:
            return lambda rows: {"statistic": self._minus_squared_error(fitted, rows)}
        if classes is None:
            classes = as_array(getattr(fitted, "classes_", self._classes))
        for method, kind in (("predict_proba", "probabilities"), ("decision_function", "logits")):
            if hasattr(fitted, method):
                answer = getattr(fitted, method)
                return lambda rows: {kind: self._by_class(classes, answer(self._rows(rows)), kind)}
        raise TaskError(
            f"classifier {type(fitted).__name__} has neither predict_proba nor decision_function"
        )

    def _rows(self, rows: Rows) -> Any:
        table = self._fitted_to
        return table.iloc[rows] if hasattr(table, "iloc") else table[rows]

    def _minus_squared_error(self, fitted: Any, rows: Rows) -> Array:
        error = np.asarray(self._y[rows], np.float64) - as_array(fitted.predict(self._rows(rows)))
        found: Array = -(error.reshape(len(rows), -1) ** 2).sum(axis=1)
        return found

    def _by_class(self, known: Array, values: Any, kind: str) -> Array:
        """Give every class of the population its column, also one that no member had."""
        assert self._classes is not None
        found = as_array(values).astype(np.float64)
        if found.ndim == 1:
            found = np.stack([np.zeros_like(found), found], axis=1)
        if known.dtype.kind == "O":
            known = known.astype(str)
        if np.array_equal(known, self._classes) or found.shape[1] != len(known):
            return found
        lowest = 0.0 if kind == "probabilities" else float(found.min()) - 1.0
        whole = np.full((len(found), len(self._classes)), lowest)
        whole[:, np.searchsorted(self._classes, known)] = found
        return whole


def mislabelled(
    labels: Array, groups: Any, count: int, seed: int
) -> tuple[Array, NDArray[np.bool_]]:
    """Return labels with wrong ones, each drawn from the other classes, and whose they are.

    Raises
    ------
    TaskError
        If too few examples have no duplicate, whose label would speak against the wrong one.
    """
    kinds, codes = np.unique(
        labels.astype(str) if labels.dtype.kind == "O" else labels, return_inverse=True
    )
    single = np.ones(len(labels), bool)
    if groups is not None:
        known = duplicate_groups("groups", as_array(groups), len(labels))
        _, of, sizes = np.unique(known, return_inverse=True, return_counts=True)
        single = sizes[of.reshape(-1)] == 1
    if len(kinds) < 2 or count > np.count_nonzero(single):
        raise TaskError(
            f"{count} mislabelled canaries need two classes and as many examples without a "
            f"duplicate; there are {len(kinds)} and {np.count_nonzero(single)}"
        )
    rng = stream(seed, Purpose.CANARIES)
    rows = np.sort(rng.choice(np.flatnonzero(single), count, replace=False))
    # Any other class with equal chance: a step of 1 to K - 1 around the circle of classes.
    steps = rng.integers(1, len(kinds), count)
    first = np.unique(codes, return_index=True)[1]
    wrong = np.array(labels)
    wrong[rows] = wrong[first[(codes.reshape(-1)[rows] + steps) % len(kinds)]]
    return wrong, np.isin(np.arange(len(labels)), rows)


def is_classifier(estimator: Any) -> bool:
    """Whether an estimator predicts classes."""
    from sklearn import base

    try:
        if base.is_classifier(estimator):
            return True
        if base.is_regressor(estimator):
            return False
    except (AttributeError, TypeError):  # without scikit-learn's tags
        pass
    return hasattr(estimator, "predict_proba") or hasattr(estimator, "decision_function")


def _nested(estimator: Any) -> dict[str, Any]:
    return {"": estimator, **estimator.get_params(deep=True)}


def _counts_classes(estimator: Any) -> bool:
    """Whether an estimator, or one within it, takes classes as numbers from 0 only."""
    return any(
        kind.__module__.partition(".")[0] in ("xgboost", "skorch")
        for value in _nested(estimator).values()
        for kind in type(value).__mro__
    )


def _unfitted(estimator: Any) -> Any:
    """Return a new estimator with the same parameters."""
    from sklearn.base import clone

    try:
        return clone(estimator)
    except RuntimeError:  # it keeps its parameters in a form of its own, as CatBoost does lists
        return type(estimator)(**copy.deepcopy(estimator.get_params(deep=False)))


def _seeded(estimator: Any, seed: int) -> Any:
    """Set every ``random_state``, each to a number of its own that follows from the seed."""
    names = sorted(
        name
        for name in estimator.get_params(deep=True)
        if name.rpartition("__")[2] in ("random_state", "random_seed")
    )
    if not names and type(estimator).__module__.partition(".")[0] == "catboost":
        names = ["random_seed"]  # lists only what was set
    drawn = np.random.SeedSequence(seed).generate_state(max(1, len(names))) >> 1
    return estimator.set_params(**{n: int(v) for n, v in zip(names, drawn, strict=False)})


# ---- the fixed space ---------------------------------------------------------------------------


def fixed_space(X: Any) -> Array | None:
    """Return one vector an example, ``None`` where there is no telling (texts, sparse matrices)."""
    if hasattr(X, "iloc") and X.ndim == 2:
        columns = [_column(X.iloc[:, i]) for i in range(X.shape[1])]
        return np.concatenate(columns, axis=1).astype(np.float32) if columns else None
    if hasattr(X, "tocsr") or X.ndim < 2 or X.dtype.kind not in "biuf":
        return None
    return _standardised(X.reshape(len(X), -1).astype(np.float64)).astype(np.float32)


def _column(column: Any) -> Array:
    """Return the dimensions of one column of a table."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column):
        column = column.astype("int64")
    if is_number(column):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return _standardised(values[:, None])
    return one_hot(column)[0]


def _numbers(column: Any, name: str) -> Array:
    """Return a column of a table as an estimator of numbers takes it; a missing one stays NaN."""
    if is_number(column):
        values: Array = column.to_numpy(dtype=np.float64, na_value=np.nan)[:, None]
        return values
    if column.dtype.kind in "Mm":
        raise TaskError(
            f"column {column.name} holds dates, which {name} does not take: leave it out with "
            f"--drop {column.name}"
        )
    return one_hot(column)[0]


def _standardised(values: Array) -> Array:
    values = np.where(np.isfinite(values), values, np.nan)
    present = ~np.isnan(values)
    count = np.maximum(1, present.sum(axis=0))
    mean = np.where(present, values, 0).sum(axis=0) / count
    centred = np.where(present, values - mean, 0)
    spread = np.sqrt((centred**2).sum(axis=0) / count)
    return centred / np.where(spread > 0, spread, 1)


def _equal_rows(X: Any, space: Array | None) -> Rows | None:
    """Return one number for all rows of the same values, or texts: they are duplicates."""
    if space is not None:
        keys = [row.tobytes() for row in np.ascontiguousarray(space)]
    elif X.ndim == 1:
        keys = [str(text) for text in X]
    else:
        return None
    seen: dict[Any, int] = {}
    return np.array([seen.setdefault(key, len(seen)) for key in keys], np.int64)
