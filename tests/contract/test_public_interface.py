"""The public Python interface as editors, type checkers and people who mistype see it."""

import dataclasses
import inspect
import pickle
import subprocess
import sys

import pytest

import confsim
import confsim.deep
import confsim.linear
import confsim.membership
import confsim.plot
from confsim.deep.experiment import DeepExperiment
from confsim.linear.experiment import LinearExperiment

PIPELINES = [(confsim.linear, LinearExperiment), (confsim.deep, DeepExperiment)]


def test_every_public_name_exists():
    assert sorted(confsim.__all__) == sorted(set(confsim.__all__))
    assert set(confsim._HOME_OF) | set(confsim._SUBPACKAGES) <= set(confsim.__all__)
    for name in confsim.__all__:
        assert getattr(confsim, name) is not None


def test_import_is_light():
    code = (
        "import sys, confsim, confsim.linear, confsim.deep\n"
        "heavy = {'sklearn', 'pandas', 'matplotlib', 'tensorflow', 'keras', 'scipy', 'pyarrow'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.parametrize(("module", "experiment"), PIPELINES)
def test_settings_are_those_of_the_experiment(module, experiment):
    wanted = {field.name: field.type for field in dataclasses.fields(experiment)}
    found = dict(module.Settings.__annotations__)
    if experiment is DeepExperiment:  # "auto" is settled before there is an experiment
        del found["trials_per_device"], wanted["trials_per_device"]
    assert found == wanted


@pytest.mark.parametrize(("module", "_"), PIPELINES)
def test_a_mistyped_keyword_is_named_with_what_was_meant(module, _):
    with pytest.raises(TypeError, match=r"run has no argument trails: did you mean 'trials'\?"):
        module.run(trails=3)
    with pytest.raises(TypeError, match=r"no argument same_clas: did you mean 'same_class'"):
        module.run(same_clas=True)
    with pytest.raises(TypeError, match=r"no argument zzz: it has .*seed, .*trials.*workers"):
        module.run(zzz=1)


PACKAGES = (confsim, confsim.membership, confsim.plot)


@pytest.mark.parametrize(
    "function",
    [
        getattr(package, name)
        for package in PACKAGES
        for name in package.__all__
        if inspect.isfunction(getattr(package, name)) and name != "show_config"
    ],
    ids=lambda function: f"{function.__module__}.{function.__name__}",
)
def test_every_function_says_which_keyword_was_meant(function):
    name = list(inspect.signature(function).parameters)[-1]
    words = rf"{function.__name__}\(\) has no argument '{name}_': did you mean '{name}'"
    with pytest.raises(TypeError, match=words):
        function(**{f"{name}_": 1})
    assert pickle.loads(pickle.dumps(function)) is function


USER_FILE = """
from pathlib import Path

import numpy as np

import confsim
from confsim.membership import membership_tables

run = confsim.linear.run(n=10, dimensions=3, trials=20, out=Path("x"), weights=(1.0, -1.0, 1.0))
other: confsim.Run = confsim.deep.run(dataset="digits", epochs=3, trials=4)
member = np.zeros(10, dtype=bool)
audited = confsim.audit(is_member=member, label=np.zeros(10, dtype=int), confidence=np.ones(10))
tables = membership_tables(confsim.open_run("runs/x"))
found = confsim.nearest_training(np.zeros((2, 2)), np.zeros((3, 2)), metric="angular")
print(found.distance, confsim.Lattice(dimensions=2).size, tables.answers)
model = confsim.LinearBinaryClassifier(objective="margin", C=10)
confsim.show_config()
"""


def check_types(path, text):
    path.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", path.parent / "cache", path],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_mypy_accepts_a_users_file_and_finds_its_mistakes(tmp_path):
    pytest.importorskip("mypy")
    found = check_types(tmp_path / "user.py", USER_FILE)
    assert found.returncode == 0, found.stdout
    found = check_types(tmp_path / "wrong.py", USER_FILE.replace("n=10, dim", "trails=10, dim"))
    assert 'Unexpected keyword argument "trails" for "run"' in found.stdout
    found = check_types(tmp_path / "wrong.py", USER_FILE.replace("epochs=3", "epochs='3'"))
    assert 'Argument "epochs" to "run"' in found.stdout
