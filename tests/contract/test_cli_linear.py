"""``confsim-linear`` as a user meets it: every case in a process of its own."""

import csv
import json
import os
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
import pandas as pd
import pytest

import confsim
from confsim.store.formats import read_csv

COMMAND = [
    sys.executable,
    "-c",
    "import sys; from confsim.cli.linear import main; sys.exit(main())",
]
QUICK = ["--n", "6", "--queries", "150", "--grid-size", "30", "--trials", "4", "--workers", "2"]


def confsim_linear(*arguments, cwd=None, **environment):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd or tempfile.gettempdir(),  # not the source tree: the installed package is tested
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=tempfile.gettempdir(),
        capture_output=True,
        text=True,
        check=True,
    )


def contents(run):
    """Bytes of everything in the trials but ``trial.json``."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted((run / "trials").rglob("*"))
        if path.is_file() and path.name != "trial.json"
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("linear") / "run"
    done = confsim_linear(*QUICK, "--out", out, "--csv", "--zip")
    assert done.returncode == 0, done.stderr
    return out, done


def test_prints_a_table_and_where_the_results_are(finished):
    out, done = finished
    assert "4 trials" in done.stdout
    assert "membership rate" in done.stdout
    assert f"confsim-report {out}" in done.stdout
    assert "Traceback" not in done.stderr


def test_stores_what_pandas_alone_can_read(finished):
    out, _ = finished
    assert sorted(p.name for p in (out / "trials").iterdir()) == [f"{i:06d}" for i in range(4)]
    table = pd.read_parquet(out / "trials" / "000001" / "extremes.parquet")
    assert table.columns.tolist() == [
        "trial", "side", "id", "is_member", "boundary", "sigmoid", "distance",
        "distance_excluding_self", "distance_raw",
    ]  # fmt: skip
    assert (table["trial"] == 1).all()
    assert table["side"].tolist() == ["bottom"] * 8 + ["top"] * 8
    summary = json.loads((out / "trials" / "000001" / "summary.json").read_text())
    assert summary["members"] == 6


def test_writes_the_older_csv_layout(finished):
    out, _ = finished
    run = confsim.open_run(out)
    extremes = run.extremes()
    for folder, confidence in (("distance_conf", "boundary"), ("sigmoid_conf", "sigmoid")):
        for side in ("top", "bottom"):
            path = out / folder / f"{side}_percent.csv"
            with path.open(newline="") as file:
                assert next(csv.reader(file)) == [
                    "ID", "Train distance", "Confidence", "Membership", "Trial",
                ]  # fmt: skip
            rows = read_csv(path)
            expected = extremes[extremes["side"] == side]
            assert rows["ID"].tolist() == expected["id"].tolist()
            assert rows["Trial"].tolist() == (expected["trial"] + 1).tolist()
            assert rows["Membership"].tolist() == expected["is_member"].astype(int).tolist()
            assert np.array_equal(rows["Confidence"], expected[confidence])
            assert np.array_equal(rows["Train distance"], expected["distance"])


def test_packs_the_run(finished):
    out, _ = finished
    with zipfile.ZipFile(f"{out}.zip") as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert "run/manifest.json" in names
        assert (
            archive.read("run/trials/000002/summary.json")
            == (out / "trials/000002/summary.json").read_bytes()
        )


def test_json_is_one_object_and_nothing_else(tmp_path):
    done = confsim_linear(*QUICK, "--out", tmp_path / "run", "--json")
    told = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert told["complete"]
    assert told["trials"] == 4
    assert told["means"]["angle_degrees"]["low"] <= told["means"]["angle_degrees"]["value"]


def test_workers_shards_and_resuming_give_the_same_bytes(finished, tmp_path):
    whole = contents(finished[0])
    assert confsim_linear(*QUICK, "--workers", 1, "--out", tmp_path / "one").returncode == 0
    assert contents(tmp_path / "one") == whole
    for shard in ("1/3", "0/3", "2/3"):
        done = confsim_linear(*QUICK, "--out", tmp_path / "three", "--shard", shard, "--csv")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "three" / "distance_conf").exists() == (shard == "2/3")
    assert contents(tmp_path / "three") == whole
    few = [*QUICK, "--trials", "1", "--out", tmp_path / "more"]
    assert confsim_linear(*few).returncode == 0
    assert confsim_linear(*few, "--trials", 4).returncode == 0
    assert contents(tmp_path / "more") == whole


def test_the_same_command_runs_nothing_twice(finished):
    out, first = finished
    before = (out / "trials" / "000000" / "trial.json").stat().st_mtime_ns
    again = confsim_linear(*QUICK, "--out", out)
    assert again.returncode == 0
    assert again.stdout == first.stdout
    assert (out / "trials" / "000000" / "trial.json").stat().st_mtime_ns == before


def test_default_directory_is_named_after_the_settings(tmp_path):
    assert confsim_linear(*QUICK, cwd=tmp_path).returncode == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("confsim-linear-")
    assert len(run.name) == len("confsim-linear-") + 10
    assert confsim_linear(*QUICK, "--percent", 6, cwd=tmp_path).returncode == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_keep_summary_leaves_the_rows_out_and_the_numbers_in(finished, tmp_path):
    out = tmp_path / "run"
    assert confsim_linear(*QUICK, "--out", out, "--keep", "summary").returncode == 0
    assert not list(out.rglob("extremes.parquet"))
    for name in ("summary.json", "joint.npz"):
        path = f"trials/000003/{name}"
        assert (out / path).read_bytes() == (finished[0] / path).read_bytes()
    done = confsim_linear(*QUICK, "--out", out, "--keep", "summary", "--csv")
    assert done.returncode == 2
    assert "--csv" in done.stderr


def test_dry_run_says_what_would_run_and_writes_nothing(finished, tmp_path):
    done = confsim_linear(*QUICK, "--out", tmp_path / "run", "--dry-run")
    assert done.returncode == 0
    assert "would run 4 of 4 trials" in done.stdout
    assert not (tmp_path / "run").exists()
    told = json.loads(confsim_linear(*QUICK, "--out", finished[0], "--dry-run", "--json").stdout)
    assert told["to_run"] == 0


def test_negative_and_scientific_numbers_parse(tmp_path):
    done = confsim_linear(
        *QUICK, "--weights", "-1e0", "-.5", "--bias", "-2e1", "--grid-size", "3e1", "--weights",
        "1.0", "-1E-1", "--dry-run", "--json", "--out", tmp_path / "run", "--queries", "1e2",
    )  # fmt: skip
    told = json.loads(done.stdout)["configuration"]
    assert (told["weights"], told["bias"], told["queries"]) == ([1.0, -0.1], -20.0, 100)


def test_python_does_the_same(finished, tmp_path):
    run = confsim.linear.run(
        n=6, queries=150, grid_size=30.0, trials=4, out=tmp_path / "run", workers=1
    )
    assert contents(run.path) == contents(finished[0])
    assert len(run.summary()) == 4


def test_overwrite_replaces_a_run_and_nothing_else(tmp_path):
    out = tmp_path / "run"
    assert confsim_linear(*QUICK, "--out", out).returncode == 0
    other = [*QUICK, "--seed", "1", "--out", out]
    refused = confsim_linear(*other)
    assert refused.returncode == 2
    assert "seed" in refused.stderr
    assert confsim_linear(*other, "--overwrite").returncode == 0
    assert json.loads((out / "manifest.json").read_text())["seed"] == 1
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.txt").write_text("precious")
    assert confsim_linear(*QUICK, "--out", tmp_path / "photos", "--overwrite").returncode == 2
    assert (tmp_path / "photos" / "one.txt").read_text() == "precious"


BAD = [
    (["--n", "151"], "n must be at most"),
    (["--n", "1"], "n must be at least 2"),
    (["--dimensions", "0"], "dimensions"),
    (["--granularity", "31"], "granularity"),
    (["--grid-size", "0"], "grid_size"),
    (["--grid-size", "nan"], "grid_size"),
    (["--granularity", "-1"], "granularity"),
    (["--granularity", "inf"], "granularity"),
    (["--trials", "0"], "trials"),
    (["--trials", "2.5"], "--trials"),
    (["--percent", "0"], "percent"),
    (["--percent", "50.1"], "percent"),
    (["--percent", "nan"], "percent"),
    (["--label-noise", "1.5"], "label_noise"),
    (["--weights", "1"], "weights"),
    (["--weights", "0", "0"], "weights"),
    (["--weights", "nan", "1"], "weights"),
    (["--bias", "-1e3"], "bias"),
    (["--weights", "1e308", "1e308"], "weights and bias must be smaller"),
    (["--n", "1e308"], "--n: must have at most 100 digits"),
    (["--dry-run", "--grace", "nan"], "grace"),
    (["--dimensions", "13"], "2**63"),
    (["--workers", "0"], "workers"),
    (["--seed", "-1"], "seed"),
    (["--shard", "3/2"], "shard"),
    (["--shard", "x"], "shard"),
    (["--grace", "-1"], "grace"),
    (["--nonsense"], "--nonsense"),
    (["--out", ""], "--out: must not be empty"),
    (["--C", "3"], "margin"),
]


@pytest.mark.parametrize(("arguments", "named"), BAD, ids=lambda value: str(value))
def test_bad_usage_is_one_clear_line_and_leaves_nothing(arguments, named, tmp_path, capsys):
    from confsim.cli.linear import main

    out = tmp_path / "run"
    try:
        code = main([*QUICK, "--out", str(out), *arguments])
    except SystemExit as stopped:
        code = stopped.code
    told = capsys.readouterr()
    assert code == 2
    assert told.out == ""
    assert named in told.err
    assert told.err.count("\n") == 1
    assert not out.exists()


def test_an_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    done = confsim_linear(*QUICK, "--out", tmp_path / "file" / "run")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "not a directory" in done.stderr


def test_debug_shows_the_traceback(tmp_path):
    done = confsim_linear("--n", "1", "--debug", "--out", tmp_path / "run")
    assert "Traceback" in done.stderr


def test_help_names_units_and_defaults():
    done = confsim_linear("--help")
    assert done.returncode == 0
    for text in (
        "(default: 10)",
        "(default: 100)",
        "lattice units",
        "examples:",
        "--no-same-class",
    ):
        assert text in done.stdout


def test_completion_scripts():
    for shell in ("bash", "zsh"):
        done = confsim_linear("--print-completion", shell)
        assert done.returncode == 0
        assert "label-noise" in done.stdout


def test_a_closed_pipe_is_no_error(tmp_path):
    command = " ".join(f"'{part}'" for part in [*COMMAND, *QUICK, "--out", tmp_path / "run"])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | true"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr == ""


def test_importing_confsim_is_light():
    code = (
        "import sys, confsim\n"
        "heavy = {'tensorflow', 'keras', 'sklearn', 'pandas', 'matplotlib', 'scipy', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = run_python(code)
    assert done.stdout == "[]\n"


def test_linear_workers_never_import_scikit_learn_or_pandas():
    code = (
        "import sys\n"
        "from confsim.linear.experiment import LinearExperiment\n"
        "import confsim.runner.worker, confsim.store\n"
        "list(LinearExperiment(n=3, queries=50, grid_size=9.0).open(1).run([0], type('C', (), {\n"
        "    'progress': lambda *a: None, 'should_stop': lambda self: False})()))\n"
        "print(sorted({'sklearn', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    done = run_python(code)
    assert done.stdout == "[]\n"
