"""What holds for tests and benchmarks alike; how benchmarks alone are run and reported."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

BENCHMARKS = Path(__file__).parent / "benchmarks"

# The gate says the same of the same commit; everywhere else each run searches new examples. No
# deadline, since how long an example takes says more of the machine than of the code.
settings.register_profile("search", deadline=None)
settings.register_profile("gate", deadline=None, derandomize=True, database=None)
settings.load_profile("gate" if os.environ.get("CI") else "search")


def pytest_addoption(parser):
    """Add what ``pytest-benchmark`` does not have."""
    group = parser.getgroup("benchmark")
    group.addoption("--benchmark-full", action="store_true", help="also those that take minutes")
    group.addoption(
        "--benchmark-baseline",
        action="store_true",
        help="store the ratios for this kind of machine",
    )


def pytest_configure(config):
    """Skip benchmarks unless nothing else is wanted; then collect nothing else."""
    config.addinivalue_line("markers", "full: a benchmark of --benchmark-full")
    if not hasattr(config.option, "benchmark_only"):
        return
    if not config.option.benchmark_only:
        config.option.benchmark_skip = True
        return
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        config.args = [str(BENCHMARKS)]
    config.option.benchmark_quiet = True  # its columns; -v brings them back
    config.option.benchmark_verbose |= config.option.verbose > 0


def pytest_collection_modifyitems(config, items):
    """Leave out the benchmarks that take minutes, unless asked for."""
    if config.option.benchmark_full or not getattr(config.option, "benchmark_only", False):
        return
    slow = [item for item in items if item.get_closest_marker("full")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


def pytest_terminal_summary(terminalreporter, config):
    """Print one table of ratios, what moved since the baseline, and which peers are missing."""
    session = getattr(config, "_benchmarksession", None)
    if session is None or not getattr(config.option, "benchmark_only", False):
        return
    import tracking

    measured = tracking.figures(session.benchmarks)
    path = tracking.baseline_file(tracking.machine_kind())
    before = tracking.load_baseline(path)
    for line in tracking.table(measured, before):
        terminalreporter.line(line)
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [str(report.longrepr) for report in skipped]
    terminalreporter.line("")
    for peer in tracking.missing_peers(reasons):
        terminalreporter.line(f"not measured, for {peer} is missing: pip install '.[bench]'")
    if measured and config.option.benchmark_baseline:
        tracking.save_baseline(path, measured)
        terminalreporter.line(f"ratios stored in {path}")
    elif measured:
        known = f"{path.name}" if before else f"none for this kind of machine ({path.stem})"
        terminalreporter.line(f"baseline: {known}; --benchmark-baseline stores these ratios")


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
