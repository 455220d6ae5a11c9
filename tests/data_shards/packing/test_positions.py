import io
import os
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from data_shards.packing.stored_image import read_header
from data_shards.schema import Position

GPS = ExifTags.GPS
NORTH_WEST = {
    GPS.GPSLatitudeRef: "N",
    GPS.GPSLatitude: (30.0, 10.0, 15.492),
    GPS.GPSLongitudeRef: "W",
    GPS.GPSLongitude: (98.0, 5.0, 22.458),
    GPS.GPSAltitude: 325.3,
}
DJI = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description drone-dji:RelativeAltitude="+80.30" '
    'drone-dji:GimbalPitchDegree="-89.90" drone-dji:GimbalYawDegree="-12.5" '
    'drone-dji:FlightYawDegree="+3.0"{}/></x:xmpmeta>'
)


def photo(gps=None, *, xmp="", format="JPEG") -> bytes:
    exif = Image.Exif()
    if gps:
        exif[ExifTags.IFD.GPSInfo] = gps
    file = io.BytesIO()
    options = {"xmp": xmp.encode()} if xmp else {}
    Image.new("RGB", (16, 12), "green").save(file, format, exif=exif.tobytes(), **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_gps_of_exif_is_read_in_every_format(format) -> None:
    position = read_header(photo(NORTH_WEST, format=format)).position
    assert position.lat == pytest.approx(30 + 10 / 60 + 15.492 / 3600)
    assert position.lon == pytest.approx(-(98 + 5 / 60 + 22.458 / 3600))
    assert position.altitude_m is None  # 325 m above the sea says nothing of the ground


def test_a_drones_xmp_tells_height_heading_and_pitch(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo(NORTH_WEST, xmp=DJI.format("")))
    position = read_header(path.read_bytes()).position
    assert (position.altitude_m, position.heading_deg) == (80.3, 347.5)
    assert position.gimbal_pitch_deg == -89.9


def test_xmp_as_elements_and_with_its_old_spelling() -> None:
    xmp = (
        "<drone-dji:GpsLatitude>46.5</drone-dji:GpsLatitude>"
        "<drone-dji:GpsLongtitude>-91.25</drone-dji:GpsLongtitude>"
        "<drone-dji:FlightYawDegree>90</drone-dji:FlightYawDegree>"
    )
    assert read_header(photo(xmp=xmp)).position == Position(lat=46.5, lon=-91.25, heading_deg=90.0)


def test_the_direction_of_exif_is_a_heading() -> None:
    gps = {GPS.GPSImgDirectionRef: "T", GPS.GPSImgDirection: 271.5}
    assert read_header(photo(gps)).position == Position(heading_deg=271.5)


@pytest.mark.parametrize(
    "gps",
    [
        {},
        NORTH_WEST | {GPS.GPSStatus: "V"},
        NORTH_WEST | {GPS.GPSLatitude: (0.0, 0.0, 0.0), GPS.GPSLongitude: (0.0, 0.0, 0.0)},
        NORTH_WEST | {GPS.GPSLatitude: (130.0, 0.0, 0.0)},
        {GPS.GPSLatitude: (30.0, 10.0, 15.0)},
    ],
    ids=["none", "no fix", "null island", "no angle", "half"],
)
def test_what_is_no_place_is_none(gps) -> None:
    assert read_header(photo(gps)).position is None


def test_what_is_no_image_says_nothing() -> None:
    assert read_header(b"no image").position is None


REAL = os.environ.get("SKYDISTILL_REAL_PHOTOS", "")


@pytest.mark.skipif(not REAL, reason="SKYDISTILL_REAL_PHOTOS is not set")
def test_real_photographs() -> None:
    position = read_header(Path(REAL, "own_map/photos/IMG_9359.jpg").read_bytes()).position
    assert (position.lat, position.lon) == (pytest.approx(30.1709700), pytest.approx(-98.0895717))
    assert read_header(Path(REAL, "odd-mpo.JPG").read_bytes()).position.lat == pytest.approx(
        46.8427739
    )
