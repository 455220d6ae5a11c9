"""Accuracy against cost: a bubble per model, its area the parameters, the cost on a log axis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from evaluation.figures.canvas import (
    CHART_DPI,
    COLUMN,
    EDGE,
    INK,
    PAPER,
    QUIET,
    SMALL,
    TEXT,
    VALUE,
    Headline,
    blank,
    box,
    chart,
    colours,
    write,
)
from evaluation.figures.labels import Mark, are_clear, place_labels
from evaluation.figures.lettering import text_width, wrapped
from evaluation.figures.units import short

HEIGHTS = {COLUMN: 2.4, TEXT: 3.5}
"""Of the chart, by the width of the figure, in inches: without headline and sources."""

LARGEST_BUBBLES = {COLUMN: 18.0, TEXT: 26.0}
"""Diameter in points of the model with the most parameters, by the width of the figure."""

LEFT, RIGHT, ABOVE, BELOW, SIZES, SOURCE = 0.52, 0.14, 0.1, 0.3, 0.42, 0.13
"""Inches beside the chart, above and below it, for the row of sizes, and for a line of sources."""

LEAST_BUBBLE = 2.5
"""Diameter in points below which a bubble could not be seen."""

PUBLISHED_FILL, PUBLISHED_EDGE = "#d5dbe1", "#9aa5b1"
SIZES_IN_LEGEND = (1e5, 1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 1e9)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One model in the picture."""

    label: str
    x: float
    """What it costs or how fast it is: OPs, or images per second; above zero."""

    accuracy: float
    """As a fraction."""

    parameters: float
    is_published: bool
    """Whether the numbers come from print; such points are grey."""

    source: str = ""
    """Where they were printed; each source is named once below the picture, numbered if several."""

    deviation: float = 0.0
    """Standard deviation of the accuracy over seeds, as a fraction."""


def accuracy_against_ops(
    points: Sequence[Point],
    *,
    title: str,
    subtitle: str,
    metric: str = "recall@1",
    what: str = "OPs per image (MACs + BOPs / 64)",
) -> Figure:
    """Draw accuracy over operations; further left is cheaper.

    Args:
        points: the models, runs and published ones in any order.
        title: what is compared.
        subtitle: on what, and at which image size.
        metric: name of the accuracy.
        what: the operations that `x` counts, in words: all points must count the same.
    """
    return _bubbles(points, title=title, subtitle=subtitle, metric=metric, what=what)


def accuracy_against_speed(
    points: Sequence[Point],
    *,
    title: str,
    subtitle: str,
    metric: str = "recall@1",
    what: str = "images per second",
) -> Figure:
    """Draw accuracy over images per second; further right is faster.

    Args:
        points: the models, runs and published ones in any order.
        title: what is compared.
        subtitle: on what, and on which device.
        metric: name of the accuracy.
        what: the speed that `x` is, in words: all points must be of one device, or say so here.
    """
    return _bubbles(points, title=title, subtitle=subtitle, metric=metric, what=what)


def _bubbles(
    points: Sequence[Point], *, title: str, subtitle: str, metric: str, what: str
) -> Figure:
    """Draw for one column if all labels find room there, else for the whole width of the text."""
    assert points, "the caller has something to compare"
    for width in (COLUMN, TEXT):
        head = Headline(title=title, subtitle=subtitle, width=width)
        figure, is_clear = _drawn(points, head, metric=metric, what=what)
        if is_clear:
            break
    return figure


def _drawn(
    points: Sequence[Point], head: Headline, *, metric: str, what: str
) -> tuple[Figure, bool]:
    """Draw at the width of a headline, and tell whether every label hides nothing."""
    sources = list(dict.fromkeys(point.source for point in points if point.source))
    notes = _notes(sources, head.width - 2 * EDGE)
    height = HEIGHTS[head.width]
    names = wrapped(what, head.width - LEFT - RIGHT, size=SMALL)
    below = EDGE + SOURCE * (len(notes) + len(names)) + SIZES + BELOW
    figure = blank(head.width, head.height + ABOVE + height + below, dpi=CHART_DPI)
    head.write(figure)
    place = box(figure, LEFT, below, head.width - LEFT - RIGHT, height)
    axes = chart(figure, place, title="")
    _limits(axes, points)
    axes.set_xlabel("\n".join(names), fontsize=SMALL, color=QUIET, labelpad=2)
    axes.set_ylabel(f"{metric} (%)", fontsize=SMALL, color=QUIET, labelpad=3)

    area = LARGEST_BUBBLES[head.width] ** 2 / max(point.parameters for point in points)
    runs = [point for point in points if not point.is_published]
    colour_of = dict(zip(map(id, runs), colours(len(runs)), strict=True))
    marks = []
    # Large bubbles first, so that small ones lie on top of them, whoever's they are.
    for point in sorted(points, key=lambda point: (-point.parameters, not point.is_published)):
        colour = colour_of.get(id(point), PUBLISHED_FILL)
        edge = PUBLISHED_EDGE if point.is_published else PAPER
        x, y, size = point.x, 100 * point.accuracy, max(area * point.parameters, LEAST_BUBBLE**2)
        axes.scatter(x, y, s=size, color=colour, edgecolors=edge, linewidths=0.7, zorder=4)
        if point.deviation:
            axes.errorbar(x, y, yerr=100 * point.deviation, color=INK, linewidth=0.8, zorder=5)
        marks.append(_mark(point, math.sqrt(size) / 2, sources))
    marks = _by_crowd(axes, marks)
    boxes = place_labels(axes, marks)
    _size_legend(figure, area, points, middle=EDGE + SOURCE * len(notes) + SIZES / 2)
    for number, note in enumerate(reversed(notes)):
        write(figure, EDGE, EDGE + SOURCE * number, note, colour=QUIET, size=VALUE)
    return figure, are_clear(axes, marks, boxes)


def _notes(sources: Sequence[str], width: float) -> list[str]:
    """Name each source once, in lines of at most `width` inches."""
    names = [f"[{number}]" if len(sources) > 1 else "grey" for number in range(1, len(sources) + 1)]
    return [
        line
        for name, source in zip(names, sources, strict=True)
        for line in wrapped(f"{name}: published, {source}", width, size=VALUE)
    ]


def _mark(point: Point, radius: float, sources: Sequence[str]) -> Mark:
    """Return the label of a point: quiet and with its source's number if it was published."""
    is_numbered = point.source and len(sources) > 1
    note = f" [{sources.index(point.source) + 1}]" if is_numbered else ""
    return Mark(
        x=point.x,
        y=100 * point.accuracy,
        radius=radius,
        deviation=100 * point.deviation,
        text=point.label + note,
        colour=QUIET if point.is_published else INK,
        weight="normal" if point.is_published else "bold",
        size=VALUE if point.is_published else SMALL,
    )


def _by_crowd(axes: Axes, marks: Sequence[Mark]) -> list[Mark]:
    """Put marks with near neighbours first: they have the fewest places to choose from."""
    at_N2 = axes.transData.transform([(mark.x, mark.y) for mark in marks])
    apart_NN = np.hypot(*(at_N2[:, None] - at_N2[None]).transpose(2, 0, 1))
    crowd_N = np.exp(-apart_NN / 30).sum(axis=1)
    return [marks[number] for number in np.argsort(-crowd_N, kind="stable")]


def _limits(axes: Axes, points: Sequence[Point]) -> None:
    """Leave room for bubbles and labels around all points."""
    axes.set_xscale("log")
    logs = [math.log10(point.x) for point in points]
    span = max(max(logs) - min(logs), 0.3)
    axes.set_xlim(10 ** (min(logs) - 0.17 * span), 10 ** (max(logs) + 0.17 * span))
    steps = (1, 2, 5) if span < 2 else (1,)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)
    low = min(100 * (point.accuracy - point.deviation) for point in points)
    high = max(100 * (point.accuracy + point.deviation) for point in points)
    room = 0.12 * max(high - low, 1.0)
    axes.set_ylim(low - room, high + room)
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 100])
    axes.set_ylim(low - room, high + room)


def _size_legend(figure: Figure, area: float, points: Sequence[Point], *, middle: float) -> None:
    """Show what the areas mean in a row below the chart, by a few round numbers of parameters."""
    wide, tall = figure.get_figwidth(), figure.get_figheight()
    strip = figure.add_axes((0, 0, 1, 1))
    strip.set_xlim(0, wide)
    strip.set_ylim(0, tall)
    strip.set_axis_off()
    left, most = wide - EDGE, max(point.parameters for point in points)
    for size in [size for size in SIZES_IN_LEGEND if most / 40 <= size <= 1.2 * most][:-4:-1]:
        diameter = math.sqrt(area * size) / 72
        left -= text_width(short(size), size=VALUE)
        strip.text(left, middle, short(size), fontsize=VALUE, color=QUIET, va="center")
        left -= 0.05 + diameter / 2
        strip.scatter(left, middle, s=area * size, color=PAPER, edgecolors=QUIET, linewidths=0.7)
        left -= diameter / 2 + 0.15
    words = "area: parameters"
    strip.text(left, middle, words, fontsize=VALUE, color=QUIET, va="center", ha="right")
