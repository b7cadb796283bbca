"""Shadow models of the user's own training as an experiment behind the seam.

A trial draws members, has the user's code train on them, asks the model about every example and
ends in the tables that every experiment with examples has. The user's code runs in worker processes
and in a process of its own that looks the task over; never in the command's.
"""

import contextlib
import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from confsim._devices import gpus
from confsim._errors import ConfsimError, check_boolean, check_choice, check_integer, check_number
from confsim.experiment import (
    Coded,
    Context,
    Estimate,
    Experiment,
    Interrupted,
    RunData,
    Scalar,
    Session,
    TrialResult,
)
from confsim.scores import Zeros
from confsim.seeds import Purpose, sequence
from confsim.shadow.opened import Opened, prepare, seed_everything
from confsim.shadow.output import labelled_output
from confsim.shadow.predictions import Predictions, Scored
from confsim.shadow.tasks import FileSource, Source, TaskError, users_code
from confsim.shadow.traces import Traces
from confsim.similarity import SharedSpace, Similarity
from confsim.store.capabilities import repeat_words, word
from confsim.trial_tables import Examined, holdout_table

Rows = NDArray[np.int64]

DESIGNS = ("independent", "balanced", "coin")
CANARIES = ("mislabelled", "given")
DEVICES = ("auto", "cpu", "cuda")

#: Packages that can use a GPU.
_ACCELERATED = ("torch", "tensorflow", "jax", "keras", "flax", "transformers")


@dataclass(frozen=True)
class Facts:
    """What a process that looked the task over found.

    Attributes
    ----------
    data_sha256 : str
        Hash of the population.
    examples, held, classes : int
    width : int
        Values of one example in the fixed space; 0 without one.
    versions : dict of str to str
        Of the frameworks that the task imports.
    bytes_of_memory : int
    target_members : ndarray of int64 or None
    """

    data_sha256: str
    examples: int
    held: int
    classes: int
    width: int
    versions: dict[str, str]
    bytes_of_memory: int
    target_members: Rows | None


@dataclass(frozen=True)
class ShadowExperiment(Experiment):
    """Configuration of shadow models, one attribute a setting.

    Attributes
    ----------
    task : str
        The task file, or what the object is called.
    parameters : dict
        For the task's ``configure``, or the estimator's ``set_params``.
    data : str or None
        Table of an estimator, as it was given.
    data_dir : str or None
        Where the files of a named table are.
    unpack_limit : float or None
        GiB that the table may unpack to.
    label, id, group : str or None
        Columns of the table.
    drop : tuple of str
        Columns of the table that are not used.
    train_ratio : float
        Members as a fraction of the population, in (0, 1).
    design : {"independent", "balanced", "coin"}
    canaries : int or None
        With ``coin``: so many examples are members by coins, the others always; these are examined.
    canary : {"mislabelled", "given"} or None
        ``mislabelled``: canaries of an estimator's have a label drawn from the other classes.
        ``given``: the task's population, or ``canary_ids`` of an estimator's, says who they are.
        By default, examples as they are.
    canary_ids : str or None
        CSV file with their ids; not part of the identity, which the data's hash is.
    holdout : float
        Fraction of the examples set aside, in [0, 1).
    same_class : bool
        Whether only training examples of the same class count as neighbours.
    percent : float
        Size of either extreme, in percent of the population.
    traces : bool
        Whether to keep what the task gives to ``context.trace`` after each epoch.
    votes : int or None
        Probabilities are shares of so many votes, and are smoothed.
    threads_per_trial : int
        CPU threads of a trial's training.
    device : {"auto", "cpu", "cuda"}
        ``auto``: GPUs where there are any and the task imports what can use them.
    seed : int
    repeatable : {"yes", "no", "untested"}
        What ``--check`` found; not part of the identity.

    Raises
    ------
    ValueError, TypeError
        If a value is out of bounds; the message names the argument.
    """

    command: ClassVar[str] = "confsim-shadow"
    confidences: ClassVar[tuple[str, ...]] = ("softmax",)

    task: str
    parameters: dict[str, Any] = field(default_factory=dict)
    data: str | None = None
    data_dir: str | None = None
    unpack_limit: float | None = None
    label: str | None = None
    id: str | None = None
    group: str | None = None
    drop: tuple[str, ...] = ()
    train_ratio: float = 0.5
    design: str = "independent"
    canaries: int | None = None
    canary: str | None = None
    canary_ids: str | None = None
    holdout: float = 0.1
    same_class: bool = False
    percent: float = 5.0
    traces: bool = False
    votes: int | None = None
    threads_per_trial: int = 1
    device: str = "auto"
    seed: int = 0
    repeatable: str = "untested"

    # No fields: fields are the configuration, which is stored and printed.
    source: ClassVar[Source]
    facts: ClassVar[Facts]
    #: How many shadow models: the number of the target's trial, where there is one.
    shadow_models: ClassVar[int]
    #: Seconds that one whole trial took, where one was timed.
    timed: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        check_choice("design", self.design, DESIGNS)
        check_choice("device", self.device, DEVICES)
        check_number("train_ratio", self.train_ratio, above=0)
        check_number("holdout", self.holdout, minimum=0)
        check_number("percent", self.percent, above=0, maximum=50)
        check_integer("threads_per_trial", self.threads_per_trial, minimum=1)
        check_integer("seed", self.seed, minimum=0)
        for name in ("same_class", "traces"):
            object.__setattr__(self, name, check_boolean(name, getattr(self, name)))
        for name in ("train_ratio", "holdout"):
            if getattr(self, name) >= 1:
                raise ValueError(f"{name} must be below 1, not {getattr(self, name):g}")
        if self.design != "independent" and self.train_ratio != 0.5:
            raise ValueError(
                f"design {self.design!r} needs train_ratio 0.5, not {self.train_ratio:g}"
            )
        if self.canaries is not None:
            check_integer("canaries", self.canaries, minimum=2)
            if self.design != "coin":
                raise ValueError(f"canaries is for design 'coin', not {self.design!r}")
        if self.canary is not None:
            check_choice("canary", self.canary, CANARIES)
            if self.design != "coin":
                raise ValueError(f"canary is for design 'coin', not {self.design!r}")
            if self.canary == "mislabelled" and self.canaries is None:
                raise ValueError("canary 'mislabelled' needs canaries, how many there are")
        Zeros(self.votes)  # checks them
        try:
            json.dumps(self.parameters, allow_nan=False)
        except (TypeError, ValueError):
            raise TypeError(
                f"parameters must be numbers, text, lists and None, not {self.parameters!r}"
            ) from None

    def given(self, **what: Any) -> "ShadowExperiment":
        """Set what is no part of the configuration; return the same experiment."""
        for name, value in what.items():
            object.__setattr__(self, name, value)
        return self

    @property
    def has_target(self) -> bool:
        """Whether the task brings a model that exists."""
        return self.facts.target_members is not None

    def trials_of(self, trials: int) -> int:
        """Return the number of trials: the target's comes after the shadow models'."""
        return trials + self.has_target

    def identity(self) -> dict[str, Any]:
        """Return what decides a trial's numbers."""
        settings = asdict(self)
        # The groups themselves are part of the data's hash.
        others = ("task", "data", "data_dir", "unpack_limit", "group", "device", "repeatable")
        for name in (*others, "canary_ids"):  # who they are is part of that hash, too
            del settings[name]
        if self.data is None:
            for name in ("label", "id", "drop"):
                del settings[name]
        else:
            settings["drop"] = list(self.drop)
        if not self.traces:  # an option that came later
            del settings["traces"]
        if self.canary != "mislabelled":  # those that are given are part of the data's hash
            del settings["canary"]
        found = {
            "task_sha256": self.source.sha256,
            "data_sha256": self.facts.data_sha256,
            "versions": self.facts.versions,
            **settings,
        }
        if self.has_target:  # its trial has the number after the last shadow model's
            found["shadow_models"] = self.shadow_models
        return found

    def capabilities(self) -> dict[str, Any]:
        """State what trials hold: a row for every example of the population."""
        return {
            "examples": True,
            "confidences": ["softmax"],
            "design": self.design,
            "partners": self.design == "balanced",
            "target": self.shadow_models if self.has_target else -1,
            "repeat": self._repeat(),
            "counted": self.data is not None or isinstance(self.source, FileSource),
            "folders": [["", "softmax"]],
        }

    def _repeat(self) -> list[str]:
        if self.data is None and not isinstance(self.source, FileSource):
            return ["confsim.shadow.run"]  # with an object, which no command line can name
        settings = asdict(self)
        names = ("task", "parameters", "drop", "repeatable")
        words = repeat_words(self.command, settings, without=names)
        first = ["--estimator", self.task] if self.data is not None else [self.task]
        chosen = [f"{name}={word(value)}" for name, value in self.parameters.items()]
        first += ["--set", *chosen] if chosen else []
        first += ["--drop", *self.drop] if self.drop else []
        return [words[0], *first, *words[1:]]

    def check(self, trials: int) -> None:
        """Check what depends on the number of trials; the task has been looked over."""
        shadow_models = trials - self.has_target
        if self.design == "balanced" and shadow_models % 2:
            raise ValueError(
                f"design 'balanced' needs an even number of trials, not {shadow_models}"
            )

    def devices(self) -> Sequence[str | None]:
        """Return the GPUs, where they are asked for or the task can use them."""
        return self._devices

    @cached_property
    def _devices(self) -> list[str | None]:
        able = any(name in self.facts.versions for name in _ACCELERATED)
        if self.device == "cpu" or (self.device == "auto" and not able):
            return [None]
        found: list[str | None] = [*gpus()]
        if not found and self.device == "cuda":
            raise ValueError("device 'cuda' needs a GPU, and there is none")
        return found or [None]

    def runs_on(self) -> str:
        """Name the task and the GPUs."""
        found = [name for name in self._devices if name is not None]
        where = f"GPU {', '.join(found)}" if found else "the CPU"
        return f"{self.task} on {where}, threads a trial: {self.threads_per_trial}"

    def open(self, threads: int, device: str | None = None) -> "ShadowSession":
        """Import the task and ask for its population."""
        return ShadowSession(self, threads, device)

    def run_data(self) -> RunData:
        """Return the table of all examples, the fixed space, and pictures."""
        prepare(self.threads_per_trial, None)
        with labelled_output("population"):
            opened = Opened(self, self.facts.target_members)
        data = opened.population
        held = np.zeros(len(data), np.int8)
        held[opened.held] = 1
        table: dict[str, Any] = {
            "id": data.ids,
            "label": data.labels,
            "duplicate_group": data.groups,
            "split": Coded(held, ("population", "holdout")),
        }
        if data.names:
            table["label_name"] = Coded(data.labels, data.names)
        if data.own_groups is not None:
            table["group"] = data.own_groups
        if data.id_names:
            table["name"] = list(data.id_names)
        arrays = {"features": data.features, "images": data.images}
        return RunData({"population": table}, {k: v for k, v in arrays.items() if v is not None})

    def estimate(self) -> Estimate:
        """Predict the cost of a trial: its time where one was timed."""
        facts = self.facts
        return Estimate(
            seconds_per_trial=float("nan") if self.timed is None else self.timed,
            bytes_per_trial=60_000 + 100 * facts.examples,
            bytes_of_memory_per_worker=facts.bytes_of_memory + 2000 * facts.examples,
        )


class TaskContext:
    """What the user's ``train`` is offered.

    Attributes
    ----------
    device : str
        ``"cpu"`` or ``"cuda:0"``: the one GPU that this process sees.
    threads : int
        Threads that training may use.
    trial : int
    """

    def __init__(
        self,
        runner: Context,
        trial: int,
        device: str,
        threads: int,
        recorder: Traces | None = None,
    ) -> None:
        self._runner, self._recorder = runner, recorder
        self.trial, self.device, self.threads = trial, device, threads
        self.stopped = False

    def progress(self, fraction: float) -> None:
        """Say what part of the training is done."""
        self._runner.progress(self.trial, float(fraction))

    def should_stop(self) -> bool:
        """Whether to return at once, having left a checkpoint: the trial is begun again later."""
        self.stopped = self.stopped or self._runner.should_stop()
        return self.stopped

    def trace(self, epoch: int, predict: Any) -> None:
        """With ``--traces``, keep what the model says after an epoch: 1, 2, ...

        To be called before the epoch's checkpoint is saved. Without ``--traces`` nothing is asked.
        """
        if self._recorder is not None:
            self._recorder.record(epoch, predict)

    @property
    def scratch(self) -> Path:
        """A directory that survives interruptions, and goes when the trial is published."""
        return self._runner.scratch(self.trial)


class ShadowSession(Session):
    """The task, imported, in one worker process."""

    def __init__(self, experiment: ShadowExperiment, threads: int, device: str | None) -> None:
        self.experiment, self.threads = experiment, threads
        self.device = prepare(experiment.threads_per_trial, device)
        with labelled_output("opening the task"):
            self.opened = Opened(experiment, experiment.facts.target_members)
        if self.opened.population.fingerprint != experiment.facts.data_sha256:
            raise ConfsimError(
                f"population() of {experiment.task} gave other data than before: it must give the "
                "same in every process"
            )
        self.shared = self._shared_space()
        gc.collect()
        gc.freeze()  # what stays need not be looked at after every trial

    def _shared_space(self) -> SharedSpace | None:
        data, rows = self.opened.population, self.opened.drawn_from
        if data.features is None:
            return None
        labels = data.labels[rows] if self.experiment.same_class else None
        return SharedSpace(data.features, data.ids[rows], labels, rows)

    def run(self, trials: Sequence[int], context: Context) -> Iterator[TrialResult]:
        """Train and examine the trials, one after another."""
        for trial in trials:
            if context.should_stop():
                raise Interrupted
            yield self._run(trial, context)
            gc.collect()  # models with cycles, before the next one needs the memory

    def _run(self, trial: int, context: Context) -> TrialResult:
        is_target = self.experiment.has_target and trial == self.experiment.shadow_models
        with labelled_output(f"trial {trial}"):
            if is_target:
                predict, members = self._target()
            else:
                members = self.opened.draw(trial)
                recorder = traces_of(self.opened, trial, context, self.threads)
                predict = self._train(trial, members, context, recorder)
            rows = np.arange(len(self.opened.population), dtype=np.int64)
            said = Predictions.ask(predict, rows, self.experiment.task)
        found = _result(self, trial, members, said, is_target=is_target)
        if is_target or recorder is None:
            return found
        return replace(found, tables={**found.tables, "traces": recorder.columns(trial)})

    def _target(self) -> tuple[Any, Rows]:
        self.opened.load_target()
        assert self.opened.target_members is not None
        expected = self.experiment.facts.target_members
        assert expected is not None
        if not np.array_equal(self.opened.target_members, expected):
            raise TaskError(f"target() of {self.experiment.task} gave other members than before")
        predict, self.opened.target = self.opened.target, None
        return predict, self.opened.target_members

    def _train(self, trial: int, members: Rows, runner: Context, recorder: Traces | None) -> Any:
        threads = self.experiment.threads_per_trial
        context = TaskContext(runner, trial, self.device, threads, recorder)
        return train(self.opened, trial, members, context)


def traces_of(opened: Opened, trial: int, runner: Context, threads: int) -> Traces | None:
    """Return what records the traces of a trial, ``None`` where they are not wanted."""
    if not opened.experiment.traces:
        return None
    return Traces(opened, lambda: runner.scratch(trial), threads)


def trial_seed(seed: int, trial: int) -> int:
    """Return the seed that ``train`` gets: below 2**31, which every framework takes."""
    return int(sequence(seed, Purpose.TASK, trial).generate_state(1)[0]) >> 1


def train(opened: Opened, trial: int, members: Rows, context: TaskContext) -> Any:
    """Have the task train; return its ``predict``.

    Raises
    ------
    Interrupted
        If the task asked whether to stop, and was told so.
    TaskError
        If its code fails.
    """
    seed = trial_seed(opened.experiment.seed, trial)
    seed_everything(seed)
    with _interrupted(context), users_code(f"train() of {opened.task.name}"):
        found = opened.task.owner.train(members.copy(), seed, context)
    if found is None:
        raise TaskError(f"train() of {opened.task.name} returned nothing: predict(rows) is needed")
    return found


@contextlib.contextmanager
def _interrupted(context: TaskContext) -> Iterator[None]:
    """Abandon a training that was told to stop, however it ends."""
    try:
        yield
    except TaskError:
        if context.stopped:
            raise Interrupted from None
        raise
    if context.stopped:
        raise Interrupted


def _result(
    session: ShadowSession,
    trial: int,
    members: Rows,
    said: Predictions,
    *,
    is_target: bool,
) -> TrialResult:
    """Make the tables of a trial from what its model said of all rows."""
    experiment, opened, threads = session.experiment, session.opened, session.threads
    data, held, queried = opened.population, opened.held, opened.queried
    scored = Scored.of(said, data, experiment.votes, experiment.task, threads)
    is_member = np.zeros(len(data), bool)
    is_member[members] = True
    similarity, space = _similarity(session, is_member, said.features)
    part = np.searchsorted(opened.drawn_from, queried)
    examined = Examined(
        trial,
        data.ids[queried],
        data.labels[queried],
        is_member[queried],
        {name: values[queried] for name, values in scored.scores.items()},
        Similarity(
            similarity.distance[part],
            similarity.distance_excluding_self[part],
            similarity.nearest_id[part],
        ),
        max(2, len(data.names)),
        scored.ranked_by,
    )
    statistic = scored.scores.get("statistic")
    summary: dict[str, Scalar] = {
        **examined.counts(len(held)),
        "distance_scale": 1.0,
        "space": space,
        "features": 0 if said.features is None else said.features.shape[1],
        "extreme_count": examined.extreme_count(experiment.percent),
        "ranked_by": scored.ranked_by,
        "zeros_replaced": scored.zeros,
        **_means(examined, scored, data.labels, held),
    }
    if is_target:
        summary["target"] = True
    return examined.result(
        summary,
        percent=experiment.percent,
        same_class=experiment.same_class,
        threads=threads,
        holdout=holdout_table(
            trial,
            data.ids[held],
            data.labels[held],
            scored.scores["log_odds_true"][held],
            None if statistic is None else statistic[held],
        ),
        views=(view[queried] for view in scored.views) if len(scored.views) > 1 else None,
    )


def _similarity(
    session: ShadowSession, is_member: NDArray[np.bool_], own: NDArray[Any] | None
) -> tuple[Similarity, str]:
    """Measure distances within the population, in the model's own space where it gives one."""
    opened = session.opened
    data, rows = opened.population, opened.drawn_from
    member, threads = is_member[rows], session.threads
    if (own is None and session.shared is None) or not member.any():
        return Similarity.unknown(len(rows)), "none"
    if own is None:
        assert session.shared is not None
        return session.shared.search(member, threads=threads), "fixed"
    labels = data.labels[rows] if session.experiment.same_class else None
    return Similarity.search(own[rows], member, data.ids[rows], labels, threads=threads), "model"


def _means(examined: Examined, scored: Scored, labels: Rows, held: Rows) -> Mapping[str, Scalar]:
    """Return accuracies and losses, as far as they are known."""
    found: dict[str, Scalar] = {}
    if scored.ranked_by == "log_odds_max":
        found |= examined.accuracies()
        right = scored.scores["predicted"][held] == labels[held]
        found["holdout_accuracy"] = float(np.mean(right)) if len(held) else float("nan")
    if scored.ranked_by != "statistic":
        found |= examined.losses()
        losses = scored.scores["loss"][held]
        found["holdout_loss"] = float(np.mean(losses)) if len(held) else float("nan")
    return found
