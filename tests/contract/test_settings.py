"""``--config`` and ``--print-config``: settings of every command from a file or a run."""

import importlib
import shlex
import sys

import pytest

from confsim.cli import settings
from confsim.cli.program import COMMANDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: FigureText that each command cannot do without.
NEEDED = {"audit": ["x.npz"], "report": ["r1", "r2"], "status": ["r1"]}


def command(name):
    return importlib.import_module(f"confsim.cli.{name}")


def run(name, *words):
    try:
        return command(name).main([str(word) for word in words])
    except SystemExit as error:
        return error.code


def resolved(capsys, name, *words):
    """Return what ``--print-config`` prints: the text, and what is in it."""
    assert run(name, *words, "--print-config") == 0
    text = capsys.readouterr().out
    return text, tomllib.loads(text)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_printed_gives_the_same_settings_again(name, tmp_path, capsys):
    text, _ = resolved(capsys, name, *NEEDED.get(name, []))
    (tmp_path / "settings.toml").write_text(text)
    assert resolved(capsys, name, "--config", tmp_path / "settings.toml")[0] == text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("linear", "--n 7 --queries all --bias auto --weights -1 2e-3 --same-class --C 1e300"),
        ("linear", "--queries 5e3 --bias -1.5 --no-steal --out a\\ b --csv --percent 0.1"),
        ("deep", "--momentum 0.5 --no-nesterov --recipe lira-cifar10 --dataset npz:x.npz"),
        ("shadow", "task.py --set a=1 b=-2 'c=\"x y\"' --drop one two --design coin"),
        ("linear", "--out 'a\n\u202e\x7f\0\U000e0001\"\\b'"),
        ("audit", "x.npz --votes 100 --design balanced"),
        ("report", "r1 r2 --partial --no-attacks --limit 5"),
    ],
)
def test_every_kind_of_value_survives(name, words, tmp_path, capsys):
    text, _ = resolved(capsys, name, *shlex.split(words))
    (tmp_path / "settings.toml").write_text(text)
    again, _ = resolved(capsys, name, "--config", tmp_path / "settings.toml")
    assert again == text


def test_flags_override_and_lists_are_replaced(tmp_path, capsys):
    file = tmp_path / "settings.toml"
    file.write_text("n = 30\ntrials = 3\nsame-class = true\nweights = [1, 2]\n")
    found = resolved(capsys, "linear", "--config", file, "--n", "40", "--weights", "3", "4")[1]
    assert (found["n"], found["trials"], found["same-class"]) == (40, 3, True)
    assert found["weights"] == [3.0, 4.0]
    file.write_text('task = "t.py"\nset = ["a=1"]\n')
    found = resolved(capsys, "shadow", "--config", file, "--set", "b=2")[1]
    assert (found["task"], found["set"]) == ("t.py", ["b=2"])


def test_a_recipe_is_below_the_file_and_the_file_below_flags(tmp_path, capsys):
    file = tmp_path / "settings.toml"
    file.write_text('recipe = "lira-cifar10-fast"\nepochs = 7\nbatch-size = 11\n')
    plain = resolved(capsys, "deep", "--recipe", "lira-cifar10-fast")[1]
    found = resolved(capsys, "deep", "--config", file, "--batch-size", "13")[1]
    assert (found["epochs"], found["batch-size"]) == (7, 13)
    assert found["model"] == plain["model"]
    assert found["trials"] == plain["trials"]


def test_a_run_says_how_to_repeat_it(tmp_path, capsys):
    words = ["--n", "5", "--queries", "all", "--grid-size", "20", "--trials", "2", "--quiet"]
    assert run("linear", *words, "--out", tmp_path / "run") == 0
    capsys.readouterr()
    for given in (tmp_path / "run", tmp_path / "run" / "manifest.json"):
        found = resolved(capsys, "linear", "--config", given)[1]
        assert (found["n"], found["queries"], found["trials"]) == (5, "all", 2)
    assert run("linear", "--config", tmp_path / "run", "--quiet", "--out", tmp_path / "again") == 0
    assert command("status").main([str(tmp_path / "again")]) == 0
    trials = [
        (tmp_path / name / "trials" / "000001" / "extremes.parquet").read_bytes()
        for name in ("run", "again")
    ]
    assert trials[0] == trials[1]
    assert run("deep", "--config", tmp_path / "run") == 2
    assert "made by confsim-linear, not by confsim-deep" in capsys.readouterr().err


_TASK = """
import numpy as np

def configure(shift=0.0):
    global SHIFT
    SHIFT = shift

def population():
    return {"features": np.arange(40.0).reshape(20, 2)}

def train(members, seed, context):
    return lambda rows: {"statistic": np.isin(rows, members) + SHIFT + rows / 100}
"""


@pytest.mark.parametrize("given", ["run", "run/manifest.json"])
@pytest.mark.parametrize("name", ["shadow", "audit"])
def test_a_manifest_repeats_what_is_not_in_the_defaults(name, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.py").write_text(_TASK)
    rows = "".join(f"{i % 2},{i / 7}\n" for i in range(20))
    (tmp_path / "data.csv").write_text(f"is_member,loss\n{rows}")
    words, again = {
        "shadow": (["task.py", "--set", "shift=2", "--trials", "2", "--seed", "3", "--quiet"], []),
        "audit": (["data.csv", "--percent", "20"], ["data.csv"]),  # its data are not in its run
    }[name]
    assert run(name, *words, "--out", "run") == 0
    assert run(name, *again, "--config", given, "--out", "again") == 0
    made = [
        {path.name: path.read_bytes() for path in (tmp_path / out / "trials" / "000000").iterdir()}
        for out in ("run", "again")
    ]
    assert made[0].pop("trial.json") != made[1].pop("trial.json")  # it holds times
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("trails = 3", "has no setting 'trails': did you mean 'trials'?"),
        ("config = 'x'", "has no setting 'config'"),
        ("n = true", "n must be a number or a text, not true"),
        ("same-class = 1", "same-class must be true or false, not 1"),
        ("n = 'many'", "n: invalid whole number value: 'many'"),
        ("objective = 'best'", "objective: invalid choice: 'best'"),
        ("weights = []", "weights must be a list of numbers or texts, not []"),
        ("weights = [[1]]", "weights must be a list"),
        ("[linear]\nn = 3", "has no setting 'linear'"),
        ("same-class = true\nsame_class = true", "twice"),
        ("n = ", "is not TOML"),
        pytest.param(f"n = {'9' * 5000}", "settings.toml is not TOML: Exceeds", id="digits"),
        pytest.param(f"n = 0x{'f' * 5000}", "settings.toml: n: Exceeds", id="hexadecimal digits"),
        ("n = 1\nn = 2", "is not TOML"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_made(content, said, tmp_path, capsys):
    file = tmp_path / "settings.toml"
    file.write_text(content)
    assert run("linear", "--config", file, "--out", tmp_path / "run") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert str(file) in told
    assert said in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_is_not_there(name, tmp_path, capsys):
    assert run(name, *NEEDED.get(name, []), "--config", tmp_path / "none.toml") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "none.toml cannot be read: No such file" in told


@pytest.mark.parametrize("name", COMMANDS)
def test_no_setting_is_left_out_of_what_is_printed(name, capsys):
    text, _ = resolved(capsys, name, *NEEDED.get(name, []))
    parser = command(name).build_parser()
    listed = {line.removeprefix("# ").partition(" =")[0] for line in text.splitlines()[1:]}
    dests = {action.dest for action in parser._actions} - set(settings._NO_SETTINGS)
    assert listed == {dest.replace("_", "-") for dest in dests}
