"""Being asked to stop while trials run: signals are counted, and trials in hand get their grace."""

import contextlib
import socket
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

from confsim._stopping import take_signals


class StopRequest:
    """Takes the stop signals while it is entered, and counts them instead of dying of them.

    Outside the main thread, where Python allows no handlers, it takes none.

    Attributes
    ----------
    signals : list of int
        What has come so far.
    wake : socket
        Becomes readable when a signal comes, for a loop that waits on connections.
    """

    def __init__(self) -> None:
        self.signals: list[int] = []
        self._give_back: Callable[[], None] = lambda: None

    def __enter__(self) -> "StopRequest":
        self.wake, self._alarm = socket.socketpair()
        for end in (self.wake, self._alarm):
            end.setblocking(False)
        if threading.current_thread() is threading.main_thread():
            self._give_back = take_signals(self._handle, self._alarm)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._give_back()
        self.wake.close()
        self._alarm.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)

    def drain(self) -> None:
        """Make ``wake`` unreadable again."""
        with contextlib.suppress(BlockingIOError):
            while self.wake.recv(4096):
                pass

    def __bool__(self) -> bool:
        return bool(self.signals)
