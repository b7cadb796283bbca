"""The linear pipeline: a lattice, a linear program, an experiment."""

import os
from typing import TYPE_CHECKING, TypedDict

from confsim._errors import check_keywords

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from confsim.store import Run

__all__ = ["Settings", "run"]


class Settings(TypedDict, total=False):
    """The settings of a run, explained in :class:`confsim.linear.experiment.LinearExperiment`."""

    n: int
    queries: int | None
    dimensions: int
    grid_size: float
    granularity: float
    weights: tuple[float, ...] | None
    bias: float | None
    objective: str
    norm: str
    C: float
    solver: str
    label_noise: float
    percent: float
    same_class: bool
    seed: int


def run(
    *,
    trials: int = 100,
    out: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    keep: str = "all",
    mix_versions: bool = False,
    quiet: bool = True,
    **settings: "Unpack[Settings]",
) -> "Run":
    """Run trials of the linear pipeline, or resume them, as ``confsim-linear`` does.

    Parameters
    ----------
    trials : int
        Independent trials.
    out : path, optional
        Run directory; default: named after the settings, below ``runs/``.
    workers : int, optional
        CPUs to use; default: those this process may use.
    overwrite, keep, mix_versions, quiet
        As the flags of the command.
    **settings
        Attributes of :class:`confsim.linear.experiment.LinearExperiment`: ``n``, ``queries``
        (``None`` for all), ``dimensions``, ``grid_size``, ``granularity``, ``weights``, ``bias``,
        ``objective``,
        ``norm``, ``C``, ``solver``, ``label_noise``, ``percent``, ``same_class``, ``seed``.

    Returns
    -------
    Run
        The complete run.

    Raises
    ------
    ValueError, TypeError
        If a setting is unknown or out of bounds, or ``out`` holds something else.
    ConfsimError
        If a trial failed.
    KeyboardInterrupt
        If it was interrupted; the same call resumes it.
    """
    from confsim import runner
    from confsim.linear.experiment import LinearExperiment

    check_keywords("confsim.linear.run", run, settings, Settings.__annotations__)
    return runner.run_to_end(
        LinearExperiment(**settings),
        trials=trials,
        out=out,
        workers=workers,
        overwrite=overwrite,
        keep=keep,
        mix_versions=mix_versions,
        quiet=quiet,
    )
