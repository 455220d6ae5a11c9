"""Several charts of one kind in one figure, as wide as a column of a paper or as all its text."""

import math
from collections.abc import Sequence
from typing import TypeVar

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures.canvas import (
    CHART_DPI,
    COLUMN,
    EDGE,
    INK,
    NAME,
    QUIET,
    SMALL,
    TEXT,
    Headline,
    blank,
    box,
    chart,
)
from evaluation.figures.lettering import shortened, text_width

STACKED = 2
"""So many charts stand below each other in one column; more take the whole width of the text."""

TALL = 1.45
"""Height of one chart in inches."""

LEFT, BETWEEN, ABOVE, BELOW, RIGHT = 0.5, 0.38, 0.25, 0.4, 0.2
"""Inches left of the first chart, between columns, for a chart's title, for what stands below it,
and right of the last."""

Kept = TypeVar("Kept")

KEY, LINE = 0.5, 0.15
"""Inches of a legend's sample with what is around it, and of one line of a legend."""


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
    legend: Sequence[str] = (),
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a headline and one empty chart per title, line by line.

    Args:
        titles: what each chart shows.
        title: of the figure.
        subtitle: on what, and whose.
        columns: charts beside each other, where there are more than fit into one column.
        tall: height of a chart in inches.
        left: inches left of the first chart.
        between: inches between charts.
        below: inches below a chart.
        legend: what `add_legend` will be given, for which there is room below the headline.
    """
    columns = 1 if len(titles) <= STACKED else columns
    width = COLUMN if columns == 1 else TEXT
    wide = (width - left - RIGHT - (columns - 1) * between) / columns
    lines = math.ceil(len(titles) / columns)
    step = ABOVE + tall + below
    head = Headline(title=title, subtitle=subtitle, width=width)
    keys = LINE * math.ceil(len(legend) / _keys_per_line(legend, width)) if legend else 0
    figure = blank(width, head.height + keys + lines * step + EDGE, dpi=CHART_DPI)
    head.write(figure)
    axes = []
    for number, name in enumerate(titles):
        line, column = divmod(number, columns)
        at = (left + column * (wide + between), EDGE + (lines - 1 - line) * step + below)
        axes.append(chart(figure, box(figure, *at, wide, tall), title=name))
        if text_width(name, size=NAME) > wide:
            axes[-1].set_title(name, fontsize=SMALL, loc="left")
    return figure, axes


def name_axes(axes: Axes, *, x: str, y: str = "") -> None:
    """Write below a chart what its axis is, and beside those of the first column."""
    axes.set_xlabel(x, fontsize=SMALL, color=QUIET, labelpad=2)
    first = min(other.get_position().x0 for other in axes.figure.axes)
    if y and axes.get_position().x0 <= first:
        axes.set_ylabel(y, fontsize=SMALL, color=QUIET, labelpad=3)


def add_legend(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Explain the lines of the charts, which are those of all, in the room left for it."""
    top = max(axes.get_position().y1 for axes in figure.axes)
    width = figure.get_figwidth()
    ncols = _keys_per_line(labels, width)
    fitting = [shortened(label, width - 2 * EDGE - KEY, size=SMALL) for label in labels]
    inches = LINE * math.ceil(len(labels) / ncols)
    figure.legend(
        _by_line(handles, ncols),
        _by_line(fitting, ncols),
        loc="upper left",
        ncols=ncols,
        frameon=False,
        fontsize=SMALL,
        labelcolor=INK,
        handlelength=2.2,
        handletextpad=0.6,
        columnspacing=1.2,
        labelspacing=0.45,
        borderaxespad=0,
        borderpad=0,
        bbox_to_anchor=(
            EDGE / width,
            top + (ABOVE + inches) / figure.get_figheight(),
        ),
    )


def _keys_per_line(labels: Sequence[str], width: float) -> int:
    """Return how many of a legend's columns fit beside each other, each as wide as its widest."""
    widest = max(text_width(label, size=SMALL) for label in labels)
    room = width - 2 * EDGE
    if sum(text_width(label, size=SMALL) + KEY for label in labels) <= room:
        return len(labels)
    return max(1, min(len(labels), int(room / (widest + KEY))))


def _by_line(entries: Sequence[Kept], ncols: int) -> list[Kept]:
    """Order entries so that a legend, which fills its columns one by one, reads line by line."""
    return [entry for column in range(ncols) for entry in entries[column::ncols]]
