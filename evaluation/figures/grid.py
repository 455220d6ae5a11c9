"""Several small charts of one kind in one figure."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures.canvas import INK, QUIET, blank, box, chart, headline

WIDE, TALL, WIDE_ALONE = 2.85, 1.95, 4.2
"""Size of one chart in inches, and its width where there is no other."""

LEFT, BETWEEN, ABOVE, BELOW, TOP, FOOT = 0.72, 0.62, 0.42, 0.55, 0.72, 0.1
"""Inches left of the first chart, between columns, for a chart's title, for what stands below it,
for the headline, and below everything."""


def charts(
    titles: Sequence[str],
    *,
    title: str,
    subtitle: str,
    columns: int = 2,
    tall: float = TALL,
    left: float = LEFT,
    between: float = BETWEEN,
    below: float = BELOW,
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a headline and one empty chart per title, line by line."""
    columns = min(columns, len(titles))
    wide = WIDE if columns > 1 else WIDE_ALONE
    lines = math.ceil(len(titles) / columns)
    step = tall + ABOVE + below
    figure = blank(
        max(left + columns * (wide + between) - between + 0.3, 4.4), TOP + lines * step + FOOT
    )
    headline(figure, title, subtitle)
    axes = []
    for number, name in enumerate(titles):
        line, column = divmod(number, columns)
        at = (left + column * (wide + between), FOOT + (lines - 1 - line) * step + below)
        axes.append(chart(figure, box(figure, *at, wide, tall), title=name))
    return figure, axes


def name_axes(axes: Axes, *, x: str, y: str = "") -> None:
    """Write below and beside a chart what its axes are."""
    axes.set_xlabel(x, fontsize=8.5, color=QUIET)
    if y:
        axes.set_ylabel(y, fontsize=8.5, color=QUIET)


def add_legend(figure: Figure, axes: Axes) -> None:
    """Explain the lines of a chart, which are those of all, in the upper right corner."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="upper right",
        ncols=len(labels),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        handlelength=1.6,
        columnspacing=1.4,
        bbox_to_anchor=(1 - 0.15 / figure.get_figwidth(), 1 - 0.16 / figure.get_figheight()),
    )
