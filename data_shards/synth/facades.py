"""The light that walls send to a camera: storeys, windows, sun and shadow."""

import numpy as np

from data_shards.synth.canvas import Facade
from data_shards.synth.dress import DressedScene
from data_shards.synth.grid import Floats, Indices, Mask
from data_shards.synth.light import in_sun
from data_shards.synth.materials import to_linear
from data_shards.synth.raycast import Hits

BOUNCE = np.float32(0.10)
"""Share of the sun's light that walls receive from the ground."""


def wall_radiance(dressed: DressedScene, hits: Hits, pixels: Indices, building: Indices) -> Floats:
    """Return the linear colour of the wall points that these pixels see, (3, pixels)."""
    facades = _columns(dressed.scene.facades)
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
    radiance: Floats = (light * colour).astype(np.float32)
    return radiance


def _columns(facades: tuple[Facade, ...]) -> dict[str, Floats]:
    names = ("angle_rad", "base_m", "storey_m", "bay_m", "window_width", "window_height")
    return {
        name: np.array([getattr(facade, name) for facade in facades], np.float32) for name in names
    }


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
        lower: Mask = ahead < z_m
        return lower

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
    colour: Floats = np.where(is_glass, glass[:, number] * shine, walls[:, number])
    return colour
