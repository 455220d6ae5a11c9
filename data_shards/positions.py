"""Where a photograph was taken from, as the camera wrote it: EXIF, and the XMP of drones."""

import math
import re
from collections.abc import Mapping
from typing import Any

from PIL import ExifTags, Image

from data_shards.schema import Position

GPS = ExifTags.GPS

DRONE_XMP = re.compile(
    r"\w:(GpsLatitude|GpsLongt?itude|RelativeAltitude|GimbalPitchDegree|GimbalYawDegree|"
    r"FlightYawDegree)\s*(?:=\s*[\"']|>)\s*([-+.\d]+)"
)
"""What DJI writes, as an attribute or an element, with the spelling `GpsLongtitude` of older ones.
Pillow's own reading of XMP needs another package, and this text is often not quite XML."""


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
    headings = (
        drone.get("GimbalYawDegree"),
        drone.get("FlightYawDegree"),
        _number(gps.get(GPS.GPSImgDirection)),
    )
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
