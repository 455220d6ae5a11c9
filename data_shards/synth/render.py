"""Photographs of a dressed scene: drone views in perspective, the satellite tile from above."""

from dataclasses import dataclass

import numpy as np

from data_shards.synth.camera import Camera
from data_shards.synth.canvas import Facade
from data_shards.synth.dress import DressedScene
from data_shards.synth.grid import Floats, Indices, Mask
from data_shards.synth.light import in_sun
from data_shards.synth.materials import to_linear
from data_shards.synth.raycast import Hits, cast

BOUNCE = np.float32(0.10)
"""Share of the sun's light that walls receive from the ground."""


def wall_radiance(dressed: DressedScene, hits: Hits, pixels: Indices, building: Indices) -> Floats:
    """Return the linear colour of the wall points that these pixels see, (3, pixels)."""
    names = ("angle_rad", "base_m", "storey_m", "bay_m", "window_width", "window_height")
    facades: dict[str, Floats] = {
        name: np.array([getattr(facade, name) for facade in dressed.scene.facades], np.float32)
        for name in names
    }
    number = building - 1
    x_m, y_m, z_m = hits.x_m[pixels], hits.y_m[pixels], hits.z_m[pixels]
    along_m, east, north = _face(dressed, hits, pixels, facades["angle_rad"][number])
    up_m = z_m - facades["base_m"][number]
    colour = _pattern(dressed.scene.facades, facades, number, along_m, up_m)
    sun_east, sun_north, _ = dressed.sky.direction
    facing = np.maximum(east * sun_east + north * sun_north, 0)
    step_m = 1.3 * dressed.grid.cell_m
    cell = dressed.grid.index(x_m + east * step_m, y_m + north * step_m)
    direct = facing * in_sun(z_m - dressed.shadow_m.reshape(-1)[cell])
    ambient = 0.5 + 0.2 * np.clip(up_m / 15, 0, 1)
    light = (direct + BOUNCE) * np.array(dressed.sky.sun, np.float32)[:, None]
    light += ambient * np.array(dressed.sky.ambient, np.float32)[:, None]
    return (light * colour).astype(np.float32)


def _face(
    dressed: DressedScene, hits: Hits, pixels: Indices, angle_rad: Floats
) -> tuple[Floats, Floats, Floats]:
    """Find which side of its building each point lies on.

    Returns the coordinate along the wall and the outward normal (east, north): of the two sides
    that look at the camera it is the one with lower ground in front of it.
    """
    x_m, y_m, z_m = hits.x_m[pixels], hits.y_m[pixels], hits.z_m[pixels]
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    ray_east, ray_north = np.cos(hits.azimuth_rad[pixels]), np.sin(hits.azimuth_rad[pixels])
    ray_u, ray_v = ray_east * cos + ray_north * sin, ray_north * cos - ray_east * sin
    sign_u, sign_v = -np.sign(ray_u), -np.sign(ray_v)
    step_m = 1.7 * dressed.grid.cell_m
    height = dressed.height_m.reshape(-1)

    def is_open(east: Floats, north: Floats) -> Mask:
        ahead = height[dressed.grid.index(x_m + east * step_m, y_m + north * step_m)]
        return ahead < z_m

    open_u = is_open(sign_u * cos, sign_u * sin)
    open_v = is_open(-sign_v * sin, sign_v * cos)
    is_u = np.where(open_u == open_v, np.abs(ray_u) > np.abs(ray_v), open_u)
    along_m = np.where(is_u, y_m * cos - x_m * sin, x_m * cos + y_m * sin)
    east = np.where(is_u, sign_u * cos, -sign_v * sin)
    north = np.where(is_u, sign_u * sin, sign_v * cos)
    return along_m, east, north


def _pattern(
    facades: tuple[Facade, ...],
    columns: dict[str, Floats],
    number: Indices,
    along_m: Floats,
    up_m: Floats,
) -> Floats:
    """Return the linear colour of wall or glass at each point, (3, points)."""
    walls = to_linear(np.array([facade.wall for facade in facades], np.float32).T)
    glass = to_linear(np.array([facade.glass for facade in facades], np.float32).T)
    storey = up_m / columns["storey_m"][number]
    bay = along_m / columns["bay_m"][number]
    in_storey, in_bay = np.mod(storey, 1.0), np.mod(bay, 1.0)
    is_glass = (in_storey > 0.25) & (in_storey < 0.25 + columns["window_height"][number])
    is_glass &= in_bay < columns["window_width"][number]
    panes = np.floor(storey) * 7.3 + np.floor(bay) * 3.7 + number
    shine = 0.55 + 0.9 * np.mod(np.sin(panes) * 43.7, 1.0)
    return np.where(is_glass, glass[:, number] * shine, walls[:, number])


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
