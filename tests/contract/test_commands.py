"""What every command owes its user's shell, and ``confsim`` with its subcommands."""

import contextlib
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import confsim
from confsim.cli.program import COMMANDS


def program(*arguments, before="pass", **options):
    """Run ``confsim ARGUMENTS`` in a process of its own, some Python ``before`` it."""
    code = f"import sys; {before}; from confsim.cli.program import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        text=True,
        timeout=120,
        check=False,
        **{"capture_output": True, **options},
    )


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["linear", "--trails", "3"], "'--trials'"),
        (["linear", "--trails=3"], "'--trials'"),
        (["linear", "--same-clas"], "'--same-class'"),
        (["deep", "--epoch", "3"], "'--epochs'"),
        (["audit", "x.csv", "--vote", "3"], "'--votes'"),
    ],
)
def test_a_flag_that_there_is_not(given, meant):
    found = program(*given)
    assert found.returncode == 2
    assert f"did you mean {meant}? (see " in found.stderr
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_a_subcommand_is_the_hyphenated_command(command):
    code = f"import sys; from confsim.cli.{command} import main; sys.exit(main())"
    for arguments in (["--help"], ["--version"], ["--no-such-flag"]):
        hyphenated = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )
        found = program(command, *arguments)
        assert (found.returncode, found.stdout, found.stderr) == (
            hyphenated.returncode,
            hyphenated.stdout,
            hyphenated.stderr,
        )


def test_python_m_confsim():
    found = subprocess.run(
        [sys.executable, "-m", "confsim", "--version"], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (0, f"confsim {confsim.__version__}\n")


@pytest.mark.parametrize(("arguments", "what"), [((), "missing"), (("lineal",), "'lineal'")])
def test_a_wrong_subcommand_is_one_line(arguments, what):
    found = program(*arguments)
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr.count("\n") == 1
    assert what in found.stderr
    assert all(name in found.stderr for name in COMMANDS)
    assert all(name in program("--help").stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_a_default_once(command):
    text = " ".join(program(command, "--help").stdout.split())
    assert not re.search(r"\(default: [^()]*\) \(default: ", text)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", [["--help"], ["--version"], ["--print-completion", "bash"]])
def test_a_reader_that_has_gone_is_no_error(command, flag):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        found = program(
            command, *flag, capture_output=False, stdout=writing, stderr=subprocess.PIPE
        )
    finally:
        os.close(writing)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize(
    "words",
    [
        *([name, "--help"] for name in COMMANDS),
        ["--help"],
        ["--version"],
        ["status", "--version"],
        ["linear", "--print-completion", "bash"],
        ["linear", "--print-config"],
        ["linear", "--dry-run"],
        ["deep", "--recipe", "help"],
        ["status", "."],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("buffered", [True, False])
def test_output_that_cannot_be_written_is_a_failure(words, buffered, tmp_path):
    """As on a disk that is full."""
    if words == ["status", "."]:
        assert program("linear", "--n=4", "--queries=50", "--trials=1", "--out", tmp_path).stdout
    with Path("/dev/full").open("w") as full:
        found = program(
            *words,
            capture_output=False,
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env={**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"},
        )
    assert found.returncode == 1
    assert found.stderr.count("\n") == 1
    assert "No space left" in found.stderr


def test_a_command_to_copy_is_quoted(tmp_path):
    words = ["--n=4", "--queries=50", "--trials=1"]
    for name in ("a b", "$(touch it-ran)", "-x", "it's"):
        found = program("linear", *words, f"--out={name}", cwd=tmp_path)
        line = next(line for line in found.stdout.splitlines() if line.startswith("next"))
        command, path = shlex.split(line.removeprefix("next").rpartition("(")[0])
        assert command == "confsim-report"
        assert (tmp_path / path).samefile(tmp_path / name)
        assert not path.startswith("-")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_the_caller_closed(closed, tmp_path):
    """As a daemon's: what a run writes then must not become its standard error."""
    out = tmp_path / "run"
    command = "from confsim.cli import start_linear; import sys; sys.exit(start_linear())"
    words = [sys.executable, "-c", command, "--n=4", "--queries=50", "--trials=2", f"--out={out}"]
    found = subprocess.run(["sh", "-c", f"exec {shlex.join(words)} {closed}"], timeout=120)
    assert found.returncode == 0
    assert confsim.open_run(out).trials == [0, 1]
    code = (
        "from confsim.cli import _open_streams; import os, sys; _open_streams(); "
        "print('heard'); print('heard', file=sys.stderr); "
        "sys.exit(os.open(os.devnull, os.O_RDONLY) < 3)"
    )
    words = [sys.executable, "-c", code]
    assert subprocess.run(["sh", "-c", f"exec {shlex.join(words)} {closed}"]).returncode == 0


def completions(command, words):
    """Return what bash completes the last of ``words`` to, in the working directory."""
    script = program(command, "--print-completion", "bash").stdout
    words = [f"confsim-{command}", *words]
    ask = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _shtab_confsim_{command}"
    found = subprocess.run(
        ["bash", "-c", f'{script}\n{ask}\nprintf "%s\\n" "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(found.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_paths_are_completed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pixels.npz").touch()
    both = {"pictures", "pixels.npz"}
    assert completions("linear", ["--out", "pi"]) == {"pictures"}
    assert completions("deep", ["--data-dir", "pi"]) == {"pictures"}
    assert completions("deep", ["--duplicates", "pi"]) == both
    assert completions("audit", ["pi"]) == both
    assert completions("audit", ["--features", "pi"]) == both
    assert completions("shadow", ["pi"]) == both
    assert completions("report", ["pi"]) == {"pictures"}
    assert completions("status", ["pi"]) == {"pictures"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_name_with_a_blank_is_completed_in_one_piece(tmp_path):
    """As on a terminal: bash alone knows what it types then."""
    (tmp_path / "my runs").mkdir()
    script = tmp_path / "script"
    script.write_text(program("audit", "--print-completion", "bash").stdout)
    server, terminal = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        cwd=tmp_path,
        env={**os.environ, "PS1": "", "TERM": "dumb", "INPUTRC": os.devnull},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    os.write(server, b"confsim-audit() { printf '<%s>' \"$@\" >said; exit; }; source script\n")
    os.write(server, b"confsim-audit my\t\n")
    with contextlib.suppress(OSError):  # at the end
        while select.select([server], [], [], 60)[0] and os.read(server, 4096):
            pass
    os.close(server)  # which hangs up on a shell that is still there
    shell.wait(60)
    assert (tmp_path / "said").read_text() == "<my runs/>"


def test_a_solver_that_cannot_be_imported_is_said_before_any_trial(tmp_path):
    (tmp_path / "highspy").mkdir()
    (tmp_path / "highspy" / "__init__.py").write_text("import what_it_needs_itself\n")
    out = tmp_path / "run"
    found = program(
        *("linear", "--n", "5", "--queries", "100", "--out", out),
        before=f"sys.path.insert(0, {str(tmp_path)!r})",
    )
    assert found.returncode == 2, found.stderr
    assert found.stderr.count("\n") == 1
    assert "what_it_needs_itself" in found.stderr
    assert "pip install" in found.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("linear", "--n", "5", "--out", ""),
        ("deep", "--out", ""),
        ("deep", "--data-dir", ""),
        ("deep", "--duplicates", ""),
        ("shadow", "task.py", "--out", ""),
        ("audit", ""),
        ("audit", "x.csv", "--features", ""),
        ("report", ""),
        ("report", "run", "--out", ""),
        ("status", ""),
        ("linear", "--config", ""),
    ],
)
def test_an_empty_path_is_not_this_folder(arguments, tmp_path):
    """As of a variable that is not set: a run would be spread over whatever lies here."""
    found = program(*arguments, cwd=tmp_path)
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert "must not be empty" in found.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "call",
    [
        lambda: confsim.linear.run(n=5, queries=100, trials=2, out=""),
        lambda: confsim.audit("", out="run"),
        lambda: confsim.audit(is_member=[0, 1], statistic=[0.0, 1.0], out=""),
    ],
)
def test_an_empty_path_of_python_is_none_either(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="must not be empty"):
        call()
    assert not list(tmp_path.iterdir())


def test_the_home_is_the_home(tmp_path):
    """Shells leave ``~`` as it is in --out=~/run; a folder of that name is dangerous to remove."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    options = {"cwd": here, "env": {**os.environ, "HOME": str(home)}}
    arguments = ("--n", "5", "--queries", "100", "--trials", "2", "--quiet")
    assert program("linear", *arguments, "--out=~/run", **options).returncode == 0
    assert "2 of 2 trials" in program("status", "~/run", **options).stdout
    code = "import confsim; print(confsim.linear.run(n=5, queries=100, trials=2, out='~/run').path)"
    found = subprocess.run(
        [sys.executable, "-c", code], **options, capture_output=True, text=True, check=True
    )
    assert found.stdout == f"{home / 'run'}\n"
    assert not list(here.iterdir())
