"""The hand that draws every figure: palette, type, and placement in inches."""

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

Pixels = npt.NDArray[np.uint8]
"""Height x width x RGB."""

INK, QUIET, RULE, PAPER = "#1d2733", "#6b7785", "#e3e8ed", "#ffffff"
RIGHT, WRONG = "#1f9d61", "#d64545"
RUN_COLOURS = ("#3b6fb6", "#e2892b", "#2a9d8f", "#9a5fb0", "#c44e6c", "#7a8450")
TINT = "#9db7dc"
"""The first colour of a run, paler: what is measured against it."""

SHADES = ("#8fc1e3", "#12355b")
"""Of what has an order: its first and its last."""

DPI = 160
OPTIONS: dict[str, dict[str, Any]] = {
    # A third of the time of the usual level for three percent more bytes of a retrieval panel.
    "png": {"pil_kwargs": {"compress_level": 3}},
    "pdf": {"metadata": {"CreationDate": None}},
}
"""How a format is written."""

MARGIN = 0.35
"""Left of titles, in inches."""


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure aside and rename it into place; the suffix says the format.

    A PDF has its fonts inside as outlines that can be edited, as journals ask, and no date.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    suffix = path.suffix.removeprefix(".")
    options = OPTIONS.get(suffix, {})
    with rc_context({"pdf.fonttype": 42}):
        figure.savefig(aside, dpi=DPI, format=suffix, facecolor=PAPER, **options)
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
    figure: Figure,
    pixels: Pixels,
    place: tuple[float, float, float, float],
    *,
    edge: str,
    thickness: float = 3.2,
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
