"""The training set of a linear trial: which queries are members, and the labels they are given."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from confsim._errors import ConfsimError
from confsim.linear.lattice import sample_distinct
from confsim.seeds import Purpose, stream

if TYPE_CHECKING:
    from confsim.linear.experiment import LinearExperiment

Array: TypeAlias = np.ndarray[Any, Any]
#: Lattice points by their numbers, ascending; all of them are a range.
Ids: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]] | range"

MAX_ATTEMPTS = 1000


@dataclass(frozen=True)
class Draw:
    """The training set of a trial.

    Attributes
    ----------
    ids : ndarray of int64, (n,)
        Lattice points, ascending.
    points : ndarray of float64, (n, d)
    labels, noisy_labels : ndarray of int8, (n,)
        Classes by the ideal hyperplane, and those that the model is fitted to.
    redraws : int
        How many draws before this one held one class only.
    """

    ids: Array
    points: Array
    labels: Array
    noisy_labels: Array
    redraws: int


def draw_training(experiment: "LinearExperiment", query_ids: Ids, trial: int) -> Draw:
    """Draw training points from the queries until both classes are among their labels.

    Raises
    ------
    ConfsimError
        If none of :data:`MAX_ATTEMPTS` draws held both.
    """
    for attempt in range(MAX_ATTEMPTS):
        rng = stream(experiment.seed, Purpose.TRAINING, trial, attempt)
        rows = sample_distinct(len(query_ids), experiment.n, rng)
        ids = rows if isinstance(query_ids, range) else query_ids[rows]
        labels = experiment.lattice.labels(ids, *experiment.ideal)
        noise = stream(experiment.seed, Purpose.LABEL_NOISE, trial, attempt)
        flips = noise.random(experiment.n) < experiment.label_noise
        noisy = np.where(flips, -labels, labels).astype(np.int8)
        if noisy.min() != noisy.max():
            return Draw(ids, experiment.lattice.points(ids), labels, noisy, attempt)
    raise ConfsimError(
        f"trial {trial}: each of {MAX_ATTEMPTS} draws of {experiment.n} training points held "
        "one class only; use more training points or a more balanced hyperplane"
    )
