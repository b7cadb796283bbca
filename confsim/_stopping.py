"""Being asked to stop, for commands: which signals ask, and how work ends within two seconds.

Standard library alone, so that a command can take its signals before it imports anything else.
What runs trials has a grace period of its own (:mod:`confsim.runner.signals`); this is for all that
comes before and after it, and for the commands that run none.
"""

import atexit
import contextlib
import io
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import PurePath
from types import FrameType, TracebackType
from typing import ClassVar, NoReturn, TextIO

#: Signals that ask a command to stop: a terminal's, an administrator's, those of job managers.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

#: Exit code of a command that was stopped: resumable.
INTERRUPTED = os.EX_TEMPFAIL

#: Seconds that work gets to end after a stop signal, when it cannot be interrupted at once.
LIMIT = 1.5

#: Seconds after which a signal whose exception was lost comes again.
_RETRY = 0.02

_PR_SET_PDEATHSIG = 1

#: What ends the wait for a signal's number.
_END = 0


class Stopped(KeyboardInterrupt):
    """A stop signal came."""


def taken_signals() -> list[signal.Signals]:
    """Return the stop signals that this process should take: all, but for a SIGHUP under nohup."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in STOP_SIGNALS if not (ignored and number == signal.SIGHUP)]


def take_signals(
    handle: Callable[[int, FrameType | None], None], alarm: socket.socket
) -> Callable[[], None]:
    """Have stop signals call ``handle`` and write to ``alarm``, which does not block.

    For the main thread alone, where Python runs handlers.

    Returns
    -------
    callable
        Puts back what the signals did before.
    """
    alarm_before = signal.set_wakeup_fd(alarm.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, handle) for number in taken_signals()}

    def give_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(alarm_before)

    return give_back


class Interruptible:
    """Work that a stop signal ends: by :class:`Stopped`, raised in the main thread.

    Python runs no handler during a long call into C. So a thread waits for the signal, too, and
    ends the process in one line when the work has not ended within :data:`LIMIT`; what it had begun
    to write is swept by the next command, as after any crash.

    A signal may also come while Python runs something whose exceptions go nowhere: a destructor, or
    the callback of a weak reference, as imports use them; or below C that prints an exception and
    goes on with one of its own, as compiled modules do when they import NumPy. Such a lost
    exception is not printed, and the thread has the signal come again. Nor is shown what libraries
    have to say about imports that were interrupted.

    Outside the main thread, where Python allows no handlers, it does nothing; inside of another
    one, it is that one.

    Attributes
    ----------
    number : int or None
        The signal that came.
    stderr : file
        Where to say that the work was stopped. What others then say is not shown.
    """

    _active: "ClassVar[Interruptible | None]" = None

    def __init__(self) -> None:
        self.number: int | None = None
        self._mine = False
        self._entered = False
        self._lost = False
        self.stderr = sys.stderr
        self._ended = threading.Event()
        self._retrying = threading.Lock()  # held while a signal is sent: not after the end

    def __enter__(self) -> "Interruptible":
        if threading.current_thread() is threading.main_thread():
            if Interruptible._active is not None:
                return Interruptible._active
            self._mine = True
            Interruptible._active = self
            self._wake, self._alarm = socket.socketpair()
            self._alarm.setblocking(False)
            self._guard = threading.Thread(target=self._end_process, daemon=True)
            self._guard.start()
            self._hooks_before = sys.unraisablehook, sys.excepthook
            sys.unraisablehook = self._note_unraisable
            sys.excepthook = self._note_printed
            self._give_back = take_signals(self._handle, self._alarm)
            self._entered = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._mine:
            return
        self._entered = False
        with self._retrying:
            self._ended.set()
        with contextlib.suppress(BlockingIOError):
            self._alarm.send(bytes([_END]))  # ends the thread's wait
        self._guard.join()
        self._forget()
        self._alarm.close()
        self._wake.close()
        Interruptible._active = None

    def _forget(self) -> None:
        self._give_back()
        sys.unraisablehook, sys.excepthook = self._hooks_before
        if self.number is not None:
            sys.stderr = self.stderr

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # Whoever cleans up is not interrupted again.
        interrupts = self.number is None or self._lost
        self.number = self.number or number
        self._lost = interrupts and not self._entered
        if interrupts and self._entered:
            sys.stderr = io.StringIO()
            raise Stopped

    def _note_unraisable(self, lost: "sys.UnraisableHookArgs") -> None:
        if issubclass(lost.exc_type, Stopped):
            self._lost = True
        else:
            self._hooks_before[0](lost)

    def _note_printed(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if issubclass(kind, Stopped):
            self._lost = True
        else:
            self._hooks_before[1](kind, error, trace)

    def _end_process(self) -> None:
        number = self._wake.recv(1)[0]
        while number not in (_END, *STOP_SIGNALS):  # somebody else's handler writes there, too
            number = self._wake.recv(1)[0]
        if number == _END:
            return
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            if self._ended.wait(_RETRY):
                return
            with self._retrying:
                if self._lost and not self._ended.is_set():
                    signal.pthread_kill(threading.main_thread().ident or 0, number)
        with contextlib.suppress(OSError):
            os.write(2, f"{PurePath(sys.argv[0]).name}: {describe(number)}\n".encode())
        os._exit(INTERRUPTED)


def _forget_in_child() -> None:
    """Leave signals to a child that was forked: they are no word to its parent."""
    active, Interruptible._active = Interruptible._active, None
    if active is not None:
        active._mine = False
        active._forget()


os.register_at_fork(after_in_child=_forget_in_child)


def tell(text: str, stream: TextIO | None) -> None:
    """Print a line where anybody can hear it."""
    if stream is not None:
        with contextlib.suppress(OSError):
            print(text, file=stream, flush=True)


def describe(number: int | None) -> str:
    """Say in a few words what ended a command."""
    name = f" by {signal.Signals(number).name}" if number else ""
    return f"stopped{name}; give the same command again"


def end_process(code: int) -> NoReturn:
    """End this process by what was registered for its end, without taking the interpreter down.

    Of a compiled module whose import was interrupted, that may end in an abort.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def die_with(parent: int) -> None:
    """Have the kernel end this process when its parent, ``parent``, ends, where it can."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
