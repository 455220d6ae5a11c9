"""Trees: where they grow, and crowns that are lumpy, shaded and cast shadows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.synth.campus import Campus
from data_shards.synth.canvas import Canvas
from data_shards.synth.grid import Floats, Grid, Indices, Mask, stamp
from data_shards.synth.materials import Material

CANDIDATES_PER_HECTARE = 340.0
SIZE_CLASSES_M = (2.2, 3.2, 4.4, 6.5)


@dataclass(frozen=True)
class Trees:
    """All trees of a place, one entry each."""

    x_m: Floats
    y_m: Floats
    radius_m: Floats
    height_m: Floats
    is_conifer: Mask
    colours: Floats
    """Summer colour of every crown, (trees, 3)."""

    lumps: Floats
    """Shared noise that gives crowns their lumps."""


def plant(canvas: Canvas, rng: np.random.Generator, *, campus: Campus, lumps: Floats) -> Trees:
    """Sow trees as densely as each surface allows, and along the streets."""
    grid = canvas.grid
    count = int(CANDIDATES_PER_HECTARE * (2 * grid.half_m) ** 2 / 1e4)
    sown = rng.uniform(-grid.half_m, grid.half_m, (count, 2)).astype(np.float32)
    density = canvas.table.trees_per_hectare()[_surface_at(canvas, sown)]
    sown = sown[rng.random(count) * CANDIDATES_PER_HECTARE < density]
    rows = np.concatenate([np.empty((0, 2), np.float32), *canvas.street_trees])
    rows = rows[rng.random(len(rows)) < 0.85]
    soft = (Material.GRASS, Material.MEADOW, Material.SOIL, Material.PAVING)
    kinds = canvas.table.materials()[_surface_at(canvas, rows)]
    rows = rows[(np.abs(rows) < grid.half_m).all(axis=1) & np.isin(kinds, soft)]
    points = np.concatenate([sown, rows])
    is_free = np.ones(len(points), np.bool_)
    for dx_m, dy_m in ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2)):  # two metres from any building
        cells = grid.index(points[:, 0] + dx_m, points[:, 1] + dy_m)
        is_free &= canvas.building.reshape(-1)[cells] == 0
    points = points[is_free]
    count = len(points)
    radius_m = np.clip(rng.lognormal(1.15, 0.34, count), 1.4, 6.3).astype(np.float32)
    is_conifer = rng.random(count) < campus.conifer_share
    height_m = radius_m * rng.uniform(1.5, 2.4, count) + 2.0 + 3.0 * is_conifer
    radius_m = np.where(is_conifer, 0.72 * radius_m, radius_m)
    base = np.array(campus.crown, np.float32) * np.where(is_conifer, 0.84, 1.0)[:, None]
    light = 1 + rng.normal(0, 0.10, (count, 1))
    hue = 1 + rng.normal(0, 0.06, (count, 3))
    colours = (base * light * hue).astype(np.float32)
    return Trees(
        points[:, 0],
        points[:, 1],
        radius_m.astype(np.float32),
        height_m.astype(np.float32),
        is_conifer,
        colours,
        lumps,
    )


def _surface_at(canvas: Canvas, points: Floats) -> Indices:
    cells = canvas.grid.index(points[:, 0], points[:, 1])
    return canvas.surface.reshape(-1)[cells].astype(np.int64)


def grow(
    trees: Trees,
    *,
    grid: Grid,
    ground_m: Floats,
    height_m: Floats,
    surface: NDArray[np.int32],
    numbers: NDArray[np.int32],
    alive: Mask,
) -> None:
    """Raise the crowns of the trees that are alive, and paint each with its own number."""
    smallest_m = 0.0
    for largest_m in SIZE_CLASSES_M:
        chosen = alive & (trees.radius_m > smallest_m) & (trees.radius_m <= largest_m)
        smallest_m = largest_m
        if not chosen.any():
            continue
        radius_m, tall_m = trees.radius_m[chosen], trees.height_m[chosen]
        x_m, y_m = trees.x_m[chosen], trees.y_m[chosen]
        cells, east_m, north_m = stamp(grid, x_m, y_m, reach_m=float(radius_m.max()) * 1.1)
        lump = trees.lumps.reshape(-1)[cells]
        outward = np.hypot(east_m, north_m) / radius_m[:, None, None] + 0.26 * lump
        np.clip(outward, 0, 1, out=outward)
        dome = 0.35 + 0.65 * np.sqrt(1 - outward * outward)
        cone = 0.12 + 0.88 * (1 - outward)
        profile = np.where(trees.is_conifer[chosen][:, None, None], cone, dome)
        foot_m = ground_m.reshape(-1)[grid.index(x_m, y_m)]
        tops_m = foot_m[:, None, None] + tall_m[:, None, None] * profile + 0.9 * lump
        inside = outward < 1
        flat_height, flat_surface = height_m.reshape(-1), surface.reshape(-1)
        owners = np.broadcast_to(numbers[chosen][:, None, None], cells.shape)[inside]
        cells, tops_m = cells[inside], tops_m[inside].astype(np.float32)
        np.maximum.at(flat_height, cells, tops_m)
        on_top = tops_m >= flat_height[cells]
        flat_surface[cells[on_top]] = owners[on_top]
