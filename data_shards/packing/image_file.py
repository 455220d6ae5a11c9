"""What an image file says of itself before anybody decodes it: the EXIF orientation."""

import io
import struct
import zlib

from PIL import ExifTags, Image

from data_shards.decode import DAMAGE, UPRIGHT, Content

FORMATS = ("JPEG", "PNG")

UNREADABLE = (*DAMAGE, EOFError, KeyError, TypeError, struct.error, zlib.error)
"""What Pillow raises on damaged headers."""


def exif_orientation(content: Content) -> int:
    """Return the EXIF orientation of a JPEG or PNG file, 1 to 8; 1 where none can be read.

    The values mean what `PIL.ImageOps.exif_transpose` takes them for: 6 is a picture to be turned
    by a quarter clockwise, 3 by a half. A damaged header says nothing.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            value = image.getexif().get(ExifTags.Base.Orientation)
    except UNREADABLE:
        return UPRIGHT
    return value if isinstance(value, int) and 1 <= value <= 8 else UPRIGHT
