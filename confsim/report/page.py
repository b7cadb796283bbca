"""``report.html``: one file that needs nothing else, made from a template.

Everything that comes from data is escaped by the template; only the figures' SVG, which this
package drew, is put in as it is.
"""

from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from confsim.report.answers import Answers
from confsim.report.canvas import Words
from confsim.report.provenance import Provenance
from confsim.report.table import Table


@dataclass(frozen=True)
class Drawn:
    """A figure of the page.

    Attributes
    ----------
    name, title : str
    words : Words
    wide, narrow : str
        SVG.
    """

    name: str
    title: str
    words: Words
    wide: str
    narrow: str


@dataclass(frozen=True)
class Section:
    """What the page says about one run.

    Attributes
    ----------
    key : str
        Of its anchors.
    title : str
    answers : Answers
    similarity : list of str
        Sentences on vulnerability and distance.
    provenance : Provenance
    incomplete : str
        Which trials are left out, empty if none.
    """

    key: str
    title: str
    answers: Answers
    similarity: list[str]
    provenance: Provenance
    incomplete: str


@dataclass(frozen=True)
class Page:
    """All that the template needs.

    Attributes
    ----------
    title, subtitle : str
    sections : list of Section
        One a run.
    figures : list of Drawn
    skipped : list of (str, str)
        Titles of figures that could not be drawn, and why.
    tables : list of Table
    files : list of str
        What was written beside the page.
    """

    title: str
    subtitle: str
    sections: list[Section]
    figures: list[Drawn]
    skipped: list[tuple[str, str]]
    tables: list[Table]
    files: list[str] = field(default_factory=list)


def render(page: Page) -> str:
    """Return the page's HTML."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    room = files("confsim.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((room / "page.html.j2").read_text(encoding="utf-8"))
    style = Markup((room / "page.css").read_text(encoding="utf-8"))
    context: dict[str, Any] = {"page": page, "style": style, "svg": Markup}
    return str(template.render(context))
