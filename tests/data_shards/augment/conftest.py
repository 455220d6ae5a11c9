"""Images to vary, and draws for many of them at once."""

from collections.abc import Callable

import numpy as np
import pytest

from data_shards.augment import light, mccg, mean
from data_shards.augment.config import AugmentConfig
from data_shards.augment.subjects import Subjects
from data_shards.augment.values import AugmentValues
from data_shards.augment.variations import Variations, draw_variations
from data_shards.config import Resampling
from data_shards.schema import View

Draw = Callable[..., AugmentValues]
Vary = Callable[..., np.ndarray]

VALUES = {"light": light.VALUES, "mean": mean.VALUES, "mccg": mccg.VALUES}
NEUTRAL = {"brightness": 1, "contrast": 1, "saturation": 1, "box": (0, 0, 1, 1), "signs": 1}
"""Values that change nothing, where that is not 0."""


def values_of(family: str, **changes) -> AugmentValues:
    """One row of a family's values that changes nothing but what is said."""
    row = np.zeros(1, dtype=VALUES[family])
    neutral = {name: value for name, value in NEUTRAL.items() if name in row.dtype.names}
    for name, value in (neutral | changes).items():
        row[name] = value
    return row


def varied_image(
    variations: Variations, at: int, pixels: np.ndarray, *, size: int, resampling: Resampling
) -> np.ndarray:
    into = np.empty((size, size, 3), dtype=np.uint8)
    variations.apply(at, pixels, into, resampling=resampling)
    return into


def vary_one(family: str, pixels: np.ndarray, *, size: int = 64, **changes) -> np.ndarray:
    """What a family makes of a picture by the values said; the picture stays as it is."""
    variations = Variations(family=family, values=values_of(family, **changes))
    before = pixels.copy()
    varied = varied_image(variations, 0, pixels, size=size, resampling="opencv-linear")
    assert (pixels == before).all()
    return varied


def draw_some(hashes, *, places=None, slots=None, view=View.DRONE, **options) -> AugmentValues:
    """Draw the values of images by the hashes of their keys."""
    hashes = np.asarray(hashes, dtype=np.uint64)
    config = AugmentConfig(**options)
    subjects = Subjects(
        seed=config.seed,
        slots=np.zeros(len(hashes), dtype=np.int64) if slots is None else np.asarray(slots),
        key_hashes=hashes,
        place_hashes=hashes if places is None else np.asarray(places, dtype=np.uint64),
        view=view,
    )
    return draw_variations(config, subjects).values


@pytest.fixture(scope="session")
def draw() -> Draw:
    """The function that draws values from hashes and options of `augment`."""
    return draw_some


@pytest.fixture(scope="session")
def vary() -> Vary:
    """The function that varies a picture by named values of a family."""
    return vary_one


@pytest.fixture(scope="session")
def neutral() -> Draw:
    """The function that makes a row of values which changes nothing but what is said."""
    return values_of


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """A smooth colourful picture with some grain, 64 x 64."""
    y, x = np.mgrid[:64, :64] / 64
    colours = [np.sin(6 * x + 2 * y), np.cos(5 * y - 3 * x), np.sin(9 * x * y)]
    grain = np.random.default_rng(0).normal(0, 8, (64, 64, 3))
    return np.clip(np.stack(colours, axis=-1) * 100 + 128 + grain, 0, 255).astype(np.uint8)
