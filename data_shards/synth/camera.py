"""A pinhole camera that looks down at a place, and the rays through its pixels."""

from dataclasses import dataclass

import numpy as np

from data_shards.synth.grid import Floats

HIGHEST_M = 256.0
LOWEST_M = 121.5
NUM_VIEWS = 54
STEP_DEG = 20.0
HELIX_TILT_DEG = 66.0
"""Not published. The steeper, the easier: at 56 degrees the demo's student found a quarter of the
places where it now finds two fifths."""

RING_ALTITUDES_M = (150, 200, 250, 300)
RING_TILT_DEG = 65.0
"""So steep that the corners of a picture from 300 m still show built land."""


@dataclass(frozen=True)
class Pose:
    """One stop of a drone: its height above the place, and the side it looks from."""

    altitude_m: float
    azimuth_deg: float


@dataclass(frozen=True, kw_only=True)
class Orbit:
    """All stops around a place, and the lens that is used at each of them."""

    poses: tuple[Pose, ...]
    tilt_deg: float
    """Angle of the optical axis below the horizon."""

    field_of_view_deg: float


def university1652_orbit(num_views: int) -> Orbit:
    """Return the descending helix of three turns, or `num_views` even samples of it.

    View j of 54 flies at 256 - (134.5 / 53) (j - 1) metres and looks from 20 (j - 1) degrees.
    """
    turned_deg = STEP_DEG * (NUM_VIEWS - 1)
    poses = []
    for view in range(num_views):
        share = view / max(num_views - 1, 1)
        altitude_m = HIGHEST_M - (HIGHEST_M - LOWEST_M) * share
        poses.append(Pose(altitude_m, round(turned_deg * share, 6) % 360.0))
    return Orbit(poses=tuple(poses), tilt_deg=HELIX_TILT_DEG, field_of_view_deg=37.0)


def sues200_orbit(num_views: int) -> Orbit:
    """Return a full turn of `num_views` even steps at each altitude, the lowest first.

    What is published are the four altitudes and 50 views at each (spec bicrossnet 1.2); a level
    ring that looks at the place is the plainest flight with both. Every ring starts in the north,
    so that a view has its like at the other altitudes and altitude alone tells them apart.
    """
    poses = (
        Pose(float(altitude_m), round(360.0 * view / num_views, 6))
        for altitude_m in RING_ALTITUDES_M
        for view in range(num_views)
    )
    return Orbit(poses=tuple(poses), tilt_deg=RING_TILT_DEG, field_of_view_deg=37.0)


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A position, a direction and a lens; the horizon stays level but for `roll_deg`."""

    x_m: float
    y_m: float
    z_m: float
    heading_rad: float
    """Direction of view in the ground plane, from east to north."""

    tilt_deg: float
    roll_deg: float
    field_of_view_deg: float

    def rays(self, pixels: int) -> tuple[Floats, Floats]:
        """Return, for every pixel, the azimuth off the heading (rad) and the slope downwards.

        Both are indexed (column, row), as the rays of a column lie almost in one vertical plane.
        The slope is metres of fall per metre of ground; every ray must point below the horizon.
        """
        half = float(np.tan(np.deg2rad(0.5 * self.field_of_view_deg)))
        axis = (((np.arange(pixels) + 0.5) / pixels * 2 - 1) * half).astype(np.float32)
        roll = np.float32(np.deg2rad(self.roll_deg))
        across = axis[:, None] * np.cos(roll) - axis[None, :] * np.sin(roll)
        upward = -axis[:, None] * np.sin(roll) - axis[None, :] * np.cos(roll)
        tilt = np.float32(np.deg2rad(self.tilt_deg))
        ahead = np.cos(tilt) + upward * np.sin(tilt)
        fall = np.sin(tilt) - upward * np.cos(tilt)
        ground = np.sqrt(ahead * ahead + across * across)
        assert float((fall / ground).min()) > 0.05, "a ray of the camera does not reach the ground"
        azimuth = -np.arctan2(across, ahead)
        return azimuth.astype(np.float32), (fall / ground).astype(np.float32)


def look_at_place(
    pose: Pose,
    *,
    aim_m: tuple[float, float],
    tilt_deg: float,
    roll_deg: float,
    field_of_view_deg: float,
) -> Camera:
    """Hang a camera at a pose so that its optical axis meets the ground at `aim_m`."""
    bearing = np.deg2rad(90.0 - pose.azimuth_deg)
    away_m = pose.altitude_m / np.tan(np.deg2rad(tilt_deg))
    return Camera(
        x_m=float(aim_m[0] + away_m * np.cos(bearing)),
        y_m=float(aim_m[1] + away_m * np.sin(bearing)),
        z_m=pose.altitude_m,
        heading_rad=float(bearing + np.pi),
        tilt_deg=tilt_deg,
        roll_deg=roll_deg,
        field_of_view_deg=field_of_view_deg,
    )
