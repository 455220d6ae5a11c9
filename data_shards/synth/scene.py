"""A place as geometry and paint: everything that stays the same from one photograph to the next."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.synth.buildings import raise_building, raise_houses
from data_shards.synth.campus import Campus, lean
from data_shards.synth.canvas import Canvas, Facade
from data_shards.synth.grid import Floats, Grid
from data_shards.synth.grounds import GROUNDS
from data_shards.synth.lots import Lot, divide
from data_shards.synth.materials import SurfaceTable
from data_shards.synth.noise import fractal_noise, value_noise
from data_shards.synth.roads import paint_streets, plan_streets
from data_shards.synth.terrain import dry_land, paint_ground, paint_river, relief
from data_shards.synth.vegetation import Trees, plant


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Layered rasters of one place, and the things that stand on them."""

    grid: Grid
    ground_m: Floats
    height_m: Floats
    """Top of ground and buildings; trees and cars come with the day."""

    surface: NDArray[np.int32]
    building: NDArray[np.int16]
    """Number of the building that stands on a cell, from 1; 0 for none."""

    table: SurfaceTable
    facades: tuple[Facade, ...]
    stalls: Floats
    """Where cars may stand: rows of (x_m, y_m, angle_rad, chance)."""

    trees: Trees
    grain: tuple[Floats, Floats, Floats]
    """Texture of one cell, of a few metres and of tens of metres."""


def build_scene(rng: np.random.Generator, *, campus: Campus, grid: Grid) -> Scene:
    """Lay out one place of a campus."""
    campus = lean(campus, rng)
    canvas = Canvas.on(grid, relief(rng, grid, campus=campus))
    paint_ground(canvas, rng, campus=campus)
    plan = plan_streets(rng, campus=campus, half_m=grid.half_m)
    lots = divide(plan.blocks, rng, campus=campus)
    for lot in lots:
        GROUNDS[lot.use](canvas, lot.rect, rng, campus=campus)
    if rng.random() < campus.river_chance:
        paint_river(canvas, rng)
    paint_streets(canvas, plan, rng, campus=campus)
    for lot in sorted(lots, key=lambda lot: not lot.is_landmark):
        _build_on(canvas, lot, rng, campus=campus)
    dry_land(canvas)
    grain = (
        rng.standard_normal((grid.cells, grid.cells), np.float32) * np.float32(0.6),
        fractal_noise(rng, grid, wavelength_m=7.0, octaves=3, gain=0.7),
        fractal_noise(rng, grid, wavelength_m=55.0, octaves=3, gain=0.6),
    )
    lumps = value_noise(rng, grid, wavelength_m=max(1.7, 1.5 * grid.cell_m))
    return Scene(
        grid=grid,
        ground_m=canvas.ground_m,
        height_m=canvas.height_m,
        surface=canvas.surface,
        building=canvas.building,
        table=canvas.table,
        facades=tuple(canvas.facades),
        stalls=np.concatenate([np.empty((0, 4), np.float32), *canvas.stalls]),
        trees=plant(canvas, rng, campus=campus, lumps=lumps),
        grain=grain,
    )


def _build_on(canvas: Canvas, lot: Lot, rng: np.random.Generator, *, campus: Campus) -> None:
    if lot.use == "built":
        raise_building(canvas, lot.rect, rng, campus=campus, is_landmark=lot.is_landmark)
    elif lot.use == "houses":
        raise_houses(canvas, lot.rect, rng, campus=campus)
