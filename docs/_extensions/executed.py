"""A directive for programs and commands that run while the documentation is built.

::

    ```{run} sh
    :show:
    confsim-linear --n 20 --trials 4 --out runs/small
    ```

Blocks of a page run in order, in one folder; one that fails ends the build with what it printed.
``:show:`` puts its output below it, ``:figure: PATH`` a picture that it left, ``:hide:`` hides it.
The commands of confsim are those of the environment that builds.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from confsim.cli.program import COMMANDS

#: Seconds that a block may take.
LIMIT = 900


class Run(SphinxDirective):
    """``run``: show a block, run it, and show what came of it."""

    has_content = True
    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        "show": directives.flag,
        "hide": directives.flag,
        "figure": directives.unchanged,
        "alt": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """Return the nodes of the block, its output and its picture."""
        language = self.arguments[0]
        text = "\n".join(self.content) + "\n"
        printed = self._execute(language, text)
        shown: list[nodes.Node] = []
        if "hide" not in self.options:
            shown.append(nodes.literal_block(text.rstrip(), text.rstrip(), language=language))
        if "show" in self.options:
            shown.append(nodes.literal_block(printed, printed, language="none", classes=["output"]))
        if "figure" in self.options:
            shown.append(self._picture())
        return shown

    def _folder(self) -> Path:
        root = Path(self.env.app.doctreedir) / "executed" / self.env.docname
        if self.env.temp_data.get("executed") != self.env.docname:
            shutil.rmtree(root, ignore_errors=True)
            self.env.temp_data["executed"] = self.env.docname
        root.mkdir(parents=True, exist_ok=True)
        return root

    def _execute(self, language: str, text: str) -> str:
        command = {"sh": ["bash", "-euo", "pipefail", "-c", text]}.get(language)
        with tempfile.NamedTemporaryFile("w", suffix=".py") as program:
            if command is None:
                program.write(text)
                program.flush()
                command = [sys.executable, program.name]
            found = subprocess.run(
                command,
                cwd=self._folder(),
                env=environment(self.env.app.doctreedir),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=LIMIT,
                check=False,
            )
        if found.returncode:
            raise self.error(f"exit code {found.returncode}:\n{text}\n{found.stderr[-3000:]}")
        return found.stdout.strip("\n")

    def _picture(self) -> nodes.Node:
        made = self._folder() / self.options["figure"]
        if not made.is_file():
            raise self.error(f"{self.options['figure']} was not made")
        name = f"_generated/{self.env.docname.replace('/', '-')}-{made.name}"
        kept = Path(self.env.srcdir) / name
        kept.parent.mkdir(exist_ok=True)
        shutil.copyfile(made, kept)
        return nodes.image(uri=f"/{name}", alt=self.options.get("alt", ""))


def commands_folder(doctrees: Path) -> Path:
    """Return the folder with the commands of the environment that builds."""
    return Path(doctrees) / "executed-bin"


def write_commands(app: Sphinx) -> None:
    """Write the commands that blocks call: once, before pages are read side by side."""
    folder = commands_folder(app.doctreedir)
    folder.mkdir(parents=True, exist_ok=True)
    for name in COMMANDS:
        code = f"import sys; from confsim.cli import start; sys.exit(start('{name}'))"
        program = folder / f"confsim-{name}"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
        program.chmod(0o755)


def environment(doctrees: Path) -> dict[str, str]:
    """Return the variables that blocks see: the commands of this environment come first."""
    places = [commands_folder(doctrees), Path(sys.executable).parent, os.environ["PATH"]]
    path = os.pathsep.join(map(str, places))
    return {**os.environ, "PATH": path, "COLUMNS": "100", "TF_CPP_MIN_LOG_LEVEL": "3"}


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("run", Run)
    app.connect("builder-inited", write_commands)
    # A page has a folder of its own, so pages may be read side by side.
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
