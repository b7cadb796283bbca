"""What was run: settings, identity, versions, notes, how to cite, and the command to repeat it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from confsim._version import __version__
from confsim.report.attacks import plain
from confsim.report.material import Material, listed, plural
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


def provenance(material: Material) -> Provenance:
    """Describe a run."""
    manifest = material.run.manifest
    return Provenance(
        command=repeat_command(manifest, material),
        settings=[(key, _shown(value)) for key, value in manifest["identity"].items()],
        facts=_facts(material),
        versions=_versions(material),
        notes=[material.called(plain(note)) for note in material.notes],
        citation=(
            f"The confsim developers. confsim (version {manifest['versions']['confsim']}), "
            f"software. Run {material.run.identity_hash[:10]} of {manifest['command']}, "
            f"{plural(len(material.trials), material.unit)}, seed {manifest.get('seed')}."
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


def repeat_command(manifest: dict[str, Any], material: Material) -> str:
    """Return the command with every setting of the run named.

    Settings that were left to their default because they follow from others are left to it again.
    """
    capabilities = material.run.capabilities
    words = list(capabilities.repeat)
    if capabilities.counted:
        count = int(manifest["trials"]) - (capabilities.target >= 0)
        words += ["--trials", str(max(count, len(material.trials)))]
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


def _facts(material: Material) -> list[tuple[str, str]]:
    manifest, totals = material.run.manifest, material.headline.totals
    facts = [
        ("directory", material.run.path.name),
        ("identity", material.run.identity_hash),
        ("seed", str(manifest.get("seed"))),
        (f"{material.unit}s", f"{len(material.trials)} of {manifest['trials']}"),
    ]
    if material.missing:
        facts.append(("trials not finished", listed(material.missing)))
    facts += [(f"trial {n} left out", why) for n, why in material.damaged.items()]
    if "redraws" in totals:
        facts.append(("training sets drawn again", str(totals["redraws"])))
    if "degenerate" in totals:
        facts.append(("degenerate fits", str(totals["degenerate"])))
    if material.run.has("population.parquet"):
        facts.append((f"{material.noun}s with duplicates", f"{material.duplicates:,}"))
    return facts


def _versions(material: Material) -> list[tuple[str, str]]:
    """Return the versions that made the trials; more than one of a kind is told."""
    found: dict[str, dict[str, None]] = {}
    for trial in material.trials:
        for name, version in material.run.trial(trial).record["versions"].items():
            found.setdefault(name, {})[version] = None
    versions = [(name, ", ".join(kinds)) for name, kinds in found.items()]
    return [*versions, ("this report: confsim", __version__)]
