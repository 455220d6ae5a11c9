"""Our own light family: crop, mirror, quarter turns of the tile, and one change of colour."""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from data_shards.augment.config import AugmentConfig
from data_shards.augment.operations import mean_lightness, mirror_and_turn, saturation_matrix
from data_shards.augment.subjects import FLIP, Draws, Subjects
from data_shards.augment.values import AugmentValues, neutral
from data_shards.config import Resampling
from data_shards.decode import Pixels, resize
from data_shards.schema import View


class Change(NamedTuple):
    """The values of one image."""

    flip: bool
    quarter_turns: int
    box: npt.NDArray[np.float32]
    brightness: float
    contrast: float
    saturation: float


KINDS = ("?", "u1", "(4,)<f4", "<f4", "<f4", "<f4")
VALUES = np.dtype(list(zip(Change._fields, KINDS, strict=True)))
"""Mirror, quarter turns, crop (left, top, right, bottom as fractions), colour factors."""

TURN, AREA, LEFT, TOP, BRIGHTNESS, CONTRAST, SATURATION = range(1, 8)
"""Names of the draws, beside `FLIP`."""


def draw(config: AugmentConfig, subjects: Subjects) -> AugmentValues:
    """Draw the values of N images; a flip mirrors the place, so that all its views share it."""

    def factor(name: int, spread: float) -> Draws:
        return 1.0 + spread * (2.0 * subjects.draw(name) - 1.0)

    values = np.zeros(len(subjects), dtype=VALUES)
    values["flip"] = subjects.draw_of_place(FLIP) < config.flip_probability
    if subjects.view is View.SATELLITE and config.satellite_quarter_turns:
        values["quarter_turns"] = subjects.integers(TURN, 0, 3)
    side = np.sqrt(1.0 - (1.0 - config.min_crop_area) * subjects.draw(AREA))
    left, top = (1.0 - side) * subjects.draw(LEFT), (1.0 - side) * subjects.draw(TOP)
    values["box"] = np.stack([left, top, left + side, top + side], axis=1)
    values["brightness"] = factor(BRIGHTNESS, config.brightness)
    values["contrast"] = factor(CONTRAST, config.contrast)
    values["saturation"] = factor(SATURATION, config.saturation)
    return values


def split(values: AugmentValues) -> tuple[AugmentValues, AugmentValues]:
    """Leave the colours to the training device: its rows come second."""
    ours, rest = values.copy(), neutral(len(values))
    rest["is_joint"] = True
    for factor in ("brightness", "contrast", "saturation"):
        rest[factor], ours[factor] = values[factor], 1.0
    return ours, rest


def apply(pixels: Pixels, change: Change, into: Pixels, *, resampling: Resampling) -> None:
    """Crop whole pixels, resize, mirror, turn, and colour."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = (
        round(min(max(edge, 0.0), 1.0) * side)
        for edge, side in zip(change.box.tolist(), (width, height, width, height), strict=True)
    )
    crop = pixels[top : max(bottom, top + 1), left : max(right, left + 1)]
    resize(crop, size=into.shape[0], resampling=resampling, into=into)
    mirror_and_turn(into, is_mirrored=change.flip, quarter_turns=change.quarter_turns)
    _, _, _, brightness, contrast, saturation = change
    if not brightness == contrast == saturation == 1.0:
        # Brightness, contrast around the mean gray and saturation around pixel grays are one linear
        # map of each pixel, and only its end is rounded and clipped.
        offset = brightness * mean_lightness(into) * (1.0 - contrast)
        matrix = brightness * contrast * saturation_matrix(saturation)
        cv2.transform(into, np.column_stack([matrix, np.full(3, offset)]), dst=into)
