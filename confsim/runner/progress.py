"""What a user sees while trials run: a bar on a terminal, a line a minute elsewhere, and a log."""

import contextlib
import math
import os
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from confsim.store import layout

_LINE_EVERY = 60.0
_COLUMNS, _ROWS = 80, 24
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total}{postfix}"

#: Columns that are left to the bar itself, whatever stands beside it.
_SHORTEST_BAR = 4

#: Seconds in which an estimate of the time left follows the rate by about two thirds.
_PATIENCE = 30.0

#: Work that must have been seen before the time left is told: seconds, and trials.
_SEEN_SECONDS, _SEEN_TRIALS = 3.0, 0.05


class Remaining:
    """An estimate of the time left that counts from the first work on, and moves slowly.

    Loading and compiling come before the first trial moves and never again, so they are left out
    of the rate; and what was told is corrected bit by bit, so that it does not jump.
    """

    def __init__(self, total: float) -> None:
        self._total = total
        self._first: tuple[float, float] | None = None
        self._told: tuple[float, float] | None = None

    def update(self, finished: float, now: float) -> float | None:
        """Return the seconds left, ``None`` while too little was seen.

        Parameters
        ----------
        finished : float
            Trials finished, those in hand counted by fractions.
        now : float
            Seconds by any clock that only goes forward.
        """
        if self._first is None:
            self._first = finished, now
        before, since = self._first
        if now - since < _SEEN_SECONDS or finished - before < _SEEN_TRIALS:
            return None
        left = (self._total - finished) * (now - since) / (finished - before)
        if self._told is not None and left > 0:
            told, at = self._told
            expected = max(told - (now - at), 1e-3)
            weight = 1 - math.exp(-(now - at) / _PATIENCE)
            left = expected * (left / expected) ** weight
        self._told = left, now
        return left


class Progress:
    """Progress of a command, on standard error.

    Parameters
    ----------
    label : str
        The command's name.
    total, finished : int
        Trials in all, and those finished before.
    quiet : bool
        Show nothing but messages.
    bar : bool, optional
        Whether to draw a bar; by default on a terminal and in a notebook.

    Attributes
    ----------
    waiting : bool
        Whether all that is left to do is in the hands of other commands.
    note : str
        What the trial that was heard of last says of itself: parts with commas between, of which
        the first are shown where there is little room.
    """

    def __init__(
        self, label: str, total: int, finished: int, *, quiet: bool, bar: bool | None
    ) -> None:
        self._label = label
        self._total = total
        self._initial = finished
        self._quiet = quiet
        self.waiting, self.note = False, ""
        self._spoke = time.monotonic()
        self._remaining = Remaining(total)
        self._bar: Any = None
        if bar if bar is not None else not quiet and (sys.stderr.isatty() or _in_notebook()):
            from tqdm import tqdm

            self._bar = tqdm(
                total=total,
                initial=finished,
                desc=label,
                unit="trial",
                bar_format=_BAR,
                # A terminal that does not say how large it is would get an empty bar, or none.
                ncols=None if _size_known() else _COLUMNS,
                nrows=None if _size_known() else _ROWS,
                dynamic_ncols=_size_known(),
                file=sys.stderr,
            )

    def show(self, finished: float) -> None:
        """Show how many trials are finished, those in hand counted by fractions."""
        now = time.monotonic()
        moves = finished > self._initial
        left = self._remaining.update(finished, now) if moves and not self.waiting else None
        if self._bar is not None:
            state = " (waiting)" if self.waiting else "" if moves else " (loading, compiling)"
            self._bar.set_description_str(f"{self._label}{state}", refresh=False)
            told = [] if left is None else [f"{duration(left)} left"]
            self._bar.set_postfix_str(self._with_note(told), refresh=False)
            self._bar.update(finished - self._bar.n)
            return
        if self._quiet or now - self._spoke < _LINE_EVERY:
            return
        self._spoke = now
        text = f"{finished:.0f} of {self._total} trials are done"
        if self.waiting:
            text += ", waiting for those of other commands"
        elif not moves:
            text += ", loading and compiling"
        elif left is not None:
            rate = 60 * (self._total - finished) / left if left > 0 else 0.0
            text += f", {rate:.3g} a minute, about {duration(left)} left"
        if self.note and not self.waiting:
            text += f"; {self.note}"
        self.say(text)

    def _with_note(self, told: list[str]) -> str:
        """Return what is told and as much of the note as the terminal has room for.

        Parts of a note that have no room give way to an ellipsis.
        """
        columns = getattr(self._bar, "ncols", None) or _COLUMNS  # a disabled bar has none
        beside = f"{self._bar.desc}100%|| {self._total}.0/{self._total}"
        room = columns - len(beside) - _SHORTEST_BAR
        parts = [] if self.waiting else list(filter(None, self.note.split(", ")))
        for count in range(len(parts), 0, -1):
            shown = ", ".join([*told, *parts[:count], *["..."] * (count < len(parts))])
            if len(shown) + 2 <= room:
                return shown
        return ", ".join(told)

    def say(self, text: str) -> None:
        """Print a line, without breaking the bar."""
        if self._bar is not None:
            self._bar.clear()
        print(f"{self._label}: {text}", file=sys.stderr, flush=True)
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def _in_notebook() -> bool:
    """Whether what is printed goes to a notebook, which shows a bar as a terminal does."""
    ipython = sys.modules.get("IPython")
    return hasattr(None if ipython is None else ipython.get_ipython(), "kernel")


def _size_known() -> bool:
    try:
        return min(os.get_terminal_size(sys.stderr.fileno())) > 0
    except (OSError, ValueError):
        return False


def duration(seconds: float) -> str:
    """Say a time in words, roughly."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 36 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


class Log:
    """A command's log: its own lines, and all that its workers print.

    A log that cannot be written is no reason to stop: errors are dropped.
    """

    def __init__(self, run: Path, owner: str) -> None:
        path = run / layout.LOG / f"{owner}.log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            path.parent.mkdir(exist_ok=True)
            self.file = os.open(path, flags, 0o644)
        except OSError:
            self.file = os.open(os.devnull, flags)

    def write(self, text: str) -> None:
        """Write a line with the time."""
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        with contextlib.suppress(OSError):
            os.write(self.file, f"{now} {text}\n".encode(errors="backslashreplace"))

    def close(self) -> None:
        """Close the file."""
        os.close(self.file)
