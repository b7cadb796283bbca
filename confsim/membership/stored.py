"""The membership tables of a run: read where they are up to date, made where not.

Everything goes to the run's ``tables/`` and can be deleted and made again. ``membership.json``
there records the hashes of what the files were made from, with which options, and of the files
themselves. Tables that were made with options stay until somebody gives other options, or asks for
the defaults in their place. What the tables say is
:mod:`confsim.membership.tables` (runs with examples) and :mod:`confsim.membership.linear`.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confsim._errors import ConfsimError
from confsim._kernels import resolve_threads
from confsim._version import __version__
from confsim.membership import linear, pieces
from confsim.membership.tables import ExampleTables
from confsim.store import artifacts, check_run, files
from confsim.store.formats import read_csv

if TYPE_CHECKING:
    import pandas as pd

    from confsim.store import Run

RECORD = "membership.json"

#: Raised when the same inputs give other tables.
VERSION = 11

#: Tables of many rows; the others are CSV files.
_PARQUET = ("vulnerability", "memorization", "roc")

#: Files of a trial that tables are made from.
_READ = (
    "examples.parquet",
    "augmented.parquet",
    "holdout.parquet",
    "traces.parquet",
    "model.npz",
    "summary.json",
)

#: What nobody need ask for.
_DEFAULTS: dict[str, Any] = {"seed": 0, "matched": True, "features": None}


@dataclass(frozen=True, repr=False)
class MembershipTables:
    """What :func:`membership_tables` found or made.

    Attributes
    ----------
    tables : dict of str to DataFrame
        By file name without suffix: ``attacks``, ``roc``, ``memorization``, ``vulnerability``,
        ``vulnerability_bins``, ``vulnerability_correlations``, ``success_bins``, ``transfer``,
        ``agreement``, ``agreement_pairs``, ``discoveries``, ``best_attack``, ``blind``,
        ``epsilon``, ``epsilon_bins``, and with groups of the user's own ``group_attacks`` and
        ``group_similarity`` (runs with examples); ``attacks``, ``extremes_membership``,
        ``angle_correlations``, ``leverage_bins``, ``leverage_correlations`` (linear runs).
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

    def __repr__(self) -> str:
        rows = (f"{name}: {len(table):,}" for name, table in self.tables.items())
        return f"MembershipTables(rows of {', '.join(rows)})"

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
    check_run(run)
    given = _options(features, matched=matched, seed=seed)
    found, plan = _planned(run, given, replace=replace)
    if found is not None:
        return found
    folder = run.path / "tables"
    artifacts.check_room(folder)
    tables, notes, answers = _make(run, plan, n_threads)
    _write(run, tables, plan, notes, answers)
    pieces.remove(folder)
    noted = (*notes, *_on_options(plan.options))
    return MembershipTables(tables, noted, tuple(answers), made=True, options=dict(plan.options))


@dataclass(frozen=True)
class Share:
    """What :func:`share_of_tables` did.

    Attributes
    ----------
    made : int
        Pieces that were made now.
    pieces : int
        Those of all shards; 0 where the tables are there.
    """

    made: int
    pieces: int


def share_of_tables(
    run: "Run", index: int, count: int, *, n_threads: int | None = None, replace: bool = False
) -> Share:
    """Make a shard's pieces of the membership tables, which :func:`membership_tables` joins.

    Whatever pieces are there, the tables are those of one process: missing ones are made by it. A
    shard that is killed, or repeated, does no harm.

    Parameters
    ----------
    run : Run
        Whose trials have examples.
    index, count : int
        Which shard, of how many.
    n_threads : int, optional
    replace : bool
        As of :func:`membership_tables`.

    Raises
    ------
    ValueError
        If the run has no examples, or nothing can be written.
    ConfsimError
        As of :func:`membership_tables`.
    """
    if not run.capabilities.examples:
        raise ValueError(
            f"{run.path} has no examples: its tables of attacks are made in one piece, without "
            "--shard"
        )
    found, plan = _planned(run, _options(None, matched=True, seed=0), replace=replace)
    if found is not None:
        return Share(0, 0)
    artifacts.check_room(run.path / "tables")
    return Share(*_example_tables(run, plan, n_threads).share(index, count))


@dataclass(frozen=True)
class _Plan:
    """How tables are made, and what from."""

    options: dict[str, Any]
    inputs: dict[str, Any]

    @property
    def space(self) -> Path | None:
        """The user's fixed space."""
        return None if self.options["features"] is None else Path(self.options["features"])

    @property
    def made_from(self) -> dict[str, Any]:
        """Hashes of everything, and the options that decide."""
        return _made_from(self.inputs, self.options)


def _options(features: str | Path | None, *, matched: bool, seed: int) -> dict[str, Any]:
    space = None if features is None else str(Path(features).absolute())
    return {"seed": seed, "matched": matched, "features": space}


def _planned(
    run: "Run", given: dict[str, Any], *, replace: bool
) -> tuple[MembershipTables | None, _Plan]:
    """Return tables that are up to date, or how they are to be made."""
    if not run.trials:
        raise ConfsimError(f"{run.path} has no finished trial to analyse")
    artifacts.sweep(run.path)
    record = _Record.of(run)
    options = given
    if given == _DEFAULTS and not replace and record is not None:
        options = record.options
    plan = _Plan(options, _inputs(run))
    space, inputs = plan.space, plan.inputs
    if record is not None and options == record.options:
        # A user's own features may be elsewhere now; the tables that were made with them stay.
        if space is not None and options is given:
            inputs["features"] = _features_hash(space)
        elif space is not None:
            inputs["features"] = record.features
        if (found := record.tables(plan.made_from)) is not None:
            return found, plan
        if space is not None and options is not given and not _is(space, record.features):
            raise ConfsimError(
                f"the tables of {run.path} were made with features {space} and other trials, and "
                "that file is gone or has changed; membership_tables(run, features=...) makes them "
                "with others, and replace=True (confsim-report --remake-tables) without"
            )
    if space is not None:
        inputs["features"] = _features_hash(space)
    return None, plan


def _make(
    run: "Run", plan: _Plan, n_threads: int | None
) -> "tuple[dict[str, pd.DataFrame], list[str], list[str]]":
    """Return the tables, notes and answers."""
    if run.capabilities.examples:
        return _example_tables(run, plan, n_threads).make()
    if not run.capabilities.lattice:
        raise ConfsimError(f"{run.path} has neither examples nor a lattice to be attacked")
    matched, seed = plan.options["matched"], plan.options["seed"]
    tables, notes = linear.tables(run, matched=matched, seed=seed, n_threads=n_threads)
    return tables, notes, []


def _example_tables(run: "Run", plan: _Plan, n_threads: int | None) -> ExampleTables:
    made = pieces.Pieces(run.path / "tables", artifacts.digest(plan.made_from))
    threads = resolve_threads(n_threads)
    return ExampleTables(run, plan.space, plan.options["seed"], threads, pieces=made)


def _on_options(options: Mapping[str, Any]) -> list[str]:
    """Return a note that says how tables were made, if not by default."""
    other = [f"{key} {options[key]}" for key in _DEFAULTS if options[key] != _DEFAULTS[key]]
    return [f"tables: made with {', '.join(other)}"] if other else []


# ---- what tables are made from -----------------------------------------------------------------


def _inputs(run: "Run") -> dict[str, Any]:
    """Return the hashes of everything of the run that is read."""
    inputs: dict[str, Any] = {"identity": run.identity_hash}
    for number in [*run.trials, *([] if run.target is None else [run.target])]:
        entries = run.trial(number).record["files"]
        inputs[f"trial {number}"] = {
            name: entries[name]["sha256"] for name in _READ if name in entries
        }
    for name in ("population.parquet", "images.npy", "features.npy"):
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


def file_of(table: str) -> str:
    """Return the name of a table's file."""
    return f"{table}.parquet" if table in _PARQUET else f"{table}.csv"


def _write(
    run: "Run",
    tables: "Mapping[str, pd.DataFrame]",
    plan: _Plan,
    notes: Sequence[str],
    answers: Sequence[str],
) -> None:
    """Write the tables, each whole or not at all, and their record after them."""
    folder, entries = run.path / "tables", {}
    for name, table in tables.items():
        buffer = io.BytesIO()
        file = file_of(name)
        if name in _PARQUET:
            table.to_parquet(buffer, index=False, compression="zstd")
        else:
            artifacts.with_texts(table, artifacts.csv_text).to_csv(
                buffer, index=False, na_rep="nan"
            )
        entries[file] = artifacts.write(folder / file, buffer.getvalue())
    artifacts.write_record(
        folder / RECORD,
        made_from=plan.made_from,
        options=plan.options,
        entries=entries,
        more={"inputs": dict(plan.inputs), "notes": list(notes), "answers": list(answers)},
    )
