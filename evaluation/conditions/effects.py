"""What weather and a camera do to the light of a clear day.

Weather adds and scales light, and so does a shutter; the numbers of a file are light to the power
of about 1 / 2.2 (sRGB). Fields are drawn in parts of the image's longer side, so that one image
has one weather at every size. All is done in place: memory that is new costs more than arithmetic.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from data_shards.decode import Pixels

Light: TypeAlias = npt.NDArray[np.float32]
"""Linear light [H, W, RGB]; 1 is the white of the file."""

Field: TypeAlias = npt.NDArray[np.float32]
"""One number per pixel [H, W]."""

Colour: TypeAlias = tuple[float, float, float]

LEVELS = 2**16
"""Steps of light from black to white: all that a 16-bit number has."""


_PIXEL, _LEVEL = np.arange(256) / 255, np.arange(LEVELS) / (LEVELS - 1)

# sRGB and linear light, both 0..1 (IEC 61966-2-1).
LIGHT_OF_PIXEL = np.where(
    _PIXEL <= 0.04045, _PIXEL / 12.92, ((_PIXEL + 0.055) / 1.055) ** 2.4
).astype(np.float32)
PIXEL_OF_LEVEL = np.rint(
    255 * np.where(_LEVEL <= 0.0031308, 12.92 * _LEVEL, 1.055 * _LEVEL ** (1 / 2.4) - 0.055)
).astype(np.uint8)


def to_light(pixels: Pixels) -> Light:
    """Return the linear light of sRGB pixels."""
    return np.asarray(cv2.LUT(pixels, LIGHT_OF_PIXEL), dtype=np.float32)


def to_pixels(light: Light) -> Pixels:
    """Return the sRGB pixels of linear light; what is brighter than white is white."""
    # OpenCV rounds, and saturates at both ends of a 16-bit number.
    level = cv2.multiply(light, np.ones(4), scale=LEVELS - 1, dtype=cv2.CV_16U)
    pixels: Pixels = PIXEL_OF_LEVEL.take(np.asarray(level, dtype=np.uint16))
    return pixels


def scale(light: Light, factor: npt.ArrayLike, *, plus: npt.ArrayLike = 0.0) -> None:
    """Scale light, all channels alike or each by its own factor, and add that of one colour."""
    matrix = np.column_stack([np.diag(np.broadcast_to(factor, 3)), np.broadcast_to(plus, 3)])
    cv2.transform(light, matrix, dst=light)


def cover(light: Light, part: Field, *, colour: Colour) -> None:
    """Let a `part` (0..1) of the light be that of something in front, of one colour."""
    scale(light, 1.0, plus=np.negative(colour))
    through = 1 - part
    light *= cv2.merge([through, through, through])
    scale(light, 1.0, plus=colour)


def fitted(field: npt.NDArray[np.generic], light: Light) -> Field:
    """Return a square field at the size of the image's longer side, cut to the image."""
    height, width = light.shape[:2]
    side = max(height, width)
    interpolation = cv2.INTER_CUBIC if side > 2 * len(field) else cv2.INTER_LINEAR
    if 2 * side < len(field):  # the nearest four pixels no longer stand for all of them
        interpolation = cv2.INTER_AREA
    whole = cv2.resize(field.astype(np.float32), (side, side), interpolation=interpolation)
    return np.ascontiguousarray(whole[:height, :width], dtype=np.float32)


FOG_LIGHT: Colour = (0.66, 0.69, 0.72)
"""What fog scatters towards the camera where nothing shines through: an overcast sky."""

FOG_DEPTH = (0.55, 0.80)
"""Optical depth to the middle of the image: half of the scene's light is lost."""

FOG_SLANT = 0.25
"""How much farther the top of the image is than its middle, and how much nearer its bottom."""

FOG_PATCHINESS = 0.45
"""How much the density varies around its mean."""

FOG_CELLS = 3
"""Along a side, of which each has a density; cells of half the size vary it half as much."""

CANVAS = 512
"""Side of the square on which drops and flakes are drawn; their sizes count in its pixels."""

SUBPIXEL_BITS = 4

BLUR_REACH = 1.25
"""Deviations to which a blur reaches: what is out of focus becomes a disc rather than a bell."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What falls at one distance: the nearer, the fewer, larger, faster and less sharp."""

    count: int
    length: float
    """How far it falls while the shutter is open, in pixels of the canvas."""

    thickness: int
    blur: float
    """Deviation in pixels of the canvas."""

    opacity: float


@dataclass(frozen=True, kw_only=True)
class Precipitation:
    """Rain or snow."""

    daylight: tuple[float, float]
    """Least and most light below its clouds, as a part of that of the clear day."""

    veil: float
    """Part of the scene hidden behind what is too far to be seen one by one."""

    veil_light: Colour
    light: Colour
    """Of one drop or flake."""

    slant_deg: float
    """Most that it leans to one side."""

    scatter_deg: float
    """Most that one streak differs from the others."""

    layers: tuple[Layer, ...]


RAIN = Precipitation(
    daylight=(0.50, 0.65),
    veil=0.12,
    veil_light=(0.30, 0.32, 0.35),
    light=(0.62, 0.66, 0.72),  # a drop shows the sky, turned upside down
    slant_deg=25.0,
    scatter_deg=3.0,
    layers=(
        Layer(count=600, length=9, thickness=1, blur=0.6, opacity=0.40),
        Layer(count=180, length=24, thickness=1, blur=0.7, opacity=0.60),
        Layer(count=30, length=62, thickness=2, blur=1.4, opacity=0.50),
    ),
)
SNOW = Precipitation(
    daylight=(0.95, 1.15),  # of a bright sky, which falling snow scatters
    veil=0.18,
    veil_light=(0.60, 0.62, 0.65),
    light=(0.85, 0.87, 0.90),
    slant_deg=40.0,
    scatter_deg=20.0,
    layers=(
        Layer(count=900, length=2, thickness=1, blur=0.6, opacity=0.85),
        Layer(count=240, length=3, thickness=3, blur=0.9, opacity=0.85),
        Layer(count=36, length=7, thickness=8, blur=2.4, opacity=0.70),
    ),
)


def fog(light: Light, rng: np.random.Generator) -> None:
    """Blend the scene with scattered light by Koschmieder's law: I t + A (1 - t), t = exp(-depth).

    The camera looks down at a slant, so the top of an image lies behind more fog; density varies
    smoothly over the ground.
    """
    depth = rng.uniform(*FOG_DEPTH)
    coarse, fine = (rng.random((cells, cells)) for cells in (FOG_CELLS, 2 * FOG_CELLS))
    double = cv2.resize(coarse, fine.shape, interpolation=cv2.INTER_CUBIC)
    patches = np.clip(fitted((2 * double + fine) / 3, light), 0, 1)
    density = 1 + FOG_PATCHINESS * (2 * patches - 1)
    slant = np.linspace(1 + FOG_SLANT, 1 - FOG_SLANT, len(light), dtype=np.float32)
    through = np.exp(-np.float32(depth) * density * slant[:, None])
    cover(light, 1 - through, colour=FOG_LIGHT)


def fall(light: Light, rng: np.random.Generator, *, what: Precipitation) -> None:
    """Dim the day or light it up, veil it, and lay what falls at three distances over it."""
    daylight = rng.uniform(*what.daylight)
    scale(light, daylight * (1 - what.veil), plus=np.multiply(what.veil, what.veil_light))
    slant_deg = rng.uniform(-what.slant_deg, what.slant_deg)
    covered = np.zeros((CANVAS, CANVAS), dtype=np.uint8)
    for layer in what.layers:
        angle = np.deg2rad(slant_deg + what.scatter_deg * rng.uniform(-1, 1, layer.count))
        length = layer.length * rng.uniform(0.6, 1.4, layer.count)
        middle = rng.uniform(-layer.length, CANVAS + layer.length, (layer.count, 2))
        half = 0.5 * length[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        ends = np.rint(np.stack([middle - half, middle + half], axis=1) * 2**SUBPIXEL_BITS)
        drawn = np.zeros((CANVAS, CANVAS), dtype=np.uint8)  # lines with round ends
        lines = list(ends.astype(np.int32))
        cv2.polylines(drawn, lines, False, 255, layer.thickness, cv2.LINE_AA, SUBPIXEL_BITS)
        width = 2 * math.ceil(BLUR_REACH * layer.blur) + 1
        soft = cv2.GaussianBlur(drawn, (width, width), layer.blur)
        cv2.addWeighted(covered, 1.0, soft, layer.opacity, 0.0, dst=covered)
    cover(light, fitted(covered, light) / np.float32(255), colour=what.light)


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
    scale(light, np.multiply(dusk, DUSK_COLOUR))
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
    right, down = length * math.cos(direction), length * math.sin(direction)
    rounds = max(1, math.ceil(math.log2(max(2.0, math.hypot(right, down)))))
    moved = np.empty_like(light)
    for turn in range(1, rounds + 1):  # each doubles the positions that are averaged
        step = np.array([[1.0, 0.0, right / 2**turn], [0.0, 1.0, down / 2**turn]])
        cv2.addWeighted(light, 0.5, _moved(light, step, into=moved), 0.5, 0.0, dst=light)


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


def _moved(light: Light, matrix: npt.NDArray[np.float64], into: Light | None = None) -> Light:
    """Return the image moved; what comes in from outside mirrors what is inside."""
    size, edge = (light.shape[1], light.shape[0]), cv2.BORDER_REFLECT_101
    moved = cv2.warpAffine(light, matrix, size, into, flags=cv2.INTER_LINEAR, borderMode=edge)
    return np.asarray(moved, dtype=np.float32)
