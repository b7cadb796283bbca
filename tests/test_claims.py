"""Claims: one owner at a time, the dead known at once here and after a minute elsewhere."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from confsim._errors import ConfsimError
from confsim.runner import claims as module
from confsim.runner.claims import STALE_AFTER, Claims, Life, describe_signal
from confsim.store import CannotWrite
from confsim.store.layout import scratch_path, temporary_path, trial_path


class Clock:
    """A monotonic clock that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "trials").mkdir()
    return tmp_path


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(run: Path, clock: Clock | None = None) -> Claims:
    claims = Claims(run, clock=clock or time.monotonic)
    claims.open()
    return claims


def forge(run: Path, name: str, **changes: object) -> None:
    """Write an owner file: this process's, but for the changes."""
    owner = Claims(run).owner
    fields = {
        "host": owner.host,
        "boot": owner.boot,
        "pid": owner.pid,
        "started": owner.started,
        "counter": "000000000001",
        **changes,
    }
    (run / "claims").mkdir(exist_ok=True)
    (run / "claims" / f"owner-{name}").write_text(json.dumps(fields))


def claim(run: Path, trial: int, name: str) -> None:
    (run / "claims").mkdir(exist_ok=True)
    (run / "claims" / f"{trial:06d}").symlink_to(f"owner-{name}")


class TestTaking:
    def test_one_owner_at_a_time(self, run):
        one, other = opened(run), opened(run)
        assert one.take(3)
        assert not other.take(3)
        assert not one.take(3)
        assert other.take(4)
        assert other.holder(3) == one.read(one.owner.name)
        assert one.held() == {3: one.owner.name, 4: other.owner.name}
        one.release(3)
        assert other.look(3) is None
        assert other.take(3)

    def test_one_of_many_at_once(self, run):
        owners = [opened(run) for _ in range(8)]
        barrier = threading.Barrier(len(owners))
        taken: list[tuple[int, str]] = []

        def race(owner: Claims) -> None:
            barrier.wait()
            taken.extend((trial, owner.owner.name) for trial in range(50) if owner.take(trial))

        threads = [threading.Thread(target=race, args=(owner,)) for owner in owners]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(trial for trial, _ in taken) == list(range(50))

    def test_closing_gives_everything_up(self, run):
        claims = opened(run)
        claims.take(1)
        claims.take(2)
        claims.close()
        assert not (run / "claims").exists()

    def test_an_owner_names_itself(self, run):
        claims = opened(run)
        owner = claims.read(claims.owner.name)
        assert owner is not None
        assert (owner.pid, owner.life()) == (os.getpid(), Life.ALIVE)
        assert str(owner).startswith(f"process {os.getpid()} on ")
        text = (run / "claims" / f"owner-{owner.name}").read_text()
        assert set(json.loads(text)) == {"host", "boot", "pid", "started", "counter"}

    def test_a_claim_that_was_taken_over_is_not_released(self, run):
        one, other = opened(run), opened(run)
        one.take(3)
        (run / "claims" / "000003").unlink()
        assert other.take(3)
        one.release(3)
        assert other.held() == {3: other.owner.name}

    def test_a_directory_that_cannot_be_written_is_reported(self, tmp_path, run, monkeypatch):
        with pytest.raises(CannotWrite, match="No such file"):
            Claims(tmp_path / "nowhere").open()
        claims = opened(run)

        def refuse(self: Path, target: str) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(Path, "symlink_to", refuse)
        with pytest.raises(ConfsimError, match="without symbolic links"):
            claims.take(0)


class TestLife:
    def test_the_counter_moves_now_and_then(self, run, clock):
        claims = opened(run, clock)
        for _ in range(10):
            clock.now += module.HEARTBEAT / 2
            claims.beat()
        owner = claims.read(claims.owner.name)
        assert owner is not None
        assert owner.counter == 5

    def test_the_dead_of_this_boot_are_known_at_once(self, run):
        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait()
        forge(run, "gone", pid=process.pid)
        forge(run, "another-process-of-this-number", started="1")
        claims = Claims(run)
        assert claims.life("gone") is Life.DEAD
        assert claims.life("another-process-of-this-number") is Life.DEAD
        assert claims.life("who-left-no-file") is Life.DEAD

    def test_a_zombie_is_dead(self, run):
        process = subprocess.Popen([sys.executable, "-c", ""])
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        forge(run, "zombie", pid=process.pid)
        assert Claims(run).life("zombie") is Life.DEAD
        process.wait()

    def test_elsewhere_only_the_counter_tells(self, run, clock):
        forge(run, "far", boot="another/boot")
        claims = Claims(run, clock=clock)
        assert claims.life("far") is Life.UNKNOWN
        clock.now += STALE_AFTER - 1
        assert claims.life("far") is Life.UNKNOWN
        forge(run, "far", boot="another/boot", counter="000000000002")
        assert claims.life("far") is Life.ALIVE
        clock.now += STALE_AFTER - 1
        assert claims.life("far") is Life.ALIVE
        clock.now += 1
        assert claims.life("far") is Life.DEAD

    def test_wall_clocks_do_not_matter(self, run, clock, monkeypatch):
        forge(run, "far", boot="another/boot")
        os.utime(run / "claims" / "owner-far", (0, 0))
        monkeypatch.setattr(time, "time", lambda: 1 / 0)
        claims = opened(run, clock)
        assert claims.life("far") is Life.UNKNOWN
        os.utime(run / "claims" / "owner-far", (4e9, 4e9))
        clock.now += STALE_AFTER
        assert claims.life("far") is Life.DEAD
        claims.sweep()
        assert claims.take(1)

    def test_a_half_written_owner_is_watched(self, run, clock):
        (run / "claims").mkdir()
        (run / "claims" / "owner-half").write_text('{"ho')
        claims = Claims(run, clock=clock)
        assert claims.life("half") is Life.UNKNOWN
        clock.now += STALE_AFTER
        assert claims.life("half") is Life.DEAD

    def test_a_claim_that_is_no_link_was_copied(self, run):
        (run / "claims").mkdir()
        (run / "claims" / "000003").write_text("{}")
        claims = Claims(run)
        assert claims.look(3) is Life.DEAD
        claims.sweep()
        assert claims.look(3) is None


class TestTakeover:
    def test_one_observer_breaks_a_dead_claim(self, run):
        forge(run, "dead", started="1")
        claim(run, 3, "dead")
        one, other = opened(run), opened(run)
        one.break_claim(3)
        assert one.take(3)
        other.break_claim(3)  # it decided before, and comes late
        assert one.held() == {3: one.owner.name}
        assert [p.name for p in (run / "claims").iterdir() if p.name.startswith(".")] == []

    def test_what_the_dead_left_is_swept_and_no_more(self, run):
        forge(run, "dead", started="1")
        forge(run, "far", boot="another/boot")
        live = opened(run)
        claim(run, 5, "far")  # published, as it turns out
        for trial, name in ((1, "dead"), (2, "far"), (3, live.owner.name)):
            claim(run, trial, name)
            temporary_path(run, trial, name, 77).mkdir()
        temporary_path(run, 4, "unclaimed", 77).mkdir()
        temporary_path(run, 2, "taken-over-from", 77).mkdir()
        (run / ".tmp-run-dead-77").mkdir()
        (run / ".tmp-manifest-0123").touch()
        for trial in (1, 5):
            scratch_path(run, trial).mkdir(parents=True)
        trial_path(run, 5).mkdir()
        Claims(run).sweep()
        assert live.held() == {2: "far", 3: live.owner.name}
        left = {path.name for path in (run / "trials").iterdir()}
        assert left == {
            temporary_path(run, 2, "far", 77).name,
            temporary_path(run, 3, live.owner.name, 77).name,
            ".scratch",
            "000005",
        }
        assert [path.name for path in (run / "trials" / ".scratch").iterdir()] == ["000001"]
        assert not list(run.glob(".tmp-*"))
        assert {path.name for path in (run / "claims").iterdir()} == {
            "000002",
            "000003",
            "owner-far",
            f"owner-{live.owner.name}",
        }

    def test_sweeping_nothing(self, tmp_path):
        Claims(tmp_path / "nowhere").sweep()
        assert list(tmp_path.iterdir()) == []


def test_signals_have_names():
    assert describe_signal(9) == "signal 9 (SIGKILL)"
    assert describe_signal(199) == "signal 199"
