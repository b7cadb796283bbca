"""Runs without worker processes: claims, sweeping, signals and outcomes as of every run."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import confsim
from confsim._errors import ConfsimError
from confsim.experiment import Estimate, Experiment, Interrupted, RunData, Session, TrialResult
from confsim.runner.claims import Claims
from confsim.runner.command import whole_run
from confsim.runner.inline import run_inline
from confsim.store import create


@dataclass(frozen=True)
class Numbers(Experiment):
    """A trial's table is its number; some trials wait, hang or fail."""

    command: ClassVar[str] = "confsim-numbers"

    seed: int = 0
    waits: tuple[int, ...] = ()
    hangs: tuple[int, ...] = ()
    fails: tuple[int, ...] = ()

    def identity(self):
        return {"seed": self.seed}

    def open(self, threads, device=None):
        return NumbersSession(self)

    def estimate(self):
        return Estimate(0.0, 0, 0)

    def run_data(self):
        return RunData({"population": {"id": np.arange(3)}})


class NumbersSession(Session):
    def __init__(self, experiment):
        self.experiment = experiment

    def run(self, trials, context):
        for trial in trials:
            if trial in self.experiment.fails:
                raise RuntimeError("it does not work")
            if trial in self.experiment.hangs:
                os.kill(os.getpid(), signal.SIGINT)
                threading.Event().wait(60)
            if trial in self.experiment.waits:
                os.kill(os.getpid(), signal.SIGTERM)
                while not context.should_stop():
                    threading.Event().wait(0.01)
                raise Interrupted
            table = {"trial": np.full(4, trial, np.int32)}
            yield TrialResult(trial, {"extremes": table}, {}, {"trial": trial})


def left_behind(run):
    """What no finished run may hold."""
    return [
        str(path.relative_to(run))
        for path in run.rglob("*")
        if path.name.startswith((".tmp-", "owner-")) or path.parent.name == "claims"
    ]


def test_a_whole_run(tmp_path):
    outcome = run_inline(Numbers(), trials=5, out=tmp_path / "run")
    assert outcome.exit_code == 0
    assert outcome.complete
    assert outcome.run.trials == list(range(5))
    assert (tmp_path / "run" / "population.parquet").exists()
    assert left_behind(tmp_path / "run") == []
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run/trials").rglob("*")}
    assert whole_run(run_inline(Numbers(), trials=6, out=tmp_path / "run")).trials == list(range(6))
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


@pytest.mark.parametrize("how", ["waits", "hangs"])
def test_a_signal_stops_it_and_the_same_call_goes_on(tmp_path, capsys, how):
    outcome = run_inline(Numbers(**{how: (2,)}), trials=5, out=tmp_path / "run")
    assert outcome.interrupted
    assert outcome.exit_code == os.EX_TEMPFAIL
    assert outcome.run.trials == [0, 1]
    assert left_behind(tmp_path / "run") == []
    error = capsys.readouterr().err
    assert "2 of 5 trials are done and kept" in error
    assert error.count("\n") == 1
    with pytest.raises(KeyboardInterrupt):
        whole_run(outcome)
    assert run_inline(Numbers(), trials=5, out=tmp_path / "run").exit_code == 0


def test_a_trial_that_fails_is_reported(tmp_path, capsys):
    outcome = run_inline(Numbers(fails=(1,)), trials=3, out=tmp_path / "run")
    assert outcome.exit_code == 1
    assert outcome.failed == {1: "RuntimeError: it does not work"}
    assert outcome.run.trials == [0, 2]
    report = tmp_path / "run" / "log" / "failed-000001.txt"
    assert "Traceback" in report.read_text()
    assert "trial 1 failed: RuntimeError: it does not work" in capsys.readouterr().err
    with pytest.raises(ConfsimError, match="1 trials failed; trial 1: RuntimeError"):
        whole_run(outcome)
    assert run_inline(Numbers(), trials=3, out=tmp_path / "run").exit_code == 0
    assert not report.exists()


def test_a_trial_in_other_hands_is_waited_for(tmp_path):
    create(tmp_path / "run", Numbers(), 3, overwrite=False, owner="other", keep="all")
    other = Claims(tmp_path / "run")
    other.open()
    assert other.take(1)
    threading.Timer(0.5, other.close).start()
    outcome = run_inline(Numbers(), trials=3, out=tmp_path / "run")
    assert outcome.exit_code == 0
    assert outcome.run.trials == [0, 1, 2]


def test_a_living_run_is_not_overwritten(tmp_path):
    run_inline(Numbers(), trials=1, out=tmp_path / "run")
    other = Claims(tmp_path / "run")
    other.open()
    assert other.take(0)
    with pytest.raises(ValueError, match="works in"):
        run_inline(Numbers(1), trials=1, out=tmp_path / "run", overwrite=True)
    other.close()


KILLED = """\
import os, sys
import numpy as np, confsim
from confsim.store import Store
at = int(sys.argv[2])
rename = Store._rename
def dying(self, temporary, trial):
    if trial == at:
        os._exit(9)
    return rename(self, temporary, trial)
Store._rename = dying
rng = np.random.default_rng(0)
confsim.audit(is_member=rng.random((3, 50)) < 0.5, confidence=rng.random((3, 50)), out=sys.argv[1])
"""


def test_what_a_killed_audit_leaves_is_swept(tmp_path):
    run = tmp_path / "run"
    killed = subprocess.run([sys.executable, "-c", KILLED, run, "1"], check=False)
    assert killed.returncode == 9
    assert any(name.startswith("trials/.tmp-") for name in left_behind(run))
    assert any("owner-" in name for name in left_behind(run))
    rng = np.random.default_rng(0)
    given = {"is_member": rng.random((3, 50)) < 0.5, "confidence": rng.random((3, 50))}
    assert confsim.audit(given, out=run).trials == [0, 1, 2]
    assert left_behind(run) == []
