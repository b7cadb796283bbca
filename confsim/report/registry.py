"""How a figure is declared: its name, its title, what it needs, and the function that draws it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from confsim.report.canvas import Canvas, FigureText
from confsim.report.context import ReportContext

#: Returns ``None``, or the reason why a figure cannot be drawn.
Needs: TypeAlias = Callable[[ReportContext], "str | None"]


@dataclass(frozen=True)
class FigureKind:
    """A figure that a report may hold.

    Attributes
    ----------
    name : str
        Of its files.
    title : str
        A question that the figure answers, or what it shows.
    needs : callable
        Returns ``None`` or the reason why the figure cannot be drawn.
    draw : callable
        Draws on a canvas and returns the words that go with it.
    photographs : bool
        Whether it holds pictures whose colours must never change.
    """

    name: str
    title: str
    needs: Needs
    draw: Callable[[ReportContext, Canvas], FigureText]
    photographs: bool = False


def figure(
    title: str, needs: Needs, *, photographs: bool = False
) -> Callable[[Callable[[ReportContext, Canvas], FigureText]], FigureKind]:
    """Declare a figure; its name is the function's."""

    def declare(draw: Callable[[ReportContext, Canvas], FigureText]) -> FigureKind:
        return FigureKind(draw.__name__, title, needs, draw, photographs)

    return declare


def has_joint(context: ReportContext) -> str | None:
    """Need the joint histograms of confidence and distance."""
    if not context.has("joint.npz"):
        return "the trials hold no joint histogram of confidence and distance"
    return None if context.joint.including.any() else "no distance to a training point is known"


def has_table(name: str, *columns: str, examples: bool = True) -> Needs:
    """Need a membership table with some rows, and with these columns; made from examples or not."""

    def needs(context: ReportContext) -> str | None:
        if examples and not context.has("examples.parquet"):
            return "the run has no table of examples; runs over a lattice never have"
        table = context.tables.get(name)
        if table is None or table.empty:
            about = [
                note
                for note in context.notes
                if note.startswith((name.partition("_")[0], "attacks"))
            ]
            return about[0] if about else f"there is no table of {name.replace('_', ' ')}"
        absent = [column for column in columns if column not in table]
        if absent:
            return f"the table of {name.replace('_', ' ')} has no {', '.join(absent)}"
        if columns and table[list(columns)].isna().all(axis=None):
            return f"no {' and no '.join(columns)} is known"
        return None

    return needs
