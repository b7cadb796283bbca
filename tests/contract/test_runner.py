"""The runner: workers, shards, failures, signals, going on."""

import fcntl
import io
import itertools
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import types
from pathlib import Path
from typing import Any

import psutil
import pytest
from toy_experiments import Streaming, Toy, ToyWithData, ToyWithModule, contents, leftovers

from confsim._errors import ConfsimError
from confsim._stopping import STOP_SIGNALS
from confsim.runner import Outcome, Shard, plan, resolve_shard, resolve_workers, run
from confsim.runner.progress import Progress, Remaining, duration
from confsim.store import open_run

#: A command: runs what its arguments evaluate to, prints the outcome, exits with its code.
COMMAND = """
import sys
from toy_experiments import *
from confsim.runner import run
outcome = run({experiment}, {arguments})
print(outcome.done, outcome.failed, outcome.missing, outcome.complete)
sys.exit(outcome.exit_code)
"""


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch):
    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    """The bytes of twelve trials, run by one process."""
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run(Toy(), trials=12, out=path, workers=1, quiet=True).exit_code == 0
    return contents(path)


def start(experiment: str, arguments: str, **options: Any) -> "subprocess.Popen[str]":
    """Start a command in a session of its own."""
    code = COMMAND.format(experiment=experiment, arguments=arguments)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        **options,
    )


def wait_until(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.01)


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"trials": 0}, "trials must be at least 1"),
            ({"trials": 10**12}, "trials must be at most 1,000,000, not 1,000,000,000,000"),
            ({"workers": 0}, "workers must be at least 1"),
            ({"shard": "3/2"}, "0 <= I < K"),
            ({"shard": "x"}, "--shard must be I/K"),
            ({"shard": "-1/2"}, "--shard must be I/K"),
            ({"shard": "0/0"}, "0 <= I < K"),
            ({"shard": "0/2", "overwrite": True}, "--overwrite cannot be used with shards"),
            ({"grace": -1}, "grace must be at least 0"),
            ({"grace": float("nan")}, "grace must be finite"),
            ({"keep": "none"}, "keep must be one of all, summary"),
        ],
    )
    def test_bad_ones_leave_nothing_behind(self, tmp_path, arguments, message):
        with pytest.raises(ValueError, match=message):
            run(Toy(), **{"trials": 3, "out": tmp_path / "a" / "run", **arguments})
        assert list(tmp_path.iterdir()) == []

    def test_an_experiment_that_cannot_run_leaves_nothing_behind(self, tmp_path):
        with pytest.raises(ValueError, match="one class"):
            run(Toy(broken="check"), trials=3, out=tmp_path / "run")
        with pytest.raises(TypeError, match="trials must be an integer"):
            run(Toy(), trials=2.5, out=tmp_path / "run")  # type: ignore[arg-type]
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("CONFSIM_ISA", "bogus", "CONFSIM_ISA must be one of"),
            ("OMP_NUM_THREADS", "many", "OMP_NUM_THREADS must be a positive integer, not 'many'"),
            ("OMP_NUM_THREADS", "0", "OMP_NUM_THREADS must be a positive integer"),
            ("OMP_NUM_THREADS", "2,-1", "OMP_NUM_THREADS must be a positive integer"),
            ("SLURM_CPUS_PER_TASK", "0", "SLURM_CPUS_PER_TASK must be at least 1, not 0"),
            ("SLURM_CPUS_PER_TASK", "\u00b2", "SLURM_CPUS_PER_TASK must be a number"),
            ("SOURCE_DATE_EPOCH", "yesterday", "SOURCE_DATE_EPOCH must be a number"),
            ("SLURM_PROCID", "-1", "SLURM_PROCID must be a number, not '-1'"),
            ("SLURM_PROCID", "9" * 5000, "SLURM_PROCID must be a number"),
        ],
    )
    def test_a_bad_environment_leaves_nothing_behind(
        self, tmp_path, monkeypatch, name, value, message
    ):
        monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match=message):
            run(Toy(), trials=3, out=tmp_path / "run")
        assert list(tmp_path.iterdir()) == []

    def test_a_missing_module_is_one_error_and_leaves_nothing_behind(self, tmp_path):
        for workers in (1, 3):
            with pytest.raises(ImportError, match="'a_module_that_nobody_has'"):
                run(ToyWithModule(), trials=9, out=tmp_path / "a" / "run", workers=workers)
            assert list(tmp_path.iterdir()) == []

    def test_a_missing_module_costs_no_finished_trial(self, tmp_path, monkeypatch):
        path = tmp_path / "run"
        monkeypatch.setattr(ToyWithModule, "command", "confsim-toy")
        run(Toy(), trials=2, out=path, quiet=True)
        with pytest.raises(ImportError, match="no trial can run without"):
            run(ToyWithModule(), trials=3, out=path, quiet=True)
        assert open_run(path).trials == [0, 1]
        assert leftovers(path) == []

    def test_another_identity_is_refused(self, tmp_path):
        run(Toy(), trials=1, out=tmp_path / "run", quiet=True)
        with pytest.raises(ValueError, match="seed is 0 there and 1 here"):
            run(Toy(seed=1), trials=1, out=tmp_path / "run")


def test_a_directory_whose_name_is_no_text(tmp_path, monkeypatch):
    path = tmp_path / os.fsdecode(b"caf\xe9")
    monkeypatch.setattr(sys, "argv", ["confsim-toy", "--out", str(path)])
    assert run(Toy(), trials=3, out=path, workers=1, quiet=True).exit_code == 0
    (log,) = (path / "log").iterdir()
    assert b"caf\\udce9" in log.read_bytes()


class TestPlan:
    def test_shards_part_the_trials(self):
        for count in (1, 3, 7, 20):
            parts = [list(Shard(index, count).trials(13)) for index in range(count)]
            assert sorted(trial for part in parts for trial in part) == list(range(13))
        assert resolve_shard("1/3", {}) == Shard(1, 3)
        assert resolve_shard(None, {}) == Shard(0, 1)
        assert resolve_shard(Shard(1, 3), {}) == Shard(1, 3)

    @pytest.mark.parametrize(
        ("variables", "expected"),
        [
            ({"ARRAY_TASK_ID": 5, "ARRAY_TASK_MIN": 2, "ARRAY_TASK_MAX": 9}, Shard(3, 8)),
            ({"ARRAY_TASK_ID": 7}, Shard(7, 8)),
            (
                {
                    "ARRAY_TASK_ID": 8,
                    "ARRAY_TASK_MIN": 0,
                    "ARRAY_TASK_MAX": 12,
                    "ARRAY_TASK_STEP": 4,
                },
                Shard(2, 4),
            ),
            ({"PROCID": 1, "NTASKS": 2}, Shard(1, 2)),
            ({"PROCID": 0, "NTASKS": 1}, Shard(0, 1)),
            (
                {
                    "ARRAY_TASK_ID": 1,
                    "ARRAY_TASK_MIN": 0,
                    "ARRAY_TASK_MAX": 3,
                    "PROCID": 2,
                    "NTASKS": 3,
                },
                Shard(5, 12),
            ),
            ({"PROCID": 1, "NTASKS": 8, "STEP_NUM_TASKS": 2}, Shard(1, 2)),
        ],
    )
    def test_slurm_tasks_are_shards(self, variables, expected):
        environ = {f"SLURM_{name}": str(value) for name, value in variables.items()}
        assert resolve_shard(None, environ) == expected
        assert resolve_shard("0/2", environ) == Shard(0, 2)

    def test_odd_variables_are_named(self):
        with pytest.raises(ValueError, match="SLURM_PROCID must be a number, not 'x'"):
            resolve_shard(None, {"SLURM_PROCID": "x"})
        with pytest.raises(ValueError, match="SLURM_PROCID=4 is no task of 2"):
            resolve_shard(None, {"SLURM_PROCID": "4", "SLURM_NTASKS": "2"})
        for name in ("SLURM_ARRAY_TASK_STEP", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"):
            with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
                resolve_shard(None, {"SLURM_PROCID": "0", "SLURM_ARRAY_TASK_ID": "0", name: "0"})
        with pytest.raises(ValueError, match="part -1 of 0"):
            resolve_shard(None, {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_MIN": "2"})
        with pytest.raises(ValueError, match="part 0 of -1"):
            resolve_shard(
                None,
                {
                    "SLURM_ARRAY_TASK_ID": "4",
                    "SLURM_ARRAY_TASK_MIN": "4",
                    "SLURM_ARRAY_TASK_MAX": "2",
                },
            )

    def test_workers(self):
        with pytest.raises(ValueError, match="workers must be at most 4096, not 1000000000"):
            resolve_workers(10**9, {})
        assert resolve_workers(None, {"SLURM_CPUS_PER_TASK": "3"}) == 3
        assert resolve_workers(2, {"SLURM_CPUS_PER_TASK": "3"}) == 2
        assert resolve_workers(None, {}) == len(os.sched_getaffinity(0))
        assert plan.under_slurm({"SLURM_JOB_ID": "1"})
        assert not plan.under_slurm({})


class TestTheSameBytes:
    def check(self, path: Path, undisturbed: dict[str, bytes]) -> None:
        assert contents(path) == undisturbed
        assert leftovers(path) == []

    @pytest.mark.parametrize("workers", [2, 5])
    def test_any_number_of_workers(self, tmp_path, undisturbed, workers):
        outcome = run(Toy(), trials=12, out=tmp_path / "run", workers=workers, quiet=True)
        assert outcome.done == tuple(range(12))
        assert (outcome.complete, outcome.exit_code) == (True, 0)
        self.check(tmp_path / "run", undisturbed)

    def test_shards_in_any_order(self, tmp_path, undisturbed):
        path = tmp_path / "run"
        for part, complete in (("1/3", False), ("0/3", False), ("2/3", True)):
            outcome = run(Toy(), trials=12, out=path, shard=part, quiet=True)
            assert (outcome.complete, outcome.exit_code) == (complete, 0)
        self.check(path, undisturbed)

    def test_stealing_completes_what_others_never_start(self, tmp_path, undisturbed):
        outcome = run(Toy(), trials=12, out=tmp_path / "run", shard="2/5", steal=True, quiet=True)
        assert outcome.done == (2, 7)
        assert outcome.complete
        self.check(tmp_path / "run", undisturbed)

    def test_several_trials_at_once(self, tmp_path, undisturbed):
        marks = tmp_path / "marks"
        toy = Toy(together=4, marks=str(marks))
        assert run(toy, trials=12, out=tmp_path / "run", workers=2, quiet=True).exit_code == 0
        self.check(tmp_path / "run", undisturbed)
        assert {line.split()[2] for line in marks.read_text().splitlines()} == {"4"}

    def test_more_trials_extend_a_run(self, tmp_path, undisturbed, capfd):
        run(Toy(), trials=5, out=tmp_path / "run", quiet=True)
        assert run(Toy(), trials=12, out=tmp_path / "run").exit_code == 0
        assert "5 of 12 trials are in" in capfd.readouterr().err
        self.check(tmp_path / "run", undisturbed)

    def test_a_complete_run_starts_no_process(self, tmp_path, undisturbed):
        run(Toy(), trials=12, out=tmp_path / "run", quiet=True)
        logs = len(list((tmp_path / "run" / "log").iterdir()))
        assert run(Toy(broken="open"), trials=12, out=tmp_path / "run").complete
        assert len(list((tmp_path / "run" / "log").iterdir())) == logs

    def test_commands_at_once_share_the_work(self, tmp_path, undisturbed):
        marks = tmp_path / "marks"
        arguments = f"trials=12, out={str(tmp_path / 'run')!r}, workers=1"
        commands = [start(f"Toy(seconds=0.05, marks={str(marks)!r})", arguments) for _ in range(3)]
        for command in commands:
            out, err = command.communicate(timeout=60)
            assert command.returncode == 0, err
            assert out.startswith(str(tuple(range(12))))
        self.check(tmp_path / "run", undisturbed)
        begun = [line for line in marks.read_text().splitlines() if line.startswith("begin")]
        assert len(begun) == 12, "no trial is run twice"


class TestWorkers:
    def test_threads_are_divided_and_spawned_for_what_is_left(self, tmp_path):
        marks = tmp_path / "marks"
        run(Toy(marks=str(marks)), trials=2, out=tmp_path / "run", workers=8, quiet=True)
        assert {line.split()[3] for line in marks.read_text().splitlines()} == {"4"}

    def test_devices_are_dealt_out_one_worker_each(self, tmp_path):
        marks = tmp_path / "marks"
        toy = ToyWithData(marks=str(marks), seconds=0.1)
        outcome = run(toy, trials=8, out=tmp_path / "run", workers=8, quiet=True)
        lines = [line.split() for line in marks.read_text().splitlines() if "begin" in line]
        assert {line[4] for line in lines} == {"gpu:0", "gpu:1"}
        assert {line[3] for line in lines} == {"4"}
        assert sorted(int(line[1]) for line in lines) == list(range(8))
        assert list(outcome.run.population()["id"]) == list(range(10))
        assert leftovers(tmp_path / "run") == []

    @pytest.mark.parametrize(("shared", "together"), [(1, 2), (2, 1), (2, 2), (3, 1)])
    def test_trials_that_share_a_device(self, tmp_path, shared, together):
        marks = tmp_path / "marks"
        toy = ToyWithData(marks=str(marks), seconds=0.3, shared=shared, together=together)
        run(toy, trials=11, out=tmp_path / "run", workers=16, quiet=True)
        lines = [line.split() for line in marks.read_text().splitlines() if "begin" in line]
        assert sorted(int(line[1]) for line in lines) == list(range(11))
        assert {line[4] for line in lines} == {"gpu:0", "gpu:1"}
        # CPUs are divided among the processes, of which each device has as many as may share it.
        assert {line[3] for line in lines} == {str(16 // (2 * shared))}
        assert max(int(line[2]) for line in lines) == together

    def test_a_worker_that_dies_is_replaced_on_its_device(self, tmp_path):
        marks = tmp_path / "marks"
        toy = ToyWithData(marks=str(marks), seconds=0.1, faults=((0, "die_once"), (1, "die_once")))
        outcome = run(toy, trials=40, out=tmp_path / "run", workers=2, quiet=True)
        assert outcome.complete
        lines = [line.split() for line in marks.read_text().splitlines() if "begin" in line]
        assert {line[4] for line in lines[2:]} == {"gpu:0", "gpu:1"}  # both had died by then

    def test_a_worker_that_dies_beside_others_is_started_again_later(self, tmp_path):
        """Where memory is short there may be no room for it now; the others go on."""
        toy = Toy(seconds=1.0, broken="die beside others", marks=str(tmp_path / "marks"))
        outcome = run(toy, trials=4, out=tmp_path / "run", workers=2, quiet=True)
        assert outcome.exit_code == 0
        text = next((tmp_path / "run" / "log").glob("*.log")).read_text()
        assert 1 <= text.count("with trials []: the worker process was killed") <= 4

    def test_a_script_needs_no_main_guard(self, tmp_path):
        script = tmp_path / "script.py"
        script.write_text(
            COMMAND.format(
                experiment="Toy()",
                arguments=f"trials=3, out={str(tmp_path / 'run')!r}",
            )
        )
        done = subprocess.run(
            [sys.executable, script],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("(0, 1, 2)")

    def test_a_parent_imports_nothing_heavy(self, tmp_path):
        experiment = "Toy()"
        arguments = f"trials=3, out={str(tmp_path / 'run')!r}, workers=1"
        code = COMMAND.format(experiment=experiment, arguments=arguments)
        code = code.replace("print(", "print([n for n in ('pandas', 'pyarrow', 'scipy') "
                            "if n in sys.modules], ")  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert done.stdout.startswith("[] (0, 1, 2)"), done.stderr

    def test_it_runs_outside_the_main_thread(self, tmp_path):
        outcomes: list[Outcome] = []
        thread = threading.Thread(
            target=lambda: outcomes.append(run(Toy(), trials=2, out=tmp_path / "run", quiet=True))
        )
        thread.start()
        thread.join(30)
        assert outcomes[0].exit_code == 0

    def test_signal_handlers_are_put_back(self, tmp_path):
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        run(Toy(), trials=1, out=tmp_path / "run", quiet=True)
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


class TestFailures:
    def test_a_trial_that_raises_is_named_and_the_others_go_on(self, tmp_path, capfd):
        path = tmp_path / "run"
        outcome = run(Toy(faults=((2, "raise"),)), trials=5, out=path, workers=2, quiet=True)
        assert outcome.done == (0, 1, 3, 4)
        assert outcome.failed == {2: "ValueError: trial 2 has no luck"}
        assert outcome.missing == ()
        assert (outcome.complete, outcome.exit_code) == (False, 1)
        assert "trial 2 failed: ValueError: trial 2 has no luck" in capfd.readouterr().err
        report = path / "log" / "failed-000002.txt"
        assert report.read_text().startswith("ValueError: trial 2 has no luck\n\nTraceback")
        assert leftovers(path) == []
        assert run(Toy(), trials=5, out=path, quiet=True).exit_code == 0
        assert not report.exists()

    def test_one_of_several_at_once_fails_alone(self, tmp_path):
        toy = Toy(faults=((2, "raise"),), together=5)
        outcome = run(toy, trials=5, out=tmp_path / "run", workers=1, quiet=True)
        assert outcome.done == (0, 1, 3, 4)
        assert list(outcome.failed) == [2]

    def test_a_failing_table_fails_its_trial(self, tmp_path):
        outcome = run(Streaming(fail_at=3), trials=2, out=tmp_path / "run", quiet=True)
        assert outcome.failed == dict.fromkeys((0, 1), "OSError: the source of the rows dried up")
        assert leftovers(tmp_path / "run") == []

    @pytest.mark.parametrize("together", [1, 4])
    def test_a_killed_worker_s_trial_is_run_once_more(self, tmp_path, undisturbed, together):
        marks = str(tmp_path / "marks")
        toy = Toy(faults=((1, "die_once"), (5, "die_once")), marks=marks, together=together)
        outcome = run(toy, trials=12, out=tmp_path / "run", workers=2, quiet=True)
        assert outcome.exit_code == 0
        assert contents(tmp_path / "run") == undisturbed
        assert leftovers(tmp_path / "run") == []

    @pytest.mark.parametrize("together", [1, 4])
    @pytest.mark.parametrize("fault", ["crowded", "cramped"])
    def test_what_needs_all_memory_is_run_once_more_while_nothing_else_runs(
        self, tmp_path, undisturbed, fault, together
    ):
        toy = Toy(faults=((1, fault), (2, fault), (7, fault)), seconds=0.02, together=together)
        outcome = run(toy, trials=12, out=tmp_path / "run", workers=3, quiet=True)
        assert outcome.failed == {}
        assert outcome.exit_code == 0
        assert contents(tmp_path / "run") == undisturbed
        assert leftovers(tmp_path / "run") == []

    def test_a_disk_that_is_full_for_a_trial_is_no_fault_of_the_trial(self, tmp_path, capfd):
        path = tmp_path / "run"
        toy = Toy(faults=tuple((trial, "full") for trial in range(2, 12)))
        with pytest.raises(ConfsimError, match=f"cannot write to {path}: No space left on device"):
            run(toy, trials=12, out=path, workers=2, quiet=True)
        assert not list(path.glob("log/failed-*"))
        assert leftovers(path) == []
        assert "failed" not in capfd.readouterr().err
        assert run(Toy(), trials=12, out=path, quiet=True).exit_code == 0

    def test_a_report_that_cannot_be_written_is_not_named(self, tmp_path, capfd, monkeypatch):
        def write_text(self: Path, *text: Any, **options: Any) -> Any:
            if "failed" not in self.name:
                return real(self, *text, **options)
            self.touch()
            raise OSError(28, "No space left on device")

        real = Path.write_text
        monkeypatch.setattr(Path, "write_text", write_text)
        run(Toy(faults=((1, "raise"),)), trials=2, out=tmp_path / "run", quiet=True)
        err = capfd.readouterr().err
        assert err == "confsim-toy: trial 1 failed: ValueError: trial 1 has no luck\n"
        assert not list((tmp_path / "run" / "log").glob("*failed*"))

    @pytest.mark.parametrize("together", [1, 4])
    def test_a_worker_that_dies_again_is_reported(self, tmp_path, capfd, together):
        toy = Toy(faults=((1, "kill"),), together=together)
        outcome = run(toy, trials=4, out=tmp_path / "run", workers=1, quiet=True)
        assert outcome.done == (0, 2, 3)
        assert re.match(r"the worker process was killed by signal 9 \(SIGKILL\)", outcome.failed[1])
        assert "ran out of memory" in outcome.failed[1]
        assert outcome.exit_code == 1
        assert "trial 1 failed" in capfd.readouterr().err
        assert leftovers(tmp_path / "run") == []

    @pytest.mark.parametrize(
        ("broken", "message"),
        [("open", "RuntimeError: the data set is not to be had"), ("die", "killed by signal 9")],
    )
    def test_an_experiment_that_cannot_be_opened_is_one_error(self, tmp_path, broken, message):
        with pytest.raises(ConfsimError, match=message):
            run(Toy(broken=broken), trials=9, out=tmp_path / "run", workers=2, quiet=True)
        assert leftovers(tmp_path / "run") == []
        assert run(Toy(), trials=1, out=tmp_path / "run", quiet=True).exit_code == 0

    def test_shared_data_that_cannot_be_made_is_one_error(self, tmp_path):
        with pytest.raises(ConfsimError, match="the data set is not to be had"):
            run(ToyWithData(broken="data"), trials=9, out=tmp_path / "run", quiet=True)
        assert leftovers(tmp_path / "run") == []

    def test_a_damaged_trial_is_named_and_not_counted(self, tmp_path, capfd):
        run(Toy(), trials=3, out=tmp_path / "run", quiet=True)
        (tmp_path / "run" / "trials" / "000001" / "model.npz").write_bytes(b"")
        outcome = run(Toy(), trials=4, out=tmp_path / "run", quiet=True)
        assert outcome.done == (0, 2, 3)
        assert outcome.failed == {1: "damaged: model.npz has 0 bytes, not 336"} or re.match(
            r"damaged: model.npz has 0 bytes, not \d+", outcome.failed[1]
        )
        assert (outcome.exit_code, outcome.complete) == (1, False)
        assert "--repair" in capfd.readouterr().err


class TestStopping:
    def stopped(self, command: "subprocess.Popen[str]", number: int) -> float:
        """Send a signal to the main process; return how long the command took to end."""
        started = time.monotonic()
        os.kill(command.pid, number)
        command.wait(timeout=30)
        return time.monotonic() - started

    def busy(self, command: "subprocess.Popen[str]", marks: Path, begun: int = 2) -> None:
        wait_until(lambda: marks.exists() and marks.read_text().count("begin") >= begun)

    @pytest.mark.parametrize("number", STOP_SIGNALS)
    def test_signals_stop_it_within_two_seconds(self, tmp_path, number):
        marks = tmp_path / "marks"
        path = tmp_path / "run"
        experiment = f"Toy(faults=((2, 'hang'), (3, 'deaf')), marks={str(marks)!r})"
        command = start(experiment, f"trials=6, out={str(path)!r}, workers=2")
        self.busy(command, marks, begun=4)
        workers = psutil.Process(command.pid).children(recursive=True)
        assert self.stopped(command, number) < 2.0
        assert command.returncode == 75
        _, err = command.communicate()
        assert "the same command goes on from there" in err
        assert not any(worker.is_running() for worker in workers)
        assert leftovers(path) == []
        assert set(open_run(path).trials) == {0, 1}
        assert run(Toy(), trials=6, out=path, quiet=True).complete

    def test_a_hangup_is_ignored_under_nohup(self, tmp_path):
        marks = tmp_path / "marks"
        experiment = f"Toy(seconds=0.5, marks={str(marks)!r})"
        command = start(
            experiment,
            f"trials=2, out={str(tmp_path / 'run')!r}, workers=1",
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        )
        self.busy(command, marks, begun=1)
        os.killpg(command.pid, signal.SIGHUP)
        assert command.wait(timeout=30) == 0
        command.communicate()

    def test_ctrl_c_reaches_the_whole_group_and_stops_it_once(self, tmp_path):
        marks = tmp_path / "marks"
        experiment = f"Toy(seconds=5, marks={str(marks)!r})"
        command = start(experiment, f"trials=4, out={str(tmp_path / 'run')!r}, workers=2")
        self.busy(command, marks)
        os.killpg(command.pid, signal.SIGINT)
        assert command.wait(timeout=5) == 75
        _, err = command.communicate()
        assert "Traceback" not in err
        assert not [p for p in leftovers(tmp_path / "run") if "scratch" not in p]

    def test_grace_lets_trials_end(self, tmp_path):
        marks = tmp_path / "marks"
        experiment = f"Toy(faults=((0, 'deaf'),), marks={str(marks)!r})"
        command = start(experiment, f"trials=1, out={str(tmp_path / 'run')!r}, grace=0.2")
        self.busy(command, marks, begun=1)
        assert self.stopped(command, signal.SIGTERM) < 1.0

    def test_a_second_signal_does_not_wait(self, tmp_path):
        marks = tmp_path / "marks"
        experiment = f"Toy(faults=((0, 'deaf'),), marks={str(marks)!r})"
        command = start(experiment, f"trials=1, out={str(tmp_path / 'run')!r}, grace=60")
        self.busy(command, marks, begun=1)
        os.kill(command.pid, signal.SIGTERM)
        time.sleep(0.3)
        assert command.poll() is None
        assert self.stopped(command, signal.SIGTERM) < 2.0
        assert command.returncode == 75

    def test_checkpoints_survive_for_the_next_command(self, tmp_path, undisturbed):
        marks = tmp_path / "marks"
        path = tmp_path / "run"
        experiment = f"Toy(seconds=0.5, marks={str(marks)!r})"
        for times, number in enumerate((signal.SIGUSR1, signal.SIGKILL), start=1):
            command = start(experiment, f"trials=1, out={str(path)!r}")
            self.busy(command, marks, begun=times)
            wait_until(lambda: list(path.glob("trials/.scratch/000000/steps")))
            time.sleep(0.12)
            self.stopped(command, number)
            command.communicate()
            assert (path / "trials" / ".scratch" / "000000" / "steps").exists()
        command = start(experiment, f"trials=1, out={str(path)!r}")
        assert command.wait(timeout=30) == 0
        command.communicate()
        resumed = [int(line.split()[2]) for line in marks.read_text().splitlines()
                   if line.startswith("resume")]  # fmt: skip
        assert resumed[0] == 0
        assert 0 < resumed[1] <= resumed[2] < 10
        assert leftovers(path) == []
        assert contents(path).items() <= undisturbed.items()

    def test_long_tables_stop_between_batches(self, tmp_path):
        path = tmp_path / "run"
        command = start("Streaming(batches=10**9)", f"trials=1, out={str(path)!r}")
        wait_until(lambda: list(path.glob("trials/.tmp-*/extremes.parquet")))
        assert self.stopped(command, signal.SIGTERM) < 2.0
        command.communicate()
        assert command.returncode == 75
        assert leftovers(path) == []

    def test_it_stops_while_shared_data_are_made(self, tmp_path):
        path = tmp_path / "run"
        command = start("ToyWithData(broken='slow data')", f"trials=1, out={str(path)!r}")
        wait_until(lambda: list(path.glob("claims/owner-*")))
        time.sleep(0.3)
        assert self.stopped(command, signal.SIGTERM) < 2.0
        command.communicate()
        assert command.returncode == 75
        assert leftovers(path) == []


class TestProgress:
    def test_lines_tell_rate_and_remaining_time(self, capfd, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        progress = Progress("confsim-toy", 100, 20, quiet=False, bar=None)
        progress.show(30)
        now[0] = 60.0
        progress.show(40)
        assert capfd.readouterr().err == (
            "confsim-toy: 40 of 100 trials are done, 10 a minute, about 6 min left\n"
        )

    def test_lines_end_with_what_a_trial_says_of_itself(self, capfd, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        progress = Progress("confsim-toy", 100, 20, quiet=False, bar=None)
        progress.show(30)
        progress.note = "trial 3: epoch 2/9, loss 0.4"
        now[0] = 60.0
        progress.show(40)
        told = capfd.readouterr().err
        assert told.endswith("about 6 min left; trial 3: epoch 2/9, loss 0.4\n")
        progress.waiting = True
        now[0] = 120.0
        progress.show(40)
        assert capfd.readouterr().err.endswith("waiting for those of other commands\n")

    @pytest.mark.parametrize(
        ("columns", "said"),
        [
            (50, ""),
            (62, "trial 3: epoch 2/9, ..."),
            (72, "trial 3: epoch 2/9, loss 0.4, ..."),
            (80, "trial 3: epoch 2/9, loss 0.4, accuracy 0.9"),
        ],
    )
    def test_a_bar_says_as_much_of_a_trial_as_fits(self, columns, said):
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        code = (
            "from confsim.runner.progress import Progress\n"
            "progress = Progress('confsim-toy', 10, 2, quiet=False, bar=None)\n"
            "progress.note = 'trial 3: epoch 2/9, loss 0.4, accuracy 0.9'\n"
            "progress.show(4.5)\n"
            "progress.close()\n"
        )
        subprocess.run([sys.executable, "-c", code], stderr=theirs, check=True)
        os.close(theirs)
        shown = os.read(ours, 10_000).decode()
        os.close(ours)
        assert shown.rstrip().endswith(f" 4.5/10, {said}" if said else " 4.5/10")
        assert max(map(len, shown.replace("\n", "\r").split("\r"))) <= columns
        assert ("trial 3" in shown) is bool(said)

    def test_eighty_columns_hold_the_epoch_of_a_deep_run_beside_the_time_left(self):
        progress = Progress("confsim-deep", 256, 0, quiet=False, bar=True)
        progress._bar.ncols, progress._bar.dynamic_ncols = 80, None
        progress.note = "trial 131: epoch 102/200, loss 0.123, accuracy 0.912"
        progress.show(131.2)
        progress._bar.set_postfix_str(progress._with_note(["45 min left"]), refresh=False)
        line = str(progress._bar)
        progress.close()
        assert line.endswith("131.2/256, 45 min left, trial 131: epoch 102/200, ...")
        assert len(line) <= 80

    def test_lines_tell_that_nothing_has_moved_yet(self, capfd, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        progress = Progress("confsim-toy", 100, 20, quiet=False, bar=None)
        now[0] = 60.0
        progress.show(20)
        told = "confsim-toy: 20 of 100 trials are done, loading and compiling\n"
        assert capfd.readouterr().err == told

    def test_the_time_left_does_not_jump(self):
        """Loading takes a minute, trials end in batches, the machine becomes three times slower."""
        remaining, told, finished = Remaining(200), [], 0.0
        for second in range(60, 900):
            finished += (1.0 if second < 300 else 1 / 3) * (4 if second % 4 == 0 else 0)
            left = remaining.update(min(finished, 200), float(second))
            if left is not None and finished < 200:
                told.append((second, left))
        jumps = [
            max(b / (a - (t - s)), (a - (t - s)) / b)
            for (s, a), (t, b) in itertools.pairwise(told)
            if a > 30
        ]
        assert len(jumps) > 50
        assert max(jumps) < 1.3
        second, left = told[len(told) // 2]
        assert left == pytest.approx(200 - (second - 60), rel=0.3)

    def test_a_bar_on_request(self, capfd):
        progress = Progress("confsim-toy", 10, 2, quiet=False, bar=True)
        progress.show(4.5)
        progress.say("a line")
        progress.close()
        err = capfd.readouterr().err
        assert "4.5/10" in err
        assert "confsim-toy: a line\n" in err

    @pytest.mark.parametrize("size", [(0, 0), (0, 100), (30, 0), (30, 100)])
    def test_a_bar_on_terminals_of_any_size(self, size):
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        code = (
            "from confsim.runner.progress import Progress\n"
            "progress = Progress('confsim-toy', 10, 2, quiet=False, bar=None)\n"
            "progress.show(4.5)\n"
            "progress.close()\n"
        )
        subprocess.run([sys.executable, "-c", code], stderr=theirs, check=True)
        os.close(theirs)
        shown = os.read(ours, 10_000).decode()
        os.close(ours)
        assert "4.5/10" in shown
        assert "confsim-toy:" in shown

    def test_it_says_what_trials_run_on(self, tmp_path, capfd):
        run(ToyWithData(), trials=2, out=tmp_path / "run", workers=1)
        assert capfd.readouterr().err == "confsim-toy-with-data: two toy devices\n"
        run(ToyWithData(), trials=2, out=tmp_path / "run", workers=1)  # nothing is left to run
        assert capfd.readouterr().err == ""

    def test_quiet_is_quiet(self, tmp_path, capfd):
        run(Toy(), trials=2, out=tmp_path / "run", quiet=True)
        run(Toy(), trials=3, out=tmp_path / "run", quiet=True)
        captured = capfd.readouterr()
        assert (captured.out, captured.err) == ("", "")

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(5, "5 s"), (600, "10 min"), (7200, "2.0 h"), (864000, "10.0 days")],
    )
    def test_durations(self, seconds, text):
        assert duration(seconds) == text


@pytest.mark.parametrize("notebook", [True, False])
def test_a_notebook_gets_a_bar_as_a_terminal_does(notebook, monkeypatch):
    shell = types.SimpleNamespace(kernel=object()) if notebook else types.SimpleNamespace()
    ipython = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    progress = Progress("toy", 4, 0, quiet=False, bar=None)
    progress.show(2.0)
    progress.close()
    assert ("50%|" in sys.stderr.getvalue()) is notebook
