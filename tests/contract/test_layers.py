"""Packages import downwards only, in the order that CONTRIBUTING.md gives."""

import ast
import re
from pathlib import Path

import pytest

import confsim

PACKAGE = Path(confsim.__file__).parent

#: From the ground up; what stands in one row does not import each other, but for the helpers.
LAYERS = (
    ("_version", "_suggest", "_environment", "_stopping", "_interpreter", "_devices"),
    ("_errors",),
    ("feather", "given_files", "parquet"),
    ("tabular",),
    ("_kernels",),
    ("_config", "seeds"),
    ("statistics",),
    ("confidence", "neighbors", "experiment", "scores", "draws", "labelled_tables"),
    ("bin_ranks", "own_groups", "point_ranks"),
    ("joint", "similarity", "benchmark_tables"),
    ("trial_tables",),
    ("store",),
    ("canary_ids",),
    ("runner",),
    ("recipes", "linear", "auditing"),
    ("deep", "shadow"),
    ("membership",),
    ("report", "exports"),
    ("plot",),
    ("cli",),
    ("__main__",),
)
HEIGHT = {name: height for height, row in enumerate(LAYERS) for name in row}


def part_of(module: str) -> str:
    """Return what stands in LAYERS of ``confsim.PART.rest``; empty for confsim itself."""
    return module.split(".")[1] if "." in module else ""


def imported(tree: ast.Module) -> set[str]:
    """Return the parts of confsim that are imported when a module is."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {part_of(name.name) for name in node.names if name.name.startswith("confsim")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("confsim"):
            names = [f"confsim.{name.name}" for name in node.names]
            found |= {
                part_of(name) for name in (names if node.module == "confsim" else [node.module])
            }
    return found - {""}


MODULES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py") if p.name[0] != ".")


@pytest.mark.parametrize("module", [m for m in MODULES if len(m.parts) > 1 or m.stem != "__init__"])
def test_imports_go_down(module):
    own = part_of(".".join(("confsim", *module.with_suffix("").parts)))
    below = imported(ast.parse((PACKAGE / module).read_text(encoding="utf-8")))
    upwards = {part for part in below - {own} if HEIGHT[part] >= HEIGHT[own]}
    assert not upwards


def test_every_part_is_explained():
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"`(\w+)/?`", text))
    parts = {part_of(".".join(("confsim", *m.with_suffix("").parts))) for m in MODULES}
    assert parts - {"__init__", "__main__", "_config"} <= explained
