"""Pixels to linear light and back, and the fields that weather is made of.

Weather adds and scales light, and so does a shutter; the numbers of a file are light to the power
of about 1 / 2.2 (sRGB). Fields are drawn in parts of the image's longer side, so that one image
has one weather at every size. All is done in place: memory that is new costs more than arithmetic.
"""

from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from data_shards.decode import Pixels

Light: TypeAlias = npt.NDArray[np.float32]
"""Linear light [H, W, RGB]; 1 is the white of the file."""

Field: TypeAlias = npt.NDArray[np.float32]
"""One number per pixel [H, W]."""

Colour: TypeAlias = tuple[float, float, float]

BLACK: Colour = (0.0, 0.0, 0.0)

LEVELS = 2**16
"""Steps of light from black to white: all that a 16-bit number has."""


def _shown(light: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the sRGB value of linear light (IEC 61966-2-1), both 0..1."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _linear(shown: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)


LIGHT_OF_PIXEL = _linear(np.arange(256) / 255).astype(np.float32)
PIXEL_OF_LEVEL = np.rint(255 * _shown(np.arange(LEVELS) / (LEVELS - 1))).astype(np.uint8)


def to_light(pixels: Pixels) -> Light:
    """Return the linear light of sRGB pixels."""
    return np.asarray(cv2.LUT(pixels, LIGHT_OF_PIXEL), dtype=np.float32)


def to_pixels(light: Light) -> Pixels:
    """Return the sRGB pixels of linear light; what is brighter than white is white."""
    # OpenCV rounds, and saturates at both ends of a 16-bit number.
    level = cv2.multiply(light, np.ones(4), scale=LEVELS - 1, dtype=cv2.CV_16U)
    return PIXEL_OF_LEVEL.take(np.asarray(level, dtype=np.uint16))


def scale(light: Light, factor: float | Colour, *, plus: Colour = BLACK) -> None:
    """Scale light, all channels alike or each by its own factor, and add that of one colour."""
    matrix = np.column_stack([np.diag(np.broadcast_to(factor, 3)), plus])
    cv2.transform(light, matrix, dst=light)


def cover(light: Light, part: Field, *, colour: Colour) -> None:
    """Let a `part` (0..1) of the light be that of something in front, of one colour."""
    red, green, blue = colour
    scale(light, 1.0, plus=(-red, -green, -blue))
    through = 1 - part
    light *= cv2.merge([through, through, through])
    scale(light, 1.0, plus=colour)


def fitted(field: npt.NDArray[np.generic], light: Light) -> Field:
    """Return a square field at the size of the image's longer side, cut to the image."""
    height, width = light.shape[:2]
    side = max(height, width)
    # Beyond half the size, the nearest four pixels of a field no longer stand for all of them.
    is_much_smaller = 2 * side < len(field)
    interpolation = cv2.INTER_AREA if is_much_smaller else cv2.INTER_LINEAR
    if side > 2 * len(field):
        interpolation = cv2.INTER_CUBIC
    whole = cv2.resize(field.astype(np.float32), (side, side), interpolation=interpolation)
    return np.ascontiguousarray(whole[:height, :width], dtype=np.float32)


def smooth_field(rng: np.random.Generator, light: Light, *, cells: int) -> Field:
    """Return a field of 0..1 with bumps of 1 / `cells` of the image and of half as much."""
    coarse = rng.random((cells, cells))
    fine = rng.random((2 * cells, 2 * cells))
    double = cv2.resize(coarse, (2 * cells, 2 * cells), interpolation=cv2.INTER_CUBIC)
    return np.clip(fitted((2 * double + fine) / 3, light), 0, 1)
