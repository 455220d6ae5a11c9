"""The EXIF orientation without decoding: as Pillow reads it, and 1 for whatever cannot be read."""

import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from data_shards.decode import decode
from data_shards.packing.stored_image import Profile, read_header, stored_image
from data_shards.schema import ImageRecord, Role, View

ORIENTATION = 0x0112


def image_file(kind: str, orientation: int | None, **options: object) -> bytes:
    image = Image.effect_noise((48, 32), 40).convert("RGB")
    if orientation is not None:
        exif = Image.Exif()
        exif[0x010F] = "a maker, before the orientation"
        exif[ORIENTATION] = orientation
        options["exif"] = exif.tobytes()
    written = io.BytesIO()
    image.save(written, kind, **options)
    return written.getvalue()


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>"""


def upright_by_pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def files_of_all_kinds() -> dict[str, bytes]:
    """Images that say how they are turned, each in its own way."""
    noise, written = Image.effect_noise((48, 32), 40).convert("RGB"), io.BytesIO()
    exif = Image.Exif()
    exif[ORIENTATION] = 8
    noise.save(written, "MPO", save_all=True, append_images=[noise], exif=exif.tobytes())
    return {
        "MPO": written.getvalue(),
        "JPEG by XMP": image_file("JPEG", None, xmp=XMP),
        "WebP": image_file("WEBP", 5, lossless=True),
        "WebP by XMP": image_file("WEBP", None, xmp=XMP, lossless=True),
    }


@pytest.mark.parametrize(("kind", "content"), files_of_all_kinds().items())
def test_every_format_is_turned_as_pillow_turns_it(tmp_path: Path, kind, content) -> None:
    expected = upright_by_pillow(content)
    ours = decode(content, orientation=read_header(content).orientation)
    assert ours.shape == expected.shape
    assert np.abs(ours.astype(int) - expected).max() <= 1
    path = tmp_path / f"a.{kind.partition(' ')[0].lower().replace('mpo', 'jpg')}"
    path.write_bytes(content)
    record = ImageRecord(
        place="1",
        view=View.DRONE,
        roles=Role.TRAIN,
        position=1,
        altitude_m=None,
        path=str(path),
        name="a",
    )
    stored = stored_image(record, content, Profile())
    assert np.array_equal(decode(stored.content, orientation=stored.orientation), ours)
    resized = stored_image(record, content, Profile(image_size=256))
    assert resized.orientation == 1
    shown = Image.fromarray(ours).resize((256, 256), Image.Resampling.LANCZOS)
    assert np.abs(decode(resized.content).astype(int) - np.asarray(shown)).mean() < 12


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_the_orientation_is_the_one_that_was_written(kind, orientation) -> None:
    content = image_file(kind, orientation)
    assert read_header(content).orientation == (orientation or 1)
    assert read_header(memoryview(content)).orientation == (orientation or 1)


@pytest.mark.parametrize("value", [0, 9, 300])
def test_a_value_that_means_nothing_is_upright(value: int) -> None:
    assert read_header(image_file("JPEG", value)).orientation == 1


def test_both_byte_orders_are_read() -> None:
    for order, start in (("little", b"II*\0\x08\0\0\0"), ("big", b"MM\0*\0\0\0\x08")):
        numbers = [(1, 2), (ORIENTATION, 2), (3, 2), (1, 4), (6, 2), (0, 2), (0, 4)]
        tiff = start + b"".join(value.to_bytes(size, order) for value, size in numbers)
        segment = b"Exif\0\0" + tiff
        lead = b"\xff\xd8\xff\xfe\0\x06note\xff\xff\xe1"
        picture = image_file("JPEG", None)[2:]
        content = lead + (len(segment) + 2).to_bytes(2, "big") + segment + picture
        assert read_header(content).orientation == 6


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff", b"GIF89a", b"\x89PNG"]
)
def test_what_is_no_image_is_upright(content: bytes) -> None:
    assert read_header(content).orientation == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_no_damage_is_more_than_no_answer(kind: str) -> None:
    whole, luck = image_file(kind, 6), random.Random(0)
    for cut in range(0, min(len(whole), 400)):
        assert read_header(whole[:cut]).orientation in (1, 6)
    for _ in range(500):
        damaged = bytearray(whole)
        damaged[luck.randrange(300)] = luck.randrange(256)
        assert 1 <= read_header(bytes(damaged)).orientation <= 8
