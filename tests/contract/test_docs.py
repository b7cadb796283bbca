"""The documentation says what is so: files and columns of runs, and code that is run somewhere."""

import functools
import importlib
import importlib.util
import json
import pydoc
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import confsim
from confsim.cli.program import COMMANDS
from confsim.report.meanings import MADE, STORED, SUMMARY

pq = pytest.importorskip("pyarrow.parquet")

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "run-directory.md").read_text(encoding="utf-8")

#: What a fenced block may be that the build does not run.
DIRECTIVES = ("{run}", "{toctree}", "{image}", "{include}", "{command}", "{columns}")
NOT_RUN = ("<!-- installs -->", "<!-- needs Slurm -->")


def rows_of(section):
    """Return the cells of the table below a heading, without backticks."""
    _, _, rest = PAGE.partition(f"\n## {section}\n")
    assert rest, section
    table = [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def documented(section):
    return {cells[0].strip("`"): cells[1] for cells in rows_of(section)}


def summary_keys():
    """Return one pattern for all documented keys of a summary."""
    names = [
        name for cells in rows_of("summary.json") for name in re.findall(r"`([^`]+)`", cells[0])
    ]
    patterns = [name.replace("SIDE", "(bottom|top)") for name in names]
    return re.compile("|".join(f"(?:{pattern}(_low|_high)?)" for pattern in patterns))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Make a run of every kind."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), np.repeat(["a", "b", "c"], 20)
    members = rng.random((2, 60)) < 0.5
    tree = DecisionTreeClassifier(max_depth=2)
    numbers = DecisionTreeRegressor(max_depth=2)
    return [
        confsim.linear.run(n=5, queries=200, trials=1, out=folder / "linear"),
        confsim.shadow.run(estimator=tree, X=X, y=y, trials=1, out=folder / "tree"),
        confsim.shadow.run(estimator=numbers, X=X, y=X[:, 0], trials=1, out=folder / "numbers"),
        confsim.audit(
            is_member=members,
            label=y,
            logits=rng.normal(size=(2, 60, 3)),
            group=np.arange(60) % 2,
            out=folder / "audit",
        ),
    ]


def check_files(run):
    """Check a run's files against the page; return the columns that were seen, by table."""
    seen = {}
    listed = set(re.findall(r"[a-z_.]+\.(?:parquet|npz|npy|json)\b", PAGE))
    for path in sorted(run.path.rglob("*.*")):
        if path.suffix not in (".parquet", ".npz", ".npy", ".json"):
            continue
        assert path.name in listed, path
        if path.suffix == ".parquet":
            columns = {field.name: str(field.type) for field in pq.read_schema(path)}
            told = documented(path.name)
            assert columns == {name: told.get(name) for name in columns}, path
            seen.setdefault(path.name, set()).update(columns)
    for number in run.trials:
        trial = run.trial(number)
        for name, array in trial.arrays("joint").items():
            assert str(array.shape) == rows_of_joint()[name]
        keys = summary_keys()
        wrong = [key for key in trial.summary() if not keys.fullmatch(key)]
        assert not wrong
        told = json.loads((trial.path / "trial.json").read_text())
        assert all(f"`{key}`" in PAGE for key in told)
    assert all(f"`{key}`" in PAGE for key in json.loads((run.path / "manifest.json").read_text()))
    return seen


def rows_of_joint():
    return {cells[0].strip("`"): cells[2] for cells in rows_of("joint.npz")}


def test_what_runs_hold_is_documented(runs):
    seen = {}
    for run in runs:
        for table, columns in check_files(run).items():
            seen.setdefault(table, set()).update(columns)
    for table in ("extremes.parquet", "examples.parquet", "holdout.parquet"):
        assert seen[table] == set(documented(table))


def test_what_linear_models_hold_is_documented(runs):
    told = documented("model.npz")
    model = runs[0].trial(0).model()
    assert {name: str(array.dtype) for name, array in model.items()} == {n: told[n] for n in model}


@pytest.mark.parametrize("table", STORED)
def test_columns_mean_what_the_dictionary_says(table):
    told = {cells[0].strip("`"): cells[2].replace("`", "") for cells in rows_of(f"{table}.parquet")}
    assert told == STORED[table]


def test_keys_of_summaries_mean_what_the_dictionary_says():
    told = {cells[0].strip("`"): cells[1] for cells in rows_of("summary.json")}
    meanings = {
        re.sub("^(bottom|top)_", "SIDE_", key): re.sub(
            "of the (least|most) confident queries", "of the extreme", text
        )
        for key, text in SUMMARY.items()
    }
    assert told == meanings


def test_every_table_of_a_run_has_its_page():
    page = (DOCS / "tables.md").read_text(encoding="utf-8")
    assert re.findall(r"^```\{columns\} (\w+)$", page, re.MULTILINE) == re.findall(
        r"^## (\w+)\.(?:csv|parquet)$", page, re.MULTILINE
    )
    assert set(re.findall(r"^```\{columns\} (\w+)$", page, re.MULTILINE)) == set(MADE)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="needs TensorFlow")
def test_what_deep_runs_hold_is_documented(tmp_path):
    run = confsim.deep.run(
        trials=1,
        limit=100,
        batch_size=20,
        model="softmax",
        epochs=1,
        design="coin",
        canaries=20,
        query_augment=2,
        traces=True,
        save_logits=True,
        save_features=True,
        save_model=True,
        early_stopping="off",
        out=tmp_path / "deep",
    )
    seen = check_files(run)
    seen["population.parquet"].add("group")  # given by users, and not with images
    tables = ("population.parquet", "augmented.parquet", "traces.parquet", "training.parquet")
    for table in tables:
        assert seen[table] == set(documented(table))


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda path: path.stem)
def test_code_on_pages_is_run_or_says_why_not(page):
    if not (DOCS / "conf.py").exists() or "build" in page.parts:
        pytest.skip("not a page")
    lines = page.read_text(encoding="utf-8").splitlines()
    opened = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if opened is not None:
            opened = None
            continue
        opened = line[3:]
        plain = opened == "" or opened == "text"
        assert plain or opened.startswith(DIRECTIVES) or lines[number - 1] in NOT_RUN, (page, line)


#: Flags on pages that are other programs'.
OTHER_FLAGS = {"--array", "--cpus-per-task", "--dependency", "--parsable", "--rm", "--tags"}


@functools.cache
def parsers():
    return [importlib.import_module(f"confsim.cli.{name}").build_parser() for name in COMMANDS]


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda path: path.stem)
def test_flags_and_names_on_pages_are_there(page):
    if "build" in page.parts:
        pytest.skip("not a page")
    text = page.read_text(encoding="utf-8")
    known = {flag for parser in parsers() for flag in parser._option_string_actions}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert not named - known - OTHER_FLAGS
    for name in set(re.findall(r"\bconfsim(?:\.[A-Za-z_]\w*)+", text)):
        assert pydoc.locate(name) is not None, name


@pytest.mark.parametrize("name", ["confsim", "confsim.membership", "confsim.statistics"])
def test_every_public_function_and_class_is_in_the_reference(name):
    module = importlib.import_module(name)
    pages = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.rst"))
    shown = re.findall(
        r"^\.\. auto(?:function|class|exception|module):: (\S+)$", pages, re.MULTILINE
    )
    last = {entry.rpartition(".")[2] for entry in shown}
    public = {entry for entry in module.__all__ if callable(getattr(module, entry))}
    assert public
    assert not public - last
