"""The project's own files: one version everywhere, workflows that call scripts that there are."""

import re
import subprocess
from pathlib import Path

import pytest

import confsim

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("run", "docs", "pythons", "wheels", "common.sh")

if not (ROOT / ".ci" / "run").exists():
    pytest.skip("not in a clone", allow_module_level=True)


def yaml_files():
    return [
        *(ROOT / ".github").rglob("*.yml"),
        ROOT / "CITATION.cff",
        ROOT / ".ci" / "conda" / "recipe.yaml",
        ROOT / ".pre-commit-config.yaml",
    ]


@pytest.mark.parametrize("path", yaml_files(), ids=lambda path: path.name)
def test_it_is_yaml(path):
    yaml = pytest.importorskip("yaml")
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def test_workflows_run_scripts_that_there_are():
    text = "".join(p.read_text() for p in (ROOT / ".github" / "workflows").glob("*.yml"))
    called = set(re.findall(r"bash (\.ci/\w+)", text))
    assert {".ci/run", ".ci/docs", ".ci/pythons", ".ci/wheels"} == called
    assert all((ROOT / path).is_file() for path in called)


def test_the_gate_keeps_its_path():
    """``sudo --preserve-env=PATH`` does not: the system's own setting comes first."""
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    for command in re.findall(r"run: (sudo .*)", text):
        assert command.startswith('sudo env "PATH=$PATH" ')


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_shell(name):
    subprocess.run(["bash", "-n", ROOT / ".ci" / name], check=True)


def test_every_file_says_the_same_version():
    version = confsim.__version__
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(rf"^version: {re.escape(version)}$", citation, re.MULTILINE)
    recipe = (ROOT / ".ci" / "conda" / "recipe.yaml").read_text()
    assert f'version: "{version}"' in recipe
    assert re.search(
        rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert "version" in re.search(r"^dynamic = .*$", pyproject(), re.MULTILINE)[0]


def pyproject():
    return (ROOT / "pyproject.toml").read_text()


def test_the_conda_recipe_has_the_dependencies_of_the_package():
    block = re.search(r"^dependencies = \[\n(.*?)^\]", pyproject(), re.MULTILINE | re.DOTALL)[1]
    wanted = set(re.findall(r'^    "([\w-]+>=[\d.]+)', block, re.MULTILINE))
    python = re.search(r'^requires-python = "(.*)"$', pyproject(), re.MULTILINE)[1]
    build = re.search(r"^requires = \[(.*)\]$", pyproject(), re.MULTILINE)[1]
    recipe = (
        (ROOT / ".ci" / "conda" / "recipe.yaml")
        .read_text()
        .replace("matplotlib-base", "matplotlib")
    )
    host, _, run = recipe.replace(" >=", ">=").partition("  host:\n")[2].partition("  run:\n")
    found = set(re.findall(r"[\w-]+>=[\d.]+", run.partition("\ntests:")[0]))
    assert found == wanted | {f"python{python}"}
    assert set(re.findall(r"[\w-]+>=[\d.]+", host)) == set(re.findall(r'"(.*?)"', build))


def test_the_conda_recipe_has_the_commands_of_the_package():
    block = re.search(r"^\[project\.scripts\]\n(.*?)\n\n", pyproject(), re.MULTILINE | re.DOTALL)[1]
    wanted = set(block.replace('"', "").splitlines())
    recipe = (ROOT / ".ci" / "conda" / "recipe.yaml").read_text()
    assert set(re.findall(r"^ +- (confsim\S* = \S+)$", recipe, re.MULTILINE)) == wanted
    assert len(wanted) == 7


def test_every_python_that_is_promised_is_tested_and_gets_a_wheel():
    promised = re.findall(r"Python :: (3\.\d+)", pyproject())
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    tested = re.search(r"^ +python: \[(.*)\]$", workflow, re.MULTILINE)[1]
    wheels = re.search(r'^build = "(.*)"$', pyproject(), re.MULTILINE)[1]
    assert promised[0] == "3.10"
    assert f'requires-python = ">={promised[0]}"' in pyproject()
    for python in promised:
        assert f'"{python}"' in tested
        assert f"cp{python.replace('.', '')}-*" in wheels.split()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"Python {promised[0]} to {promised[-1]}" in readme
