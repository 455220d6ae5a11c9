"""What the training device does of a variation is what the loader would have done."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_shards.augment import mean
from data_shards.augment.on_device import finish
from data_shards.augment.operations import JITTER_ORDERS
from data_shards.augment.variations import FAMILIES, Variations
from data_shards.schema import View
from tests.data_shards.augment.conftest import varied_image

SIZE = 64
HOLES = np.random.default_rng(1).uniform(0, 1, (mean.NUM_HOLES[1], 4)).astype(np.float32)
FACTORS = {"brightness": 1.15, "contrast": 0.4, "saturation": 1.3}

OPERATIONS = {
    "brightness": ("mean", {"brightness": 1.13}),
    "contrast": ("mean", {"contrast": 1.62}),
    "saturation": ("mean", {"saturation": 0.71}),
    "hue": ("mean", {"hue": 0.17}),
    "hue back": ("mean", {"hue": -0.29}),
    "light's colours": ("light", FACTORS),
    "sharpen": ("mean", {"filter": 2, "sharpen_alpha": 0.4, "sharpen_lightness": 0.7}),
    "grid": ("mean", {"dropout": mean.GRID}),
    "holes": ("mean", {"dropout": mean.HOLES, "num_holes": 12, "holes": HOLES}),
    "turn behind a grid": ("mean", {"dropout": mean.GRID, "quarter_turns": 1}),
    "mirror and three turns": ("mean", {"flip": True, "quarter_turns": 3, "dropout": mean.GRID}),
    "erased": ("mccg", {"erased": (0.1, 0.3, 0.62, 0.55)}),
} | {
    f"blur of {size}": (
        "mean",
        {"filter": 1, "blur_size": size, "blur_sigma": (1.0, 0.8), "blur_angle": 33},
    )
    for size in mean.BLUR_SIZES
}


def both(picture, family: str, values, *, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """The images that the loader alone makes, and those that the device finishes."""
    whole = Variations(family=family, values=values)
    split = replace(whole, is_split=True)
    by_loader, begun = (
        np.stack(
            [
                varied_image(
                    one, at, np.roll(picture, at, axis=0), size=size, resampling="opencv-linear"
                )
                for at in range(len(whole))
            ]
        )
        for one in (whole, split)
    )
    assert (begun != by_loader).any(), "something is left for the device"
    finished = finish(torch.from_numpy(begun), split)
    assert finished.dtype == torch.uint8
    return by_loader, finished.numpy()


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_the_loaders_within_a_level(picture, neutral, name):
    family, values = OPERATIONS[name]
    for size in (SIZE, 50):
        expected, found = both(picture, family, neutral(family, **values), size=size)
        assert np.abs(expected.astype(int) - found).max() <= 1
        assert (expected != found).mean() < 1e-3


def test_every_colour_keeps_its_hue_within_a_level(neutral):
    levels = np.stack(np.meshgrid(*[np.arange(0, 256, 5)] * 3), axis=-1).astype(np.uint8)
    colours = levels.reshape(-1, 3)
    side = int(len(colours) ** 0.5)
    square = np.random.default_rng(0).permutation(colours)[: side**2].reshape(side, side, 3)
    expected, found = both(square, "mean", neutral("mean", hue=0.23), size=side)
    assert np.abs(expected.astype(int) - found).max() <= 1


@pytest.mark.parametrize("order", range(len(JITTER_ORDERS)))
def test_every_image_has_its_own_order_of_jitter(picture, neutral, order):
    rows = neutral("mean", **FACTORS, hue=0.1, jitter_order=order).repeat(3)
    rows["jitter_order"][1:] = (order + 5) % len(JITTER_ORDERS), (order + 11) % len(JITTER_ORDERS)
    expected, found = both(picture, "mean", rows)
    assert np.abs(expected.astype(int) - found).max() <= 1


@pytest.mark.parametrize("view", [View.SATELLITE, View.DRONE])
@pytest.mark.parametrize("family", FAMILIES)
def test_chains_of_random_draws_differ_in_hardly_a_pixel(picture, draw, family, view):
    values = draw(range(120), view=view, family=family)
    if family == "mccg" and view is View.SATELLITE:
        assert (
            not Variations(family=family, values=values, is_split=True).photometric["boxes"].any()
        )
        return
    expected, found = both(picture, family, values)
    differences = np.abs(expected.astype(int) - found)
    assert (differences > 0).mean() < 1e-4
    assert (differences > 1).mean() < 1e-6  # a sharpened level may be several


def test_an_image_does_not_depend_on_its_company(picture, draw):
    values = draw(range(24), view=View.SATELLITE, family="mean")
    split = Variations(family="mean", values=values, is_split=True)
    images = torch.from_numpy(np.stack([np.roll(picture, at, axis=1) for at in range(24)]))
    before, together = images.clone(), finish(images, split)
    alone = [finish(images[at : at + 1], split[at : at + 1]) for at in range(24)]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(images, before), "the loader's memory stays as it is"


def test_nothing_is_left_where_the_loader_does_all(picture, neutral):
    images = torch.from_numpy(picture[None])
    assert finish(images, Variations(family="mean", values=neutral("mean", hue=0.2))) is images
