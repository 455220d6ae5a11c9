"""Photographs of a dressed scene: drone views in perspective, the satellite tile from above."""

from dataclasses import dataclass

import numpy as np

from data_shards.synth.camera import Camera
from data_shards.synth.dress import DressedScene
from data_shards.synth.facades import wall_radiance
from data_shards.synth.grid import Floats
from data_shards.synth.raycast import Hits, cast


@dataclass(frozen=True, kw_only=True)
class Haze:
    """Air between the ground and the lens."""

    per_km: float
    """Share of the light lost in the first kilometre, as an exponent."""

    colour: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """The square that a satellite tile shows, with the errors of its map sheet."""

    side_m: float
    x_m: float
    y_m: float
    turn_deg: float


def oversampling(*, image_size: int) -> int:
    """Return how many rays per pixel and axis are cast: small images need more."""
    return 2 if image_size <= 256 else 1


def drone_view(dressed: DressedScene, *, camera: Camera, haze: Haze, image_size: int) -> Floats:
    """Return the linear light that a drone camera receives, (3, size, size)."""
    factor = oversampling(image_size=image_size)
    pixels = image_size * factor
    hits = cast(dressed.height_m, grid=dressed.grid, camera=camera, pixels=pixels)
    light = _surface_light(dressed, hits)
    clear = np.exp(-hits.distance_m * np.float32(haze.per_km * 1e-3))
    light = light * clear + (1 - clear) * np.array(haze.colour, np.float32)[:, None]
    return _shrink(light.reshape(3, pixels, pixels).transpose(0, 2, 1), factor)


def _surface_light(dressed: DressedScene, hits: Hits) -> Floats:
    """Return the light of ground, roofs and crowns, and of walls where a wall was met."""
    light = dressed.grid.interpolate(dressed.radiance, hits.x_m, hits.y_m)
    steep = np.flatnonzero(hits.is_steep)
    cell = hits.top_cell[steep]
    building = dressed.scene.building.reshape(-1)[cell].astype(np.int64)
    is_tree = dressed.height_m.reshape(-1)[cell] > dressed.scene.height_m.reshape(-1)[cell] + 1.6
    is_wall = (building > 0) & ~is_tree
    walls = steep[is_wall]
    if len(walls):
        light[:, walls] = wall_radiance(dressed, hits, walls, building[is_wall])
    crowns, cell = steep[is_tree], cell[is_tree]
    ground_m = dressed.scene.ground_m.reshape(-1)[cell]
    share = (hits.z_m[crowns] - ground_m) / np.maximum(hits.top_m[crowns] - ground_m, 0.5)
    light[:, crowns] = dressed.radiance[:, cell] * (0.35 + 0.65 * np.clip(share, 0, 1))
    return light


def satellite_tile(dressed: DressedScene, *, tile: Tile, haze: Haze, image_size: int) -> Floats:
    """Return the linear light that a satellite receives from straight above, (3, size, size)."""
    factor = oversampling(image_size=image_size)
    pixels = image_size * factor
    axis = ((np.arange(pixels) + 0.5) / pixels - 0.5) * tile.side_m
    turn = np.deg2rad(tile.turn_deg)
    right, up = axis[None, :], -axis[:, None]
    x_m = tile.x_m + right * np.cos(turn) - up * np.sin(turn)
    y_m = tile.y_m + right * np.sin(turn) + up * np.cos(turn)
    light = dressed.grid.interpolate(
        dressed.radiance, x_m.reshape(-1).astype(np.float32), y_m.reshape(-1).astype(np.float32)
    )
    clear = np.float32(np.exp(-haze.per_km))
    light = light * clear + (1 - clear) * np.array(haze.colour, np.float32)[:, None]
    return _shrink(light.reshape(3, pixels, pixels), factor)


def _shrink(light: Floats, factor: int) -> Floats:
    """Average squares of `factor` x `factor` pixels."""
    starts = range(factor)
    corners = [light[:, row::factor, col::factor] for row in starts for col in starts]
    total = corners[0].copy()
    for corner in corners[1:]:
        total += corner
    return total / np.float32(factor * factor)
