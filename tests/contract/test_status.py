"""``confsim-status``: what it tells, and what it mends."""

import json
import os
import time
from pathlib import Path

import pytest
from toy_experiments import Toy, ToyWithData, contents, leftovers

from confsim.cli import status as module
from confsim.cli.status import main, ranges, status
from confsim.runner import run
from confsim.runner.claims import Claims
from confsim.store.layout import trial_path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    run(Toy(), trials=6, out=tmp_path / "run", quiet=True)
    return tmp_path / "run"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def as_json(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict]:
    code = main([str(path), "--json", *options])
    return code, json.loads(capsys.readouterr().out)


def test_a_complete_run(path, capsys):
    assert main([str(path)]) == 0
    out = capsys.readouterr().out
    assert "confsim-toy, 6 of 6 trials are done" in out
    code, found = as_json(path, capsys, "--verify")
    assert code == 0
    assert found["complete"] is True
    assert found["done"] == 6
    assert found["missing"] == []


def test_an_incomplete_run(path, capsys):
    run(Toy(), trials=20, out=path, shard="0/2", steal=False, quiet=True)
    code, found = as_json(path, capsys)
    assert code == 75
    assert found["done"] == 13
    assert found["missing"] == [7, 9, 11, 13, 15, 17, 19]
    assert found["trials_per_minute"] is None
    assert main([str(path)]) == 75
    assert "7, 9, 11" in capsys.readouterr().out


def test_a_failed_trial(path, capsys):
    run(Toy(faults=((7, "raise"),)), trials=8, out=path, quiet=True)
    code, found = as_json(path, capsys)
    assert code == 1
    assert found["failed"] == {"7": "ValueError: trial 7 has no luck"}
    assert main([str(path)]) == 1
    assert "trial 7 failed: ValueError: trial 7 has no luck" in capsys.readouterr().out
    run(Toy(), trials=8, out=path, quiet=True)
    assert main([str(path)]) == 0


def test_who_runs_what(path, capsys):
    run(Toy(), trials=7, out=path, shard="0/7", quiet=True)
    claims = Claims(path)
    claims.open()
    claims.take(6)
    code, found = as_json(path, capsys)
    assert code == 75
    assert list(found["running"]) == ["6"]
    assert found["running"]["6"].startswith(f"process {os.getpid()} on")
    assert found["trials_per_minute"] > 0
    assert found["seconds_left"] > 0
    assert main([str(path)]) == 75
    out = capsys.readouterr().out
    assert "runs 6" in out
    assert "trials a minute" in out
    for trial in (path / "trials").iterdir():
        os.utime(trial, (4e9, 4e9))  # the clock jumped
    assert as_json(path, capsys)[1]["trials_per_minute"] is None
    claims.close()
    assert as_json(path, capsys)[1]["missing"] == [6]


def test_owners_elsewhere_count_until_they_are_silent(path, capsys, monkeypatch):
    (path / "claims").mkdir()
    owner = path / "claims" / "owner-far"
    fields = {"host": "node7", "boot": "x", "pid": 1, "started": "1", "counter": "1"}
    owner.write_text(json.dumps(fields))
    run(Toy(), trials=7, out=path, shard="0/7", quiet=True)
    (path / "claims" / "000006").symlink_to("owner-far")
    assert list(as_json(path, capsys)[1]["running"].values()) == [
        "process 1 on node7, last sign of life 0 s ago"
    ]
    os.utime(owner, (time.time() - 90, time.time() - 90))
    found = as_json(path, capsys)[1]
    assert (found["running"], found["missing"]) == ({}, [])
    assert found["trials_per_minute"] is None
    assert found["stale"] == {"6": "process 1 on node7, last sign of life 2 min ago"}


def test_claims_of_the_dead_are_stale(path, capsys):
    run(Toy(), trials=9, out=path, shard="0/9", quiet=True)
    claims = Claims(path)
    claims.open()
    fields = json.loads((path / "claims" / f"owner-{claims.owner.name}").read_text())
    (path / "claims" / "owner-dead").write_text(json.dumps({**fields, "started": "1"}))
    for trial, owner in ((6, "dead"), (7, "gone"), (8, claims.owner.name)):
        (path / "claims" / f"{trial:06d}").symlink_to(f"owner-{owner}")
    code, found = as_json(path, capsys)
    assert code == 75
    assert list(found["running"]) == ["8"]
    assert found["missing"] == []
    assert found["stale"] == {
        "6": f"process {os.getpid()} on {fields['host']}, which is dead",
        "7": "a command that is gone (gone)",
    }
    assert main([str(path)]) == 75
    out = capsys.readouterr().out
    assert "  stale         2\n" in out
    assert "which is dead has left 6, to be taken over by any command" in out


def test_damage_is_found_named_and_repaired(path, capsys):
    before = contents(path)
    flip(trial_path(path, 2) / "joint.npz")
    (trial_path(path, 4) / "summary.json").unlink()
    code, found = as_json(path, capsys)
    assert (code, list(found["damaged"])) == (1, ["4"])
    assert main([str(path), "--verify"]) == 1
    out = capsys.readouterr().out
    assert "trial 2 is damaged: joint.npz does not have the hash it was written with" in out
    assert "trial 4 is damaged: summary.json is missing" in out
    assert main([str(path), "--repair"]) == 75
    captured = capsys.readouterr()
    assert captured.err.count("set aside: ") == 2
    assert "4 of 6 trials are done" in captured.out
    assert len(list((path / "damaged").iterdir())) == 2
    assert run(Toy(), trials=6, out=path, quiet=True).complete
    assert contents(path) == before
    assert leftovers(path) == []
    assert main([str(path), "--verify"]) == 0


def test_shared_data_are_verified_and_repaired(tmp_path, capsys):
    path = tmp_path / "run"
    run(ToyWithData(), trials=2, out=path, quiet=True)
    flip(path / "images.npy")
    assert main([str(path)]) == 0
    assert main([str(path), "--verify"]) == 1
    assert "what all trials share is damaged: images.npy" in capsys.readouterr().out
    main([str(path), "--repair"])
    assert run(ToyWithData(), trials=2, out=path, quiet=True).complete
    assert main([str(path), "--verify"]) == 0


def test_no_run_is_one_line_and_code_2(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"confsim-status: error: {tmp_path} is not a run directory: it has no manifest.json\n"
    )


def test_it_changes_nothing(path):
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    status(path, verify=True)
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*")} == before


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([0, 1, 2, 5, 7, 8], "0-2, 5, 7-8")]
)
def test_ranges(numbers, text):
    assert ranges(numbers) == text


def test_the_parser_knows_its_options():
    text = module.build_parser().format_help()
    for option in ("--json", "--verify", "--repair", "--version"):
        assert option in text


# ---- a folder of runs --------------------------------------------------------------------------


def test_a_folder_of_runs_is_listed(tmp_path, capsys):
    from report_runs import linear, publish

    publish(tmp_path / "b", linear(n=10), 3, without=(1,))
    publish(tmp_path / "a", linear(n=20), 2).report()
    (tmp_path / "neither").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "manifest.json").write_text("{")
    capsys.readouterr()
    assert main([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split()[:2] == ["a", "2/2"]
    assert lines[1] == "    n 20"
    assert "too few to say" in lines[2]
    assert lines[3].split()[:2] == ["b", "2/3"]
    assert lines[5].startswith("damaged")
    assert main([str(tmp_path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [run["done"] for run in found] == [2, 2, 0]
    assert found[0]["settings"]["n"] == 20


def test_names_in_a_list_are_no_commands_to_a_terminal(tmp_path):
    from confsim.cli.listing import Listed, render

    shown = render([Listed(tmp_path / "a\x1b[2Jb", "confsim-x", 1, 2, "2026", {})], width=80)
    assert "\x1b" not in shown
    assert "\\x1b" in shown
