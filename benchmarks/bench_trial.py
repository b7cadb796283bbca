"""A whole linear trial beside the same trial in plain NumPy and SciPy (``peers.py``)."""

import numpy as np
import peers
import pytest
from tracking import record

from confsim.linear.experiment import LinearExperiment
from confsim.runner import run


class Context:
    """A runner that wants nothing."""

    def progress(self, trial, fraction, note=""): ...

    def should_stop(self):
        return False


def trial(session, number=0):
    """Run a trial to its last row, files aside."""
    for result in session.run([number], Context()):
        for table in result.tables.values():
            for _ in table:
                pass
        result.finished()


@pytest.mark.parametrize("n", [10, 1000, 5000])
@pytest.mark.benchmark(group="trial: 1,000,000 queries, 2 dimensions, one thread")
def test_confsim_trial(benchmark, n):
    session = LinearExperiment(n=n).open(threads=1)
    benchmark(trial, session)
    record(benchmark, f"trial of a million queries, n={n}", "confsim")


@pytest.mark.parametrize("n", [10, 1000])
@pytest.mark.benchmark(group="trial: 1,000,000 queries, 2 dimensions, one thread")
def test_scipy_trial(benchmark, n):
    """Here 1000 stands in for 5000, whose dense program takes minutes."""
    experiment = LinearExperiment(n=n)
    queries = experiment.lattice.points(experiment.query_ids())
    weights, bias = experiment.ideal
    rng = np.random.default_rng(0)
    benchmark.pedantic(
        lambda: peers.linear_trial(queries, n, weights, bias, 1000.0, 5.0, rng), rounds=3
    )
    record(benchmark, f"trial of a million queries, n={n}", "NumPy and SciPy")


@pytest.mark.benchmark(group="runner and store: 200 trials of 100 queries, one worker")
def test_runner_and_store(benchmark, tmp_path_factory):
    """What a trial costs beside its arithmetic, files included, and starting and ending once."""
    benchmark.pedantic(
        lambda out: run(LinearExperiment(queries=100), trials=200, out=out, workers=1, quiet=True),
        setup=lambda: ((tmp_path_factory.mktemp("run") / "run",), {}),
        rounds=3,
    )
