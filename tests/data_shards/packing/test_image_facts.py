"""What `skydistill shard` says of the files, and the positions that come from them."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import ExifTags, Image

from data_shards.packing import image_facts
from data_shards.packing.image_facts import is_nearly_empty

GPS = ExifTags.GPS


def write_photo(path: Path, *, seed: int, degrees: float | None = None, turned: int = 1) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turned
    if degrees is not None:
        exif[ExifTags.IFD.GPSInfo] = {
            GPS.GPSLatitudeRef: "N",
            GPS.GPSLatitude: (degrees, 0.0, 0.0),
            GPS.GPSLongitudeRef: "E",
            GPS.GPSLongitude: (8.0, 0.0, 0.0),
        }
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).resize((160, 120)).save(path, exif=exif.tobytes())


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Photographs of a place, two of them with GPS, and a tile that is nearly empty."""
    raw = tmp_path / "own"
    write_photo(raw / "drone/mill/1.jpg", seed=1, degrees=50.0)
    write_photo(raw / "drone/mill/2.jpg", seed=2, degrees=51.0)
    write_photo(raw / "drone/mill/3.jpg", seed=3, turned=6)
    (raw / "satellite/mill").mkdir(parents=True)
    Image.new("RGB", (64, 64), "white").save(raw / "satellite/mill/1.tif")
    return raw


def cameras(out: Path) -> dict[str, object]:
    """Key of every image to what its JSON says of its camera."""
    found = {}
    for path in out.glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    told = json.loads(tar.extractfile(member).read())
                    found[told["key"]] = told.get("camera")
    return found


def test_gps_of_photographs_is_kept_and_places_lie_at_its_mean(
    skydistill, own: Path, tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    told = skydistill("shard", own, out).err
    assert "files: JPEG (3), TIFF (1), 1 of them stored as PNG; pixels: 64x64 (1), 160x120" in told
    assert "turned as their orientation says: 1 image\n" in told
    assert "GPS in 2 images of 1 place; the mean" in told
    assert "tiles that are nearly empty: 1 (mill/satellite/1)" in told
    assert cameras(out)["mill/drone/1"] == {"lat": 50.0, "lon": 8.0}
    assert cameras(out)["mill/drone/3"] is None
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["coordinates"] == {"mill": [50.5, 8.0]}
    again = skydistill("shard", own, out).err
    assert "unchanged:" in again and "GPS in 2 images of 1 place; the mean" in again


def test_all_formats_and_the_smallest_and_largest_sizes_are_told(
    skydistill, own: Path, tmp_path: Path
) -> None:
    sides = [(8, 8), (400, 300), *[(20, 20)] * 6, *[(30, 30)] * 5, *[(40, 40)] * 4, (50, 50)]
    for number, side in enumerate(sides):
        suffix = ("bmp", "bmp", "bmp", "png", "png", "webp", *["gif"] * 12)[number]
        Image.new("RGB", side).save(own / f"satellite/mill/of{number}.{suffix}")
    told = skydistill("shard", own, tmp_path / "shards").err
    formats = "GIF (12), JPEG (3), BMP (3), PNG (2), TIFF (1), WEBP (1), 16 of them stored as PNG"
    few = "8x8 (1), 20x20 (6), 30x30 (5), 40x40 (4), 400x300 (1) and 3 sizes between\n"
    assert f"  files: {formats}; pixels: {few}" in told, told


def test_a_table_of_images_wins(skydistill, own: Path, tmp_path: Path) -> None:
    out, table = tmp_path / "shards", tmp_path / "places.csv"
    skydistill("shard", own, out)
    table.write_text("image,lat,lon,altitude_m\n2.jpg,10,20,80\n")
    assert "1 tar written, 1 kept" in skydistill("shard", own, out, "--coordinates", table).err
    assert cameras(out)["mill/drone/2"] == {"lat": 10.0, "lon": 20.0, "altitude_m": 80.0}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["coordinates"] == {"mill": [30.0, 14.0]}


def test_large_images_come_with_what_smaller_ones_would_give(
    skydistill, own: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(image_facts, "LARGE_PIXELS", 1000)
    told = skydistill("shard", own, tmp_path / "shards").err
    assert "with --image-size 384 a training that waits for its images is up to" in told
    assert "times as fast" not in skydistill("shard", own, tmp_path / "shards").err


@pytest.mark.parametrize(
    ("mode", "color", "expected"), [("RGB", "navy", True), ("RGBA", (9, 9, 9, 0), True)]
)
def test_one_colour_is_nearly_empty(mode: str, color: object, expected: bool) -> None:
    file = io.BytesIO()
    Image.new(mode, (100, 80), color).save(file, "PNG")
    assert is_nearly_empty(file.getvalue()) is expected


def test_a_whole_map_may_be_one_tile() -> None:
    pixels = np.zeros((13_400, 13_400, 1), dtype=np.uint8)  # more than Pillow opens by itself
    assert is_nearly_empty(simplejpeg.encode_jpeg(pixels, colorspace="GRAY", fastdct=True))


def test_a_picture_is_not_empty(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", seed=5)
    assert not is_nearly_empty((tmp_path / "a.jpg").read_bytes())
    with Image.open(tmp_path / "a.jpg") as image:
        levels = np.asarray(image.convert("L")).astype(np.uint16)
    for bright in (1, 257):  # of 16 bits
        Image.fromarray(levels * bright).save(tmp_path / "a.png")
        assert is_nearly_empty((tmp_path / "a.png").read_bytes()) is (bright == 1)
