"""Recipes: settings of published experiments, with the numbers that they were published with.

A recipe is a file ``NAME.toml`` beside this one: what it is and where it comes from, the settings
of ``confsim-deep``, what it costs, the published numbers, and which settings are known to differ
from the source. A recipe never changes after a release; its hash belongs to the identity of runs.
Nothing here imports a framework, and a run is only read.
"""

import hashlib
import sys
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from confsim._errors import ConfsimError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    import pandas as pd

    from confsim.store import Run

__all__ = ["Published", "Recipe", "apply", "compare", "describe", "load", "names"]

#: Settings of a recipe that say how to run, and are no attributes of an experiment.
_OF_THE_RUN = ("trials",)


@dataclass(frozen=True)
class Published:
    """A published number.

    Attributes
    ----------
    name : str
        Of what, for readers.
    attack : str
        As in the table ``attacks`` of a run; empty for numbers of the summary.
    column : str
        Of that table, or of the summary.
    value : float
        A fraction, as there.
    """

    name: str
    attack: str
    column: str
    value: float


@dataclass(frozen=True)
class Recipe:
    """What a recipe's file says.

    Attributes
    ----------
    name, title, source : str
    settings : dict
        Attributes of :class:`confsim.deep.experiment.DeepExperiment`, and ``trials``.
    data, data_source, data_flag : str
        What it is trained on, where that comes from, and the flag that says where it is.
    models, epochs : int
    gpu_minutes : float
        Of all models together, on one H100; an estimate where ``cost_note`` says so.
    cost_note : str
    published : tuple of Published
    differences : tuple of str
        Where the settings are known not to be those of the source.
    sha256 : str
        Of the file.
    """

    name: str
    title: str
    source: str
    settings: dict[str, Any]
    data: str
    data_source: str
    data_flag: str
    models: int
    epochs: int
    gpu_minutes: float
    cost_note: str
    published: tuple[Published, ...]
    differences: tuple[str, ...]
    sha256: str


def names() -> tuple[str, ...]:
    """Return the names of all recipes."""
    found = (entry.name for entry in files(__name__).iterdir())
    return tuple(sorted(name[: -len(".toml")] for name in found if name.endswith(".toml")))


def load(name: str) -> Recipe:
    """Return a recipe.

    Raises
    ------
    ValueError
        If there is none of that name; it offers the names.
    """
    if name not in names():
        raise ValueError(f"recipe must be one of {', '.join(names())}, not {name!r}")
    content = files(__name__).joinpath(f"{name}.toml").read_bytes()
    said = tomllib.loads(content.decode())
    data, cost = said["data"], said["cost"]
    return Recipe(
        name=name,
        title=said["title"],
        source=said["source"],
        settings=said["settings"],
        data=data["what"],
        data_source=data["source"],
        data_flag=data["flag"],
        models=cost["models"],
        epochs=cost["epochs"],
        gpu_minutes=cost["gpu_minutes"],
        cost_note=cost["note"],
        published=tuple(Published(**number) for number in said.get("published", ())),
        differences=tuple(said["differences"]),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def apply(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with those of the recipe that they name, if any, below them.

    Raises
    ------
    ValueError
        If there is no such recipe.
    """
    name = settings.get("recipe")
    if name is None:
        return settings
    return load(name).settings | settings


def describe() -> str:
    """Return a list of all recipes for readers."""
    lines = []
    for recipe in map(load, names()):
        lines += [f"{recipe.name:<20}{recipe.title}", f"{'':<20}{cost(recipe)}"]
        lines += [f"{'':<20}{_said(number)}" for number in recipe.published]
        lines += [f"{'':<20}data: {recipe.data}: {recipe.data_source}, {recipe.data_flag}"]
        lines += [f"{'':<20}source: {recipe.source}", ""]
    return "\n".join(lines).rstrip()


def cost(recipe: Recipe) -> str:
    """Say in one line what a recipe takes."""
    return (
        f"{recipe.models} models of {recipe.epochs} epochs, about {recipe.gpu_minutes:g} minutes "
        f"of one H100 or H200 ({recipe.cost_note})"
    )


def _said(number: Published) -> str:
    return f"published: {number.name} {number.value:.4g}"


def compare(run: "Run", attacks: "pd.DataFrame | None" = None) -> "pd.DataFrame":
    """Return the published numbers of a run's recipe beside those measured.

    Parameters
    ----------
    run : Run
        Made with a recipe, with at least two finished trials.
    attacks : DataFrame, optional
        Its membership table of that name; by default read, or made where it is missing.

    Returns
    -------
    DataFrame
        ``name``, ``published``, ``measured``, ``low`` and ``high`` (the measured number's 95%
        interval over trials; NaN where there is none). Its
        ``attrs["differences"]`` are sentences: where the recipe differs from its source, and the
        run from the recipe.

    Raises
    ------
    ValueError
        If the run was made without a recipe.
    ConfsimError
        If the recipe has changed since.
    """
    import pandas as pd

    from confsim.membership import membership_tables

    identity = run.manifest["identity"]
    if identity.get("recipe") is None:
        raise ValueError(f"{run.path} was not made with a recipe")
    recipe = load(identity["recipe"])
    if recipe.sha256 != identity["recipe_sha256"]:
        raise ConfsimError(f"recipe {recipe.name} is not the one that {run.path} was made with")
    if attacks is None:
        attacks = membership_tables(run)["attacks"]
    rows = [_row(run, attacks, number) for number in recipe.published]
    columns = ["name", "published", "measured", "low", "high"]
    table: pd.DataFrame = pd.DataFrame(rows, columns=columns)
    table.attrs["differences"] = [*recipe.differences, *overridden(recipe, run.config)]
    return table


def overridden(recipe: Recipe, configuration: dict[str, Any]) -> list[str]:
    """Say which settings of a recipe a run's configuration has replaced."""
    return [
        f"{name} is {configuration[name]}, not {value}"
        for name, value in recipe.settings.items()
        if name not in _OF_THE_RUN and configuration[name] != value
    ]


def _row(run: "Run", attacks: "pd.DataFrame", number: Published) -> tuple[Any, ...]:
    from confsim.statistics import RATE, mean_interval

    if not number.attack:
        return number.name, number.value, *mean_interval(run.summary()[number.column], RATE)
    found = attacks["attack"] == number.attack
    chosen = attacks[found & (attacks["target"].astype(str) == "mean")]
    nothing = float("nan")
    if chosen.empty:
        return number.name, number.value, nothing, nothing, nothing
    row = chosen.iloc[0]
    keys = (number.column, f"{number.column}_low", f"{number.column}_high")
    return number.name, number.value, *(float(row.get(key, nothing)) for key in keys)
