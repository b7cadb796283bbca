"""Names in a run directory, its schema and identity, and what makes a trial count as damaged."""

import hashlib
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confsim._errors import ConfsimError, to_copy
from confsim._version import __version__
from confsim.experiment import Experiment
from confsim.store import files
from confsim.store.files import Damaged, file_hash
from confsim.store.packs import InFolder, Packs, Place, has_packs

__all__ = ["Damaged", "file_hash"]

#: What this version writes. Raised when an older reader would be misled.
SCHEMA = 1

#: What the manifest of a run with packed trials says: an older reader would not find them.
PACKED_SCHEMA = 2

MANIFEST = "manifest.json"
#: The same once more: what takes the manifest's place when a byte of it was altered.
MANIFEST_COPY = "manifest.copy.json"
TRIALS = "trials"
CLAIMS = "claims"
LOG = "log"
DAMAGED = "damaged"
#: Hashes of what all trials share; written after it, so its presence says that it is complete.
RUN_DATA = "run_data.json"
#: The record of a trial; written last into its directory.
TRIAL_RECORD = "trial.json"
SUMMARY = "summary.json"
TEMPORARY = ".tmp-"
SCRATCH = ".scratch"

#: Trials of a run at most.
MAX_TRIALS = 1_000_000

_PROVENANCE = ("numpy", "scipy", "highspy", "pyarrow", "keras", "tensorflow", "jax", "torch")


class CannotWrite(ConfsimError):  # noqa: N818 - reads as what it says
    """The run directory cannot be written: full, read-only or gone. No trial can be published."""

    def __init__(self, path: Path, error: OSError) -> None:
        reason = error.strerror or str(error)
        super().__init__(
            f"cannot write to {path}: {reason}; finished trials are kept, and the same command "
            "goes on from there once this is mended"
        )
        self.errno = error.errno


def trial_name(trial: int) -> str:
    """Name of a trial's directory, claim and scratch directory."""
    return f"{trial:06d}"


def trial_path(run: Path, trial: int) -> Path:
    """Directory of a finished trial."""
    return run / TRIALS / trial_name(trial)


def scratch_path(run: Path, trial: int) -> Path:
    """Directory of an unfinished trial's checkpoints; it outlives an interruption."""
    return run / TRIALS / SCRATCH / trial_name(trial)


def failure_path(run: Path, trial: int) -> Path:
    """Report of the last failure of a trial that has not been finished since."""
    return run / LOG / f"failed-{trial_name(trial)}.txt"


def temporary_path(run: Path, trial: int, owner: str, pid: int) -> Path:
    """Directory of a trial that worker ``pid`` of a command is writing."""
    return run / TRIALS / f"{TEMPORARY}{trial_name(trial)}-{owner}-{pid}"


def run_data_temporary_path(run: Path, owner: str, pid: int) -> Path:
    """Directory in which worker ``pid`` of a command is writing what all trials share."""
    return run / f"{TEMPORARY}run-{owner}-{pid}"


def parse_temporary(name: str) -> tuple[int, str] | None:
    """Return (trial, owner) of a temporary directory's name, ``None`` if it is no such name."""
    if not name.startswith(TEMPORARY):
        return None
    number, _, rest = name[len(TEMPORARY) :].partition("-")
    owner, _, pid = rest.rpartition("-")
    return (int(number), owner) if _is_number(number) and pid.isdecimal() else None


def trial_number(name: str) -> int | None:
    """Return the trial that a directory's name stands for, ``None`` if it is no trial's name.

    One trial has one name: ``00000017`` is not trial 17 once more.
    """
    if not _is_number(name):
        return None
    trial = int(name)
    return trial if trial < MAX_TRIALS and trial_name(trial) == name else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 12


def trial_numbers(run: Path) -> list[int]:
    """Return the numbers of all trials that were published, whatever their state, ascending."""
    # Packs are looked at last: a trial is in a pack before its directory goes.
    own = unpacked_numbers(run)
    return sorted({*own, *Packs(run).trials}) if has_packs(run) else own


def unpacked_numbers(run: Path) -> list[int]:
    """Return the numbers of the trials that have a directory of their own, ascending."""
    return sorted(n for name in _names(run / TRIALS) if (n := trial_number(name)) is not None)


def place_of(run: Path, trial: int, packs: Packs | None = None) -> Place | None:
    """Return where a trial's files lie, ``None`` if it was not published.

    Parameters
    ----------
    run : Path
    trial : int
    packs : Packs, optional
        The run's packs, for a caller who looks for many trials; looked at again where they lack
        this one.
    """
    # As text: a path object takes several times as long as the look.
    if os.path.lexists(f"{run}/{TRIALS}/{trial_name(trial)}"):
        return InFolder(trial_path(run, trial))
    if packs is None:
        return Packs(run).place(trial) if has_packs(run) else None
    found = packs.place(trial)
    return packs.place(trial) if found is None and packs.refresh() else found


def is_published(run: Path, trial: int) -> bool:
    """Whether a trial was published, and may be packed by now."""
    return place_of(run, trial) is not None


def strange_names(run: Path) -> list[str]:
    """Return what is in the folder of trials and belongs to no version of confsim, as paths."""
    return [
        f"{TRIALS}/{name}"
        for name in sorted(_names(run / TRIALS))
        if trial_number(name) is None and not name.startswith((TEMPORARY, SCRATCH))
    ]


def _names(folder: Path) -> list[str]:
    """Return the names in a folder of the run, none if it is missing; a link is no such folder."""
    files.check_folder(folder)
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []


#: Where runs go when nobody says.
RUNS = Path("runs")


def default_path(experiment: Experiment) -> Path:
    """Where a run goes when nobody says: the same settings always lead to the same directory."""
    return RUNS / f"{experiment.command}-{identity_hash(experiment.identity())[:10]}"


def identity_hash(identity: dict[str, Any]) -> str:
    """SHA-256 of an identity's canonical JSON, in hex."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of what is loaded in this process and may have shaped a result."""
    found = {"confsim": __version__, "python": sys.version.split()[0]}
    for name in _PROVENANCE:
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            found[name] = str(version)
    return found


def read_manifest(run: Path, *, copy: bool = True) -> dict[str, Any]:
    """Return a run's manifest, which carries the hash of its own bytes.

    Parameters
    ----------
    run : Path
    copy : bool
        Whether its copy may stand in for a damaged one; :func:`manifest_damage` tells.

    Raises
    ------
    ValueError
        If ``run`` is not a run directory, or one of a schema that this version cannot read.
    Damaged
        If a byte of the manifest was altered, and of its copy.
    """
    try:
        return _read_manifest(run, MANIFEST)
    except ManifestDamaged:
        try:
            if copy:
                return _read_manifest(run, MANIFEST_COPY)
        except (ValueError, ConfsimError):
            pass
        raise


def manifest_damage(run: Path) -> "ManifestDamaged | None":
    """Say what is wrong with a run's manifest, whether or not it has a copy."""
    try:
        read_manifest(run, copy=False)
    except ManifestDamaged as error:
        return error
    return None


def has_copy(run: Path) -> bool:
    """Whether a copy of the manifest is there whose bytes are those that were written."""
    try:
        return "schema" in files.read_sealed(run / MANIFEST_COPY)
    except (OSError, ConfsimError):
        return False


def _read_manifest(run: Path, name: str) -> dict[str, Any]:
    path = run / name
    try:
        manifest = files.read_sealed(path)
        schema = manifest["schema"]
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(_no_manifest(run, name)) from None
    except Damaged as error:
        if not files.is_folder(run / TRIALS):
            raise _not_ours(run) from None
        raise ManifestDamaged(run, str(error)) from None
    except OSError as error:
        raise ConfsimError(f"{path} cannot be read: {error.strerror}") from None
    except KeyError:
        raise _not_ours(run) from None
    check_schema(str(run), schema)
    if not all(isinstance(manifest.get(key), kind) for key, kind in _MANIFEST_TYPES.items()):
        raise _not_ours(run)
    if "confsim" not in manifest["versions"] or not 1 <= manifest["trials"] <= MAX_TRIALS:
        raise _not_ours(run)
    if not _strings(manifest["versions"]) or not _COMMAND.fullmatch(manifest["command"]):
        raise _not_ours(run)
    known = manifest.get("identity_hash")
    if known is not None and known != identity_hash(manifest["identity"]):
        raise ManifestDamaged(run, f"{name} does not have the identity that it was made with")
    return manifest


_MANIFEST_TYPES: dict[str, Any] = {
    "identity": dict,
    "command": str,
    "configuration": dict,
    "seed": (int, type(None)),
    "trials": int,
    "versions": dict,
    "created": str,
}
_COMMAND = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def _no_manifest(run: Path, name: str) -> str:
    """Say what was named instead of a run, and which run may have been meant."""
    if not run.exists():
        return f"{run} does not exist: a run directory is needed"
    said = f"{run} is not a run directory: it has no {name}"
    try:
        below = sorted(path.parent for path in run.glob(f"*/{MANIFEST}"))
    except OSError:
        below = []
    return said + (f", but {below[0]} has one" if below else "")


def _not_ours(run: Path) -> ValueError:
    return ValueError(f"{run} is not a run directory: its {MANIFEST} is not one of ours")


def _strings(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


class ManifestDamaged(Damaged):
    """A byte of the manifest was altered; the trials beside it may be whole."""

    def __init__(self, run: Path, reason: str) -> None:
        repair = to_copy("confsim-status", run, "--repair")
        remedy = (
            f"{repair} puts its copy back"
            if has_copy(run)
            else f"put a copy of the {MANIFEST} back, or {repair} sets it "
            "aside, and the command that made the run writes it again and finds its trials"
        )
        super().__init__(f"{run} is damaged: {reason}; its trials are left as they are; {remedy}")
        self.reason = reason


def check_schema(what: str, schema: Any) -> None:
    """Raise ``ValueError`` unless this version reads files of ``schema``."""
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise ValueError(f"{what} has schema {schema!r}, which no version of confsim wrote")
    if schema > PACKED_SCHEMA:
        raise ValueError(
            f"{what} has schema {schema}, but confsim {__version__} reads up to {PACKED_SCHEMA}: "
            "use a newer confsim"
        )


def read_record(place: Place, trial: int, identity: str) -> dict[str, Any]:
    """Return a trial's record.

    Raises
    ------
    ConfsimError
        With the reason, if there is no usable record or it belongs elsewhere.
    """
    try:
        record = files.unseal(place.record(TRIAL_RECORD), TRIAL_RECORD)
        schema, owner = record["schema"], (record["trial"], record["identity"])
        entries = files.check_entries(record["files"])
        if not _strings(record["versions"]):
            raise ValueError
    except FileNotFoundError:
        raise files.Missing(f"{TRIAL_RECORD} is missing") from None
    except OSError as error:
        raise Damaged(f"{TRIAL_RECORD} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise Damaged(f"{TRIAL_RECORD} is not one of ours") from None
    if not isinstance(schema, int) or not 1 <= schema <= SCHEMA:
        raise Damaged(f"{TRIAL_RECORD} has schema {schema!r}, not one up to {SCHEMA}")
    if owner != (trial, identity):
        raise Damaged("it was copied from another trial or another run")
    if SUMMARY not in entries:
        raise Damaged(f"{TRIAL_RECORD} names no {SUMMARY}")
    return record


def trial_damage(
    place: Place, trial: int, identity: str, *, hashes: bool = False, limit: int = files.LIMIT
) -> str | None:
    """Say what is wrong with a published trial, or ``None``: presence, sizes, and ``hashes``."""
    try:
        record = read_record(place, trial, identity)
    except Damaged as error:
        return str(error)
    for name, expected in record["files"].items():
        reason = place.damage(name, expected, hashes=hashes, limit=limit)
        if reason is not None:
            return reason
    return None


def read_run_data(run: Path) -> dict[str, dict[str, Any]]:
    """Return sizes and hashes of what all trials share, by name of file.

    Raises
    ------
    FileNotFoundError
        If there is nothing, or not yet.
    Damaged
        If the record is not what was written.
    """
    try:
        return files.check_entries(files.read_sealed(run / RUN_DATA)["files"])
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(f"{RUN_DATA} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise Damaged(f"{RUN_DATA} is not one of ours") from None


def run_data_damage(run: Path, *, hashes: bool = False, limit: int = files.LIMIT) -> str | None:
    """Say what is wrong with what all trials share, or ``None`` (also if there is nothing)."""
    try:
        entries = read_run_data(run)
    except FileNotFoundError:
        return None
    except Damaged as error:
        return str(error)
    for name, expected in entries.items():
        reason = files.damage(f"{run}/{name}", expected, hashes=hashes, limit=limit)
        if reason is not None:
            return reason
    return None


@dataclass(frozen=True)
class Survey:
    """What a run directory holds.

    Attributes
    ----------
    finished : frozenset of int
        Whole trials.
    damaged : dict of int to str
        What is wrong with the others.
    packs : dict of str to str
        What is wrong with packs, by name; trials in them may be whole.
    """

    finished: frozenset[int]
    damaged: dict[int, str]
    packs: dict[str, str]


def survey(
    run: Path,
    identity: str,
    *,
    hashes: bool = False,
    limit: int = files.LIMIT,
) -> Survey:
    """Check every published trial: presence and sizes, or everything with ``hashes``.

    Of a pack that is as long as it was written, presence and sizes of each trial's files are not
    looked at again.
    """
    own = unpacked_numbers(run)
    packs = Packs(run)
    wrong, packed = dict(packs.damaged), set(packs.trials).difference(own)
    sound: set[int] = set()
    for pack in packs.packs:
        found = pack.damage(hashes=hashes, limit=limit)
        if found is not None:
            wrong[pack.path.name] = found
        elif pack.identity == identity and not hashes:
            sound.update(pack.trials)
    finished, damaged = sound & packed, {}
    for trial in sorted({*own, *packed} - finished):
        place = place_of(run, trial, packs)
        if place is None:
            continue  # gone since it was listed
        reason = trial_damage(place, trial, identity, hashes=hashes, limit=limit)
        if reason is None:
            finished.add(trial)
        else:
            damaged[trial] = reason
    return Survey(frozenset(finished), damaged, wrong)
