"""Where the files of a trial lie: in a directory of its own, or in a pack of many.

A pack is a directory ``packs/FIRST-LAST-HASH`` that holds finished trials in a few files, for file
systems that count files. It is written once and never changed:

- ``NAME.parquet`` for each table: the trials' own files one after another, byte for byte, and one
  footer over all of them, so that it is plain Parquet with a ``trial`` column;
- ``files.zip``: the other files of the trials, as ``000017/NAME``, not compressed once more;
- ``summary.parquet``: the numbers of the trials' summaries, a row for each trial, where each of
  them has one type;
- ``pack.json``, sealed, and ``pack.copy.json``, which takes its place when a byte was altered:
  which trials there are, where each file begins, and size and hash of the files above.

Since every file of a trial is there as it was, it is read and checked in the same way wherever it
lies: against its hash in the trial's record. A trial that has a directory is read from there, and
the pack does not count. This module reads; :mod:`confsim.store.packing` writes.
"""

import itertools
import math
import os
import re
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from confsim.store import files
from confsim.store.files import Damaged

if TYPE_CHECKING:
    import pandas
    import pyarrow

PACKS = "packs"
PACK_RECORD = "pack.json"
PACK_COPY = "pack.copy.json"
PACK_FILES = "files.zip"
PACK_SUMMARY = "summary.parquet"

#: Packs are told from what is being written, and from what is no pack, by their name.
_NAME = re.compile(r"[0-9]{6}-[0-9]{6}-[0-9a-f]{12}")

#: Records of packs that are kept in memory, a few kilobytes for each hundred trials.
_KEPT = 1024


class PackDamaged(Damaged):
    """Neither a pack's record nor its copy is what was written: its trials cannot be found."""


@dataclass(frozen=True)
class Pack:
    """What a pack holds, by its record.

    Attributes
    ----------
    path : Path
        Its directory.
    identity : str
        Hash of the identity of the run that it belongs to.
    trials : sequence of int
        Ascending.
    entries : dict
        Size and hash of each of its own files, by name.
    places : dict of str to sequence of int
        Where a file of each trial begins in the pack's, by name.
    record_sizes : sequence of int
        Length of each trial's ``trial.json``.
    """

    path: Path
    identity: str
    trials: Sequence[int]
    entries: Mapping[str, Mapping[str, Any]]
    places: Mapping[str, Sequence[int]]
    record_sizes: Sequence[int]

    def file_of(self, name: str) -> Path:
        """Return the pack's file that holds the trials' files of this name."""
        table = name.endswith(".parquet")
        return self.path / (name if table else PACK_FILES)

    def damage(self, *, hashes: bool, limit: int = files.LIMIT) -> str | None:
        """Say what is wrong with its own files, or ``None``; its trials may be whole all the same.

        A file of a pack is as long as those of many trials, and is hashed in pieces: the limit
        of a trial's file is not for it.
        """
        for name, expected in self.entries.items():
            path = f"{self.path}/{name}"
            found = files.damage(path, expected, hashes=hashes, limit=max(limit, expected["size"]))
            if found is not None:
                return found
        copies = []
        for name in (PACK_RECORD, PACK_COPY):
            try:
                copies.append(files.read_bounded(self.path / name, files.JSON_LIMIT))
                files.unseal(copies[-1], name)
            except OSError as error:
                return f"{name} cannot be read: {error.strerror}"
            except Damaged as error:
                return str(error)
        return None if copies[0] == copies[1] else f"{PACK_COPY} is not a copy of {PACK_RECORD}"


@dataclass(frozen=True)
class InFolder:
    """A trial in a directory of its own."""

    path: Path

    def record(self, name: str) -> bytes:
        """Return the content of the trial's record."""
        files.check_folder(self.path)
        return files.read_bounded(f"{self.path}/{name}", files.JSON_LIMIT)

    def open(self, name: str, expected: Mapping[str, Any], limit: int) -> BinaryIO:
        """Open a file whose size and hash are those of the trial's record."""
        return files.open_checked(f"{self.path}/{name}", expected, limit)

    def damage(
        self, name: str, expected: Mapping[str, Any], *, hashes: bool, limit: int
    ) -> str | None:
        """Say what is wrong with a file, or ``None``."""
        return files.damage(f"{self.path}/{name}", expected, hashes=hashes, limit=limit)


@dataclass(frozen=True)
class InPack:
    """A trial in a pack: the ``row``-th."""

    pack: Pack
    row: int

    @property
    def path(self) -> Path:
        """The directory of its pack."""
        return self.pack.path

    def record(self, name: str) -> bytes:
        """Return the content of the trial's record."""
        size = self.pack.record_sizes[self.row]
        with files.open_part(self.pack.path / PACK_FILES, self._place(name), size) as part:
            return part.read(size)

    def open(self, name: str, expected: Mapping[str, Any], limit: int) -> BinaryIO:
        """Open a file whose size and hash are those of the trial's record."""
        part = name, self._place(name)
        return files.open_checked(self.pack.file_of(name), expected, limit, part=part)

    def damage(
        self, name: str, expected: Mapping[str, Any], *, hashes: bool, limit: int
    ) -> str | None:
        """Say what is wrong with a file, or ``None``."""
        try:
            part = name, self._place(name)
            path = str(self.pack.file_of(name))
            return files.damage(path, expected, hashes=hashes, limit=limit, part=part)
        except Damaged as error:
            return str(error)

    def _place(self, name: str) -> int:
        try:
            return self.pack.places[name][self.row]
        except KeyError:
            raise Damaged(f"{self.pack.path.name} has no {name}") from None


Place = InFolder | InPack


class Packs:
    """The packs of a run, looked up when asked for.

    Parameters
    ----------
    run : Path
        The run directory.

    Attributes
    ----------
    packs : list of Pack
        Those whose record is whole.
    damaged : dict of str to str
        What is wrong with the others, by name.
    """

    def __init__(self, run: Path) -> None:
        self._folder = run / PACKS
        self._names: list[str] = []
        self.packs: list[Pack] = []
        self.damaged: dict[str, str] = {}
        self._rows: dict[int, tuple[Pack, int]] = {}
        self.refresh()

    def refresh(self) -> bool:
        """Look at the packs again; return whether there are others."""
        names = _names(self._folder)
        if names == self._names:
            return False
        self._names, self.packs, self.damaged, self._rows = names, [], {}, {}
        for name in names:
            try:
                pack = read_pack(self._folder / name)
            except Damaged as error:
                self.damaged[name] = str(error)
                continue
            self.packs.append(pack)
            for row, trial in enumerate(pack.trials):
                self._rows.setdefault(trial, (pack, row))
        return True

    @property
    def trials(self) -> Iterable[int]:
        """Numbers of the packed trials."""
        return self._rows.keys()

    def place(self, trial: int) -> InPack | None:
        """Return where a packed trial lies."""
        found = self._rows.get(trial)
        return None if found is None else InPack(*found)


def has_packs(run: Path) -> bool:
    """Whether there may be packs."""
    return os.path.lexists(run / PACKS)


def _names(folder: Path) -> list[str]:
    files.check_folder(folder)
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if _NAME.fullmatch(entry.name))
    except FileNotFoundError:
        return []


def read_pack(path: Path) -> Pack:
    """Return what a pack holds, by its record or the record's copy.

    Raises
    ------
    PackDamaged
        If neither is what was written.
    """
    first: Damaged | None = None
    for name in (PACK_RECORD, PACK_COPY):
        try:
            files.check_folder(path)
            found = os.lstat(path / name)
            return _read(path, name, (found.st_ino, found.st_size, found.st_mtime_ns))
        except OSError as error:
            first = first or Damaged(f"{name}: {error.strerror}")
        except Damaged as error:
            first = first or error
    raise PackDamaged(str(first)) from None


@lru_cache(maxsize=_KEPT)
def _read(path: Path, name: str, state: tuple[int, ...]) -> Pack:
    """Read a record of a pack; ``state`` tells one file from another of the same name."""
    return parse(path, files.read_bounded(path / name, files.JSON_LIMIT), name)


def parse(path: Path, content: bytes, name: str = PACK_RECORD) -> Pack:
    """Return what the record of a pack says."""
    value = files.unseal(content, name)
    try:
        if value["schema"] != 1 or not isinstance(value["identity"], str):
            raise ValueError
        trials = _numbers(value["trials"])
        if any(b <= a for a, b in itertools.pairwise(trials)) or trials[-1] > 999_999:
            raise ValueError
        places = {key: _numbers(numbers) for key, numbers in value["places"].items()}
        sizes = _numbers(value["record_sizes"])
        if any(len(numbers) != len(trials) for numbers in (*places.values(), sizes)):
            raise ValueError
        entries = files.check_entries(value["files"])
        own = {key if key.endswith(".parquet") else PACK_FILES for key in places}
        if not {"trial.json", "summary.json"} <= places.keys() or not own <= entries.keys():
            raise ValueError
        if max(sizes) > files.JSON_LIMIT:
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError):
        raise Damaged(f"{name} is not one of ours") from None
    return Pack(path, value["identity"], trials, entries, places, sizes)


# ---- the numbers of many trials ----------------------------------------------------------------


def summary_of(pack: Pack, columns: Collection[str] | None = None) -> "pyarrow.Table | None":
    """Return the numbers of a pack's summaries by column, or ``None``: each trial's tells them.

    There are none where a number has several types, or where the table was altered.
    """
    expected = pack.entries.get(PACK_SUMMARY)
    if expected is None:
        return None
    try:
        with files.open_checked(pack.path / PACK_SUMMARY, expected) as file:
            found = files.open_parquet(file, PACK_SUMMARY, files.LIMIT)
            with files.parquet_errors(PACK_SUMMARY):
                names = found.schema_arrow.names
                chosen = names if columns is None else [n for n in names if n in columns]
                table = files.validated(found.read(columns=chosen))
    except Damaged:
        return None
    return table if table.num_rows == len(pack.trials) else None


def summary_table(rows: Sequence[Mapping[str, Any]]) -> "pyarrow.Table | None":
    """Return summaries by column, ``None`` if a column has several types."""
    import pyarrow as pa

    names = dict.fromkeys(name for row in rows for name in row)
    kinds = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        found = {type(value) for value in values} - {type(None)}
        if len(found) > 1 or not found <= kinds.keys():
            return None
        try:
            columns[name] = pa.array(values, kinds[found.pop()] if found else pa.float64())
        except (OverflowError, pa.ArrowException):
            return None
    return pa.table(columns)


def summary_frame(table: "pyarrow.Table") -> "pandas.DataFrame":
    """Return summaries as pandas makes them of the trials' own, null as NaN; uses the table up."""
    frame: pandas.DataFrame = table.to_pandas(
        ignore_metadata=True, split_blocks=True, self_destruct=True
    )
    for name in frame:
        if frame[name].dtype == object:
            frame[name] = frame[name].where(frame[name].notna(), math.nan)
    return frame


def _numbers(value: Any) -> "array[int]":
    if not isinstance(value, list) or not all(type(item) is int and item >= 0 for item in value):
        raise ValueError
    return array("q", value)
