"""Checkpoints in ``context.scratch``, and commands and workers that are killed at any moment."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from toy_experiments import contents, leftovers

import confsim

TASK = """
import os
import pathlib
import time

import numpy as np

LABEL = np.tile([0, 1], 30)
PAUSE = float(os.environ.get("PAUSE", "0"))


def population():
    return {"label": LABEL, "features": np.random.default_rng(0).normal(size=(60, 3))}


def train(members, seed, context):
    rng, total, first = np.random.default_rng(seed), np.zeros(60), 0
    saved = context.scratch / "state.npz"
    if saved.exists() and "FORGET" not in os.environ:
        found = np.load(saved, allow_pickle=True)
        total, first = found["total"], int(found["step"])
        rng.bit_generator.state = found["state"].item()
        print("goes on from step", first)
    for step in range(first, 10):
        total += rng.normal(size=60)
        time.sleep(PAUSE)
        fresh = saved.with_name("fresh.npz")
        np.savez(fresh, total=total, step=step + 1, state=rng.bit_generator.state)
        fresh.replace(saved)
        if context.should_stop():
            return None
    total[members] += 2
    return lambda rows: {"log_odds_true": total[rows]}
"""


def command(folder, out, workers):
    words = [
        sys.executable, "-m", "confsim", "shadow", "task.py", "--trials", "4", "--out", out,
        "--quiet", "--workers", str(workers),
    ]  # fmt: skip
    return {"args": words, "cwd": folder, "stdout": subprocess.DEVNULL}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    (folder / "task.py").write_text(TASK)
    subprocess.run(**command(folder, "whole", 1), check=True)
    return folder


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_trial_goes_on_from_its_checkpoint_with_the_same_bytes(whole, number):
    """Stopped once after its first checkpoint, be it gently or not."""
    out = f"stopped-{number}"
    env = {**os.environ, "PAUSE": "0.3"}
    process = subprocess.Popen(**command(whole, out, 1), env=env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    scratch = whole / out / "trials" / ".scratch"
    while not list(scratch.glob("*/state.npz")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    process.wait(timeout=60)
    assert list(scratch.glob("*/state.npz"))
    subprocess.run(**command(whole, out, 1), check=True)
    assert contents(whole / out) == contents(whole / "whole")
    assert leftovers(whole / out) == []
    logs = "".join(path.read_text() for path in (whole / out / "log").glob("*.log"))
    assert "goes on from step" in logs


@pytest.mark.skipif(os.environ.get("CONFSIM_LONG_TESTS") != "1", reason="takes minutes")
@pytest.mark.parametrize("forget", [False, True], ids=["checkpoints", "none"])
def test_kills_at_fifty_moments_lose_nothing(whole, forget):
    """Kill the command, its group or one of its workers; the last commands run to their end."""
    draw, out = random.Random(0), f"killed-{forget}"
    env = {**os.environ, "PAUSE": "0.05", **({"FORGET": "1"} if forget else {})}
    for _ in range(50):
        process = subprocess.Popen(
            **command(whole, out, 2), env=env, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(draw.uniform(0.2, 6))
        if process.poll() is None:
            strike(process.pid, draw.choice(["command", "group", "worker"]), draw)
        process.wait()
        done = contents(whole / out) if (whole / out).exists() else {}
        done = {name: content for name, content in done.items() if name[0] != "."}
        assert done.items() <= contents(whole / "whole").items()
        if done == contents(whole / "whole"):  # then another run is killed
            shutil.rmtree(whole / out)
    subprocess.run(**command(whole, out, 2), check=True)
    assert contents(whole / out) == contents(whole / "whole")
    assert leftovers(whole / out) == []


def strike(number, whom, draw):
    """Kill a command, all of its group, or one of the processes that it has begun."""
    if whom == "group":
        os.killpg(number, signal.SIGKILL)
    workers = psutil.Process(number).children(recursive=True) if whom == "worker" else []
    if whom == "command" or (whom == "worker" and not workers):
        os.kill(number, signal.SIGKILL)
    elif workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            draw.choice(workers).kill()


DEAF = """
import os
import pathlib
import signal
import time

import numpy as np


def wait():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pathlib.Path("deaf").touch()
    while True:
        try:
            time.sleep(1)
        except BaseException:
            pass


def population():
    if os.environ.get("DEAF") == "population":
        wait()
    return {"label": np.tile([0, 1], 30)}


def train(members, seed, context):
    if context.trial == 1 and os.environ.get("DEAF") == "train":
        wait()
    return lambda rows: np.full((len(rows), 2), 0.5)
"""


@pytest.mark.parametrize("place", ["population", "train"])
def test_a_task_that_is_deaf_to_ctrl_c_is_ended(place, tmp_path):
    """It has ``--grace`` seconds; what is finished stays, and the same command goes on."""
    (tmp_path / "task.py").write_text(DEAF)
    words = command(tmp_path, "run", 1)
    words["args"] += ["--grace", "1"]
    process = subprocess.Popen(
        **words, env={**os.environ, "DEAF": place}, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "deaf").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 75
    assert "Traceback" not in said
    assert (tmp_path / "run").exists() == (place == "train")
    subprocess.run(**command(tmp_path, "run", 1), check=True)
    assert confsim.open_run(tmp_path / "run").trials == [0, 1, 2, 3]
    assert leftovers(tmp_path / "run") == []


def test_memory_does_not_grow(tmp_path):
    """Models in cycles of references, 2 MB each: fifty of them would be seen."""
    (tmp_path / "task.py").write_text(
        TASK.replace(
            "    total[members] += 2",
            "    class Model: pass\n"
            "    model = Model()\n"
            "    model.weights, model.self = np.ones(250_000), model\n"
            "    pages = pathlib.Path('/proc/self/statm').read_text().split()[1]\n"
            "    print('pages', pages)\n"
            "    total[members] += 2 * model.weights[0]",
        ).replace("total[rows]}", "total[rows] * model.weights[0]}")
    )
    words = command(tmp_path, "run", 1)
    words["args"][words["args"].index("4")] = "50"
    subprocess.run(**words, check=True)
    run = confsim.open_run(tmp_path / "run")
    assert len(run.trials) == 50
    lines = "".join(path.read_text() for path in (run.path / "log").glob("*.log")).splitlines()
    pages = [int(line.split()[-1]) for line in lines if ": pages " in line]
    if pages:
        assert (max(pages[10:]) - max(pages[:10])) * os.sysconf("SC_PAGE_SIZE") < 20_000_000
