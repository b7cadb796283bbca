"""Shards of the tables of attacks: the same bytes as one process, whatever became of a shard."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from report_runs import FakeDeep, linear, publish
from toy_experiments import leftovers

import confsim
from confsim.cli.report import main
from confsim.membership import membership_tables
from confsim.membership.pieces import Pieces
from confsim.membership.stored import share_of_tables
from confsim.store import open_run

#: Attacks on a run of examples, and what is made of the main ones.
SHARE = """
import sys
from confsim.membership.stored import share_of_tables
from confsim.store import open_run
print("began", flush=True)
share_of_tables(open_run(sys.argv[1]), 0, 1)
"""


def audited(folder: Path, design: str = "independent") -> None:
    """Audit models with groups and distances."""
    rng = np.random.default_rng(0)
    member = rng.random((6, 80)) < 0.5
    if design == "balanced":
        member[1::2] = ~member[::2]
    label = rng.integers(0, 3, 80)
    logits = rng.normal(size=(6, 80, 3))
    logits[:, np.arange(80), label] += 1 + member
    confsim.audit(
        is_member=member,
        label=label,
        logits=logits,
        distance=rng.random(member.shape),
        group=rng.choice(["here", "there"], 80),
        design=design,
        out=folder,
    )


def shadowed(folder: Path) -> None:
    """Shadow models beside a model of the user's own, with a holdout."""

    class Task:
        label = np.random.default_rng(1).integers(0, 2, 60)

        def population(self):
            return {"label": self.label}

        def train(self, members, seed, context):
            sure = np.random.default_rng(seed).normal(size=60)
            sure[members] += 1
            logits = np.stack([-sure, sure], axis=1) * np.where(self.label, 1, -1)[:, None]
            return lambda rows: {"logits": logits[rows]}

        def target(self):
            members = np.arange(0, 60, 2)
            return self.train(members, 99, None), members

    confsim.shadow.run(Task(), trials=6, holdout=0.2, out=folder)


KINDS = {
    "deep": lambda folder: publish(folder, FakeDeep(examples=60), 6),
    "balanced": lambda folder: audited(folder, "balanced"),
    "audit": audited,
    "shadow": shadowed,
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "run"
    KINDS[request.param](folder)
    return folder


@pytest.fixture(scope="module")
def alone(kind, tmp_path_factory):
    path = tmp_path_factory.mktemp("alone") / "run"
    shutil.copytree(kind, path)
    membership_tables(open_run(path), n_threads=1)
    return tables(path)


@pytest.fixture
def run(kind, tmp_path) -> Path:
    return Path(shutil.copytree(kind, tmp_path / "run"))


@pytest.fixture
def deep(tmp_path) -> Path:
    KINDS["deep"](tmp_path / "run")
    return tmp_path / "run"


def tables(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((path / "tables").iterdir())}


def pieces(path: Path) -> list[Path]:
    return sorted((path / "tables").glob("piece-*.json"))


@pytest.mark.parametrize("count", [1, 3])
def test_shards_make_what_one_process_makes(run, alone, count):
    shares = [share_of_tables(open_run(run), i, count, n_threads=1 + i) for i in range(count)]
    assert sum(share.made for share in shares) == shares[0].pieces == len(pieces(run))
    made = membership_tables(open_run(run), n_threads=3)
    assert made.made
    assert tables(run) == alone
    assert share_of_tables(open_run(run), 0, 2).pieces == 0
    assert leftovers(run) == []


def test_missing_and_damaged_pieces_are_made_again(run, alone):
    share_of_tables(open_run(run), 0, 1)
    first, second, third, *_ = pieces(run)
    first.unlink()
    second.write_bytes(second.read_bytes().replace(b"0", b"1", 1))
    other = third.read_text().replace('"value"', '"nothing"')
    third.write_text(other[: other.index('"sha256"')] + other[other.index("\n", 5) + 1 :])
    again = share_of_tables(open_run(run), 0, 1)
    assert again.made == 3
    assert share_of_tables(open_run(run), 0, 1).made == 0
    second.write_bytes(b"{}")
    membership_tables(open_run(run))
    assert tables(run) == alone


def test_pieces_are_used(deep, monkeypatch):
    """Without the figures of a piece, the tables are others: they came from there."""
    share_of_tables(open_run(deep), 0, 1)
    [loss] = [path for path in pieces(deep) if path.name == "piece-attack-loss.json"]
    record = json.loads(loss.read_text())
    value = json.loads(record["value"])
    value["rows"][0]["auc"] = 0.125
    Pieces(deep / "tables", record["made_from"]).publish("attack-loss", value)
    found = membership_tables(open_run(deep))["attacks"].set_index(["attack", "target"])
    assert found.loc[("loss", "0"), "auc"] == 0.125


def test_pieces_of_other_trials_are_no_use(deep):
    share_of_tables(open_run(deep).restricted([0, 1, 2, 3]), 0, 1)
    assert share_of_tables(open_run(deep), 0, 1).made == len(pieces(deep))


def test_a_shard_that_is_killed_does_no_harm(run, alone):
    for seconds in (0.0, 0.3):
        process = subprocess.Popen(
            [sys.executable, "-c", SHARE, str(run)], stdout=subprocess.PIPE, text=True
        )
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert share_of_tables(open_run(run), 0, 1).pieces == len(pieces(run))
    membership_tables(open_run(run))
    assert tables(run) == alone
    assert leftovers(run) == []


def test_the_command(deep, tmp_path, capsys):
    whole = Path(shutil.copytree(deep, tmp_path / "whole"))
    assert main([str(whole)]) == 0
    capsys.readouterr()
    assert main([str(deep), "--shard", "0/2"]) == 0
    said = capsys.readouterr().out
    assert f"next      confsim-report {deep}" in said
    assert not (deep / "report.html").exists()
    assert main([str(deep), "--shard", "1/2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["made"] < found["pieces"] == len(pieces(deep))
    assert main([str(deep)]) == 0
    assert pieces(deep) == []
    names = [path.name for path in (whole / "tables").iterdir()]
    assert {path.name for path in (deep / "tables").iterdir()} == set(names)
    for name in names:
        if name != "report.json":
            assert (deep / "tables" / name).read_bytes() == (whole / "tables" / name).read_bytes()
    capsys.readouterr()
    assert main([str(deep), "--shard", "0/2"]) == 0
    assert "up to date" in capsys.readouterr().out


@pytest.mark.parametrize("shard", ["2/2", "-1/2", "1", "a/b", "0/0", "1/2/3", ""])
def test_bad_shards(deep, capsys, shard):
    assert main([str(deep), f"--shard={shard}"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "--shard" in line
    assert pieces(deep) == []


def test_bad_company(deep, tmp_path, capsys):
    lattice = tmp_path / "linear"
    publish(lattice, linear(queries=2000), 2)
    missing = tmp_path / "missing"
    publish(missing, FakeDeep(examples=60), 4, without=(1,))
    for words, code, text in (
        ([deep, deep, "--shard", "0/2"], 2, "--shard is for the tables of one run"),
        ([deep, "--shard", "0/2", "--out", tmp_path / "x"], 2, "--out is for a report"),
        ([deep, "--shard", "0/2", "--no-attacks"], 2, "--attacks is for a report"),
        ([lattice, "--shard", "0/2"], 2, "has no examples"),
        ([missing, "--shard", "0/2"], 75, "is not complete"),
        ([tmp_path / "nothing", "--shard", "0/2"], 2, "nothing"),
    ):
        assert main([str(word) for word in words]) == code
        [line] = capsys.readouterr().err.splitlines()
        assert text in line
    assert main([str(missing), "--shard", "0/2", "--partial"]) == 0
    assert pieces(missing)
