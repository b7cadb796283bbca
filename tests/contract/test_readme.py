"""Every command and program in README.md, run as it stands there, in order, in one directory.

A comment before a block says what is special: ``first command`` and ``test command`` install into
a new environment, which the gate does; ``minutes`` is run where ``CONFSIM_TEST_README`` is ``all``;
``printed by: COMMAND`` is that command's output. Pages in ``docs/`` are run when they are built.
What is installed already is not installed again: ``pip install`` does nothing here.
"""

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:^<!-- ([^\n]*) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [found.groups() for found in BLOCK.finditer(README)]
COMMANDS = ("linear", "deep", "shadow", "audit", "report", "status")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")

#: How far numbers may be from those shown, which depend on versions of HiGHS and TensorFlow.
SLACK = {"confsim-linear": 0.01, "confsim-deep": 0.25}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a directory to run in, and programs that are the installed ones."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "bin").mkdir()
    programs = {
        f"confsim-{name}": f"from confsim.cli.{name} import main; sys.exit(main())"
        for name in COMMANDS
    } | {"pip": "assert sys.argv[1] == 'install'"}
    for name, code in programs.items():
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nexec \'{sys.executable}\' -c "import sys; {code}" "$@"\n')
        program.chmod(0o755)
    return folder


def run(place, command):
    found = subprocess.run(
        command,
        cwd=place,
        env={**os.environ, "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def has_deep():
    return importlib.util.find_spec("tensorflow") is not None


def title(block):
    return (block[0] or block[2].strip().splitlines()[0])[:50]


@pytest.mark.parametrize("block", BLOCKS, ids=title)
def test_a_block_runs(block, place):
    note, language, text = block
    note = note or ""
    if note in ("first command", "test command"):
        pytest.skip("run elsewhere")
    if note == "minutes" and os.environ.get("CONFSIM_TEST_README") != "all":
        pytest.skip("takes minutes")
    if "confsim-deep" in text and not has_deep():
        pytest.skip("needs TensorFlow")
    if language == "sh":
        shown = [shown for how, _, shown in BLOCKS if how == f"printed by: {last_command(text)}"]
        printed = run(place, ["bash", "-euo", "pipefail", "-c", text])
        for expected in shown:
            compare(printed, expected, SLACK[last_command(text).split()[0]])
    elif language == "python":
        (place / "block.py").write_text(text)
        run(place, [sys.executable, "block.py"])
    else:
        assert note.startswith("printed by: "), f"what is this block? {text}"
        commands = [last_command(other) for _, language, other in BLOCKS if language == "sh"]
        assert note.removeprefix("printed by: ") in commands


def test_the_first_commands_output(place):
    command = "confsim-linear --n 5000"
    (expected,) = [shown for how, _, shown in BLOCKS if how == f"printed by: {command}"]
    compare(run(place, command.split()), expected, SLACK["confsim-linear"])


def last_command(text):
    return textwrap.dedent(text).strip().splitlines()[-1].split("&&")[-1].strip()


def words_of(line):
    return " ".join(NUMBER.sub("#", line).split())


def compare(printed, shown, slack):
    """Check that every shown line is printed, with the same words and nearly the same numbers."""
    kept = {
        re.sub(r"\s+", " ", NUMBER.sub("#", line)).strip(): line for line in printed.splitlines()
    }
    for line in shown.splitlines():
        if line.startswith(("results", "next")):  # these hold a hash of versions
            assert any(other.startswith(line.split()[0]) for other in printed.splitlines())
            continue
        words = words_of(line)
        assert words in kept, f"not printed: {line!r}"
        for old, new in zip(NUMBER.findall(line), NUMBER.findall(kept[words]), strict=True):
            size = max(1.0, abs(float(old)))
            assert float(new) == pytest.approx(float(old), abs=slack * size), (line, kept[words])
