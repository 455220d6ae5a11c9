"""How every figure looks: palette, type, and the layout that matplotlib makes of it."""

import math
import textwrap
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

Pixels = npt.NDArray[np.uint8]
"""Height x width x RGB."""

INK, QUIET, RULE, PAPER = "#1d2733", "#6b7785", "#e3e8ed", "#ffffff"
RIGHT, WRONG = "#009e73", "#d55e00"
"""Green and red that most eyes tell apart (Okabe and Ito); words say it to all others."""

RUN_COLOURS = ("#3b6fb6", "#e2892b", "#2a9d8f", "#9a5fb0", "#c44e6c", "#7a8450")
LINES: tuple[Any, ...] = ("-", (0, (4, 1.2)), (0, (1.2, 1)), (0, (4, 1.2, 1.2, 1.2)))
"""Dashes of runs, so that print in grey tells them apart; with the colours twelve pairs."""

DASHED = (0, (3, 2))
"""Of what is drawn to compare with, such as guessing."""

TINT = "#9db7dc"
"""The first colour of a run, paler: what is measured against it."""

SHADES = ("#8fc1e3", "#12355b")
"""Of what has an order: its first and its last."""

COLUMN, TEXT = 3.4, 7.1
"""Inches of one column and of the whole width of a paper of two columns: figures are made for one
of them, so that their letters are printed as large as they are drawn here."""

HEAD, NAME, SMALL, VALUE = 10.0, 8.0, 7.0, 6.5
"""Points of letters: headline, what a chart shows, axes and legends, single numbers."""

EDGE, LINE, EM = 0.08, 0.15, 0.6
"""Inches around a headline and of a line of a legend; width of a letter over its size."""

STACKED, TALL, AROUND = 2, 1.45, 0.65
"""So many charts stand below each other in one column; inches of a chart, and of its words."""

DPI, CHART_DPI = 216, 300
"""Of pictures and of charts."""

OPTIONS: dict[str, dict[str, Any]] = {
    # A third of the time of the usual level for three percent more bytes of a retrieval panel.
    ".png": {"pil_kwargs": {"compress_level": 3}},
    ".pdf": {"metadata": {"CreationDate": None}},
}
"""How a format is written."""

styled = rc_context(
    {
        "axes.axisbelow": True,
        "axes.edgecolor": RULE,
        "axes.grid": True,
        "axes.labelcolor": QUIET,
        "axes.labelpad": 2,
        "axes.labelsize": SMALL,
        "axes.spines.left": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": INK,
        "axes.titlelocation": "left",
        "axes.titlesize": NAME,
        "font.size": SMALL,
        "grid.color": RULE,
        "grid.linewidth": 0.6,
        "legend.fontsize": SMALL,
        "legend.frameon": False,
        "legend.labelcolor": INK,
        "lines.linewidth": 1.4,
        "lines.markersize": 3,
        "xtick.color": QUIET,
        "xtick.major.size": 0,
        "xtick.minor.size": 0,
        "ytick.color": QUIET,
        "ytick.major.size": 0,
    }
)
"""Decorates what draws."""


@styled
def new_figure(width: float, height: float, *, title: str, subtitle: str, dpi: float) -> Figure:
    """Return a figure whose contents, laid out by matplotlib, have so many inches below its head.

    The headline is broken into lines where the figure ends.
    """
    head = [
        (line, size, weight, colour)
        for text, size, weight, colour in (
            (title, HEAD, "bold", INK),
            (subtitle, SMALL, "normal", QUIET),
        )
        for line in textwrap.wrap(text, letters(width - 2 * EDGE, size * 1.1))
    ]
    tall = height + EDGE + sum(1.4 * size / 72 for _, size, _, _ in head)
    figure = Figure(figsize=(width, tall), facecolor=PAPER, dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    at = tall - EDGE
    for line, size, weight, colour in head:
        place = EDGE / width, at / tall
        figure.text(*place, line, size=size, weight=weight, color=colour, va="top")
        at -= 1.4 * size / 72
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0, 0, 1, height / tall))
    return figure


@styled
def charts(
    titles: Sequence[str],
    *,
    title: str,
    subtitle: str,
    columns: int = 2,
    tall: float = TALL,
    legend: Sequence[str] = (),
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a headline and one empty chart per title, line by line.

    Args:
        titles: what each chart shows.
        title: of the figure: what is compared.
        subtitle: whose, and on what.
        columns: charts beside each other, where there are more than fit into one column.
        tall: height of a chart in inches.
        legend: what `add_legend` will be given, for which there is room below.
    """
    columns = 1 if len(titles) <= STACKED else columns
    width = COLUMN if columns == 1 else TEXT
    lines = math.ceil(len(titles) / columns)
    keys = LINE * math.ceil(len(legend) / _keys_per_line(legend, width)) if legend else 0
    height = lines * (tall + AROUND) + keys
    figure = new_figure(width, height, title=title, subtitle=subtitle, dpi=CHART_DPI)
    axes = figure.subplots(lines, columns, squeeze=False).flatten().tolist()
    for name, one in zip(titles, axes, strict=False):
        is_long = len(name) > letters(width / columns - AROUND, NAME)
        one.set_title(name, fontsize=SMALL if is_long else NAME)
    for one in axes[len(titles) :]:
        one.remove()
    return figure, axes[: len(titles)]


def name_axes(axes: Axes, *, x: str, y: str = "") -> None:
    """Write below a chart what its axis is, and beside those of the first column."""
    axes.set_xlabel(x)
    place = axes.get_subplotspec()
    if place is not None and place.is_first_col():
        axes.set_ylabel(y)


@styled
def add_legend(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Explain the lines of the charts, which are those of all, below them."""
    columns = _keys_per_line(labels, figure.get_figwidth())
    room = figure.get_figwidth() / columns - 0.5
    short = [shortened(label, room, size=SMALL) for label in labels]
    figure.legend(handles, short, loc="outside lower left", ncols=columns, labelspacing=0.4)


def _keys_per_line(labels: Sequence[str], width: float) -> int:
    """Return how many keys of a legend fit beside each other."""
    inches = 0.55 + max(map(len, labels)) * EM * SMALL / 72
    return max(1, min(len(labels), int(width / inches)))


def show(axes: Axes, pixels: Pixels, *, edge: str, width: float = 2.4, caption: str = "") -> None:
    """Show a picture in a coloured frame, and words below it."""
    axes.set_axis_on()
    axes.imshow(pixels, interpolation="antialiased", aspect="auto")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=edge, linewidth=width)
    axes.set_xlabel(caption, loc="left", color=INK, linespacing=1.2, fontsize=VALUE)


@styled
def pictures(
    rows: int, columns: int, *, title: str, subtitle: str, cell: float = 1.0, caption: float = 0.34
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure of square places for pictures, inches a side, with room for words below."""
    size = max(columns * (cell + 0.1), COLUMN), rows * (cell + caption)
    figure = new_figure(*size, title=title, subtitle=subtitle, dpi=DPI)
    axes = figure.subplots(rows, columns, squeeze=False)
    for one in axes.flat:
        one.grid(visible=False)
        one.set_axis_off()  # until there is something to show
    return figure, axes.tolist()


def letters(inches: float, size: float) -> int:
    """Return about how many letters of a size in points stand in one line."""
    return max(4, int(inches * 72 / (EM * size)))


def wrapped(text: str, inches: float, *, size: float) -> str:
    """Return a text in lines of about so many inches, nothing left out."""
    return "\n".join(textwrap.wrap(text, letters(inches, size)))


def shortened(text: str, inches: float, *, size: float) -> str:
    """Return a text that fits about so many inches: the middle of a longer one is left out."""
    kept = letters(inches, size)
    if len(text) <= kept:
        return text
    return f"{text[: kept // 2]}…{text[len(text) - (kept - 1) // 2 :]}"


def looks(count: int) -> list[tuple[str, Any]]:
    """Return a colour and dashes per run, always the same for the first, the second, the third."""
    return list(islice(zip(cycle(RUN_COLOURS), cycle(LINES)), count))


def write_value(
    axes: Axes,
    at: tuple[float, float],
    text: str,
    *,
    is_above: bool,
    ha: str = "center",
    color: str = INK,
) -> None:
    """Write a number above or below a point."""
    va, offset = ("bottom", 4) if is_above else ("top", -4)
    look: dict[str, Any] = {"ha": ha, "va": va, "color": color, "fontsize": VALUE}
    axes.annotate(text, at, xytext=(0, offset), textcoords="offset points", **look)


def tones(count: int) -> list[str]:
    """Return colours for things that have an order, from light to dark; one alone is a run's."""
    if count == 1:
        return [RUN_COLOURS[0]]
    low, high = (np.array(to_rgb(colour)) for colour in SHADES)
    return [to_hex(low + (high - low) * share) for share in np.linspace(0, 1, count)]


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure; the suffix says the format.

    A PDF has its fonts inside as outlines that can be edited, as journals ask, and no date.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"pdf.fonttype": 42}):
        figure.savefig(path, facecolor=PAPER, **OPTIONS.get(path.suffix, {}))
    return path
