"""Accuracy against cost: a bubble per model, its area the parameters, the cost on a log axis."""

import math
import textwrap
from collections.abc import Sequence
from itertools import cycle

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from evaluation.figures.curves import log_axis
from evaluation.figures.style import (
    CHART_DPI,
    COLUMN,
    INK,
    PAPER,
    QUIET,
    RUN_COLOURS,
    SMALL,
    TEXT,
    VALUE,
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

PUBLISHED = "#d5dbe1", "#9aa5b1"
"""Fill and edge."""

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


@styled
def accuracy_against_cost(
    models: pd.DataFrame,
    *,
    title: str,
    subtitle: str,
    metric: str = "recall@1",
    what: str = "OPs per image (MACs + BOPs / 64)",
) -> Figure:
    """Draw for one column if there are few models, else for the whole width of the text.

    Args:
        models: a line each, with `label`; `x`, what it costs or how fast it is, above zero;
            `accuracy` in percent and its `deviation` over seeds; `parameters`; and `source`, where
            the numbers were printed, empty for runs. Published ones are grey.
        metric: name of the accuracy.
        what: the operations or the speed that `x` is, in words, the same of all models.
    """
    width = COLUMN if len(models) <= FEW else TEXT
    figure = new_figure(width, HEIGHTS[width], title=title, subtitle=subtitle, dpi=CHART_DPI)
    axes = figure.subplots()
    sources = [source for source in models.source.unique() if source]
    notes = [
        f"{f'[{number}]' if len(sources) > 1 else 'grey'}: published, {source}"
        for number, source in enumerate(sources, start=1)
    ]
    room = letters(width - 0.5, SMALL)
    axes.set_xlabel(
        "\n".join(line for text in (what, *notes) for line in textwrap.wrap(text, room))
    )
    low, high = np.log10([models.x.min(), models.x.max()])
    span = max(high - low, 0.3)
    log_axis(axes, is_short=span < 2, form=short)
    axes.set_xlim(10 ** (low - 0.17 * span), 10 ** (high + 0.17 * span))
    ends = [*(models.accuracy - models.deviation), *(models.accuracy + models.deviation)]
    axes.set_ylabel(accuracy_axis(axes, metric, ends))

    area = LARGEST_BUBBLES[width] ** 2 / models.parameters.max()
    sizes = (area * models.parameters).clip(lower=LEAST_BUBBLE**2)
    is_ours = models.source == ""
    fresh = cycle(RUN_COLOURS)
    looks = [(next(fresh), PAPER) if ours else PUBLISHED for ours in is_ours]
    fills, edges = zip(*looks, strict=True)
    drawn = models.assign(size=sizes, fill=fills, edge=edges, is_ours=is_ours)
    # Large bubbles first, so that small ones lie on top of them, whoever's they are.
    drawn = drawn.sort_values(["size", "is_ours"], ascending=False, kind="stable")
    x, y, size, fill, edge = (drawn[name] for name in ("x", "accuracy", "size", "fill", "edge"))
    axes.scatter(x, y, s=size, color=fill, edgecolors=edge, linewidths=0.7, zorder=4)
    for model in models[models.deviation > 0].itertuples():
        at, spread = (model.x, model.accuracy), model.deviation
        axes.errorbar(*at, yerr=spread, color=INK, linewidth=0.8, zorder=5)
    _size_legend(figure, area, models.parameters.max())
    figure.draw_without_rendering()  # the layout is final then
    place_labels(axes, models, np.sqrt(sizes.to_numpy()) / 2, sources)
    return figure


def _size_legend(figure: Figure, area: float, most: float) -> None:
    """Show what the areas mean below the chart, by a few round numbers of parameters."""
    sizes = [size for size in SIZES_IN_LEGEND if most / 40 <= size <= 1.2 * most][-3:] or [most]
    keys = [Line2D([], [], linestyle="", marker="o", color=PAPER) for _ in sizes]
    for key, size in zip(keys, sizes, strict=True):
        key.set(markersize=math.sqrt(area * size), markeredgecolor=QUIET)
    largest = math.sqrt(area * sizes[-1]) / SMALL
    figure.legend(
        keys,
        [short(size) for size in sizes],
        title="area: parameters",
        title_fontsize=VALUE,
        loc="outside lower right",
        handleheight=largest,
        handlelength=largest,
        ncols=3,
        labelcolor=QUIET,
    )


def place_labels(
    axes: Axes, models: pd.DataFrame, radius_N: Floats, sources: Sequence[str]
) -> None:
    """Write each name where it hides least, those in a crowd first; bubbles have radii in points.

    The name of a published model is quiet and has its source's number, if there are several.
    """
    scale = 72 / axes.figure.dpi
    at_N2 = models[["x", "accuracy"]].to_numpy(dtype=float)
    top_N2 = np.stack([models.x, models.accuracy + models.deviation], axis=1)
    centre_N2, end_N2 = (axes.transData.transform(ends) * scale for ends in (at_N2, top_N2))
    up_N = np.maximum((end_N2 - centre_N2)[:, 1], radius_N)
    around_N2 = np.stack([radius_N, up_N], axis=1)
    taken = list(np.concatenate([centre_N2 - around_N2, centre_N2 + around_N2], axis=1))
    room = np.array(axes.get_window_extent().extents) * scale
    apart_NN = np.hypot(*(centre_N2[:, None] - centre_N2[None]).transpose(2, 0, 1))
    places = [(distance, along) for distance in DISTANCES for along in UNIT_VECTORS]
    for number in np.argsort(-np.exp(-apart_NN / 30).sum(axis=1), kind="stable").tolist():
        name, source, centre = models.label[number], models.source[number], centre_N2[number]
        is_numbered = source and len(sources) > 1
        label = axes.annotate(
            f"{name} [{sources.index(source) + 1}]" if is_numbered else name,
            at_N2[number],
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            color=QUIET if source else INK,
            fontsize=VALUE if source else SMALL,
            fontweight="normal" if source else "bold",
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


def _shared(box: Floats, other: Floats) -> float:
    """Return the area that two boxes (left, bottom, right, top) share."""
    sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    return float(sides.clip(0).prod())


def accuracy_axis(axes: Axes, metric: str, ends: Sequence[float]) -> str:
    """Give a chart room for accuracies in percent, and return what its axis is called.

    The axis begins at 0, but where all are above `HIGH`: then its name says where.
    """
    low, high = min(ends), max(ends)
    is_whole = low < HIGH
    room = 0.12 * max(high - (0.0 if is_whole else low), 1.0)
    begin = min(0.0, low - room) if is_whole else math.floor(low - room)
    axes.set_ylim(begin, high + room)
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 100])
    axes.set_ylim(begin, high + room)
    return f"{metric} (%)" if is_whole else f"{metric} (%), axis from {begin}"
