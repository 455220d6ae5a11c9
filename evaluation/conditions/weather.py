"""Fog, rain and snow between a drone and the ground."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from evaluation.conditions.light import Colour, Field, Light, cover, fitted, scale, smooth_field

FOG_LIGHT: Colour = (0.66, 0.69, 0.72)
"""What fog scatters towards the camera where nothing shines through: an overcast sky."""

FOG_DEPTH = (0.55, 0.80)
"""Optical depth to the middle of the image: half of the scene's light is lost."""

FOG_SLANT = 0.25
"""How much farther the top of the image is than its middle, and how much nearer its bottom."""

FOG_PATCHINESS = 0.45
"""How much the density varies around its mean."""

FOG_CELLS = 3

RAIN_DAYLIGHT = (0.50, 0.65)
"""Light under rain clouds, as a part of that of the clear day."""

RAIN_VEIL = 0.12
"""Part of the scene hidden behind drops too far to be seen one by one."""

RAIN_VEIL_LIGHT: Colour = (0.30, 0.32, 0.35)
DROP_LIGHT: Colour = (0.62, 0.66, 0.72)
"""A drop shows the sky, turned upside down."""

RAIN_SLANT_DEG = 25.0
"""Most that rain leans to one side."""

RAIN_SCATTER_DEG = 3.0
"""Most that one streak differs from the others."""

SNOW_DAYLIGHT = (0.95, 1.15)
"""Light of a bright sky that falling snow scatters: about as much as on the clear day."""

SNOW_VEIL = 0.18
SNOW_VEIL_LIGHT: Colour = (0.60, 0.62, 0.65)
FLAKE_LIGHT: Colour = (0.85, 0.87, 0.90)
SNOW_SLANT_DEG = 40.0
SNOW_SCATTER_DEG = 20.0

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


RAIN_LAYERS = (
    Layer(count=600, length=9, thickness=1, blur=0.6, opacity=0.40),
    Layer(count=180, length=24, thickness=1, blur=0.7, opacity=0.60),
    Layer(count=30, length=62, thickness=2, blur=1.4, opacity=0.50),
)
SNOW_LAYERS = (
    Layer(count=900, length=2, thickness=1, blur=0.6, opacity=0.85),
    Layer(count=240, length=3, thickness=3, blur=0.9, opacity=0.85),
    Layer(count=36, length=7, thickness=8, blur=2.4, opacity=0.70),
)


def fog(light: Light, rng: np.random.Generator) -> None:
    """Blend the scene with scattered light by Koschmieder's law: I t + A (1 - t), t = exp(-depth).

    The camera looks down at a slant, so the top of an image lies behind more fog; density varies
    smoothly over the ground.
    """
    depth = rng.uniform(*FOG_DEPTH)
    density = 1 + FOG_PATCHINESS * (2 * smooth_field(rng, light, cells=FOG_CELLS) - 1)
    slant = np.linspace(1 + FOG_SLANT, 1 - FOG_SLANT, len(light), dtype=np.float32)
    through = np.exp(-np.float32(depth) * density * slant[:, None])
    cover(light, 1 - through, colour=FOG_LIGHT)


def rain(light: Light, rng: np.random.Generator) -> None:
    """Darken the day, veil it a little, and lay streaks of drops at three distances over it."""
    daylight = rng.uniform(*RAIN_DAYLIGHT)
    veil(light, daylight, part=RAIN_VEIL, colour=RAIN_VEIL_LIGHT)
    slant_deg = rng.uniform(-RAIN_SLANT_DEG, RAIN_SLANT_DEG)
    drops = falling(rng, light, RAIN_LAYERS, slant_deg=slant_deg, scatter_deg=RAIN_SCATTER_DEG)
    cover(light, drops, colour=DROP_LIGHT)


def snow(light: Light, rng: np.random.Generator) -> None:
    """Veil a bright day, and lay flakes at three distances over it, the nearest out of focus."""
    daylight = rng.uniform(*SNOW_DAYLIGHT)
    veil(light, daylight, part=SNOW_VEIL, colour=SNOW_VEIL_LIGHT)
    slant_deg = rng.uniform(-SNOW_SLANT_DEG, SNOW_SLANT_DEG)
    flakes = falling(rng, light, SNOW_LAYERS, slant_deg=slant_deg, scatter_deg=SNOW_SCATTER_DEG)
    cover(light, flakes, colour=FLAKE_LIGHT)


def veil(light: Light, daylight: float, *, part: float, colour: Colour) -> None:
    """Scale the light of day, and let an even `part` of it be that of a veil."""
    red, green, blue = colour
    scale(light, daylight * (1 - part), plus=(part * red, part * green, part * blue))


def falling(
    rng: np.random.Generator,
    light: Light,
    layers: tuple[Layer, ...],
    *,
    slant_deg: float,
    scatter_deg: float,
) -> Field:
    """Return how much of each pixel is covered by what falls, 0..1."""
    covered = np.zeros((CANVAS, CANVAS), dtype=np.uint8)
    for layer in layers:
        angle = np.deg2rad(slant_deg + scatter_deg * rng.uniform(-1, 1, layer.count))
        length = layer.length * rng.uniform(0.6, 1.4, layer.count)
        middle = rng.uniform(-layer.length, CANVAS + layer.length, (layer.count, 2))
        half = 0.5 * length[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        drawn = _strokes(np.stack([middle - half, middle + half], axis=1), layer.thickness)
        width = 2 * math.ceil(BLUR_REACH * layer.blur) + 1
        soft = cv2.GaussianBlur(drawn, (width, width), layer.blur)
        cv2.addWeighted(covered, 1.0, soft, layer.opacity, 0.0, dst=covered)
    return fitted(covered, light) / np.float32(255)


def _strokes(ends: npt.NDArray[np.float64], thickness: int) -> npt.NDArray[np.uint8]:
    """Draw lines with round ends, given both ends of each [lines, 2, (x, y)]."""
    canvas = np.zeros((CANVAS, CANVAS), dtype=np.uint8)
    points = np.rint(ends * 2**SUBPIXEL_BITS).astype(np.int32)
    cv2.polylines(canvas, list(points), False, 255, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
    return canvas
