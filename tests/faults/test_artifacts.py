"""Derived files: whole or not at all, nothing left behind, never in the place of a user's own.

``test_struck.py`` kills who writes them, and fills the disk.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_runs import FakeDeep, linear, publish
from toy_experiments import leftovers

from confsim import exports
from confsim._errors import ConfsimError
from confsim.membership import membership_tables
from confsim.report import build
from confsim.report.build import report
from confsim.store import artifacts, open_run

TABLES = "import sys, confsim; confsim.membership.membership_tables(confsim.open_run(sys.argv[1]))"
REPORT = (
    "import sys; from confsim.report import build; build.FIGURES = build.FIGURES[1:2]; "
    "build.report(sys.argv[1:])"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    publish(folder / "linear", linear(queries=2000), 6)
    publish(folder / "deep", FakeDeep(examples=60), 4)
    return folder


@pytest.fixture
def deep(made, tmp_path) -> Path:
    return Path(shutil.copytree(made / "deep", tmp_path / "run"))


@pytest.fixture
def lattice(made, tmp_path) -> Path:
    return Path(shutil.copytree(made / "linear", tmp_path / "run"))


@pytest.fixture(autouse=True)
def few_figures(monkeypatch):
    monkeypatch.setattr(build, "FIGURES", build.FIGURES[1:2])


def derived(run: Path) -> dict[str, bytes]:
    """Every file that is made of the trials, but times."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and "trials" not in path.relative_to(run).parts
    }


def hidden(run: Path) -> list[str]:
    return leftovers(run) + [p.name for p in run.parent.iterdir() if p.name.startswith(".")]


def python(code: str, run: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, str(run)], stderr=subprocess.PIPE, text=True
    )


# ---- CSV ---------------------------------------------------------------------------------------


def test_csv_files_hold_the_extremes_exactly(lattice):
    run = open_run(lattice)
    rows = run.extremes()
    for path in exports.write_csv(run):
        side, column = path.name.partition("_")[0], path.parent.name.removesuffix("_conf")
        expected = rows[rows["side"] == side]
        found = pd.read_csv(path)
        assert list(found) == list(exports.HEADER)
        assert found["Membership"].dtype == bool
        assert found["Train distance"].dtype == found["Confidence"].dtype == np.float64
        confidence = {"distance": "boundary", "sigmoid": "sigmoid"}[column]
        texts = path.read_text().splitlines()[1:]
        for name, values in (("distance", 1), (confidence, 2)):
            exact = np.array([float(text.split(",")[values]) for text in texts])
            np.testing.assert_array_equal(exact, expected[name])
        np.testing.assert_array_equal(found["ID"], expected["id"])
        np.testing.assert_array_equal(found["Membership"], expected["is_member"])
        np.testing.assert_array_equal(found["Trial"], expected["trial"] + 1)


@pytest.mark.parametrize(
    "numbers",
    [
        np.random.default_rng(0).normal(size=3000) * 10.0 ** np.arange(-15, 15).repeat(100),
        np.tile([0.1, -0.0, 1 / 3, 5e-324, 1.7976931348623157e308, 2.0**53], 500),
        np.tile([0.0, 1.0, -3.0, 123456789.0], 500),
        np.tile([0.0, 1.0, 123456789012.0, np.inf], 500),
        np.arange(2000.0),
        np.array([np.nan, np.inf, -np.inf, 0.5]),
        np.array([0.25]),
        np.array([]),
    ],
    ids=[
        "different",
        "repeated",
        "repeated and whole",
        "large",
        "whole",
        "not finite",
        "one",
        "none",
    ],
)
def test_numbers_of_a_csv_file_have_the_fewest_digits_that_give_them_again(numbers):
    import pyarrow as pa

    texts = exports._decimals(pa.array(numbers)).to_pylist()
    read = np.array([float(text) for text in texts])
    assert read.tobytes() == numbers.tobytes()
    digits = [len(text.lstrip("-").split("e")[0].replace(".", "").strip("0")) for text in texts]
    shortest = [repr(float(x)).lstrip("-").split("e")[0] for x in numbers]
    assert digits == [len(text.replace(".", "").strip("0")) for text in shortest]
    if np.all(numbers == np.trunc(numbers)):
        assert not texts or any("." in text or "e" in text for text in texts)


def test_csv_files_are_made_once_and_anew_when_something_changed(lattice):
    run = open_run(lattice)
    paths = exports.write_csv(run)
    before = [path.stat().st_mtime_ns for path in paths]
    assert exports.write_csv(run) == paths
    assert [path.stat().st_mtime_ns for path in paths] == before
    content = paths[0].read_bytes()
    paths[0].write_bytes(content[:-1])
    exports.write_csv(run)
    assert paths[0].read_bytes() == content


def test_an_export_says_what_it_wrote(lattice):
    told = exports.export(open_run(lattice), csv=True, archive=True, trials=2)
    assert "CSV files of 6 trials" in told[0]
    assert "experiment_models.npz is model.npz" in told[0]
    assert "6, not the 2 of --trials" in told[1]
    assert told[2] == f"archive {lattice}.zip"


def test_an_archive_holds_files_only(lattice, monkeypatch):
    (lattice / "link").symlink_to("/etc/hostname")
    os.mkfifo(lattice / "pipe")
    monkeypatch.chdir(lattice)
    path = exports.write_zip(open_run("."))
    assert path == lattice.parent / "run.zip"
    names = zipfile.ZipFile(path).namelist()
    assert "run/manifest.json" in names
    assert not {"run/link", "run/pipe"} & set(names)


# ---- whole or not at all -----------------------------------------------------------------------


def test_commands_at_once_do_not_meet(deep):
    calls = [python(TABLES, deep) for _ in range(4)] + [python(REPORT, deep) for _ in range(2)]
    for call in calls:
        _, err = call.communicate(timeout=300)
        assert call.returncode == 0, err
    assert hidden(deep) == []
    assert not membership_tables(open_run(deep)).made


def test_what_a_living_process_writes_stays(deep):
    with artifacts.replacing(deep / "tables" / "x.csv") as file:
        file.write(b"1")
        artifacts.sweep(deep)
        assert len(list((deep / "tables").glob(".part-*"))) == 1
    assert (deep / "tables" / "x.csv").read_bytes() == b"1"


def test_leftovers_are_swept_by_who_wrote_them(deep):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    own = artifacts.partial_name()
    boot, pid, started = own.removeprefix(artifacts.PARTIAL).split("-")[:3]
    places = {
        f".part-{boot}-{dead}-1-00000000": False,
        f".part-{boot}-{pid}-{int(started or 0) + 1}-00000000": False,  # its number was used again
        f".part-{boot}-{pid}-{started}-00000000": True,
        ".part-ffffffff-1-1-00000000": True,  # of another machine, and fresh
        f".report.html.{dead}": False,
        ".tmp-attacks.csv": False,
        ".bashrc": True,
    }
    (deep / "tables").mkdir()
    for name in places:
        (deep / "tables" / name).touch()
    artifacts.sweep(deep)
    assert {n for n in places if (deep / "tables" / n).exists()} == {n for n in places if places[n]}
    old = deep / "tables" / ".part-ffffffff-1-1-00000000"
    os.utime(old, (1, 1))
    artifacts.sweep(deep)
    assert not old.exists()


def test_what_an_earlier_report_drew_goes_unless_it_was_changed(deep, monkeypatch):
    monkeypatch.setattr(build, "FIGURES", build.FIGURES[:1])
    report([deep])
    drawn = sorted((deep / "figures").iterdir())
    assert drawn
    drawn[0].write_bytes(b"mine")
    monkeypatch.setattr(build, "FIGURES", ())
    report([deep])
    assert sorted((deep / "figures").iterdir()) == drawn[:1]


# ---- a user's own options ----------------------------------------------------------------------


@pytest.fixture
def space(tmp_path) -> Path:
    path = tmp_path / "space.npy"
    np.save(path, np.random.default_rng(0).normal(size=(60, 5)))
    return path


def test_tables_keep_the_options_of_their_maker(deep, space):
    run = open_run(deep)
    own = membership_tables(run, features=space, seed=3)
    assert own.made
    kept = derived(deep)
    report([deep])
    again = membership_tables(run)
    assert not again.made
    assert again.options == {"seed": 3, "matched": True, "features": str(space)}
    assert any("made with seed 3, features" in note for note in again.notes)
    for name, content in kept.items():
        assert derived(deep)[name] == content, name
    assert "made with seed 3" in (deep / "report.html").read_text()
    # Also where the user's file is gone: the tables are there.
    space.unlink()
    assert not membership_tables(run).made
    assert membership_tables(run, replace=True).options["features"] is None


def test_tables_of_a_run_that_grew_are_made_with_their_own_options(deep, space):
    membership_tables(open_run(deep), features=space)
    run = publish(deep, FakeDeep(examples=60), 5, without=(0, 1, 2, 3))
    found = membership_tables(run)
    assert found.made
    assert found.options["features"] == str(space)
    run = publish(deep, FakeDeep(examples=60), 6, without=(0, 1, 2, 3, 4))
    space.write_bytes(b"changed")
    before = derived(deep)
    with pytest.raises(ConfsimError, match=r"is gone or has changed.*replace=True"):
        membership_tables(run)
    assert derived(deep) == before
    made = report([deep])
    assert "gone or has changed" in made.page.read_text()
    report([deep], remake_tables=True)
    assert membership_tables(run).options["features"] is None


def test_curves_are_those_of_the_attacks(deep):
    found = membership_tables(open_run(deep))
    curves = found["roc"]
    drawn = set(curves["attack"])
    assert drawn >= {"confidence", "loss", "closeness", "lira_online_fixed_variance"}
    # Literally: for each target and rate, the best of all thresholds with so few false positives.
    curve = curves[curves["attack"] == "loss"]
    rates = []
    for _, rows in open_run(deep).examples().groupby("trial"):
        scores, member = rows["log_odds_true"].to_numpy(), rows["is_member"].to_numpy()
        points = [(np.mean(scores[~member] >= t), np.mean(scores[member] >= t)) for t in scores]
        rates.append([max([0.0, *(t for f, t in points if f <= a + 1e-9)]) for a in curve["fpr"]])
    np.testing.assert_allclose(curve["tpr"], np.mean(rates, axis=0))
    np.testing.assert_allclose(curve["tpr_low"], np.quantile(rates, 0.1, axis=0))
    assert curve["targets"].eq(4).all()
    # Every attack that a report calls the best has its own, under its own name.
    assert set(found["best_attack"]["attack"]) <= drawn <= set(found["attacks"]["attack"])
