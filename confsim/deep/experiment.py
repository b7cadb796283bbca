"""The deep pipeline as an experiment: an image dataset, a Keras model, the largest softmax output.

A trial trains a model on a random part of the population and relates, for every image of it, the
model's confidence to the angular distance from the nearest training image in the model's own
feature space. The holdout is neither trained on nor queried. Keras lives in worker processes only.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from confsim import draws, recipes
from confsim._errors import check_boolean, check_choice, check_integer, check_number
from confsim.canary_ids import read_ids
from confsim.deep import backend as backends
from confsim.deep import canaries as canary_kinds
from confsim.deep import datasets, design, models, optimisation, training
from confsim.deep.canaries import Canaries
from confsim.deep.datasets import Dataset
from confsim.deep.engines import Settings
from confsim.deep.networks import FLAT
from confsim.deep.optimisation import Optimisation
from confsim.deep.trial import DeepSession, Split
from confsim.experiment import (
    Coded,
    Columns,
    Estimate,
    Experiment,
    RunData,
)
from confsim.store.capabilities import repeat_words

FloatArray = NDArray[np.float64]

#: Images are stored for the report up to this size.
IMAGES_LIMIT = 256_000_000

#: Seconds of one core to train on one pixel of one image once, by model; measured, see benchmarks/.
_SECONDS_A_PIXEL = {
    "cnn": 1.8e-6,
    "resnet": 2.4e-5,
    "mlp": 1.2e-8,
    "softmax": 6e-9,
    "tanh-1024-512": 1.2e-7,
    "wrn28-2": 8e-6,
    "resnet18": 2e-5,
    "wide": 5e-6,
}

#: Settings that came after runs were first kept: a run that leaves them alone has its identity of
#: then, and can be resumed and extended.
_LATER = (
    "optimizer",
    "momentum",
    "nesterov",
    "weight_decay",
    "schedule",
    "warmup",
    "clip_norm",
    "ema",
    "label_smoothing",
    "cutout",
    "precision",
)


@dataclass(frozen=True)
class DeepExperiment(Experiment):
    """Configuration of the deep pipeline, one attribute a flag.

    Attributes
    ----------
    dataset : str
        One of :data:`confsim.deep.datasets.CHOICES`.
    data_dir : str or None
        Where the files of a named dataset are.
    limit : int or None
        Use a stratified random part of so many images.
    label, id : str or None
        Columns of a table: what is predicted, and numbers or names of the rows.
    group : str or None
        Column of a table: groups that results are told apart by.
    drop : tuple of str
        Columns of a table that are not used.
    near_duplicates : float or None
        Images within this root-mean-square difference of pixel values are duplicates.
    duplicates : str or None
        CSV file of further duplicates.
    unpack_limit : float or None
        GiB that the data may unpack to; ``None``: 0.5, or 100 times the size of their files.
    model : str
        One of :data:`confsim.deep.models.NAMED` or ``path/to/file.py:function``.
    hidden : int
        Units of the feature layer of ``cnn`` and ``mlp``.
    l2 : float
        Penalty on squared kernel weights of the named models.
    train_ratio : float
        Members as a fraction of the population, in (0, 1).
    design : {"independent", "balanced", "coin"}
        See :func:`confsim.deep.design.member_rows`.
    canaries : int or None
        With ``design="coin"``: only so many examples have a coin, all others are always members.
    canary : {"mislabelled", "blank", "given"} or None
        See :class:`confsim.deep.canaries.Canaries`; ``None`` is ``given`` with ``canary_ids``, and
        else ``mislabelled``.
    canary_ids : str or None
        CSV file with a column ``id``: the canaries of kind ``given``.
    holdout : float
        Fraction of the data set aside, in (0, 1); 0 only without ``early_stopping="holdout"``.
    epochs, batch_size : int
    learning_rate : float
        The largest.
    optimizer, momentum, nesterov, weight_decay, clip_norm, ema
        See :class:`confsim.deep.optimisation.Optimisation`. ``momentum`` (0.9) and ``nesterov``
        (true) are for ``sgd`` and ``muon``.
    schedule : {"constant", "cosine", "cosine-7-16", "one-cycle"}
        See :func:`confsim.deep.optimisation.learning_rates`.
    warmup : float
        Epochs of linear warm-up.
    label_smoothing : float
        Part of the training target that is spread evenly over all classes, in [0, 1). It hides
        what membership attacks look for.
    precision : {"float32", "bfloat16"}
        What layers compute in; weights, losses and logits are float32.
    recipe : str or None
        The recipe that the settings come from; see :mod:`confsim.recipes`.
    early_stopping : {"holdout", "nonmembers", "off"}
    patience : int
    min_delta : float
    augment : {"none", "mirror", "weak"}
        Of training images.
    cutout : int
        Edge of a square of each training image that is blanked, in pixels; 0: none.
    query_augment : int
        Scores a query: the image itself and so many less one flips and shifts of it.
    same_class : bool
        Whether only training images of the query's class count as neighbours.
    percent : float
        Size of either extreme, in percent of the population.
    backend : str or None
        ``tensorflow``, ``jax`` or ``torch``; ``None``: ``KERAS_BACKEND``, else TensorFlow.
    threads_per_trial : int
        CPU threads of a trial's training.
    trials_per_device : int
        Trials that share a GPU: one program on JAX, processes elsewhere.
    save_logits, save_features, save_model : bool
        Store them with each trial.
    traces : bool
        Store the log-odds of the true class of every image of the population after each epoch.
    seed : int

    Raises
    ------
    ValueError, TypeError
        If a value is out of bounds; the message names the argument.
    """

    command: ClassVar[str] = "confsim-deep"

    dataset: str = "digits"
    data_dir: str | None = None
    label: str | None = None
    id: str | None = None
    group: str | None = None
    drop: tuple[str, ...] = ()
    limit: int | None = None
    near_duplicates: float | None = None
    duplicates: str | None = None
    unpack_limit: float | None = None
    model: str = "cnn"
    hidden: int = 128
    l2: float = 0.0
    train_ratio: float = 0.5
    design: str = "independent"
    canaries: int | None = None
    canary: str | None = None
    canary_ids: str | None = None
    holdout: float = 0.1
    epochs: int = 100
    batch_size: int = 100
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    momentum: float | None = None
    nesterov: bool | None = None
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.0
    clip_norm: float | None = None
    ema: float = 0.0
    label_smoothing: float = 0.0
    precision: str = "float32"
    early_stopping: str = "holdout"
    patience: int = 10
    min_delta: float = 1e-3
    augment: str = "none"
    cutout: int = 0
    query_augment: int = 1
    same_class: bool = False
    percent: float = 5.0
    backend: str | None = None
    threads_per_trial: int = 1
    trials_per_device: int = 1
    save_logits: bool = False
    save_features: bool = False
    save_model: bool = False
    traces: bool = False
    recipe: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        datasets.check_name(self.dataset)
        object.__setattr__(self, "drop", tuple(self.drop))
        for name in ("label", "id", "group", "drop"):
            if getattr(self, name) and not self.dataset.startswith("table:"):
                raise ValueError(f"{name} is for dataset 'table:FILE', not {self.dataset!r}")
        models.check_model(self.model)
        # Workers must not depend on the environment that they find.
        object.__setattr__(self, "backend", backends.chosen_backend(self.backend))
        for name in (
            "hidden",
            "epochs",
            "batch_size",
            "patience",
            "threads_per_trial",
            "trials_per_device",
            "query_augment",
        ):
            check_integer(name, getattr(self, name), minimum=1)
        check_integer("seed", self.seed, minimum=0)
        for name in ("same_class", "save_logits", "save_features", "save_model", "traces"):
            object.__setattr__(self, name, check_boolean(name, getattr(self, name)))
        if self.limit is not None:
            check_integer("limit", self.limit, minimum=4)
        if self.query_augment > design.MAX_QUERY_AUGMENT:
            raise ValueError(
                f"query_augment must be at most {design.MAX_QUERY_AUGMENT}, "
                f"not {self.query_augment}"
            )
        check_number("learning_rate", self.learning_rate, above=0)
        check_number("l2", self.l2, minimum=0)
        check_number("min_delta", self.min_delta, minimum=0)
        check_number("percent", self.percent, above=0, maximum=50)
        if self.near_duplicates is not None:
            check_number("near_duplicates", self.near_duplicates, minimum=0)
        if self.unpack_limit is not None:
            check_number("unpack_limit", self.unpack_limit, above=0)
        check_choice("augment", self.augment, design.AUGMENTATIONS)
        check_choice("early_stopping", self.early_stopping, training.EARLY_STOPPING)
        check_choice("design", self.design, design.DESIGNS)
        if self.recipe is not None:
            recipes.load(self.recipe)
        self._check_training()
        self._check_fractions()
        self._check_canaries()

    def check_new(self) -> None:
        """Raise where a setting would change nothing; a recipe's own settings may."""
        if self.recipe is not None:
            return
        uses = {
            "hidden": (self.model in ("cnn", "mlp"), "model 'cnn' or 'mlp'", self.model),
            "l2": (self.model in models.NAMED, "named models", self.model),
        }
        stops = (self.early_stopping != "off", "early_stopping other than 'off'", "off")
        uses |= {"patience": stops, "min_delta": stops}
        for name, (used, purpose, found) in uses.items():
            if not used and getattr(self, name) != getattr(type(self), name):
                raise ValueError(f"{name} is for {purpose}, not {found!r}")

    def _check_training(self) -> None:
        check_choice("optimizer", self.optimizer, optimisation.OPTIMIZERS)
        check_choice("schedule", self.schedule, optimisation.SCHEDULES)
        check_choice("precision", self.precision, models.PRECISIONS)
        check_number("weight_decay", self.weight_decay, minimum=0)
        check_number("warmup", self.warmup, minimum=0)
        check_integer("cutout", self.cutout, minimum=0)
        if self.clip_norm is not None:
            check_number("clip_norm", self.clip_norm, above=0)
        for name in ("momentum", "ema", "label_smoothing"):
            value = getattr(self, name)
            if value is not None and check_number(name, value, minimum=0) >= 1:
                raise ValueError(f"{name} must be in [0, 1), not {value:g}")
        for name in ("momentum", "nesterov"):
            if getattr(self, name) is not None and self.optimizer == "adam":
                raise ValueError(f"{name} is for optimizer 'sgd' or 'muon', not 'adam'")
        if self.warmup >= self.epochs:
            raise ValueError(
                f"warmup must be shorter than the training of {self.epochs} epochs, "
                f"not {self.warmup:g} (0: none)"
            )

    def _check_fractions(self) -> None:
        check_number("train_ratio", self.train_ratio, above=0)
        check_number("holdout", self.holdout, minimum=0)
        if self.train_ratio >= 1:
            raise ValueError(f"train_ratio must be in (0, 1), not {self.train_ratio:g}")
        if self.holdout >= 1 or (self.holdout == 0 and self.early_stopping == "holdout"):
            raise ValueError(
                f"holdout must be in (0, 1), not {self.holdout:g} "
                "(0 is possible with early_stopping 'off' or 'nonmembers')"
            )
        if self.design == "balanced" and self.train_ratio != 0.5:
            raise ValueError(f"design 'balanced' needs train_ratio 0.5, not {self.train_ratio:g}")

    def _check_canaries(self) -> None:
        if self.canary is not None:
            check_choice("canary", self.canary, canary_kinds.KINDS)
        if self.canaries is not None:
            check_integer("canaries", self.canaries, minimum=2)
        wanted = self.canaries is not None or self.canary_ids is not None
        if not wanted:
            if self.canary is not None:
                needed = "canary_ids" if self.canary == "given" else "canaries"
                raise ValueError(f"canary {self.canary!r} needs {needed}")
            return
        if self.canary_ids is not None and self.canary not in (None, "given"):
            raise ValueError(f"canary_ids is for canary 'given', not {self.canary!r}")
        if self.canary == "given" and self.canary_ids is None:
            raise ValueError("canary 'given' needs canary_ids, a CSV file with a column id")
        if self.design != "coin":
            raise ValueError(f"canaries need design 'coin', not {self.design!r}")
        if self.train_ratio != 0.5:
            raise ValueError(
                "canaries are members by a fair coin: train_ratio must be 0.5, not "
                f"{self.train_ratio:g}"
            )
        if self.early_stopping == "nonmembers":
            raise ValueError(
                "early_stopping 'nonmembers' would watch the canaries that are not members: use "
                "'holdout' or 'off'"
            )

    @cached_property
    def _canaries(self) -> Canaries | None:
        """How canaries are made; read once, and sent to workers."""
        if self.canary_ids is not None:
            ids = read_ids(self.canary_ids)
            if self.canaries not in (None, len(ids)):
                raise ValueError(
                    f"canaries must be the number of ids in canary_ids, {len(ids)}, "
                    f"not {self.canaries}"
                )
            return Canaries("given", len(ids), ids)
        if self.canaries is None:
            return None
        return Canaries(self.canary or "mislabelled", int(self.canaries))

    def load(self) -> Dataset:
        """Return the data as they are given, without canaries; kept by the process."""
        return datasets.load(
            self.dataset,
            self.data_dir,
            limit=self.limit,
            seed=self.seed,
            near_duplicates=self.near_duplicates,
            duplicates=self.duplicates,
            unpack_limit=self.unpack_limit,
            label=self.label,
            id_column=self.id,
            drop=self.drop,
            group=self.group,
        )

    @cached_property
    def data_identity(self) -> str:
        """Hash of the data, wherever they are stored."""
        return self.load().fingerprint()

    def capabilities(self) -> dict[str, Any]:
        """State what trials hold: a row for every image of the population."""
        return {
            "examples": True,
            "confidences": ["softmax"],
            "ranking": "log_odds_max",
            "design": self.design,
            "partners": self.design == "balanced",
            "repeat": repeat_words(
                self.command, asdict(self), without=() if self.drop else ("drop",)
            ),
            "folders": [["", "softmax"]],
        }

    def identity(self) -> dict[str, Any]:
        """Return what decides a trial's numbers: settings, the data's hash, versions."""
        assert self.backend is not None
        ensemble = self.trials_per_device if self.backend == "jax" else 1
        return {
            "dataset": self.dataset.partition(":")[0],
            "data_sha256": self.data_identity,
            "model": models.model_identity(self.model),
            "hidden": int(self.hidden),
            "l2": float(self.l2),
            "train_ratio": float(self.train_ratio),
            "design": self.design,
            "holdout": float(self.holdout),
            "epochs": int(self.epochs),
            "batch_size": int(self.batch_size),
            "learning_rate": float(self.learning_rate),
            "early_stopping": self.early_stopping,
            "patience": int(self.patience),
            "min_delta": float(self.min_delta),
            "augment": self.augment,
            "query_augment": int(self.query_augment),
            "same_class": bool(self.same_class),
            "percent": float(self.percent),
            "backend": self.backend,
            "backend_versions": backends.versions(self.backend),
            "threads_per_trial": int(self.threads_per_trial),
            "ensemble": int(ensemble),
            "save": [
                name for name in ("logits", "features", "model") if getattr(self, f"save_{name}")
            ]
            + ["traces"] * self.traces,
            "seed": int(self.seed),
            **self._later_identity(),
        }

    def _later_identity(self) -> dict[str, Any]:
        """Return the later settings that are not the default; numbers as floats."""
        said: dict[str, Any] = {}
        for name in _LATER:
            value = getattr(self, name)
            default = getattr(type(self), name)
            if value != default:
                number = not isinstance(value, (str, bool))
                said[name] = float(value) if number else value
        # What the optimiser takes where nothing is said is what it is.
        if said.get("momentum") == self.optimisation.momentum == 0.9:
            del said["momentum"]
        if said.get("nesterov") is True:
            del said["nesterov"]
        if self._canaries is not None:
            said |= self._canaries.identity()
        if self.recipe is not None:
            said["recipe"] = self.recipe
            said["recipe_sha256"] = recipes.load(self.recipe).sha256
        return said

    @property
    def optimisation(self) -> Optimisation:
        """How weights move."""
        return Optimisation(
            self.optimizer,
            0.9 if self.momentum is None else float(self.momentum),
            self.nesterov is not False,
            float(self.weight_decay),
            None if self.clip_norm is None else float(self.clip_norm),
            float(self.ema),
        )

    def check(self, trials: int) -> None:
        """Check the data, the sizes that follow from them, and that the backend is installed."""
        assert self.backend is not None
        if self.design == "balanced" and trials % 2:
            raise ValueError(f"design 'balanced' needs an even number of trials, not {trials}")
        backends.check_installed(self.backend)
        data = self.load()
        if self.model in models.CONVOLUTIONAL and len(data.image_shape) != 3:
            raise ValueError(
                f"model {self.model!r} needs images, but {self.dataset} has rows of "
                f"{data.image_shape[0]} values: use {', '.join(FLAT)}"
            )
        if len(data.image_shape) != 3 and (
            self.augment != "none" or self.query_augment > 1 or self.cutout
        ):
            raise ValueError("augment, query_augment and cutout need images, not rows of values")
        if self.cutout and self.cutout >= min(data.image_shape[:2]):
            raise ValueError(
                f"cutout must be smaller than the images of {data.image_shape[0]} x "
                f"{data.image_shape[1]} pixels, not {self.cutout}"
            )
        if (
            self.backend == "jax"
            and self.trials_per_device > 1
            and self.model in models.CONVOLUTIONAL
            and not backends.gpus()
        ):
            raise ValueError(
                "trials_per_device above 1 with backend 'jax' trains an ensemble, and convolutions "
                "of ensembles need a GPU, of which there is none"
            )
        split = Split.of(self, data)
        self._check_sizes(split)
        if self.design == "coin":
            decided = split.population if split.canaries is None else split.canaries
            draws.check_coins(len(decided), self.seed, trials, self.train_ratio)
        if self.model not in models.NAMED or self.precision != "float32":
            backends.check_trains(self.backend, self.settings(data))

    def settings(self, data: Dataset) -> Settings:
        """Return what an engine is compiled for."""
        architecture = models.Architecture(
            self.model, data.image_shape, data.classes, self.hidden, self.l2, self.precision
        )
        augmented = self.augment != "none" or self.cutout > 0
        return Settings(
            architecture,
            self.optimisation,
            augmented,
            int(self.cutout),
            float(self.label_smoothing),
        )

    def _check_sizes(self, split: Split) -> None:
        members = round(self.train_ratio * len(split.population))
        if split.canaries is not None:
            members = len(split.population) - len(split.canaries)
        if not 2 <= members <= len(split.population) - 1:
            raise ValueError(
                f"train_ratio {self.train_ratio:g} of a population of {len(split.population)} "
                f"makes {members} members: both sides must have some"
            )
        if self.batch_size > members:
            raise ValueError(
                f"batch_size must be at most the size of the training set, {members}, "
                f"not {self.batch_size}"
            )
        if self.early_stopping == "holdout" and len(split.holdout) == 0:
            raise ValueError(
                f"holdout {self.holdout:g} of {len(split.population)} images leaves none to watch: "
                "raise it, or use early_stopping 'off'"
            )

    def devices(self) -> Sequence[str | None]:
        """Return the GPUs; one that several processes share comes several times."""
        found = backends.gpus()
        shared = 1 if self.backend == "jax" else self.trials_per_device
        return [device for _ in range(shared) for device in found] or [None]

    def runs_on(self) -> str:
        """Name the backend and the GPUs, or say that there are none."""
        found = backends.gpus()
        if not found:
            where = f"the CPU (no GPU found), threads a trial: {self.threads_per_trial}"
        else:
            where = f"GPU {', '.join(found)}, trials on each: {self.trials_per_device}"
        return f"{self.backend} on {where}"

    def trials_at_once(self) -> int:
        """Return the size of an ensemble."""
        return self.trials_per_device if self.backend == "jax" else 1

    def open(self, threads: int, device: str | None = None) -> DeepSession:
        """Start the backend, load the data, build the model."""
        return DeepSession(self, threads, device)

    def run_data(self) -> RunData:
        """Return the table of all images, and the images where they are small enough."""
        given = self.load()
        split = Split.of(self, given)
        data = split.data
        held = np.zeros(len(data.labels), np.int8)
        held[split.holdout] = 1
        population: Columns = {
            "id": data.ids,
            "label": data.labels,
            "label_name": Coded(data.labels, data.names),
            "duplicate_group": data.groups,
            "split": Coded(held, ("population", "holdout")),
        }
        if data.id_names:
            population = {**population, "name": list(data.id_names)}
        if data.own_groups is not None:
            population = {**population, "group": data.own_groups}
        if split.canaries is not None:
            kinds = np.isin(np.arange(len(data.labels)), split.canaries)
            original = np.full(len(data.labels), -1, np.int64)
            original[: len(given.labels)] = given.labels
            population = {**population, "is_canary": kinds, "label_before": original}
        pictures = data.images.dtype == np.uint8 and data.images.ndim == 4
        small = pictures and data.images.nbytes <= IMAGES_LIMIT
        return RunData({"population": population}, {"images": data.images} if small else {})

    def estimate(self) -> Estimate:
        """Predict from costs measured on one core; a GPU needs far less time."""
        data = self.load()
        # Convolutions cost by pixels: the first has few channels, whatever the images have.
        images, pixels = len(data.labels), math.prod(data.image_shape[:2])
        a_pixel = _SECONDS_A_PIXEL.get(self.model, _SECONDS_A_PIXEL["resnet"])
        epochs = self.epochs if self.early_stopping == "off" else min(self.epochs, 40)
        trained = images * (1 - self.holdout) * self.train_ratio * epochs
        saved = 4 * (self.save_logits * data.classes + self.save_features * self.hidden)
        saved += 4 * self.traces * epochs
        return Estimate(
            seconds_per_trial=1.0 + trained * pixels * a_pixel,
            bytes_per_trial=30_000 + images * (100 + saved),
            bytes_of_memory_per_worker=900_000_000 + 2 * data.images.nbytes + 2000 * images,
        )
