"""Canaries of shadow models: those that a task marks, and an estimator's with wrong labels."""

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsClassifier

import confsim
from confsim.membership import membership_tables
from confsim.shadow.estimators import mislabelled
from confsim.shadow.tasks import TaskError

TASK = """
import numpy as np

LABEL = np.tile([0, 1], 40)
CANARY = np.arange(80) < 30
POINTS = np.random.default_rng(2).normal(size=(80, 3))

def population():
    return {"label": LABEL, "features": POINTS, "canary": CANARY}

def train(members, seed, context):
    logit = np.random.default_rng(seed).normal(size=80)
    logit[members] += 3 * (2 * LABEL[members] - 1)
    return lambda rows: {"logits": np.stack([0 * logit[rows], logit[rows]], axis=1)}
"""

KNN = "sklearn.neighbors.KNeighborsClassifier"
RNG = np.random.default_rng(8)
X = RNG.normal(size=(90, 2))
NAMES = np.array(["ape", "bee", "cat"], dtype=object)[np.arange(90) % 3]


def test_coins_decide_on_those_that_a_task_marks(tmp_path):
    (tmp_path / "task.py").write_text(TASK)
    run = confsim.shadow.run(
        tmp_path / "task.py", trials=6, design="coin", canary="given", holdout=0.25,
        out=tmp_path / "run", workers=1,
    )  # fmt: skip
    held = run.population().query("split == 'holdout'")["id"]
    assert len(held) == 20
    assert held.min() >= 30  # a canary is never set aside
    members = []
    for trial in run.trials:
        examples = run.examples([trial])
        assert examples["id"].tolist() == list(range(30))
        assert run.trial(trial).summary()["members"] == examples["is_member"].sum()
        members.append(examples["is_member"].to_numpy())
    assert 0.3 < np.mean(members) < 0.7
    tables = membership_tables(run)
    others = np.setdiff1d(np.arange(80), held)
    points = np.random.default_rng(2).normal(size=(80, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    cosines = np.sort(points[:30] @ points[others].T, axis=1)[:, -2]  # the largest is its own
    found = tables["vulnerability"].set_index("id").loc[np.arange(30), "fixed_distance"]
    np.testing.assert_allclose(found, np.arccos(cosines) / np.pi, atol=1e-6)
    bounds = tables["epsilon"].dropna(subset=["epsilon"])
    assert (bounds.query("method == 'one-run'")["canaries"] == 30).all()
    without = confsim.shadow.run(
        tmp_path / "task.py", trials=6, design="coin", holdout=0.25, out=tmp_path / "run",
        workers=1,
    )  # fmt: skip
    assert without.identity_hash == run.identity_hash


def test_an_estimator_learns_wrong_labels_of_canaries_by_heart(tmp_path):
    run = confsim.shadow.run(
        estimator=KNeighborsClassifier(1), X=X, y=NAMES, trials=4, design="coin",
        canaries=20, canary="mislabelled", out=tmp_path / "run", workers=1,
    )  # fmt: skip
    table = run.population().set_index("id")
    wrong = table["label_name"].astype(str).to_numpy() != NAMES
    assert np.count_nonzero(wrong) == 20
    for trial in run.trials:
        examples = run.examples([trial])
        assert examples["id"].tolist() == np.flatnonzero(wrong).tolist()
        held = examples[examples["is_member"]]
        assert (held["predicted"] == held["label"]).all()
        others = examples[~examples["is_member"]]
        assert (others["predicted"] == others["label"]).mean() < 1


def test_coins_decide_on_the_rows_of_a_table_that_a_file_names(tmp_path, capsys):
    from confsim.cli.shadow import main

    ids = 10 * np.arange(90)
    table = pd.DataFrame(X, columns=["a", "b"]).assign(id=ids, name=NAMES)
    table.to_csv(tmp_path / "table.csv", index=False)
    pd.DataFrame({"id": ids[5:25][::-1]}).to_csv(tmp_path / "canaries.csv", index=False)
    words = [
        "--estimator", KNN, "--data", str(tmp_path / "table.csv"),
        "--label", "name", "--id", "id", "--design", "coin", "--trials", "4", "--workers", "1",
    ]  # fmt: skip
    out = tmp_path / "run"
    chosen = ["--canary-ids", str(tmp_path / "canaries.csv")]
    assert main([*words, *chosen, "--out", str(out)]) == 0
    run = confsim.open_run(out)
    for trial in run.trials:
        assert run.examples([trial])["id"].tolist() == ids[5:25].tolist()
    assert run.manifest["configuration"]["canary_ids"] == str(tmp_path / "canaries.csv")
    # Who they are decides, not the file; and others are another run.
    again = confsim.shadow.run(
        estimator=KNN, X=X, y=NAMES, ids=ids,
        design="coin", canary_ids=ids[5:25], trials=4, out=tmp_path / "again", workers=1,
    )  # fmt: skip
    assert again.examples()["is_member"].tolist() == run.examples()["is_member"].tolist()
    pd.DataFrame({"id": ids[30:50]}).to_csv(tmp_path / "canaries.csv", index=False)
    capsys.readouterr()
    assert main([*words, *chosen, "--out", str(out)]) == 2
    assert "another identity" in capsys.readouterr().err


def test_wrong_labels_are_of_the_other_classes_and_of_nobody_with_a_duplicate():
    labels = np.repeat([7, 8, 9], 1000)
    groups = np.concatenate([np.arange(1500), np.repeat(np.arange(1500, 2250), 2)])
    found, who = mislabelled(labels, groups, 900, 3)
    assert np.count_nonzero(who) == 900
    assert not who[1500:].any()
    assert ((found != labels) == who).all()
    steps = (found[who] - labels[who]) % 3
    assert abs(np.mean(steps == 1) - 0.5) < 0.06
    again, _ = mislabelled(labels, groups, 900, 3)
    assert (again == found).all()
    with pytest.raises(TaskError, match="there are 3 and 1500"):
        mislabelled(labels, groups, 1501, 3)
    none = np.full(3000, -1)  # of no group
    assert np.count_nonzero(mislabelled(labels, none, 2000, 3)[1]) == 2000


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        ("", ["--design", "independent"], "gives canary, which needs design 'coin'"),
        ("", ["--design", "coin", "--canaries", "7"], "gives 30 canaries, not 7"),
        ("", ["--design", "coin", "--canary", "mislabelled", "--canaries", "7"], "is for estim"),
        ("", ["--canary", "given"], "canary is for design 'coin', not 'independent'"),
        ('"canary": CANARY', ["--design", "coin", "--canary", "given"], "to give canary"),
        ("CANARY}", ["--design", "coin"], "canary must be boolean, or hold only 0 and 1"),
        ("< 30", ["--design", "coin"], "canary must mark at least 2 examples"),
    ],
)
def test_bad_canaries_are_one_line(change, arguments, words, tmp_path, capsys):
    from confsim.cli.shadow import main

    other = {"CANARY}": "LABEL - 1}", "< 30": "< 1"}.get(change, "")
    (tmp_path / "task.py").write_text(TASK.replace(change, other) if change else TASK)
    out = tmp_path / "run"
    assert main([str(tmp_path / "task.py"), *arguments, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"canary": "given"}, "of an estimator needs canary_ids"),
        ({"canary_ids": [3, 90]}, "canary_ids: 90 is no id of the 90 rows"),
        ({"canary_ids": [3, 4], "canaries": 3}, "gives 2 canaries, not 3"),
        ({"canary_ids": [3, 4], "canaries": 2, "canary": "mislabelled"}, "is for canary 'given'"),
        ({"canary": "mislabelled"}, "needs canaries, how many"),
        ({"canary": "mislabelled", "canaries": 91}, "91 mislabelled canaries need"),
        ({"canary": "blank", "canaries": 5}, "canary must be"),
    ],
)
def test_bad_canaries_of_an_estimator(settings, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        confsim.shadow.run(
            estimator=KNeighborsClassifier(1), X=X, y=NAMES, trials=4, design="coin",
            out=tmp_path / "run", **settings,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()
