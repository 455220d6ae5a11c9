"""What families share: operations on one square uint8 image, done in place.

In place, because the image lies in its row of the batch already, and is warm in the cache.
"""

import cv2
import numpy as np
import numpy.typing as npt

from data_shards.decode import Pixels

GRAY = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in the lightness of a pixel (ITU-R BT.601)."""

HUES = 180
"""OpenCV counts the 360 degrees of hue in steps of two."""

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)

JITTER_ORDERS = np.array(
    [
        (a, b, c, 6 - a - b - c)
        for a in range(4)
        for b in range(4)
        for c in range(4)
        if len({a, b, c}) == 3
    ],
    dtype=np.uint8,
)
"""The 24 orders of brightness, contrast, saturation and hue."""


def mirror(pixels: Pixels) -> None:
    """Mirror left and right."""
    cv2.flip(pixels, 1, dst=pixels)


TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


def turn(pixels: Pixels, quarter_turns: int) -> None:
    """Turn counter-clockwise by `quarter_turns` times 90 degrees."""
    if quarter_turns % 2:  # OpenCV transposes in place three times slower than aside
        np.copyto(pixels, cv2.rotate(pixels, TURNS[quarter_turns]))
    elif quarter_turns:
        cv2.rotate(pixels, TURNS[quarter_turns], dst=pixels)


def brighten(pixels: Pixels, factor: float) -> None:
    """Scale all pixels."""
    cv2.addWeighted(pixels, factor, pixels, 0.0, 0.0, dst=pixels)


def change_contrast(pixels: Pixels, factor: float) -> None:
    """Scale the distance of all pixels from the mean lightness."""
    mean = mean_lightness(pixels)
    cv2.addWeighted(pixels, factor, pixels, 0.0, mean * (1.0 - factor), dst=pixels)


def saturate(pixels: Pixels, factor: float) -> None:
    """Scale the distance of each pixel from its own gray."""
    cv2.transform(pixels, saturation_matrix(factor), dst=pixels)


def shift_hue(pixels: Pixels, turns: float) -> None:
    """Move the hue of each pixel by a part of the colour circle."""
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    table = ((np.arange(256) + round(turns * HUES)) % HUES).astype(np.uint8)
    hsv[..., 0] = cv2.LUT(np.ascontiguousarray(hsv[..., 0]), table)
    cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=pixels)


def mean_lightness(pixels: Pixels) -> float:
    """Return the mean gray of an image."""
    return float(np.dot(cv2.mean(pixels)[:3], GRAY))


def saturation_matrix(factor: float) -> npt.NDArray[np.float64]:
    """Return the matrix [RGB, RGB] that scales saturation."""
    return factor * np.eye(3) + (1.0 - factor) * GRAY


def jitter(
    pixels: Pixels,
    *,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    order: int,
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


def fill(pixels: Pixels, box: npt.NDArray[np.floating], colour: tuple[int, int, int]) -> None:
    """Fill the part `box` (left, top, right, bottom as fractions) with one colour."""
    size = pixels.shape[0]
    left, top, right, bottom = (round(edge * size) for edge in box.tolist())
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
