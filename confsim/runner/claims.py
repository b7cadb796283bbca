"""Who runs what: one command takes a trial, however many work in the same directory.

A command that runs trials has a file ``claims/owner-NAME``: JSON that names its host, boot, process
id and start time, and a counter that it moves every few seconds. A claim of trial 17 is a symbolic
link ``claims/000017`` to that file. Making a symbolic link is atomic and never replaces, also on
network file systems where locks are not to be trusted; reading the link names the owner; and one
write moves the counter of all its claims.

An owner on this boot is known to be dead or alive at once, by process id and start time. Of any
other, an observer knows only the counter: when it has not moved for a minute of the observer's own
monotonic clock, the claim is stale. No wall clock is compared with any other.

Takeover renames the claim to a unique name, which succeeds for one of several observers, and makes
a new one. Should two commands run one trial all the same (an owner that was suspended for a minute,
or a claim that changed hands between the look and the rename), nothing is harmed: trials are the
same bytes whoever runs them, and publishing keeps the first. Claims save work; they do not guard
results. An owner that others have taken for dead finds its file gone: it makes it anew and goes on
with what is still its own or free.

What is removed is renamed first, so that a process which was thought dead, and is about to rename
its work into place, finds either all of it or nothing.

One claim is of the packing of trials, ``claims/packing``, and one of the whole directory:
``claims/all``, held by a command that removes the run that is there. Whoever begins makes its own
file first and looks for the other's second, so that of two commands that begin at once at least one
notices.
"""

import contextlib
import errno
import json
import math
import os
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from confsim._errors import ConfsimError
from confsim.store import files, layout, packing, processes

#: Seconds between two moves of the counter.
HEARTBEAT = 5.0

#: Seconds without a move after which an owner elsewhere counts as dead.
STALE_AFTER = 60.0

_OWNER = "owner-"
_FRESH = ".new-"
_OWNER_LIMIT = 1 << 16
_TAKEN = ".taken-"
_WHOLE, _PACKING = "all", "packing"
_SWEPT = f"{layout.TEMPORARY}swept-"
_COUNTER_DIGITS = 12
_ATTEMPTS = 10


class Life(Enum):
    """What is known of an owner."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Owner:
    """Who holds a claim: enough to find out whether it still lives."""

    name: str
    host: str
    boot: str
    pid: int
    started: str
    counter: int = 0

    def life(self) -> Life:
        """Judge by the process table, which says nothing of other hosts and other boots."""
        if not self.boot or self.boot != processes.boot():
            return Life.UNKNOWN
        started = processes.started(self.pid)
        if started is None:
            return Life.DEAD
        if not started:
            return Life.UNKNOWN
        return Life.ALIVE if started == self.started else Life.DEAD

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Claims:
    """The claims directory of a run, as one command sees it.

    Parameters
    ----------
    run : Path
        The run directory.
    clock : callable
        Seconds, monotonic; tests hand in their own.
    check : callable
        Called before this command makes itself known again after others took it for dead; raises
        ``ConfsimError`` if it has no more business here.
    """

    def __init__(
        self,
        run: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._run = run
        self._check = check
        self._folder = run / layout.CLAIMS
        self._clock = clock
        host = socket.gethostname()
        name = f"{host.split('.')[0]}-{os.getpid()}-{secrets.token_hex(4)}"
        self.owner = Owner(
            name, host, processes.boot(), os.getpid(), processes.started(os.getpid()) or ""
        )
        self._file: int | None = None
        self._counter = 0
        self._moved = clock()
        self._mine: set[int] = set()
        self._revived = False
        self._observed: dict[str, tuple[int, float]] = {}
        self._moved_at: dict[str, float] = {}

    # What this command holds

    def open(self) -> None:
        """Make this command known; nothing is claimed yet.

        Raises
        ------
        CannotWrite
            If the run directory cannot be written.
        """
        if self._file is not None:
            return
        fresh = self._folder / (_FRESH + self.owner.name)
        try:
            for _ in range(_ATTEMPTS):
                # The last of the others may just have left, and removed the folder or our file.
                with contextlib.suppress(FileNotFoundError):
                    self._make(fresh)
                    return
            self._make(fresh)
        except OSError as error:
            self._forget_file()
            for remove in (fresh.unlink, self._folder.rmdir):
                with contextlib.suppress(OSError):
                    remove()
            raise layout.CannotWrite(self._run, error) from error

    def _make(self, fresh: Path) -> None:
        """Make the owner file: whole, so that whoever reads it learns who it is."""
        self._forget_file()
        files.make_folder(self._folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._file = os.open(fresh, flags, 0o644)
        self._write()
        fresh.rename(self._path_of(self.owner.name))

    def _forget_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self) -> None:
        """Write the owner file in place: always the same length, one small write."""
        assert self._file is not None
        fields = {
            "host": self.owner.host,
            "boot": self.owner.boot,
            "pid": self.owner.pid,
            "started": self.owner.started,
            "counter": f"{self._counter:0{_COUNTER_DIGITS}d}",
        }
        os.pwrite(self._file, (json.dumps(fields) + "\n").encode(), 0)

    def heartbeat(self) -> bool:
        """Move the counter when it is time; call it often.

        Returns
        -------
        bool
            True if others had taken this command for dead, as after a suspension of a minute: the
            caller's claims may be theirs by now (:meth:`holds` tells).

        Raises
        ------
        CannotWrite
            If that was so, and nothing can be claimed here any more.
        """
        now = self._clock()
        if self._file is not None and now - self._moved >= HEARTBEAT:
            self._moved = now
            self._counter += 1
            with contextlib.suppress(OSError):  # publishing will tell what is wrong
                self._write()
            if not self._revive():
                self._note_lost()
        revived, self._revived = self._revived, False
        return revived

    def _revive(self) -> bool:
        """Make the owner file anew if it is gone, and what is left of the claims."""
        assert self._file is not None
        try:
            there = os.path.samestat(self._path_of(self.owner.name).stat(), os.fstat(self._file))
        except OSError as error:
            there = error.errno not in (errno.ENOENT, errno.ESTALE)  # others pass
        if there:
            return False
        self._check()
        self._forget_file()
        self._counter += 1  # who judged the last count to stand still sees that it moves
        self.open()
        for trial in self._mine:
            with contextlib.suppress(OSError):
                self._claim(trial).symlink_to(_OWNER + self.owner.name)
        self._mine = {trial for trial in self._mine if self.holds(trial)}
        self._revived = True
        return True

    def _note_lost(self) -> None:
        """See whether others have taken trials over that are not finished."""
        for trial in tuple(self._mine):
            if not self.holds(trial) and not layout.is_published(self._run, trial):
                self._mine.discard(trial)
                self._revived = True

    def holds(self, trial: int) -> bool:
        """Whether a trial is still this command's."""
        return self._holder(trial) == self.owner.name

    def take(self, trial: int) -> bool:
        """Claim a trial; False if somebody holds it.

        Raises
        ------
        CannotWrite
            If no claim can be made here.
        """
        try:
            self._claim(trial).symlink_to(_OWNER + self.owner.name)
        except FileExistsError:
            # A network file system may have made the link, lost its answer and been asked again.
            if trial in self._mine or self._holder(trial) != self.owner.name:
                return False
        except FileNotFoundError as error:
            if self._file is None or not self._revive():
                raise layout.CannotWrite(self._run, error) from error
            return self.take(trial)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise ConfsimError(
                    f"{self._run} is on a file system without symbolic links, which claims need"
                ) from None
            raise layout.CannotWrite(self._run, error) from error
        self._mine.add(trial)
        return True

    def release(self, trial: int) -> None:
        """Give a claim up, unless somebody has taken it over."""
        self._mine.discard(trial)
        if self._holder(trial) == self.owner.name:
            with contextlib.suppress(OSError):
                self._claim(trial).unlink()

    def close(self) -> None:
        """Give up all claims, and go."""
        for trial in tuple(self._mine):
            self.release(trial)
        self._forget_file()
        with contextlib.suppress(OSError):
            self._path_of(self.owner.name).unlink()
        with contextlib.suppress(OSError):
            self._folder.rmdir()  # the last one out

    # What others hold

    def look(self, trial: int) -> Life | None:
        """Judge the holder of a trial: ``None`` if it is free.

        Of an owner elsewhere this is ``UNKNOWN`` until it was seen to move (``ALIVE``) or has been
        watched for a minute without moving (``DEAD``); so look again and again.
        """
        name = self._holder(trial)
        return None if name is None else self.life(name)

    def life(self, name: str) -> Life:
        """Judge an owner by name; see :meth:`look`."""
        if name == self.owner.name:
            return Life.ALIVE
        owner = self.read(name)
        if owner is None:
            return Life.DEAD  # it closed or was swept; owners exist before and after their claims
        life = owner.life()
        if life is not Life.UNKNOWN:
            return life
        now = self._clock()
        counter, since = self._observed.setdefault(name, (owner.counter, now))
        if owner.counter != counter:
            self._observed[name] = (owner.counter, now)
            self._moved_at[name] = now
        elif now - since >= STALE_AFTER:
            return Life.DEAD
        return Life.ALIVE if name in self._moved_at else Life.UNKNOWN

    def lived_after(self, name: str, moment: float) -> bool:
        """Whether an owner is known to have lived after a moment of this command's clock."""
        owner = self.read(name)
        if owner is not None and owner.life() is Life.ALIVE:
            return True
        return self._moved_at.get(name, -math.inf) > moment

    def now(self) -> float:
        """Read this command's clock."""
        return self._clock()

    def read(self, name: str) -> Owner | None:
        """Return an owner, ``None`` if its file is gone."""
        try:
            fields = json.loads(files.read_bounded(self._path_of(name), _OWNER_LIMIT))
            return Owner(
                name,
                str(fields["host"]),
                str(fields["boot"]),
                int(fields["pid"]),
                str(fields["started"]),
                int(fields["counter"]),
            )
        except FileNotFoundError:
            return None
        except (OSError, ConfsimError, ValueError, KeyError, TypeError, RecursionError):
            return Owner(name, "an unknown host", "", 0, "")  # half written: watch it

    def holder(self, trial: int) -> Owner | None:
        """Return who holds a trial."""
        name = self._holder(trial)
        return None if name is None else self.read(name)

    def held(self) -> dict[int, str]:
        """Return all claims: owner's name by trial."""
        try:
            names = [entry.name for entry in os.scandir(self._folder)]
        except FileNotFoundError:
            return {}
        trials = [n for name in names if (n := layout.trial_number(name)) is not None]
        claims = {trial: self._holder(trial) for trial in trials}
        return {trial: owner for trial, owner in claims.items() if owner is not None}

    def others(self) -> list[str]:
        """Return the names of all other owners that have a file or a claim here."""
        try:
            names = [entry.name for entry in os.scandir(self._folder)]
        except FileNotFoundError:
            return []
        owners = {name[len(_OWNER) :] for name in names if name.startswith(_OWNER)}
        return sorted((owners | set(self.held().values())) - {self.owner.name})

    def take_whole(self) -> str | None:
        """Claim the whole directory, in order to remove the run; return who else does, if any."""
        return self._take_named(_WHOLE)

    def take_packing(self) -> str | None:
        """Claim the packing of trials; return who else does that, if any."""
        return self._take_named(_PACKING)

    def release_packing(self) -> None:
        """Give the packing of trials up again."""
        self._release_named(_PACKING)

    def packing(self) -> str | None:
        """Return the name of whoever packs trials and may live."""
        name = _owner_name(self._folder / _PACKING)
        return None if name is None or self.life(name) is Life.DEAD else name

    def _take_named(self, name: str) -> str | None:
        path = self._folder / name
        while True:
            try:
                path.symlink_to(_OWNER + self.owner.name)
            except FileExistsError:
                holder = _owner_name(path)
                if holder is not None and self.life(holder) is not Life.DEAD:
                    return holder
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
            except OSError as error:
                raise layout.CannotWrite(self._run, error) from error
            else:
                return None

    def release_whole(self) -> None:
        """Give the whole directory up again."""
        self._release_named(_WHOLE)

    def _release_named(self, name: str) -> None:
        if _owner_name(self._folder / name) == self.owner.name:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()

    def whole(self) -> str | None:
        """Return the name of another owner that has claimed the whole directory and may live."""
        name = _owner_name(self._folder / _WHOLE)
        if name is None or name == self.owner.name or self.life(name) is Life.DEAD:
            return None
        return name

    def seconds_since_heartbeat(self, name: str) -> float | None:
        """Return the seconds since an owner's heartbeat, by two clocks that may differ.

        For people to look at; nothing is decided by it.
        """
        try:
            return time.time() - self._path_of(name).stat().st_mtime
        except OSError:
            return None

    def break_claim(self, trial: int) -> None:
        """Remove the claim of a dead owner, for anybody to take.

        The claim is renamed to a unique name first, which one of several observers can do. If it
        turns out to be a living owner's, claimed since we looked, it is put back.
        """
        taken = self._folder / f"{_TAKEN}{layout.trial_name(trial)}-{secrets.token_hex(8)}"
        with contextlib.suppress(OSError):
            self._claim(trial).rename(taken)
            name = _owner_name(taken)
            if name is not None and self.life(name) is not Life.DEAD:
                with contextlib.suppress(FileExistsError):
                    self._claim(trial).symlink_to(_OWNER + name)
            taken.unlink()

    def sweep(self) -> None:
        """Remove what dead commands left: claims, temporaries, owner files, scratch of done trials.

        Whatever belongs to an owner that may be alive stays. Errors are no matter here: what cannot
        be removed does no harm.
        """
        try:
            names = [entry.name for entry in os.scandir(self._run / layout.TRIALS)]
        except OSError:
            return
        found = {name: layout.parse_temporary(name) for name in names}
        claims = self.held()  # after the listing: a temporary is claimed from before its birth
        for trial, owner in claims.items():
            life = self.life(owner)
            if life is Life.DEAD:
                self.break_claim(trial)
            elif life is Life.UNKNOWN and layout.is_published(self._run, trial):
                _remove(self._claim(trial))  # of no use to anybody
        for name, parsed in found.items():
            path = self._run / layout.TRIALS / name
            if name.startswith(_SWEPT):
                _delete(path)
            elif parsed is not None:
                trial, owner = parsed
                if claims.get(trial) != owner or self.life(owner) is Life.DEAD:
                    _remove(path)
        self._sweep_top()
        if self.packing() is None:
            packing.sweep(self._run)
        self._sweep_scratch()
        self._sweep_folder()

    def _sweep_top(self) -> None:
        """Remove temporaries of what all trials share, and of manifests."""
        with contextlib.suppress(OSError):
            for path in self._run.iterdir():
                if path.name.startswith(_SWEPT):
                    _delete(path)
                elif path.name.startswith(layout.TEMPORARY):
                    owner = path.name[len(layout.TEMPORARY + "run-") :].rpartition("-")[0]
                    if path.is_file() or self.life(owner) is Life.DEAD:
                        _remove(path)

    def _sweep_scratch(self) -> None:
        scratch = self._run / layout.TRIALS / layout.SCRATCH
        with contextlib.suppress(OSError):
            for path in scratch.iterdir():
                trial = int(path.name) if path.name.isdecimal() else -1
                if path.name.startswith(_SWEPT):
                    _delete(path)
                elif layout.is_published(self._run, trial):
                    _remove(path)
            scratch.rmdir()  # fails while there is any left

    def _sweep_folder(self) -> None:
        with contextlib.suppress(OSError):
            holders = set(self.held().values())
            for path in self._folder.iterdir():
                if path.name.startswith(_OWNER):
                    name = path.name[len(_OWNER) :]
                    if name not in holders and self.life(name) is Life.DEAD:
                        path.unlink(missing_ok=True)
                elif path.name.startswith(_FRESH):
                    path.unlink(missing_ok=True)  # whoever writes it makes it again
                elif path.name.startswith(_TAKEN) or path.name in (_WHOLE, _PACKING):
                    name = _owner_name(path) or ""
                    if self.life(name) is Life.DEAD:
                        path.unlink(missing_ok=True)
            self._folder.rmdir()

    def _path_of(self, name: str) -> Path:
        return self._folder / (_OWNER + name)

    def _claim(self, trial: int) -> Path:
        return self._folder / layout.trial_name(trial)

    def _holder(self, trial: int) -> str | None:
        return _owner_name(self._claim(trial))


def _owner_name(claim: Path) -> str | None:
    """Return whom a claim names, ``None`` if it is gone; "" if it is no claim of ours."""
    try:
        target = str(claim.readlink())
    except FileNotFoundError:
        return None
    except OSError:
        return ""  # a copy of the directory turned the link into a file: its owner is not here
    ours = target.startswith(_OWNER) and "/" not in target
    return target[len(_OWNER) :] if ours else ""


def _remove(path: Path) -> None:
    """Remove a file or, renaming it first, a directory: whoever still uses it loses all or none."""
    aside = path.with_name(_SWEPT + secrets.token_hex(8))
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            path.rename(aside)
            _delete(aside)
        else:
            path.unlink()


def _delete(path: Path) -> None:
    """Delete what nobody uses any more."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def describe_signal(number: int) -> str:
    """Name a signal for people."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
