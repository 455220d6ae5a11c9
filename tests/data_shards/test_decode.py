import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from data_shards.decode import RESAMPLERS, DecodeError, Scratch, check_image, decode, resize

PIXELS = (
    np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
)


def saved(pixels: np.ndarray = PIXELS, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("pixels", [PIXELS, PIXELS[..., 0]], ids=["colour", "gray"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 50}], ids=str)
def test_jpeg_is_decoded_to_rgb(pixels: np.ndarray, options) -> None:
    content = saved(pixels, **options)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    decoded = decode(memoryview(content))
    assert decoded.shape == (32, 32, 3) and decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - expected).max() <= 3
    assert check_image(content) == ""


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "P", "L", "LA", "1"])
def test_png_is_decoded_to_rgb(kind: str) -> None:
    image = Image.fromarray(PIXELS).convert(kind)
    content = encoded(image, "PNG")
    assert (decode(content) == np.asarray(image.convert("RGB"))).all()
    assert check_image(content) == ""


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_alpha_is_dropped_and_the_colour_kept_as_stored() -> None:
    alpha = np.arange(256, dtype=np.uint8).repeat(4).reshape(32, 32)
    image = Image.fromarray(np.dstack([PIXELS, alpha]))
    assert (decode(encoded(image, "PNG")) == PIXELS).all()
    gray = Image.fromarray(np.dstack([PIXELS[..., 0], alpha]))
    assert (decode(encoded(gray, "PNG")) == PIXELS[..., :1]).all()


def test_a_transparent_palette_keeps_its_colours() -> None:
    image = Image.fromarray(PIXELS).convert("P")
    expected = np.asarray(image.convert("RGB"))
    for transparency in (3, bytes(range(256))):
        content = encoded(image, "PNG", transparency=transparency)
        assert "transparency" in Image.open(io.BytesIO(content)).info
        assert (decode(content) == expected).all()


def test_sixteen_bit_gray_keeps_its_upper_half() -> None:
    gray = np.arange(1024, dtype=np.uint16).reshape(32, 32) * 63
    content = encoded(Image.fromarray(gray), "PNG")
    assert (decode(content) == (gray >> 8)[..., None]).all()


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=str)
def test_a_jpeg_in_printing_inks_is_decoded_as_pillow_does(options) -> None:
    content = encoded(Image.fromarray(PIXELS).convert("CMYK"), "JPEG", **options)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert (decode(content) == expected).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_orientation_says(kind: str, orientation: int) -> None:
    image = Image.fromarray(PIXELS[:, :24])
    exif = image.getexif()
    exif[0x0112] = orientation
    content = encoded(image, kind, exif=exif)
    stored = decode(content)
    assert stored.shape == (32, 24, 3), "decoding alone turns nothing"
    expected = Image.fromarray(stored)
    expected.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(expected))
    for memory in ({}, {"scratch": Scratch()}, {"into": np.empty((32, 24, 3), dtype=np.uint8)}):
        turned = decode(memoryview(content), orientation=orientation, **memory)
        assert turned.shape == upright.shape and (turned == upright).all()


def test_a_picture_of_the_right_size_is_decoded_into_the_memory_given() -> None:
    batch = np.zeros((3, 32, 32, 3), dtype=np.uint8)
    decoded = decode(saved(), into=batch[1])
    assert np.shares_memory(decoded, batch) and (batch[1] == decode(saved())).all()
    assert not batch[0].any() and not batch[2].any()
    other = decode(saved(PIXELS[:16]), into=batch[2])
    assert other.shape == (16, 32, 3) and not batch[2].any()


def test_scratch_is_used_again_and_grows() -> None:
    scratch = Scratch()
    large = decode(saved(), scratch=scratch)
    small = decode(saved(PIXELS[:16]), scratch=scratch)
    assert np.shares_memory(large, small)
    larger = decode(saved(np.tile(PIXELS, (2, 1, 1))), scratch=scratch)
    assert larger.shape == (64, 32, 3) and not np.shares_memory(larger, small)
    assert (larger == decode(saved(np.tile(PIXELS, (2, 1, 1))))).all()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        saved()[:100],
        saved()[: len(saved()) // 2],
        saved()[:-2],
        saved(kind="PNG")[:200],
        b"\xff\xd8\xff\xd9",
    ],
    ids=["empty", "text", "header", "half", "no end", "png", "only marks"],
)
def test_what_is_no_whole_image_is_refused(content: bytes) -> None:
    assert check_image(content)
    with pytest.raises(DecodeError):
        decode(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"text", "no format that is read"),
    ],
)
def test_what_is_no_image_at_all_is_told_in_plain_words(content: bytes, reason: str) -> None:
    assert check_image(content) == reason
    with pytest.raises(DecodeError, match=reason):
        decode(memoryview(content))


def test_a_whole_jpeg_with_something_behind_it_is_an_image() -> None:
    content = saved() + b"x" * 100
    assert check_image(content) == ""
    assert (decode(content) == decode(saved())).all()


@pytest.mark.parametrize("resampling", RESAMPLERS)
def test_resizing_keeps_an_image_of_the_right_size(resampling) -> None:
    assert resize(PIXELS, size=32, resampling=resampling) is PIXELS
    into = np.zeros_like(PIXELS)
    assert resize(PIXELS, size=32, resampling=resampling, into=into) is into
    assert (into == PIXELS).all()


def smooth(height: int, width: int) -> np.ndarray:
    """A picture finely drawn from below a wavelength of eight pixels."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [np.sin(x / 5 + y / 9), np.cos(y / 4), np.sin((x - y) / 7)]
    return np.clip(np.stack(waves, axis=-1) * 100 + 128, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("resampling", RESAMPLERS)
@pytest.mark.parametrize("shape", [(64, 64), (48, 80), (150, 130), (200, 100)], ids=str)
def test_every_resampling_is_near_the_mean_over_what_a_pixel_covers(resampling, shape) -> None:
    """Against exact areas, computed the plain way: no shift by half a pixel, nothing skipped."""
    pixels = smooth(*shape)
    expected = covered(covered(pixels.astype(np.float64), 48).swapaxes(0, 1), 48).swapaxes(0, 1)
    given = resize(pixels, size=48, resampling=resampling)
    assert given.shape == (48, 48, 3)
    assert np.abs(given - expected).mean() < 4
    into = np.zeros((3, 48, 48, 3), dtype=np.uint8)
    resize(pixels, size=48, resampling=resampling, into=into[1])
    assert (into[1] == given).all() and not into[0].any() and not into[2].any()


def covered(pixels: np.ndarray, size: int) -> np.ndarray:
    """The mean over each of `size` equal parts of the first axis."""
    parts = np.repeat(pixels, size, axis=0).reshape(size, len(pixels), *pixels.shape[1:])
    return parts.mean(axis=1)


def test_a_shrink_by_more_than_half_sees_every_pixel() -> None:
    """Single rows in every fourth line: a filter of two pixels would skip or swallow them."""
    pixels = np.zeros((256, 256, 3), dtype=np.uint8)
    pixels[::4] = 240
    given = resize(pixels, size=60, resampling="opencv-linear")
    assert abs(given.mean() - 60) < 2 and given.max() < 130


def test_harmless_bytes_before_the_end_of_a_jpeg_do_not_stop_a_training() -> None:
    content = saved(PIXELS)
    with_rest = content[:-2] + bytes(4) + content[-2:]
    assert check_image(with_rest) == ""
    into = np.zeros((32, 32, 3), dtype=np.uint8)
    decoded = decode(with_rest, into=into, scratch=Scratch())
    assert np.abs(decoded.astype(int) - decode(content)).max() <= 1


def test_other_bytes_before_the_end_are_those_of_a_damaged_scan() -> None:
    content = saved(PIXELS)
    assert "extraneous bytes" in check_image(content[:-2] + b"other" + content[-2:])
    assert check_image(content[:-2] + b"other" + content[-2:], is_decoded=False) == ""


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_what_the_check_passes_decodes_without_a_warning(options) -> None:
    """The check decodes an eighth of the size, and must find all that decoding in full finds."""
    whole, luck = saved(PIXELS, **options), np.random.default_rng(0)
    verdicts = set()
    for _ in range(300):
        damaged = bytearray(whole)
        at = int(luck.integers(len(whole) // 2, len(whole) - 2))
        damaged[at : at + 8] = luck.bytes(min(8, len(whole) - 2 - at))
        try:
            simplejpeg.decode_jpeg(bytes(damaged))
            is_whole = True
        except ValueError:
            is_whole = False
        assert (check_image(bytes(damaged)) == "") == is_whole
        verdicts.add(is_whole)
    assert verdicts == {True, False}
