"""A scene on one day: its season, its cars, what was repainted, and the light on all of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.synth.grid import Floats, Grid, stamp
from data_shards.synth.light import Sky, illumination, shadow_height
from data_shards.synth.materials import (
    GRAIN,
    VEGETATION,
    Colour,
    Material,
    Surface,
    SurfaceTable,
    hex_colours,
    season_factors,
    to_linear,
)
from data_shards.synth.scene import Scene
from data_shards.synth.vegetation import grow

CAR_COLOURS = hex_colours("c4c4c2 aaacae 8c8e92 3e4044 2e2e32 96322c 3a4c76 786c5a")
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


REPAINTED = (
    Material.FLAT_ROOF,
    Material.TILE_ROOF,
    Material.METAL_ROOF,
    Material.GRASS,
    Material.SOIL,
    Material.COURT,
    Material.ASPHALT,
    Material.PAVING,
)


@dataclass(frozen=True, kw_only=True)
class Day:
    """When a photograph is taken, and how far the place has changed by then."""

    season: str
    sky: Sky
    repainted: float
    """Share of roofs, lawns and pavings that took another colour."""

    felled: float
    """Share of trees that are not there."""


@dataclass(frozen=True, kw_only=True)
class DressedScene:
    """What a camera can see: heights, light sent upwards, and what it needs for the walls."""

    scene: Scene
    sky: Sky
    height_m: Floats
    shadow_m: Floats
    radiance: Floats
    """Linear light from every cell, (3, cells x cells)."""

    @property
    def grid(self) -> Grid:
        return self.scene.grid


def dress(scene: Scene, rng: np.random.Generator, *, day: Day) -> DressedScene:
    """Let a day dawn on a scene."""
    height_m, surface = scene.height_m.copy(), scene.surface.copy()
    table = SurfaceTable(list(scene.table.surfaces))
    colours = _repaint(table, rng, share=day.repainted)
    park(scene.stalls, rng, grid=scene.grid, height_m=height_m, surface=surface, table=table)
    first_crown = len(table.surfaces)
    for is_conifer in scene.trees.is_conifer:
        kind = Material.CONIFER if is_conifer else Material.CROWN
        table.add(Surface(material=kind, colour=(0, 0, 0)))
    grow(
        scene.trees,
        grid=scene.grid,
        ground_m=scene.ground_m,
        height_m=height_m,
        surface=surface,
        numbers=np.arange(first_crown, len(table.surfaces), dtype=np.int32),
        alive=rng.random(len(scene.trees.x_m)) >= day.felled,
    )
    palette = table.colours()
    palette[: len(colours)] = colours
    tint = 1 + rng.normal(0, 0.08, (len(scene.trees.x_m), 3)) * (1.0, 0.5, 0.5)
    palette[first_crown:] = scene.trees.colours * tint
    palette *= season_factors(day.season)[table.materials()]
    shadow_m = shadow_height(height_m, grid=scene.grid, sky=day.sky)
    radiance = illumination(height_m, shadow_m, grid=scene.grid, sky=day.sky)
    texture = _texture(scene, surface, table)
    for plane, colour in zip(radiance, to_linear(palette).T, strict=True):
        plane *= colour.take(surface) * texture
    return DressedScene(
        scene=scene,
        sky=day.sky,
        height_m=height_m,
        shadow_m=shadow_m,
        radiance=radiance.reshape(3, -1),
    )


def _repaint(table: SurfaceTable, rng: np.random.Generator, *, share: float) -> Floats:
    """Give a share of the surfaces the colour of another of their kind, and fade all a little."""
    colours, materials = table.colours(), table.materials()
    for material in REPAINTED:
        kind = np.flatnonzero(materials == int(material))
        changed = kind[rng.random(len(kind)) < share]
        if len(changed):
            colours[changed] = colours[rng.choice(kind, len(changed))]
            colours[changed] *= rng.uniform(0.75, 1.3, (len(changed), 1)).astype(np.float32)
    fade = rng.normal(1, 0.05, (len(colours), 1)).astype(np.float32)
    wild = np.isin(materials, [int(material) for material in VEGETATION])
    fade[wild] = 1 + 1.4 * (fade[wild] - 1)
    return colours * fade


def _texture(scene: Scene, surface: NDArray[np.int32], table: SurfaceTable) -> Floats:
    """Return the grain and stripes of every cell, around 1."""
    strength = np.array([GRAIN[material] for material in Material], np.float32)[table.materials()]
    fine, medium, coarse = scene.grain
    texture = 1 + strength[:, 0].take(surface) * fine
    texture += strength[:, 1].take(surface) * medium
    texture += strength[:, 2].take(surface) * (np.float32(1.6) * coarse)
    period, angle, amount = table.stripes().T
    striped = np.flatnonzero((amount > 0).take(surface))
    number = surface.reshape(-1)[striped]
    rows, cols = np.divmod(striped, scene.grid.cells)
    x_m, y_m = scene.grid.x_m[0, cols], scene.grid.y_m[rows, 0]
    across_m = x_m * np.cos(angle)[number] + y_m * np.sin(angle)[number]
    wave = np.sin(across_m * (2 * np.pi / np.maximum(period, 1e-3))[number])
    texture.reshape(-1)[striped] += amount[number] * np.sign(wave) * np.sqrt(np.abs(wave))
    textured: Floats = np.maximum(texture, 0.2).astype(np.float32)
    return textured
