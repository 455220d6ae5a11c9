"""Bytes of an image file to uint8 pixels, by a named decoder and a named resampling."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

Pixels = npt.NDArray[np.uint8]
"""Height x width x RGB."""

DECODER = "simplejpeg+pillow"
RESAMPLING = "pillow-bilinear"
"""Bilinear with the support widened when shrinking (antialiased), on uint8."""

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"

Box = tuple[float, float, float, float]
"""Left, top, right, bottom as fractions of width and height."""

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


class DecodeError(ValueError):
    """Bytes that are no complete image; the caller knows which tar and key they came from."""


def check_image(content: bytes) -> str:
    """Return why `content` is no complete image, or an empty string when it looks whole."""
    if content[:2] == JPEG_START:
        # The end marker tells a whole file for a thousandth of what decoding costs. A file that
        # goes on behind it, or has none, is decoded.
        is_ended = JPEG_END in content[-64:]
        try:
            (simplejpeg.decode_jpeg_header if is_ended else simplejpeg.decode_jpeg)(content)
        except ValueError as error:
            return str(error) if is_ended else f"the JPEG is cut short: {error}"
        return ""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        return _reason(content, error)
    return ""


def decode(content: "bytes | memoryview[Any]") -> Pixels:
    """Decode JPEG or PNG to RGB.

    Raises:
        DecodeError: the bytes are no complete image.
    """
    try:
        if bytes(content[:2]) == JPEG_START:
            pixels: Pixels = simplejpeg.decode_jpeg(content, colorspace="RGB")
            return pixels
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DecodeError(_reason(content, error)) from error


def _reason(content: "bytes | memoryview[Any]", error: Exception) -> str:
    """Return why `content` is no image; what Pillow says of a stranger is an address in memory."""
    if not len(content):
        return "the file is empty"
    return "neither JPEG nor PNG" if isinstance(error, UnidentifiedImageError) else str(error)


def resize(pixels: Pixels, *, size: int, box: Box = WHOLE) -> Pixels:
    """Resample the part `box` of an image to `size` x `size`; the aspect ratio is not kept."""
    height, width = pixels.shape[:2]
    if box == WHOLE and height == width == size:
        return pixels
    corners = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
    resized = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box=corners)
    return np.asarray(resized)
