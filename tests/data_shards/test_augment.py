import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.augment import VALUES, apply_values, draw_values
from data_shards.config import AugmentConfig
from data_shards.schema import View

CORNERS = np.array([[[1], [2]], [[3], [4]]], dtype=np.uint8).repeat(3, axis=2)
"""Two by two pixels, numbered as one reads them."""


def draw(hashes, *, places=None, slots=None, view=View.DRONE, **changes):
    hashes = np.asarray(hashes, dtype=np.uint64)
    places = hashes if places is None else np.asarray(places, dtype=np.uint64)
    slots = np.zeros(len(hashes), dtype=np.int64) if slots is None else np.asarray(slots)
    return draw_values(
        AugmentConfig(**changes), key_hashes=hashes, place_hashes=places, slots=slots, view=view
    )


def values(**changes) -> np.void:
    row = np.zeros(1, dtype=VALUES)
    row["box"] = 0, 0, 1, 1
    row["brightness"] = row["contrast"] = row["saturation"] = 1
    for name, value in changes.items():
        row[name] = value
    return row[0]


def shown(pixels: np.ndarray) -> list[list[int]]:
    return pixels[..., 0].tolist()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20), st.randoms(use_true_random=False)
)
def test_values_do_not_depend_on_the_batch_they_are_drawn_in(hashes, random) -> None:
    together = draw(hashes)
    order = list(range(len(hashes)))
    random.shuffle(order)
    assert (draw([hashes[at] for at in order]) == together[order]).all()
    assert all(draw([one])[0] == row for one, row in zip(hashes, together, strict=True))


@pytest.mark.parametrize("other", [{"seed": 1}, {"slots_of_all": 1}, {"other_key": True}])
def test_seed_slot_and_key_each_change_the_values(other) -> None:
    keys = [5, 6] if "other_key" in other else [5, 5]
    slots = [0, other.get("slots_of_all", 0)]
    one = draw(keys[:1], slots=slots[:1])[0]
    assert draw(keys[1:], slots=slots[1:], seed=other.get("seed", 0))[0] != one


def test_both_views_of_a_row_are_mirrored_together() -> None:
    places = np.arange(200)
    slots = np.arange(200) % 4
    drone = draw(places + 1000, places=places, slots=slots)["flip"]
    tile = draw(places + 5000, places=places, slots=slots, view=View.SATELLITE)["flip"]
    assert (drone == tile).all()
    assert 70 < drone.sum() < 130


def test_only_tiles_are_turned_and_only_if_asked() -> None:
    keys = np.arange(100)
    assert not draw(keys)["quarter_turns"].any()
    assert set(draw(keys, view=View.SATELLITE)["quarter_turns"].tolist()) == {0, 1, 2, 3}
    still = draw(keys, view=View.SATELLITE, satellite_quarter_turns=False)
    assert not still["quarter_turns"].any()


def test_values_stay_within_what_was_asked() -> None:
    drawn = draw(np.arange(1000), min_crop_area=0.5, brightness=0.3)
    left, top, right, bottom = drawn["box"].astype(float).T
    assert left.min() >= 0 and right.max() <= 1 + 1e-6
    assert np.allclose(right - left, bottom - top, atol=1e-6)
    area = (right - left) * (bottom - top)
    assert 0.499 < area.min() < 0.53 and 0.97 < area.max() < 1.001
    assert 0.7 <= drawn["brightness"].min() < 0.72 and 1.28 < drawn["brightness"].max() <= 1.3


def test_nothing_asked_changes_nothing() -> None:
    drawn = draw(
        [1, 2, 3],
        flip_probability=0,
        min_crop_area=1,
        brightness=0,
        contrast=0,
        saturation=0,
    )
    assert all(row == values() for row in drawn)


def test_geometry_is_done_in_the_order_crop_mirror_turn() -> None:
    assert shown(apply_values(CORNERS, values(), size=2)) == [[1, 2], [3, 4]]
    assert shown(apply_values(CORNERS, values(flip=True), size=2)) == [[2, 1], [4, 3]]
    assert shown(apply_values(CORNERS, values(quarter_turns=1), size=2)) == [[2, 4], [1, 3]]
    assert shown(apply_values(CORNERS, values(quarter_turns=2), size=2)) == [[4, 3], [2, 1]]
    both = values(flip=True, quarter_turns=1)
    assert shown(apply_values(CORNERS, both, size=2)) == [[1, 3], [2, 4]]
    right_half = values(box=(0.5, 0, 1, 0.5))
    assert shown(apply_values(CORNERS, right_half, size=1)) == [[2]]


def test_colour_factors_scale_as_their_names_say() -> None:
    gray = np.array([[[50] * 3, [150] * 3]], dtype=np.uint8).repeat(2, axis=0)
    assert shown(apply_values(gray, values(brightness=1.2), size=2)) == [[60, 180]] * 2
    assert shown(apply_values(gray, values(contrast=0.5), size=2)) == [[75, 125]] * 2
    assert shown(apply_values(gray, values(saturation=0), size=2)) == [[50, 150]] * 2
    assert shown(apply_values(gray, values(brightness=2), size=2)) == [[100, 255]] * 2
    red = np.full((1, 1, 3), (100, 0, 0), dtype=np.uint8)
    assert apply_values(red, values(saturation=0), size=1).tolist() == [[[30, 30, 30]]]


def test_factors_of_one_keep_every_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    assert (apply_values(pixels, values(), size=8) == pixels).all()
    nearly = values(brightness=np.float32(1) + np.float32(1e-7))
    assert (apply_values(pixels, nearly, size=8) == pixels).all()
