import io
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import convolve

from data_shards.augment.mean import (
    BLUR,
    GRID,
    HOLES,
    NO_DROPOUT,
    NO_FILTER,
    SHARPEN,
    blur_kernel,
    sharpen_kernel,
)
from data_shards.schema import View

MANY = np.arange(4000)


@pytest.fixture
def applied(vary) -> Callable[..., np.ndarray]:
    """What the family makes of a picture by the values said."""
    return partial(vary, "mean")


def share(chosen: np.ndarray) -> float:
    return float(np.mean(chosen))


@pytest.mark.parametrize("view", [View.SATELLITE, View.DRONE])
def test_each_part_is_as_frequent_as_published(draw, view) -> None:
    drawn = draw(MANY, family="mean", view=view)
    assert share(drawn["flip"]) == pytest.approx(0.5, abs=0.03)
    assert share(drawn["jpeg_quality"] > 0) == pytest.approx(0.5, abs=0.03)
    assert share(drawn["brightness"] != 1) == pytest.approx(0.5, abs=0.03)
    for part, both in (("filter", (BLUR, SHARPEN)), ("dropout", (GRID, HOLES))):
        for one in both:
            assert share(drawn[part] == one) == pytest.approx(0.15, abs=0.02)
        assert share(drawn[part] == 0) == pytest.approx(0.7, abs=0.03)


@pytest.mark.parametrize(("view", "contrast"), [(View.SATELLITE, 0.3), (View.DRONE, 0.7)])
def test_ranges_are_those_published(draw, view, contrast) -> None:
    drawn = draw(MANY, family="mean", view=view)
    qualities = drawn["jpeg_quality"][drawn["jpeg_quality"] > 0]
    assert set(qualities.tolist()) == set(range(90, 101))
    limits = {"brightness": 0.15, "contrast": contrast, "saturation": 0.3}
    for name, limit in limits.items():
        assert 0.97 * limit < np.abs(drawn[name] - 1).max() <= limit + 1e-6
    assert 0.29 < np.abs(drawn["hue"]).max() <= 0.3 + 1e-6
    assert set(drawn["jitter_order"].tolist()) == set(range(24))
    assert set(drawn["blur_size"].tolist()) == {3, 5, 7}
    holed = drawn[drawn["dropout"] == HOLES]
    assert set(holed["num_holes"].tolist()) == set(range(10, 26))
    assert not drawn["holes"][drawn["dropout"] != HOLES].any()
    left, top, right, bottom = np.moveaxis(holed["holes"].astype(float), 2, 0)
    assert left.min() >= 0 and top.min() >= 0 and right.max() <= 1 + 1e-6
    for side in (right - left, bottom - top):
        assert 0.1 - 1e-6 <= side.min() < 0.101 and 0.199 < side.max() <= 0.2 + 1e-6


def test_nothing_drawn_changes_nothing(applied, picture) -> None:
    assert (applied(picture, filter=NO_FILTER, dropout=NO_DROPOUT) == picture).all()


def by_pillow(picture: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(buffer)).astype(int)


def test_jpeg_artefacts_are_those_of_the_quality(applied, picture) -> None:
    given = applied(picture, jpeg_quality=92).astype(int)
    assert np.abs(given - by_pillow(picture, 92)).mean() < 1.5
    assert np.abs(given - by_pillow(picture, 60)).mean() > 3
    assert np.abs(given - picture).mean() > 2


@pytest.mark.parametrize("size", [3, 5, 7])
def test_blur_is_a_convolution_with_a_turned_gaussian(applied, picture, size: int) -> None:
    kernel = blur_kernel(size, np.array([0.9, 0.4], dtype=np.float32), 30.0)
    assert kernel.shape == (size, size) and kernel.sum() == pytest.approx(1, abs=1e-6)
    assert np.allclose(kernel, kernel[::-1, ::-1], atol=1e-7)
    round_kernel = blur_kernel(7, np.array([1.0, 1.0], dtype=np.float32), 50.0)
    offsets = np.arange(-3, 4)
    line = np.exp(-0.5 * offsets**2)
    assert np.allclose(round_kernel, np.outer(line, line) / line.sum() ** 2, atol=1e-6)
    for sigma in ((0.9, 0.4), (0.4, 0.3), (1.0, 1.0)):  # of the second, the rim has no weight
        kernel = blur_kernel(size, np.array(sigma, dtype=np.float32), 30.0)
        given = applied(picture, filter=BLUR, blur_size=size, blur_sigma=sigma, blur_angle=30.0)
        assert np.abs(given - convolved(picture, kernel)).max() <= 1.0


def test_sharpening_is_a_convolution(applied, picture) -> None:
    kernel = sharpen_kernel(0.3, 0.75)
    assert kernel[1, 1] == pytest.approx(0.7 + 0.3 * 8.75)
    assert kernel.sum() == pytest.approx(0.7 + 0.3 * 0.75)
    given = applied(picture, filter=SHARPEN, sharpen_alpha=0.3, sharpen_lightness=0.75)
    assert np.abs(given - convolved(picture, kernel)).max() <= 1.0


def convolved(picture: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """By another library, in floats; both mirror at the border without repeating it."""
    channels = [
        convolve(picture[..., channel].astype(np.float64), kernel[::-1, ::-1], mode="mirror")
        for channel in range(3)
    ]
    return np.clip(np.stack(channels, axis=-1), 0, 255)


def test_the_grid_blackens_its_cells(applied) -> None:
    white = np.full((64, 64, 3), 255, dtype=np.uint8)
    given = applied(white, dropout=GRID)
    for y in range(64):
        for x in range(64):
            is_hole = y % 6 < 2 and x % 6 < 2  # cells of a tenth, holes of 0.4 of it
            assert given[y, x].tolist() == ([0] * 3 if is_hole else [255] * 3)


@pytest.mark.parametrize("size", [7, 20, 64, 75])
def test_the_grid_goes_on_to_the_edge(applied, size: int) -> None:
    white = np.full((size, size, 3), 255, dtype=np.uint8)
    cell = max(2, size // 10)
    is_line = np.arange(size) % cell < max(1, int(cell * 0.4))
    expected = np.where(np.outer(is_line, is_line)[..., None], 0, white)
    assert (applied(white, size=size, dropout=GRID) == expected).all()


def test_as_many_holes_as_drawn_are_black(applied) -> None:
    white = np.full((64, 64, 3), 255, dtype=np.uint8)
    holes = np.zeros((25, 4), dtype=np.float32)
    holes[:3] = [[0, 0, 0.125, 0.125], [0.5, 0.25, 0.625, 0.5], [0.75, 0.75, 1, 1]]
    given = applied(white, dropout=HOLES, num_holes=2, holes=holes)
    expected = white.copy()
    expected[:8, :8] = expected[16:32, 32:40] = 0
    assert (given == expected).all()


@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_a_tile_without_holes_is_mirrored_and_turned_too(
    applied, picture, is_mirrored: bool, turns: int
) -> None:
    mirrored = picture[:, ::-1] if is_mirrored else picture
    colours = {"contrast": 1.4, "jitter_order": 9}
    given = applied(picture, flip=is_mirrored, quarter_turns=turns, **colours)
    assert (given == np.rot90(applied(mirrored.copy(), **colours), turns)).all()


def test_the_tile_is_turned_last(applied, picture) -> None:
    hole = np.zeros((25, 4), dtype=np.float32)
    hole[0] = 0, 0, 0.25, 0.25
    given = applied(picture, flip=True, quarter_turns=1, dropout=HOLES, num_holes=1, holes=hole)
    expected = picture[:, ::-1].copy()
    expected[:16, :16] = 0
    assert (given == np.rot90(expected)).all()
