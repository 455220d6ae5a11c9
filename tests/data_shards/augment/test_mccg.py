from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from PIL import Image

from data_shards.augment.auto_augment import POLICIES, auto_augment
from data_shards.augment.mccg import MEAN_COLOUR
from data_shards.decode import resize
from data_shards.schema import View

MANY = np.arange(5000)


@pytest.fixture
def applied(vary) -> Callable[..., np.ndarray]:
    """What the family makes of a picture by the values said."""
    return partial(vary, "mccg")


def test_drone_images_are_augmented_shifted_and_erased_but_not_rotated(draw) -> None:
    drawn = draw(MANY, family="mccg")
    assert np.bincount(drawn["policy"], minlength=25).min() > 140
    assert len(POLICIES) == 25
    for step in range(2):
        published = np.mean([policy[step][1] for policy in POLICIES])
        assert drawn["taken"][:, step].mean() == pytest.approx(published, abs=0.03)
        assert (drawn["signs"][:, step] == 1).mean() == pytest.approx(0.5, abs=0.03)
    never = drawn["policy"] == 12
    assert not drawn["taken"][never, 0].any(), "the first step of policy 12 has probability 0"
    for shift in drawn["shift"].T:
        assert set(shift.tolist()) == set(range(-10, 11))
    assert not drawn["angle"].any()
    left, top, right, bottom = drawn["erased"].astype(float).T
    area = (right - left) * (bottom - top)
    assert (area > 0).mean() == pytest.approx(0.5, abs=0.03)
    assert 0.02 - 1e-6 <= area[area > 0].min() < 0.03 and 0.38 < area.max() <= 0.4 + 1e-6
    aspect = ((bottom - top) / np.where(area > 0, right - left, 1))[area > 0]
    assert 0.3 - 1e-5 <= aspect.min() < 0.35 and 3.2 < aspect.max() <= 1 / 0.3 + 1e-5
    assert left.min() >= 0 and top.min() >= 0 and max(right.max(), bottom.max()) <= 1


def test_tiles_are_shifted_and_rotated_and_nothing_else(draw) -> None:
    drawn = draw(MANY, family="mccg", view=View.SATELLITE)
    assert -90 <= drawn["angle"].min() < -89 and 89 < drawn["angle"].max() <= 90
    assert drawn["angle"].mean() == pytest.approx(0, abs=2)
    assert not drawn["taken"].any() and not drawn["erased"].any()


def test_policies_and_jitter_are_options(draw) -> None:
    plain = draw(MANY, family="mccg", auto_augment=False)
    assert not plain["taken"].any()
    assert (plain["brightness"] == 1).all() and (plain["saturation"] == 1).all()
    for view in (View.SATELLITE, View.DRONE):
        coloured = draw(MANY, family="mccg", colour_jitter=0.1, view=view)
        for name in ("brightness", "contrast", "saturation"):
            assert 0.098 < np.abs(coloured[name] - 1).max() <= 0.1 + 1e-6


def test_policy_jitter_resize_shift_mirror_erase_come_in_this_order(applied, picture) -> None:
    given = applied(
        picture,
        size=48,
        policy=16,
        taken=(True, True),
        signs=(1, -1),
        brightness=1.1,
        shift=(4, -6),
        flip=True,
        erased=(0.25, 0.5, 0.5, 1.0),
    )
    expected = auto_augment(picture, policy=16, taken=[True, True], signs=[1, -1])
    expected = np.clip(np.rint(expected * 1.1), 0, 255).astype(np.uint8)
    expected = resize(expected, size=48, resampling="opencv-linear")
    padded = np.pad(expected, ((10, 10), (10, 10), (0, 0)), mode="edge")
    expected = padded[16:64, 6:54][:, ::-1].copy()
    expected[24:48, 12:24] = MEAN_COLOUR
    assert np.abs(given.astype(int) - expected).max() <= 1


def test_the_erased_box_is_zero_for_the_model() -> None:
    imagenet = np.array([0.485, 0.456, 0.406]) * 255
    assert np.abs(np.array(MEAN_COLOUR) - imagenet).max() <= 0.5


@pytest.mark.parametrize("angle", [-90.0, -37.5, 12.0, 90.0])
@pytest.mark.parametrize(("right", "down"), [(0, 0), (7, -10)])
def test_a_tile_is_rotated_with_its_border_as_pillow_does(
    applied, picture, angle, right, down
) -> None:
    padded = np.pad(picture, ((10, 10), (10, 10), (0, 0)), mode="edge")
    rotated = np.asarray(Image.fromarray(padded).rotate(angle))
    expected = rotated[10 - down : 74 - down, 10 - right : 74 - right]
    given = applied(picture, angle=angle, shift=(right, down))
    same = (given == expected).all(axis=2)
    assert same.mean() > 0.98, "but for pixels whose source lies half-way between two"


def test_corners_behind_a_rotation_are_black(applied) -> None:
    white = np.full((64, 64, 3), 255, dtype=np.uint8)
    given = applied(white, angle=45.0)
    assert not given[0, 0].any() and not given[-1, -1].any() and given[32, 32].all()
