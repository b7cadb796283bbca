"""A directive that lists the columns of a table with their meanings: ``{columns} attacks``."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from confsim.report.meanings import MADE


class Columns(SphinxDirective):
    """``columns``: one row for each column of a table of the folder ``tables``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a table."""
        group = nodes.tgroup(cols=2)
        group += [nodes.colspec(colwidth=30), nodes.colspec(colwidth=70)]
        group += nodes.thead("", _row(nodes.Text("column"), nodes.Text("meaning")))
        body = nodes.tbody()
        for name, meaning in MADE[self.arguments[0]].items():
            body += _row(nodes.literal(text=name), nodes.Text(meaning.replace("{}", "that")))
        group += body
        return [nodes.table("", group)]


def _row(*cells: nodes.Node) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("columns", Columns)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
