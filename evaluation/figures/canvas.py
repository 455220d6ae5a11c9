"""The hand that draws every figure: palette, type, and placement in inches."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox, TransformedBbox

from evaluation.figures.lettering import wrapped

Pixels = npt.NDArray[np.uint8]
"""Height x width x RGB."""

INK, QUIET, RULE, PAPER = "#1d2733", "#6b7785", "#e3e8ed", "#ffffff"
RIGHT, WRONG = "#009e73", "#d55e00"
"""Green and red that most eyes tell apart (Okabe and Ito); words say it to all others."""

RUN_COLOURS = ("#3b6fb6", "#e2892b", "#2a9d8f", "#9a5fb0", "#c44e6c", "#7a8450")
LINES: tuple[Any, ...] = ("-", (0, (4, 1.2)), (0, (1.2, 1)), (0, (4, 1.2, 1.2, 1.2)))
"""Dashes of runs, so that print in grey tells them apart; with the colours twelve pairs."""

TINT = "#9db7dc"
"""The first colour of a run, paler: what is measured against it."""

SHADES = ("#8fc1e3", "#12355b")
"""Of what has an order: its first and its last."""

COLUMN, TEXT = 3.4, 7.1
"""Inches of one column and of the whole width of a paper of two columns: figures are made for one
of them, so that their letters are printed as large as they are drawn here."""

HEAD, NAME, SMALL, VALUE = 10.0, 8.0, 7.0, 6.5
"""Points of letters: headline, what a chart shows, axes and legends, single numbers."""

EDGE, UNDER = 0.08, 0.05
"""Around a figure and below its headline, in inches: a paper has margins of its own."""

DPI, CHART_DPI = 216, 300
OPTIONS: dict[str, dict[str, Any]] = {
    # A third of the time of the usual level for three percent more bytes of a retrieval panel.
    "png": {"pil_kwargs": {"compress_level": 3}},
    "pdf": {"metadata": {"CreationDate": None}},
}
"""How a format is written."""

MARGIN = 0.35
"""Around a sheet, in inches."""


@dataclass(frozen=True, kw_only=True)
class Headline:
    """Title and subtitle in the top left corner, broken into lines where a figure ends."""

    title: str
    subtitle: str
    width: float
    """Of the figure, in inches."""

    margin: float = EDGE
    sizes: tuple[float, float] = (HEAD, SMALL)
    """Points of the letters of title and subtitle."""

    @property
    def height(self) -> float:
        """Inches from the top of the figure to below the last line."""
        return self.margin + sum(1.4 * size / 72 for size, _ in self._lines()) + UNDER

    def write(self, figure: Figure) -> None:
        """Write all lines."""
        top = figure.get_figheight() - self.margin
        for size, line in self._lines():
            is_title = size == self.sizes[0]
            write(
                figure,
                self.margin,
                top - size / 72,
                line,
                colour=INK if is_title else QUIET,
                size=size,
                weight="bold" if is_title else "normal",
            )
            top -= 1.4 * size / 72

    def _lines(self) -> Iterator[tuple[float, str]]:
        room = self.width - 2 * self.margin
        weights = ("bold", "normal")
        texts = (self.title, self.subtitle)
        for text, size, weight in zip(texts, self.sizes, weights, strict=True):
            for line in wrapped(text, room, size=size, weight=weight):
                yield size, line


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure aside and rename it into place; the suffix says the format.

    A PDF has its fonts inside as outlines that can be edited, as journals ask, and no date.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    suffix = path.suffix.removeprefix(".")
    options = OPTIONS.get(suffix, {})
    with rc_context({"pdf.fonttype": 42}):
        figure.savefig(aside, format=suffix, facecolor=PAPER, **options)
    aside.replace(path)
    return path


def colours(count: int) -> list[str]:
    """Return one colour per run, always the same for the first, the second, the third."""
    return [RUN_COLOURS[number % len(RUN_COLOURS)] for number in range(count)]


def tones(count: int) -> list[str]:
    """Return colours for things that have an order, from light to dark; one alone is a run's."""
    if count == 1:
        return [RUN_COLOURS[0]]
    low, high = (np.array(to_rgb(colour)) for colour in SHADES)
    return [to_hex(low + (high - low) * share) for share in np.linspace(0, 1, count)]


def deep(colour: str) -> str:
    """Return a colour so much darker that small letters in it can be read."""
    red, green, blue = to_rgb(colour)
    return to_hex((0.7 * red, 0.7 * green, 0.7 * blue))


def dashes(count: int) -> list[Any]:
    """Return one line style per run, to go with its colour."""
    return [LINES[number % len(LINES)] for number in range(count)]


def blank(width: float, height: float, *, dpi: float | None = None) -> Figure:
    """Return an empty figure of a size in inches, at the resolution of pictures unless told."""
    figure = Figure(figsize=(width, height), facecolor=PAPER, dpi=DPI if dpi is None else dpi)
    FigureCanvasAgg(figure)
    return figure


def box(
    figure: Figure, left: float, bottom: float, width: float, height: float
) -> tuple[float, float, float, float]:
    """Turn inches into the fractions that matplotlib wants."""
    whole, tall = figure.get_figwidth(), figure.get_figheight()
    return (left / whole, bottom / tall, width / whole, height / tall)


def chart(figure: Figure, place: tuple[float, float, float, float], *, title: str) -> Axes:
    """Place axes with a light grid and no box."""
    axes = figure.add_axes(place)
    axes.set_title(title, fontsize=NAME, color=INK, loc="left", pad=5)
    axes.grid(visible=True, color=RULE, linewidth=0.6, zorder=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(colors=QUIET, labelsize=SMALL, length=0, pad=3)
    return axes


def image(
    figure: Figure,
    pixels: Pixels,
    place: tuple[float, float, float, float],
    *,
    edge: str,
    thickness: float = 2.4,
) -> None:
    """Show an image in a coloured frame; without axes, which would take most of the time."""
    where = TransformedBbox(Bbox.from_bounds(*place), figure.transFigure)
    shown = BboxImage(where, interpolation="antialiased", zorder=1)
    shown.set_data(pixels)
    figure.add_artist(shown)
    frame(figure, place, colour=edge, thickness=thickness)


def frame(
    figure: Figure, place: tuple[float, float, float, float], *, colour: str, thickness: float
) -> None:
    """Draw a rectangle without filling."""
    left, bottom, width, height = place
    figure.add_artist(
        Rectangle((left, bottom), width, height, fill=False, edgecolor=colour, linewidth=thickness)
    )


def headline(figure: Figure, title: str, subtitle: str) -> None:
    """Write title and subtitle into the top left corner of a sheet, in large letters."""
    Headline(
        title=title,
        subtitle=subtitle,
        width=figure.get_figwidth(),
        margin=MARGIN,
        sizes=(13.0, 9.0),
    ).write(figure)


def write(
    figure: Figure,
    left: float,
    bottom: float,
    text: str,
    *,
    colour: str = INK,
    size: float = 8.5,
    weight: str = "normal",
    align: str = "left",
) -> None:
    """Write one line of text at a place in inches."""
    where = (left / figure.get_figwidth(), bottom / figure.get_figheight())
    figure.text(
        *where, text, color=colour, fontsize=size, fontweight=weight, ha=align, va="baseline"
    )
