"""Accuracy against cost: a bubble per model, its area the parameters, the cost on a log axis."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text

from evaluation.figures.curves import log_axis
from evaluation.figures.style import (
    CHART_DPI,
    COLUMN,
    INK,
    PAPER,
    QUIET,
    SMALL,
    TEXT,
    VALUE,
    colours,
    letters,
    new_figure,
    styled,
)
from evaluation.tables import short

Floats = npt.NDArray[np.float64]

HEIGHTS = {COLUMN: 2.9, TEXT: 4.0}
"""Inches below the headline, by the width of the figure."""

LARGEST_BUBBLES = {COLUMN: 18.0, TEXT: 26.0}
"""Diameter in points of the model with the most parameters, by the width of the figure."""

FEW = 6
"""Models that find room in the width of a column."""

LEAST_BUBBLE = 2.5
"""Diameter in points below which a bubble could not be seen."""

PUBLISHED_FILL, PUBLISHED_EDGE = "#d5dbe1", "#9aa5b1"
DIRECTIONS = (0, 180, 90, 270, 30, 150, 330, 210, 60, 120, 300, 240)
"""Degrees from a bubble to its label, the preferred ones first."""

UNIT_VECTORS = [np.array([np.cos(angle), np.sin(angle)]) for angle in np.radians(DIRECTIONS)]

DISTANCES = (3.0, 8.0, 15.0, 24.0, 36.0, 50.0)
"""Points between the edge of a bubble and its label; a thin line ties those from the third on."""

OUTSIDE, COVERED, MISLEADING = 40.0, 10.0, 1500.0
"""Price of a square point of a label outside the chart, or over something; and of each bubble that
it stands closer to than to its own; beside the distance in points."""

HIGH = 50.0
"""Percent from which on a chart does not begin at 0."""

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


@styled
def accuracy_against_cost(
    points: Sequence[Point],
    *,
    title: str,
    subtitle: str,
    metric: str = "recall@1",
    what: str = "OPs per image (MACs + BOPs / 64)",
) -> Figure:
    """Draw for one column if there are few models, else for the whole width of the text.

    Args:
        points: the models, runs and published ones in any order.
        title: what is compared.
        subtitle: on what, and at which image size, or on which device.
        metric: name of the accuracy.
        what: the operations or the speed that `x` is, in words, the same of all points.
    """
    assert points, "the caller has something to compare"
    width = COLUMN if len(points) <= FEW else TEXT
    height = HEIGHTS[width]
    figure = new_figure(width, height, title=title, subtitle=subtitle, dpi=CHART_DPI)
    axes = figure.subplots()
    sources = list(dict.fromkeys(point.source for point in points if point.source))
    notes = [
        f"{f'[{number}]' if len(sources) > 1 else 'grey'}: published, {source}"
        for number, source in enumerate(sources, start=1)
    ]
    room = letters(width - 0.5, SMALL)
    axes.set_xlabel(
        "\n".join(line for text in (what, *notes) for line in textwrap.wrap(text, room))
    )
    logs = [math.log10(point.x) for point in points]
    span = max(max(logs) - min(logs), 0.3)
    log_axis(axes, is_short=span < 2, form=short)
    axes.set_xlim(10 ** (min(logs) - 0.17 * span), 10 ** (max(logs) + 0.17 * span))
    ends = [100 * (p.accuracy + sign * p.deviation) for p in points for sign in (-1, 1)]
    axes.set_ylabel(accuracy_axis(axes, metric, ends))

    area = LARGEST_BUBBLES[width] ** 2 / max(point.parameters for point in points)
    runs = [point for point in points if not point.is_published]
    colour_of = dict(zip(map(id, runs), colours(len(runs)), strict=True))
    sizes = [max(area * point.parameters, LEAST_BUBBLE**2) for point in points]
    # Large bubbles first, so that small ones lie on top of them, whoever's they are.
    by_size = sorted(zip(sizes, points, strict=True), key=lambda one: one[1].is_published)
    for size, point in sorted(by_size, key=lambda one: -one[0]):
        colour = colour_of.get(id(point), PUBLISHED_FILL)
        edge = PUBLISHED_EDGE if point.is_published else PAPER
        x, y = point.x, 100 * point.accuracy
        axes.scatter(x, y, s=size, color=colour, edgecolors=edge, linewidths=0.7, zorder=4)
        if point.deviation:
            axes.errorbar(x, y, yerr=100 * point.deviation, color=INK, linewidth=0.8, zorder=5)
    _size_legend(figure, area, max(point.parameters for point in points))
    figure.draw_without_rendering()  # the layout is final then
    place_labels(axes, points, np.sqrt(sizes) / 2, sources)
    return figure


def place_labels(
    axes: Axes, points: Sequence[Point], radius_N: Floats, sources: Sequence[str]
) -> list[Annotation]:
    """Write each name where it hides least, those in a crowd first; bubbles have radii in points.

    The name of a published point is quiet and has its source's number, if there are several.
    """
    scale = 72 / axes.figure.dpi
    at = [(point.x, 100 * point.accuracy) for point in points]
    top = [(point.x, 100 * (point.accuracy + point.deviation)) for point in points]
    centre_N2, top_N2 = (axes.transData.transform(ends) * scale for ends in (at, top))
    up_N = np.maximum((top_N2 - centre_N2)[:, 1], radius_N)
    around_N2 = np.stack([radius_N, up_N], axis=1)
    taken = list(np.concatenate([centre_N2 - around_N2, centre_N2 + around_N2], axis=1))
    room = np.array(axes.get_window_extent().extents) * scale
    apart_NN = np.hypot(*(centre_N2[:, None] - centre_N2[None]).transpose(2, 0, 1))
    places = [(distance, along) for distance in DISTANCES for along in UNIT_VECTORS]
    labels = []
    for number in np.argsort(-np.exp(-apart_NN / 30).sum(axis=1), kind="stable").tolist():
        point, centre = points[number], centre_N2[number]
        is_numbered = point.source and len(sources) > 1
        label = axes.annotate(
            point.label + (f" [{sources.index(point.source) + 1}]" if is_numbered else ""),
            at[number],
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            color=QUIET if point.is_published else INK,
            fontsize=VALUE if point.is_published else SMALL,
            fontweight="normal" if point.is_published else "bold",
            arrowprops={"arrowstyle": "-", "linewidth": 0.6, "color": QUIET, "shrinkA": 0},
            zorder=6,
        )
        extent = Text.get_window_extent(label)  # without the line
        size = np.array([extent.width, extent.height]) * scale
        offsets = [
            along * (radius_N[number] + distance) + along.round(1) * size / 2
            for distance, along in places
        ]
        boxes = [np.concatenate([centre + o - size / 2, centre + o + size / 2]) for o in offsets]
        nearest = [np.clip(centre_N2, box[:2], box[2:]) - centre_N2 for box in boxes]
        gaps = [np.hypot(*apart_N2.T) - radius_N for apart_N2 in nearest]
        prices = [
            distance
            + COVERED * sum(_shared(box, other) for other in taken)
            + OUTSIDE * (float(size.prod()) - _shared(box, room))
            + MISLEADING * int((gap_N < gap_N[number]).sum())
            for (distance, _), box, gap_N in zip(places, boxes, gaps, strict=True)
        ]
        best = int(np.argmin(prices))
        label.set_position(offsets[best])
        label.set_in_layout(False)  # it has its place, which is within the chart
        assert label.arrow_patch is not None, "asked for above"
        label.arrow_patch.set_visible(places[best][0] >= DISTANCES[2])
        taken.append(boxes[best])
        labels.append(label)
    return labels


def _shared(box: Floats, other: Floats) -> float:
    """Return the area that two boxes (left, bottom, right, top) share."""
    sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    return float(sides.clip(0).prod())


def accuracy_axis(axes: Axes, metric: str, ends: Sequence[float]) -> str:
    """Give a chart room for accuracies in percent, and return what its axis is called.

    The axis begins at 0, but where all are above `HIGH`: then its name says where.
    """
    low, high = min(ends), max(ends)
    room = 0.12 * max(high - low, 1.0)
    is_whole = low < HIGH
    begin = min(0.0, low - 0.15 * high) if is_whole else math.floor(low - room)
    axes.set_ylim(begin, high + room)
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 100])
    axes.set_ylim(begin, high + room)
    return f"{metric} (%)" if is_whole else f"{metric} (%), axis from {begin}"


def _size_legend(figure: Figure, area: float, most: float) -> None:
    """Show what the areas mean below the chart, by a few round numbers of parameters."""
    sizes = [size for size in SIZES_IN_LEGEND if most / 40 <= size <= 1.2 * most][-3:] or [most]
    keys = [
        Line2D([], [], linestyle="", marker="o", markersize=math.sqrt(area * size))
        for size in sizes
    ]
    for key in keys:
        key.set(markerfacecolor=PAPER, markeredgecolor=QUIET)
    figure.legend(
        keys,
        [short(size) for size in sizes],
        title="area: parameters",
        title_fontsize=VALUE,
        loc="outside lower right",
        handleheight=math.sqrt(area * sizes[-1]) / SMALL,  # room for the largest
        handlelength=math.sqrt(area * sizes[-1]) / SMALL,
        ncols=3,
        labelcolor=QUIET,
    )
