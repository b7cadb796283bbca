"""Attacks on loss traces: log-odds after each epoch of one model's training, no shadow models."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import check_size

if TYPE_CHECKING:
    from confsim.store import Run

FloatArray = NDArray[np.float64]

ATTACKS = ("lt_iqr", "final_minus_mean")

_BLOCK = 4096


def trace_scores(traces: "ArrayLike | Sequence[ArrayLike]") -> dict[str, FloatArray]:
    """Score examples by how a model's log-odds of the true class went during training.

    Parameters
    ----------
    traces : array_like, (epochs, examples) or (trials, epochs, examples)
        Log-odds after each epoch, of any float type; a sequence of such arrays of trials will do.

    Returns
    -------
    dict of ndarray, (examples,) or (trials, examples)
        Higher means "member". ``lt_iqr``: the interquartile range of the loss over epochs (LT-IQR,
        Pollock et al. 2025), the loss being ``log(1 + exp(-log_odds))`` and quartiles linearly
        interpolated. ``final_minus_mean``: the last log-odds minus their mean over epochs.

    Raises
    ------
    ValueError
        If traces differ in length, are not finite, or hold fewer than two epochs.

    Notes
    -----
    LT-IQR was published as a ranking of training examples by how exposed they are, not as an attack
    on membership; for a non-member the trace is that of its loss on a model that never saw it.

    Examples
    --------
    >>> from confsim.membership import trace_scores
    >>> found = trace_scores([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]])
    >>> found["final_minus_mean"].tolist(), found["lt_iqr"].round(3).tolist()
    ([2.0, 0.0], [0.337, 0.0])
    """
    values = _as_array(traces)
    if values.ndim not in (2, 3) or values.size == 0:
        raise ValueError(
            "traces must have shape (epochs, examples) or (trials, epochs, examples), not "
            f"{values.shape}"
        )
    if values.shape[-2] < 2:
        raise ValueError("traces must hold at least two epochs")
    check_size("traces", values)
    trials = values if values.ndim == 3 else values[None]
    shape = trials.shape[0], trials.shape[2]
    spread, rise = np.empty(shape), np.empty(shape)
    for trial, trace in enumerate(trials):
        for start in range(0, shape[1], _BLOCK):
            block = slice(start, start + _BLOCK)
            log_odds = trace[:, block].astype(np.float64)
            loss = np.logaddexp(0.0, -log_odds)
            low, high = np.quantile(loss, (0.25, 0.75), axis=0)
            spread[trial, block] = high - low
            rise[trial, block] = log_odds[-1] - log_odds.mean(axis=0)
    if values.ndim == 2:
        spread, rise = spread[0], rise[0]
    return {"lt_iqr": spread, "final_minus_mean": rise}


def run_scores(
    run: "Run", trials: Sequence[int], ids: NDArray[np.int64]
) -> tuple[dict[str, FloatArray], str]:
    """Score the examples of a run's trials by the traces that it keeps, one trial at a time.

    Parameters
    ----------
    run : Run
        Trials without ``traces.parquet`` are left out.
    trials : sequence of int
    ids : ndarray, (examples,)

    Returns
    -------
    scores : dict of ndarray, (trials, examples)
        NaN for a trial with fewer than two epochs, or one that diverged on the way.
    note : str
        What is to be known of them; empty: nothing.
    """
    scores = {name: np.full((len(trials), len(ids)), np.nan) for name in ATTACKS}
    lengths, without = [], []
    for i, number in enumerate(trials):
        if not run.trial(number).has("traces.parquet"):  # a model that was there before
            without.append(number)
            continue
        table = run.trial(number).table("traces", ["id", "log_odds_true"])
        examples = table["id"].nunique()
        values = table["log_odds_true"].to_numpy().reshape(-1, examples)
        own = table["id"].to_numpy()[:examples]
        order = np.argsort(own, kind="stable")
        values = values[:, order[np.searchsorted(own[order], ids)]]
        lengths.append(len(values))
        if len(values) < 2 or not np.isfinite(values).all():
            without.append(number)
            continue
        for name, found in trace_scores(values).items():
            scores[name][i] = found
    said = []
    if lengths and min(lengths) < max(lengths):
        said.append(
            f"trials have {min(lengths)} to {max(lengths)} epochs (early stopping), so that pooled "
            "rows compare unlike scores"
        )
    if without:
        said.append(f"trials {without} have fewer than two epochs, no trace, or diverged: left out")
    return scores, f"{', '.join(ATTACKS)}: {'; '.join(said)}" if said else ""


def _as_array(traces: Any) -> NDArray[Any]:
    if not isinstance(traces, np.ndarray):
        parts = [np.asarray(part) for part in traces]
        shapes = {part.shape for part in parts}
        if len(shapes) > 1:
            first = next(i for i, part in enumerate(parts) if part.shape != parts[0].shape)
            raise ValueError(
                f"traces must be equally long, but entry {first} has shape {parts[first].shape} "
                f"and entry 0 {parts[0].shape}"
            )
        traces = np.stack(parts) if parts else np.empty((0, 0))
    if traces.dtype.kind not in "fiu":
        raise TypeError(f"traces must be numbers, not {traces.dtype}")
    found: NDArray[Any] = traces
    return found
