from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from data_shards.augment.operations import GRAY
from data_shards.decode import resize

CORNERS = np.array([[[1], [2]], [[3], [4]]], dtype=np.uint8).repeat(3, axis=2)
"""Two by two pixels, numbered as one reads them."""


@pytest.fixture
def applied(vary) -> Callable[..., np.ndarray]:
    """What the family makes of a picture by the values said."""
    return partial(vary, "light")


def shown(pixels: np.ndarray) -> list[list[int]]:
    return pixels[..., 0].tolist()


def test_values_stay_within_what_was_asked(draw) -> None:
    drawn = draw(np.arange(1000), min_crop_area=0.5, brightness=0.3)
    left, top, right, bottom = drawn["box"].astype(float).T
    assert left.min() >= 0 and right.max() <= 1 + 1e-6
    assert np.allclose(right - left, bottom - top, atol=1e-6)
    area = (right - left) * (bottom - top)
    assert 0.499 < area.min() < 0.53 and 0.97 < area.max() < 1.001
    assert 0.7 <= drawn["brightness"].min() < 0.72 and 1.28 < drawn["brightness"].max() <= 1.3


def test_nothing_asked_changes_nothing(draw, neutral) -> None:
    nothing = {"flip_probability": 0, "min_crop_area": 1}
    drawn = draw([1, 2, 3], **nothing, brightness=0, contrast=0, saturation=0)
    assert all(row == neutral("light")[0] for row in drawn)


def test_geometry_is_done_in_the_order_crop_mirror_turn(applied) -> None:
    assert shown(applied(CORNERS, size=2)) == [[1, 2], [3, 4]]
    assert shown(applied(CORNERS, size=2, flip=True)) == [[2, 1], [4, 3]]
    assert shown(applied(CORNERS, size=2, quarter_turns=1)) == [[2, 4], [1, 3]]
    assert shown(applied(CORNERS, size=2, quarter_turns=2)) == [[4, 3], [2, 1]]
    assert shown(applied(CORNERS, size=2, quarter_turns=3)) == [[3, 1], [4, 2]]
    both = {"flip": True, "quarter_turns": 1}
    assert shown(applied(CORNERS, size=2, **both)) == [[1, 3], [2, 4]]
    assert shown(applied(CORNERS, size=1, box=(0.5, 0, 1, 0.5))) == [[2]]


def test_a_crop_is_the_resized_part_in_whole_pixels(applied, picture) -> None:
    cropped = applied(picture, size=40, box=(0.1, 0.2, 0.9, 0.95))
    expected = resize(picture[13:61, 6:58], size=40, resampling="opencv-linear")
    assert (cropped == expected).all()


def test_colour_factors_scale_as_their_names_say(applied) -> None:
    gray = np.array([[[50] * 3, [150] * 3]], dtype=np.uint8).repeat(2, axis=0)
    assert shown(applied(gray, size=2, brightness=1.2)) == [[60, 180]] * 2
    assert shown(applied(gray, size=2, contrast=0.5)) == [[75, 125]] * 2
    assert shown(applied(gray, size=2, saturation=0)) == [[50, 150]] * 2
    assert shown(applied(gray, size=2, brightness=2)) == [[100, 255]] * 2
    red = np.full((1, 1, 3), (100, 0, 0), dtype=np.uint8)
    assert applied(red, size=1, saturation=0).tolist() == [[[30, 30, 30]]]


@pytest.mark.parametrize("factors", [(1.2, 0.8, 1.1), (0.8, 1.2, 0.9), (1.0, 1.0, 1.2)], ids=str)
def test_colour_is_brightness_then_contrast_then_saturation(applied, picture, factors) -> None:
    brightness, contrast, saturation = factors
    colour = picture.astype(np.float64) * brightness
    mean = (colour @ GRAY).mean()
    colour = (colour - mean) * contrast + mean
    gray = (colour @ GRAY)[..., None]
    expected = np.clip((colour - gray) * saturation + gray, 0, 255)
    names = ("brightness", "contrast", "saturation")
    given = applied(picture, **dict(zip(names, factors, strict=True)))
    assert np.abs(given - expected).max() <= 1.0


def test_factors_of_one_keep_every_pixel(applied, picture) -> None:
    assert (applied(picture) == picture).all()
    nearly = np.float32(1) + np.float32(1e-7)
    assert (applied(picture, brightness=nearly) == picture).all()
