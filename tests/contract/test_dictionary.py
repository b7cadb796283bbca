"""Every column of every file that a run and its report hold is explained, and none that is not."""

import csv
import re

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

import confsim
from confsim.report.build import report
from confsim.report.dictionary import meaning
from confsim.report.meanings import MADE, STORED, SUMMARY

pq = pytest.importorskip("pyarrow.parquet")


#: Columns of what these runs are too large, or too random, for.
ELSEWHERE = {
    ("epsilon_bins", "reason"),
    ("blind", "reason"),
    ("best_attack", "z"),
}


def columns_of(path):
    if path.suffix == ".parquet":
        return pq.read_schema(path).names
    with path.open() as file:
        return next(csv.reader(file))


def explained(path):
    """Return what a dictionary holds: meanings by file and column."""
    with path.open() as file:
        return {(row["file"], row["column"]): row["meaning"] for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Make a run of every kind with all of its tables."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(120, 3)), np.tile(["a", "b", "c"], 40)
    tree = {"estimator": DecisionTreeClassifier(max_depth=4), "X": X, "y": y}
    members, groups = rng.random((6, 120)) < 0.5, np.arange(120) % 2
    audited = {"label": y, "features": X, "group": groups}
    logits = rng.normal(size=(6, 120, 3))
    return [
        confsim.linear.run(n=20, queries=500, trials=4, out=folder / "linear"),
        confsim.shadow.run(**tree, trials=6, out=folder / "tree"),
        confsim.shadow.run(**tree, trials=6, design="coin", out=folder / "coin"),
        confsim.audit(is_member=members, logits=logits, **audited, out=folder / "audit"),
        confsim.audit(is_member=members[0], logits=logits[0], **audited, out=folder / "one"),
    ]


def test_every_column_of_every_table_is_explained(runs):
    seen = {}
    for run in runs:
        report([run.path])
        told = explained(run.path / "tables" / "dictionary.csv")
        assert all(told.values())
        files = {p for p in (run.path / "tables").iterdir() if p.suffix in (".csv", ".parquet")}
        for path in files:
            if path.name != "dictionary.csv":
                missing = [name for name in columns_of(path) if (path.name, name) not in told]
                assert not missing, path
                seen.setdefault(path.stem, set()).update(columns_of(path))
    # And the other way round: what is explained is there.
    assert not MADE.keys() - seen.keys()
    for table, columns in MADE.items():
        for column in columns:
            pattern = ".+".join(map(re.escape, column.split("*")))
            known = any(re.fullmatch(pattern, name) for name in seen[table])
            assert known or (table, column) in ELSEWHERE, (table, column)


def test_every_column_of_trials_is_explained(runs):
    for run in runs:
        for path in [*run.path.glob("*.parquet"), *run.path.glob("trials/*/*.parquet")]:
            assert set(columns_of(path)) <= STORED[path.stem].keys(), path
        assert all(meaning(name) for name in run.summary())


def test_a_comparison_has_a_dictionary(runs, tmp_path):
    made = report([runs[1].path, runs[2].path], out=tmp_path / "both")
    told = explained(made.page.parent / "tables" / "dictionary.csv")
    names = columns_of(made.page.parent / "tables" / "comparison.csv")
    assert {("comparison.csv", name) for name in names} == set(told)
    assert all(told.values())


def test_unknown_columns_are_not_explained():
    assert meaning("nonsense") == meaning("nonsense", "attacks") == meaning("auc", "nonsense") == ""
    assert meaning("tpr_at_fpr_1pct_low", "attacks").startswith("lower end of the 95% interval")
    assert len(SUMMARY) == len(set(SUMMARY))
