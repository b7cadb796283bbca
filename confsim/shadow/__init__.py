"""The shadow pipeline: the user's own training, in any framework, as an experiment.

``tasks`` says where the user's code is and calls it, ``population`` and ``predictions`` check what
it gives, ``estimators`` and ``tables`` make a task of an estimator and a table, ``opened`` draws
members, ``traces`` keeps what models say during training, ``probe`` looks a task over in a process
of its own, and ``experiment`` puts all of it behind the seam that the runner knows.
"""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from confsim._errors import check_keywords

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from confsim.store import Run

__all__ = ["Settings", "run"]


class Settings(TypedDict, total=False):
    """Settings of a run; see :class:`confsim.shadow.experiment.ShadowExperiment`."""

    train_ratio: float
    design: str
    canaries: int | None
    canary: str | None
    holdout: float
    same_class: bool
    percent: float
    traces: bool
    votes: int | None
    threads_per_trial: int
    device: str
    seed: int


def run(
    task: Any = None,
    *,
    estimator: Any = None,
    X: Any = None,
    y: Any = None,
    ids: Any = None,
    groups: Any = None,
    group: Any = None,
    features: Any = None,
    canary_ids: Any = None,
    parameters: dict[str, Any] | None = None,
    trials: int = 100,
    check: bool = False,
    out: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    keep: str = "all",
    mix_versions: bool = False,
    quiet: bool = True,
    **settings: "Unpack[Settings]",
) -> "Run":
    """Train shadow models with the user's own code, or resume them, as ``confsim-shadow`` does.

    Parameters
    ----------
    task : path, module or object, optional
        With ``population()`` and ``train(members, seed, context)``, perhaps ``target()`` and
        ``configure(**parameters)``: see ``confsim-shadow --help``. An object may have been defined
        in a notebook.
    estimator : object, optional
        Instead of a task: anything with scikit-learn's interface. It is cloned for each trial,
        every ``random_state`` in it is set from the trial's seed, and it is fitted on the members'
        rows.
    X : array_like or DataFrame, (examples, ...), optional
        What the estimator is fitted to.
    y : array_like, (examples,), optional
        Classes of a classifier, values of a regressor.
    ids, groups : array_like, (examples,), optional
        Numbers or names; duplicates have one group.
    group : array_like, (examples,), optional
        Groups such as sites or sexes that attacks and similarity are told apart by; nothing is
        trained on them.
    features : array_like, (examples, d), optional
        The fixed space for similarity; by default ``X``, numbers standardised and categories
        one-hot.
    canary_ids : sequence of int, optional
        With ``design="coin"``: ids of the rows whose membership coins decide; the others are
        always members.
    parameters : dict, optional
        For ``configure``, or the estimator's ``set_params``; part of the identity.
    trials : int
        Shadow models; a target of the task's comes on top.
    check : bool
        First run trial 0 on few rows, twice, in a process of its own.
    out : path, optional
        Run directory; default: named after the settings, below ``runs/``.
    workers : int, optional
        CPUs to use; default: those this process may use.
    overwrite, keep, mix_versions, quiet
        As the flags of the command.
    **settings
        Attributes of :class:`confsim.shadow.experiment.ShadowExperiment`: ``design``, ``holdout``,
        ``train_ratio``, ``same_class``, ``seed``, ...

    Returns
    -------
    Run
        The complete run.

    Raises
    ------
    ValueError, TypeError
        If the task, the data or a setting is unfit. Nothing has been written then.
    ConfsimError
        If a trial failed.
    KeyboardInterrupt
        If it was interrupted; the same call resumes it.

    Examples
    --------
    >>> import confsim, tempfile
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> X, y = load_iris(return_X_y=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = confsim.shadow.run(
    ...         estimator=GaussianNB(), X=X, y=y, trials=4, out=folder + "/run"
    ...     )
    ...     len(run.examples())
    540
    """
    from confsim import runner
    from confsim.shadow.prepare import experiment_of

    check_keywords("confsim.shadow.run", run, settings, Settings.__annotations__)
    if (task is None) == (estimator is None):
        raise TypeError("either a task or an estimator is needed: estimator=..., X=..., y=...")
    with tempfile.TemporaryDirectory(prefix="confsim-") as name:
        folder = Path(name)
        if estimator is not None:
            from confsim.shadow.estimators import EstimatorSource

            source: Any = EstimatorSource.of(
                estimator, X, y, folder, ids=ids, groups=groups, group=group, features=features,
                canary_ids=canary_ids,
            )  # fmt: skip
        else:
            from confsim.shadow.tasks import source_of

            of_estimators = {"X": X, "y": y, "ids": ids, "groups": groups, "group": group}
            of_estimators["canary_ids"] = canary_ids
            for key, value in of_estimators.items():
                if value is not None:
                    raise TypeError(f"{key} is for an estimator; a task has a population()")
            source = source_of(task, folder)
        experiment, _ = experiment_of(
            source, trials, check=check, out=out, parameters=dict(parameters or {}), **settings
        )
        return runner.run_to_end(
            experiment,
            trials=experiment.trials_of(trials),
            out=out,
            workers=workers,
            overwrite=overwrite,
            keep=keep,
            mix_versions=mix_versions,
            quiet=quiet,
        )
