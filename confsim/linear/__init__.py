"""The linear pipeline: a lattice, a linear program, an experiment."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from confsim.store import Run

__all__ = ["run"]


def run(
    *,
    trials: int = 100,
    out: Any = None,
    workers: int | None = None,
    overwrite: bool = False,
    keep: str = "all",
    mix_versions: bool = False,
    quiet: bool = True,
    **settings: Any,
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
        If a setting is out of bounds, or ``out`` holds something else.
    ConfsimError
        If a trial failed.
    KeyboardInterrupt
        If it was interrupted; the same call resumes it.
    """
    from confsim import runner
    from confsim.linear.experiment import LinearExperiment

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
