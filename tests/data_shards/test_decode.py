import io

import numpy as np
import pytest
from PIL import Image

from data_shards.decode import DecodeError, check_image, decode, resize

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


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "P", "L"])
def test_png_is_decoded_to_rgb(kind: str) -> None:
    image = Image.fromarray(PIXELS).convert(kind)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert (decode(buffer.getvalue()) == np.asarray(image.convert("RGB"))).all()
    assert check_image(buffer.getvalue()) == ""


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
    ("content", "reason"), [(b"", "the file is empty"), (b"text", "neither JPEG nor PNG")]
)
def test_what_is_no_image_at_all_is_told_in_plain_words(content: bytes, reason: str) -> None:
    assert check_image(content) == reason
    with pytest.raises(DecodeError, match=reason):
        decode(memoryview(content))


def test_a_whole_jpeg_with_something_behind_it_is_an_image() -> None:
    content = saved() + b"x" * 100
    assert check_image(content) == ""
    assert (decode(content) == decode(saved())).all()


def test_resizing_takes_the_part_asked_for() -> None:
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4, 1).repeat(3, axis=2)
    assert resize(pixels, size=4) is pixels
    lower_right = resize(pixels, size=2, box=(0.5, 0.5, 1, 1))
    assert lower_right[..., 0].tolist() == [[10, 11], [14, 15]]
    assert resize(pixels[:2], size=3).shape == (3, 3, 3)
