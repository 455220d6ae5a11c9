"""A pinhole camera that looks down at a place, and the rays through its pixels."""

from dataclasses import dataclass

import numpy as np

from data_shards.synth.grid import Floats
from data_shards.synth.orbit import Pose


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
