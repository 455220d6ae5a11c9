"""The flight plans of University-1652 and SUES-200."""

import numpy as np
import pytest

from data_shards.synth.camera import Orbit, look_at_place, sues200_orbit, university1652_orbit
from data_shards.synth.place import SCENE_M


@pytest.mark.parametrize(
    ("view", "altitude_m", "azimuth_deg"),
    [(1, 256.0, 0.0), (2, 253.46226, 20.0), (19, 210.32075, 0.0), (54, 121.5, 340.0)],
)
def test_54_views_fly_the_published_helix(view: int, altitude_m: float, azimuth_deg: float) -> None:
    pose = university1652_orbit(54).poses[view - 1]
    assert pose.altitude_m == pytest.approx(altitude_m, abs=1e-4)
    assert pose.azimuth_deg == pytest.approx(azimuth_deg, abs=1e-4)


def test_fewer_views_span_the_same_helix_from_different_sides() -> None:
    poses = university1652_orbit(8).poses
    assert (poses[0].altitude_m, poses[-1].altitude_m) == (256.0, 121.5)
    assert len({pose.azimuth_deg for pose in poses}) == 8


def test_a_single_view_is_the_highest() -> None:
    (pose,) = university1652_orbit(1).poses
    assert (pose.altitude_m, pose.azimuth_deg) == (256.0, 0.0)


@pytest.mark.parametrize(
    ("number", "altitude_m", "azimuth_deg"),
    [(0, 150.0, 0.0), (1, 150.0, 7.2), (49, 150.0, 352.8), (50, 200.0, 0.0), (199, 300.0, 352.8)],
)
def test_200_views_fly_a_ring_at_each_altitude_of_sues200(
    number: int, altitude_m: float, azimuth_deg: float
) -> None:
    poses = sues200_orbit(50).poses
    assert len(poses) == 200
    assert poses[number].altitude_m == altitude_m
    assert poses[number].azimuth_deg == pytest.approx(azimuth_deg)


@pytest.mark.parametrize("orbit", [university1652_orbit(54), sues200_orbit(50)])
def test_no_view_looks_beyond_the_land(orbit: Orbit) -> None:
    """At the worst of wind and pilot: the tilt and the aim that `place` still allows."""
    pixels = 8
    for pose in orbit.poses:
        camera = look_at_place(
            pose,
            aim_m=(5.0, 5.0),
            tilt_deg=orbit.tilt_deg - 2,
            roll_deg=2.0,
            field_of_view_deg=orbit.field_of_view_deg,
        )
        azimuth, slope = camera.rays(pixels)
        away_m = camera.z_m / slope
        x_m = camera.x_m + away_m * np.cos(camera.heading_rad + azimuth)
        y_m = camera.y_m + away_m * np.sin(camera.heading_rad + azimuth)
        assert max(np.abs(x_m).max(), np.abs(y_m).max()) < SCENE_M / 2
