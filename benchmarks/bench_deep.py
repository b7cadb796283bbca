"""Whole runs of the deep pipeline beside the plain way, on the same cores, start-up included."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from tracking import record

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
    ),
]

TRIALS = 4
SETTINGS = ["--dataset", "digits", "--epochs", "15", "--trials", str(TRIALS)]
COMMAND = "import sys; from confsim.cli.deep import main; sys.exit(main())"


def call(*words):
    subprocess.run([sys.executable, *words], check=True, capture_output=True)


@pytest.mark.benchmark(group="deep: 4 trials on digits, 15 epochs")
def test_plain_keras(benchmark):
    script = Path(__file__).with_name("plain_keras.py")
    benchmark.pedantic(call, args=[str(script), *SETTINGS], rounds=1)
    record(benchmark, "deep: 4 trials on digits, 15 epochs", "plain Keras")


@pytest.mark.benchmark(group="deep: 4 trials on digits, 15 epochs")
def test_confsim(benchmark, tmp_path):
    words = [*SETTINGS, "--early-stopping", "off", "--out", str(tmp_path / "run")]
    benchmark.pedantic(call, args=["-c", COMMAND, *words], rounds=1)
    record(benchmark, "deep: 4 trials on digits, 15 epochs", "confsim")
