"""What the theme leaves out for people who do not see pages or use no mouse.

Captions of the navigation have no level, which is an error; the two side bars have no names; and
code and tables wider than their box cannot be scrolled with keys.
"""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

#: What is written into each page: a pattern, and what takes its place.
WRITTEN = (
    (r'role="heading">', 'role="heading" aria-level="2">'),
    (r'<aside class="sidebar-drawer">', '<aside class="sidebar-drawer" aria-label="All pages">'),
    (r'<aside class="(toc-drawer[^"]*)">', r'<aside class="\1" aria-label="This page">'),
    (r"<pre>", '<pre tabindex="0">'),
    (r'<div class="(table-wrapper[^"]*)">', r'<div class="\1" tabindex="0">'),
)


def write_into_pages(app: Sphinx, exception: Exception | None) -> None:
    """Write it into every page; a page that has it stays as it is."""
    if exception is not None or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        before = after = path.read_text(encoding="utf-8")
        for pattern, written in WRITTEN:
            after = re.sub(pattern, written, after)
        if after != before:
            path.write_text(after, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Wait for the pages."""
    app.connect("build-finished", write_into_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
