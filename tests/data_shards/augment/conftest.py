"""Images to vary, and draws for many of them at once."""

from collections.abc import Callable

import numpy as np
import pytest

from data_shards.augment.config import AugmentConfig
from data_shards.augment.subjects import Subjects
from data_shards.augment.values import AugmentValues
from data_shards.augment.variations import draw_variations
from data_shards.schema import View

Draw = Callable[..., AugmentValues]


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
def picture() -> np.ndarray:
    """A smooth colourful picture with some grain, 64 x 64."""
    y, x = np.mgrid[:64, :64] / 64
    colours = [np.sin(6 * x + 2 * y), np.cos(5 * y - 3 * x), np.sin(9 * x * y)]
    grain = np.random.default_rng(0).normal(0, 8, (64, 64, 3))
    return np.clip(np.stack(colours, axis=-1) * 100 + 128 + grain, 0, 255).astype(np.uint8)
