"""Derived files: tables, figures, pages and exports; written whole or not at all.

A derived file can be made again from the trials at any time. It is written beside its final name
under a name of its own, which says which process writes it, and renamed when it is complete. An
error removes what was written at once; what a killed process left is removed by :func:`sweep`,
which the next command calls. Processes that write the same file at once do not meet: each renames
a whole file, and the last one stays.

What files were made from, and how, is kept in a record beside them (:func:`write_record`,
:func:`read_record`), with their sizes and hashes. A file is read through its record or not at all.

Text of others that goes into a CSV file is written by :func:`csv_text`, because a spreadsheet
takes a cell that begins with ``=`` for a formula, after spaces or quotes too.
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from confsim._errors import ConfsimError
from confsim.store import files, layout, processes

if TYPE_CHECKING:
    import pandas as pd

#: Beginning of the name of a file that is being written.
PARTIAL = ".part-"

_PARTIAL = re.compile(r"\.part-([0-9a-f]{8})-(\d+)-(\d*)-[0-9a-f]{8}")

#: Names that earlier versions gave to such files, with the process that wrote them, if they say.
_EARLIER = re.compile(
    r"\.(?:(?:top|bottom)_percent\.csv|report\.html|probe-?|[^/]+\.zip)\.?-?(\d+)"
    r"|\.tmp-[a-z_]+\.(?:csv|parquet|json)()"
)

#: Seconds without a change after which a file of a process elsewhere counts as left behind.
_LEFT_BEHIND = 3600.0

#: Errors that the same call does not meet again once there is room.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

#: Bytes of a small file.
_SMALL = 1 << 16

#: Where derived files are, below a folder that holds some.
_FOLDERS = ("tables", "figures", "distance_conf", "sigmoid_conf")


class NoRoom(ConfsimError):  # noqa: N818 - reads as what it says
    """A derived file could not be written, and will be once there is room."""


# ---- writing -----------------------------------------------------------------------------------


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``target`` when the block ends, and never half of it.

    Parameters
    ----------
    target : Path
        Its folder is made if need be; a link or a file in its place is refused.

    Raises
    ------
    ConfsimError
        If there is no room. Nothing is left behind, neither a file nor a folder made for it.
    ValueError
        If it cannot be written for another reason.
    """
    made = _make_folder(target.parent)
    partial = target.with_name(partial_name())
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if made:
            with contextlib.suppress(OSError):
                target.parent.rmdir()
        if isinstance(error, OSError) and error.filename in (None, str(partial), str(target)):
            raise cannot_write(target, error) from None
        raise


def write(target: Path, content: bytes) -> dict[str, Any]:
    """Put a file in place, whole; return its size and hash."""
    with replacing(target) as file:
        file.write(content)
    return entry_of(content)


def entry_of(content: bytes) -> dict[str, Any]:
    """Return the size and hash of a file's content."""
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def entry_of_file(path: Path) -> dict[str, Any]:
    """Return the size and hash of a file that is there."""
    return {"size": path.lstat().st_size, "sha256": files.file_hash(path)}


def cannot_write(target: Path, error: OSError) -> Exception:
    """Return what an error of writing means to whoever asked for a file."""
    reason = error.strerror or str(error)
    if error.errno in _NO_ROOM:
        return NoRoom(
            f"cannot write {target}: {reason}; no part of it is left, and the same command makes "
            "it once this is mended"
        )
    return ValueError(f"{target} cannot be written: {reason}")


def _make_folder(folder: Path) -> bool:
    """Make a folder if it is missing; return whether it was. Nothing is written through a link."""
    try:
        files.check_folder(folder)
        folder.mkdir(parents=True)
    except files.Damaged as error:
        raise ValueError(f"nothing is written there: {error}") from None
    except FileExistsError:
        return False
    except OSError as error:
        raise cannot_write(folder, error) from None
    return True


def check_room(folder: Path) -> None:
    """Raise unless files can be made in ``folder``, or where it would be; nothing is left behind.

    For work that takes long, before it begins.

    Raises
    ------
    ConfsimError
        If there is no room.
    ValueError
        If none can be made for another reason.
    """
    try:
        files.check_folder(folder)
        try_writing(files.nearest(folder))
    except files.Damaged as error:
        raise ValueError(f"nothing is written there: {error}") from None
    except OSError as error:
        raise cannot_write(folder, error) from None


def try_writing(folder: Path) -> None:
    """Write a small file in a directory and remove it, or raise ``OSError``.

    A full disk may take an empty file, or one that compresses to nothing.
    """
    probe = folder / partial_name()
    try:
        with probe.open("xb") as file:
            file.write(os.urandom(_SMALL))
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


# ---- names of what is being written, and sweeping ----------------------------------------------


def partial_name() -> str:
    """Return a name of its own for a file that is being written; it tells who writes it."""
    pid = os.getpid()
    return f"{PARTIAL}{_boot()}-{pid}-{processes.started(pid) or ''}-{secrets.token_hex(4)}"


def _boot() -> str:
    return hashlib.sha256(processes.boot().encode()).hexdigest()[:8]


def sweep(folder: Path) -> None:
    """Remove what dead processes left half written among derived files of ``folder``.

    What a living process writes stays; of a process elsewhere, what was changed within the last
    hour by the clock of the file system. Errors are no matter: what cannot be removed does no harm.
    """
    for place in (folder, *(folder / name for name in _FOLDERS)):
        for path in _partial_files(place):
            if _is_dead(path):
                with contextlib.suppress(OSError):
                    path.unlink()


def sweep_beside(folder: Path) -> None:
    """Remove what dead processes left of archives of ``folder``, which lie beside it."""
    own = f".{folder.name}.zip."
    for path in _partial_files(folder.parent):
        if path.name.startswith((PARTIAL, own)) and _is_dead(path):
            with contextlib.suppress(OSError):
                path.unlink()


def _partial_files(folder: Path) -> list[Path]:
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            return []
        with os.scandir(folder) as entries:
            return [
                folder / entry.name
                for entry in entries
                if entry.name.startswith(".")
                and (_PARTIAL.fullmatch(entry.name) or _EARLIER.fullmatch(entry.name))
            ]
    except OSError:
        return []


def _is_dead(path: Path) -> bool:
    found = _PARTIAL.fullmatch(path.name)
    if found is None:
        earlier = _EARLIER.fullmatch(path.name)
        assert earlier is not None
        return not earlier[1] or len(earlier[1]) > 9 or processes.started(int(earlier[1])) is None
    if found[1] == _boot() and len(found[2]) <= 9:
        # The start tells a process from an earlier one of the same number.
        return processes.started(int(found[2])) != found[3]
    return _age(path) > _LEFT_BEHIND


def _age(path: Path) -> float:
    """Return the seconds since a file was changed, both times by the clock of its file system."""
    probe = path.with_name(partial_name())
    try:
        probe.touch(exist_ok=False)
        return probe.stat().st_mtime - path.lstat().st_mtime
    except OSError:
        return 0.0
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


# ---- records -----------------------------------------------------------------------------------


def digest(value: Any) -> str:
    """Return the hash of a JSON value: what files were made from, in few letters."""
    return layout.identity_hash({"": value})


def write_record(
    target: Path,
    *,
    made_from: Any,
    options: Mapping[str, Any],
    entries: Mapping[str, Mapping[str, Any]],
    more: Mapping[str, Any] | None = None,
) -> None:
    """Record what files were made from: the last thing that is written of them.

    Parameters
    ----------
    target : Path
        The record, beside or above the files.
    made_from : JSON value
        Hashes of everything that was read.
    options : mapping
        How they were made.
    entries : mapping
        Size and hash of each file, by its path relative to the record.
    more : mapping, optional
        What else a reader needs.
    """
    record = {
        "schema": layout.SCHEMA,
        "made_from": digest(made_from),
        "options": dict(options),
        "files": {name: dict(entry) for name, entry in entries.items()},
        **(more or {}),
    }
    write(target, files.seal(record))


def read_record(target: Path) -> dict[str, Any] | None:
    """Return a record, ``None`` if there is none of ours or it is damaged."""
    try:
        record = files.read_sealed(target)
        options, entries = record["options"], record["files"]
        if not isinstance(options, dict) or not isinstance(record["made_from"], str):
            return None
        for name, entry in entries.items():
            folder, _, base = name.rpartition("/")
            if folder not in ("", *_FOLDERS):
                return None
            files.check_entries({base: entry})
    except (OSError, ConfsimError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record


def remove_obsolete(record: Mapping[str, Any] | None, folder: Path, kept: Collection[str]) -> None:
    """Remove files of an earlier record that are not made any more; changed ones stay."""
    for name, entry in ({} if record is None else record["files"]).items():
        path = folder / name
        if name not in kept and files.damage(str(path), entry, hashes=True) is None:
            with contextlib.suppress(OSError):
                path.unlink()


def are_whole(record: Mapping[str, Any], folder: Path) -> bool:
    """Whether all files of a record are what was written."""
    return all(
        files.damage(f"{folder}/{name}", entry, hashes=True) is None
        for name, entry in record["files"].items()
    )


# ---- text in CSV files -------------------------------------------------------------------------

#: What a spreadsheet takes for the beginning of a formula, or drops before one.
_FORMULA = re.compile(r"['\"\s]*[=+\-@\uff1d\uff0b\uff0d\uff20]|'*[\t\r\n]")


def csv_text(text: str) -> str:
    r"""Return a text for a CSV file: with an apostrophe in front where it would be a formula.

    Numbers are no texts and stay as they are. :func:`plain_text` takes the apostrophe off again;
    a text that has apostrophes in front of such a beginning gets one more, so nothing is lost.

    Examples
    --------
    >>> from confsim.store.artifacts import csv_text, plain_text
    >>> csv_text("=1+1"), csv_text("dog"), csv_text("'=x")
    ("'=1+1", 'dog', "''=x")
    >>> plain_text(csv_text("'=x"))
    "'=x"
    """
    return f"'{text}" if _FORMULA.match(text) else text


def plain_text(text: str) -> str:
    """Return what :func:`csv_text` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def with_texts(table: "pd.DataFrame", change: Callable[[str], str]) -> "pd.DataFrame":
    """Return a table with its texts changed, names of columns too; all else stays."""
    texts = [name for name in table if table[name].dtype.kind not in "biufc"]
    changed: dict[str, Any] = {
        str(name): table[name].map(lambda value: change(value) if isinstance(value, str) else value)
        for name in texts
    }
    names = {name: change(name) for name in table if isinstance(name, str)}
    found: pd.DataFrame = table.assign(**changed).rename(columns=names)
    return found
