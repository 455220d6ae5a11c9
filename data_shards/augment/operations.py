"""What families share: operations on one square uint8 image, done in place.

In place, because the image lies in its row of the batch already, and is warm in the cache.
"""

from collections.abc import Sequence
from itertools import permutations

import cv2
import numpy as np
import numpy.typing as npt

from data_shards.decode import OfThread, Pixels

GRAY = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in the lightness of a pixel (ITU-R BT.601)."""

HUES = 256
"""In so many parts OpenCV divides the colour circle, so that bytes overflow as hues do."""

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)

JITTER_ORDERS = np.array(list(permutations(range(4))), dtype=np.uint8)
"""The 24 orders of brightness, contrast, saturation and hue."""


_of_thread = OfThread()


def aside(height: int, width: int) -> Pixels:
    """Return memory [height, width, RGB] beside a picture, of this thread, until it asks again.

    What is allocated for each picture is given back to the system, and found zeroed page by page:
    50 microseconds at 384 px.
    """
    return _of_thread.scratch.room(height, width)


LEFT_RIGHT, UP_DOWN, BOTH = 1, 0, -1

TRANSPOSED = {LEFT_RIGHT: UP_DOWN, UP_DOWN: LEFT_RIGHT, BOTH: BOTH}

FLIPS = ((None, LEFT_RIGHT, BOTH, UP_DOWN), (LEFT_RIGHT, None, UP_DOWN, BOTH))
"""Mirrored (1) or not, then quarter turns: which flip does the same, before a transposition if the
turns are odd."""


def mirror_and_turn(pixels: Pixels, *, is_mirrored: bool, quarter_turns: int) -> None:
    """Mirror left and right, then turn counter-clockwise by `quarter_turns` times 90 degrees."""
    flip = FLIPS[is_mirrored][quarter_turns]
    if flip is not None:
        cv2.flip(pixels, flip, dst=pixels)
    if quarter_turns % 2:  # OpenCV transposes in place three times slower than aside
        np.copyto(pixels, cv2.transpose(pixels, dst=aside(*pixels.shape[:2])))


def mirrored_and_turned(
    pixels: Pixels, into: Pixels, *, is_mirrored: bool, quarter_turns: int
) -> None:
    """Put a square picture into `into`, mirrored and turned by an odd number of quarters.

    What `mirror_and_turn` would make of it, with one pass less through memory that is not at hand.
    """
    cv2.transpose(pixels, dst=into)
    flip = FLIPS[is_mirrored][quarter_turns]
    if flip is not None:  # rows have become columns, so that left and right are up and down
        cv2.flip(into, TRANSPOSED[flip], dst=into)


def brighten(pixels: Pixels, factor: float, offset: float = 0.0) -> None:
    """Scale all pixels and move them; OpenCV is faster with a diagonal than with a number."""
    diagonal = [[factor, 0, 0, offset], [0, factor, 0, offset], [0, 0, factor, offset]]
    cv2.transform(pixels, np.array(diagonal), dst=pixels)


def change_contrast(pixels: Pixels, factor: float) -> None:
    """Scale the distance of all pixels from the mean lightness."""
    brighten(pixels, factor, mean_lightness(pixels) * (1.0 - factor))


def saturate(pixels: Pixels, factor: float) -> None:
    """Scale the distance of each pixel from its own gray."""
    cv2.transform(pixels, saturation_matrix(factor), dst=pixels)


def shift_hue(pixels: Pixels, turns: float) -> None:
    """Move the hue of each pixel by a part of the colour circle."""
    height, width = pixels.shape[:2]
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV_FULL, dst=aside(height, width))
    # A whole row is added, for its numbers lie beside each other; those of hue alone do not.
    shift = np.zeros((width, 3), dtype=np.uint8)
    shift[:, 0] = round(turns * HUES) % HUES
    np.add(hsv, shift, out=hsv)
    cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL, dst=pixels)


def mean_lightness(pixels: Pixels) -> float:
    sums = cv2.sumElems(pixels)[:3]
    height, width = pixels.shape[:2]
    return float(np.dot(sums, GRAY)) / int(height * width)


def saturation_matrix(factor: float | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the matrix [RGB, RGB] that scales saturation, or one of each factor [N, 1, 1]."""
    return factor * np.eye(3) + (1.0 - factor) * GRAY


def jitter(
    pixels: Pixels, brightness: float, contrast: float, saturation: float, *, hue: float, order: int
) -> None:
    """Change the colours in an order of `JITTER_ORDERS`; every step rounds and clips."""
    for step in JITTER_ORDERS[order].tolist():
        if step == BRIGHTNESS and brightness != 1.0:
            brighten(pixels, brightness)
        elif step == CONTRAST and contrast != 1.0:
            change_contrast(pixels, contrast)
        elif step == SATURATION and saturation != 1.0:
            saturate(pixels, saturation)
        elif step == HUE and hue:
            shift_hue(pixels, hue)


def fill(pixels: Pixels, box: Sequence[float], colour: tuple[int, int, int]) -> None:
    """Fill the part `box` (left, top, right, bottom as fractions) with one colour."""
    size = pixels.shape[0]
    left, top, right, bottom = [round(edge * size) for edge in box]
    if left < right and top < bottom:
        last = (right - 1, bottom - 1)
        cv2.rectangle(pixels, (left, top), last, colour, thickness=cv2.FILLED)


def shift(pixels: Pixels, into: Pixels, *, right: int, down: int) -> None:
    """Copy an image moved by whole pixels; its border is repeated into what it leaves."""
    size = into.shape[0]
    seen = pixels[max(0, -down) : size - max(0, down), max(0, -right) : size - max(0, right)]
    cv2.copyMakeBorder(
        seen,
        top=max(0, down),
        bottom=max(0, -down),
        left=max(0, right),
        right=max(0, -right),
        borderType=cv2.BORDER_REPLICATE,
        dst=into,
    )
