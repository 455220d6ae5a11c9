"""AutoAugment's policy for ImageNet (Cubuk et al., CVPR 2019, table 9), as MCCG applies it.

Pillow's operations, because they are its definition. Rotation always goes the same way and leaves
gray 128 behind, shears and shifts go either way (`specs` BiCrossNet 5.5).
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from data_shards.decode import Pixels

GRAY = (128, 128, 128)
"""What geometry leaves behind."""

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
    if not any(taken):
        return pixels
    image = Image.fromarray(pixels)
    for (operation, _, magnitude), is_taken, sign in zip(
        POLICIES[policy], taken, signs, strict=True
    ):
        if is_taken:
            image = OPERATIONS[operation](image, magnitude, sign)
    return np.asarray(image)


def _shear_x(image: Image.Image, magnitude: int, sign: int) -> Image.Image:
    matrix = (1.0, float(SHEAR[magnitude]) * sign, 0.0, 0.0, 1.0, 0.0)
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=GRAY
    )


def _rotate(image: Image.Image, magnitude: int, sign: int) -> Image.Image:
    return image.rotate(float(ROTATION_DEGREES[magnitude]), fillcolor=GRAY)


def _posterize(image: Image.Image, magnitude: int, sign: int) -> Image.Image:
    return ImageOps.posterize(image, int(POSTERIZE_BITS[magnitude]))


def _solarize(image: Image.Image, magnitude: int, sign: int) -> Image.Image:
    return ImageOps.solarize(image, int(SOLARIZE_THRESHOLD[magnitude]))


def _colour(image: Image.Image, magnitude: int, sign: int) -> Image.Image:
    return ImageEnhance.Color(image).enhance(_factor(magnitude, sign))


def _contrast(image: Image.Image, magnitude: int, sign: int) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(_factor(magnitude, sign))


def _sharpness(image: Image.Image, magnitude: int, sign: int) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(_factor(magnitude, sign))


def _factor(magnitude: int, sign: int) -> float:
    return 1.0 + float(ENHANCEMENT[magnitude]) * sign


OPERATIONS: dict[str, Callable[[Image.Image, int, int], Image.Image]] = {
    "shear_x": _shear_x,
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": _solarize,
    "auto_contrast": lambda image, magnitude, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, magnitude, sign: ImageOps.equalize(image),
    "invert": lambda image, magnitude, sign: ImageOps.invert(image),
    "colour": _colour,
    "contrast": _contrast,
    "sharpness": _sharpness,
}
"""Those that the 25 sub-policies use."""
