"""A place as geometry and paint: everything that stays the same from one photograph to the next."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.synth.buildings import raise_building, raise_houses
from data_shards.synth.campus import USES, Campus, lean
from data_shards.synth.canvas import Canvas, Facade
from data_shards.synth.grid import Floats, Grid, Rect
from data_shards.synth.grounds import GROUNDS
from data_shards.synth.materials import Material, Surface, SurfaceTable, blend, vary
from data_shards.synth.noise import fractal_noise, value_noise
from data_shards.synth.roads import paint_streets, plan_streets
from data_shards.synth.vegetation import Trees, plant

WATER_COLOUR = (58.0, 72.0, 68.0)


def relief(rng: np.random.Generator, grid: Grid, *, campus: Campus) -> Floats:
    """Return the height of the ground in metres, zero at the centre of the place."""
    ground_m = fractal_noise(rng, grid, wavelength_m=190.0, octaves=3, gain=0.35)
    tilt = rng.normal(0, 0.006, 2).astype(np.float32)
    ground_m = campus.relief_m * ground_m + tilt[0] * grid.x_m + tilt[1] * grid.y_m
    middle = grid.cells // 2
    level: Floats = (ground_m - ground_m[middle, middle]).astype(np.float32)
    return level


def paint_ground(canvas: Canvas, rng: np.random.Generator, *, campus: Campus) -> None:
    """Cover everything with the campus's grass, with bare patches where the noise is high."""
    lawn = Surface(
        material=Material.MEADOW,
        colour=blend(campus.grass, campus.soil, 0.25),
        trees_per_hectare=14 * campus.tree_factor,
    )
    bare = Surface(material=Material.SOIL, colour=vary(campus.soil, rng), trees_per_hectare=3)
    canvas.surface[:] = canvas.table.add(lawn)
    patches = fractal_noise(rng, canvas.grid, wavelength_m=40.0, octaves=3)
    canvas.surface[patches > 0.42] = canvas.table.add(bare)


def paint_river(canvas: Canvas, rng: np.random.Generator) -> None:
    """Lay a winding river with gravel banks across the place, off its centre."""
    grid = canvas.grid
    along_m, across_m = grid.turned(float(rng.uniform(0, np.pi)))
    bend_m = float(rng.uniform(8, 30))
    phase, length_m = float(rng.uniform(0, 6.28)), float(rng.uniform(50, 110))
    offset_m = float(rng.choice([-1, 1]) * rng.uniform(55, 150))
    middle_m = offset_m + bend_m * np.sin(along_m / length_m + phase)
    distance_m = np.abs(across_m - middle_m)
    half_m = float(rng.uniform(6, 16))
    bank = Surface(material=Material.SOIL, colour=(146, 140, 124), trees_per_hectare=60)
    water = Surface(material=Material.WATER, colour=vary(WATER_COLOUR, rng))
    canvas.surface[distance_m < half_m + 4] = canvas.table.add(bank)
    wet = distance_m < half_m
    canvas.surface[wet] = canvas.table.add(water)
    canvas.height_m[wet] -= 1.5
    canvas.building[distance_m < half_m + 4] = -1


WHOLE_BLOCK_USES = ("sports", "wood", "pond", "field")


@dataclass(frozen=True)
class Lot:
    """A piece of land with one use."""

    rect: Rect
    use: str
    is_landmark: bool = False


def divide(blocks: tuple[Rect, ...], rng: np.random.Generator, *, campus: Campus) -> list[Lot]:
    """Cut every block into lots; the lot nearest the centre of the place carries its landmark."""
    lots: list[Lot] = []
    for block in blocks:
        block_use = str(rng.choice(USES, p=campus.uses))
        holds_centre = np.hypot(block.x_m, block.y_m) < np.hypot(block.half_u_m, block.half_v_m)
        if block_use in WHOLE_BLOCK_USES and not holds_centre:
            lots.append(Lot(block, block_use))
            continue
        for piece in _cut(block, rng, longest_m=float(rng.uniform(42, 75))):
            use = block_use if rng.random() < 0.55 else str(rng.choice(USES, p=campus.uses))
            is_narrow = min(piece.half_u_m, piece.half_v_m) < 9
            lots.append(Lot(piece, "lawn" if use in WHOLE_BLOCK_USES or is_narrow else use))
    nearest = min(range(len(lots)), key=lambda i: np.hypot(lots[i].rect.x_m, lots[i].rect.y_m))
    lots[nearest] = Lot(lots[nearest].rect, "built", is_landmark=True)
    return lots


def _cut(rect: Rect, rng: np.random.Generator, *, longest_m: float) -> list[Rect]:
    """Halve a rectangle, off its middle, until no side is longer than `longest_m`."""
    if 2 * max(rect.half_u_m, rect.half_v_m) <= longest_m:
        return [rect]
    share = float(rng.uniform(0.35, 0.65))
    half_u_m, half_v_m = rect.half_u_m, rect.half_v_m
    if half_u_m >= half_v_m:
        near = rect.part(-half_u_m * (1 - share), 0, half_u_m * share, half_v_m)
        far = rect.part(half_u_m * share, 0, half_u_m * (1 - share), half_v_m)
    else:
        near = rect.part(0, -half_v_m * (1 - share), half_u_m, half_v_m * share)
        far = rect.part(0, half_v_m * share, half_u_m, half_v_m * (1 - share))
    return _cut(near, rng, longest_m=longest_m) + _cut(far, rng, longest_m=longest_m)


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
        if lot.use == "built":
            raise_building(canvas, lot.rect, rng, campus=campus, is_landmark=lot.is_landmark)
        elif lot.use == "houses":
            raise_houses(canvas, lot.rect, rng, campus=campus)
    canvas.building[canvas.building < 0] = 0  # the mark that kept buildings out of the water
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
