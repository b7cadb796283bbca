"""Shadow models of a user's own training: members, tables, target, statistics, errors."""

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import confsim
from confsim import draws
from confsim.deep.experiment import DeepExperiment
from confsim.deep.trial import Split
from confsim.membership import membership_tables
from confsim.report.build import report
from confsim.shadow.experiment import ShadowExperiment, trial_seed
from confsim.shadow.opened import Opened
from confsim.shadow.tasks import FileSource

TASK = Path(__file__).parents[1] / "support" / "shadow_task.py"


def contents(run):
    return {
        str(path.relative_to(run.path)): path.read_bytes()
        for path in sorted((run.path / "trials").rglob("*"))
        if path.is_file() and path.name != "trial.json"
    }


def load(path=TASK):
    spec = importlib.util.spec_from_file_location(f"loaded_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shadow")
    shutil.copy(TASK, folder / "task.py")
    return folder


@pytest.fixture(scope="module")
def run(place):
    return confsim.shadow.run(
        place / "task.py",
        trials=8,
        design="balanced",
        parameters={"pull": 2.0},
        out=place / "run",
        workers=1,
    )


class TestTables:
    def test_members_are_those_of_the_draws_and_scores_those_of_the_model(self, run):
        task = load()
        task.configure(pull=2.0)
        codes = np.unique(task.LABEL, return_inverse=True)[1]
        groups = np.arange(120)
        held = draws.holdout_rows(codes, groups, 0.1, 0)
        population = np.setdiff1d(groups, np.union1d(held, []))
        assert run.trials == list(range(8))
        assert not set(run.examples([0])["id"]) & set(run.holdout([0])["id"])
        for trial in run.trials:
            examples = run.trial(trial).table("examples")
            rows = examples["id"].to_numpy()
            members = rows[examples["is_member"]]
            logits = task.fitted(members, trial_seed(0, trial))(rows)["logits"]
            expected = logits[np.arange(len(rows)), codes[rows]]
            rest = np.where(np.eye(3, dtype=bool)[codes[rows]], -np.inf, logits)
            other = np.log(np.exp(rest).sum(axis=1))
            assert np.allclose(examples["log_odds_true"], expected - other, rtol=1e-9)
        assert len(population) >= 100

    def test_pairs_are_complements(self, run):
        members = np.stack([run.trial(t).table("examples")["is_member"] for t in run.trials])
        assert (members[0::2] != members[1::2]).all()

    def test_the_fixed_space_is_kept_and_used(self, run):
        assert np.array_equal(run.features(), load().POINTS)
        assert run.trial(0).summary()["space"] == "model"
        found = membership_tables(run)
        assert "fixed_distance" in found["vulnerability"]

    def test_output_goes_to_the_log(self, run):
        logs = "".join(path.read_text() for path in (run.path / "log").glob("*.log"))
        assert "trial 3: training on" in logs

    def test_names_of_classes(self, run):
        assert set(run.population()["label_name"]) == {"cat", "dog", "emu"}


@pytest.mark.parametrize("design", ["independent", "balanced"])
def test_members_are_those_of_the_deep_pipeline(design, tmp_path):
    deep = DeepExperiment(dataset="digits", seed=3, design=design)
    data = deep.load()
    split = Split.of(deep, data)
    (tmp_path / "task.py").write_text(
        "from confsim.deep import datasets\nDATA = datasets.load('digits', seed=3)\n"
        "def population():\n    return {'label': DATA.labels, 'id': DATA.ids,"
        " 'duplicate_group': DATA.groups}\ndef train(m, s, c): pass\n"
    )
    experiment = ShadowExperiment(task="task.py", seed=3, design=design)
    opened = Opened(experiment.given(source=FileSource.of(tmp_path / "task.py")))
    assert np.array_equal(opened.held, split.holdout)
    for trial in range(4):
        labels = data.labels[split.population]
        rows = draws.member_rows(labels, 0.5, design, 3, trial)
        assert np.array_equal(opened.draw(trial), split.population[rows])


def test_auditing_what_the_models_said_gives_the_same_tables(run, place):
    task = load()
    task.configure(pull=2.0)
    rows = run.trial(0).table("examples")["id"].to_numpy()
    held = run.trial(0).table("holdout")["id"].to_numpy()
    members = [run.trial(t).table("examples")["is_member"].to_numpy() for t in run.trials]
    models = [
        task.fitted(rows[member], trial_seed(0, trial)) for trial, member in enumerate(members)
    ]
    audited = confsim.audit(
        is_member=np.stack(members),
        label=task.LABEL[rows],
        id=rows,
        logits=np.stack([model(rows)["logits"] for model in models]),
        features=np.stack([model(rows)["features"] for model in models]),
        holdout_logits=np.stack([model(held)["logits"] for model in models]),
        holdout_label=task.LABEL[held],
        design="balanced",
        out=place / "audited",
    )
    for trial in run.trials:
        ours, theirs = run.trial(trial).table("examples"), audited.trial(trial).table("examples")
        assert ours.equals(theirs)
    ours, theirs = (membership_tables(r)["attacks"] for r in (run, audited))
    ours = ours[ours["target"] != "model"].reset_index(drop=True)
    assert ours.equals(theirs)


class TestTarget:
    def test_it_is_a_trial_of_its_own_and_in_no_average(self, run):
        assert run.target == 8
        assert run.trial(8).summary()["target"] is True
        assert len(run.summary()) == 8
        held = run.trial(8).table("holdout")["id"]
        assert (held % 2 == 1).all()  # none of its members

    def test_its_rows_are_those_of_a_literal_computation(self, run):
        table = membership_tables(run)["attacks"]
        mine = table[table["target"] == "model"].set_index("attack")
        log_odds = np.stack([run.trial(t).table("examples")["log_odds_true"] for t in run.trials])
        member = np.stack([run.trial(t).table("examples")["is_member"] for t in run.trials])
        target = run.trial(8).table("examples")
        x, truth = target["log_odds_true"].to_numpy(), target["is_member"].to_numpy()
        scores = np.empty(len(x))
        for i in range(len(x)):
            inside, outside = log_odds[member[:, i], i], log_odds[~member[:, i], i]
            scores[i] = _normal(x[i], inside) - _normal(x[i], outside)
        assert mine.loc["lira_online_own_variance", "auc"] == pytest.approx(_auc(scores, truth))
        assert mine.loc["loss", "auc"] == pytest.approx(_auc(x, truth))
        assert mine.loc["loss", "auc"] > 0.55

    def test_means_are_those_without_it(self, run):
        table = membership_tables(run)["attacks"]
        loss = table[table["attack"] == "loss"].set_index("target")
        own = [loss.loc[str(trial), "auc"] for trial in range(8)]
        assert loss.loc["mean", "auc"] == pytest.approx(np.mean(own))

    def test_other_numbers_of_trials_are_another_run(self, place, run):
        with pytest.raises(ValueError, match="shadow_models is 8 there and 4 here"):
            confsim.shadow.run(
                place / "task.py", trials=4, design="balanced", parameters={"pull": 2.0},
                out=run.path,
            )  # fmt: skip


def _normal(x, values):
    spread = np.std(values) + 1e-300
    return -0.5 * ((x - np.median(values)) / spread) ** 2 - np.log(spread)


def _auc(scores, truth):
    above = scores[truth][:, None] - scores[~truth][None]
    return np.mean((above > 0) + 0.5 * (above == 0))


class Regression:
    """A task without classes, in a module that worker processes cannot import."""

    def __init__(self):
        self.source = TASK.read_text().replace("def target", "def _target")

    def _functions(self):
        space = {}
        exec(self.source, space)
        space["configure"](mode="statistic")
        return space

    def population(self):
        return {"examples": 120}

    def train(self, members, seed, context):
        return self._functions()["train"](members, seed, context)


@pytest.fixture(scope="module")
def unlabelled(place):
    return confsim.shadow.run(
        Regression(), trials=6, design="coin", out=place / "statistic", workers=1
    )


class TestStatistic:
    def test_it_has_a_column_of_its_own(self, unlabelled):
        examples = unlabelled.examples([0])
        assert np.isnan(examples["log_odds_true"]).all()
        assert not np.isnan(examples["statistic"]).any()
        assert (examples["label"] == -1).all()

    def test_attacks_learn_from_it(self, unlabelled):
        found = membership_tables(unlabelled)
        means = found["attacks"].query("target == 'mean'").set_index("attack")["auc"]
        assert means["statistic"] > 0.52
        assert means["lira_online_fixed_variance"] > 0.6
        assert means["rmia_online"] > 0.6
        assert not {"loss", "entropy", "correctness", "rmia_offline"} & set(means.index)
        assert any("rmia_offline" in note for note in found.notes)

    def test_the_report_calls_it_what_it_is(self, tmp_path):
        run = confsim.shadow.run(
            TASK, trials=4, parameters={"mode": "statistic"}, out=tmp_path / "run", workers=1
        )
        report([run.path], out=tmp_path / "page")
        page = (tmp_path / "page" / "report.html").read_text()
        figure = next((tmp_path / "page").rglob("membership.svg")).read_text()
        assert "statistic (share of examples below it)" in figure
        assert "boundary confidence" not in page + figure

    def test_coins_are_fair_and_independent(self):
        members = [draws.coin_rows(1000, None, 0, trial) for trial in range(50)]
        sizes = np.array([len(rows) for rows in members])
        assert abs(sizes.mean() - 500) < 4 * np.sqrt(250 / 50)
        assert sizes.std() > 8  # not a fixed half
        canaries = draws.canary_rows(1000, 30, 0)
        rows = draws.coin_rows(1000, canaries, 0, 3)
        assert len(np.setdiff1d(np.arange(1000), canaries)) == len(np.setdiff1d(rows, canaries))
        assert 0 < len(np.intersect1d(rows, canaries)) < 30


class TestSameBytes:
    def test_workers_interruptions_and_extension(self, place, run):
        """Two workers, in two commands: the bytes of one worker in one."""
        out = place / "again"
        command = [
            sys.executable, "-m", "confsim", "shadow", str(place / "task.py"), "--trials", "8",
            "--design", "balanced", "--set", "pull=2.0", "--out", str(out), "--quiet",
        ]  # fmt: skip
        subprocess.run([*command, "--shard", "0/2", "--workers", "1"], check=False)
        subprocess.run([*command, "--workers", "2"], check=True, stdout=subprocess.DEVNULL)
        assert contents(confsim.open_run(out)) == contents(run)


class TestIdentity:
    """The task file, and the modules of its folder that it imports, decide what is trained."""

    @pytest.fixture
    def task(self, tmp_path):
        (tmp_path / "task.py").write_text(
            "import nets, numpy, os\n\ndef train(m, s, c):\n    from parts.heads import head\n"
        )
        (tmp_path / "nets.py").write_text("import torch\nimport layers.core\n")
        (tmp_path / "layers").mkdir()
        (tmp_path / "layers" / "core.py").write_text("from . import base\n")
        (tmp_path / "layers" / "base.py").write_text("WIDTH = 1\n")
        (tmp_path / "parts").mkdir()
        (tmp_path / "parts" / "__init__.py").write_text("")
        (tmp_path / "parts" / "heads.py").write_text("from ..nets import nothing\nhead = 1\n")
        (tmp_path / "other.py").write_text("import this\n")
        return tmp_path / "task.py"

    def test_without_siblings_it_is_the_hash_of_the_file(self, tmp_path):
        (tmp_path / "task.py").write_text("import numpy\n")
        expected = hashlib.sha256(b"import numpy\n").hexdigest()
        assert FileSource.of(tmp_path / "task.py").sha256 == expected

    @pytest.mark.parametrize(
        ("name", "counts"),
        [
            ("nets.py", True),
            ("layers/core.py", True),
            ("layers/base.py", True),
            ("parts/__init__.py", True),
            ("parts/heads.py", True),
            ("other.py", False),
        ],
    )
    def test_siblings_that_are_imported_count(self, name, counts, task):
        before = FileSource.of(task)
        assert "torch" in before.imports()
        changed = task.parent / name
        changed.write_text(changed.read_text() + "# changed\n")
        assert (FileSource.of(task).sha256 != before.sha256) == counts

    def test_a_sibling_with_a_syntax_error_is_named(self, task):
        (task.parent / "nets.py").write_text("def train(:\n")
        with pytest.raises(ValueError, match=r"task nets\.py, line 1"):
            FileSource.of(task)


NOTHING = "\ndef train(m, s, c): pass"
ERRORS = {
    "no train": ("def population():\n    return {'label': [0, 1] * 9}\ndef trian(m, s, c): pass",
                 "has no function train(members, seed, context): did you mean 'trian'"),
    "a syntax error": ("def population():\n    return {\n\ndef train(:", "task.py, line "),
    "no labels": ("def population():\n    return {}\ndef train(m, s, c): pass", "gives nothing"),
    "lengths": ("def population():\n    return {'label': [0, 1] * 9, 'id': range(4)}" + NOTHING,
                "gives 18 of label and 4 of id"),
    "one class": ("def population():\n    return {'label': [1] * 9}\ndef train(m, s, c): pass",
                  "holds one class, 1"),
    "its own error": ("def population():\n    raise RuntimeError('no data')" + NOTHING,
                      "RuntimeError: no data (task.py, line 2"),
    "an exit": ("import sys\nsys.exit(3)", "it called sys.exit(3) (task.py, line 2: sys.exit(3))"),
    "other arguments": ("def population():\n    return {'label': [0, 1]}\ndef train(m, seed): pass",
                        "train(m, seed) of {} must be called as train(members, seed, context)"),
    "a module that is missing": ("import a_module_of_nobody", "No module named"),
}  # fmt: skip


class TestBadInput:
    def test_a_place_that_cannot_be_is_told_before_the_task_runs(self, tmp_path, capsys):
        from confsim.cli.shadow import main

        task = tmp_path / "task.py"
        task.write_text(TASK.read_text() + "\nraise SystemExit('it ran')\n")
        assert main([str(task), "--trials", "2", "--out", str(task / "run")]) == 2
        assert f"{task} is not a directory" in capsys.readouterr().err
        assert main([str(task), "--trials", "2", "--out", str(task)]) == 2
        assert f"{task} is not a directory" in capsys.readouterr().err

    @pytest.mark.parametrize("case", ERRORS)
    def test_a_bad_task_is_one_line_and_nothing_is_written(self, case, tmp_path, capsys):
        from confsim.cli.shadow import main

        text, message = ERRORS[case]
        (tmp_path / "task.py").write_text(text)
        out = tmp_path / "run"
        assert main([str(tmp_path / "task.py"), "--trials", "2", "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert message.format(tmp_path / "task.py") in error
        assert error.count("\n") == 1
        assert not out.exists()

    @pytest.mark.parametrize("checked", [[], ["--check"]])
    def test_classes_without_labels_are_found_before_anything_is_written(
        self, checked, tmp_path, capsys
    ):
        from confsim.cli.shadow import main

        (tmp_path / "task.py").write_text(
            "import numpy as np\ndef population():\n    return {'examples': 60}\n"
            "def train(m, s, c):\n    return lambda r: np.full((len(r), 2), .5)\n"
        )
        out = tmp_path / "run"
        assert main([str(tmp_path / "task.py"), *checked, "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert "returned probabilities, which needs the true classes" in error
        assert error.count("\n") == 1
        assert not out.exists()

    def test_a_training_that_needs_many_rows_is_not_refused(self, tmp_path):
        """Populations without labels are tried on few rows first."""
        from confsim.cli.shadow import main

        (tmp_path / "task.py").write_text(
            "import numpy as np\ndef population():\n    return {'examples': 900}\n"
            "def train(m, s, c):\n    assert len(m) > 200, 'too few'\n"
            "    return lambda r: {'statistic': r + 0.5}\n"
        )
        words = [str(tmp_path / "task.py"), "--trials", "1", "--quiet"]
        assert main([*words, "--out", str(tmp_path / "run")]) == 0

    @pytest.mark.parametrize(
        ("population", "answer", "message"),
        [
            ("'examples': 60", "(len(r), 2), .5", "returned probabilities, which needs the true"),
            ("'label': [0, 1] * 30", "(len(r), 3), 1 / 3", "returned 3 classes, but label holds 2"),
            ("'label': [0, 1] * 30", "(len(r), 2), .7", "probabilities must be at least 0 and add"),
        ],
    )
    def test_check_finds_it_before_anything_is_written(
        self, population, answer, message, tmp_path, capsys
    ):
        from confsim.cli.shadow import main

        (tmp_path / "task.py").write_text(
            f"import numpy as np\ndef population():\n    return {{{population}}}\n"
            f"def train(m, s, c):\n    return lambda r: np.full({answer})\n"
        )
        out = tmp_path / "run"
        assert main([str(tmp_path / "task.py"), "--check", "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert not out.exists()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nowhere.py"], "task nowhere.py cannot be read: No such file"),
            ([], "a task is missing"),
            ([str(TASK), "--design", "balanced", "--trials", "3"], "even number of trials, not 3"),
            ([str(TASK), "--set", "pul=3"], "no parameter pul: did you mean 'pull'?"),
            ([str(TASK), "--canaries", "5"], "canaries is for design 'coin'"),
            ([str(TASK), "--design", "coin", "--canaries", "2"], "coins of all 2 examples fall"),
            ([str(TASK), "--label", "x"], "--label is for --estimator"),
            ([str(TASK), "--unpack-limit", "1"], "--unpack-limit is for --estimator"),
            (["--estimator", "sklearn.svm.SVC", "--data", "FILE", "--label", "y", "--unpack-limit",
              "0"], "unpack_limit must be greater than 0"),
            (["--estimator", "sklearn.svm.SVC", "--data", "texas100"], "get dataset_texas.tgz"),
            (["--estimator", "sklearn.svm.SVC", "--data", "texas100", "--label", "y"],
             "--label is for tables of your own, not for texas100"),
            (["--estimator", "json.JSONDecoder", "--data", "FILE", "--label", "y"], "no fit()"),
            (["--estimator", "sklearn.svm.SVC", "--data", "FILE", "--label", "z"],
             "has no column 'z'; it has a, y"),
            (["--estimator", "sklearn.svm.linearsvc", "--data", "FILE", "--label", "y"],
             "has no linearsvc: did you mean 'LinearSVC'?"),
            (["--estimator", "sklearn.svm.SVC", "--data", "FILE", "--label", "y", "--set", "D=3"],
             "parameter D of the estimator is unknown"),
        ],
    )  # fmt: skip
    def test_bad_arguments(self, arguments, message, tmp_path, capsys):
        from confsim.cli.shadow import main

        table = tmp_path / "t.csv"
        table.write_text("a,y\n" + "1,0\n2,1\n" * 20)
        given = [str(table) if word == "FILE" else word for word in arguments]
        out = tmp_path / "run"
        assert main([*given, "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert not out.exists()


FAULTS = """
import os, sys
import numpy as np

def population():
    return {"label": np.tile([0, 1], 30)}

def train(members, seed, context):
    if context.trial == 0:
        raise RuntimeError("no convergence")
    if context.trial == 1:
        sys.exit(4)
    if context.trial == 2:
        return lambda rows: np.full((len(rows), 2), np.nan)
    if context.trial == 3:
        return lambda rows: np.full((len(rows) + 1, 2), 0.5)
    if context.trial == 4:
        return None
    if context.trial == 5:
        if os.fork() == 0:
            return lambda rows: np.zeros(0)
        os.wait()
    if context.trial == 7:
        return lambda rows: {"logits": np.random.dirichlet([1, 1], len(rows))}
    return lambda rows: np.random.random((len(rows), 1)) * 0.5 + 0.2
"""


def test_faults_of_a_trial_are_its_own(tmp_path):
    (tmp_path / "faults.py").write_text(FAULTS)
    command = [
        sys.executable, "-m", "confsim", "shadow", "faults.py", "--trials", "8", "--out", "run",
        "--workers", "1",
    ]  # fmt: skip
    found = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=500
    )
    assert found.returncode == 1, found.stderr
    for line in (
        'RuntimeError: no convergence (faults.py, line 10: raise RuntimeError("no convergence"))',
        "trial 1 failed: train() of faults.py failed: it called sys.exit(4)",
        "trial 2 failed: predict() of faults.py returned NaN or infinity: probabilities of row 0",
        "trial 3 failed: predict() of faults.py returned probabilities of shape (61, 2) for 60",
        "trial 4 failed: train() of faults.py returned nothing",
        "trial 7 failed: logits that predict() of faults.py returned are all in [0, 1] and add up",
    ):
        assert line in found.stderr
    assert confsim.open_run(tmp_path / "run").trials == [5, 6]
    assert "no convergence" in (tmp_path / "run" / "log" / "failed-000000.txt").read_text()


def test_check_says_what_it_found_and_dry_run_writes_nothing(place, tmp_path):
    command = [
        sys.executable, "-m", "confsim", "shadow", str(place / "task.py"), "--trials", "4",
        "--dry-run", "--check", "--json", "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "logits (3 classes, 4 features)" in found.stderr
    assert "gave the same numbers" in found.stderr
    told = json.loads(found.stdout)
    assert told["trials"] == 5
    assert told["seconds"] is not None
    assert not (tmp_path / "run").exists()
