"""Streets in staggered blocks, with pavements, markings, street trees and parked cars."""

from dataclasses import dataclass

import numpy as np

from data_shards.synth.campus import Campus
from data_shards.synth.canvas import Canvas
from data_shards.synth.grid import AnyArray, Rect
from data_shards.synth.materials import Material, Surface, blend, vary

PAVEMENT_M = 1.9


@dataclass(frozen=True)
class Street:
    """A straight street: `along_u` runs in u at a fixed v, otherwise in v at a fixed u."""

    along_u: bool
    offset_m: float
    start_m: float
    end_m: float
    width_m: float


@dataclass(frozen=True)
class StreetPlan:
    """The streets of a place and the blocks of land between them."""

    angle_rad: float
    streets: tuple[Street, ...]
    blocks: tuple[Rect, ...]


def plan_streets(rng: np.random.Generator, *, campus: Campus, half_m: float) -> StreetPlan:
    """Divide the land by through streets, and the bands between them by cross streets."""
    angle_rad = campus.angle_rad + float(rng.normal(0, 0.07))
    reach_m = half_m * 1.45
    lines = _lines(rng, step_m=campus.block_m, reach_m=reach_m)
    streets, blocks = [], []
    inset_m = 0.5 * campus.street_m + PAVEMENT_M
    whole = Rect(x_m=0, y_m=0, half_u_m=1, half_v_m=1, angle_rad=angle_rad)
    for low_m, high_m in zip(lines[:-1], lines[1:], strict=True):
        width_m = campus.street_m * (1.35 if rng.random() < 0.25 else 1.0)
        streets.append(Street(True, low_m, -reach_m, reach_m, width_m))
        cross = _lines(rng, step_m=campus.block_m * 1.25, reach_m=reach_m)
        for west_m, east_m in zip(cross[:-1], cross[1:], strict=True):
            streets.append(Street(False, west_m, low_m, high_m, campus.street_m * 0.85))
            block = whole.part(
                0.5 * (west_m + east_m),
                0.5 * (low_m + high_m),
                max(0.5 * (east_m - west_m) - inset_m, 1.0),
                max(0.5 * (high_m - low_m) - inset_m, 1.0),
            )
            if max(abs(block.x_m), abs(block.y_m)) < half_m + max(block.half_u_m, block.half_v_m):
                blocks.append(block)
    return StreetPlan(angle_rad, tuple(streets), tuple(blocks))


def _lines(rng: np.random.Generator, *, step_m: float, reach_m: float) -> list[float]:
    """Draw irregular offsets from -reach to reach, with the origin well inside an interval."""
    first = -float(rng.uniform(0.3, 0.7)) * step_m
    lines = [first]
    while lines[-1] < reach_m:
        lines.append(lines[-1] + step_m * float(rng.uniform(0.65, 1.5)))
    while lines[0] > -reach_m:
        lines.insert(0, lines[0] - step_m * float(rng.uniform(0.65, 1.5)))
    return lines


def paint_streets(
    canvas: Canvas, plan: StreetPlan, rng: np.random.Generator, *, campus: Campus
) -> None:
    """Paint pavements first, then lanes over them, so that crossings stay open."""
    u_m, v_m = canvas.grid.turned(plan.angle_rad)
    pavement = canvas.table.add(Surface(material=Material.PAVING, colour=vary(campus.paving, rng)))
    lane = canvas.table.add(Surface(material=Material.ASPHALT, colour=vary(campus.asphalt, rng)))
    thinned = 0.85 * min(1.0, 0.3 / canvas.grid.cell_m)  # by the asphalt that shares a cell
    white = blend(campus.asphalt, (218, 217, 210), thinned)
    line = canvas.table.add(Surface(material=Material.MARKING, colour=white))
    near = []  # the cells of each street, and their distance across and along it
    for street in plan.streets:
        along_m, across_m = (u_m, v_m) if street.along_u else (v_m, u_m)
        distance_m = np.abs(across_m - np.float32(street.offset_m)).reshape(-1)
        cells = np.flatnonzero(distance_m < 0.5 * street.width_m + PAVEMENT_M)
        along_m = along_m.reshape(-1)[cells]
        kept = (along_m >= street.start_m) & (along_m <= street.end_m)
        near.append((cells[kept], distance_m[cells[kept]], along_m[kept]))
    surface = canvas.surface.reshape(-1)
    for street, (cells, across_m, _) in zip(plan.streets, near, strict=True):
        surface[cells[across_m < 0.5 * street.width_m + PAVEMENT_M]] = pavement
    for street, (cells, across_m, _) in zip(plan.streets, near, strict=True):
        surface[cells[across_m < 0.5 * street.width_m]] = lane
    half_line_m = 0.5 * max(0.3, canvas.grid.cell_m)
    for street, (cells, across_m, along_m) in zip(plan.streets, near, strict=True):
        dashed = (across_m < half_line_m) & (np.mod(along_m, 9.0) < 4.5)
        if street.width_m > campus.street_m * 0.9:
            surface[cells[dashed & (surface[cells] == lane)]] = line
    for street in plan.streets:
        _line_with_trees_and_cars(canvas, street, rng, campus=campus, angle_rad=plan.angle_rad)


def _line_with_trees_and_cars(
    canvas: Canvas, street: Street, rng: np.random.Generator, *, campus: Campus, angle_rad: float
) -> None:
    """Note where trees stand beside a street, and where cars park and drive on it."""
    frame = Rect(x_m=0, y_m=0, half_u_m=1, half_v_m=1, angle_rad=angle_rad)
    heading_rad = angle_rad if street.along_u else angle_rad + 0.5 * float(np.pi)
    lined, parked = rng.random(2) < (0.55, 0.5), rng.random() < 0.6
    half_m = 0.5 * street.width_m
    for side, has_trees in zip((-1, 1), lined, strict=True):
        if has_trees:
            steps_m = np.arange(street.start_m, street.end_m, campus.street_tree_spacing_m)
            steps_m = steps_m + rng.normal(0, 0.6, len(steps_m))
            across_m = street.offset_m + side * (half_m + 0.5 * PAVEMENT_M + 1.5)
            points = _points(frame, street, steps_m, across_m)
            canvas.street_trees.append(np.stack(points, 1).astype(np.float32))
        if parked:
            steps_m = np.arange(street.start_m + 8, street.end_m - 8, 5.8)
            x_m, y_m = _points(frame, street, steps_m, street.offset_m + side * (half_m - 1.2))
            chance = float(rng.uniform(0.1, 0.6))
            canvas.mark_stalls(x_m, y_m, angle_rad=heading_rad, chance=chance)
    steps_m = np.arange(street.start_m, street.end_m, 13.0)
    lanes_m = street.offset_m + rng.choice([-0.5, 0.5], len(steps_m)) * half_m
    x_m, y_m = _points(frame, street, steps_m, lanes_m)
    canvas.mark_stalls(x_m, y_m, angle_rad=heading_rad, chance=0.12)


def _points(
    frame: Rect, street: Street, along_m: AnyArray, across_m: AnyArray | float
) -> tuple[AnyArray, AnyArray]:
    """Return the (x, y) of points along a street."""
    across_m = np.broadcast_to(across_m, along_m.shape)
    return frame.at(along_m, across_m) if street.along_u else frame.at(across_m, along_m)
