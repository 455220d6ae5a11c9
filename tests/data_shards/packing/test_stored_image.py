"""Every kind of image file that people have, in both profiles."""

import io
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from data_shards.decode import decode
from data_shards.errors import ShardError
from data_shards.packing.stored_image import Profile, StoredImage, chosen, stored_image
from data_shards.schema import ImageRecord, Role, View

ORIGINAL, SMALL = Profile(), Profile(image_size=256, quality=95)


def picture(width: int = 320, height: int = 240) -> Image.Image:
    """A smooth picture whose corners differ, so that every turn of it shows."""
    seed = np.random.default_rng(3).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    return Image.fromarray(seed).resize((width, height), Image.Resampling.BICUBIC)


def record_of(path: Path) -> ImageRecord:
    return ImageRecord(
        place="0001",
        view=View.SATELLITE,
        roles=Role.TRAIN,
        position=1,
        altitude_m=None,
        path=str(path),
        name="0001",
    )


def saved(path: Path, image: Image.Image, **options: object) -> ImageRecord:
    image.save(path, **options)
    return record_of(path)


def stored_file(record: ImageRecord, profile: Profile) -> StoredImage:
    """Return what is stored of a file, read into memory that is used again."""
    return stored_image(record, memoryview(bytearray(record.source.read_bytes())), profile)


def difference(content: bytes, expected: Image.Image) -> float:
    size = Image.open(io.BytesIO(content)).size
    target = expected.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    return float(np.abs(decode(content).astype(int) - np.asarray(target).astype(int)).mean())


def test_original_bytes_stay(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    record = saved(tmp_path / "a.jpg", picture(), exif=exif.tobytes())
    stored = stored_file(record, ORIGINAL)
    assert stored.content == record.source.read_bytes()
    assert (stored.suffix, stored.orientation) == ("jpg", 8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_resized_image_is_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    record = saved(tmp_path / f"a.{suffix}", picture(), exif=exif.tobytes())
    stored = stored_file(record, SMALL)
    assert (stored.suffix, stored.orientation) == ("jpg", 1)
    with Image.open(record.source) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    assert Image.open(io.BytesIO(stored.content)).size == (256, 256)
    assert difference(stored.content, upright) < 2.5


@pytest.mark.parametrize(
    ("name", "convert", "options"),
    [
        ("palette.png", lambda image: image.quantize(64), {}),
        ("see-through.png", lambda image: image.quantize(64), {"transparency": 3}),
        ("alpha.png", lambda image: image.convert("RGBA"), {}),
        ("gray.png", lambda image: image.convert("L"), {}),
        ("gray-alpha.png", lambda image: image.convert("LA"), {}),
        ("one-bit.png", lambda image: image.convert("1"), {}),
        ("gray.jpg", lambda image: image.convert("L"), {}),
        ("progressive.jpg", lambda image: image, {"progressive": True}),
        ("printer.jpg", lambda image: image.convert("CMYK"), {"quality": 95}),
        ("444.jpg", lambda image: image, {"subsampling": 0}),
        ("UPPER.JPG", lambda image: image, {}),
    ],
)
def test_every_kind_of_file_is_read(tmp_path: Path, name, convert, options) -> None:
    record = saved(tmp_path / name, convert(picture()), **options)
    with Image.open(record.source) as image:
        expected = image.convert("RGBA").convert("RGB") if "see" in name else image.convert("RGB")
    kept = stored_file(record, ORIGINAL)
    assert kept.content == record.source.read_bytes()
    assert np.abs(decode(kept.content).astype(int) - np.asarray(expected)).mean() < 2
    assert difference(stored_file(record, SMALL).content, expected) < 4


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("a.tif", "RGB", {"compression": "tiff_lzw"}),
        ("a.tiff", "I;16", {}),
        ("a.bmp", "RGB", {}),
        ("a.gif", "P", {}),
        ("a.jp2", "RGB", {"irreversible": False}),
        ("a.tga", "RGBA", {}),
        ("a.heic", "RGB", {"quality": -1, "chroma": 444, "matrix_coefficients": 0}),
        ("in-disguise.jpg", "RGB", {"format": "BMP"}),
    ],
)
def test_other_formats_are_stored_without_loss(tmp_path: Path, name, mode, options) -> None:
    image = picture().convert("L").convert("I").convert(mode) if mode == "I;16" else picture()
    record = saved(tmp_path / name, image.convert(mode), **options)
    stored = stored_file(record, ORIGINAL)
    assert (stored.suffix, stored.orientation) == ("png", 1)
    with Image.open(record.source) as original, Image.open(io.BytesIO(stored.content)) as png:
        assert png.format == "PNG"
        assert np.array_equal(np.asarray(original), np.asarray(png))
    assert stored_file(record, SMALL).suffix == "jpg"


def test_a_tiff_is_stored_upright_and_what_is_in_disguise_under_its_own_suffix(
    tmp_path: Path,
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    record = saved(tmp_path / "a.tif", picture(), exif=exif)
    stored = stored_file(record, ORIGINAL)
    assert stored.orientation == 1
    assert decode(stored.content).shape == (320, 240, 3)
    png = saved(tmp_path / "b.jpg", picture(), format="PNG")
    assert stored_file(png, ORIGINAL).suffix == "png"


def test_transparent_parts_keep_their_colour(tmp_path: Path) -> None:
    clear = picture().convert("RGBA")
    clear.putalpha(0)
    record = saved(tmp_path / "clear.png", clear)
    assert difference(stored_file(record, SMALL).content, picture()) < 2


@pytest.mark.parametrize("resampling", ["lanczos", "bicubic", "bilinear"])
def test_the_filter_and_the_quality_are_those_of_the_profile(tmp_path: Path, resampling) -> None:
    record = saved(tmp_path / "a.png", picture(512, 512))
    profile = Profile(image_size=384, quality=90, resampling=resampling)
    content = stored_file(record, profile).content
    resized = picture(512, 512).resize((384, 384), getattr(Image.Resampling, resampling.upper()))
    expected = simplejpeg.encode_jpeg(
        np.asarray(resized), quality=90, colorspace="RGB", colorsubsampling="420"
    )
    assert content == expected
    assert stored_file(record, profile).content == content


def test_a_jpeg_of_the_right_size_is_not_compressed_again(tmp_path: Path) -> None:
    right = saved(tmp_path / "right.jpg", picture(256, 256), quality=70)
    assert stored_file(right, SMALL).content == right.source.read_bytes()
    for other in (
        saved(tmp_path / "a.png", picture(256, 256)),
        saved(tmp_path / "wide.jpg", picture(512, 256)),
        saved(tmp_path / "gray.jpg", picture(256, 256).convert("L")),
    ):
        stored = stored_file(other, SMALL)
        assert stored.content != other.source.read_bytes()
        assert simplejpeg.decode_jpeg_header(stored.content) == (256, 256, "YCbCr", "420")


@pytest.mark.parametrize("profile", [ORIGINAL, SMALL], ids=["original", "resized"])
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_file_cut_short_is_named(tmp_path: Path, name: str, profile: Profile) -> None:
    record = saved(tmp_path / name, picture(256, 256))
    record.source.write_bytes(record.source.read_bytes()[:-400])
    with pytest.raises(ShardError, match=f"{name} is not a readable image .*; replace it"):
        stored_file(record, profile)


def test_a_heic_damaged_anywhere_is_named_or_read(tmp_path: Path) -> None:
    record = saved(tmp_path / "a.heic", picture(16, 16))
    content, named = record.source.read_bytes(), 0
    for position in range(len(content)):
        damaged = content[:position] + b"\0" + content[position + 1 :]
        try:
            stored_image(record, damaged, ORIGINAL)
        except ShardError:
            named += 1
    assert 0 < named < len(content)


@pytest.mark.parametrize("profile", [ORIGINAL, SMALL], ids=["original", "resized"])
def test_a_file_too_large_to_be_meant_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: Profile
) -> None:
    record = saved(tmp_path / "a.png", picture(256, 256))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 256 * 256 // 2 - 1)
    with pytest.raises(
        ShardError, match=r"a.png is not a readable image \(Image size .*; replace it"
    ):
        stored_file(record, profile)


def test_the_manifest_tells_what_decides_the_bytes() -> None:
    assert ORIGINAL.facts == {"bytes": "original"}
    assert set(SMALL.facts["libraries"]) == {"pillow", "simplejpeg"}
    assert chosen(SMALL.facts) == SMALL.choice
    others = [Profile(image_size=384), Profile(image_size=256, quality=90)]
    others.append(Profile(image_size=256, resampling="bilinear"))
    assert all(other.facts != SMALL.facts for other in others)
