"""What an image file says of itself before anybody decodes it: the EXIF orientation."""

import struct

from data_shards.decode import JPEG_START, UPRIGHT, Content

PNG_START = b"\x89PNG\r\n\x1a\n"

EXIF_START = b"Exif\0\0"
ORIENTATION_TAG, SHORT = 0x0112, 3

STANDALONE_MARKERS = {0x01, *range(0xD0, 0xD9)}
"""JPEG markers without a length behind them."""

START_OF_SCAN, END_OF_IMAGE, APP1 = 0xDA, 0xD9, 0xE1


def exif_orientation(content: Content) -> int:
    """Return the EXIF orientation of a JPEG or PNG file, 1 to 8; 1 where none can be read.

    The values mean what `PIL.ImageOps.exif_transpose` takes them for: 6 is a picture to be turned
    by a quarter clockwise, 3 by a half. Only headers are looked at; a damaged one says nothing.
    """
    start = bytes(content[:8])
    try:
        if start[:2] == JPEG_START:
            tiff = _jpeg_exif(content)
        elif start == PNG_START:
            tiff = _png_exif(content)
        else:
            return UPRIGHT
        return _orientation(tiff)
    except (struct.error, IndexError):
        return UPRIGHT


def _jpeg_exif(content: Content) -> bytes:
    """Return the TIFF structure of the first EXIF segment before the picture, or nothing."""
    at = len(JPEG_START)
    while content[at] == 0xFF:
        marker = content[at + 1]
        if marker in (START_OF_SCAN, END_OF_IMAGE):
            break
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in STANDALONE_MARKERS:
            at += 2
        else:
            end = at + 2 + 256 * content[at + 2] + content[at + 3]
            if marker == APP1 and bytes(content[at + 4 : at + 10]) == EXIF_START:
                return bytes(content[at + 10 : end])
            at = end
    return b""


def _png_exif(content: Content) -> bytes:
    """Return the TIFF structure of the eXIf chunk, which may also stand behind the picture."""
    at = len(PNG_START)
    while True:
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind == b"eXIf":
            return bytes(content[at + 8 : at + 8 + length])
        if kind == b"IEND":
            return b""
        at += 12 + length


def _orientation(tiff: bytes) -> int:
    """Return the orientation tag of the first directory of a TIFF structure."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return UPRIGHT
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
    for entry in range(entries):
        tag, kind, count, value = struct.unpack_from(
            f"{order}HHIH", tiff, directory + 2 + 12 * entry
        )
        if tag == ORIENTATION_TAG:
            is_orientation = kind == SHORT and count == 1 and 1 <= value <= 8
            return int(value) if is_orientation else UPRIGHT
    return UPRIGHT
