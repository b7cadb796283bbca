"""A task that is open in a process: imported, configured, its population checked and drawn."""

import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confsim import draws
from confsim.shadow.population import Population, as_array
from confsim.shadow.tasks import Task

if TYPE_CHECKING:
    from confsim.shadow.experiment import ShadowExperiment

Rows = NDArray[np.int64]


def prepare(threads: int, device: str | None) -> str:
    """Set threads and device, before anything of the user's is imported; return its name there.

    Parameters
    ----------
    threads : int
        Threads that train a model.
    device : str, optional
        The CUDA device to use; ``None``: the CPU.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1" if device is None else device
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return "cpu" if device is None else "cuda:0"


class Opened:
    """What a process needs of a task.

    Attributes
    ----------
    task : Task
    population : Population
        Of all examples, the holdout among them.
    target_members : ndarray of int64 or None
        Rows that the model that exists was trained on.
    held : ndarray of int64
        Rows of the holdout.
    drawn_from : ndarray of int64
        Rows of the population that members are drawn from.
    queried : ndarray of int64
        Those that are examined: all of them, or the canaries.
    """

    def __init__(self, experiment: "ShadowExperiment", target_members: Rows | None = None) -> None:
        self.experiment = experiment
        self.task: Task = experiment.source.load()
        self.task.configure(experiment.parameters)
        if experiment.canary == "mislabelled":  # of an estimator
            self.task.call("mislabel", experiment.canaries, experiment.seed)
        self.population = Population.of(self.task.call("population"), self.task.name)
        self.target_members = target_members
        self.target: Any = None
        if target_members is None and self.task.has("target"):
            self.load_target()
        everyone = np.arange(len(self.population), dtype=np.int64)
        self.held = self._holdout(everyone)
        self.drawn_from = np.setdiff1d(everyone, self.held, assume_unique=True)
        self.canaries = self._canaries()
        chosen = slice(None) if self.canaries is None else self.canaries
        self.queried = self.drawn_from[chosen]

    def _canaries(self) -> Rows | None:
        """Return places among those drawn from: canaries of the population's, or drawn ones."""
        experiment, marked = self.experiment, self.population.canary
        if marked is not None:
            self._check_marked(int(np.count_nonzero(marked)))
            return np.searchsorted(self.drawn_from, np.flatnonzero(marked))
        if experiment.canary == "given":
            raise ValueError(
                f"canary 'given' needs population() of {self.task.name} to give canary, which says "
                "who they are"
            )
        if experiment.canaries is None:
            return None
        if experiment.canaries > len(self.drawn_from):
            raise ValueError(
                f"canaries must be at most the population's {len(self.drawn_from)}, not "
                f"{experiment.canaries}"
            )
        return draws.canary_rows(len(self.drawn_from), experiment.canaries, experiment.seed)

    def _check_marked(self, count: int) -> None:
        what, experiment = f"population() of {self.task.name}", self.experiment
        if experiment.design != "coin":
            raise ValueError(f"{what} gives canary, which needs design 'coin'")
        if experiment.canaries not in (None, count):
            raise ValueError(f"{what} gives {count} canaries, not {experiment.canaries}")

    def load_target(self) -> None:
        """Ask the task for the model that exists, and check who it was trained on."""
        name = self.task.name
        given = self.task.call("target")
        if not isinstance(given, tuple) or len(given) != 2:
            raise TypeError(f"target() of {name} must return (predict, members)")
        self.target, members = given[0], as_array(given[1])
        if members.ndim != 1 or members.dtype.kind not in "iu" or len(members) == 0:
            raise TypeError(
                f"target() of {name} must return the rows of its members, int64 (k,), not "
                f"{members.dtype} {members.shape}"
            )
        rows = np.unique(members.astype(np.int64))
        if rows[0] < 0 or rows[-1] >= len(self.population) or len(rows) < len(members):
            raise ValueError(
                f"target() of {name}: members must be rows of the population, 0 to "
                f"{len(self.population) - 1}, each once"
            )
        self.target_members = rows

    def _holdout(self, everyone: Rows) -> Rows:
        """Draw the holdout: nobody of the target's, no canary, and no duplicate of either."""
        population, fraction = self.population, self.experiment.holdout
        if not fraction:
            return np.empty(0, np.int64)
        rows = everyone
        wanted = np.zeros(len(everyone), bool) if population.canary is None else population.canary
        if self.target_members is not None:
            wanted = wanted | np.isin(everyone, self.target_members)
        if wanted.any():
            rows = everyone[~np.isin(population.groups, population.groups[wanted])]
            fraction = min(1.0, fraction * len(everyone) / max(1, len(rows)))
            if len(rows) == 0:
                return rows
        held = draws.holdout_rows(
            population.strata[rows], population.groups[rows], fraction, self.experiment.seed
        )
        return rows[held]

    def check(self) -> None:
        """Check the sizes that follow from the population and the settings."""
        experiment, count = self.experiment, len(self.drawn_from)
        members = round(experiment.train_ratio * count)
        if experiment.design != "coin" and not 2 <= members <= count - 1:
            raise ValueError(
                f"train_ratio {experiment.train_ratio:g} of a population of {count} makes "
                f"{members} members: both sides must have some"
            )
        if experiment.design == "coin":
            draws.check_coins(len(self.queried), experiment.seed, experiment.shadow_models)
        if experiment.same_class and not self.population.labelled:
            raise ValueError("same_class needs label, which population() does not give")
        if self.target_members is not None:
            inside = np.isin(self.queried, self.target_members)
            if inside.all() or not inside.any():
                kind = "members" if inside.all() else "non-members"
                raise ValueError(
                    f"target() of {self.task.name}: all examples that are examined are "
                    f"{kind} of it: there is nothing to tell apart"
                )

    def draw(self, trial: int) -> Rows:
        """Draw the members of a trial; rows of the population, ascending."""
        experiment = self.experiment
        rows = draws.member_rows(
            self.population.strata[self.drawn_from],
            experiment.train_ratio,
            experiment.design,
            experiment.seed,
            trial,
            canaries=self.canaries,
        )
        return self.drawn_from[rows]


def seed_everything(seed: int) -> None:
    """Seed the global streams of what is imported, so that no trial depends on those before it."""
    import random

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the user's code may draw from it
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)
