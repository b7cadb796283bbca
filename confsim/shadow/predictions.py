"""What a trained model says of the examples: asked in blocks, checked, and made into scores."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim._errors import ConfsimWarning
from confsim.confidence import softmax_columns
from confsim.neighbors import as_points
from confsim.scores import (
    Zeros,
    check_logits,
    like_probabilities,
    log_probabilities,
    two_classes,
)
from confsim.shadow.population import Population, as_array
from confsim.shadow.tasks import TaskError, users_code
from confsim.trial_tables import SCORES

Array = NDArray[Any]
FloatArray = NDArray[np.float64]
Rows = NDArray[np.int64]

#: One of these is returned by ``predict``.
OUTPUTS = ("logits", "probabilities", "log_odds_true", "statistic")

#: Rows that ``predict`` is asked for at once: whatever the number of threads or workers.
BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said.

    Attributes
    ----------
    kind : str
        One of :data:`OUTPUTS`.
    values : ndarray, (rows, views, ...)
        The example itself is the first view.
    features : ndarray or None, (rows, d)
        The model's own space.
    """

    kind: str
    values: Array
    features: Array | None

    @classmethod
    def ask(cls, predict: Any, rows: Rows, name: str) -> "Predictions":
        """Ask for all rows, and check what comes.

        Raises
        ------
        TaskError
            If it has a wrong shape or is not finite: the message names the row.
        """
        if not callable(predict):
            raise TaskError(
                f"train() of {name} must return a function predict(rows), not "
                f"{type(predict).__name__}"
            )
        blocks = [_block(predict, part, name) for part in _parts(rows)]
        kinds = sorted({kind for kind, _, _ in blocks})
        if len(kinds) > 1:
            raise TaskError(f"predict() of {name} returned now {kinds[0]}, now {kinds[1]}")
        shapes = {(v.shape[1:], None if f is None else f.shape[1:]) for _, v, f in blocks}
        if len(shapes) > 1:
            raise TaskError(f"predict() of {name} returned other shapes for other rows")
        spaces = [space for _, _, space in blocks if space is not None]
        values = np.concatenate([values for _, values, _ in blocks])
        if kinds[0] == "logits":
            try:
                check_logits(f"logits that predict() of {name} returned", values)
            except ValueError as error:
                raise TaskError(str(error)) from None
        return cls(
            kinds[0],
            values,
            np.concatenate(spaces) if spaces else None,
        )


def _parts(rows: Rows) -> Iterator[Rows]:
    return (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))


def _block(
    predict: Callable[[Rows], Any], rows: Rows, name: str
) -> tuple[str, Array, Array | None]:
    what = f"predict() of {name}"
    with users_code(what):
        given = predict(rows)
    if given is None:
        raise TaskError(f"{what} returned nothing")
    if not isinstance(given, Mapping):
        given = {"probabilities": given}
    unknown = [key for key in given if key not in (*OUTPUTS, "features")]
    kinds = [key for key in OUTPUTS if given.get(key) is not None]
    if unknown or len(kinds) != 1:
        raise TaskError(
            f"{what} must return exactly one of {', '.join(OUTPUTS)}, and perhaps features; it "
            f"returned {', '.join(map(str, given)) or 'an empty mapping'}"
        )
    kind = kinds[0]
    with users_code(what):
        values = as_array(given[kind])
        space = given.get("features")
        space = None if space is None else as_array(space)
    values = _shaped(what, kind, values, len(rows))
    _check_finite(what, kind, values, rows)
    if space is not None:
        fits = space.ndim == 2 and len(space) == len(rows) and space.shape[1] > 0
        if not fits or space.dtype.kind not in "biuf":
            raise TaskError(
                f"{what} returned features of shape {space.shape} for {len(rows)} rows: (rows, d) "
                "is needed"
            )
        _check_finite(what, "features", space, rows)
        try:
            space = as_points("features", space.astype(float) if space.dtype == bool else space)
        except (ValueError, TypeError) as error:
            raise TaskError(f"{what}: {error}") from None
    return kind, values, space


def _shaped(what: str, kind: str, values: Array, count: int) -> Array:
    """Give an output its axis of views, and a binary model's one output a second class."""
    per_class = kind in ("logits", "probabilities")
    if values.dtype.kind not in "biuf":
        raise TaskError(f"{what} returned {kind} of type {values.dtype}: numbers are needed")
    if values.dtype == np.float16 or values.dtype.kind != "f":
        values = values.astype(np.float64)
    if values.ndim == 0 or len(values) != count:
        raise TaskError(f"{what} returned {kind} of shape {values.shape} for {count} rows")
    if per_class and (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        try:
            values = two_classes(kind, values.reshape(count))
        except ValueError as error:
            raise TaskError(f"{what}: {error}") from None
        if warning := like_probabilities(kind, values[..., 1]):
            warnings.warn(warning, ConfsimWarning, stacklevel=2)
    deepest = 2 + per_class
    if values.ndim == deepest - 1:
        values = values[:, None]
    if values.ndim != deepest or values.shape[1] == 0:
        shape = "(rows[, views], classes)" if per_class else "(rows[, views])"
        raise TaskError(f"{what} returned {kind} of shape {values.shape}: {shape} is needed")
    return values


def _check_finite(what: str, kind: str, values: Array, rows: Rows) -> None:
    wrong = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if wrong.any():
        raise TaskError(f"{what} returned NaN or infinity: {kind} of row {rows[np.argmax(wrong)]}")


def check_labels(found: Predictions, population: Population, name: str) -> None:
    """Raise ``TaskError`` if a model says something of classes and nobody knows the true ones."""
    if found.kind != "statistic" and not population.labelled:
        raise TaskError(
            f"predict() of {name} returned {found.kind}, which needs the true classes: "
            "population() gives no label"
        )


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of all rows of a population.

    Attributes
    ----------
    scores : dict of ndarray, (rows,)
        ``predicted`` and :data:`~confsim.trial_tables.SCORES`, NaN (-1) where unknown; with a
        statistic, ``statistic``.
    views : list of ndarray, (rows,)
        The score that attacks learn from, of each view; the first is the example itself.
    ranked_by : str
    zeros : int
        Probabilities that were exactly 0, and replaced.
    """

    scores: dict[str, Array]
    views: list[FloatArray]
    ranked_by: str
    zeros: int

    @classmethod
    def of(
        cls, found: Predictions, population: Population, votes: int | None, name: str, threads: int
    ) -> "Scored":
        """Make scores of what a model said of all rows.

        Raises
        ------
        TaskError
            If there are no labels where they are needed, or other classes than those of labels.
        """
        count = len(found.values)
        scores: dict[str, Array] = {key: np.full(count, np.nan) for key in SCORES}
        scores["predicted"] = np.full(count, -1, dtype=np.int64)
        views = [np.ascontiguousarray(found.values[:, i]) for i in range(found.values.shape[1])]
        if found.kind == "statistic":
            views = [view.astype(np.float64) for view in views]
            return cls(scores | {"statistic": views[0]}, views, "statistic", 0)
        check_labels(found, population, name)
        if found.kind == "log_odds_true":
            views = [view.astype(np.float64) for view in views]
            scores["log_odds_true"] = views[0]
            scores["loss"] = np.logaddexp(0.0, -views[0])
            return cls(scores, views, "log_odds_true", 0)
        classes = len(population.names)
        if found.values.shape[2] != classes:
            raise TaskError(
                f"predict() of {name} returned {found.values.shape[2]} classes, but label holds "
                f"{classes}"
            )
        zeros = 0
        if found.kind == "probabilities":
            zeros = int(np.count_nonzero(found.values == 0)) if votes is None else 0
            try:
                stack = np.moveaxis(found.values, 1, 0)
                views = list(log_probabilities("probabilities", stack, Zeros(votes), None))
            except ValueError as error:
                raise TaskError(f"predict() of {name}: {error}") from None
        columns = [softmax_columns(z, population.labels, n_threads=threads) for z in views]
        return cls(
            scores | columns[0], [c["log_odds_true"] for c in columns], "log_odds_max", zeros
        )
