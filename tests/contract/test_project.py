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
    recipe = (
        (ROOT / ".ci" / "conda" / "recipe.yaml")
        .read_text()
        .replace("matplotlib-base", "matplotlib")
    )
    run = recipe.partition("  run:\n")[2].partition("\ntests:")[0].replace(" >=", ">=")
    assert wanted <= set(re.findall(r"[\w-]+>=[\d.]+", run))
