"""The height field as a camera sees it, against intersections worked out by hand."""

import numpy as np
import pytest

from data_shards.synth.camera import Camera, Pose, look_at_place
from data_shards.synth.grid import Grid
from data_shards.synth.raycast import Hits, cast

GRID = Grid(600, 0.5)
PIXELS = 65
CENTRE = PIXELS * PIXELS // 2


def box(height_m: float, *, half_m: float = 10.0) -> np.ndarray:
    inside = (np.abs(GRID.x_m) < half_m) & (np.abs(GRID.y_m) < half_m)
    return np.where(inside, height_m, 0.0).astype(np.float32)


def camera(*, azimuth_deg: float, tilt_deg: float = 45.0, aim_m: float = 0.0) -> Camera:
    return look_at_place(
        Pose(150.0, azimuth_deg),
        aim_m=(aim_m, 0.0),
        tilt_deg=tilt_deg,
        roll_deg=0.0,
        field_of_view_deg=30.0,
    )


def look(height_m: np.ndarray, **view: float) -> Hits:
    return cast(height_m, grid=GRID, camera=camera(**view), pixels=PIXELS)


def test_every_ray_meets_flat_ground_where_geometry_says() -> None:
    hits = look(box(0.0), azimuth_deg=30.0)
    view = camera(azimuth_deg=30.0)
    azimuth, slope = (part.ravel() for part in view.rays(PIXELS))
    reach_m = view.z_m / slope
    np.testing.assert_allclose(
        hits.x_m, view.x_m + reach_m * np.cos(view.heading_rad + azimuth), atol=0.05
    )
    np.testing.assert_allclose(
        hits.y_m, view.y_m + reach_m * np.sin(view.heading_rad + azimuth), atol=0.05
    )
    np.testing.assert_allclose(hits.z_m, 0.0, atol=0.05)


def test_the_optical_axis_meets_the_aim() -> None:
    hits = look(box(0.0), azimuth_deg=200.0)
    assert (hits.x_m[CENTRE], hits.y_m[CENTRE]) == pytest.approx((0.0, 0.0), abs=0.1)


@pytest.mark.parametrize("height_m", [4.0, 9.0])
def test_a_roof_is_met_its_own_height_before_the_ground_behind_it(height_m: float) -> None:
    hits = look(box(height_m), azimuth_deg=90.0)
    assert hits.z_m[CENTRE] == pytest.approx(height_m, abs=0.05)
    assert hits.x_m[CENTRE] == pytest.approx(height_m, abs=0.1)


def test_a_roof_shifts_between_two_sides_by_twice_its_height() -> None:
    east, west = (look(box(8.0), azimuth_deg=azimuth) for azimuth in (90.0, 270.0))
    assert east.x_m[CENTRE] - west.x_m[CENTRE] == pytest.approx(16.0, abs=0.2)


def test_a_wall_is_met_at_its_face_and_at_the_right_height() -> None:
    hits = look(box(30.0), azimuth_deg=90.0, aim_m=5.0)
    assert hits.is_steep[CENTRE]
    assert hits.x_m[CENTRE] == pytest.approx(10.0, abs=0.5)
    assert hits.z_m[CENTRE] == pytest.approx(5.0, abs=0.5)


def test_nothing_behind_a_tall_building_is_seen() -> None:
    hits = look(box(30.0), azimuth_deg=90.0)
    hidden = (hits.z_m < 29.0) & (np.abs(hits.y_m) < 9.0) & (hits.x_m < 9.0) & (hits.x_m > -35.0)
    assert not hidden.any()
    seen = (hits.z_m < 1.0) & (hits.x_m > -60.0) & (hits.x_m < -42.0)
    assert seen.any()
