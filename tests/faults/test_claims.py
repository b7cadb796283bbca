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
from confsim.runner.schedule import Schedule
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
            claims.heartbeat()
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


class TestSuspended:
    """An owner that others took for dead."""

    def test_it_notices_and_makes_itself_known_again(self, run, clock):
        claims, other = opened(run, clock), opened(run)
        for trial in (1, 2, 3):
            claims.take(trial)
        for name in ("owner-" + claims.owner.name, "000001", "000002"):
            (run / "claims" / name).unlink()
        assert other.take(2)
        assert not claims.heartbeat(), "it is not yet time"
        clock.now += module.HEARTBEAT
        assert claims.heartbeat()
        assert [claims.holds(trial) for trial in (1, 2, 3)] == [True, False, True]
        assert other.life(claims.owner.name) is Life.ALIVE
        seen = claims.read(claims.owner.name)
        assert seen is not None
        assert seen.counter == 2, "who judged 0 to stand still sees that it moves"
        clock.now += module.HEARTBEAT
        assert not claims.heartbeat()
        claims.close()
        assert other.held() == {2: other.owner.name}

    def test_it_notices_when_only_its_claims_were_taken(self, run, clock):
        claims, other = opened(run, clock), opened(run)
        for trial in (1, 2, 3):
            claims.take(trial)
        for trial in (2, 3):
            (run / "claims" / f"{trial:06d}").unlink()
        trial_path(run, 3).mkdir()  # finished, and its claim swept
        assert other.take(2)
        clock.now += module.HEARTBEAT
        assert claims.heartbeat()
        assert [claims.holds(trial) for trial in (1, 2, 3)] == [True, False, False]
        clock.now += module.HEARTBEAT
        assert not claims.heartbeat()

    def test_a_finished_trial_whose_claim_was_swept_is_no_news(self, run, clock):
        claims = opened(run, clock)
        claims.take(3)
        (run / "claims" / "000003").unlink()
        trial_path(run, 3).mkdir()
        clock.now += module.HEARTBEAT
        assert not claims.heartbeat()

    def test_taking_makes_the_directory_anew(self, run):
        claims = opened(run)
        claims.take(1)
        for path in (run / "claims").iterdir():
            path.unlink()
        (run / "claims").rmdir()
        assert claims.take(2)
        assert claims.held() == {1: claims.owner.name, 2: claims.owner.name}

    def test_a_file_of_that_name_that_is_another_s_is_no_life(self, run, clock):
        claims = opened(run, clock)
        path = run / "claims" / f"owner-{claims.owner.name}"
        path.rename(run / "elsewhere")
        clock.now += module.HEARTBEAT
        assert claims.heartbeat()
        assert json.loads(path.read_text())["pid"] == os.getpid()

    def test_a_directory_that_is_gone_is_reported(self, run, clock):
        claims = opened(run, clock)
        run.rename(run.with_name("elsewhere"))
        clock.now += module.HEARTBEAT
        with pytest.raises(CannotWrite, match="No such file"):
            claims.heartbeat()

    def test_errors_that_pass_are_no_death(self, run, clock, monkeypatch):
        claims = opened(run, clock)
        clock.now += module.HEARTBEAT

        def stat(self: Path) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(Path, "stat", stat)
        assert not claims.heartbeat()


class TestSweeping:
    def test_it_renames_before_it_removes(self, run, monkeypatch):
        """A directory is never seen in part under the name that its living owner renames."""
        seen: list[Path] = []
        temporary = temporary_path(run, 1, "slow", 77)
        temporary.mkdir()
        (temporary / "table").touch()
        real = module._delete

        def delete(path: Path) -> None:
            seen.append(path)
            assert not temporary.exists()
            assert (path / "table").exists()
            real(path)

        monkeypatch.setattr(module, "_delete", delete)
        Claims(run).sweep()
        assert len(seen) == 1
        assert list((run / "trials").iterdir()) == []

    def test_what_a_sweeper_that_died_had_renamed_is_removed(self, run):
        for folder in (run, run / "trials", run / "trials" / ".scratch"):
            (folder / f"{module._SWEPT}0123" / "deep").mkdir(parents=True)
        Claims(run).sweep()
        assert [path.name for path in run.iterdir()] == ["trials"]
        assert list((run / "trials").iterdir()) == []


class TestWhole:
    def test_one_command_at_a_time(self, run):
        one, other = opened(run), opened(run)
        assert one.take_whole() is None
        assert other.take_whole() == one.owner.name
        assert (one.whole(), other.whole()) == (None, one.owner.name)
        other.release_whole()
        assert other.whole() == one.owner.name
        one.release_whole()
        assert other.whole() is None
        assert other.take_whole() is None

    def test_the_dead_hold_nothing(self, run):
        forge(run, "dead", started="1")
        (run / "claims" / "all").symlink_to("owner-dead")
        claims = opened(run)
        assert claims.whole() is None
        assert claims.take_whole() is None
        claims.close()
        assert sorted(p.name for p in (run / "claims").iterdir()) == ["all", "owner-dead"]
        Claims(run).sweep()
        assert not (run / "claims").exists()

    def test_others_are_all_that_have_a_file_or_a_claim(self, run):
        claims, other = opened(run), opened(run)
        claim(run, 3, "without-a-file")
        assert claims.others() == sorted([other.owner.name, "without-a-file"])


class NoStore:
    """A store in which nothing is ever published."""

    def has(self, trial: int) -> bool:
        return False

    def forget_failure(self, trial: int) -> None:
        pass


class TestWaiting:
    """A command that may take others' trials goes only when their owners live."""

    @pytest.fixture
    def schedule(self, run, clock) -> Schedule:
        """Trial 0 is free; trial 1 is in the hands of an owner elsewhere, who has been seen."""
        self.move(run, 1)
        claim(run, 1, "far")
        schedule = Schedule(NoStore(), opened(run, clock), [0], [1])  # type: ignore[arg-type]
        assert schedule.take(2) == [0]
        schedule.look_again()
        clock.now += 10
        self.move(run, 2)
        schedule.look_again()
        schedule.finish(0)
        schedule.idle()
        return schedule

    def move(self, run: Path, counter: int) -> None:
        forge(run, "far", boot="another/boot", counter=f"{counter:012d}")

    def test_who_lived_before_may_be_dead_by_now(self, schedule, clock):
        assert schedule.awaited == {1}
        clock.now += STALE_AFTER - 1
        schedule.look_again()
        assert schedule.awaited == {1}
        clock.now += 1
        schedule.look_again()
        assert (schedule.awaited, len(schedule)) == (set(), 1)
        assert schedule.take(1) == [1]

    def test_who_moves_is_alive(self, schedule, run, clock):
        clock.now += 5
        self.move(run, 3)
        schedule.look_again()
        assert (schedule.awaited, len(schedule)) == (set(), 0)

    def test_after_more_work_they_have_to_show_it_again(self, schedule, run, clock):
        clock.now += 5
        self.move(run, 3)
        schedule.put_back([0])
        schedule.look_again()
        assert schedule.take(1) == [0]
        assert schedule.awaited == {1}
        schedule.finish(0)
        schedule.idle()
        assert schedule.awaited == {1}


def test_signals_have_names():
    assert describe_signal(9) == "signal 9 (SIGKILL)"
    assert describe_signal(199) == "signal 199"
