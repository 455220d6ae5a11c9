"""The hand that draws every figure: palette, type, and placement in inches."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

Pixels = npt.NDArray[np.uint8]
"""Height x width x RGB."""

INK, QUIET, RULE, PAPER = "#1d2733", "#6b7785", "#e3e8ed", "#ffffff"
RIGHT, WRONG = "#1f9d61", "#d64545"
RUN_COLOURS = ("#3b6fb6", "#e2892b", "#2a9d8f", "#9a5fb0", "#c44e6c", "#7a8450")
DPI = 160
MARGIN = 0.35
"""Left of titles, in inches."""


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure aside and rename it into place; the suffix says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    figure.savefig(aside, dpi=DPI, format=path.suffix.removeprefix("."), facecolor=PAPER)
    aside.replace(path)
    return path


def colours(count: int) -> list[str]:
    """Return one colour per run, always the same for the first, the second, the third."""
    return [RUN_COLOURS[number % len(RUN_COLOURS)] for number in range(count)]


def blank(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    figure = Figure(figsize=(width, height), facecolor=PAPER)
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
    axes.set_title(title, fontsize=9.5, color=INK, loc="left", pad=6)
    axes.grid(visible=True, color=RULE, linewidth=0.8, zorder=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(colors=QUIET, labelsize=8, length=0, pad=4)
    return axes


def image(
    figure: Figure, pixels: Pixels, place: tuple[float, float, float, float], *, edge: str
) -> None:
    """Show an image in a coloured frame."""
    axes = figure.add_axes(place)
    axes.imshow(pixels, interpolation="antialiased", aspect="auto")
    axes.set_axis_off()
    frame(figure, place, colour=edge, thickness=3.2)


def frame(
    figure: Figure, place: tuple[float, float, float, float], *, colour: str, thickness: float
) -> None:
    """Draw a rectangle without filling."""
    left, bottom, width, height = place
    figure.add_artist(
        Rectangle((left, bottom), width, height, fill=False, edgecolor=colour, linewidth=thickness)
    )


def headline(figure: Figure, title: str, subtitle: str) -> None:
    """Write title and subtitle into the top left corner."""
    tall = figure.get_figheight()
    write(figure, MARGIN, tall - 0.42, title, size=13, weight="bold")
    write(figure, MARGIN, tall - 0.66, subtitle, colour=QUIET, size=9)


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
