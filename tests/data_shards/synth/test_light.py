"""Shadows of a box, against lengths worked out by hand."""

import numpy as np
import pytest

from data_shards.synth.grid import Grid
from data_shards.synth.light import Sky, illumination, in_sun, normals, shadow_height

GRID = Grid(200, 0.5)


def sky(azimuth_deg: float, elevation_deg: float) -> Sky:
    return Sky(
        azimuth_deg=azimuth_deg,
        elevation_deg=elevation_deg,
        sun=(1.0, 1.0, 1.0),
        ambient=(0.2, 0.2, 0.2),
    )


def box(height_m: float) -> np.ndarray:
    inside = (np.abs(GRID.x_m) < 5) & (np.abs(GRID.y_m) < 5)
    return np.where(inside, height_m, 0.0).astype(np.float32)


@pytest.mark.parametrize("elevation_deg", [30.0, 45.0, 60.0])
def test_a_shadow_is_as_long_as_the_sun_is_low(elevation_deg: float) -> None:
    height_m = box(12.0)
    shadow_m = shadow_height(height_m, grid=GRID, sky=sky(90.0, elevation_deg))
    middle = GRID.cells // 2
    dark = (in_sun(height_m - shadow_m)[middle] < 0.5) & (GRID.x_m[0] < -5)
    length_m = 12.0 / np.tan(np.deg2rad(elevation_deg))
    assert dark.sum() * GRID.cell_m == pytest.approx(length_m, abs=1.0)


def test_the_shadow_plane_falls_with_the_sun() -> None:
    shadow_m = shadow_height(box(12.0), grid=GRID, sky=sky(90.0, 45.0))
    row, col = GRID.cells // 2, int((GRID.half_m - 5 - 4) / GRID.cell_m)
    assert shadow_m[row, col] == pytest.approx(12.0 - 4.0, abs=0.7)


def test_the_shadow_lies_away_from_the_sun() -> None:
    height_m = box(12.0)
    shadow_m = shadow_height(height_m, grid=GRID, sky=sky(180.0, 45.0))
    dark = in_sun(height_m - shadow_m) < 0.5
    north = (GRID.y_m > 5.5) & dark
    assert north.any()
    assert not ((GRID.y_m < -5.5) & dark).any()


def test_flat_ground_lies_in_the_sun() -> None:
    flat = np.zeros((GRID.cells, GRID.cells), np.float32)
    low = sky(140.0, 20.0)
    shadow_m = shadow_height(flat, grid=GRID, sky=low)
    light = illumination(flat, shadow_m, grid=GRID, sky=low)
    np.testing.assert_allclose(light, np.sin(np.deg2rad(20.0)) + 0.2, rtol=1e-5)


def test_a_ramp_has_its_slope_and_a_roof_edge_none() -> None:
    ramp = np.broadcast_to(0.5 * GRID.x_m, (GRID.cells, GRID.cells)).astype(np.float32)
    east, north = normals(ramp, cell_m=GRID.cell_m)
    np.testing.assert_allclose(east[1:-1, 1:-1], 0.5, atol=1e-4)
    np.testing.assert_allclose(north, 0.0, atol=1e-6)
    edge_east, _ = normals(box(12.0), cell_m=GRID.cell_m)
    np.testing.assert_array_equal(edge_east, 0.0)
