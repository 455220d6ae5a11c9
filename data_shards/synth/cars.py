"""Cars that stand in some of the stalls today, and in others tomorrow."""

import numpy as np
from numpy.typing import NDArray

from data_shards.synth.grid import Floats, Grid, stamp
from data_shards.synth.materials import Colour, Material, Surface, SurfaceTable

CAR_COLOURS: tuple[Colour, ...] = (
    (196, 196, 194),
    (170, 172, 174),
    (140, 142, 146),
    (62, 64, 68),
    (46, 46, 50),
    (150, 50, 44),
    (58, 76, 118),
    (120, 108, 90),
)
GLASS: Colour = (44, 50, 56)
HALF_LENGTH_M, HALF_WIDTH_M = 2.25, 0.92


def park(
    stalls: Floats,
    rng: np.random.Generator,
    *,
    grid: Grid,
    height_m: Floats,
    surface: NDArray[np.int32],
    table: SurfaceTable,
) -> None:
    """Put cars into a random choice of stalls: rows of (x_m, y_m, angle_rad, chance)."""
    spots = stalls[rng.random(len(stalls)) < stalls[:, 3]]
    spots = spots[(np.abs(spots[:, :2]) < grid.half_m - 4).all(axis=1)]
    if not len(spots):
        return
    paints = [table.add(Surface(material=Material.CAR, colour=colour)) for colour in CAR_COLOURS]
    glass = table.add(Surface(material=Material.CAR, colour=GLASS))
    shares = np.array([4, 4, 3, 3, 3, 1, 1, 0.7])
    paint = rng.choice(paints, len(spots), p=shares / shares.sum()).astype(np.int32)
    centre = spots[:, :2] + rng.normal(0, 0.15, (len(spots), 2)).astype(np.float32)
    cells, east_m, north_m = stamp(grid, centre[:, 0], centre[:, 1], reach_m=2.5)
    cos, sin = np.cos(spots[:, 2])[:, None, None], np.sin(spots[:, 2])[:, None, None]
    along_m, across_m = east_m * cos + north_m * sin, np.abs(north_m * cos - east_m * sin)
    wide_m = max(HALF_WIDTH_M, 0.6 * grid.cell_m)
    inside = (np.abs(along_m) < HALF_LENGTH_M) & (across_m < wide_m)
    from_cabin_m = np.abs(along_m + 0.25)
    windscreen = (from_cabin_m > 0.75) & (from_cabin_m < 1.35) & (across_m < 0.75)
    colours = np.where(windscreen, glass, paint[:, None, None])[inside]
    tall_m = np.where(from_cabin_m < 1.1, 1.5, 0.95)[inside].astype(np.float32)
    cells = cells[inside]
    surface.reshape(-1)[cells] = colours
    flat = height_m.reshape(-1)
    flat[cells] = flat[cells] + tall_m
