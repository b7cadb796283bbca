"""The deep pipeline: an image dataset, a Keras model, an experiment.

``datasets`` and ``formats`` read images, ``design`` says who is member or holdout, ``models``
builds networks, ``backend`` and ``engines`` are the only door to TensorFlow, JAX and torch,
``training`` and ``ensemble`` train one trial or many at once, and ``experiment`` puts them behind
the seam that the runner knows.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from confsim.store import Run

__all__ = ["run"]


def run(
    *,
    trials: int | None = None,
    out: Any = None,
    workers: int | None = None,
    overwrite: bool = False,
    keep: str = "all",
    mix_versions: bool = False,
    quiet: bool = True,
    **settings: Any,
) -> "Run":
    """Run trials of the deep pipeline, or resume them, as ``confsim-deep`` does.

    Parameters
    ----------
    trials : int, optional
        Independent trials; default: the recipe's, else 100.
    out : path, optional
        Run directory; default: named after the settings, below ``runs/``.
    workers : int, optional
        CPUs to use; default: those this process may use.
    overwrite, keep, mix_versions, quiet
        As the flags of the command.
    **settings
        Attributes of :class:`confsim.deep.experiment.DeepExperiment`, for instance ``dataset``,
        ``model``, ``train_ratio``, ``epochs``, ``backend``, ``seed``. With ``recipe`` those of a
        recipe (:mod:`confsim.recipes`), as far as they are not given.

    Returns
    -------
    Run
        The complete run.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of bounds, the data are unfit, or ``out`` holds something else.
    ConfsimError
        If a backend is not installed, a download or a trial failed.
    KeyboardInterrupt
        If it was interrupted; the same call resumes it.
    """
    from confsim import recipes, runner
    from confsim.deep.experiment import DeepExperiment

    settings = recipes.apply(settings)
    usual = settings.pop("trials", 100)
    return runner.run_to_end(
        DeepExperiment(**settings),
        trials=usual if trials is None else trials,
        out=out,
        workers=workers,
        overwrite=overwrite,
        keep=keep,
        mix_versions=mix_versions,
        quiet=quiet,
    )
