"""The family of MCCG and BiCrossNet (`specs` BiCrossNet 5.5), each image for itself.

Drone and ground images, in this order: AutoAugment, colour jitter if asked for, resize, border
repeated by 10 pixels, random crop back to size, mirror, one erased box. Satellite tiles: colour
jitter if asked for, resize, border, rotation by up to 90 degrees (nearest pixel, black corners),
crop, mirror. Their erased box is 0 after normalization: the mean colour of ImageNet.
"""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from data_shards.augment.auto_augment import POLICIES, STEP_PROBABILITIES, auto_augment
from data_shards.augment.config import AugmentConfig
from data_shards.augment.operations import JITTER_ORDERS, LEFT_RIGHT, aside, fill, jitter, shift
from data_shards.augment.subjects import FLIP, Subjects
from data_shards.augment.values import AugmentValues, neutral
from data_shards.config import Resampling
from data_shards.decode import Pixels, resize
from data_shards.schema import View

BORDER = 10
"""Pixels that the border is repeated by, and so the range of the crop."""

ROTATION_DEGREES = 90.0
ERASE_PROBABILITY, ERASE_AREA, ERASE_ASPECT = 0.5, (0.02, 0.4), (0.3, 1 / 0.3)
ERASE_TRIES = 100
"""Boxes that do not fit are drawn again, so often."""

MEAN_COLOUR = (124, 116, 104)
"""0.485, 0.456, 0.406 of 255."""


class Change(NamedTuple):
    """The values of one image."""

    policy: int
    taken: npt.NDArray[np.bool_]
    signs: npt.NDArray[np.int8]
    jitter_order: int
    brightness: float
    contrast: float
    saturation: float
    shift: npt.NDArray[np.int8]
    angle: float
    flip: bool
    erased: npt.NDArray[np.float32]


KINDS = ("u1", "(2,)?", "(2,)i1", "u1", "<f4", "<f4", "<f4", "(2,)i1", "<f4", "?", "(4,)<f4")
VALUES = np.dtype(list(zip(Change._fields, KINDS, strict=True)))
"""Sub-policy of AutoAugment, which of its steps are taken, and their signs; shift right and down in
pixels; angle counter-clockwise in degrees; erased box of fractions, empty for none."""

POLICY, TAKEN, SIGN, ORDER, COLOUR = 300, 301, 303, 305, 306
SHIFT_RIGHT, SHIFT_DOWN, ANGLE, ERASE, BOX = 310, 311, 312, 313, 400
"""Names of the draws, beside `FLIP`; those of more than one number go on from theirs."""


def draw(config: AugmentConfig, subjects: Subjects) -> AugmentValues:
    """Draw the values of N images."""
    values = np.zeros(len(subjects), dtype=VALUES)
    values["flip"] = subjects.draw(FLIP) < config.flip_probability
    values["shift"][:, 0] = subjects.integers(SHIFT_RIGHT, -BORDER, BORDER)
    values["shift"][:, 1] = subjects.integers(SHIFT_DOWN, -BORDER, BORDER)
    values["jitter_order"] = subjects.integers(ORDER, 0, len(JITTER_ORDERS) - 1)
    changes = config.colour_jitter * (2.0 * subjects.draws(COLOUR, 3) - 1.0)
    for column, field in enumerate(("brightness", "contrast", "saturation")):
        values[field] = 1.0 + changes[:, column]
    values["signs"] = 1
    if subjects.view is View.SATELLITE:
        values["angle"] = subjects.between(ANGLE, -ROTATION_DEGREES, ROTATION_DEGREES)
        return values
    if config.auto_augment:
        values["policy"] = subjects.integers(POLICY, 0, len(POLICIES) - 1)
        values["taken"] = subjects.draws(TAKEN, 2) < STEP_PROBABILITIES[values["policy"]]
        values["signs"] = np.where(subjects.draws(SIGN, 2) < 0.5, -1, 1)
    is_erased = subjects.draw(ERASE) < ERASE_PROBABILITY
    values["erased"] = np.where(is_erased[:, None], _boxes(subjects), 0.0)
    return values


def _boxes(subjects: Subjects) -> np.ndarray:
    """Draw one box each that fits; an empty one where `ERASE_TRIES` did not."""
    boxes = np.zeros((len(subjects), 4))
    is_open = np.ones(len(subjects), dtype=bool)
    for attempt in range(ERASE_TRIES):
        draws = subjects.draws(BOX + 4 * attempt, 4)
        area = ERASE_AREA[0] + (ERASE_AREA[1] - ERASE_AREA[0]) * draws[:, 0]
        aspect = ERASE_ASPECT[0] + (ERASE_ASPECT[1] - ERASE_ASPECT[0]) * draws[:, 1]
        height, width = np.sqrt(area * aspect), np.sqrt(area / aspect)
        left, top = (1.0 - width) * draws[:, 2], (1.0 - height) * draws[:, 3]
        fits = is_open & (height < 1.0) & (width < 1.0)
        boxes[fits] = np.stack([left, top, left + width, top + height], axis=1)[fits]
        is_open &= ~fits
        if not is_open.any():
            break
    return boxes


def split(values: AugmentValues) -> tuple[AugmentValues, AugmentValues]:
    """Leave the erased box to the training device: its rows come second.

    AutoAugment and jitter stay, for they come before the resize.
    """
    ours, rest = values.copy(), neutral(len(values))
    rest["boxes"][:, 0], rest["fill"], ours["erased"] = values["erased"], MEAN_COLOUR, 0.0
    return ours, rest


def apply(pixels: Pixels, change: Change, into: Pixels, *, resampling: Resampling) -> None:
    """Vary one image, in the order of the text above."""
    taken, signs = change.taken.tolist(), change.signs.tolist()
    pixels = auto_augment(pixels, policy=change.policy, taken=taken, signs=signs)
    factors = (change.brightness, change.contrast, change.saturation)
    if factors != (1.0, 1.0, 1.0):
        pixels = pixels.copy()
        jitter(pixels, *factors, hue=0.0, order=change.jitter_order)
    resized = resize(pixels, size=into.shape[0], resampling=resampling)
    right, down = change.shift.tolist()
    if change.angle:  # the image with its repeated border about the centre, then the crop
        padded = cv2.copyMakeBorder(
            resized,
            *(BORDER,) * 4,
            cv2.BORDER_REPLICATE,
            dst=aside(*(side + 2 * BORDER for side in resized.shape[:2])),
        )
        centre = (padded.shape[0] - 1) / 2
        matrix = cv2.getRotationMatrix2D((centre, centre), change.angle, 1.0)
        matrix[:, 2] += (right - BORDER, down - BORDER)
        cv2.warpAffine(padded, matrix, into.shape[:2], dst=into, flags=cv2.INTER_NEAREST)
    else:
        shift(resized, into, right=right, down=down)
    if change.flip:
        cv2.flip(into, LEFT_RIGHT, dst=into)
    fill(into, change.erased.tolist(), MEAN_COLOUR)
