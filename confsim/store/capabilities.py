"""What a run's trials hold and how they belong together: stated in the manifest, never guessed.

Membership and the report ask these, and not which command made a run. Manifests of versions that
did not state them are read here, and nowhere else, by the name of their command.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Capabilities:
    """What can be made of a run.

    Attributes
    ----------
    examples : bool
        Whether each trial has a row for every example of one population: a matrix of trials and
        examples, from which attacks learn.
    lattice : bool
        Whether the scores of all queries can be computed again, from a lattice and the model.
    confidences : tuple of str
        Columns of confidence in the extremes.
    ranking : str
        The quantity that confidence is ranked by.
    design : str, optional
        How training sets were drawn.
    partners : bool
        Whether trials 2k and 2k + 1 were trained on complements.
    target : int
        Number of the trial that holds a model of the user's own, which is attacked and is no
        shadow model; -1: none.
    trimming : bool
        Whether shadow models are to be trimmed to equally many in and out for each example.
    repeat : tuple of str
        The command that repeats the run, without the number of trials.
    counted : bool
        Whether ``--trials`` is an option of that command.
    folders : tuple of (str, str)
        Folder and column of confidence of each CSV export; an empty folder is the run itself.
    """

    examples: bool = False
    lattice: bool = False
    confidences: tuple[str, ...] = ()
    ranking: str = ""
    design: str | None = None
    partners: bool = False
    target: int = -1
    trimming: bool = False
    repeat: tuple[str, ...] = ()
    counted: bool = True
    folders: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "Capabilities":
        """Return what a manifest states, else what its command was known to make.

        Raises
        ------
        ValueError
            If it states something that no version could.
        """
        stated = manifest.get("capabilities", {})
        known = {field.name: field.default for field in fields(cls)}
        if not isinstance(stated, dict):
            raise ValueError(f"the manifest states capabilities {stated!r}, which are none")
        values = {**known, **_before(manifest)}
        values |= {key: _tuples(value) for key, value in stated.items() if key in known}
        for key, default in known.items():
            if not isinstance(values[key], str | None if default is None else type(default)):
                raise ValueError(f"the manifest states {key} {values[key]!r}")
        texts = (values["confidences"], values["repeat"], *values["folders"])
        pairs = all(isinstance(pair, tuple) and len(pair) == 2 for pair in values["folders"])
        if not pairs or not all(isinstance(text, str) for part in texts for text in part):
            raise ValueError("the manifest states capabilities that are no texts")
        if any(name not in _FOLDERS for name, _ in values["folders"]):
            raise ValueError("the manifest states folders of exports that no version writes")
        return cls(**values)


#: Folders that exports may be written to.
_FOLDERS = ("", "distance_conf", "sigmoid_conf")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def repeat_words(
    command: str,
    configuration: Mapping[str, Any],
    *,
    named: Mapping[str, str] | None = None,
    without: Collection[str] = (),
) -> list[str]:
    """Return a command with every setting named.

    Parameters
    ----------
    command : str
    configuration : mapping
        Settings by name.
    named : mapping, optional
        What ``None`` is called on the command line. Other settings that are ``None`` follow from
        the rest and are left to their default again.
    without : collection of str
        Settings that are no options.

    Examples
    --------
    >>> from confsim.store.capabilities import repeat_words
    >>> repeat_words("confsim-x", {"n": 2.0, "same_class": True, "w": [1, -1], "seed": None})
    ['confsim-x', '--n', '2', '--same-class', '--w', '1', '-1']
    """
    words = [command]
    for key, value in configuration.items():
        flag = "--" + key.replace("_", "-")
        if key in without:
            continue
        if value is None and key in (named or {}):
            words += [flag, (named or {})[key]]
        elif isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, (list, tuple)):
            words += [flag, *(word(item) for item in value)]
        elif value is not None:
            words += [flag, word(value)]
    return words


def word(value: Any) -> str:
    """Return a setting as people write it: ``2`` for 2.0."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


#: Settings of an audit that follow from its data.
OF_THE_DATA = ("data_sha256", "models", "examples", "ranked_by", "model_names", "notes")


def _before(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the commands of versions without capabilities were known to make."""
    command, settings = manifest["command"], manifest["configuration"]
    if command == "confsim-linear":
        free = ("norm", "C") if settings.get("objective", "slack") == "slack" else ()
        words = repeat_words(command, settings, named={"queries": "all"}, without=free)
        return {
            "lattice": True,
            "confidences": ("boundary", "sigmoid"),
            "ranking": "boundary",
            "repeat": tuple(words),
            "folders": (("distance_conf", "boundary"), ("sigmoid_conf", "sigmoid")),
        }
    if command not in ("confsim-deep", "confsim-audit"):
        return {"repeat": tuple(repeat_words(command, settings))}
    design = settings.get("design")
    found: dict[str, Any] = {
        "examples": True,
        "confidences": ("softmax",),
        "ranking": "log_odds_max",
        "design": design if isinstance(design, str) else None,
        "partners": design == "balanced",
        "repeat": tuple(repeat_words(command, settings)),
    }
    if command == "confsim-deep":
        return {**found, "folders": (("", "softmax"),)}
    ranking = settings.get("ranked_by", "log_odds_max")
    words = repeat_words(command, settings, without=OF_THE_DATA)
    return {
        **found,
        "ranking": ranking if isinstance(ranking, str) else "log_odds_max",
        "trimming": design not in ("balanced", "independent"),
        "repeat": (command, "DATA", *words[1:]),
        "counted": False,
    }
