"""What was run: settings, identity, versions, notes, how to cite, and the command to repeat it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from confsim._version import __version__
from confsim.report.attacks import plain
from confsim.report.context import ReportContext, listed, plural
from confsim.store.capabilities import word

_Entry = TypeVar("_Entry")


@dataclass(frozen=True)
class Provenance:
    """What was run.

    Attributes
    ----------
    command : str
        The command that repeats the run.
    settings, facts, versions : list of (str, str)
    notes : list of str
    citation : str
    """

    command: str
    settings: list[tuple[str, str]]
    facts: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    notes: list[str]
    citation: str


def provenance(context: ReportContext) -> Provenance:
    """Describe a run."""
    manifest = context.run.manifest
    return Provenance(
        command=repeat_command(manifest, context),
        settings=[(key, _shown(value)) for key, value in manifest["identity"].items()],
        facts=_facts(context),
        versions=_versions(context),
        notes=[context.called(plain(note)) for note in context.notes],
        citation=(
            f"The confsim developers. confsim (version {manifest['versions']['confsim']}), "
            f"software. Run {context.run.identity_hash[:10]} of {manifest['command']}, "
            f"{plural(len(context.trials), context.unit)}, seed {manifest.get('seed')}."
        ),
    )


def split(found: Sequence[Provenance]) -> tuple[Provenance, list[Provenance]]:
    """Return what all runs share, and the runs with only what differs.

    The former is no run: it has no command, no facts and no citation.
    """
    settings, versions, notes = (
        _shared([getattr(p, part) for p in found]) for part in ("settings", "versions", "notes")
    )
    own = [
        replace(
            p,
            settings=[s for s in p.settings if s not in settings],
            versions=[v for v in p.versions if v not in versions],
            notes=[n for n in p.notes if n not in notes],
        )
        for p in found
    ]
    return Provenance("", settings, [], versions, notes, ""), own


def _shared(found: Sequence[list[_Entry]]) -> list[_Entry]:
    first, *others = found
    return [entry for entry in first if all(entry in other for other in others)]


def repeat_command(manifest: dict[str, Any], context: ReportContext) -> str:
    """Return the command with every setting of the run named.

    Settings that were left to their default because they follow from others are left to it again.
    """
    capabilities = context.run.capabilities
    words = list(capabilities.repeat)
    if capabilities.counted:
        count = int(manifest["trials"]) - (capabilities.target >= 0)
        words += ["--trials", str(max(count, len(context.trials)))]
    return shlex.join(words)


def _shown(value: Any) -> str:
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return word(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value) or "none"
    return str(value)


def _facts(context: ReportContext) -> list[tuple[str, str]]:
    manifest, totals = context.run.manifest, context.headline.totals
    facts = [
        ("directory", context.run.path.name),
        ("identity", context.run.identity_hash),
        ("seed", str(manifest.get("seed"))),
        (f"{context.unit}s", f"{len(context.trials)} of {manifest['trials']}"),
    ]
    if context.missing:
        facts.append(("trials not finished", listed(context.missing)))
    facts += [(f"trial {n} left out", why) for n, why in context.damaged.items()]
    if "redraws" in totals:
        facts.append(("training sets drawn again", str(totals["redraws"])))
    if "degenerate" in totals:
        facts.append(("degenerate fits", str(totals["degenerate"])))
    if context.run.has("population.parquet"):
        facts.append((f"{context.noun}s with duplicates", f"{context.duplicates:,}"))
    return facts


def _versions(context: ReportContext) -> list[tuple[str, str]]:
    """Return the versions that made the trials; more than one of a kind is told."""
    found: dict[str, dict[str, None]] = {}
    for trial in context.trials:
        for name, version in context.run.trial(trial).record["versions"].items():
            found.setdefault(name, {})[version] = None
    versions = [(name, ", ".join(kinds)) for name, kinds in found.items()]
    return [*versions, ("this report: confsim", __version__)]
