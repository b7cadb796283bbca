"""Settings of a command from a file, and what was resolved as such a file.

``--config FILE.toml`` names values as flags do: ``n = 100``, ``same-class = true``. ``--config
RUN`` takes them from a run, whose manifest says how it was made. Flags override both.
Nothing here knows what a setting means: names, types and choices are the parser's.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from confsim._suggest import did_you_mean
from confsim.given_files import given_path, one_line, open_regular

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Bytes of a settings file at most.
_LONGEST = 1 << 20

#: Options that are about the command line itself.
_NO_SETTINGS = ("help", "version", "debug", "print_completion", "config", "print_config")

#: What flags call a value that stands for ``None``.
_NAMES_OF_NONE = ("all", "auto")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--config`` and ``--print-config``."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="take settings from a TOML file, one NAME = VALUE for each flag, or from a run's "
        "directory; flags override them (default: none)",
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the settings that result, as such a file, and exit",
    )


def apply(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Make the settings of the file that ``argv`` names the parser's defaults.

    Raises
    ------
    ValueError
        If the file cannot be read, or has a setting that is unknown or of a wrong kind.
    """
    found = values(parser, argv)
    given = _given(parser, argv) if found else set()
    for dest, value in found.items():
        # An option that collects values would add to those of the file.
        if dest not in given:
            parser.set_defaults(**{dest: value})
            _action(parser, dest).required = False


def values(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> dict[str, Any]:
    """Return the settings of the file that ``argv`` names, as the parser would have made them."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", nargs="?")
    named = first.parse_known_args(argv)[0].config
    if named is None:
        return {}
    path = given_path(named)
    if path.name == "manifest.json":
        path = path.parent
    return _of_a_run(parser, path) if path.is_dir() else _of_a_file(parser, path)


def _given(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> set[str]:
    """Return which settings the command line itself has."""
    defaults, parser._defaults = parser._defaults, {}
    before = [(action, action.default, action.required) for action in parser._actions]
    try:
        for action in parser._actions:
            action.default, action.required = argparse.SUPPRESS, False
        return set(vars(parser.parse_known_args(argv)[0]))
    finally:
        parser._defaults = defaults
        for action, default, required in before:
            action.default, action.required = default, required


def _of_a_run(parser: argparse.ArgumentParser, path: Path) -> dict[str, Any]:
    from confsim.store import open_run

    run = open_run(path)
    command, *words = run.capabilities.repeat
    if command != parser.prog:
        made = run.manifest["command"]
        raise ValueError(f"--config {path}: that run was made by {made}, not by {parser.prog}")
    if words[:1] == ["DATA"]:  # an audit's data are not in its run
        words = words[1:]
    if run.capabilities.counted:
        words += ["--trials", str(run.manifest["trials"])]
    dests = _given(parser, words)
    found = vars(parser.parse_known_args([*words, *_placeholders(parser, dests)])[0])
    return {dest: found[dest] for dest in dests}


def _placeholders(parser: argparse.ArgumentParser, dests: set[str]) -> list[str]:
    """Return words for positional arguments that a manifest does not hold."""
    return ["-" for a in parser._get_positional_actions() if a.required and a.dest not in dests]


def _of_a_file(parser: argparse.ArgumentParser, path: Path) -> dict[str, Any]:
    with open_regular(path) as file:
        content = file.read(_LONGEST + 1)
    if len(content) > _LONGEST:
        raise ValueError(f"{path} cannot be read: it is no settings file, being over 1 MiB")
    try:
        told = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # also for numbers of too many digits
        raise ValueError(f"{path} is not TOML: {one_line(error)}") from None
    known = {action.dest: action for action in parser._actions if action.dest not in _NO_SETTINGS}
    found: dict[str, Any] = {}
    for name, value in told.items():
        dest = name.replace("-", "_")
        if dest not in known:
            raise ValueError(
                f"{path}: {parser.prog} has no setting {name!r}{did_you_mean(dest, known)}"
            )
        if dest in found:
            raise ValueError(f"{path}: {name!r} is there twice, with - and with _")
        found[dest] = _converted(parser, known[dest], name, value, path)
    return found


def _converted(
    parser: argparse.ArgumentParser, action: argparse.Action, name: str, value: Any, path: Path
) -> Any:
    """Return a value of a file as the option makes it of a word."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ValueError(f"{path}: {name} must be true or false, not {_shown(value)}")
        return value
    many = action.nargs in ("+", "*")
    items = value if many and isinstance(value, list) else [value]
    if not items and action.default in ([], ()):
        return action.default
    if not items or any(isinstance(i, bool) or not isinstance(i, (int, float, str)) for i in items):
        what = "a list of numbers or texts" if many else "a number or a text"
        raise ValueError(f"{path}: {name} must be {what}, not {_shown(value)}")
    try:
        made = [parser._get_value(action, str(item)) for item in items]
        for item in made:
            parser._check_value(action, item)
    except argparse.ArgumentError as error:
        raise ValueError(f"{path}: {name}: {one_line(Exception(error.message))}") from None
    except ValueError as error:  # a number of too many digits
        raise ValueError(f"{path}: {name}: {one_line(error)}") from None
    return made if many else made[0]


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _action(parser: argparse.ArgumentParser, dest: str) -> argparse.Action:
    return next(action for action in parser._actions if action.dest == dest)


# ---- printing ----------------------------------------------------------------------------------


def render(parser: argparse.ArgumentParser, resolved: Mapping[str, Any]) -> str:
    """Return what was resolved as a settings file; what has no value is a comment."""
    lines = [f"# {parser.prog}: settings for --config"]
    for action in parser._actions:
        if action.dest in _NO_SETTINGS or action.dest not in resolved:
            continue
        value = resolved[action.dest]
        word = _word_for_none(action) if value is None else None
        name = action.dest.replace("_", "-")
        if value is None and word is None:
            lines.append(f"# {name} =")
        else:
            lines.append(f"{name} = {_toml(word if value is None else value)}")
    return "\n".join(lines)


def _word_for_none(action: argparse.Action) -> str | None:
    """Return the word that an option takes for ``None``, if it has one."""
    if not callable(action.type):
        return None
    for word in _NAMES_OF_NONE:
        try:
            if action.type(word) is None:
                return word
        except (ValueError, TypeError, argparse.ArgumentTypeError):
            continue
    return None


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    text = str(value)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{text!a} cannot be written to a settings file: it is not UTF-8")
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in quoted)
