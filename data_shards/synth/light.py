"""Sun, sky and shadow: how much light falls on every cell of a dressed place."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from data_shards.synth.grid import Floats, Grid

PENUMBRA_M = 0.6
WALL_SLOPE = 3.0


@dataclass(frozen=True, kw_only=True)
class Sky:
    """Where the sun stands, and the colour of its light and of the sky's."""

    azimuth_deg: float
    """Direction of the sun, clockwise from north."""

    elevation_deg: float
    sun: tuple[float, float, float]
    ambient: tuple[float, float, float]

    @property
    def direction(self) -> tuple[float, float, float]:
        """Unit vector towards the sun: east, north, up."""
        azimuth, elevation = np.deg2rad(self.azimuth_deg), np.deg2rad(self.elevation_deg)
        flat = np.cos(elevation)
        return (
            float(flat * np.sin(azimuth)),
            float(flat * np.cos(azimuth)),
            float(np.sin(elevation)),
        )


def shadow_height(height_m: Floats, *, grid: Grid, sky: Sky) -> Floats:
    """Return the height below which every cell lies in shadow.

    It is the maximum over t of H(p + t s) - t tan(elevation), s pointing to the sun, built by
    doubling: what the first 2^k steps know answers for the next 2^k.
    """
    east, north, up = sky.direction
    flat = float(np.hypot(east, north))
    step = max(abs(east), abs(north)) / flat
    drop_m = grid.cell_m / step * up / flat
    col_step, row_step = east / flat / step, -north / flat / step
    reach = int(float(height_m.max() - height_m.min()) / drop_m) + 1
    shadow, cells = height_m.copy(), np.arange(len(height_m))
    span = 1
    while span <= reach:
        rows = np.clip(cells + round(span * row_step), 0, len(cells) - 1)
        cols = np.clip(cells + round(span * col_step), 0, len(cells) - 1)
        np.maximum(shadow, shadow[rows][:, cols] - np.float32(span * drop_m), out=shadow)
        span *= 2
    return shadow


def in_sun(above_m: Floats) -> Floats:
    """Return the share of the sun seen from a height above or below (-) the shadow's edge."""
    share: Floats = np.clip(above_m * np.float32(1 / PENUMBRA_M) + np.float32(1), 0, 1)
    return share


def normals(height_m: Floats, *, cell_m: float) -> tuple[Floats, Floats]:
    """Return the slope to the east and to the north, from the flatter neighbour on each axis.

    Taking the flatter side keeps the edge of a roof as level as its middle.
    """
    east = _flatter(np.diff(height_m, axis=1, prepend=height_m[:, :1]), axis=1)
    south = _flatter(np.diff(height_m, axis=0, prepend=height_m[:1]), axis=0)
    return _roofwise(east / np.float32(cell_m)), _roofwise(-south / np.float32(cell_m))


def _roofwise(slope: Floats) -> Floats:
    """Forget slopes that only the side of a building has."""
    return slope * (np.abs(slope) < WALL_SLOPE)


def _flatter(backward: Floats, *, axis: int) -> Floats:
    forward = np.roll(backward, -1, axis=axis)
    return np.where(np.abs(backward) < np.abs(forward), backward, forward)


def openness(height_m: Floats, *, cell_m: float) -> Floats:
    """Return the share of the sky that a cell sees, guessed from how deep it lies."""
    near = ndimage.uniform_filter(height_m, max(3, round(9.0 / cell_m)), mode="nearest")
    depth_m = np.maximum(near - height_m, 0)
    share: Floats = 1 / (1 + np.float32(0.16) * depth_m)
    return share


def illumination(height_m: Floats, shadow_m: Floats, *, grid: Grid, sky: Sky) -> Floats:
    """Return the light that falls on every cell, (3, cells, cells)."""
    east, north, up = (np.float32(part) for part in sky.direction)
    slope_east, slope_north = normals(height_m, cell_m=grid.cell_m)
    facing = up - east * slope_east - north * slope_north
    facing *= 1 / np.sqrt(1 + slope_east * slope_east + slope_north * slope_north)
    direct = np.maximum(facing, 0) * in_sun(height_m - shadow_m)
    ambient = openness(height_m, cell_m=grid.cell_m)
    channels = zip(sky.sun, sky.ambient, strict=True)
    return np.stack([direct * np.float32(sun) + ambient * np.float32(sk) for sun, sk in channels])
