"""How a run shows itself in a notebook: what it is, how far it is, and what can be asked of it.

Only its manifest and the names of its trials are read. Texts are escaped: runs may be anybody's.
"""

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from confsim.store.reader import Run

#: Characters of a setting that are shown.
_LONGEST = 80


def run_html(run: "Run") -> str:
    """Return a run as a small table of HTML."""
    manifest = run.manifest
    finished, wanted = len(run.trials), int(manifest["trials"])
    rows = [
        ("made by", f"{manifest['command']}, confsim {manifest['versions']['confsim']}"),
        ("created", manifest["created"]),
        ("trials", f"{finished} of {wanted} finished"),
        *((name, _shown(value)) for name, value in run.config.items() if value is not None),
    ]
    cells = "".join(
        f"<tr><th style='text-align: left'>{escape(str(name))}</th>"
        f"<td style='text-align: left'>{escape(str(value))}</td></tr>"
        for name, value in rows
    )
    tables = ["summary()", "extremes()", *(["examples()"] if run.capabilities.examples else [])]
    return (
        f"<details open><summary><b>Run</b> <code>{escape(str(run.path))}</code></summary>"
        f"<table>{cells}</table>"
        f"<p>pandas: <code>{'</code>, <code>'.join(tables)}</code></p></details>"
    )


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
