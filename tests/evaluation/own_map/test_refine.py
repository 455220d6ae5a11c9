"""Photographs matched with a map, whose true places are known to a hundredth of a pixel."""

import cv2
import numpy as np
import pytest

from evaluation.own_map.ground import Numbers, in_metres
from evaluation.own_map.maps import Map, open_map
from evaluation.own_map.refine import Features, Match, agreement_of, match_best
from tests.evaluation.own_map.conftest import METRES, as_bands, ground_picture, write_map

FINE = 4
"""Pixels of the ground as it is, along one of the map."""

GROUND = ground_picture(400 * FINE, 320 * FINE)
SIZE = np.array((300, 240))
"""Of a photograph, whose pixels are half as wide as those of the map."""


@pytest.fixture(scope="module")
def map_of_ground(tmp_path_factory: pytest.TempPathFactory) -> Map:
    shown = cv2.resize(GROUND, (400, 320), interpolation=cv2.INTER_AREA)
    return open_map(write_map(tmp_path_factory.mktemp("map") / "a.tif", as_bands(shown)))


def off_by(
    one: Map, middle: tuple[float, float], heading_deg: float, *, relief: float = 0
) -> tuple[Match, Numbers]:
    """Match what a camera sees; return how far off corners and centre are in pixels of the map.

    Relief moves what stands high by so many pixels of the photograph, here and there.
    """
    cos, sin = np.cos(np.radians(heading_deg)), np.sin(np.radians(heading_deg))
    turn = np.array([(cos, -sin), (sin, cos)]) / 2

    def on_map(points: Numbers) -> Numbers:
        moved = points + relief * np.sin(points[..., ::-1] / 11 + middle)
        return np.asarray((moved - SIZE / 2) @ turn.T + middle)

    samples = np.stack(np.meshgrid(*(np.arange(2 * side) / 2 + 0.25 for side in SIZE)), axis=-1)
    where = (on_map(samples) * FINE - 0.5).astype(np.float32)
    twice = cv2.remap(GROUND, where[..., 0], where[..., 1], cv2.INTER_LINEAR)
    photo = cv2.resize(twice, SIZE.tolist(), interpolation=cv2.INTER_AREA)
    col, row = middle
    tile = {"col": col - 60, "row": row - 60, "width": 120, "height": 120}
    match = match_best(photo, [(one, tile)])
    assert match
    points = SIZE * [(0.5, 0.5), (0, 0), (1, 0), (1, 1), (0, 1)]
    truth = one.ground.lat_lon(on_map(points))
    found = np.vstack([match.centre, match.corners])
    here = (float(truth[0, 0]), float(truth[0, 1]))
    off = in_metres(found, around=here) - in_metres(truth, around=here)
    return match, np.linalg.norm(off, axis=1) / METRES


@pytest.mark.parametrize("heading_deg", [0, 37, 90, 180, 251])
def test_a_place_is_told_to_a_part_of_a_pixel_whichever_way_the_camera_looks(
    map_of_ground: Map, heading_deg: float
) -> None:
    match, off = off_by(map_of_ground, (200.3, 150.7), heading_deg)
    assert off[0] < 0.05
    assert off.max() < 0.2, "a corner"
    north = heading_deg + map_of_ground.ground.scale(200, 150)[2]
    assert match.heading_deg == pytest.approx(north % 360, abs=0.2)


def test_the_error_that_is_told_holds_where_ground_is_not_flat(map_of_ground: Map) -> None:
    middles = [(col, row) for col in (120.5, 150.2, 240.9, 280) for row in (125.1, 160.3, 190)]
    told = [off_by(map_of_ground, one, 20, relief=2) for one in middles]
    off_m = np.array([off[0] * METRES for _, off in told])
    errors_m = np.array([match.error_m for match, _ in told])
    assert (off_m <= errors_m).mean() >= 0.8
    assert np.median(errors_m) < 2 * METRES, "and it is of use"


def test_a_photograph_of_dusk_agrees_as_one_of_noon() -> None:
    window = Features(cv2.resize(GROUND, (400, 320), interpolation=cv2.INTER_AREA), side=400)
    noon = cv2.resize(GROUND[300:900, 200:1000], (400, 300), interpolation=cv2.INTER_AREA)
    noon = cv2.GaussianBlur(noon, (0, 0), 1.5)
    found = [agreement_of(Features(one, side=400), window) for one in (noon, noon // 8)]
    assert all(one and one.is_match for one in found)


def test_a_point_of_a_window_agrees_once_however_many_features_are_like_it() -> None:
    photo, window = (Features(GROUND[:200, :300], side=300) for _ in range(2))
    photo.points = np.repeat(photo.points, 3, axis=0)
    photo.descriptors = np.repeat(photo.descriptors, 3, axis=0)
    agreement = agreement_of(photo, window)
    assert agreement
    assert len(np.unique(agreement.target, axis=0)) == len(agreement.target)
