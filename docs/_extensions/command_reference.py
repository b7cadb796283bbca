"""A directive that documents a command from its argument parser: ``{command} linear``."""

import argparse
import importlib
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Command(SphinxDirective):
    """``command``: description, then one definition list for each group of options."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a section."""
        parser = importlib.import_module(f"confsim.cli.{self.arguments[0]}").build_parser()
        section = nodes.section(ids=[nodes.make_id(parser.prog)], names=[parser.prog])
        section += nodes.title(parser.prog, parser.prog)
        standard = self.env.domains["std"]
        place = (self.env.docname, section["ids"][0])
        standard.anonlabels[place[1]] = place
        standard.labels[place[1]] = (*place, parser.prog)
        section += described(parser.description or "")
        for group in parser._action_groups:
            actions = [a for a in group._group_actions if a.help is not argparse.SUPPRESS]
            if actions:
                section += nodes.rubric(group.title or "", group.title or "")
                section += self.options_of(parser, actions)
        if parser.epilog:
            section += described(parser.epilog)
        return [section]

    def options_of(
        self, parser: argparse.ArgumentParser, actions: list[argparse.Action]
    ) -> nodes.definition_list:
        """Return options, each with its values and its help."""
        formatter = argparse.HelpFormatter(parser.prog)
        listed = nodes.definition_list(classes=["options"])
        for action in actions:
            term = nodes.term()
            flags = action.option_strings or [action.metavar or action.dest]
            value = ""
            if action.option_strings and action.nargs != 0:
                value = formatter._format_args(action, action.dest.upper())
            for number, flag in enumerate(flags):
                term += nodes.Text(", " if number else "")
                term += nodes.literal(text=f"{flag} {value}".strip())
            text = formatter._expand_help(action) if action.help else ""
            definition = nodes.definition("", nodes.paragraph("", text))
            anchor = nodes.make_id(f"{parser.prog}-{flags[0]}")
            listed += nodes.definition_list_item("", term, definition, ids=[anchor])
        return listed


def described(text: str) -> list[nodes.Node]:
    """Return a parser's description: paragraphs as such, what is indented or aligned as it is."""
    found: list[nodes.Node] = []
    for part in re.split(r"\n\s*\n", text.strip("\n")):
        if re.search(r"^ ", part, re.MULTILINE):
            found.append(nodes.literal_block(part, part, language="none"))
        else:
            found.append(nodes.paragraph("", " ".join(part.split())))
    return found


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("command", Command)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
