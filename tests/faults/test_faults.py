"""Whatever happens to a run, the same command ends it, with the same bytes.

``CONFSIM_LONG_TESTS=1`` kills at 50 moments instead of a few.
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from struck import build, moments
from toy_experiments import Toy, ToyWithData, contents, leftovers, rewrite

from confsim.runner import claims as claims_module
from confsim.runner import run
from confsim.runner import supervisor as supervisor_module
from confsim.runner.claims import Claims, Life
from confsim.store import open_run, processes

SUPPORT = Path(__file__).parents[1] / "support"
TOY = [sys.executable, str(SUPPORT / "toy_command.py")]
LINEAR = [
    sys.executable,
    "-c",
    "import sys; from confsim.cli.linear import main; sys.exit(main())",
    "--n=10",
    "--queries=100",
    "--quiet",
]
LONG = os.environ.get("CONFSIM_LONG_TESTS") == "1"
KILLS = 50 if LONG else 2


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch):
    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)


def start(
    command: Sequence[object], environment: Mapping[str, str] | None = None, **options: object
) -> "subprocess.Popen[str]":
    """Start a command as the leader of a group of its own."""
    return subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            **(environment or {}),
        },
        start_new_session=True,
        **options,  # type: ignore[call-overload]
    )


def call(command: Sequence[object], **options: Any) -> tuple[int, str]:
    """Run a command; return its exit code and what it said on standard error."""
    process = start(command, **options)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def wait_until(condition: object, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.01)


@pytest.fixture(scope="module", params=["toy", "linear"])
def campaign(request, tmp_path_factory) -> tuple[list[str], dict[str, bytes]]:
    """A command of forty trials, and the bytes that it makes undisturbed."""
    command = {"toy": [*TOY, "--seconds=0.01"], "linear": LINEAR}[request.param]
    command = [*command, "--trials=40", "--workers=2"]
    path = tmp_path_factory.mktemp(request.param) / "run"
    assert call([*command, "--out", path])[0] == 0
    return command, contents(path)


def random_moment(process: "subprocess.Popen[str]", path: Path, rng: random.Random) -> None:
    """Wait for a moment of the start, or for one in the midst of the trials."""
    if rng.random() < 0.25:
        time.sleep(rng.uniform(0.0, 0.4))
        return
    trials = rng.randrange(36)
    wait_until(lambda: process.poll() is not None or len(list(path.glob("trials/0*"))) >= trials)
    time.sleep(rng.uniform(0.0, 0.03))


class TestKilled:
    @pytest.mark.parametrize("victim", ["main", "worker", "group"])
    @pytest.mark.parametrize("campaign", ["toy", "linear"] if LONG else ["toy"], indirect=True)
    def test_at_any_moment(self, tmp_path, campaign, victim):
        command, expected = campaign
        rng = random.Random(victim)
        done = 0
        for kill in range(KILLS):
            path = tmp_path / str(kill)
            process = start([*command, "--out", path])
            random_moment(process, path, rng)
            children = self.kill(process, victim, rng)
            process.communicate(timeout=60)
            assert psutil.wait_procs(children, timeout=5)[1] == [], "workers outlive their parent"
            done += process.returncode == 0
            code, err = call([*command, "--out", path])
            assert code == 0, err
            assert contents(path) == expected
            assert leftovers(path) == []
        assert victim == "worker" or done < KILLS / 2 + 1, "most kills came too late to tell"

    def kill(
        self, process: "subprocess.Popen[str]", victim: str, rng: random.Random
    ) -> list[psutil.Process]:
        """Kill a victim, if it still lives; return the workers that there were."""
        try:
            children = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        if victim == "main":
            process.kill()
        elif victim == "group":
            os.killpg(process.pid, signal.SIGKILL)
        elif children:
            rng.choice(children).kill()
        return [child for child in children if child.is_running()]

    def test_again_and_again_on_one_directory(self, tmp_path, campaign):
        command, expected = campaign
        rng = random.Random(0)
        for _ in range(KILLS):
            process = start([*command, "--out", tmp_path / "run"])
            random_moment(process, tmp_path / "run", rng)
            process.kill()
            process.communicate()
        assert call([*command, "--out", tmp_path / "run"])[0] == 0
        assert contents(tmp_path / "run") == expected
        assert leftovers(tmp_path / "run") == []

    def test_a_suspended_worker_is_no_reason_to_hang_at_the_end(self, tmp_path):
        process = start([*TOY, "--out", tmp_path / "run", "--seconds=5", "--workers=1"])
        wait_until(lambda: list((tmp_path / "run").glob("trials/.scratch/*/steps")))
        (worker,) = psutil.Process(process.pid).children()
        worker.suspend()
        process.terminate()
        process.communicate(timeout=10)
        assert process.returncode == 75
        assert not worker.is_running()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB, where one can be mounted."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "confsim-tests", str(path)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def remount(path: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(path)], check=True)


class TestDisk:
    def expected(self, tmp_path: Path, trials: int = 40) -> dict[str, bytes]:
        run(Toy(), trials=trials, out=tmp_path / "expected", quiet=True)
        return contents(tmp_path / "expected")

    def check_stopped(self, path: Path, code: int, err: str, reason: str) -> None:
        assert code == 1
        lines = [line for line in err.splitlines() if "already" not in line]
        assert len(lines) == 1, err
        assert lines[0].startswith(f"confsim-toy: error: cannot write to {path}: {reason}")
        run_ = open_run(path)
        for trial in run_.trials:
            assert len(run_.extremes([trial])) == 40

    def test_full(self, tmp_path, small_disk):
        path = small_disk / "run"
        code, err = call([*TOY, "--out", path, "--trials=40"])
        self.check_stopped(path, code, err, "No space left on device")
        finished = open_run(path).trials
        assert 0 < len(finished) < 40
        assert not list(path.glob("trials/.tmp-*"))
        code, err = call([*TOY, "--out", path, "--trials=40"])
        self.check_stopped(path, code, err, "No space left on device")
        remount(small_disk, "size=40m")
        assert call([*TOY, "--out", path, "--trials=40"])[0] == 0
        assert contents(path) == self.expected(tmp_path)
        assert leftovers(path) == []

    def test_full_from_the_start(self, small_disk):
        (small_disk / "ballast").write_bytes(bytes(300_000))
        fill = ["dd", "if=/dev/zero", f"of={small_disk / 'more'}", "bs=512"]
        assert subprocess.run(fill, capture_output=True).returncode == 1
        code, err = call([*TOY, "--out", small_disk / "run"])
        assert code == 1
        assert "No space left on device" in err
        assert len(err.splitlines()) == 1

    def test_file_size_limit(self, tmp_path):
        def limited() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))

        path = tmp_path / "run"
        code, err = call([*TOY, "--out", path], preexec_fn=limited)
        assert (code, len(err.splitlines())) == (1, 1)
        assert err.startswith(f"confsim-toy: error: cannot write to {path}: File too large")
        assert not path.exists()
        assert call([*TOY, "--out", path, "--trials=2"])[0] == 0
        code, err = call([*TOY, "--out", path], preexec_fn=limited)
        self.check_stopped(path, code, err, "File too large")
        assert leftovers(path) == []
        assert call([*TOY, "--out", path])[0] == 0
        assert contents(path) == self.expected(tmp_path, 12)

    def test_read_only(self, tmp_path, small_disk):
        remount(small_disk, "size=40m")
        path = small_disk / "run"
        assert call([*TOY, "--out", path, "--trials=3"])[0] == 0
        remount(small_disk, "ro")
        assert call([*TOY, "--out", path, "--trials=3"]) == (0, "")
        code, err = call([*TOY, "--out", path, "--trials=5"])
        assert code in (1, 2)
        assert "Read-only file system" in err
        assert len(err.splitlines()) == 1
        code, err = call([*TOY, "--out", small_disk / "new"])
        assert code == 2
        assert "cannot be written" in err
        remount(small_disk, "rw")
        assert call([*TOY, "--out", path, "--trials=5"])[0] == 0

    def test_vanished(self, tmp_path):
        path = tmp_path / "run"
        process = start([*TOY, "--out", path, "--seconds=0.2", "--workers=2"])
        wait_until(lambda: path.exists() and len(list(path.glob("trials/0*"))) >= 2)
        path.rename(tmp_path / "elsewhere")
        _, err = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "No such file or directory" in err
        assert "Traceback" not in err
        assert not path.exists()
        (tmp_path / "elsewhere").rename(path)
        assert call([*TOY, "--out", path])[0] == 0
        assert contents(path) == self.expected(tmp_path, 12)
        assert leftovers(path) == []


@pytest.fixture(scope="module")
def file_calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that strikes at a chosen call that changes a file; see its source."""
    return build(tmp_path_factory.mktemp("preload"))


class TestAtEveryCall:
    """A disk that is full from any one call on, and a kill at any one."""

    def struck(self, library: Path, path: Path, command: Sequence[str], at: int, fate: str):
        """Run a command that is struck; return its exit code, its errors, the calls it made."""
        count = path.with_suffix(".count")
        count.write_bytes(bytes(8))
        code, err = call(
            [*command, "--out", path],
            environment={
                "LD_PRELOAD": str(library),
                "CALLS_BELOW": str(path),
                "CALLS_COUNT": str(count),
                "CALLS_AT": str(at),
                "CALLS_FATE": fate,
            },
        )
        return code, err, int.from_bytes(count.read_bytes(), sys.byteorder)

    @pytest.mark.parametrize("fate", ["full", "kill"])
    @pytest.mark.parametrize("name", ["toy", "linear"] if LONG else ["toy"])
    def test_the_same_command_ends_it(self, tmp_path, file_calls, name, fate):
        command = [*{"toy": TOY, "linear": LINEAR}[name], "--trials=2", "--workers=1"]
        expected = tmp_path / "expected"
        code, err, calls = self.struck(file_calls, expected, command, 1 << 40, fate)
        assert (code, err) == (0, "")
        assert calls > 20
        for at in moments(calls, 8, every=LONG):
            path = tmp_path / str(at)
            code, err, _ = self.struck(file_calls, path, command, at, fate)
            if fate == "kill":
                assert code in (0, -signal.SIGKILL)
            elif code:
                assert code == 1, err
                assert len(err.splitlines()) == 1, err
                assert f"cannot write to {path}: No space left on device" in err
                assert not list(path.glob("log/failed-*"))
            again, err = call([*command, "--out", path])
            assert again == 0, err
            assert contents(path) == contents(expected)
            assert leftovers(path) == []


class TestTogether:
    def test_commands_of_every_kind(self, tmp_path):
        path = tmp_path / "run"
        base = [*TOY, "--trials=24", "--seconds=0.03", "--out", path, "--workers=1"]
        commands = [
            start([*base, "--shard=0/2"]),
            start([*base, "--shard=1/2"]),
            start([*base, "--shard=1/2"]),
            start([*base, "--steal"]),
        ]
        wait_until((path / "manifest.json").exists)
        with pytest.raises(ValueError, match="another identity"):
            run(Toy(seed=9), trials=2, out=path)
        for command in commands:
            _, err = command.communicate(timeout=60)
            assert command.returncode == 0, err
        run(Toy(), trials=24, out=tmp_path / "expected", quiet=True)
        assert contents(path) == contents(tmp_path / "expected")
        assert leftovers(path) == []

    def test_creating_at_once(self, tmp_path):
        path = tmp_path / "a" / "run"
        commands = [start([*TOY, "--trials=4", "--workers=1", "--out", path]) for _ in range(5)]
        for command in commands:
            _, err = command.communicate(timeout=60)
            assert command.returncode == 0, err
        assert open_run(path).trials == [0, 1, 2, 3]
        assert leftovers(path) == []

    def test_overwriting_spares_a_run_at_work(self, tmp_path):
        path = tmp_path / "run"
        process = start([*TOY, "--out", path, "--seconds=2", "--workers=1"])
        wait_until(lambda: list(path.glob("claims/0*")))
        with pytest.raises(ValueError, match=rf"process {process.pid} on .* works in"):
            run(Toy(), trials=2, out=path, overwrite=True)
        process.kill()
        process.communicate()
        assert run(Toy(), trials=2, out=path, overwrite=True, quiet=True).done == (0, 1)

    def test_overwriting_spares_a_run_that_starts(self, tmp_path):
        """It has an owner's file, but no claim of a trial yet."""
        path = tmp_path / "run"
        code = (
            "from toy_experiments import ToyWithData; from confsim.runner import run; "
            f"run(ToyWithData(broken='slow data'), trials=2, out={str(path)!r})"
        )
        process = start([sys.executable, "-c", code])
        wait_until(lambda: list(path.glob("claims/owner-*")))
        with pytest.raises(ValueError, match=rf"process {process.pid} on .* works in"):
            run(ToyWithData(), trials=2, out=path, overwrite=True)
        assert list(path.glob("claims/owner-*"))
        assert not list(path.glob("claims/all"))
        process.kill()
        process.communicate()
        assert run(ToyWithData(), trials=2, out=path, overwrite=True, quiet=True).done == (0, 1)
        assert leftovers(path) == []

    def test_a_command_waits_until_a_run_is_removed(self, tmp_path, capfd):
        path = tmp_path / "run"
        run(Toy(), trials=2, out=path, quiet=True)
        remover = Claims(path)
        remover.open()
        assert remover.take_whole() is None

        def remove() -> None:
            shutil.rmtree(path / "trials")
            remover.release_whole()
            remover.close()

        timer = threading.Timer(1.0, remove)
        timer.start()
        assert run(Toy(), trials=3, out=path).done == (0, 1, 2)
        timer.join()
        assert "which removes the run in" in capfd.readouterr().err
        run(Toy(), trials=3, out=tmp_path / "expected", quiet=True)
        assert contents(path) == contents(tmp_path / "expected")
        assert leftovers(path) == []

    def test_a_removal_that_is_killed_leaves_whole_trials(self, tmp_path, monkeypatch):
        path = tmp_path / "run"
        run(Toy(), trials=4, out=path, quiet=True)

        def rmtree(path: Path) -> None:
            next(file for file in Path(path).rglob("*") if file.is_file()).unlink()
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", rmtree)
            with pytest.raises(KeyboardInterrupt):
                run(Toy(), trials=4, out=path, overwrite=True)
        assert run(Toy(), trials=4, out=path, quiet=True).complete
        run(Toy(), trials=4, out=tmp_path / "expected", quiet=True)
        assert contents(path) == contents(tmp_path / "expected")
        assert leftovers(path) == []


class TestElsewhere:
    """Claims of owners whose process table we do not see."""

    @pytest.fixture
    def far(self, tmp_path, monkeypatch) -> Path:
        """A run, two of whose trials are claimed by a process of another machine."""
        monkeypatch.setattr(claims_module, "STALE_AFTER", 1.0)
        path = tmp_path / "run"
        run(Toy(), trials=2, out=path, quiet=True)
        (path / "claims").mkdir()
        self.move(path, 1)
        for trial in (2, 3):
            (path / "claims" / f"{trial:06d}").symlink_to("owner-far")
        (path / "trials" / ".tmp-000002-far-17").mkdir()
        return path

    def move(self, path: Path, counter: int) -> None:
        fields = {"host": "node7", "boot": "x", "pid": 1, "started": "1", "counter": counter}
        (path / "claims" / "owner-far").write_text(json.dumps(fields))

    def test_a_stale_claim_is_taken_over(self, far):
        started = time.monotonic()
        outcome = run(Toy(), trials=6, out=far, quiet=True)
        assert time.monotonic() - started > 1.0
        assert outcome.complete
        assert leftovers(far) == []

    def test_who_waits_says_so(self, far, monkeypatch, capfd):
        monkeypatch.setattr(supervisor_module, "_SAY_AFTER", 0.1)
        monkeypatch.setattr(claims_module, "STALE_AFTER", 4.0)
        assert run(Toy(), trials=4, out=far, shard="0/4", steal=True).complete
        err = capfd.readouterr().err
        assert err.count("no trial is free; waiting for 2 in the hands of process 1 on node7") == 1
        assert leftovers(far) == []

    def test_overwriting_watches_who_may_live(self, far, capfd):
        outcome = run(Toy(), trials=3, out=far, overwrite=True)
        assert outcome.done == (0, 1, 2)
        assert "to learn whether process 1 on node7 still works in" in capfd.readouterr().err
        assert leftovers(far) == []

    def test_overwriting_spares_who_lives_elsewhere(self, far, monkeypatch):
        moves = iter(range(2, 1000))

        def life(self: Claims, name: str) -> Life:
            TestElsewhere.move(self, far, next(moves))  # type: ignore[arg-type]
            return real(self, name)

        real = Claims.life
        monkeypatch.setattr(Claims, "life", life)
        with pytest.raises(ValueError, match="--overwrite: process 1 on node7 works in"):
            run(Toy(), trials=3, out=far, overwrite=True)
        assert open_run(far).trials == [0, 1]
        assert (far / "claims" / "000002").is_symlink()

    def test_who_was_suspended_notices_and_goes_on(self, tmp_path, monkeypatch):
        """Another command, for whom it lives elsewhere, takes its trial over and some more."""
        monkeypatch.setattr(claims_module, "STALE_AFTER", 1.0)
        path = tmp_path / "run"
        command = [*TOY, "--out", path, "--trials=8", "--seconds=0.8", "--workers=1"]
        process = start(command)
        wait_until((path / "trials" / ".scratch" / "000001" / "steps").exists)
        os.killpg(process.pid, signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setattr(processes, "boot", lambda: "another boot")
            outcome = run(Toy(), trials=8, out=path, shard="1/2", steal=False, quiet=True)
        assert outcome.done == (1, 3, 5, 7)
        assert not (path / "claims").exists()
        os.killpg(process.pid, signal.SIGCONT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert err.count("stood still for") == 1
        assert len(err.splitlines()) == 1
        run(Toy(), trials=8, out=tmp_path / "expected", quiet=True)
        assert contents(path) == contents(tmp_path / "expected")
        assert leftovers(path) == []
        assert not list(path.glob("log/failed-*"))

    def test_who_was_suspended_adds_nothing_to_another_run(self, tmp_path, monkeypatch):
        monkeypatch.setattr(claims_module, "STALE_AFTER", 1.0)
        path = tmp_path / "run"
        process = start([*TOY, "--out", path, "--trials=8", "--seconds=0.8", "--workers=1"])
        wait_until((path / "trials" / ".scratch" / "000001" / "steps").exists)
        os.killpg(process.pid, signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setattr(processes, "boot", lambda: "another boot")
            assert run(Toy(seed=1), trials=4, out=path, overwrite=True, quiet=True).complete
        os.killpg(process.pid, signal.SIGCONT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert f"{path} holds another run by now" in err
        run(Toy(seed=1), trials=4, out=tmp_path / "expected", quiet=True)
        assert contents(path) == contents(tmp_path / "expected")
        assert leftovers(path) == []

    def test_a_thief_does_not_wait_for_the_living(self, far, monkeypatch):
        real = Claims.held
        count = iter(range(1, 1000))

        def held(self: Claims) -> dict[int, str]:
            TestElsewhere.move(self, far, next(count))  # type: ignore[arg-type]
            return real(self)

        monkeypatch.setattr(Claims, "held", held)
        outcome = run(Toy(), trials=4, out=far, shard="0/4", steal=True, quiet=True)
        assert outcome.exit_code == 0
        assert not outcome.complete
        assert (far / "claims" / "000002").is_symlink()
        assert (far / "trials" / ".tmp-000002-far-17").exists()

    def test_a_copy_on_another_machine_goes_on(self, tmp_path, monkeypatch):
        path = tmp_path / "run"
        process = start([*TOY, "--out", path, "--seconds=0.3", "--workers=2"])
        wait_until(lambda: path.exists() and len(list(path.glob("trials/0*"))) >= 2)
        process.kill()
        process.communicate()
        assert list(path.glob("claims/0*"))
        shutil.copytree(path, tmp_path / "links-kept", symlinks=True)
        shutil.copytree(path, tmp_path / "links-followed")
        for name in ("links-kept", "links-followed"):
            monkeypatch.setattr(claims_module, "STALE_AFTER", 1.0)
            monkeypatch.setattr(processes, "boot", lambda: "another boot")
            assert run(Toy(), trials=12, out=tmp_path / name, quiet=True).complete
            left = leftovers(tmp_path / name)
            # Whoever may live elsewhere, and was not watched for a minute, keeps its name plate.
            assert not [file for file in left if "owner-" not in file and file != "claims"]


def test_clocks_that_jump_do_not_matter(tmp_path, monkeypatch):
    jumps = iter([4e9, 0.0, 1e9, 3e9] * 1000)
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    assert run(Toy(), trials=6, out=tmp_path / "run", quiet=True).complete
    assert leftovers(tmp_path / "run") == []


@pytest.mark.parametrize("trials", [10_000 if LONG else 1_000])
def test_many_trials_cost_little(tmp_path, trials):
    """10,000 finished trials: resuming and status within 2 s each, summaries under 300 MB."""
    path = tmp_path / "run"
    run(Toy(), trials=1, out=path, quiet=True)
    first = path / "trials" / "000000"
    for trial in range(1, trials):
        copy = path / "trials" / f"{trial:06d}"
        shutil.copytree(first, copy)
        rewrite(copy / "trial.json", trial=trial)
    started = time.monotonic()
    assert run(Toy(), trials=trials + 1, out=path, shard=f"{trials}/{trials + 1}").exit_code == 0
    assert time.monotonic() - started < 10
    # Not ru_maxrss: a child's begins with that of the process it was forked from.
    code = (
        "import sys; from confsim import open_run; "
        f"assert len(open_run({str(path)!r}).summary()) == {trials + 1}; "
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM')); "
        "print(peak.split()[1], file=sys.stderr)"
    )
    code_, err = call([sys.executable, "-c", code])
    assert code_ == 0, err
    assert int(err) < 300_000
