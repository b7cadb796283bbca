"""What the user's code prints: to the log, each line with the trial that printed it."""

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import TextIO


class _Labelled(io.TextIOBase):
    """A stream that begins each line with a label."""

    def __init__(self, stream: TextIO, label: str) -> None:
        self._stream, self._label = stream, label
        self._fresh = True

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            self._stream.write(f"{self._label}: {line}" if self._fresh else line)
            self._fresh = line.endswith(("\n", "\r"))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


@contextlib.contextmanager
def labelled_output(label: str) -> Iterator[None]:
    """Give standard output and standard error a label for a while, warnings included."""
    out, err = _Labelled(sys.stdout, label), _Labelled(sys.stderr, label)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            yield
        finally:
            out.flush()
            err.flush()
