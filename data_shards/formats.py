"""Which image files are read: whatever Pillow opens, HEIC too where `pillow-heif` is installed."""

from PIL import Image

try:
    import pillow_heif
except ImportError:
    pass
else:
    pillow_heif.register_heif_opener()

HEIC_SUFFIXES = (".heic", ".heif", ".hif")

NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
"""Formats that Pillow recognizes and cannot read by itself."""

# Now, because threads that load formats with their first images can miss one. Those of `preinit`
# first, so that JPEG is tried before others that do not look at the first bytes.
Image.preinit()
Image.init()
SUFFIXES = frozenset(
    suffix
    for suffix, format in Image.registered_extensions().items()
    if format in (*Image.OPEN, "MPO") and format not in NO_PICTURES
)
"""File suffixes of images, lower case."""

STORED = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
"""Pillow's name of a format that shards store as it is, to the suffix in the tar; an MPO is a JPEG
with another one behind it. All other formats are stored as PNG."""
