"""One image file as a shard stores it, its own bytes or a JPEG of a size, and what it says."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageOps

from data_shards.config import Aspect
from data_shards.decode import (
    BAD_HEADER,
    DAMAGE,
    JPEG_START,
    UPRIGHT,
    Content,
    DecodeError,
    Pixels,
    check_image,
    decode,
    orientation_in,
    square,
)
from data_shards.errors import ShardError
from data_shards.formats import STORED
from data_shards.schema import ImageRecord, Position

GPS = ExifTags.GPS

DRONE_XMP = re.compile(
    r"\w:(GpsLatitude|GpsLongt?itude|RelativeAltitude|GimbalPitchDegree|GimbalYawDegree|"
    r"FlightYawDegree)\s*(?:=\s*[\"']|>)\s*([-+.\d]+)"
)
"""What DJI writes, as an attribute or an element, with the spelling `GpsLongtitude` of older ones.
Pillow's own reading of XMP needs another package, and this text is often not quite XML."""

CHROMA = "420"
"""Colour at half the resolution, as every camera and both public data sets store it."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Original bytes, or JPEGs of one size; stands in the manifest, so that no cache mixes them."""

    image_size: int = 0
    """Width and height of every stored image in pixels; 0 keeps the original bytes."""

    quality: int = 95
    """JPEG quality of resized images."""

    resampling: str = "lanczos"
    """Filter of the one resize; antialiased, on uint8, by Pillow."""

    aspect: Aspect = "squeeze"

    @property
    def keeps_bytes(self) -> bool:
        """Whether images are stored as they are."""
        return self.image_size == 0

    @property
    def choice(self) -> dict[str, Any]:
        """What a user chose, as it stands in the manifest."""
        if self.keeps_bytes:
            return {"bytes": "original"}
        # What was there before it could be chosen is not named.
        aspect = {} if self.aspect == "squeeze" else {"aspect": self.aspect}
        return aspect | {
            "bytes": "resized",
            "image_size": self.image_size,
            "quality": self.quality,
            "resampling": f"pillow-{self.resampling}",
            "chroma": CHROMA,
        }

    @property
    def facts(self) -> dict[str, Any]:
        """The choice, and the libraries whose versions decide the bytes of resized images."""
        if self.keeps_bytes:
            return self.choice
        libraries = {name: version(name) for name in ("pillow", "simplejpeg")}
        return self.choice | {"libraries": libraries}


def chosen(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a manifest's profile that a user chose: all but the libraries."""
    return {name: value for name, value in facts.items() if name != "libraries"}


FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file says of its image before anything is decoded."""

    format: str = ""
    """As Pillow calls it; empty where it knows none."""

    size: tuple[int, int] = (0, 0)
    """Width and height in pixels, as stored."""

    orientation: int = UPRIGHT
    position: Position | None = None


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """What goes into the tar."""

    content: bytes
    suffix: str
    """`jpg`, `png` or `webp`."""

    orientation: int
    """EXIF orientation of the stored pixels."""

    header: Header = field(default_factory=Header)
    """Of the file."""

    camera: dict[str, float] = field(default_factory=dict)
    """What is known of where it was taken: fields of a `Position`."""


def read_header(content: bytes) -> Header:
    """Return what the file says; a damaged header says nothing."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return Header(
                format=image.format or "",
                size=image.size,
                orientation=orientation_in(image),
                position=position_in(image),
            )
    except BAD_HEADER:
        return Header()


def position_in(image: Image.Image) -> Position | None:
    """Return what an opened image says; its pixels are not decoded.

    Raises:
        BAD_HEADER: its EXIF is damaged.
    """
    exif = image.getexif()
    info = image.info
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or exif.get(ExifTags.Base.XMLPacket)
    text = xmp.decode("utf-8", "replace") if isinstance(xmp, bytes) else str(xmp or "")
    drone = {name: _number(value) for name, value in DRONE_XMP.findall(text)}
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    lat = _angle(gps, GPS.GPSLatitude, GPS.GPSLatitudeRef, "S")
    lon = _angle(gps, GPS.GPSLongitude, GPS.GPSLongitudeRef, "W")
    if lat is None or lon is None:
        lat = drone.get("GpsLatitude")
        lon = next((drone[name] for name in drone if name.startswith("GpsLong")), None)
    is_place = lat is not None and lon is not None and abs(lat) <= 90 and abs(lon) <= 180
    if not is_place or (lat, lon) == (0, 0) or gps.get(GPS.GPSStatus) == "V":
        lat = lon = None  # receivers without a fix write 0, 0
    yaws = (drone.get("GimbalYawDegree"), drone.get("FlightYawDegree"))
    headings = (*yaws, _number(gps.get(GPS.GPSImgDirection)))
    heading = next((value for value in headings if value is not None), None)
    found = Position(
        lat=lat,
        lon=lon,
        altitude_m=drone.get("RelativeAltitude"),
        heading_deg=None if heading is None else heading % 360,
        gimbal_pitch_deg=drone.get("GimbalPitchDegree"),
    )
    return None if found == Position() else found


def _angle(gps: Mapping[int, Any], value: int, side: int, negative: str) -> float | None:
    """Return an angle that stands as degrees, perhaps with minutes and seconds."""
    parts = gps.get(value)
    numbers = [_number(part) for part in (parts if isinstance(parts, tuple) else (parts,))]
    if None in numbers or not 1 <= len(numbers) <= 3:
        return None
    degrees: float = sum(number / 60**at for at, number in enumerate(numbers) if number is not None)
    return -degrees if str(gps.get(side, "")).strip("\0 ").upper() == negative else degrees


def _number(value: Any) -> float | None:
    """Return a finite number, or None; EXIF has fractions such as 0/0."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None


def stored_image(
    record: ImageRecord, content: bytes, profile: Profile, *, is_decoded: bool = True
) -> StoredImage:
    """Bring the bytes of an image file into the form that the profile asks for.

    The suffix tells what the bytes are, however the file is called.

    Raises:
        ShardError: they are no whole image, as far as `check_image` looks.
    """
    header = read_header(content)
    orientation = header.orientation
    suffix = "jpg" if content[:2] == JPEG_START else STORED.get(header.format, "")
    try:
        if problem := check_image(content, is_decoded=is_decoded):
            raise DecodeError(problem)
        if not suffix:
            content, suffix, orientation = as_png(content), "png", UPRIGHT
        if not (profile.keeps_bytes or is_in_form(content, orientation, size=profile.image_size)):
            pixels = decode(content, orientation=orientation)
            content, suffix, orientation = resized_jpeg(pixels, profile), "jpg", UPRIGHT
    except DecodeError as error:
        raise ShardError(
            f"{record.path} is not a readable image ({error}); replace it or remove it"
        ) from error
    camera = {
        name: value
        for position in (header.position, record.camera)
        if position is not None
        for name, value in asdict(position).items()
        if value is not None
    }
    return StoredImage(
        content=content, suffix=suffix, orientation=orientation, camera=camera, header=header
    )


def as_png(content: bytes) -> bytes:
    """Return an image of any format upright as a PNG of the same pixels.

    Raises:
        DecodeError: it is damaged.
    """
    png = io.BytesIO()
    try:
        with Image.open(io.BytesIO(content)) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):
                upright = upright.convert("I").convert("I;16")
            elif upright.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
                upright = upright.convert("RGB")
            upright.save(png, "PNG", compress_level=1)
    except DAMAGE as error:
        raise DecodeError(str(error)) from error
    return png.getvalue()


def unreadable(record: ImageRecord, error: OSError) -> str:
    return f"{record.path} cannot be read ({error.strerror}); restore it or remove the place"


class UnreadableError(ShardError):
    """Images that cannot be stored, all that there are."""

    def __init__(self, problems: Sequence[tuple[ImageRecord, str]]) -> None:
        """Take each with its sentence."""
        self.records = [record for record, _ in problems]
        self.problems = [sentence for _, sentence in problems]
        told = problems[0][1]
        if len(problems) > 1:
            told = f"{len(problems)} images are unreadable (listed above); replace them"
        super().__init__(f"{told}, or leave out what is unreadable with --skip-unreadable")


def is_in_form(content: Content, orientation: int, *, size: int) -> bool:
    """Tell whether a file is an upright JPEG of this size: compressing it again would only lose."""
    if content[:2] != JPEG_START or orientation != UPRIGHT:
        return False
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return False
    return bool(height == width == size and colours == "YCbCr")


def resized_jpeg(pixels: Pixels, profile: Profile) -> bytes:
    """Make square, resize once, antialiased, and compress."""
    size = (profile.image_size, profile.image_size)
    image = Image.fromarray(np.ascontiguousarray(square(pixels, profile.aspect)))
    if image.size != size:
        image = image.resize(size, FILTERS[profile.resampling])
    jpeg: bytes = simplejpeg.encode_jpeg(
        np.asarray(image), quality=profile.quality, colorspace="RGB", colorsubsampling=CHROMA
    )
    return jpeg
