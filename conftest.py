"""What holds for tests and benchmarks alike."""

import os
import signal
from pathlib import Path

import pytest


def pytest_configure(config):
    """Skip benchmarks unless nothing else is wanted."""
    if hasattr(config.option, "benchmark_only") and not config.option.benchmark_only:
        config.option.benchmark_skip = True


def pytest_sessionstart():
    """Take SIGHUP as a terminal's end again, also where the tests were started under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _away_from_the_source_tree(tmp_path_factory):
    """Run elsewhere: ``python -c`` in the source tree would import that, not what is installed."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)
