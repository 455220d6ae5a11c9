"""What holds in every family: what draws depend on, and that values say everything."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.augment.config import FAMILIES_OF, AugmentConfig
from data_shards.augment.subjects import Subjects
from data_shards.augment.variations import AUGMENT_VERSION, FAMILIES, Variations, draw_variations
from data_shards.errors import RecipeError
from data_shards.recipe import build_config
from data_shards.schema import View
from tests.data_shards.augment.conftest import varied_image

every_family = pytest.mark.parametrize("family", FAMILIES)

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8)

DIGESTS = {
    ("light", "satellite"): [128.8, 129.8, 130.1, 112.1, 113.4, 112.2, 132.4, 133.9, 133.9],
    ("light", "drone"): [128.8, 129.8, 130.1, 112.1, 113.4, 112.2, 132.4, 133.9, 133.9],
    ("mean", "satellite"): [86.9, 88.2, 87.2, 119.2, 123.7, 119.0, 122.0, 122.0, 120.7],
    ("mean", "drone"): [87.0, 88.5, 87.1, 119.2, 123.7, 119.0, 122.0, 121.9, 121.1],
    ("mccg", "satellite"): [128.2, 129.1, 125.3, 126.9, 128.8, 119.4, 126.5, 131.5, 123.2],
    ("mccg", "drone"): [125.4, 140.8, 142.9, 126.5, 125.9, 121.1, 130.2, 140.7, 142.3],
}
"""Of what 24 images in 4 slots and both views become; see the test."""


def varied(family: str, view: View, *, size: int = 24) -> np.ndarray:
    keys = np.repeat(np.arange(24, dtype=np.uint64), 4)
    subjects = Subjects(
        seed=3,
        slots=np.tile(np.arange(4), 24),
        key_hashes=keys * np.uint64(2**40 + 7),
        place_hashes=keys // np.uint64(3),
        view=view,
    )
    variations = draw_variations(AugmentConfig(family=family, seed=3), subjects)
    return np.stack(
        [
            varied_image(variations, at, PIXELS, size=size, resampling="opencv-linear")
            for at in range(len(variations))
        ]
    )


@every_family
@settings(max_examples=20, deadline=None)
@given(
    hashes=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8),
    random=st.randoms(use_true_random=False),
    view=st.sampled_from(View),
)
def test_values_do_not_depend_on_the_batch_they_are_drawn_in(
    draw, family, hashes, random, view
) -> None:
    together = draw(hashes, family=family, view=view)
    order = list(range(len(hashes)))
    random.shuffle(order)
    shuffled = draw([hashes[at] for at in order], family=family, view=view)
    assert shuffled.tobytes() == together[order].tobytes()
    alone = [draw([one], family=family, view=view).tobytes() for one in hashes]
    assert b"".join(alone) == together.tobytes()


@every_family
@pytest.mark.parametrize("other", [{"seed": 1}, {"slot": 1}, {"key": 6}], ids=str)
def test_seed_slot_and_key_each_change_the_values(draw, family, other) -> None:
    one = draw([5], family=family)
    changed = draw(
        [other.get("key", 5)],
        slots=[other.get("slot", 0)],
        family=family,
        seed=other.get("seed", 0),
    )
    assert changed.tobytes() != one.tobytes()


@pytest.mark.parametrize("family", ["light", "mean"])
@pytest.mark.parametrize("view", [View.SATELLITE, View.STREET, View.GOOGLE])
def test_all_views_of_a_place_are_mirrored_together(draw, family, view) -> None:
    places, slots = np.arange(400), np.arange(400) % 4
    drone = draw(places + 1000, places=places, slots=slots, family=family)["flip"]
    other = draw(places + 5000, places=places, slots=slots, family=family, view=view)["flip"]
    assert (drone == other).all()
    assert 160 < drone.sum() < 240


def test_mccg_mirrors_every_image_for_itself(draw) -> None:
    places = np.arange(1000)
    drone = draw(places + 1000, places=places, family="mccg")["flip"]
    tile = draw(places + 5000, places=places, family="mccg", view=View.SATELLITE)["flip"]
    assert 420 < (drone == tile).sum() < 580
    assert 420 < drone.sum() < 580


@pytest.mark.parametrize("family", ["light", "mean"])
def test_only_tiles_are_turned_and_only_if_asked(draw, family) -> None:
    keys = np.arange(400)
    assert not draw(keys, family=family)["quarter_turns"].any()
    turns = draw(keys, family=family, view=View.SATELLITE)["quarter_turns"]
    assert np.bincount(turns).min() > 70 and turns.max() == 3
    still = draw(keys, family=family, view=View.SATELLITE, satellite_quarter_turns=False)
    assert not still["quarter_turns"].any()


@every_family
@pytest.mark.parametrize("view", [View.SATELLITE, View.DRONE, View.STREET])
def test_the_same_values_give_the_same_pixels_and_leave_the_source_alone(family, view) -> None:
    before = PIXELS.copy()
    first = varied(family, view)
    assert (varied(family, view) == first).all()
    assert (PIXELS == before).all()
    assert len({image.tobytes() for image in first}) > 80, "images are really varied"


@every_family
def test_a_change_says_what_its_row_of_values_says(draw, family) -> None:
    variations = Variations(family=family, values=draw(np.arange(40), family=family))
    assert len(variations.changes) == 40
    for change, row in zip(variations.changes, variations.values, strict=True):
        assert set(change._fields) == set(row.dtype.names)
        for name, value in change._asdict().items():
            assert np.array_equal(value, row[name]), name


@every_family
def test_a_part_of_the_variations_keeps_its_images(draw, family) -> None:
    whole = Variations(family=family, values=draw(np.arange(9), family=family))
    part = whole[4:6]
    assert len(part) == 2
    one, same = (
        varied_image(some, at, PIXELS, size=16, resampling="pillow-bicubic")
        for some, at in ((whole, 5), (part, 1))
    )
    assert (one == same).all()


@every_family
def test_pixels_change_only_with_the_version(family) -> None:
    """When this fails, raise AUGMENT_VERSION, so that no cache mixes old pixels with new ones.

    Means, not bytes: the last bit of a filter may differ from processor to processor.
    """
    assert AUGMENT_VERSION == 3
    for view in (View.SATELLITE, View.DRONE):
        means = varied(family, view).mean(axis=(1, 2))
        assert np.allclose(means[:3].reshape(-1), DIGESTS[family, view.word], atol=0.6)


@pytest.mark.parametrize(
    ("family", "option", "value"),
    [
        ("mccg", "brightness", 0.1),
        ("mccg", "satellite_quarter_turns", False),
        ("mean", "min_crop_area", 0.5),
        ("mean", "colour_jitter", 0.1),
        ("light", "auto_augment", False),
    ],
)
def test_an_option_that_a_family_has_no_use_for_is_refused(family, option, value) -> None:
    with pytest.raises(
        RecipeError, match=f"augment.family {family} has no use for augment.{option}"
    ):
        AugmentConfig(**{"family": family, option: value})


def test_every_option_that_is_not_for_all_belongs_to_known_families() -> None:
    assert FAMILIES_OF.keys() <= vars(AugmentConfig()).keys()
    assert {family for some in FAMILIES_OF.values() for family in some} <= FAMILIES.keys()


CHANGES = {
    "flip_probability": 0.0,
    "satellite_quarter_turns": False,
    "min_crop_area": 0.5,
    "brightness": 0.5,
    "contrast": 0.5,
    "saturation": 0.5,
    "auto_augment": False,
    "colour_jitter": 0.1,
}
HEEDED = [
    (family, option) for option in CHANGES for family in FAMILIES_OF.get(option, tuple(FAMILIES))
]


@pytest.mark.parametrize(("family", "option"), HEEDED)
def test_an_option_that_is_accepted_does_something(draw, family, option) -> None:
    keys, change = np.arange(60), {option: CHANGES[option]}
    assert any(
        draw(keys, family=family, view=view).tobytes()
        != draw(keys, family=family, view=view, **change).tobytes()
        for view in (View.SATELLITE, View.DRONE)
    )


def test_every_option_is_tried() -> None:
    assert CHANGES.keys() == vars(AugmentConfig()).keys() - {"family", "slots", "seed", "device"}


def test_a_recipe_names_the_family() -> None:
    config = build_config(AugmentConfig, {"family": "mccg", "colour_jitter": 0.1}, where="r.yaml")
    assert (config.family, config.colour_jitter) == ("mccg", 0.1)
    with pytest.raises(RecipeError, match="family"):
        build_config(AugmentConfig, {"family": "heavy"}, where="r.yaml")


def test_light_draws_what_it_always_drew(draw) -> None:
    row = draw([5, 6], slots=[0, 1], view=View.SATELLITE, seed=7)
    assert hashlib.sha256(row.tobytes()).hexdigest()[:16] == "36410c18df0cbc1c"
