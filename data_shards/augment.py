"""Augmentation as explicit values: drawn from (augmentation seed, slot, key), applied to uint8.

The values do not depend on the run's seed, the epoch or the rank, so a teacher cache made once
holds exactly what every student will see (spec performance 3.3). A flip mirrors the place, so both
views of a row share it: it is drawn from the place, all else from the image.
"""

import numpy as np
import numpy.typing as npt

from data_shards.config import AugmentConfig
from data_shards.decode import Box, Pixels, resize
from data_shards.draws import mix, uniform
from data_shards.schema import View

AUGMENT_VERSION = 1
"""Part of every cache key; raised when the same values would give other pixels."""

VALUES = np.dtype(
    [
        ("flip", "?"),
        ("quarter_turns", "u1"),
        ("box", "<f4", (4,)),
        ("brightness", "<f4"),
        ("contrast", "<f4"),
        ("saturation", "<f4"),
    ]
)
"""One image's augmentation: mirror left-right, quarter turns, crop (fractions), colour factors."""

AugmentValues = npt.NDArray[np.void]

FLIP, TURN, AREA, LEFT, TOP, BRIGHTNESS, CONTRAST, SATURATION = range(8)
"""Names of the draws."""

GRAY = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def draw_values(
    config: AugmentConfig,
    *,
    key_hashes: npt.NDArray[np.uint64],
    place_hashes: npt.NDArray[np.uint64],
    slots: npt.NDArray[np.int64],
    view: View,
) -> AugmentValues:
    """Draw the values of N images of one view.

    Args:
        config: how far images are varied.
        key_hashes: 64 bits that name each image [N].
        place_hashes: 64 bits that name each image's place [N].
        slots: variation asked for, 0 to `config.slots` - 1 [N].
        view: satellite tiles are turned, drone images are not.
    """

    def random(name: int, hashes: npt.NDArray[np.uint64] = key_hashes) -> npt.NDArray[np.float64]:
        return uniform(mix(name, config.seed, slots, hashes))

    def factor(name: int, spread: float) -> npt.NDArray[np.float64]:
        return 1.0 + spread * (2.0 * random(name) - 1.0)

    values = np.zeros(len(key_hashes), dtype=VALUES)
    values["flip"] = random(FLIP, place_hashes) < config.flip_probability
    if view is View.SATELLITE and config.satellite_quarter_turns:
        values["quarter_turns"] = (4 * random(TURN)).astype(np.uint8)
    side = np.sqrt(1.0 - (1.0 - config.min_crop_area) * random(AREA))
    left, top = (1.0 - side) * random(LEFT), (1.0 - side) * random(TOP)
    values["box"] = np.stack([left, top, left + side, top + side], axis=1)
    values["brightness"] = factor(BRIGHTNESS, config.brightness)
    values["contrast"] = factor(CONTRAST, config.contrast)
    values["saturation"] = factor(SATURATION, config.saturation)
    return values


def apply_values(pixels: Pixels, values: np.void, *, size: int) -> Pixels:
    """Crop, resize to `size` x `size`, mirror, turn and colour one image."""
    left, top, right, bottom = (min(1.0, float(edge)) for edge in values["box"])
    box: Box = (left, top, right, bottom)
    varied = resize(pixels, size=size, box=box)
    if values["flip"]:
        varied = varied[:, ::-1]
    if values["quarter_turns"]:
        varied = np.rot90(varied, int(values["quarter_turns"]))
    return _colour(
        varied, float(values["brightness"]), float(values["contrast"]), float(values["saturation"])
    )


def _colour(pixels: Pixels, brightness: float, contrast: float, saturation: float) -> Pixels:
    """Scale brightness, then contrast around the mean gray, then saturation around pixel grays."""
    if brightness == contrast == saturation == 1.0:
        return pixels
    colour = pixels.astype(np.float32) * np.float32(brightness)
    mean = np.float32((colour @ GRAY).mean())
    colour = (colour - mean) * np.float32(contrast) + mean
    gray = (colour @ GRAY)[..., None]
    colour = (colour - gray) * np.float32(saturation) + gray
    return np.clip(colour + np.float32(0.5), 0, 255).astype(np.uint8)
