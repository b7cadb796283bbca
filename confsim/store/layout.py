"""Names in a run directory, its schema and identity, and what makes a trial count as damaged."""

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confsim._errors import ConfsimError
from confsim._version import __version__
from confsim.experiment import Experiment

#: What this version writes, and the newest it reads. Raised when an older reader would be misled.
SCHEMA = 1

MANIFEST = "manifest.json"
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

_MANIFEST_KEYS = {"identity", "command", "configuration", "seed", "trials", "versions", "created"}
_HASH_BLOCK = 1 << 20
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
    return (int(number), owner) if number.isdecimal() and pid.isdecimal() else None


def trial_numbers(run: Path) -> list[int]:
    """Return the numbers of all trials that were published, whatever their state, ascending."""
    try:
        names = [entry.name for entry in os.scandir(run / TRIALS)]
    except FileNotFoundError:
        return []
    return sorted(int(name) for name in names if name.isdecimal())


def default_path(experiment: Experiment) -> Path:
    """Where a run goes when nobody says: the same settings always lead to the same directory."""
    return Path("runs") / f"{experiment.command}-{identity_hash(experiment.identity())[:10]}"


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


def read_manifest(run: Path) -> dict[str, Any]:
    """Return a run's manifest.

    Raises
    ------
    ValueError
        If ``run`` is not a run directory, or one of a schema that this version cannot read.
    """
    path = run / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        schema = manifest["schema"]
        if schema == SCHEMA and not manifest.keys() >= _MANIFEST_KEYS:
            raise KeyError
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{run} is not a run directory: it has no {MANIFEST}") from None
    except OSError as error:
        raise ConfsimError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{run} is not a run directory: its {MANIFEST} is not one of ours"
        ) from None
    check_schema(str(run), schema)
    return dict(manifest)


def check_schema(what: str, schema: Any) -> None:
    """Raise ``ValueError`` unless this version reads files of ``schema``."""
    if not isinstance(schema, int) or schema < 1:
        raise ValueError(f"{what} has schema {schema!r}, which no version of confsim wrote")
    if schema > SCHEMA:
        raise ValueError(
            f"{what} has schema {schema}, but confsim {__version__} reads up to {SCHEMA}: "
            "use a newer confsim"
        )


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, in hex, in bounded memory."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - many small files: strings are fast
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def file_damage(path: str, expected: dict[str, Any], *, hashes: bool) -> str | None:
    """Say what is wrong with a file, or ``None``: its size, and its hash if ``hashes``."""
    name = path.rpartition("/")[2]
    try:
        size = os.stat(path).st_size  # noqa: PTH116 - see file_hash
        if size != expected["size"]:
            return f"{name} has {size} bytes, not {expected['size']}"
        if hashes and file_hash(path) != expected["sha256"]:
            return f"{name} does not have the hash it was written with"
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"
    return None


def read_record(run: Path, trial: int, identity: str) -> dict[str, Any]:
    """Return a trial's record.

    Raises
    ------
    ConfsimError
        With the reason, if there is no usable record or it belongs elsewhere.
    """
    path = f"{run}/{TRIALS}/{trial_name(trial)}/{TRIAL_RECORD}"
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - see file_hash
            record = json.loads(file.read())
        files, schema = record["files"], record["schema"]
        owner = record["trial"], record["identity"]
        if not all(isinstance(entry["size"], int) and entry["sha256"] for entry in files.values()):
            raise ValueError
    except FileNotFoundError:
        raise ConfsimError(f"{TRIAL_RECORD} is missing") from None
    except OSError as error:
        raise ConfsimError(f"{TRIAL_RECORD} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfsimError(f"{TRIAL_RECORD} is not one of ours") from None
    if not isinstance(schema, int) or not 1 <= schema <= SCHEMA:
        raise ConfsimError(f"{TRIAL_RECORD} has schema {schema!r}, not one up to {SCHEMA}")
    if owner != (trial, identity):
        raise ConfsimError("it was copied from another trial or another run")
    return dict(record)


def trial_damage(run: Path, trial: int, identity: str, *, hashes: bool = False) -> str | None:
    """Say what is wrong with a published trial, or ``None``: presence, sizes, and ``hashes``."""
    try:
        record = read_record(run, trial, identity)
    except ConfsimError as error:
        return str(error)
    folder = f"{run}/{TRIALS}/{trial_name(trial)}/"
    for name, expected in record["files"].items():
        reason = file_damage(folder + name, expected, hashes=hashes)
        if reason is not None:
            return reason
    return None


def run_data_damage(run: Path, *, hashes: bool = False) -> str | None:
    """Say what is wrong with what all trials share, or ``None`` (also if there is nothing)."""
    try:
        files = json.loads((run / RUN_DATA).read_bytes())["files"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return f"{RUN_DATA} is not one of ours"
    for name, expected in files.items():
        reason = file_damage(f"{run}/{name}", expected, hashes=hashes)
        if reason is not None:
            return reason
    return None


@dataclass(frozen=True)
class Survey:
    """What a run directory holds: ``finished`` trials, and ``damaged`` ones with the reason."""

    finished: frozenset[int]
    damaged: dict[int, str]


def survey(
    run: Path, identity: str, *, hashes: bool = False, trials: Iterable[int] | None = None
) -> Survey:
    """Check every published trial: presence and sizes, or everything with ``hashes``."""
    finished, damaged = [], {}
    for trial in trial_numbers(run) if trials is None else trials:
        reason = trial_damage(run, trial, identity, hashes=hashes)
        if reason is None:
            finished.append(trial)
        else:
            damaged[trial] = reason
    return Survey(frozenset(finished), damaged)
