"""Packing finished trials, and taking packs apart again; :mod:`confsim.store.packs` reads them.

A pack is written beside the others under a temporary name, read back, flushed to the disk and
renamed into place; only then are the trials' own directories removed, each renamed first. So every
trial can be read at any moment, and whoever is killed leaves at worst a trial that is there twice,
which the next call puts right. One command packs at a time: that is for the caller to see to
(:mod:`confsim.runner.packing`).
"""

import contextlib
import hashlib
import io
import json
import os
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from confsim import parquet
from confsim._errors import ConfsimError, to_copy
from confsim.store import artifacts, files, layout, packs
from confsim.store.files import Damaged
from confsim.store.layout import CannotWrite
from confsim.store.packs import InFolder, InPack, Pack, Packs

#: Trials of a pack, and bytes after which it takes no more.
MOST_TRIALS = 1000
MOST_BYTES = 1 << 30

#: A pack of fewer files than it takes itself would be no gain.
FEWEST_TRIALS = 2

_BLOCK = 1 << 20
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_OWN = (packs.PACK_SUMMARY,)


@dataclass
class Packed:
    """What packing achieved.

    Attributes
    ----------
    trials, packs : int
        Trials that were packed, and into how many packs.
    left : dict of int to str
        Why trials were left as they are.
    """

    trials: int = 0
    packs: int = 0
    left: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Candidate:
    """A trial that can be packed: where it is, its record, its summary, and what it shares."""

    trial: int
    place: InFolder
    record: bytes
    files: dict[str, dict[str, Any]]
    summary: dict[str, Any]
    footers: dict[str, parquet.Footer]

    @property
    def kind(self) -> tuple[Any, ...]:
        """What trials of one pack share: names of files and numbers, columns of tables."""
        shared = [footer.shared for footer in self.footers.values()]
        return (*sorted(self.files), *self.summary, *shared)

    @property
    def size(self) -> int:
        sizes: list[int] = [entry["size"] for entry in self.files.values()]
        return sum(sizes) + len(self.record)


def pack(
    run: Path,
    identity: str,
    *,
    limit: int = files.LIMIT,
    go_on: Callable[[], None] = lambda: None,
) -> Packed:
    """Pack every finished trial that has a directory of its own.

    Parameters
    ----------
    run : Path
    identity : str
        Hash of the run's identity.
    limit : int
        Bytes that one file of a trial may take in memory.
    go_on : callable
        Called often; whatever it raises ends the packing in good order.

    Raises
    ------
    CannotWrite
        If the directory is full or cannot be written. No trial is lost.
    """
    done = Packed()
    sweep(run)
    try:
        _finish_removal(run, identity)
        for group in _groups(_candidates(run, identity, limit, done, go_on)):
            if len(group) < FEWEST_TRIALS:
                done.left |= {c.trial: "there is no other trial of its kind" for c in group}
                continue
            _pack_group(run, identity, group, limit, go_on)
            done.trials += len(group)
            done.packs += 1
    except OSError as error:
        raise CannotWrite(run, error) from error
    return done


def sweep(run: Path) -> None:
    """Remove packs that were not finished; no one else may be packing."""
    folder = run / packs.PACKS
    with contextlib.suppress(OSError, Damaged):
        files.check_folder(folder)
        for path in folder.iterdir():
            if path.name.startswith(layout.TEMPORARY):
                shutil.rmtree(path, ignore_errors=True)
        folder.rmdir()  # fails while there are packs


# ---- what can be packed ------------------------------------------------------------------------


def _candidates(
    run: Path, identity: str, limit: int, done: Packed, go_on: Callable[[], None]
) -> Iterator[_Candidate]:
    """Yield the trials that can be packed; note why the others cannot."""
    found = Packs(run)
    for trial in layout.unpacked_numbers(run):
        go_on()
        packed = found.place(trial)
        if packed is not None:
            remedy = f"{to_copy('confsim-status', run, '--repair')} takes that apart"
            done.left[trial] = f"it is in pack {packed.path.name} with other bytes; {remedy}"
            continue
        place = InFolder(layout.trial_path(run, trial))
        try:
            yield _candidate(place, trial, identity, limit)
        except files.Missing:
            continue  # set aside at this moment
        except (Damaged, parquet.FooterError, OSError) as error:
            done.left[trial] = str(error)


def _candidate(place: InFolder, trial: int, identity: str, limit: int) -> _Candidate:
    content = place.record(layout.TRIAL_RECORD)
    record = layout.read_record(place, trial, identity)
    entries = record["files"]
    if {entry.name for entry in place.path.iterdir()} != {*entries, layout.TRIAL_RECORD}:
        raise Damaged("its directory holds files that its record does not name")
    if any(name in _OWN for name in entries):
        raise Damaged(f"it holds a file that is called {packs.PACK_SUMMARY}")
    found = {}
    for name, expected in sorted(entries.items()):
        with place.open(name, expected, limit) as file:
            if name == layout.SUMMARY:
                summary = files.parse_json(file.read(), name)
            elif name.endswith(".parquet"):
                found[name] = parquet.read_footer(file, expected["size"])
    return _Candidate(trial, place, content, entries, summary, found)


def _groups(candidates: Iterator[_Candidate]) -> Iterator[list[_Candidate]]:
    """Yield trials that hold files of the same names and tables of the same columns."""
    open_groups: dict[tuple[Any, ...], list[_Candidate]] = {}
    sizes: dict[tuple[Any, ...], int] = {}
    for candidate in candidates:
        group = open_groups.setdefault(candidate.kind, [])
        group.append(candidate)
        size = sizes[candidate.kind] = sizes.get(candidate.kind, 0) + candidate.size
        if len(group) >= MOST_TRIALS or size >= MOST_BYTES:
            yield open_groups.pop(candidate.kind)
            del sizes[candidate.kind]
    yield from open_groups.values()


# ---- writing a pack ----------------------------------------------------------------------------


def _pack_group(
    run: Path,
    identity: str,
    group: Sequence[_Candidate],
    limit: int,
    go_on: Callable[[], None],
) -> None:
    folder = run / packs.PACKS
    temporary = folder / f"{layout.TEMPORARY}{secrets.token_hex(8)}"
    files.make_nested(temporary)
    try:
        places: dict[str, list[int]] = {}
        for name in sorted(group[0].files):
            if name.endswith(".parquet"):
                places[name] = _write_tables(temporary / name, name, group, limit, go_on)
        places |= _write_files(temporary / packs.PACK_FILES, group, limit, go_on)
        _write_summary(temporary, group)
        content = _record(temporary, identity, group, places)
        for name in (packs.PACK_RECORD, packs.PACK_COPY):
            (temporary / name).write_bytes(content)
        _check(temporary, content, identity, limit, go_on)
        for path in (*temporary.iterdir(), temporary):
            _flush(path)
        digest = hashlib.sha256(content).hexdigest()[:12]
        name = f"{group[0].trial:06d}-{group[-1].trial:06d}-{digest}"
        _mark_packed(run)
        if not os.path.lexists(folder / name):
            temporary.rename(folder / name)
        _flush(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # fails while there are packs
    for candidate in group:
        _remove(candidate.place.path)


def _write_tables(
    path: Path, name: str, group: Sequence[_Candidate], limit: int, go_on: Callable[[], None]
) -> list[int]:
    """Write the trials' tables one after another, and one footer; return where each begins."""
    places = []
    with path.open("xb") as out:
        for candidate in group:
            go_on()
            places.append(out.tell())
            with candidate.place.open(name, candidate.files[name], limit) as file:
                _copy(file, out)
        out.write(parquet.merged([candidate.footers[name] for candidate in group], places))
    return places


def _write_files(
    path: Path, group: Sequence[_Candidate], limit: int, go_on: Callable[[], None]
) -> dict[str, list[int]]:
    """Write the trials' other files into an archive; return where each begins, by name."""
    names = [name for name in sorted(group[0].files) if not name.endswith(".parquet")]
    places: dict[str, list[int]] = {name: [] for name in (*names, layout.TRIAL_RECORD)}
    with path.open("xb") as out, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for candidate in group:
            go_on()
            for name in names:
                expected = candidate.files[name]
                with candidate.place.open(name, expected, limit) as file:
                    places[name].append(_add(archive, out, candidate, name, file, expected["size"]))
            record = io.BytesIO(candidate.record)
            size = len(candidate.record)
            name = layout.TRIAL_RECORD
            places[name].append(_add(archive, out, candidate, name, record, size))
    return places


def _add(
    archive: zipfile.ZipFile,
    out: BinaryIO,
    candidate: _Candidate,
    name: str,
    file: BinaryIO,
    size: int,
) -> int:
    """Add a file to an archive, as it is; return where its content begins in ``out``."""
    info = zipfile.ZipInfo(f"{layout.trial_name(candidate.trial)}/{name}", _ZIP_DATE)
    info.file_size = size
    with archive.open(info, "w") as member:
        place = out.tell()
        _copy(file, member)
    return place


def _copy(file: BinaryIO, out: Any) -> None:
    while block := file.read(_BLOCK):
        out.write(block)


def _write_summary(folder: Path, group: Sequence[_Candidate]) -> None:
    """Write the numbers of the summaries as a table, if each has one type."""
    import pyarrow.parquet as pq

    rows = [{"trial": candidate.trial, **candidate.summary} for candidate in group]
    table = packs.summary_table(rows)
    if table is not None:
        with (folder / packs.PACK_SUMMARY).open("xb") as out:
            # Neither dictionaries nor statistics: a header for each column is all there is to read.
            pq.write_table(
                table,
                out,
                compression="zstd",
                use_dictionary=False,
                write_statistics=False,
                store_schema=False,
            )


def _record(
    folder: Path, identity: str, group: Sequence[_Candidate], places: dict[str, list[int]]
) -> bytes:
    record = {
        "schema": layout.SCHEMA,
        "identity": identity,
        "trials": [candidate.trial for candidate in group],
        "files": {p.name: artifacts.entry_of_file(p) for p in sorted(folder.iterdir())},
        "places": places,
        "record_sizes": [len(candidate.record) for candidate in group],
    }
    # In one line: indented, a thousand trials make thousands of lines.
    return files.sealed(f" {json.dumps(record, allow_nan=False)[1:]}\n")


def _check(
    folder: Path, content: bytes, identity: str, limit: int, go_on: Callable[[], None]
) -> None:
    """Read a pack back: its trials' directories go once it is there."""
    import pyarrow.parquet as pq

    found = packs.parse(folder, content)
    for row, trial in enumerate(found.trials):
        go_on()
        wrong = layout.trial_damage(InPack(found, row), trial, identity, hashes=True, limit=limit)
        if wrong is not None:
            raise ConfsimError(f"{folder} was not written as it should be: trial {trial}: {wrong}")
    for name in found.entries:
        if name.endswith(".parquet"):
            pq.read_metadata(folder / name)


def _flush(path: Path) -> None:
    """Have a file or a directory on the disk before anything is removed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mark_packed(run: Path) -> None:
    """Have the manifest tell versions that know no packs to read nothing."""
    from confsim.store.writer import raise_schema

    raise_schema(run, layout.PACKED_SCHEMA)


# ---- removing, and taking apart ----------------------------------------------------------------


def _finish_removal(run: Path, identity: str) -> None:
    """Remove directories of trials that are in a pack, as of a command that was killed."""
    found = Packs(run)
    for trial in layout.unpacked_numbers(run):
        packed = found.place(trial)
        if packed is None:
            continue
        own = InFolder(layout.trial_path(run, trial))
        with contextlib.suppress(Damaged):
            same = layout.read_record(own, trial, identity)["files"]
            whole = layout.trial_damage(packed, trial, identity, hashes=True) is None
            if whole and layout.read_record(packed, trial, identity)["files"] == same:
                _remove(own.path)


def _remove(folder: Path) -> None:
    """Remove a trial's directory: renamed first, so that nobody sees half of it."""
    aside = folder.with_name(f"{layout.TEMPORARY}swept-{secrets.token_hex(8)}")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def unpack(
    run: Path, packed: Pack, identity: str, owner: str, take: Callable[[int], bool]
) -> list[int]:
    """Give each whole trial of a pack a directory of its own again; the pack stays.

    Parameters
    ----------
    run : Path
    packed : Pack
    identity : str
        Hash of the run's identity.
    owner : str
        Name of the command that does it, for names of what is being written.
    take : callable
        Claims a trial, lest others sweep it while it is written.

    Returns
    -------
    list of int
        Whole trials that could not be claimed: they are in the pack alone.
    """
    left = []
    for row, trial in enumerate(packed.trials):
        place = InPack(packed, row)
        if os.path.lexists(layout.trial_path(run, trial)):
            continue
        if layout.trial_damage(place, trial, identity, hashes=True) is not None:
            continue
        if not take(trial):
            left.append(trial)
            continue
        try:
            _unpack_trial(run, place, trial, identity, owner)
        except OSError as error:
            raise CannotWrite(run, error) from error
    return left


def _unpack_trial(run: Path, place: InPack, trial: int, identity: str, owner: str) -> None:
    temporary = layout.temporary_path(run, trial, owner, os.getpid())
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        for name, expected in layout.read_record(place, trial, identity)["files"].items():
            with (
                place.open(name, expected, files.LIMIT) as file,
                (temporary / name).open("xb") as o,
            ):
                _copy(file, o)
        (temporary / layout.TRIAL_RECORD).write_bytes(place.record(layout.TRIAL_RECORD))
        for path in temporary.iterdir():
            _flush(path)
        temporary.rename(layout.trial_path(run, trial))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
