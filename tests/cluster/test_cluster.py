"""Runs on a real Slurm: arrays, steps, requeueing, time limits, the report that waits for them.

``CONFSIM_LONG_TESTS=1`` adds those that take minutes, because Slurm counts in minutes.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import (
    Cluster,
    Node,
    can_have_two_nodes,
    cluster,
    missing_programs,
    second_node,
    wait_until,
)
from toy_experiments import contents, leftovers, result_of

from confsim.runner.claims import Claims
from confsim.store import open_run

TESTS = Path(__file__).parents[1]
SLURM = TESTS.parent / "slurm"
LINEAR = ("--n", 10, "--queries", 100, "--trials", 24)
LONG = os.environ.get("CONFSIM_LONG_TESTS") == "1"

pytestmark = pytest.mark.skipif(
    bool(missing_programs()),
    reason=f"needs Slurm and munge, lacks {', '.join(missing_programs())}",
)


def wrapper(path: Path, code: str) -> None:
    """Write a command that runs with this interpreter, and with the package under test."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec \'{sys.executable}\' -c "{code}" "$@"\n')
    path.chmod(0o755)


def commands(folder: Path) -> None:
    """Put the package's commands into a folder."""
    for name in ("linear", "shadow", "status", "report"):
        code = f"import sys; from confsim.cli.{name} import main; sys.exit(main())"
        wrapper(folder / f"confsim-{name}", code)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("slurm")
    with cluster(folder) as made:
        commands(folder / "bin")
        made.environment["PATH"] = f"{folder / 'bin'}:{made.environment['PATH']}"
        made.environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        yield made


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Node]]:
    """A cluster of two nodes, with a slow toy in the place of confsim-linear."""
    if not can_have_two_nodes():
        pytest.skip("a second node needs unshare and the right to use it")
    folder = tmp_path_factory.mktemp("pair")
    with cluster(folder, nodes=2) as made:
        toys(folder / "bin")
        made.environment["PATH"] = f"{folder / 'bin'}:{made.environment['PATH']}"
        made.environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        with second_node(made) as node:
            yield made, node


def toys(folder: Path) -> None:
    """Put a slow toy into a folder, in the place of confsim-linear."""
    code = (
        "import sys, runpy; sys.argv[0] = 'toy'; "
        f"runpy.run_path('{TESTS / 'support' / 'toy_command.py'}', run_name='__main__')"
    )
    wrapper(folder / "confsim-linear", code)


@pytest.fixture
def toy(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster, with a slow toy in the place of confsim-linear."""
    folder = slurm.folder / "toys"
    toys(folder)
    monkeypatch.setitem(slurm.environment, "PATH", f"{folder}:{slurm.environment['PATH']}")
    return slurm


@pytest.fixture(scope="module")
def local(slurm: Cluster) -> dict[str, bytes]:
    """The bytes of the trials that one local process makes."""
    path = slurm.folder / "local"
    subprocess.run(
        ["confsim-linear", *map(str, LINEAR), "--out", path, "--workers", "1", "--quiet"],
        env=slurm.environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return contents(path)


def toy_contents(trials: int, path: Path) -> bool:
    """Whether a toy's run holds what it must."""
    run = open_run(path)
    means = [run.trial(trial).summary()["mean"] for trial in range(trials)]
    return means == [result_of(trial).summary["mean"] for trial in range(trials)]


def test_an_array_makes_the_same_trials_as_one_process(slurm, local):
    path = slurm.folder / "array"
    job = slurm.submit(
        "--array=0-3", "--cpus-per-task=1", SLURM / "linear.sbatch", *LINEAR, "--out", path
    )
    report = slurm.submit(
        f"--dependency=afterany:{job}", "--cpus-per-task=1", SLURM / "report.sbatch", path
    )
    assert slurm.wait(job) == ["COMPLETED"] * 4, slurm.logs()
    assert contents(path) == local
    assert leftovers(path) == []
    assert slurm.wait(report) == ["COMPLETED"], slurm.logs()
    text = slurm.call("scontrol", "show", "job", report)
    assert "ExitCode=0:0" in text
    assert len(list((path / "log").glob("*.log"))) <= 4


def test_an_array_of_shadow_models_makes_the_same_trials_as_one_process(slurm):
    task = TESTS / "support" / "shadow_task.py"
    words = (task, "--trials", 8, "--design", "balanced", "--threads-per-trial", 1)
    here, path = slurm.folder / "shadow", slurm.folder / "shadow-array"
    subprocess.run(
        ["confsim-shadow", *map(str, words), "--out", here, "--workers", "1", "--quiet"],
        env=slurm.environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    job = slurm.submit(
        "--array=0-3", "--cpus-per-task=1", SLURM / "shadow.sbatch", *words, "--out", path
    )
    assert slurm.wait(job) == ["COMPLETED"] * 4, slurm.logs()
    assert contents(path) == contents(here)
    assert leftovers(path) == []


def test_an_array_makes_the_same_tables_as_one_process(slurm):
    task, path = TESTS / "support" / "shadow_task.py", slurm.folder / "tables-array"
    words = (task, "--trials", 6, "--holdout", 0.2, "--threads-per-trial", 1)
    slurm.call("confsim-shadow", *words, "--out", path, "--workers", 1, "--quiet")
    shutil.copytree(path, slurm.folder / "tables-here")
    job = slurm.submit("--array=0-1", "--cpus-per-task=1", SLURM / "tables.sbatch", path)
    report = slurm.submit(
        f"--dependency=afterany:{job}", "--cpus-per-task=1", SLURM / "report.sbatch", path
    )
    assert slurm.wait(job) == ["COMPLETED"] * 2, slurm.logs()
    assert slurm.wait(report) == ["COMPLETED"], slurm.logs()
    slurm.call("confsim-report", slurm.folder / "tables-here")
    made, alone = (
        {file.name: file.read_bytes() for file in (folder / "tables").iterdir()}
        for folder in (path, slurm.folder / "tables-here")
    )
    assert made == alone
    assert {"attacks.csv", "vulnerability.parquet"} <= set(made)
    assert leftovers(path) == []


def test_an_array_with_gaps_completes_the_run(slurm, local):
    path = slurm.folder / "gaps"
    job = slurm.submit(
        "--array=0,5,7", "--cpus-per-task=1", SLURM / "linear.sbatch", *LINEAR, "--out", path
    )
    slurm.wait(job)
    assert contents(path) == local
    assert leftovers(path) == []


def test_tasks_of_a_step_shard_by_themselves(slurm, local):
    path = slurm.folder / "step"
    slurm.call(
        "srun", "--ntasks=2", "confsim-linear", *LINEAR, "--no-steal", "--out", path, "--quiet"
    )
    assert contents(path) == local
    assert len(list((path / "log").glob("*.log"))) == 2


def test_a_report_on_an_incomplete_run_says_what_is_missing(slurm):
    path = slurm.folder / "part"
    slurm.call(
        "srun", "confsim-linear", *LINEAR, "--shard", "0/2", "--no-steal", "--out", path, "--quiet"
    )
    report = slurm.submit("--cpus-per-task=1", SLURM / "report.sbatch", path)
    assert slurm.wait(report) == ["FAILED"]
    assert "ExitCode=75:0" in slurm.call("scontrol", "show", "job", report)
    assert "1" in (slurm.folder / f"confsim-report-{report}.out").read_text()


def start_toy(toy: Cluster, path: Path, *options: object, trials: int = 16) -> str:
    """Submit a toy that takes 16 x 0.25 s, and wait until it has finished two trials."""
    seconds = 0.25 if trials == 16 else 0.5
    job = toy.submit(
        "--cpus-per-task=1", *options, SLURM / "linear.sbatch",
        "--trials", trials, "--seconds", seconds, "--out", path,
    )  # fmt: skip
    wait_until(lambda: path.exists() and len(open_run(path).trials) >= 2, 60, "two trials")
    return job


def test_a_task_that_slurm_requeues_goes_on(toy):
    path = toy.folder / "requeued"
    job = start_toy(toy, path)
    toy.call("scontrol", "requeue", job)
    before = len(open_run(path).trials)
    assert before < 16
    assert toy.wait(job) == ["COMPLETED"], toy.logs()
    assert open_run(path).trials == list(range(16))
    assert toy_contents(16, path)
    assert leftovers(path) == []


def test_a_task_that_is_warned_requeues_itself(toy):
    path = toy.folder / "warned"
    job = start_toy(toy, path)
    toy.call("scancel", "--signal=USR1", "--batch", job)
    assert toy.wait(job) == ["COMPLETED"], toy.logs()
    assert "Restarts=1" in toy.call("scontrol", "show", "job", job)
    assert toy_contents(16, path)
    assert leftovers(path) == []
    assert (
        "the same command goes on from there"
        in (toy.folder / f"confsim-linear-{job}_4294967294.out").read_text()
    )


def test_a_cancelled_task_stays_cancelled_and_can_be_submitted_again(toy):
    path = toy.folder / "cancelled"
    job = start_toy(toy, path)
    toy.call("scancel", job)
    assert toy.wait(job) == ["CANCELLED"]
    time.sleep(1)
    assert toy.states(job) == ["CANCELLED"]
    assert len(open_run(path).trials) < 16
    job = start_toy(toy, path)
    assert toy.wait(job) == ["COMPLETED"]
    assert toy_contents(16, path)
    assert leftovers(path) == []


def test_a_gpu_task_owns_its_gpu_and_requeues_itself(toy):
    path = toy.folder / "gpu"
    wrapper(
        toy.folder / "toys" / "confsim-deep",
        "import os, sys; "
        f"path = {str(path)!r}; "
        "again = os.path.exists(path); "
        "open(path, 'a').write(os.environ['CUDA_VISIBLE_DEVICES'] + ' '.join(sys.argv)); "
        "sys.exit(0 if again else 75)".replace('"', "'"),
    )
    job = toy.submit("--cpus-per-task=1", SLURM / "deep-gpu.sbatch", "--trials", 3)
    assert toy.wait(job) == ["COMPLETED"], toy.logs()
    assert path.read_text() == "0-c --grace 90 --trials 3" * 2


@pytest.mark.skipif(not LONG, reason="takes minutes: CONFSIM_LONG_TESTS=1")
@pytest.mark.parametrize(
    "options", [("--time=2", "--signal=B:USR1@30"), ("--time=1", "--signal=B:CONT@1")]
)
def test_a_time_limit_strikes_and_the_run_completes(toy, options):
    """With a warning the task requeues itself; without one it dies, and is submitted again."""
    path = toy.folder / options[0].strip("-")
    job = start_toy(toy, path, *options, trials=300)
    states = toy.wait(job, 500)
    if "--time=1" in options:
        assert states == ["TIMEOUT"]
        assert len(open_run(path).trials) < 300
        job = start_toy(toy, path, "--cpus-per-task=4", trials=300)
        assert toy.wait(job, 400) == ["COMPLETED"]
    assert toy_contents(300, path)
    assert leftovers(path) == []


def start_on_both(made: Cluster, path: Path, trials: int, seconds: float) -> str:
    """Submit an array of two tasks, one on each node, and wait until both have finished trials."""
    job = made.submit(
        "--array=0-1", "--cpus-per-task=4", "--no-requeue", SLURM / "linear.sbatch",
        "--trials", trials, "--seconds", seconds, "--workers=2", "--out", path,
        "--marks", path.with_suffix(".marks"),
    )  # fmt: skip
    wait_until(lambda: path.exists() and len(open_run(path).trials) >= 6, 60, "six trials")
    assert {trial % 2 for trial in open_run(path).trials} == {0, 1}
    return job


def begun(path: Path) -> list[int]:
    """Return the trials that were begun, once for each time."""
    lines = path.with_suffix(".marks").read_text().splitlines()
    return sorted(int(line.split()[1]) for line in lines if line.startswith("begin"))


@pytest.mark.skipif(not LONG, reason="takes minutes: CONFSIM_LONG_TESTS=1")
def test_a_run_outlives_a_node_that_returns(pair):
    """The other node's task takes over what the dead one had in hand, and nothing else."""
    made, node = pair
    path = made.folder / "death"
    job = start_on_both(made, path, 40, 1.0)
    node.switch_off()
    assert sorted(made.wait(job, 240)) == ["COMPLETED", "NODE_FAIL"], made.logs()
    assert open_run(path).trials == list(range(40))
    assert toy_contents(40, path)
    assert leftovers(path) == []
    again = [trial for trial in range(40) if begun(path).count(trial) > 1]
    assert len(again) <= 2
    assert len(begun(path)) == 40 + len(again)
    assert "no trial is free; waiting for" in made.logs()
    node.switch_on()
    job = start_on_both(made, path, 60, 0.5)
    assert made.wait(job, 240) == ["COMPLETED"] * 2, made.logs()
    assert open_run(path).trials == list(range(60))
    assert toy_contents(60, path)
    assert leftovers(path) == []
    assert len(begun(path)) == 60 + len(again)


@pytest.mark.skipif(not LONG, reason="takes minutes: CONFSIM_LONG_TESTS=1")
def test_a_node_that_comes_back_from_a_partition_harms_nothing(pair):
    """Its task stands still for 90 s or more, then goes on writing what another has taken over."""
    made, node = pair
    path = made.folder / "partition"
    job = start_on_both(made, path, 80, 2.5)
    stopped = node.tasks()
    assert len(stopped) == 3, "a command and its workers"
    for process in stopped:
        process.suspend()
    claims = Claims(path)
    theirs = {n: owner for n, owner in claims.held().items() if n % 2 == 1}
    assert len(theirs) == 2
    assert len(set(theirs.values())) == 1

    def taken_over() -> bool:
        held = claims.held()
        return all(held.get(n) != owner for n, owner in theirs.items())

    began = time.monotonic()
    wait_until(taken_over, 200, "another owner of what was in hand")
    time.sleep(max(0.0, began + 90 - time.monotonic()))
    for process in stopped:
        process.resume()
    assert made.wait(job, 300) == ["COMPLETED"] * 2, made.logs()
    assert open_run(path).trials == list(range(80))
    assert toy_contents(80, path)
    assert leftovers(path) == []
    assert not list(path.glob("log/failed-*"))
    assert "stood still for" in made.logs()
    again = [trial for trial in range(80) if begun(path).count(trial) > 1]
    assert len(again) <= 4
