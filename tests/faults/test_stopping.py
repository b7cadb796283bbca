"""Stop signals end every command within two seconds, in one line, from first moment to last."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_experiments import Toy, contents, leftovers

from confsim._stopping import (
    INTERRUPTED,
    LIMIT,
    STOP_SIGNALS,
    Interruptible,
    Stopped,
    taken_signals,
)
from confsim.runner import run

#: A command that says when it works, and then does what its argument says.
COMMAND = """
import sys
from confsim.cli import common
parser = common.Parser(prog="confsim-test")

def work(given):
    print("at work", flush=True)
    {work}
    return 0

sys.exit(common.main(parser, work, []))
"""

#: Ways to be busy, of which some hear of no exception.
WAYS = {
    "asleep": "import time; time.sleep(60)",
    "in Python": "while True: pass",
    "in C": "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)",
    "with a child": (
        "import subprocess; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    ),
    "with a deaf child": (
        "import subprocess; subprocess.run([sys.executable, '-c', 'import signal, time; "
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); time.sleep(60)'])"
    ),
    "in a library that replaces exceptions": """
    import time
    try:
        time.sleep(60)
    except BaseException:
        raise RuntimeError("a callback failed") from None
""",
    "in a library that drops exceptions": """
    import time
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
""",
    "cleaning up for ever": """
    import time
    try:
        time.sleep(60)
    finally:
        time.sleep(60)
""",
}


def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Start Python code in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,
    )


@pytest.mark.parametrize("way", WAYS)
def test_whatever_a_command_does_it_stops(way):
    process = start(COMMAND.format(work=WAYS[way].strip()))
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    time.sleep(0.1)
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert time.monotonic() - started < 4, "two seconds, and some air for a busy machine"
    assert process.returncode == INTERRUPTED
    assert re.fullmatch(r"\S+: stopped by SIGTERM; give the same command again\n", err), err


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_every_stop_signal(number):
    process = start(COMMAND.format(work=WAYS["asleep"]))
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    # The second one may come when all is done, and ends a process as it ends any.
    assert process.returncode in (INTERRUPTED, -number)
    name = signal.Signals(number).name
    assert err == f"confsim-test: stopped by {name}; give the same command again\n"


def test_handlers_are_put_back_and_nest():
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with Interruptible() as outer:
        with Interruptible() as inner:
            assert inner is outer
            with pytest.raises(Stopped):
                signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # cleaning up is not interrupted again
        assert outer.number == signal.SIGTERM
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
    with Interruptible() as again:
        assert again.number is None


def test_a_signal_during_a_destructor_is_not_lost(capsys):
    class Stubborn:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    hook = sys.unraisablehook
    began = time.monotonic()

    def work():
        Stubborn()  # whose exception Python would print and forget
        time.sleep(5)

    with Interruptible() as stop, pytest.raises(Stopped):
        work()
    assert stop.number == signal.SIGTERM
    assert time.monotonic() - began < 1
    assert sys.unraisablehook is hook
    assert capsys.readouterr().err == ""


def printed_and_forgotten(then):
    """Do as compiled modules do when they cannot import NumPy."""
    try:
        signal.raise_signal(signal.SIGTERM)
    except Stopped:
        sys.excepthook(*sys.exc_info())
    if then:
        raise ImportError(then)
    time.sleep(5)


def test_a_signal_below_c_that_prints_it_is_neither_printed_nor_lost(capsys):
    hook = sys.excepthook
    with Interruptible() as stop, pytest.raises(Stopped):
        printed_and_forgotten(then=None)
    assert stop.number == signal.SIGTERM
    with Interruptible() as stop, pytest.raises((ImportError, Stopped)):
        printed_and_forgotten(then="numpy.core.multiarray failed to import")
    assert stop.number == signal.SIGTERM
    assert sys.excepthook is hook
    assert capsys.readouterr().err == ""


def test_nothing_is_shown_of_what_the_interruption_left_half_done(capsys):
    with Interruptible() as stop:
        print("told", file=sys.stderr)
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
        print("Bad value in a file that was read in part", file=sys.stderr)
        print("stopped", file=stop.stderr)
    print("later", file=sys.stderr)
    assert capsys.readouterr().err.split() == ["told", "stopped", "later"]


def test_signals_of_others_end_nothing():
    heard = []
    before = signal.signal(signal.SIGALRM, lambda *_: heard.append("alarm"))
    try:
        with Interruptible() as stop:
            signal.raise_signal(signal.SIGALRM)
            time.sleep(LIMIT + 0.5)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert heard == ["alarm"]
    assert stop.number is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_what_stops_a_forked_child_is_no_word_to_its_parent():
    # Newer Pythons warn of a fork beside threads, which libraries start when they are imported.
    code = """
import os, signal, time, warnings
from confsim._stopping import Interruptible
warnings.simplefilter("ignore", DeprecationWarning)
with Interruptible():
    child = os.fork()
    if child == 0:
        time.sleep(60)
    time.sleep(0.5)
    os.kill(child, signal.SIGTERM)
    status = os.waitpid(child, 0)[1]
    other = os.fork()
    if other:
        os.waitpid(other, 0)
        time.sleep(2)
if other:
    print(os.WTERMSIG(status), "went on")
"""
    process = start(code)
    assert process.communicate(timeout=60) == (f"{signal.SIGTERM:d} went on\n", "")


def test_other_lost_exceptions_are_told_as_ever(monkeypatch):
    class Broken:
        def __del__(self):
            raise ValueError("told")

    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    monkeypatch.setattr(sys, "excepthook", lambda kind, *_: told.append(kind))
    with Interruptible():
        Broken()
        sys.excepthook(KeyError, KeyError(), None)
    assert [getattr(lost, "exc_type", lost) for lost in told] == [ValueError, KeyError]


def test_a_hangup_is_not_taken_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in taken_signals()
        with Interruptible():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.SIGHUP in taken_signals()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("status", ["{run}", "--verify"]),
        ("report", ["{run}"]),
        ("linear", ["--n=10", "--queries=1000", "--trials=9", "--quiet", "--csv", "--out={new}"]),
        ("audit", ["{run}/none.npz"]),
    ],
)
def test_no_moment_ends_in_a_traceback(tmp_path, command, options, number):
    path = tmp_path / "run"
    run(Toy(), trials=3, out=path, quiet=True)
    # Before the mark the interpreter is at work, which nothing of a package can help.
    code = (
        f"import os, sys; from confsim.cli import start_{command}; os.write(1, b'\\n'); "
        f"sys.exit(start_{command}())"
    )
    for delay in (0.04, 0.1, 0.2, 0.35, 0.5, 0.8, 1.3):
        new = tmp_path / f"new-{delay}"
        process = start(code, *(option.format(run=path, new=new) for option in options))
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
        assert "Traceback" not in err, f"{delay}: {err}"
        assert len(err.splitlines()) <= 1
        if command == "linear" and new.exists():
            again = start(code, *(option.format(run=path, new=new) for option in options))
            assert (again.communicate(timeout=60)[1], again.returncode) == ("", 0)
            assert leftovers(new) == []
            assert len(contents(new)) > 9


def test_bad_threads_are_one_line_before_openmp_has_its_own(tmp_path):
    code = "import sys; from confsim.cli import start_status; sys.exit(start_status())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        capture_output=True,
        text=True,
        env={**environment, "OMP_NUM_THREADS": "all"},
    )
    assert done.returncode == 2
    assert done.stderr == "-c: error: OMP_NUM_THREADS must be a positive integer, not 'all'\n"


TRIES = """
import sys
from pathlib import Path
from confsim.deep import backend
backend._TRY = backend._TRY.replace(
    "    try_training(given)",
    "    import os, time; open(given, 'w').write(str(os.getpid())); time.sleep(600)",
)
backend.gpus = list
backend.check_trains(backend.chosen_backend(None), sys.argv[1])
"""


def test_a_model_that_is_tried_does_not_outlive_its_command(tmp_path):
    pytest.importorskip("keras")
    mark = tmp_path / "pid"
    process = start(TRIES, mark)
    until = time.monotonic() + 100
    while not (mark.exists() and mark.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    process.communicate()
    child = Path("/proc") / mark.read_text()
    while child.exists() and "Z" not in (child / "stat").read_text().rpartition(")")[2].split()[:1]:
        assert time.monotonic() < until
        time.sleep(0.05)
