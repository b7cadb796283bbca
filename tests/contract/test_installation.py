"""What an installation promises: dependencies, size, and a remedy where it cannot be built."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from confsim import _kernels
from confsim._errors import how_to_install

SOURCE = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("extra", ["deep", "jax", "torch"])
def test_advice_names_the_packages_of_the_extra(extra):
    text = (SOURCE / "pyproject.toml").read_text()
    (line,) = re.findall(rf"^{extra} = \[(.*)\]$", text, re.MULTILINE)
    wanted = sorted(re.findall(r'"([^"]+)"', line))
    assert wanted
    assert how_to_install(extra) == "pip install " + " ".join(f"'{name}'" for name in wanted)


def test_what_the_solver_imports_is_declared():
    # highspy imports typing_extensions below Python 3.11 and does not require it.
    needed = importlib.metadata.requires("confsim")
    (line,) = [line for line in needed if line.startswith("typing-extensions")]
    assert "python_version < '3.11'" in line.replace('"', "'")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads ELF files")
def test_compiled_modules_carry_no_debug_symbols():
    modules = list(Path(_kernels.__file__).parent.glob("*.so"))
    assert len(modules) == 5
    for module in modules:
        content = module.read_bytes()
        if b"__asan_init" not in content:  # a build with sanitizers is for debugging
            assert b".debug_info" not in content, module.name


def build(tmp_path, compiler):
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools", minversion="77")
    folders = ("--build-lib", tmp_path / "lib", "--build-temp", tmp_path / "temp")
    return subprocess.run(
        [sys.executable, "setup.py", "build", *map(str, folders)],
        cwd=SOURCE,
        env={**os.environ, "CC": str(compiler)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_compiler_the_last_line_says_what_to_install(tmp_path):
    found = build(tmp_path, "no-such-compiler")
    assert found.returncode != 0
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("confsim needs a C compiler")
    assert "apt install build-essential" in last
    assert "Traceback" not in found.stderr
    assert "copying" not in found.stdout  # pages of it would come first


def test_without_headers_the_last_line_says_what_to_install(tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text(
        "#!/bin/sh\n"
        'for word; do case $word in *.c) grep -q "<Python.h>" "$word" && exit 1;; esac; done\n'
        'exec cc "$@"\n'
    )
    compiler.chmod(0o755)
    found = build(tmp_path, compiler)
    assert found.returncode != 0
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("confsim needs the C headers")
    assert "python3-dev" in last
