"""AutoAugment's policy for ImageNet (Cubuk et al., CVPR 2019, table 9), as MCCG applies it.

Pillow's operations, because they are its definition. Those that map each level to another are done
without it, to the same bits: to hand an image to Pillow and take it back costs as much as they do.
Rotation always goes the same way and leaves gray 128 behind, shears and shifts go either way
(`specs` BiCrossNet 5.5).
"""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from data_shards.decode import Pixels

GRAY = (128, 128, 128)
"""What geometry leaves behind."""

WHITE = np.uint8(255)

LEVELS = 10
"""Magnitudes 0 to 9 of the paper."""

SHEAR = np.linspace(0.0, 0.3, LEVELS)
ROTATION_DEGREES = np.linspace(0.0, 30.0, LEVELS)
ENHANCEMENT = np.linspace(0.0, 0.9, LEVELS)
POSTERIZE_BITS = np.round(np.linspace(8.0, 4.0, LEVELS)).astype(int)
SOLARIZE_THRESHOLD = np.ceil(np.linspace(256.0, 0.0, LEVELS)).astype(int)

Step = tuple[str, float, int]
"""Operation, probability, magnitude (0 where the operation has none)."""

POLICIES: tuple[tuple[Step, Step], ...] = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 0)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 0), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 0)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 0)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 0), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("colour", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 0)),
    (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("colour", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("colour", 1.0, 2)),
    (("colour", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 0)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 0)),
    (("colour", 0.4, 0), ("equalize", 0.6, 0)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("colour", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
)
"""The 25 sub-policies, two steps each."""

STEP_PROBABILITIES = np.array([[step[1] for step in policy] for policy in POLICIES])
"""How often each step is taken [25, 2]."""


def auto_augment(pixels: Pixels, *, policy: int, taken: list[bool], signs: list[int]) -> Pixels:
    """Apply the steps of one sub-policy that are taken; `signs` are +1 or -1 where one matters."""
    for (operation, _, magnitude), is_taken, sign in zip(
        POLICIES[policy], taken, signs, strict=True
    ):
        if is_taken:
            pixels = OPERATIONS[operation](pixels, magnitude, sign)
    return pixels


Levels = npt.NDArray[np.int64]
"""How many pixels of a channel have each level [256]."""

SAME = np.arange(256, dtype=np.uint8)
"""The table that keeps every level."""


def _equalizing(count: Levels) -> Pixels:
    """Return the level that each becomes, so that each is about as frequent."""
    step = int(count.sum() - count[count > 0][-1]) // 255
    if not step:
        return SAME
    darker = np.cumsum(count) - count
    table: Pixels = np.minimum((step // 2 + darker) // step, 255).astype(np.uint8)
    return table


def _stretching(count: Levels) -> Pixels:
    """Return the level that each becomes, so that the darkest is 0 and the brightest 255."""
    present = np.flatnonzero(count)
    darkest, brightest = int(present[0]), int(present[-1])
    if darkest == brightest:
        return SAME
    scale = 255.0 / (brightest - darkest)
    return (SAME * scale - darkest * scale).clip(0, 255).astype(np.uint8)


def _mapped(pixels: Pixels, table: Callable[[Levels], Pixels]) -> Pixels:
    """Map the levels of each channel by a table that is made from their numbers."""
    mapped = []
    for channel in cv2.split(pixels):
        count = cv2.calcHist([channel], [0], None, [256], [0, 256]).reshape(-1).astype(np.int64)
        mapped.append(cv2.LUT(channel, table(count)))
    return np.asarray(cv2.merge(mapped), dtype=np.uint8)


Enhancer = Callable[
    [Image.Image], ImageEnhance.Color | ImageEnhance.Contrast | ImageEnhance.Sharpness
]


def _enhance(enhancer: Enhancer, pixels: Pixels, magnitude: int, sign: int) -> Pixels:
    if not magnitude:
        return pixels
    factor = 1.0 + float(ENHANCEMENT[magnitude]) * sign
    return np.asarray(enhancer(Image.fromarray(pixels)).enhance(factor))


OPERATIONS: dict[str, Callable[[Pixels, int, int], Pixels]] = {
    "shear_x": lambda pixels, at, sign: np.asarray(
        Image.fromarray(pixels).transform(
            pixels.shape[1::-1],
            Image.Transform.AFFINE,
            (1.0, float(SHEAR[at]) * sign, 0.0, 0.0, 1.0, 0.0),
            Image.Resampling.BICUBIC,
            fillcolor=GRAY,
        )
    ),
    "rotate": lambda pixels, at, _: np.asarray(
        Image.fromarray(pixels).rotate(float(ROTATION_DEGREES[at]), fillcolor=GRAY)
    ),
    "posterize": lambda pixels, at, _: pixels & np.uint8(256 - 2 ** (8 - int(POSTERIZE_BITS[at]))),
    "solarize": lambda pixels, at, _: pixels ^ ((pixels >= int(SOLARIZE_THRESHOLD[at])) * WHITE),
    "auto_contrast": lambda pixels, *_: _mapped(pixels, _stretching),
    "equalize": lambda pixels, *_: _mapped(pixels, _equalizing),
    "invert": lambda pixels, *_: ~pixels,
    "colour": partial(_enhance, ImageEnhance.Color),
    "contrast": partial(_enhance, ImageEnhance.Contrast),
    "sharpness": partial(_enhance, ImageEnhance.Sharpness),
}
"""Those that the 25 sub-policies use: (pixels, magnitude, sign) to pixels."""
