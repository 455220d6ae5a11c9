"""Weather and light: the same for an image wherever it is asked for, and it does what it says."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from data_shards.errors import RecipeError
from evaluation.conditions import CONDITIONS, VERSION, chosen_conditions
from evaluation.conditions.effects import to_light, to_pixels

NAMES = [
    "fog",
    "rain",
    "snow",
    "fog-rain",
    "fog-snow",
    "rain-snow",
    "dark",
    "over-exposure",
    "wind",
]
KEY = "0007/drone/image-12"


def scene(height: int, width: int) -> np.ndarray:
    """Roofs on grass in the sun, by whole numbers alone: the same at every size, and everywhere."""
    y, x = np.mgrid[:height, :width]
    y, x = y * 512 // max(height, width), x * 512 // max(height, width)
    grass = np.stack([70 + x // 16, 95 + y // 16, 60 + (x + y) // 32], axis=2)
    is_roof = ((x // 64 + y // 96) % 3 == 0)[:, :, None]
    is_road = (y % 192 < 20)[:, :, None]
    roof = np.stack([150 + y // 8, 140 + x // 8, 130 + x // 8], axis=2)
    return np.where(is_road, 50, np.where(is_roof, roof, grass)).astype(np.uint8)


def under(name: str, pixels: np.ndarray, key: str = KEY) -> np.ndarray:
    return CONDITIONS[name].apply(pixels, seed_key=key)


def lightness(pixels: np.ndarray) -> float:
    return float(pixels.mean())


def test_there_are_the_nine_of_the_field_beside_the_clean_one():
    assert [condition.name for condition in CONDITIONS.values()] == list(CONDITIONS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_image_has_the_same_weather_in_any_order_and_thread(name):
    images = [scene(96, 96) // divisor for divisor in (1, 2, 3)]
    keys = [f"{KEY}-{number}" for number in range(3)]
    before = [image.copy() for image in images]
    forth = [under(name, image, key) for image, key in zip(images, keys, strict=True)]
    with ThreadPoolExecutor(3) as pool:
        back = list(pool.map(lambda at: under(name, images[at], keys[at]), (2, 1, 0)))[::-1]
    assert all(map(np.array_equal, forth, back))
    assert all(map(np.array_equal, images, before))


@pytest.mark.parametrize("name", NAMES)
def test_images_of_other_keys_have_other_weather(name):
    image = scene(96, 96)
    seen = [under(name, image, f"0001/drone/{number}") for number in range(4)]
    assert not any(np.array_equal(seen[0], other) for other in (*seen[1:], image))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 1), (32, 32), (37, 90), (512, 512), (1100, 60)])
def test_images_of_any_size_and_brightness_stay_images(name, shape):
    for image in (scene(*shape), np.zeros((*shape, 3), np.uint8), np.full((*shape, 3), 255, "u1")):
        spoilt = under(name, image)
        assert spoilt.shape == image.shape
        assert spoilt.dtype == np.uint8
        assert spoilt.flags.c_contiguous


@pytest.mark.parametrize("name", ["fog", "rain", "snow", "over-exposure", "wind"])
def test_an_image_has_one_weather_at_every_size(name):
    large, small = (cv2.resize(scene(512, 512), (size, size)) for size in (384, 128))
    of_large = cv2.resize(under(name, large), (128, 128), interpolation=cv2.INTER_AREA)
    other = under(name, small, "another")

    def apart(first: np.ndarray, second: np.ndarray) -> float:
        return float(np.abs(first.astype(float) - second).mean())

    assert apart(under(name, small), of_large) < 0.6 * apart(under(name, small), other)


def test_light_and_dark_move_the_right_way():
    image = scene(256, 256)
    seen = {name: lightness(under(name, image)) for name in NAMES}
    clean = lightness(image)
    assert seen["dark"] < 0.4 * clean
    assert seen["rain"] < clean - 2
    assert min(seen["fog"], seen["snow"], seen["fog-snow"], seen["over-exposure"]) > clean + 15
    assert seen["fog-rain"] < seen["fog"] - 20
    assert abs(seen["wind"] - clean) < 5


def test_fog_takes_contrast_and_more_of_it_at_the_top():
    image = np.zeros((256, 256, 3), dtype=np.uint8)
    image[:, ::2] = 200
    kept = [under("fog", image, str(key)).astype(float) for key in range(12)]
    contrast = np.mean([seen[:, ::2] - seen[:, 1::2] for seen in kept], axis=(0, 2, 3))
    assert contrast.max() < 130
    assert contrast[:64].mean() < contrast[-64:].mean() - 10


def test_wind_blurs_along_one_direction():
    noise = np.random.default_rng(0).integers(0, 256, (320, 320), dtype=np.uint8)
    image = np.repeat(noise[:, :, None], 3, axis=2)
    spoilt = under("wind", image)[:, :, 0].astype(float)
    spectrum = np.abs(np.fft.fft2(spoilt - spoilt.mean())) ** 2
    fy, fx = np.meshgrid(np.fft.fftfreq(320), np.fft.fftfreq(320), indexing="ij")
    is_middle = (np.hypot(fx, fy) > 0.1) & (np.hypot(fx, fy) < 0.3)
    angle = np.arctan2(fy, fx)[is_middle] % np.pi
    power = np.bincount((angle / np.pi * 12).astype(int), spectrum[is_middle], minlength=12)
    assert power.max() > 4 * power.min()


def test_the_dark_is_noisy_and_less_so_where_pixels_are_larger():
    def noise(size: int) -> float:
        dark = under("dark", np.full((size, size, 3), 150, dtype=np.uint8))
        return float(to_light(dark)[:, :, 1].std())

    assert 0 < noise(128) < 0.6 * noise(512)
    assert lightness(under("dark", np.zeros((512, 512, 3), dtype=np.uint8))) < 8


def test_too_much_light_loses_what_is_bright_and_spills_into_what_is_not():
    image = np.zeros((128, 128, 3), dtype=np.uint8)
    image[:, :64] = 235
    spoilt = under("over-exposure", image)
    assert (spoilt[:, :60] == 255).all()
    assert spoilt[64, 66].min() > 50
    assert spoilt[64, 120].max() < 3


@pytest.mark.parametrize("pair", ["fog-rain", "fog-snow", "rain-snow"])
def test_a_pair_is_the_nearer_laid_over_the_farther(pair):
    image = scene(160, 160)
    farther, nearer = pair.split("-")
    one_by_one = under(nearer, under(farther, image))
    assert np.abs(under(pair, image).astype(int) - one_by_one).max() <= 2  # of rounding in between


def test_light_and_back_is_the_same_image():
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert np.array_equal(to_pixels(to_light(image)), image)
    bounds = np.array([[[-1.0, 0.0, 7.0]]], dtype=np.float32)
    assert to_pixels(bounds).tolist() == [[[0, 0, 255]]]


PINNED: dict[str, list[int]] = {
    "fog": [186, 186, 179, 178, 173, 174, 183, 178, 174, 174, 174, 191],
    "rain": [92, 103, 96, 104, 92, 98, 111, 99, 111, 112, 101, 123],
    "snow": [136, 144, 133, 147, 133, 137, 152, 139, 152, 152, 141, 168],
    "fog-rain": [149, 149, 146, 144, 141, 142, 149, 144, 142, 143, 142, 153],
    "fog-snow": [198, 197, 192, 192, 188, 188, 195, 191, 188, 188, 188, 202],
    "rain-snow": [134, 138, 134, 142, 134, 135, 145, 136, 143, 145, 138, 152],
    "dark": [23, 29, 23, 29, 22, 25, 32, 26, 33, 33, 27, 41],
    "over-exposure": [150, 173, 145, 168, 142, 158, 181, 158, 188, 186, 167, 208],
    "wind": [99, 114, 95, 110, 95, 98, 118, 105, 115, 127, 112, 138],
}


@pytest.mark.parametrize("name", NAMES)
def test_numbers_stay_comparable_within_a_version(name):
    """Rounded means of a grid of blocks; other processors may round some pixels otherwise."""
    assert VERSION == 1, "pin the new pixels"
    means = cv2.resize(
        under(name, scene(120, 160)).mean(axis=2), (4, 3), interpolation=cv2.INTER_AREA
    )
    np.testing.assert_allclose(means.ravel(), PINNED[name], atol=0.9)


def test_conditions_are_chosen_by_name_once_each_and_in_order():
    assert chosen_conditions([]) == ()
    chosen = chosen_conditions(["wind", "fog", "wind"])
    assert [condition.name for condition in chosen] == ["fog", "wind"]
    assert [condition.name for condition in chosen_conditions(["rain", "all"])] == NAMES
    with pytest.raises(RecipeError, match=r"condition 'foggy' is unknown \(did you mean 'fog'\?\)"):
        chosen_conditions(["rain", "foggy"])
