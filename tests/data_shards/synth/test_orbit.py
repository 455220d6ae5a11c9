"""The flight plan of University-1652."""

import pytest

from data_shards.synth.orbit import university1652_orbit


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
