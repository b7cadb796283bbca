"""Commands that are struck at a chosen call that changes a file: killed, or out of room from there.

``file_calls.c`` strikes. A :class:`Forge` has imported what the commands need and runs each of them
in a fork of itself, so that a run of hundreds costs seconds; what a command starts is struck, too.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parent

#: A call that no command comes to.
NEVER = 1 << 40

_SERVER = """
import sys
from struck import forked
exec(sys.argv[1])
forked(commands)
"""


def build(folder: Path) -> Path:
    """Compile the library that strikes, or skip the test."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C compiler")
    library = folder / "file_calls.so"
    source = SUPPORT / "file_calls.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


class Forge:
    """Runs commands in forks of one process.

    Parameters
    ----------
    library : Path
        What :func:`build` made.
    code : str
        Python that imports what is needed, starts no thread, and leaves a dict ``commands`` of
        functions, each of which takes words and returns an exit code.
    """

    def __init__(self, library: Path, code: str) -> None:
        self._count = library.with_name("count")
        self._said = library.with_name("said")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "LD_PRELOAD": str(library),
                "PYTHONPATH": os.pathsep.join([str(SUPPORT), *filter(None, sys.path)]),
            },
        )

    def strike(
        self, command: str, *words: object, below: Path, at: int = NEVER, fate: str = "kill"
    ) -> tuple[int, str, int]:
        """Run a command; return its exit code, its errors, and the calls that changed files.

        Parameters
        ----------
        below : Path
            Where calls are counted, from 0.
        at : int
            The call that is struck.
        fate : str
            "kill": the command and all it started; "full": this call and all later ones fail.
        """
        self._count.write_bytes(bytes(8))
        aim = [str(below), str(self._count), at, fate]
        order = [command, [str(word) for word in words], aim, str(self._said)]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        calls = int.from_bytes(self._count.read_bytes(), sys.byteorder)
        return code, self._said.read_text(), calls

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=20)


@contextlib.contextmanager
def forge(folder: Path, code: str) -> Iterator[Forge]:
    """Have a :class:`Forge` for as long as the block."""
    made = Forge(build(folder), code)
    try:
        yield made
    finally:
        made.close()


def forked(commands: dict) -> None:  # type: ignore[type-arg]
    """Serve a :class:`Forge`: fork for each order, and say how the child ended."""
    for line in sys.stdin:
        command, words, aim, said = json.loads(line)
        child = os.fork()
        if not child:
            os.setsid()  # a kill strikes the group
            sink = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(sink, 2)
            os.dup2(os.open(os.devnull, os.O_RDWR), 1)
            _take_aim(*aim)
            sys.exit(commands[command](words))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _take_aim(below: str, count: str, at: int, fate: str) -> None:
    """Have this process struck, and whatever it starts."""
    os.environ.update(CALLS_BELOW=below, CALLS_COUNT=count, CALLS_AT=str(at), CALLS_FATE=fate)
    aim = ctypes.CDLL(os.environ["LD_PRELOAD"]).file_calls_aim
    aim(below.encode(), count.encode(), ctypes.c_long(at), fate.encode())


def moments(calls: int, sample: int, *, every: bool) -> range:
    """Return the calls to strike at: every one, or about as many as asked, spread evenly."""
    return range(0, calls, 1 if every else max(1, calls // sample))


KILLED = -signal.SIGKILL
