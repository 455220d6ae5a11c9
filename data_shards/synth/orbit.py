"""Where the drone hovers: the helix of University-1652, and the rings of SUES-200."""

from dataclasses import dataclass

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
