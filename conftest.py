"""Benchmarks run with ``pytest --benchmark-only`` and never in a plain ``pytest``."""


def pytest_configure(config):
    """Skip benchmarks unless nothing else is wanted."""
    if hasattr(config.option, "benchmark_only") and not config.option.benchmark_only:
        config.option.benchmark_skip = True
