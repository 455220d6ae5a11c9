"""One place: what its photographs owe to its number, its campus and its sensor."""

import io

import numpy as np
import pytest
from PIL import Image

from data_shards.synth.camera import university1652_orbit
from data_shards.synth.campus import draw_campus
from data_shards.synth.noise import stream
from data_shards.synth.place import PlaceKey, grid_for, photograph
from data_shards.synth.scene import build_scene


def pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)))


@pytest.mark.parametrize("image_size", [48, 64])
def test_photographs_are_colour_jpegs_of_the_size_asked_for(image_size: int) -> None:
    key = PlaceKey(seed=3, split="train", index=4)
    taken = photograph(key, orbit=university1652_orbit(2), image_size=image_size)
    for file in (taken.satellite, *taken.drone):
        assert Image.open(io.BytesIO(file)).format == "JPEG"
        assert pixels(file).shape == (image_size, image_size, 3)
        assert pixels(file).std() > 8


def test_a_view_shows_the_same_light_however_many_views_there_are() -> None:
    key = PlaceKey(seed=3, split="test", index=0)
    few, more = (photograph(key, orbit=university1652_orbit(n), image_size=32) for n in (1, 2))
    assert few.satellite == more.satellite
    assert few.drone[0] == more.drone[0]


def test_places_of_one_campus_share_its_style_and_not_their_plan() -> None:
    campus = draw_campus(0, "train", 0)
    assert campus == draw_campus(0, "train", 0)
    assert campus != draw_campus(0, "test", 0)
    grid = grid_for(32)
    first, second = (
        build_scene(stream(0, "train", "place", index, "layout"), campus=campus, grid=grid)
        for index in (0, 1)
    )
    overlap = ((first.building > 0) & (second.building > 0)).sum()
    assert 0 < overlap < 0.7 * (first.building > 0).sum()


def test_buildings_and_trees_rise_above_the_ground() -> None:
    campus = draw_campus(0, "train", 1)
    rng = stream(0, "train", "place", 21, "layout")
    scene = build_scene(rng, campus=campus, grid=grid_for(64))
    built = scene.building > 0
    assert 0.03 < built.mean() < 0.6
    assert np.quantile((scene.height_m - scene.ground_m)[built], 0.2) > 2.0
    assert len(scene.trees.x_m) > 20
    assert scene.trees.height_m.min() > 2.0
