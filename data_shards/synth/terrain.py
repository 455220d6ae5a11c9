"""Bare ground: gentle relief, and a river where the campus has one."""

import numpy as np

from data_shards.synth.campus import Campus
from data_shards.synth.canvas import Canvas
from data_shards.synth.grid import Floats, Grid
from data_shards.synth.materials import Material, Surface, blend, vary
from data_shards.synth.noise import fractal_noise

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


def dry_land(canvas: Canvas) -> None:
    """Forget the mark that kept buildings out of the water."""
    canvas.building[canvas.building < 0] = 0
