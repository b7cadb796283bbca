"""Sizes, colours and file formats of figures.

A figure is drawn twice: wide, for a page or the full width of a two-column paper, and narrow, with
its panels below one another, for a phone. Files never hold a date or a random number,
so the same run gives the same bytes. Colours are those of Okabe and Ito, which people with any kind
of colour blindness can tell apart; line styles and markers differ as well.
"""

import io
import re
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from confsim.store import artifacts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure, SubFigure

INK = "#1a1a1a"
MUTED = "#6b6b6a"
GRID = "#dcdcd9"
SURFACE = "#fefefe"

#: In the order in which they are given out. The style says the same as the colour.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1)), "-")

NON_MEMBERS, MEMBERS = SERIES[0], SERIES[1]
TOP, BOTTOM = SERIES[2], SERIES[3]

#: What each colour is called in the page's style sheet, which has another value for the dark.
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    SURFACE: "--surface",
    **{colour: f"--series-{i + 1}" for i, colour in enumerate(SERIES)},
}

#: Inches: the text width of a two-column paper, and a phone's, where text keeps 12 pixels.
WIDE, NARROW = 6.9, 2.85

#: Of the figure on the first screen, which is shown in a narrow column.
SMALL = 2.4

_DPI = 200

#: Inches that a number on a horizontal axis has, and that stand beside a panel, roughly.
_TICK, _BESIDE_PANEL = 0.45, 0.7

#: Inches that a letter in a legend takes, and a mark with what stands around it.
_LETTER, _KEY = 0.056, 0.4

_SETTINGS: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 8.5,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "lines.linewidth": 1.5,
    "lines.markeredgewidth": 0.0,
    "lines.markersize": 4.5,
    "mathtext.fontset": "dejavusans",
    "pdf.fonttype": 42,
    "savefig.facecolor": "none",
    "svg.fonttype": "path",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 7.5,
    "ytick.major.width": 0.6,
}


@contextmanager
def settings(**more: Any) -> "Iterator[None]":
    """Draw with our settings, whatever a user's ``matplotlibrc`` says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast("Any", _SETTINGS | more))
        yield


def heat_map() -> Any:
    """Return the colours of densities: brighter is denser, on light and dark pages alike.

    Cividis (Nunez, Anderton & Renslow 2018) without its darkest end; what holds nothing is clear.
    """
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    steps = colormaps["cividis"](np.linspace(0.12, 1, 32))
    colours = LinearSegmentedColormap.from_list("confsim", list(steps))
    return colours.with_extremes(bad=(0, 0, 0, 0))


class Canvas:
    """One figure in the making.

    Parameters
    ----------
    name : str
        Of its files; also the salt of the ids inside SVG.
    narrow : bool
        Put panels below one another.
    width : float, optional
        In inches; default: that of a page, or of a phone.
    """

    def __init__(self, name: str, *, narrow: bool = False, width: float | None = None) -> None:
        self.name = name
        self.narrow = narrow
        self.width = width or (NARROW if narrow else WIDE)
        self._figure: Figure | None = None

    @property
    def figure(self) -> "Figure":
        """The figure, once :meth:`panels` was called."""
        assert self._figure is not None
        return self._figure

    def panels(
        self, count: int, *, height: float = 2.5, columns: int | None = None, **options: Any
    ) -> "Sequence[Axes]":
        """Return axes: side by side in rows of ``columns``, or below one another when narrow.

        Parameters
        ----------
        count : int
        height : float
            Of a panel, in inches.
        columns : int, optional
            Panels in a row of the wide figure (default: all).
        """
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        across = 1 if self.narrow else (columns or count)
        down = -(-count // across)
        layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
        self._figure = Figure((self.width, height * down), dpi=_DPI, layout=layout)
        grid = self._figure.subplots(down, across, squeeze=False, **options).ravel()
        for unused in grid[count:]:
            unused.remove()
        return list(grid[:count])

    def lay_out(self) -> None:
        """Lay the panels out once, so that every format shows the same and none does it again."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        FigureCanvasAgg(self.figure)
        engine = self.figure.get_layout_engine()
        if engine is None:  # every place was given
            return
        numbered = self._numbered()
        for axes in numbered:
            columns = axes.get_subplotspec().get_gridspec().ncols
            _thin_out_ticks(axes, self.width / columns - _BESIDE_PANEL)
        engine.execute(self.figure)
        if self._shares_names():  # they are in their place after the second pass only
            engine.execute(self.figure)
        self.figure.set_layout_engine("none")
        for axes in numbered:  # panels of a given shape may be narrower than their place
            _thin_out_ticks(axes, axes.get_position().width * self.width)

    def _numbered(self) -> list[Any]:
        """Return the panels of a grid whose numbers on the horizontal axis nobody has chosen."""
        from matplotlib.ticker import AutoLocator

        return [
            axes
            for axes in self.figure.axes
            if axes.get_subplotspec() and type(axes.xaxis.get_major_locator()) is AutoLocator
        ]

    def _shares_names(self) -> bool:
        """Whether several axes share a vertical one whose labels are names, which may be long."""
        from matplotlib.ticker import FixedFormatter

        return any(
            len(axes.get_shared_y_axes().get_siblings(axes)) > 1
            and isinstance(axes.yaxis.get_major_formatter(), FixedFormatter)
            for axes in self.figure.axes
        )

    def inline(self, *, photographs: bool = False) -> str:
        """Return SVG for the page: text as text, colours that follow light and dark."""
        svg = self._svg("none")
        for colour, variable in VARIABLES.items():
            svg = re.sub(re.escape(colour), f"var({variable})", svg, flags=re.IGNORECASE)
        return _inlined(svg, f"{self.name}-{'n' if self.narrow else 'w'}", photographs)

    def _on(self, kind: Any) -> Any:
        """Return a canvas to print from: ``savefig`` would draw all twice, for the layout first."""
        self.figure.dpi = _DPI  # printing SVG or PDF leaves its own behind
        return kind(self.figure)

    def _svg(self, fonttype: str) -> str:
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        salt = f"{self.name} {self.narrow}"
        buffer = io.StringIO()
        with settings(**{"svg.fonttype": fonttype, "svg.hashsalt": salt}):
            drawing: Any = self._on(FigureCanvasSVG)
            drawing.print_svg(buffer, metadata={"Date": None})
        return buffer.getvalue()

    def _pdf(self) -> bytes:
        from matplotlib.backends.backend_pdf import FigureCanvasPdf

        dateless = {"CreationDate": None, "ModDate": None, "Producer": None, "Creator": None}
        buffer = io.BytesIO()
        drawing: Any = self._on(FigureCanvasPdf)
        drawing.print_pdf(buffer, metadata=dateless)
        return buffer.getvalue()

    def _png(self) -> bytes:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        buffer = io.BytesIO()
        # A picture without ground would be unreadable on a dark one; white is what papers have.
        self.figure.set_facecolor("white")
        drawing: Any = self._on(FigureCanvasAgg)
        drawing.print_png(buffer, metadata={"Software": None})
        self.figure.set_facecolor("none")
        return buffer.getvalue()

    def save(self, folder: Path) -> list[str]:
        """Write PNG, SVG (text as outlines) and PDF (fonts embedded); return their names."""
        with settings():
            artifacts.write(folder / f"{self.name}.pdf", self._pdf())
            artifacts.write(folder / f"{self.name}.png", self._png())
            artifacts.write(folder / f"{self.name}.svg", self._svg("path").encode())
        return [f"{self.name}.{kind}" for kind in ("pdf", "png", "svg")]


def _inlined(svg: str, prefix: str, photographs: bool) -> str:
    """Make SVG fit into a page that holds others: no prologue, ids of its own, no fixed size."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"url\(#([^)]+)\)", svg)) | set(re.findall(r'href="#([^"]+)"', svg))

    def rename(match: "re.Match[str]") -> str:
        return f' id="{prefix}-{match[1]}"' if match[1] in used else ""

    svg = re.sub(r' id="([^"]+)"', rename, svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    svg = re.sub(r' style="([^"]*)"', _attributes, svg)
    svg = re.sub(r"(<svg[^>]*?) width=\"[\d.]+pt\"", r"\1", svg, count=1)
    svg = re.sub(r"(<svg[^>]*?) height=\"[\d.]+pt\"", r"\1", svg, count=1)
    kind = "photographs" if photographs else "chart"
    return svg.replace("<svg ", f'<svg class="{kind}" aria-hidden="true" focusable="false" ', 1)


def _attributes(match: "re.Match[str]") -> str:
    """Write a style as attributes: the page's security policy allows none but its own styles."""
    found = []
    for part in filter(None, map(str.strip, match[1].split(";"))):
        name, value = (side.strip() for side in part.split(":", 1))
        if name == "font-family":  # the page's own
            continue
        found.append(f' {name}="{value}"')
    return "".join(found)


# ---- drawing what many figures need ------------------------------------------------------------


def band(axes: "Axes", x: Any, low: Any, high: Any, colour: str) -> None:
    """Shade an interval about a line."""
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def heat(axes: "Axes", x: Any, y: Any, values: NDArray[Any], **options: Any) -> Any:
    """Draw a density or a field as a picture of its own inside the figure."""
    return axes.pcolormesh(x, y, values, cmap=heat_map(), rasterized=True, **options)


def colour_bar(
    figure: "Figure | SubFigure", drawn: Any, axes: Any, label: str, **options: Any
) -> None:
    """Draw the legend of a heat map."""
    bar = figure.colorbar(drawn, ax=axes, pad=0.02, aspect=28, **options)
    bar.set_label(label)
    bar.outline.set_visible(False)
    low, high = bar.ax.get_ylim()
    if bar.ax.get_yscale() == "log" and high < 30 * low:
        plain_ticks(bar.ax.yaxis)


def plain_ticks(axis: "Axis") -> None:
    """Label a logarithmic axis with plain numbers, where few powers of ten are seen 2 and 5 too."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axis.set_major_formatter(plain)
    axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
    axis.set_minor_formatter(plain if high < 30 * low else NullFormatter())


@dataclass(frozen=True)
class FigureText:
    """What accompanies a figure.

    Attributes
    ----------
    caption : str
        What is shown, how it was made, and what the marks mean.
    alt : str
        What a reader who does not see the figure should know: its finding, with numbers.
    """

    caption: str
    alt: str


def _thin_out_ticks(axes: "Axes", inches: float) -> None:
    """Let the numbers on a horizontal axis have room: the defaults expect shorter ones."""
    from matplotlib.ticker import MaxNLocator

    most = max(2, int(inches / _TICK))
    axes.xaxis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))


def letters(axes: "Axes", wide: int, narrow: int) -> int:
    """Return how long a name may be: in a narrow figure, it has less room."""
    return wide if axes.figure.bbox.width > NARROW * axes.figure.dpi else narrow


def legend_below(axes: "Axes", columns: int = 2) -> None:
    """Put the legend below the panel, in as many columns as fit: inside, its marks read as data."""
    from matplotlib.transforms import ScaledTranslation

    handles, labels = axes.get_legend_handles_labels()
    if handles:
        place = axes.get_subplotspec()
        across = place.get_gridspec().ncols if place else 1
        width = axes.figure.bbox.width / axes.figure.dpi / across - _BESIDE_PANEL
        columns = max(1, min(columns, int(width / (_KEY + _LETTER * max(map(len, labels))))))
        # Room for the labels of the axis, whatever the panel's height.
        below = ScaledTranslation(0, -0.46, axes.figure.dpi_scale_trans)
        axes.legend(
            handles,
            labels,
            loc="upper left",
            bbox_to_anchor=(0, 0),
            borderaxespad=0,
            bbox_transform=axes.transAxes + below,
            ncols=columns,
        )


def dot_rows(
    axes: "Axes",
    labels: Sequence[str],
    values: Any,
    low: Any,
    high: Any,
    *,
    colour: str = SERIES[0],
    marker: str = "o",
    offset: float = 0.0,
    label: str | None = None,
) -> None:
    """Draw one value with its interval in each row, the first row on top."""
    rows = np.arange(len(labels))[::-1] + offset
    axes.hlines(rows, low, high, color=colour, linewidth=1.4)
    axes.plot(values, rows, marker, color=colour, label=label)
    axes.set_yticks(np.arange(len(labels))[::-1], labels)
    for tick in axes.get_yticklabels():  # names are names, whatever signs they hold
        tick.set_parse_math(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_ylim(-0.6, len(labels) - 0.4)
