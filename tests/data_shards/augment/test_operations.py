import colorsys

import numpy as np
import pytest

from data_shards.augment.operations import (
    GRAY,
    JITTER_ORDERS,
    brighten,
    change_contrast,
    fill,
    jitter,
    mirror_and_turn,
    mirrored_and_turned,
    saturate,
    shift,
    shift_hue,
)


def done(operation, pixels: np.ndarray, *arguments, **options) -> np.ndarray:
    """What an operation makes of a copy, which lies between two rows that it must not touch."""
    rows = np.stack([np.full_like(pixels, 77), pixels, np.full_like(pixels, 77)])
    operation(rows[1], *arguments, **options)
    assert (rows[0] == 77).all() and (rows[2] == 77).all()
    return rows[1]


def clipped(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255)


def test_geometry_moves_every_pixel_where_it_belongs(picture) -> None:
    for quarters in range(4):
        for is_mirrored, mirrored in ((False, picture), (True, picture[:, ::-1])):
            turned = done(mirror_and_turn, picture, is_mirrored=is_mirrored, quarter_turns=quarters)
            assert (turned == np.rot90(mirrored, quarters)).all()
            if quarters % 2:
                before, into = picture.copy(), np.full((3, *picture.shape), 77, dtype=np.uint8)
                mirrored_and_turned(
                    picture, into[1], is_mirrored=is_mirrored, quarter_turns=quarters
                )
                assert (into[1] == turned).all() and (picture == before).all()
                assert (into[0] == 77).all() and (into[2] == 77).all()


@pytest.mark.parametrize(("right", "down"), [(0, 0), (3, 0), (-3, 0), (0, 10), (5, -7), (-10, -10)])
def test_a_shift_repeats_the_border(picture, right: int, down: int) -> None:
    into = np.zeros((3, *picture.shape), dtype=np.uint8)
    shift(picture, into[1], right=right, down=down)
    padded = np.pad(picture, ((10, 10), (10, 10), (0, 0)), mode="edge")
    expected = padded[10 - down : 74 - down, 10 - right : 74 - right]
    assert (into[1] == expected).all()
    assert not into[0].any() and not into[2].any()


@pytest.mark.parametrize("factor", [0.0, 0.3, 0.85, 1.15, 1.7])
def test_colour_factors_scale_the_distance_from_their_anchor(picture, factor: float) -> None:
    colour = picture.astype(np.float64)
    mean = (colour @ GRAY).mean()
    gray = (colour @ GRAY)[..., None]
    for operation, anchor in ((brighten, 0.0), (change_contrast, mean), (saturate, gray)):
        expected = clipped((colour - anchor) * factor + anchor)
        assert np.abs(done(operation, picture, factor) - expected).max() <= 1.0


@pytest.mark.parametrize("turns", [-0.3, -0.05, 0.1, 0.3])
def test_hue_turns_on_the_colour_circle(picture, turns: float) -> None:
    shifted = done(shift_hue, picture, turns)
    difference = []
    for pixel, other in zip(picture.reshape(-1, 3)[::7], shifted.reshape(-1, 3)[::7], strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel / 255)
        expected = colorsys.hsv_to_rgb((hue + turns) % 1.0, saturation, value)
        difference.append(np.abs(other - np.multiply(expected, 255)).max())
    assert np.mean(difference) < 3 and max(difference) < 12  # hue has eight bits


def test_jitter_takes_its_steps_in_the_order_given(picture) -> None:
    assert len(JITTER_ORDERS) == len({tuple(order) for order in JITTER_ORDERS.tolist()}) == 24
    steps = {
        0: lambda pixels: brighten(pixels, 1.5),
        1: lambda pixels: change_contrast(pixels, 1.7),
        2: lambda pixels: saturate(pixels, 0.4),
        3: lambda pixels: shift_hue(pixels, 0.2),
    }
    results = set()
    for number, order in enumerate(JITTER_ORDERS.tolist()):
        expected = picture.copy()
        for step in order:
            steps[step](expected)
        given = done(
            jitter, picture, brightness=1.5, contrast=1.7, saturation=0.4, hue=0.2, order=number
        )
        assert (given == expected).all()
        results.add(given.tobytes())
    assert len(results) > 12


def test_nothing_to_jitter_keeps_every_pixel(picture) -> None:
    same = done(jitter, picture, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0, order=5)
    assert (same == picture).all()


def test_filling_paints_the_box_and_nothing_else(picture) -> None:
    expected = picture.copy()
    expected[16:48, 8:32] = (1, 2, 3)
    assert (done(fill, picture, (0.125, 0.25, 0.5, 0.75), (1, 2, 3)) == expected).all()
    assert (done(fill, picture, (0, 0, 0, 0), (1, 2, 3)) == picture).all()
