"""Where the rays of a camera first meet a height field: exact up to the raster, without a loop.

The rays of a camera fall into vertical planes through it. Seen from the camera, a point of the
profile that such a plane cuts out of the ground has the slope q(r) = (z_camera - H(r)) / r, and a
ray of slope d meets the ground at the first r with q(r) <= d. The running minimum of q is sorted,
so one binary search answers for every pixel, occlusion included.
"""

from dataclasses import dataclass

import numpy as np

from data_shards.synth.camera import Camera
from data_shards.synth.grid import Floats, Grid, Indices, Mask

STEPS_PER_CELL = 1.0
PLANES_PER_PIXEL = 0.8
WALL_SLOPE = 1.2
LOWEST_WALL_M = 1.4


@dataclass(frozen=True)
class Hits:
    """Where every ray ends, as flat arrays in the order of `Camera.rays`."""

    x_m: Floats
    y_m: Floats
    z_m: Floats
    distance_m: Floats
    azimuth_rad: Floats
    """Direction of the ray in the ground plane, from east to north."""

    is_steep: Mask
    """Whether the surface rises like a wall, and more than a parapet, where it was met."""

    top_cell: Indices
    """The cell at the top of the step that was met."""

    top_m: Floats


def cast(height_m: Floats, *, grid: Grid, camera: Camera, pixels: int) -> Hits:
    """Follow the rays of all pixels to the surface."""
    azimuth, slope = (part.reshape(-1) for part in camera.rays(pixels))
    # Evenly spaced distances between which every ray must meet the surface, and planes about as
    # dense as the farthest pixels.
    steepest, flattest = float(slope.max()), float(slope.min())
    first_m = max((camera.z_m - float(height_m.max()) - 1) / steepest, grid.cell_m)
    last_m = (camera.z_m - float(height_m.min()) + 1) / flattest
    count = int((last_m - first_m) / grid.cell_m * STEPS_PER_CELL) + 2
    distances_m: Floats = np.linspace(first_m, last_m, count, dtype=np.float32)
    pixel_rad = np.deg2rad(camera.field_of_view_deg) / pixels * np.sqrt(1 + flattest**2)
    low, high = float(azimuth.min()), float(azimuth.max())
    count = int(PLANES_PER_PIXEL * (high - low) / pixel_rad) + 2
    bearings: Floats = np.linspace(low, high, count, dtype=np.float32)
    heading = np.float32(camera.heading_rad)
    cos, sin = np.cos(heading + bearings), np.sin(heading + bearings)
    x_m, y_m = np.float32(camera.x_m), np.float32(camera.y_m)
    profile_m = grid.interpolate(
        height_m.reshape(-1), x_m + distances_m * cos[:, None], y_m + distances_m * sin[:, None]
    )
    seen = (np.float32(camera.z_m) - profile_m) / distances_m
    step = bearings[1] - bearings[0]
    row = ((azimuth - bearings[0]) / step + np.float32(0.5)).astype(np.int64)
    after = _first_below(seen, row, slope)
    above, below = seen.reshape(-1)[after - 1], seen.reshape(-1)[after]
    share = np.clip((above - slope) / np.maximum(above - below, 1e-9), 0, 1)
    first, last = row * len(distances_m), (row + 1) * len(distances_m) - 1
    step_m = distances_m[1] - distances_m[0]
    ground_m = distances_m[after - 1 - first] + share * step_m
    foot, top = np.maximum(after - 2, first), np.minimum(after + 1, last)
    top_m, beyond_m = profile_m.reshape(-1)[top], distances_m[top - first]
    rise_m = top_m - profile_m.reshape(-1)[foot]
    direction = heading + azimuth
    return Hits(
        x_m=x_m + ground_m * np.cos(direction),
        y_m=y_m + ground_m * np.sin(direction),
        z_m=np.float32(camera.z_m) - ground_m * slope,
        distance_m=ground_m * np.sqrt(1 + slope * slope),
        azimuth_rad=direction,
        is_steep=rise_m > max(WALL_SLOPE * 3 * float(step_m), LOWEST_WALL_M),
        top_cell=grid.index(x_m + beyond_m * cos[row], y_m + beyond_m * sin[row]),
        top_m=top_m,
    )


def _first_below(seen: Floats, row: Indices, slope: Floats) -> Indices:
    """Return the flat index of the first entry of each ray's row that is not above its slope."""
    lowest, highest = float(slope.min()) * 0.999, float(slope.max()) * 1.001
    span = (highest - lowest) * 1.001
    falling = np.minimum.accumulate(seen, axis=1)
    np.clip(falling, lowest, highest, out=falling)
    falling[:, -1] = lowest
    rising = highest - falling.astype(np.float64)
    rising += np.arange(len(rising))[:, None] * span
    wanted = highest - slope.astype(np.float64) + row * span
    found = np.searchsorted(rising.reshape(-1), wanted)
    first: Indices = np.maximum(found, row * seen.shape[1] + 1)
    return first
