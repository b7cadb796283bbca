"""The deep pipeline: an image dataset, a Keras model, an experiment.

``datasets`` and ``formats`` read images, ``design`` says who is member or holdout, ``models``
builds networks, ``backend`` and ``engines`` are the only door to TensorFlow, JAX and torch,
``training`` and ``ensemble`` train one trial or many at once, ``experiment`` puts them behind the
seam that the runner knows, and ``sharing`` measures how many trials a GPU should take at once.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

from confsim._errors import check_keywords

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from confsim.store import Run

__all__ = ["Settings", "run"]


class Settings(TypedDict, total=False):
    """The settings of a run, explained in :class:`confsim.deep.experiment.DeepExperiment`."""

    dataset: str
    data_dir: str | None
    label: str | None
    id: str | None
    group: str | None
    drop: tuple[str, ...]
    limit: int | None
    near_duplicates: float | None
    duplicates: str | None
    unpack_limit: float | None
    model: str
    hidden: int
    l2: float
    train_ratio: float
    design: str
    canaries: int | None
    canary: str | None
    canary_ids: str | None
    holdout: float
    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str
    momentum: float | None
    nesterov: bool | None
    weight_decay: float
    schedule: str
    warmup: float
    clip_norm: float | None
    ema: float
    label_smoothing: float
    precision: str
    early_stopping: str
    patience: int
    min_delta: float
    augment: str
    cutout: int
    query_augment: int
    same_class: bool
    percent: float
    backend: str | None
    threads_per_trial: int
    trials_per_device: "int | Literal['auto']"
    save_logits: bool
    save_features: bool
    save_model: bool
    traces: bool
    recipe: str | None
    seed: int


def run(
    *,
    trials: int | None = None,
    out: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    keep: str = "all",
    mix_versions: bool = False,
    quiet: bool = True,
    **settings: "Unpack[Settings]",
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
        recipe (:mod:`confsim.recipes`), as far as they are not given. ``trials_per_device`` may be
        ``"auto"``: measured before a run begins.

    Returns
    -------
    Run
        The complete run.

    Raises
    ------
    ValueError, TypeError
        If a setting is unknown or out of bounds, the data are unfit, or ``out`` holds something
        else.
    ConfsimError
        If a backend is not installed, a download or a trial failed.
    KeyboardInterrupt
        If it was interrupted; the same call resumes it.
    """
    from confsim import recipes, runner
    from confsim.deep.experiment import DeepExperiment

    check_keywords("confsim.deep.run", run, settings, Settings.__annotations__)
    chosen = recipes.apply(dict(settings))
    usual = chosen.pop("trials", 100)
    wanted = usual if trials is None else trials
    shared = chosen.pop("trials_per_device", 1)
    experiment = DeepExperiment(**chosen, trials_per_device=1 if shared == "auto" else shared)
    if shared == "auto":
        from confsim.deep.sharing import settled

        experiment = settled(experiment, wanted, None if out is None else Path(out))
    return runner.run_to_end(
        experiment,
        trials=wanted,
        out=out,
        workers=workers,
        overwrite=overwrite,
        keep=keep,
        mix_versions=mix_versions,
        quiet=quiet,
    )
