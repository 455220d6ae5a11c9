"""What goes wrong in a camera: too little light, too much of it, or a hand of wind."""

import math

import cv2
import numpy as np
import numpy.typing as npt

from evaluation.conditions.light import Light, scale

DUSK = (0.055, 0.085)
"""Light after sunset that reaches the sensor, as a part of that of the clear day."""

DUSK_COLOUR = (0.86, 0.96, 1.22)

ELECTRONS = 2200.0
"""Electrons in a full pixel of an image `REFERENCE_PIXELS` wide, at the gain used in the dusk."""

READ_NOISE = 5.0
"""Deviation in electrons, of the same pixel."""

REFERENCE_PIXELS = 512

EXPOSURE = (2.6, 3.4)
"""Light that reaches the sensor, as a multiple of what it should be: about one and a half stops."""

BLOOM = 0.20
"""Part of the light beyond white that spills into the surroundings."""

BLOOM_WIDTH = 0.02
"""Deviation of the spill, as a part of the image's longer side."""

BLOOM_SHRINK = 4
"""The spill is smooth, so it is spread in an image this many times smaller."""

SMEAR = (0.014, 0.026)
"""Path of the image over the sensor while the shutter is open, as a part of its longer side."""

TILT_DEG = (1.0, 4.0)
SHEAR = (0.01, 0.04)
SHIFT = (0.01, 0.03)
"""Of the longer side, along both axes."""


def darken(light: Light, rng: np.random.Generator) -> None:
    """Take the light of dusk, with the noise of few photons and of reading them out.

    Photons are counted, so their deviation is the root of their number; a pixel of a smaller image
    gathers those of several, so its noise is less.
    """
    dusk = rng.uniform(*DUSK)
    red, green, blue = DUSK_COLOUR
    scale(light, (dusk * red, dusk * green, dusk * blue))
    gathered = (REFERENCE_PIXELS / max(light.shape[:2])) ** 2
    electrons = ELECTRONS * gathered
    variance = light * np.float32(1 / electrons)
    variance += np.float32(READ_NOISE**2 * gathered / electrons**2)
    noise = _nearly_normal(rng, light)
    noise *= np.sqrt(variance, out=variance)
    light += noise


def over_expose(light: Light, rng: np.random.Generator) -> None:
    """Take too much light: what is beyond white is lost, but for what spills around it."""
    light *= np.float32(rng.uniform(*EXPOSURE))
    height, width = light.shape[:2]
    small = (max(1, width // BLOOM_SHRINK), max(1, height // BLOOM_SHRINK))
    spill = cv2.resize(np.maximum(light - 1, 0), small, interpolation=cv2.INTER_AREA)
    spill = cv2.GaussianBlur(spill, (0, 0), BLOOM_WIDTH * max(small))
    bloom = cv2.resize(spill, (width, height), interpolation=cv2.INTER_LINEAR)
    cv2.addWeighted(light, 1.0, bloom, BLOOM, 0.0, dst=light)


def shake(light: Light, rng: np.random.Generator) -> None:
    """Tilt, shear and shift the image a little, and smear it along the way a gust moved it."""
    height, width = light.shape[:2]
    side = max(height, width)

    def either_way(bounds: tuple[float, float]) -> float:
        return float(rng.uniform(*bounds) * rng.choice((-1.0, 1.0)))

    turn = math.radians(either_way(TILT_DEG))
    shear = either_way(SHEAR)
    cosine, sine = math.cos(turn), math.sin(turn)
    matrix = np.array([[cosine, shear - sine, 0.0], [sine, cosine, 0.0]])
    middle = np.array([width - 1, height - 1]) / 2
    shift = np.array([either_way(SHIFT), either_way(SHIFT)]) * side
    matrix[:, 2] = middle - matrix[:, :2] @ middle + shift
    np.copyto(light, _moved(light, matrix))
    direction, length = rng.uniform(0, math.pi), side * rng.uniform(*SMEAR)
    _smear(light, right=length * math.cos(direction), down=length * math.sin(direction))


def _nearly_normal(rng: np.random.Generator, light: Light) -> Light:
    """Return numbers of mean 0 and deviation 1: sums of four bytes, a third of the time of normal.

    They never lie further than 3.5 deviations from the mean.
    """
    words = rng.integers(0, 2**32, light.size, dtype=np.uint32)
    total = words.view(np.uint8).reshape(4, *light.shape).sum(axis=0, dtype=np.uint16)
    deviation = math.sqrt(4 * (256**2 - 1) / 12)
    noise: Light = total.astype(np.float32)
    noise -= np.float32(4 * 255 / 2)
    noise *= np.float32(1 / deviation)
    return noise


def _smear(light: Light, *, right: float, down: float) -> None:
    """Average the image over a path; each round doubles the positions that are averaged."""
    rounds = max(1, math.ceil(math.log2(max(2.0, math.hypot(right, down)))))
    moved = np.empty_like(light)
    for turn in range(1, rounds + 1):
        step = np.array([[1.0, 0.0, right / 2**turn], [0.0, 1.0, down / 2**turn]])
        cv2.addWeighted(light, 0.5, _moved(light, step, into=moved), 0.5, 0.0, dst=light)


def _moved(light: Light, matrix: npt.NDArray[np.float64], into: Light | None = None) -> Light:
    """Return the image moved; what comes in from outside mirrors what is inside."""
    moved = np.empty_like(light) if into is None else into
    cv2.warpAffine(
        light,
        matrix,
        (light.shape[1], light.shape[0]),
        dst=moved,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return moved
