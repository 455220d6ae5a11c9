"""One place from its number to its photographs; a pure function of (seed, split, index)."""

from dataclasses import dataclass

import numpy as np

from data_shards.synth.camera import Orbit, look_at_place
from data_shards.synth.campus import PLACES_PER_CAMPUS, draw_campus
from data_shards.synth.conditions import (
    develop,
    draw_tile,
    drone_conditions,
    satellite_conditions,
)
from data_shards.synth.dress import dress
from data_shards.synth.grid import Grid
from data_shards.synth.noise import stream
from data_shards.synth.render import drone_view, satellite_tile
from data_shards.synth.scene import build_scene

SCENE_M = 440.0
"""Side of the land that is built around a place; no drone view looks beyond it."""

COARSEST_CELL_M, FINEST_CELL_M = 2.0, 0.34


@dataclass(frozen=True, kw_only=True)
class PlaceKey:
    """Which place: nothing else decides what it looks like."""

    seed: int
    split: str
    index: int


@dataclass(frozen=True)
class Photographs:
    """The JPEG files of one place."""

    satellite: bytes
    drone: tuple[bytes, ...]


def photograph(key: PlaceKey, *, orbit: Orbit, image_size: int) -> Photographs:
    """Build a place, and photograph it from above and from every pose of an orbit."""
    words = (key.split, "place", key.index)
    campus = draw_campus(key.seed, key.split, key.index // PLACES_PER_CAMPUS)
    grid = grid_for(image_size)
    scene = build_scene(stream(key.seed, *words, "layout"), campus=campus, grid=grid)

    rng = stream(key.seed, *words, "satellite")
    seen = satellite_conditions(rng, campus=campus)
    dressed = dress(scene, rng, day=seen.day)
    light = satellite_tile(dressed, tile=draw_tile(rng), haze=seen.haze, image_size=image_size)
    satellite = develop(light, rng, sensor=seen.sensor)

    rng = stream(key.seed, *words, "drone")
    seen = drone_conditions(rng, campus=campus)
    dressed = dress(scene, rng, day=seen.day)
    drone = []
    for number, pose in enumerate(orbit.poses, start=1):
        rng = stream(key.seed, *words, "view", number)
        aim_east_m, aim_north_m = np.clip(rng.normal(0, 2.0, 2), -5, 5)
        camera = look_at_place(  # as steadily as wind and pilot allow
            pose,
            aim_m=(float(aim_east_m), float(aim_north_m)),
            tilt_deg=orbit.tilt_deg + float(np.clip(rng.normal(0, 0.8), -2, 2)),
            roll_deg=float(np.clip(rng.normal(0, 0.7), -2, 2)),
            field_of_view_deg=orbit.field_of_view_deg,
        )
        light = drone_view(dressed, camera=camera, haze=seen.haze, image_size=image_size)
        drone.append(develop(light, rng, sensor=seen.sensor))
    return Photographs(satellite, tuple(drone))


def grid_for(image_size: int) -> Grid:
    """Return a raster about as fine as the nearest pixels of an image of this size."""
    cell_m = float(np.clip(128.0 / image_size, FINEST_CELL_M, COARSEST_CELL_M))
    return Grid(round(SCENE_M / cell_m), cell_m)
