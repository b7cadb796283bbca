"""The examples of shadow models run as they stand, where their framework is installed."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import confsim

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*words, folder):
    found = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def needs(*packages):
    for name in packages:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("shadow_*.py")), ids=lambda path: path.name)
def test_an_example_is_short(path):
    assert len(path.read_text().splitlines()) <= 30


@pytest.mark.parametrize(
    ("name", "package"), [("shadow_sklearn", "sklearn"), ("shadow_boosting", "lightgbm")]
)
def test_an_estimator(name, package, tmp_path):
    needs(package)
    printed = run(EXAMPLES / f"{name}.py", 4, folder=tmp_path)
    assert "lira_online_fixed_variance" in printed


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("shadow_torch", ["torch"]),
        ("shadow_language", ["torch", "transformers"]),
        ("shadow_regression", []),
    ],
)
def test_a_task_file(name, packages, tmp_path):
    needs(*packages)
    task = EXAMPLES / f"{name}.py"
    run("-m", "confsim", "shadow", task, "--trials", 4, "--out", "run", folder=tmp_path)
    found = confsim.open_run(tmp_path / "run")
    assert found.trials == [0, 1, 2, 3]
    ranked_by = "log_odds_max" if name == "shadow_torch" else "statistic"
    assert set(found.summary()["ranked_by"]) == {ranked_by}
