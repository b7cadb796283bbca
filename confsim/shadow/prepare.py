"""From a source and settings to an experiment that can be run: looked over, perhaps tried out."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from confsim.runner import check_trials
from confsim.shadow.estimators import EstimatorSource
from confsim.shadow.experiment import ShadowExperiment
from confsim.shadow.probe import Tried, look_over, try_out
from confsim.shadow.tasks import Source


def experiment_of(
    source: Source,
    trials: int,
    *,
    check: bool,
    whole: bool = False,
    out: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> tuple[ShadowExperiment, Tried | None]:
    """Return the experiment of a task, and what trying it out showed.

    Parameters
    ----------
    source : Source
    trials : int
        Shadow models.
    check : bool
        Whether to run trial 0, twice.
    whole : bool
        On all rows, which tells what a trial costs.
    out : path, optional
        Where the run is to be; one that is there has been looked over before.
    **settings
        Attributes of :class:`ShadowExperiment`.

    Raises
    ------
    ValueError, TypeError
        If the task, the data or a setting is unfit.
    """
    experiment = ShadowExperiment(task=source.name, **settings)
    if experiment.design == "balanced" and check_trials(trials) % 2:
        raise ValueError(f"design 'balanced' needs an even number of trials, not {trials}")
    if experiment.traces and isinstance(source, EstimatorSource):
        raise ValueError(
            "traces are for tasks that call context.trace(epoch, predict); an estimator has one fit"
        )
    if experiment.canary is not None:
        _check_canary(experiment.canary, source)
    experiment.given(source=source, shadow_models=check_trials(trials))
    facts = look_over(experiment, fresh=not check and (out is None or not Path(out).exists()))
    experiment.given(facts=facts)
    if not check:
        return experiment, None
    tried = try_out(experiment, whole=whole)
    tested = replace(experiment, repeatable="yes" if tried.repeatable else "no")
    timed = tried.seconds if whole else None
    return tested.given(source=source, shadow_models=trials, facts=facts, timed=timed), tried


def _check_canary(kind: str, source: Source) -> None:
    """Raise ``ValueError`` where nobody could make such canaries."""
    marked = isinstance(source, EstimatorSource) and source.marked
    if kind == "given" and isinstance(source, EstimatorSource) and not marked:
        raise ValueError(
            "canary 'given' of an estimator needs canary_ids, which says who they are; a task's "
            "population() gives canary"
        )
    if kind == "mislabelled" and marked:
        raise ValueError("canary_ids is for canary 'given', not 'mislabelled'")
    if kind == "mislabelled" and not isinstance(source, EstimatorSource):
        raise ValueError(
            "canary 'mislabelled' is for estimators: a task trains with labels of its own, makes "
            "its own canaries and says in population() who they are, under canary"
        )
