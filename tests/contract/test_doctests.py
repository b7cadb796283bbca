"""Every example in a docstring gives what it shows."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import confsim

PACKAGE = Path(confsim.__file__).parent
FILES = [p for p in sorted(PACKAGE.rglob("*.py")) if ">>> " in p.read_text(encoding="utf-8")]


def name_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(("confsim", *parts)).removesuffix(".__init__")


@pytest.mark.parametrize("name", [name_of(path) for path in FILES])
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some make a run
    found = doctest.testmod(import_module(name))
    assert found.attempted
    assert not found.failed
