"""``report.html``: one file that needs nothing else, made from a template.

Everything that comes from data is escaped by the template; only the figures' SVG, which this
package drew, and the explorer's JSON, whose angle brackets are escaped, are put in as they are. The
page's policy lets nothing run or be styled but its own script and style sheet, named by their
hashes, and nothing be loaded.
"""

import base64
import hashlib
import re
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from confsim.report.canvas import FigureText
from confsim.report.explorer import Explorer
from confsim.report.first import FirstScreen
from confsim.report.provenance import Provenance
from confsim.report.sentences import Sentences
from confsim.report.table import Column, Table


@dataclass(frozen=True)
class RenderedFigure:
    """A figure of the page.

    Attributes
    ----------
    name, title : str
    text : FigureText
    wide, narrow : str
        SVG.
    """

    name: str
    title: str
    text: FigureText
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
    first : FirstScreen
    roc : RenderedFigure, optional
        Small ROC curve of the best attack.
    sentences : Sentences
    similarity : list of str
        Sentences on vulnerability and distance.
    provenance : Provenance
    incomplete : str
        Which trials are left out, empty if none.
    """

    key: str
    title: str
    first: FirstScreen
    roc: RenderedFigure | None
    sentences: Sentences
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
    figures : list of RenderedFigure
    skipped : list of (str, str)
        Titles of figures that could not be drawn, and why.
    tables : list of Table
    unit : str
        What a trial is called.
    distances : bool
        Whether a distance to the training set is known.
    explorer : Explorer, optional
    trial_columns : list of Column
        Of the table of all trials, which is a file beside the page.
    common : Provenance, optional
        What all of several runs share; each section then holds what differs.
    files : list of str
        What was written beside the page.
    """

    title: str
    subtitle: str
    sections: list[Section]
    figures: list[RenderedFigure]
    skipped: list[tuple[str, str]]
    tables: list[Table]
    unit: str
    distances: bool
    explorer: Explorer | None = None
    trial_columns: list[Column] = field(default_factory=list)
    common: Provenance | None = None
    files: list[str] = field(default_factory=list)

    @property
    def stems(self) -> dict[str, list[str]]:
        """Names of the files without their kinds, each with its kinds."""
        found: dict[str, list[str]] = {}
        for name in self.files:
            stem, _, kind = name.rpartition(".")
            found.setdefault(stem, []).append(kind)
        return found


def render(page: Page) -> str:
    """Return the page's HTML."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    room = files("confsim.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["signs"] = signs
    template = environment.from_string((room / "page.html.j2").read_text(encoding="utf-8"))
    style, script = ((room / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    context: dict[str, Any] = {
        "page": page,
        "style": Markup(style),
        "script": Markup(script),
        "policy": _policy(style, script),
        "svg": Markup,
        "size": _SIZE,
    }
    text = str(template.render(context))
    size = len(text.encode(errors="backslashreplace")) / 1e6
    return text.replace(_SIZE, f"{size:.2f} MB", 1)


def signs(text: str) -> str:
    r"""Return a text with a minus sign before negative numbers, which in tables is a hyphen.

    Examples
    --------
    >>> from confsim.report.page import signs
    >>> ascii(signs("-0.1 [-0.2, 3e-06] at 95-98%"))
    "'\\u22120.1 [\\u22120.2, 3e-06] at 95-98%'"
    """
    return re.sub(r"(?<![\w.)-])-(?=\d)", "\u2212", text)


#: Stands for the page's size until that is known.
_SIZE = "(its size)"


def _policy(style: str, script: str) -> str:
    """Return the content security policy."""

    def source(text: str) -> str:
        digest = hashlib.sha256(text.encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"

    return (
        f"default-src 'none'; script-src {source(script)}; style-src {source(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
