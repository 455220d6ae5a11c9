"""Labels beside marks, each where it hides nothing: a greedy search, then rounds of repair."""

# Shapes: N = marks (and labels), C = places a label may take. A box is left, bottom, right, top.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from evaluation.figures.canvas import QUIET

Boxes = npt.NDArray[np.float64]

DIRECTIONS = (0.0, 180.0, 90.0, 270.0, 30.0, 150.0, 330.0, 210.0, 60.0, 120.0, 300.0, 240.0)
"""Degrees from the mark to its label, the preferred ones first."""

DISTANCES = (3.0, 8.0, 15.0, 24.0, 36.0, 50.0)
"""Points between the edge of a mark and its label."""

PADDING = 2.0
"""Points around a label that stay free of other marks and labels."""

LINE_WIDTH = 2.0
"""Points that the line of a deviation takes."""

LEADER_FROM = 10.0
"""From this distance on a thin line ties a label to its mark."""

ROUNDS = 4
OUTSIDE, COVERS_LABEL, COVERS_MARK, PER_POINT, PER_RANK, MISLEADS = (
    40.0,
    10.0,
    8.0,
    0.6,
    0.3,
    1500.0,
)
"""Price of a square point outside the axes, over a label, over a mark; of a point of distance; of
each place in the order of directions; and of each other mark that the label stands closer to."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A round mark in data coordinates, and the words to put beside it."""

    x: float
    y: float
    radius: float
    """In points."""

    text: str
    colour: str
    deviation: float = 0.0
    """Half the height of the line through the mark, in data coordinates."""

    size: float = 8.0
    weight: str = "normal"


def place_labels(axes: Axes, marks: Sequence[Mark]) -> list[Boxes]:
    """Write every mark's text near it; limits and scales of the axes must be final.

    Returns:
        the box of each label in points, for whoever wants to prove that none overlap.
    """
    if not marks:
        return []
    points = 72 / axes.figure.dpi
    centre_N2 = axes.transData.transform([(mark.x, mark.y) for mark in marks]) * points
    radius_N = np.array([mark.radius for mark in marks])
    room = np.array(axes.get_window_extent().extents) * points
    hidden_N4 = _hidden(axes, marks, points)
    choices = []
    for number, mark in enumerate(marks):
        box_C4, price_C = _choices(centre_N2[number], mark.radius, _extent(axes, mark) * points)
        gap_CN = _gaps(box_C4, centre_N2, radius_N)
        misled_C = (gap_CN < gap_CN[:, [number]]).sum(axis=1)
        choices.append((box_C4, price_C + MISLEADS * misled_C))
    apart = PADDING * np.array([-1, -1, 1, 1])
    chosen = [0] * len(marks)
    for turn in range(ROUNDS):
        for number, (box_C4, price_C) in enumerate(choices):
            placed = range(len(marks)) if turn else range(number)
            others = [choices[at][0][chosen[at]] for at in placed if at != number]
            cost_C = price_C + COVERS_MARK * _overlap(box_C4 + apart, hidden_N4)
            cost_C += OUTSIDE * (_area(box_C4) - _overlap(box_C4, room[None]))
            if others:
                cost_C += COVERS_LABEL * _overlap(box_C4 + apart, np.array(others))
            chosen[number] = int(cost_C.argmin())
    boxes = [box_C4[at] for (box_C4, _), at in zip(choices, chosen, strict=True)]
    for mark, centre, box in zip(marks, centre_N2, boxes, strict=True):
        _write(axes, mark, centre, box, points)
    return boxes


def _hidden(axes: Axes, marks: Sequence[Mark], points: float) -> Boxes:
    """Return what labels would hide, in points [2 N, 4]: marks, then lines of their deviations."""
    centre_N2 = axes.transData.transform([(mark.x, mark.y) for mark in marks]) * points
    ends_N2 = axes.transData.transform([(mark.x, mark.y + mark.deviation) for mark in marks])
    radius_N = np.array([mark.radius for mark in marks])[:, None].repeat(2, axis=1)
    half_N = (ends_N2 * points - centre_N2)[:, 1]
    half_N2 = np.stack([np.where(half_N > 0, LINE_WIDTH / 2, 0), half_N], axis=1)
    return np.concatenate(
        [
            np.concatenate([centre_N2 - around_N2, centre_N2 + around_N2], axis=1)
            for around_N2 in (radius_N, half_N2)
        ]
    )


def are_clear(axes: Axes, marks: Sequence[Mark], boxes: Sequence[Boxes]) -> bool:
    """Return whether no label lies over another, a mark, its deviation, or the edge of the axes."""
    if not boxes:
        return True
    points = 72 / axes.figure.dpi
    box_N4 = np.array(boxes)
    area_N = _area(box_N4)
    room = np.array(axes.get_window_extent().extents) * points
    outside_N = area_N - _overlap(box_N4, room[None])
    hidden_N = _overlap(box_N4, box_N4) - area_N + _overlap(box_N4, _hidden(axes, marks, points))
    return bool((outside_N + hidden_N < 1e-6 * area_N).all())


def _choices(
    centre: npt.NDArray[np.float64], radius: float, extent: npt.NDArray[np.float64]
) -> tuple[Boxes, npt.NDArray[np.float64]]:
    """Return every box a label may take [C, 4], and what each costs by itself [C]."""
    boxes, prices = [], []
    for distance in DISTANCES:
        for rank, degrees in enumerate(DIRECTIONS):
            along = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
            # The point of the label's outline that faces the mark lies at this distance from it.
            middle = centre + along * (radius + distance) + along.round(1) * extent / 2
            boxes.append(np.concatenate([middle - extent / 2, middle + extent / 2]))
            prices.append(PER_POINT * distance + PER_RANK * rank)
    return np.array(boxes), np.array(prices)


def _gaps(
    box_C4: Boxes, centre_N2: npt.NDArray[np.float64], radius_N: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return how far each box is from the edge of each mark [C, N]."""
    nearest_CN2 = np.clip(centre_N2[None], box_C4[:, None, :2], box_C4[:, None, 2:])
    gap_CN: npt.NDArray[np.float64] = np.hypot(*(nearest_CN2 - centre_N2).transpose(2, 0, 1))
    return gap_CN - radius_N


def _extent(axes: Axes, mark: Mark) -> npt.NDArray[np.float64]:
    """Return width and height of a text in pixels."""
    text = axes.text(0, 0, mark.text, fontsize=mark.size, fontweight=mark.weight)
    box = text.get_window_extent()
    text.remove()
    return np.array([box.width, box.height])


def _write(
    axes: Axes,
    mark: Mark,
    centre: npt.NDArray[np.float64],
    box: npt.NDArray[np.float64],
    points: float,
) -> None:
    to_data = axes.transData.inverted()
    middle = (box[:2] + box[2:]) / 2
    nearest = np.clip(centre, box[:2], box[2:])
    gap = float(np.hypot(*(nearest - centre))) - mark.radius
    if gap > LEADER_FROM:
        start = centre + (nearest - centre) * mark.radius / (gap + mark.radius)
        line = to_data.transform(np.array([start, nearest]) / points)
        axes.plot(*line.T, color=QUIET, linewidth=0.6, zorder=3.5)
    x, y = to_data.transform(middle / points)
    axes.text(
        x,
        y,
        mark.text,
        color=mark.colour,
        fontsize=mark.size,
        fontweight=mark.weight,
        ha="center",
        va="center",
        zorder=6,
    )


def _area(box_C4: Boxes) -> npt.NDArray[np.float64]:
    area: npt.NDArray[np.float64] = np.prod(box_C4[:, 2:] - box_C4[:, :2], axis=1)
    return area


def _overlap(box_C4: Boxes, other_N4: Boxes) -> npt.NDArray[np.float64]:
    """Return the area that each box shares with the others, summed [C]."""
    low = np.maximum(box_C4[:, None, :2], other_N4[None, :, :2])
    high = np.minimum(box_C4[:, None, 2:], other_N4[None, :, 2:])
    shared: npt.NDArray[np.float64] = np.clip(high - low, 0, None).prod(axis=2).sum(axis=1)
    return shared
