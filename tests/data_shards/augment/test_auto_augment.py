import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

from data_shards.augment.auto_augment import POLICIES, auto_augment

NAMES = {
    "posterize": "Posterize",
    "rotate": "Rotate",
    "solarize": "Solarize",
    "auto_contrast": "AutoContrast",
    "equalize": "Equalize",
    "invert": "Invert",
    "colour": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "shear_x": "ShearX",
}
"""Our names to those of torchvision."""

WITHOUT_MAGNITUDE = {"auto_contrast", "equalize", "invert"}


def test_the_policies_are_those_that_torchvision_has_too() -> None:
    ours = [
        tuple(
            (NAMES[name], probability, None if name in WITHOUT_MAGNITUDE else magnitude)
            for name, probability, magnitude in policy
        )
        for policy in POLICIES
    ]
    assert ours == AutoAugment(AutoAugmentPolicy.IMAGENET).policies


def first_step(picture: np.ndarray, name: str, magnitude: int, sign: int = 1) -> np.ndarray:
    """What one step makes of a picture, in the first policy that has it."""
    for number, policy in enumerate(POLICIES):
        for at, (operation, _, strength) in enumerate(policy):
            if (operation, strength) == (name, magnitude):
                return auto_augment(
                    picture, policy=number, taken=[at == 0, at == 1], signs=[sign, sign]
                )
    raise LookupError(name)


def test_no_step_keeps_the_picture(picture) -> None:
    assert auto_augment(picture, policy=3, taken=[False, False], signs=[1, 1]) is picture


@pytest.mark.parametrize("sign", [-1, 1])
def test_enhancements_go_either_way(picture, sign: int) -> None:
    image = Image.fromarray(picture)
    for name, magnitude, enhancer in (
        ("colour", 8, ImageEnhance.Color),
        ("contrast", 8, ImageEnhance.Contrast),
        ("sharpness", 7, ImageEnhance.Sharpness),
    ):
        expected = enhancer(image).enhance(1 + sign * magnitude * 0.1)
        assert (first_step(picture, name, magnitude, sign) == np.asarray(expected)).all()


def test_tables_are_applied_to_each_pixel(picture) -> None:
    image = Image.fromarray(picture)
    assert (first_step(picture, "invert", 0) == 255 - picture).all()
    assert (first_step(picture, "posterize", 8) == picture & 0b11110000).all()
    solarized = np.where(picture < 256 - 5 * 256 / 9, picture, 255 - picture)
    assert (first_step(picture, "solarize", 5) == solarized).all()
    assert (first_step(picture, "equalize", 0) == np.asarray(ImageOps.equalize(image))).all()
    contrasted = np.asarray(ImageOps.autocontrast(image))
    assert (first_step(picture, "auto_contrast", 0) == contrasted).all()


def test_a_rotation_always_goes_counter_clockwise_and_leaves_gray(picture) -> None:
    one, other = (first_step(picture, "rotate", 9, sign) for sign in (-1, 1))
    assert (one == other).all()
    assert (other == np.asarray(Image.fromarray(picture).rotate(30, fillcolor=(128,) * 3))).all()
    assert other[0, 0].tolist() == [128] * 3


def test_a_shear_moves_rows_to_the_side_of_its_sign() -> None:
    line = np.zeros((60, 60, 3), dtype=np.uint8)
    line[:, 29:31] = 255
    for sign in (-1, 1):
        sheared = first_step(line, "shear_x", 5, sign)
        brightest = sheared[..., 0].astype(int)
        brightest[sheared[..., 0] == 128] = 0
        top, bottom = brightest[2].argmax(), brightest[50].argmax()
        assert abs(top - 29.5) < 2
        assert bottom - top == pytest.approx(-sign * 48 * 0.3 * 5 / 9, abs=1.5)
        corner = sheared[-1, -1 if sign > 0 else 0]
        assert corner.tolist() == [128] * 3


def test_steps_follow_each_other(picture) -> None:
    number = next(at for at, policy in enumerate(POLICIES) if policy[0][0] == "invert")
    both = auto_augment(picture, policy=number, taken=[True, True], signs=[1, 1])
    expected = ImageOps.equalize(ImageOps.invert(Image.fromarray(picture)))
    assert (both == np.asarray(expected)).all()
