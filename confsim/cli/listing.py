"""``confsim-status FOLDER``: the runs in a folder, each in a few lines. It only reads."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confsim._errors import ConfsimError
from confsim.store import artifacts, layout, open_run

#: Columns of a terminal that is not there, and the most that are used.
_WIDTH = 80

#: Letters of a setting's value.
_VALUE = 16


@dataclass(frozen=True)
class Listed:
    """A run in a list.

    Attributes
    ----------
    path : Path
    command : str
    done, trials : int
        Finished trials, by their directories' names, and those wanted.
    created : str
        Date and time of its manifest.
    settings : dict
        Its identity.
    headline : str
        The first sentence of its report, empty while there is none.
    problem : str
        What is wrong with its manifest, empty if nothing: then nothing else is known.
    """

    path: Path
    command: str = ""
    done: int = 0
    trials: int = 0
    created: str = ""
    settings: dict[str, Any] | None = None
    headline: str = ""
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "run": str(self.path),
            "command": self.command,
            "done": self.done,
            "trials": self.trials,
            "created": self.created,
            "settings": self.settings,
            "headline": self.headline,
            "problem": self.problem,
        }


def runs_in(folder: Path, *, limit: int | None = None) -> list[Listed]:
    """Return the runs that lie in a folder, by name; empty if it is a run or holds none."""
    if _is_run(folder) or not folder.is_dir():
        return []
    found = sorted(path for path in folder.iterdir() if path.is_dir() and _is_run(path))
    return [_listed(path, limit) for path in found]


def _is_run(folder: Path) -> bool:
    return (folder / layout.MANIFEST).exists() or layout.has_copy(folder)


def _listed(path: Path, limit: int | None) -> Listed:
    try:
        run = open_run(path, limit=limit)
        wanted = int(run.manifest["trials"])
        done = sum(number < wanted for number in run.trials) + (run.target is not None)
    except (ConfsimError, ValueError, KeyError, TypeError) as error:
        return Listed(path, problem=str(error))
    record = artifacts.read_record(path / "report.json") or {}
    headline = record.get("headline")
    return Listed(
        path,
        str(run.manifest["command"]),
        done,
        wanted,
        str(run.manifest.get("created", "")),
        dict(run.manifest["identity"]),
        headline if isinstance(headline, str) else "",
    )


def render(found: Sequence[Listed], width: int | None = None) -> str:
    """Write the list for people, in the width of the terminal."""
    room = width or max(40, shutil.get_terminal_size((_WIDTH, 24)).columns)
    names = min(max(len(run.path.name) for run in found), max(12, room - 48))
    lines = []
    for run in found:
        name = _short(run.path.name, names).ljust(names)
        if run.problem:
            lines += [_short(f"{name}  damaged: {run.problem}", room)]
            continue
        state = f"{run.done}/{run.trials}".rjust(9)
        first = f"{name}  {state}  {run.created[:10]:10}  {run.command}"
        lines += [_short(first, room)]
        told = filter(None, (_differing(run, found), run.headline))
        lines += [_short(f"    {text}", room) for text in told]
    return "\n".join(lines)


def _differing(run: Listed, all_runs: Sequence[Listed]) -> str:
    """Return the settings of a run that others of its command have otherwise."""
    others = [r.settings for r in all_runs if r.command == run.command and r.settings is not None]
    assert run.settings is not None
    keys = [k for k, v in run.settings.items() if any(o.get(k) != v for o in others)]
    keys = [k for k in keys if not k.endswith("sha256")] or keys
    return ", ".join(f"{key} {_short(str(run.settings[key]), _VALUE)}" for key in keys[:4])


def _short(text: str, room: int) -> str:
    """Cut a text; what a terminal would take for a command is shown as it is written."""
    plain = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return plain if len(plain) <= room else plain[: room - 1] + "…"
