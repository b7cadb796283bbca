"""Traces of shadow models: what a task gives to ``context.trace`` after each epoch."""

from types import SimpleNamespace

import numpy as np
import pytest

import confsim
from confsim.membership import membership_tables, trace_scores
from confsim.shadow.population import Population
from confsim.shadow.tasks import TaskError
from confsim.shadow.traces import Traces

TASK = """
import numpy as np

LABEL = np.tile([0, 1], 30)

def population():
    return {"label": LABEL, "features": np.random.default_rng(0).normal(size=(60, 3))}

def model(logit):
    return lambda rows: {"logits": np.stack([0 * logit[rows], logit[rows]], axis=1)}

def train(members, seed, context):
    rng, logit = np.random.default_rng(seed), np.zeros(60)
    for epoch in range(1, 6):
        logit += rng.normal(size=60)
        logit[members] += 0.5 * (2 * LABEL[members] - 1)
        context.trace(epoch, model(logit.copy()))
    return model(logit)

def target():
    members = np.arange(0, 60, 2)
    members[::4] += 1
    return model(np.random.default_rng(9).normal(size=60)), members
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    (folder / "task.py").write_text(TASK)
    return folder


@pytest.fixture(scope="module")
def run(place):
    return confsim.shadow.run(
        place / "task.py", trials=4, traces=True, out=place / "run", workers=1
    )


class TestTables:
    def test_the_last_epoch_is_the_model_and_the_holdout_is_not_asked(self, run):
        for number in run.trials:
            found = run.trial(number).table("traces")
            assert found["epoch"].unique().tolist() == [1, 2, 3, 4, 5]
            last = found[found["epoch"] == 5]
            examples = run.trial(number).table("examples")
            assert last["id"].tolist() == examples["id"].tolist()
            np.testing.assert_allclose(last["log_odds_true"], examples["log_odds_true"], rtol=1e-6)
        assert not run.trial(run.target).has("traces.parquet")

    def test_attacks_on_them_are_in_the_table_and_the_target_has_none(self, run):
        found = membership_tables(run)["attacks"].set_index(["attack", "target"])
        table = run.trial(0).table("traces")
        values = table["log_odds_true"].to_numpy().reshape(5, -1)
        member = run.trial(0).table("examples")["is_member"].to_numpy()
        for name, scores in trace_scores(values).items():
            expected = confsim.statistics.auc(scores, member)
            assert found.loc[(name, "0"), "auc"] == pytest.approx(expected)
            assert (name, "model") not in found.index
        assert ("loss", "model") in found.index

    def test_without_the_flag_nothing_is_asked_and_it_is_another_run(self, place, run):
        other = confsim.shadow.run(place / "task.py", trials=1, out=place / "without", workers=1)
        assert not other.trial(0).has("traces.parquet")
        assert other.identity_hash != run.identity_hash
        assert "traces" not in other.config or not other.config["traces"]


class TestInterruptions:
    @pytest.fixture
    def traces(self, tmp_path):
        labels = np.array([0, 1, 1, 0, 1])
        opened = SimpleNamespace(
            queried=np.array([0, 2, 4]),
            population=Population(
                np.arange(100, 105), labels, labels, None, (), ("a", "b"), None, None, ""
            ),
            task=SimpleNamespace(name="t.py"),
            experiment=SimpleNamespace(votes=None),
        )
        return lambda: Traces(opened, lambda: tmp_path, 1)

    @staticmethod
    def model(value):
        return lambda rows: {"log_odds_true": value + rows.astype(float)}

    def test_a_training_that_goes_on_has_all_epochs(self, traces):
        first = traces()
        for epoch in (1, 2, 3):
            first.record(epoch, self.model(10 * epoch))
        second = traces()  # from the checkpoint of epoch 1
        for epoch in (2, 3):
            second.record(epoch, self.model(10 * epoch))
        rows = list(traces().columns(7))
        assert [row["epoch"].tolist() for row in rows] == [[1] * 3, [2] * 3, [3] * 3]
        assert rows[2]["log_odds_true"].tolist() == [30, 32, 34]
        assert rows[0]["id"].tolist() == [100, 102, 104]

    def test_a_shorter_second_training_leaves_no_epoch_of_the_first(self, traces):
        for epoch in (1, 2, 3):
            traces().record(epoch, self.model(0))
        traces().record(1, self.model(5))
        assert len(list(traces().columns(0))) == 1

    @pytest.mark.parametrize("damage", ["gone", "cut short", "text"])
    def test_what_is_lost_makes_the_trial_begin_anew(self, traces, tmp_path, damage):
        for epoch in (1, 2, 3):
            traces().record(epoch, self.model(0))
        (tmp_path / "checkpoint").write_text("of epoch 3")
        path = tmp_path / "confsim-traces" / "2.npy"
        content = {"cut short": path.read_bytes()[:-5], "text": b"nothing"}
        path.unlink() if damage == "gone" else path.write_bytes(content[damage])
        with pytest.raises(TaskError, match=r"trace of epoch 2 is missing: .* before it saves"):
            traces().record(4, self.model(0)) if damage == "gone" else traces().columns(0)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("epoch", [0, -1, 1.5, "one", None, 40_000])
    def test_epochs_are_counted_from_one(self, traces, epoch):
        with pytest.raises(TaskError, match="epoch must be a whole number from 1 to 32767"):
            traces().record(epoch, self.model(0))

    def test_a_statistic_has_no_traces(self, traces):
        with pytest.raises(TaskError, match="gives a statistic"):
            traces().record(1, lambda rows: {"statistic": rows * 1.0})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["task.py", "--check"], "never called context.trace(epoch, predict)"),
        (["--estimator", "sklearn.svm.SVC", "--data", "t.csv", "--label", "y"], "has one fit"),
    ],
)
def test_what_keeps_none_is_refused(arguments, words, tmp_path, capsys, monkeypatch):
    from confsim.cli.shadow import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.py").write_text(TASK.replace("context.trace(", "print("))
    (tmp_path / "t.csv").write_text("a,y\n" + "1,0\n2,1\n" * 20)
    assert main([*arguments, "--traces", "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
