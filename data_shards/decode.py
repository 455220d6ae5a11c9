"""Bytes of an image file to uint8 pixels, by a named decoder and a named resampling."""

import io
import math
import re
import struct
import zlib
from collections.abc import Callable
from threading import local
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError

from data_shards.config import Aspect, Resampling

cv2.setNumThreads(0)  # the loader's threads are the parallelism; OpenCV's own would fight them
Image.MAX_IMAGE_PIXELS = 2**28  # orthophotos and photographs of 200 megapixels are no attack

Pixels = npt.NDArray[np.uint8]
"""Height x width x RGB."""

Content: TypeAlias = "bytes | memoryview[Any]"

DECODER = "simplejpeg+pillow"
"""JPEG by libjpeg-turbo in full size, with its slow and exact transform; all else by Pillow."""

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"

INK_COLORSPACES = ("CMYK", "YCCK")
"""JPEGs for printers; libjpeg knows nothing of Adobe's inverted inks, Pillow does."""

DAMAGE = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, Image.DecompressionBombError)
"""What decoders raise on bytes that are no image, or one too large to be meant; HEIC the fourth."""

UPRIGHT = 1
"""The EXIF orientation that needs no turning."""

BAD_HEADER = (*DAMAGE, KeyError, TypeError, struct.error, zlib.error)
"""What Pillow raises on damaged headers."""


class DecodeError(ValueError):
    """Bytes that are no complete image; the caller knows which tar and key they came from."""


EXTRANEOUS = "extraneous bytes before marker"
"""What simplejpeg says of bytes between a picture and its end marker, and refuses; Pillow passes
them over."""


STREAMED = 32
"""libjpeg-turbo writes rows that start at multiples of 32 bytes (AVX2; 16 with SSE2) around the
cache, so that whoever mirrors, turns or resizes the picture next waits for memory: 90 microseconds
of a mirrored 384 px image that takes 940 to decode."""

CACHED = 8
"""Bytes behind such a multiple where a picture starts instead."""


def cached_start(memory: npt.NDArray[np.uint8]) -> int:
    """Return which of the first 32 bytes a picture must start at to stay in the cache.

    With rows of a multiple of 32 bytes, as 224, 256, 384 and 512 px have, every row does.
    """
    address: int = memory.ctypes.data
    return (CACHED - address) % STREAMED


class Scratch:
    """Memory that one thread decodes into again and again; what it holds ends with the next."""

    def __init__(self) -> None:
        self._memory, self._start = np.empty(0, dtype=np.uint8), 0

    def room(self, height: int, width: int) -> Pixels:
        """Return [height, width, RGB] of the memory."""
        size = height * width * 3
        if size + STREAMED > len(self._memory):
            self._memory = np.empty(size + STREAMED, dtype=np.uint8)
            self._start = cached_start(self._memory)
        return self._memory[self._start : self._start + size].reshape(height, width, 3)


class OfThread(local):
    """A `Scratch` for each thread that asks."""

    def __init__(self) -> None:
        self.scratch = Scratch()


def check_image(content: Content, *, is_decoded: bool = True) -> str:
    """Return why `content` is no whole image, or an empty string.

    A decoder's warning of corrupt data counts as damage. Without `is_decoded`, a JPEG that ends as
    it should is not decoded: the end marker tells a whole file for a thousandth of the cost.
    """
    is_jpeg, is_ended = bytes(content[:2]) == JPEG_START, JPEG_END in bytes(content[-64:])
    try:
        if is_jpeg and is_ended and not is_decoded:
            simplejpeg.decode_jpeg_header(content)
        elif is_jpeg:  # all of its data, to a picture of an eighth the size
            is_ink = simplejpeg.decode_jpeg_header(content)[2] in INK_COLORSPACES
            colours = "CMYK" if is_ink else "GRAY"
            simplejpeg.decode_jpeg(content, colours, min_height=1, min_width=1, min_factor=8)
        else:
            _decode_by_pillow(content)
    except DAMAGE as error:
        if (told := re.search(rf"(\d+) {EXTRANEOUS} 0xd9", str(error))) is not None:
            # Some cameras leave equal bytes there; those of a damaged scan, which the decoder ends
            # too early, are different.
            end = bytes(content).rfind(JPEG_END)
            if len(set(content[max(end - int(told[1]), 0) : end])) <= 1:
                return ""
        cut = "the JPEG is cut short: " if is_jpeg and not is_ended else ""
        return cut + _reason(content, error)
    return ""


def decode(
    content: Content,
    *,
    orientation: int = UPRIGHT,
    into: Pixels | None = None,
    scratch: Scratch | None = None,
) -> Pixels:
    """Decode JPEG, PNG or WebP to RGB.

    Alpha is dropped and the colour kept as stored, gray is repeated, 16 bits become their upper 8.

    Args:
        content: the bytes of the file.
        orientation: EXIF value 1 to 8 by which the picture is turned.
        into: memory for a picture of exactly its size.
        scratch: memory for any other; without it, the picture has its own.

    Raises:
        DecodeError: the bytes are no complete image.
    """
    try:
        is_jpeg = bytes(content[:2]) == JPEG_START
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content) if is_jpeg else (0,) * 4
        if not is_jpeg or colours in INK_COLORSPACES:
            pixels = _decode_by_pillow(content)
        else:
            buffer = None if scratch is None else scratch.room(height, width)
            if into is not None and into.shape == (height, width, 3):
                buffer = into
            try:
                decoded = simplejpeg.decode_jpeg(content, colorspace="RGB", buffer=buffer)
                pixels = decoded if buffer is None else buffer
            except ValueError as error:
                if EXTRANEOUS not in str(error):
                    raise
                pixels = _decode_by_pillow(content)
    except DAMAGE as error:
        raise DecodeError(_reason(content, error)) from error
    return pixels if orientation == UPRIGHT else TURNED[orientation](pixels)


def _decode_by_pillow(content: Content) -> Pixels:
    with Image.open(io.BytesIO(content)) as image:
        if image.mode.startswith("I"):  # 16-bit gray, which Pillow's own conversion would clip
            gray = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
            return np.repeat(gray[..., None], 3, axis=2)
        image.info.pop("transparency", None)  # of a palette; else Pillow warns that it is dropped
        return np.asarray(image.convert("RGB"))


def _reason(content: Content, error: Exception) -> str:
    """Return why `content` is no image; what Pillow says of a stranger is an address in memory."""
    if not len(content):
        return "the file is empty"
    return "no format that is read" if isinstance(error, UnidentifiedImageError) else str(error)


def orientation_in(image: Image.Image) -> int:
    """Return the orientation 1 to 8 by which `PIL.ImageOps.exif_transpose` would turn an image.

    It stands in EXIF or XMP, in any format: 6 is a picture to be turned by a quarter clockwise.
    """
    value = image.getexif().get(ExifTags.Base.Orientation)
    return next((known for known in TURNED if known == value), UPRIGHT)  # 6.0 is 6, as for Pillow


TURNED: dict[int, Callable[[Pixels], Any]] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: lambda pixels: cv2.transpose(pixels),
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.flip(cv2.transpose(pixels), -1),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
"""EXIF orientation to what makes the stored picture upright."""


def square(pixels: Pixels, aspect: Aspect) -> Pixels:
    """Return the middle of a picture, or all of it between black ends; as it is to be squeezed."""
    height, width = pixels.shape[:2]
    if aspect == "squeeze" or height == width:
        return pixels
    if aspect == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return np.ascontiguousarray(pixels[top : top + side, left : left + side])
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    ends = (top, side - height - top, left, side - width - left)
    return np.asarray(cv2.copyMakeBorder(pixels, *ends, cv2.BORDER_CONSTANT), dtype=np.uint8)


def resize(
    pixels: Pixels, *, size: int, resampling: Resampling, into: Pixels | None = None
) -> Pixels:
    """Resample an image to `size` x `size`, the aspect ratio is not kept; into `into` if given.

    Without `into`, an image of that size is returned as it is.
    """
    if pixels is into:
        return into
    height, width = pixels.shape[:2]
    fits = height == width == size
    resized: Pixels = pixels if fits else RESAMPLERS[resampling](pixels, size, into)
    if into is None:
        return resized
    if not np.may_share_memory(resized, into):
        np.copyto(into, resized)
    return into


def _by_opencv_linear(pixels: Pixels, size: int, into: Pixels | None) -> Any:
    """Bilinear to the nearest of `size`, twice, four times it, ..., then means of whole pixels.

    Bilinear looks at two pixels a direction: at most 1.4 lie in each step of the first resize, so
    that none is skipped, as far as the image is shrunk.
    """
    # Means are taken of the power of two pixels that is nearest to the shrink, or of 1.
    means = (2 ** max(0, round(math.log2(side / size))) for side in pixels.shape[:2])
    height, width = (size * mean for mean in means)
    if (height, width) == (size, size):
        return cv2.resize(pixels, (size, size), dst=into, interpolation=cv2.INTER_LINEAR)
    near: Any = pixels
    if pixels.shape[:2] != (height, width):
        near = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(near, (size, size), dst=into, interpolation=cv2.INTER_AREA)


def _by_pillow(pixels: Pixels, size: int, filter: Image.Resampling) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((size, size), filter))


RESAMPLERS: dict[Resampling, Callable[[Pixels, int, Pixels | None], Any]] = {
    "opencv-linear": _by_opencv_linear,
    "opencv-area": lambda pixels, size, into: cv2.resize(
        pixels, (size, size), dst=into, interpolation=cv2.INTER_AREA
    ),
    "pillow-bilinear": lambda pixels, size, _: _by_pillow(pixels, size, Image.Resampling.BILINEAR),
    "pillow-bicubic": lambda pixels, size, _: _by_pillow(pixels, size, Image.Resampling.BICUBIC),
}
"""Name to filter; OpenCV's write into the memory given, Pillow's cannot, and widen their support
when shrinking (antialiased)."""
