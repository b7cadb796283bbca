"""Tables of a run: attacks, memorisation, vulnerability; made only when their inputs change.

Everything goes to the run's ``tables/`` and can be deleted and made again. ``membership.json``
there records the hashes of what the files were made from, with which options, and of the files
themselves. Tables that were made with options stay until somebody gives other options, or asks for
the defaults in their place. Nothing here knows how a run came to be.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confsim._errors import ConfsimError
from confsim._kernels import resolve_threads
from confsim._version import __version__
from confsim.membership import attacks, linear, traces
from confsim.membership.attacks import Design
from confsim.membership.audit import epsilon_rows, refusal
from confsim.membership.best import best_rows
from confsim.membership.blind import blind_rows
from confsim.membership.curves import curve_name, order, roc_rows
from confsim.membership.evaluation import evaluate
from confsim.membership.evidence import evidence_tables, other_attacks
from confsim.membership.leverage import leverage
from confsim.membership.memorization import memorization
from confsim.membership.rmia import rmia_resolution
from confsim.membership.vulnerability import (
    answer,
    associations,
    fixed_space,
    mean_distances,
    power_by,
    reliability,
    split_exposure,
    vulnerability,
)
from confsim.statistics import closeness_chance
from confsim.store import artifacts, files
from confsim.store.formats import read_csv

if TYPE_CHECKING:
    import pandas as pd

    from confsim.store import Run

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

RECORD = "membership.json"

#: Raised when the same inputs give other tables.
VERSION = 3

#: Tables of many rows; the others are CSV files.
_PARQUET = ("vulnerability", "memorization", "roc")

#: What nobody need ask for.
_DEFAULTS: dict[str, Any] = {"seed": 0, "matched": True, "features": None}

_COLUMNS = (
    "id",
    "label",
    "predicted",
    "is_member",
    "log_odds_max",
    "log_odds_true",
    "entropy",
    "modified_entropy",
    "distance_excluding_self",
)
_VULNERABILITIES = ("exposure", "exposure_lira", "effect_size", "memorization")
_SIMILARITIES = (
    "distance_out",
    "distance_in",
    "fixed_distance",
    "fixed_distance_other_group",
    "density_distance",
    "leverage",
)
#: What is known of examples without a look at any model.
_WITHOUT_MODEL = ("fixed_distance", "density_distance", "leverage")


@dataclass(frozen=True)
class MembershipTables:
    """What :func:`membership_tables` found or made.

    Attributes
    ----------
    tables : dict of str to DataFrame
        By file name without suffix: ``attacks``, ``roc``, ``memorization``, ``vulnerability``,
        ``vulnerability_bins``, ``vulnerability_correlations``, ``transfer``, ``agreement``,
        ``agreement_pairs``, ``discoveries``, ``best_attack``, ``blind``, ``epsilon`` (deep runs and
        audits); ``attacks``,
        ``extremes_membership``, ``angle_correlations`` (linear runs).
    notes : tuple of str
        What was left out, and why; how figures are to be read; options other than the defaults.
    answers : tuple of str
        Sentences that say whether vulnerability rises with distance.
    made : bool
        Whether anything was computed now.
    options : dict
        ``seed``, ``matched`` and ``features`` (a path, or ``None``) that they were made with.
    """

    tables: "dict[str, pd.DataFrame]"
    notes: tuple[str, ...]
    answers: tuple[str, ...]
    made: bool
    options: dict[str, Any]

    def __getitem__(self, name: str) -> "pd.DataFrame":
        return self.tables[name]


def membership_tables(
    run: "Run",
    *,
    features: str | Path | None = None,
    matched: bool = True,
    seed: int = 0,
    n_threads: int | None = None,
    replace: bool = False,
) -> MembershipTables:
    """Make the membership tables of a run, or read them where nothing has changed.

    Tables that are there and were made with options of somebody's are never replaced by tables
    made with the defaults: without an option, they are read, and where trials have come since, made
    again with their own options.

    Parameters
    ----------
    run : Run
        With at least one finished trial.
    features : path, optional
        ``.npy`` file with one row for each row of ``population.parquet`` (or for each example,
        where there is none): a fixed space to measure similarity in, for instance of a pretrained
        encoder. By default the run's images.
    matched : bool
        Linear runs: also compare closeness with one random training point dropped for each
        non-member, so that members have no candidate fewer.
    seed : int
        Of the bootstrap, of trimming and of ``matched``.
    n_threads : int, optional
    replace : bool
        Make them with exactly these options, also where that means the defaults in the place of
        others.

    Raises
    ------
    ValueError
        If ``features`` does not fit, or the tables cannot be written.
    ConfsimError
        If the run has no finished trial, or a file is damaged; if tables made with options are out
        of date and cannot be made again, because ``features`` is gone or has changed.
    """
    if not run.trials:
        raise ConfsimError(f"{run.path} has no finished trial to analyse")
    artifacts.sweep(run.path)
    given: dict[str, Any] = {
        "seed": seed,
        "matched": matched,
        "features": None if features is None else str(Path(features).absolute()),
    }
    record = _Record.of(run)
    options = given
    if given == _DEFAULTS and not replace and record is not None:
        options = record.options
    space = None if options["features"] is None else Path(options["features"])
    inputs = _inputs(run)
    if record is not None and options == record.options:
        # A user's own features may be elsewhere now; the tables that were made with them stay.
        if space is not None and options is given:
            inputs["features"] = _features_hash(space)
        elif space is not None:
            inputs["features"] = record.features
        if (found := record.tables(_made_from(inputs, options))) is not None:
            return found
        if space is not None and options is not given and not _is(space, record.features):
            raise ConfsimError(
                f"the tables of {run.path} were made with features {space} and other trials, and "
                "that file is gone or has changed; membership_tables(run, features=...) makes them "
                "with others, and replace=True (confsim-report --remake-tables) without"
            )
    if space is not None:
        inputs["features"] = _features_hash(space)
    tables, notes, answers = _make(run, space, options, n_threads)
    _write(run, tables, _made_from(inputs, options), options, inputs, notes, answers)
    return MembershipTables(
        tables, (*notes, *_on_options(options)), tuple(answers), made=True, options=dict(options)
    )


def _make(
    run: "Run", space: Path | None, options: Mapping[str, Any], n_threads: int | None
) -> "tuple[dict[str, pd.DataFrame], list[str], list[str]]":
    """Return the tables, notes and answers."""
    if run.capabilities.examples:
        maker = _ExampleTables(run, space, options["seed"], resolve_threads(n_threads))
        return maker.make()
    if not run.capabilities.lattice:
        raise ConfsimError(f"{run.path} has neither examples nor a lattice to be attacked")
    tables, notes = linear.tables(
        run, matched=options["matched"], seed=options["seed"], n_threads=n_threads
    )
    return tables, notes, []


def _on_options(options: Mapping[str, Any]) -> list[str]:
    """Return a note that says how tables were made, if not by default."""
    other = [f"{key} {options[key]}" for key in _DEFAULTS if options[key] != _DEFAULTS[key]]
    return [f"tables: made with {', '.join(other)}"] if other else []


#: Files of a trial that tables are made from.
_READ = (
    "examples.parquet",
    "augmented.parquet",
    "holdout.parquet",
    "traces.parquet",
    "model.npz",
    "summary.json",
)


# ---- what tables are made from -----------------------------------------------------------------


def _inputs(run: "Run") -> dict[str, Any]:
    """Return the hashes of everything of the run that is read."""
    inputs: dict[str, Any] = {"identity": run.identity_hash}
    for number in run.trials:
        entries = run.trial(number).record["files"]
        inputs[f"trial {number}"] = {
            name: entries[name]["sha256"] for name in _READ if name in entries
        }
    for name in ("population.parquet", "images.npy"):
        if run.has(name):
            inputs[name] = files.file_hash(run.path / name)
    return inputs


def _made_from(inputs: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    # Where features lie does not matter: their hash is among the inputs.
    decisive = {key: options[key] for key in ("seed", "matched")}
    versions = {"version": VERSION, "confsim": __version__}
    return {"inputs": dict(inputs), "options": decisive | versions}


def _features_hash(path: Path) -> str:
    try:
        return files.file_hash(path.resolve())
    except OSError as error:
        raise ValueError(f"features {path} cannot be read: {error.strerror}") from None


def _is(path: Path, digest: str | None) -> bool:
    """Whether a file has a hash."""
    try:
        return _features_hash(path) == digest
    except (ValueError, ConfsimError):
        return False


@dataclass(frozen=True)
class _Record:
    """The record of the tables that are there."""

    run: "Run"
    found: dict[str, Any]
    options: dict[str, Any]

    @classmethod
    def of(cls, run: "Run") -> "_Record | None":
        """Read it, ``None`` if there is none of ours."""
        path = run.path / "tables" / RECORD
        found = artifacts.read_record(path) or _earlier(path)
        if found is None:
            return None
        options = {key: found["options"].get(key, value) for key, value in _DEFAULTS.items()}
        texts = (found.get("notes"), found.get("answers"))
        lists = all(isinstance(t, list) and all(isinstance(x, str) for x in t) for t in texts)
        seeded = type(options["seed"]) is int and options["seed"] >= 0
        space = options["features"]
        plain = isinstance(options["matched"], bool) and isinstance(space, (str, type(None)))
        return cls(run, found, options) if lists and seeded and plain else None

    @property
    def features(self) -> str | None:
        """Hash of the features that they were made with."""
        inputs = self.found.get("inputs")
        value = inputs.get("features") if isinstance(inputs, dict) else None
        return value if isinstance(value, str) else None

    def tables(self, made_from: Mapping[str, Any]) -> MembershipTables | None:
        """Return the tables, if they were made from this and are whole."""
        if self.found["made_from"] != artifacts.digest(made_from):
            return None
        folder, tables = self.run.path / "tables", {}
        try:
            files.check_folder(folder)
            for name, entry in self.found["files"].items():
                with files.open_checked(folder / name, entry, self.run.limit) as file:
                    tables[Path(name).stem] = _load(file, name, self.run.limit)
        except (files.Damaged, ValueError):
            return None
        notes = (*self.found["notes"], *_on_options(self.options))
        answers = tuple(self.found["answers"])
        return MembershipTables(tables, notes, answers, made=False, options=self.options)


def _earlier(path: Path) -> dict[str, Any] | None:
    """Return what a record of a version before 0.2 says of options; its tables are made again.

    It did not say where features lay: tables made with some stand until others are given.
    """
    try:
        found = files.parse_json(files.read_bounded(path, 1 << 26), path.name)
        options = {**_DEFAULTS, "seed": found["options"]["seed"]}
        options["matched"] = found["options"]["matched"]
        if "features" in found["inputs"]:
            options["features"] = "unknown.npy"
    except (OSError, ConfsimError, KeyError, TypeError):
        return None
    return {"made_from": "", "options": options, "files": {}, "notes": [], "answers": []}


def _load(file: Any, name: str, limit: int) -> "pd.DataFrame":
    import pandas as pd

    if name.endswith(".parquet"):
        opened = files.open_parquet(file, name, limit)
        with files.parquet_errors(name):
            frame: pd.DataFrame = opened.read().to_pandas(ignore_metadata=True)
        return frame
    frame = read_csv(file, keep_default_na=False, na_values=["nan"])
    return artifacts.with_texts(frame, artifacts.plain_text)


def _write(
    run: "Run",
    tables: "Mapping[str, pd.DataFrame]",
    made_from: Mapping[str, Any],
    options: Mapping[str, Any],
    inputs: Mapping[str, Any],
    notes: Sequence[str],
    answers: Sequence[str],
) -> None:
    """Write the tables, each whole or not at all, and their record after them."""
    folder, entries = run.path / "tables", {}
    for name, table in tables.items():
        buffer = io.BytesIO()
        if name in _PARQUET:
            file = f"{name}.parquet"
            table.to_parquet(buffer, index=False, compression="zstd")
        else:
            file = f"{name}.csv"
            artifacts.with_texts(table, artifacts.csv_text).to_csv(
                buffer, index=False, na_rep="nan"
            )
        entries[file] = artifacts.write(folder / file, buffer.getvalue())
    artifacts.write_record(
        folder / RECORD,
        made_from=made_from,
        options=options,
        entries=entries,
        more={"inputs": dict(inputs), "notes": list(notes), "answers": list(answers)},
    )


# ---- runs with examples ------------------------------------------------------------------------


class _Matrices:
    """The examples of a run as arrays (trials, examples)."""

    def __init__(
        self, run: "Run", trials: Sequence[int], only: NDArray[np.int64] | None = None
    ) -> None:
        self.trials = np.array(trials)

        def read(number: int) -> "pd.DataFrame":
            table = run.trial(number).table("examples", list(_COLUMNS))
            return table if only is None else table[np.isin(table["id"], only)]

        first = read(trials[0])
        self.ids = first["id"].to_numpy()
        self.labels = first["label"].to_numpy()
        shape = (len(trials), len(self.ids))
        self.is_member, self.correct = np.empty(shape, bool), np.empty(shape, bool)
        self.values = {name: np.empty(shape) for name in _COLUMNS[4:]}
        for i, number in enumerate(trials):
            table = read(number) if i else first
            if not np.array_equal(table["id"].to_numpy(), self.ids):
                raise ConfsimError(f"trial {number} of {run.path} has other examples than the rest")
            self.is_member[i] = table["is_member"].to_numpy()
            self.correct[i] = table["predicted"].to_numpy() == self.labels
            for name, matrix in self.values.items():
                matrix[i] = table[name].to_numpy()
        self.has_predictions = bool((first["predicted"] >= 0).all())

    def get(self, name: str) -> FloatArray | None:
        """Return a column, ``None`` where the run has nothing in it."""
        matrix = self.values[name]
        return None if np.isnan(matrix).all() else matrix


def _threshold(attack: str, column: str, values: NDArray[Any]) -> FloatArray:
    given: dict[str, Any] = {column: values}
    return attacks.threshold_scores(**given)[attack]


def _why_impossible(scores: FloatArray, is_member: BoolArray) -> str:
    """Say why no target has known scores of both classes."""
    known = ~np.isnan(scores)
    kinds = {bool(kind) for kind in np.unique(is_member[known])}
    if not kinds:
        return "no score is known: too few models were trained with, or without, each example"
    if len(kinds) == 2:
        return "no target has known scores of both members and non-members"
    return f"known scores are of {'members' if kinds == {True} else 'non-members'} only"


class _ExampleTables:
    """Makes the tables of a run whose trials have examples."""

    def __init__(self, run: "Run", features: Path | None, seed: int, threads: int) -> None:
        self.run, self.features, self.seed, self.threads = run, features, seed, threads
        self.notes: list[str] = list(run.config.get("notes", ()))
        self.skipped: dict[str, str] = {}
        self._scores: dict[str, FloatArray] = {}
        self.curves: dict[str, list[dict[str, Any]]] = {}
        self.trials = self._usable_trials()
        self.canaries = self._canaries()
        self.data = _Matrices(run, self.trials, self.canaries)
        self.design = self._design()
        self.groups = None if self.design.partner is None else self.trials_array // 2

    @property
    def trials_array(self) -> NDArray[np.int64]:
        return np.array(self.trials, dtype=np.int64)

    def _canaries(self) -> NDArray[np.int64] | None:
        """Return the ids of those whose membership was drawn, where all others are members."""
        if not self.run.has("population.parquet"):
            return None
        table = self.run.population()
        if "is_canary" not in table:
            return None
        ids: NDArray[np.int64] = table["id"][table["is_canary"]].to_numpy()
        self.notes.append(
            f"attacks and all that follows are about the {len(ids)} canaries: the other examples "
            "are members of every trial"
        )
        return ids

    def _usable_trials(self) -> list[int]:
        trials = self.run.trials
        if not self.run.capabilities.partners:
            return trials
        there = set(trials)
        paired = [number for number in trials if number ^ 1 in there]
        if len(paired) < len(trials):
            self.notes.append(
                f"{len(trials) - len(paired)} trials of the balanced design have no finished "
                "partner yet and were left out"
            )
        if not paired:
            raise ConfsimError(f"{self.run.path} has no finished pair of its balanced design")
        return paired

    def _design(self) -> Design:
        partner = None
        if self.run.capabilities.partners:
            partner = np.searchsorted(self.trials_array, self.trials_array ^ 1)
        trim = self.run.capabilities.trimming
        if trim and len(self.trials) > 1:
            self.notes.append(
                "shadow models were trimmed to equally many in and out for each example, because "
                "counts alone may reveal membership"
            )
        return Design(self.data.is_member, partner, trim, self.seed)

    def make(self) -> "tuple[dict[str, pd.DataFrame], list[str], list[str]]":
        import pandas as pd

        rows = self._attack_rows()
        if not rows:
            self.notes.append("attacks: none is possible")
        points = [row for name in sorted(self.curves, key=order) for row in self.curves[name]]
        rows += [
            {"attack": attack, "target": "none", "reason": reason}
            for attack, reason in self.skipped.items()
        ]
        tables = {"attacks": pd.DataFrame(rows)}
        if points:
            tables["roc"] = pd.DataFrame(points)
        columns: dict[str, NDArray[Any]] = {"id": self.data.ids, "label": self.data.labels}
        if not self.data.has_predictions:
            self.notes.append("memorization, correctness: skipped, the run has no predictions")
        elif len(self.trials) < 2:
            self.notes.append("memorization: skipped, it needs more than one trial")
        else:
            found = memorization(self.data.correct, self.data.is_member)
            tables["memorization"] = pd.DataFrame(columns | found)
            columns["memorization"] = found["memorization"]
        evidence = self._evidence()
        answers = self._vulnerability(columns, tables)
        tables |= evidence | self._about_draws(rows, columns)
        return tables, self.notes, answers

    def _about_draws(
        self, rows: list[dict[str, Any]], columns: dict[str, NDArray[Any]]
    ) -> "dict[str, pd.DataFrame]":
        """Return the best attack, epsilon, and what is told without the model."""
        import pandas as pd

        design = self.run.capabilities.design
        found = {
            "best_attack": best_rows(rows, self.trials, partner=self.design.partner, seed=self.seed)
        }
        why_not = refusal(design, float(self.run.config.get("train_ratio", 0.5)))
        if why_not is None and self._scores:
            found["epsilon"] = epsilon_rows(
                self._scores,
                self._scores["loss"],
                self.data.is_member,
                targets=self.trials,
                ids=self.data.ids,
                seed=self.seed,
            )
        else:
            reason = why_not or "it needs log-odds and three trials"
            found["epsilon"] = [{"attack": "all", "target": "none", "reason": reason}]
        if design not in ("independent", "balanced", "coin"):
            _, groups = self._population()
            similar = columns if self._lira_possible else self._similarity()
            known = {name: similar[name] for name in _WITHOUT_MODEL if name in similar}
            if groups is not None and groups.max() >= 0:
                _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
                known["duplicates"] = np.where(groups >= 0, sizes[group], 1)
            found["blind"] = blind_rows(
                known,
                self.data.labels,
                self.data.is_member,
                targets=self.trials,
                groups=groups,
                seed=self.seed,
            )
        return {name: pd.DataFrame(made) for name, made in found.items() if made}

    # ---- attacks

    @cached_property
    def _lira_possible(self) -> bool:
        return self.data.get("log_odds_true") is not None and len(self.trials) >= 3

    @cached_property
    def _gaussians(self) -> attacks.Gaussians:
        return attacks.fit_gaussians(
            self.data.values["log_odds_true"], self.design, n_threads=self.threads
        )

    @cached_property
    def _fixed_by_default(self) -> bool:
        return self.design.shadow_models < attacks.FEW_SHADOW_MODELS

    @cached_property
    def _lira(self) -> FloatArray:
        """Scores of the attack that vulnerability is measured by."""
        return attacks.lira_scores(
            self.data.values["log_odds_true"],
            self._gaussians,
            online=True,
            fixed_variance=self._fixed_by_default,
        )

    def _attacks(self) -> Iterator[tuple[str, Callable[[], FloatArray]]]:
        """Yield (name, what computes its scores) of every attack that the run allows."""
        names = {
            "confidence": "log_odds_max",
            "loss": "log_odds_true",
            "modified_entropy": "modified_entropy",
            "entropy": "entropy",
            "closeness": "distance_excluding_self",
        }
        for attack, column in names.items():
            values = self.data.get(column)
            if values is None:
                self._skip(attack, f"the run has no {column}")
            else:
                yield attack, partial(_threshold, attack, column, values)
        if self.data.has_predictions:
            yield "correctness", partial(_threshold, "correctness", "correct", self.data.correct)
        if self.run.trial(self.trials[0]).has("traces.parquet"):
            found, note = traces.run_scores(self.run, self.trials, self.data.ids)
            self.notes += [note] if note else []
            yield from ((name, partial(found.__getitem__, name)) for name in traces.ATTACKS)
        else:
            for attack in traces.ATTACKS:
                self._skip(attack, "the run keeps no traces (confsim-deep --traces)")
        self._skip(
            "quantile_regression",
            "it fits a model to features: confsim.membership.quantile_regression",
        )
        if self._lira_possible:
            yield from self._shadow_attacks()
        elif self.data.get("log_odds_true") is None:
            self._skip("lira, rmia", "the run has no log_odds_true")
        else:
            self._skip("lira, rmia", "they need at least three trials")

    def _skip(self, attacks_: str, reason: str) -> None:
        """Say why attacks are not there, in the notes and in the table."""
        self.notes.append(f"{attacks_}: skipped, {reason}")
        self.skipped |= dict.fromkeys(attacks_.split(", "), reason)

    def _shadow_attacks(self) -> Iterator[tuple[str, Callable[[], FloatArray]]]:
        log_odds, fit = self.data.values["log_odds_true"], self._gaussians
        for online in (True, False):
            for fixed in (True, False):
                name = f"lira_{'online' if online else 'offline'}_"
                name += "fixed_variance" if fixed else "own_variance"
                compute = partial(attacks.lira_scores, log_odds, fit)
                yield name, partial(compute, online=online, fixed_variance=fixed)
        given: dict[str, Any] = {
            "is_member": self.data.is_member,
            "partner": self.design.partner,
            "trim": self.design.trim,
            "seed": self.seed,
            "n_threads": 1,
        }
        views = self._views()
        if views is not None:
            for online in (True, False):
                name = f"lira_{'online' if online else 'offline'}_augmented"
                yield name, partial(attacks.lira, views, online=online, **given)
        holdout = self._holdout()
        self.notes.append(self._resolution(holdout))
        for online in (True, False):
            name = f"rmia_{'online' if online else 'offline'}"
            compute = partial(attacks.rmia, log_odds, holdout_log_odds=holdout)
            yield name, partial(compute, online=online, **given)
        yield from other_attacks(
            log_odds,
            self.design,
            self.data.labels,
            modified_entropy=self.data.get("modified_entropy"),
            holdout=holdout,
        )

    def _resolution(self, holdout: FloatArray | None) -> str:
        """Say what RMIA's points Z are, and which false-positive rates they cannot resolve."""
        points = None if holdout is None else holdout.shape[1]
        found = rmia_resolution(self.data.is_member, holdout_points=points)
        kind = "the holdout" if found.z == "holdout" else "the target's other non-members"
        note = f"rmia: Z is {kind}, {found.points} points"
        coarse = found.unresolved(int((~self.data.is_member).sum(axis=1).max()))
        if coarse:
            note += f": too few for false-positive rates of {max(coarse):g} and below"
        return note

    def _evidence(self) -> "dict[str, pd.DataFrame]":
        """Return tables of what the main attacks find at thresholds that can be chosen."""
        import pandas as pd

        log_odds = self.data.get("log_odds_true")
        if log_odds is None or not self._lira_possible:
            self.notes.append("transfer, agreement, discoveries: skipped, they need LiRA")
            return {}
        scores = {
            "loss": log_odds,
            "lira_online": self._lira,
            "rmia_online": attacks.rmia(
                log_odds,
                self.data.is_member,
                holdout_log_odds=self._holdout(),
                partner=self.design.partner,
                trim=self.design.trim,
                seed=self.seed,
                n_threads=self.threads,
            ),
        }
        self._scores = scores
        found = evidence_tables(scores, log_odds, self.design, self.trials_array)
        return {name: pd.DataFrame(rows) for name, rows in found.items()}

    def _views(self) -> FloatArray | None:
        """Return the log-odds of flipped and shifted examples (trials, examples, views)."""
        if not self.run.trial(self.trials[0]).has("augmented.parquet"):
            return None
        columns = ["id", "augmentation", "log_odds_true"]
        views: FloatArray | None = None
        for i, number in enumerate(self.trials):
            table = self.run.trial(number).table("augmented", columns)
            if self.canaries is not None:
                table = table[np.isin(table["id"], self.canaries)]
            table = table.sort_values(["augmentation", "id"], kind="stable")
            rows = table["log_odds_true"].to_numpy().reshape(-1, len(self.data.ids))
            if views is None:
                views = np.empty((len(self.trials), len(self.data.ids), len(rows)))
            views[i, np.argsort(self.data.ids, kind="stable")] = rows.T
        return views

    def _holdout(self) -> FloatArray | None:
        if not self.run.trial(self.trials[0]).has("holdout.parquet"):
            return None
        rows = [
            self.run.trial(t).table("holdout", ["log_odds_true"])["log_odds_true"].to_numpy()
            for t in self.trials
        ]
        return np.stack(rows) if len(rows[0]) else None

    def _attack_rows(self) -> list[dict[str, Any]]:
        """Evaluate every attack, several at once: most of it is sorting, which frees the GIL."""

        def rows(attack: tuple[str, Callable[[], FloatArray]]) -> list[dict[str, Any]]:
            name, compute = attack
            scores = compute()
            curve = curve_name(name, fixed_variance=self._fixed_by_default)
            if curve is not None:
                self.curves[curve] = roc_rows(curve, scores, self.data.is_member)
            found = evaluate(
                scores,
                self.data.is_member,
                targets=self.trials_array,
                row_groups=self.groups,
                seed=self.seed,
                n_threads=1,
            )
            if not found:
                impossible[name] = _why_impossible(scores, self.data.is_member)
            null = self._null_aucs() if name == "closeness" else {}
            return [
                {
                    "attack": name,
                    **row,
                    "target": str(row["target"]),
                    "null_auc": null.get(row["target"], 0.5),
                }
                for row in found
            ]

        impossible: dict[str, str] = {}
        with ThreadPoolExecutor(min(2, self.threads)) as pool:
            made = [row for found in pool.map(rows, self._attacks()) for row in found]
        for name in sorted(impossible):  # threads end in any order
            self._skip(name, impossible[name])
        return made

    def _null_aucs(self) -> dict[Any, float]:
        """Return the AUC of closeness if nothing leaked: a member has one candidate fewer."""
        classes = np.zeros(len(self.data.labels), dtype=np.int64)
        if self.run.config.get("same_class"):
            classes = np.unique(self.data.labels, return_inverse=True)[1]
        sizes = np.bincount(classes)
        nulls = {}
        for trial, member in zip(self.trials, self.data.is_member, strict=True):
            held = np.bincount(classes[member], minlength=len(sizes))
            nulls[trial] = closeness_chance(held, sizes - held)
        known = [value for value in nulls.values() if not np.isnan(value)]
        mean = float(np.mean(known)) if known else float("nan")
        return nulls | {"mean": mean, "pooled": mean}

    # ---- vulnerability

    def _vulnerability(
        self, columns: dict[str, NDArray[Any]], tables: "dict[str, pd.DataFrame]"
    ) -> list[str]:
        import pandas as pd

        if not self._lira_possible:
            self.notes.append("vulnerability: skipped, it needs LiRA")
            return []
        log_odds, member = self.data.values["log_odds_true"], self.data.is_member
        measured = vulnerability(None, log_odds, member)
        columns |= {name: measured[name] for name in ("exposure", "effect_size")}
        columns["exposure_lira"] = split_exposure(log_odds, member, row_groups=self.groups)
        columns |= self._similarity()
        tables["vulnerability"] = pd.DataFrame(columns)
        tables["vulnerability_bins"] = pd.DataFrame(self._bins(columns))
        reliabilities = self._reliabilities(columns)
        tables["vulnerability_reliability"] = pd.DataFrame(
            {"vulnerability": list(reliabilities), "reliability": list(reliabilities.values())}
        )
        found = associations(
            columns,
            tuple(name for name in _VULNERABILITIES if name in columns),
            tuple(name for name in _SIMILARITIES if name in columns),
            reliabilities,
        )
        if found:
            self.notes.append(
                "intervals of correlations are over examples; that examples share trials is not "
                "accounted for"
            )
        tables["vulnerability_correlations"] = pd.DataFrame(
            {
                "vulnerability": [a.vulnerability for a in found],
                "similarity": [a.similarity for a in found],
                "scope": [a.scope for a in found],
                "examples": [a.examples for a in found],
                "spearman": [a.correlation.value for a in found],
                "spearman_low": [a.correlation.low for a in found],
                "spearman_high": [a.correlation.high for a in found],
                "count": [a.correlation.pairs for a in found],
                "reliability": [a.reliability for a in found],
                "spearman_corrected": [a.corrected.value for a in found],
                "spearman_corrected_low": [a.corrected.low for a in found],
                "spearman_corrected_high": [a.corrected.high for a in found],
            }
        )
        primary = next((name for name in _SIMILARITIES if name in columns), None)
        told = (primary, "fixed_distance")
        return [answer(a) for a in found if a.vulnerability == "exposure" and a.similarity in told]

    def _reliabilities(self, columns: dict[str, NDArray[Any]]) -> dict[str, float]:
        """Return the split-half reliability of each measure of vulnerability."""
        log_odds, member = self.data.values["log_odds_true"], self.data.is_member

        def measured(name: str, rows: NDArray[np.int64]) -> FloatArray:
            if name == "memorization":
                found: FloatArray = memorization(self.data.correct[rows], member[rows])[name]
                return found
            if name == "exposure_lira":
                groups = None if self.groups is None else self.groups[rows]
                return split_exposure(log_odds[rows], member[rows], row_groups=groups)
            return vulnerability(None, log_odds[rows], member[rows])[name]

        return {
            name: reliability(partial(measured, name), len(member), self.groups)
            for name in _VULNERABILITIES
            if name in columns
        }

    def _similarity(self) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = {}
        distance = self.data.get("distance_excluding_self")
        if distance is None:
            self.notes.append(
                "vulnerability by distance_out, distance_in: the run has no distances"
            )
        else:
            found |= mean_distances(distance, self.data.is_member)
        position, groups = self._population()
        if groups is not None:
            _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
            found["has_duplicate"] = (sizes[group] > 1) & (groups >= 0)
            if not found["has_duplicate"].any():
                self.notes.append("no example has a duplicate: nothing to leave out")
        if self.canaries is not None:
            self.notes.append("fixed_distance, density_distance: not measured among canaries")
            return found
        space = self._space(position)
        if space is None:
            self.notes.append("fixed_distance, density_distance: no images and no features")
            return found
        if self.features is not None:
            found["leverage"] = leverage(space.reshape(len(space), -1)).leverage
        return found | fixed_space(space, groups)

    def _population(self) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Return each example's row in the population, and its duplicate group."""
        if not self.run.has("population.parquet"):
            return np.arange(len(self.data.ids)), None
        table = self.run.population()
        order = np.argsort(table["id"].to_numpy(), kind="stable")
        position = order[np.searchsorted(table["id"].to_numpy()[order], self.data.ids)]
        if "duplicate_group" not in table:
            return position, None
        return position, table["duplicate_group"].to_numpy()[position]

    def _space(self, position: NDArray[np.int64]) -> NDArray[Any] | None:
        if self.features is not None:
            space: NDArray[Any] = _load_features(self.features, len(self.data.ids), position)
            return space
        if not self.run.has("images.npy"):
            return None
        return self.run.images()[position]

    def _bins(self, columns: dict[str, NDArray[Any]]) -> list[dict[str, Any]]:
        """Return the power of LiRA by distance, by density and by class."""
        kinds: list[tuple[str, int | None]] = [
            ("distance_out", 10),
            ("fixed_distance", 10),
            ("density_distance", 10),
            ("label", None),
        ]
        return [
            {"by": name, **row}
            for name, bins in kinds
            if name in columns
            for row in power_by(
                columns[name],
                self._lira,
                self.data.is_member,
                bins=bins,
                row_groups=self.groups,
                seed=self.seed,
                n_threads=self.threads,
            )
        ]


def _load_features(path: Path, examples: int, position: NDArray[np.int64]) -> NDArray[Any]:
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"features {path} cannot be read as .npy: {error}") from None
    if features.ndim < 2:
        raise ValueError(f"features {path} must have shape (examples, ...), not {features.shape}")
    if len(features) == examples:
        return np.asarray(features)
    if len(features) <= position.max(initial=0):
        raise ValueError(
            f"features {path} must have a row for each of the {examples} examples or for each row "
            f"of population.parquet, not {len(features)} rows"
        )
    chosen: NDArray[Any] = features[position]
    return chosen
