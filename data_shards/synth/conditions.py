"""How the two cameras see a place differently: day, weather, aim and electronics."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from data_shards.synth.campus import Campus
from data_shards.synth.dress import Day
from data_shards.synth.grid import Floats
from data_shards.synth.light import Sky
from data_shards.synth.materials import SEASONS
from data_shards.synth.render import Haze, Tile


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """What a camera does to the light that reaches it."""

    key: float
    """Brightness that the average of a picture is exposed to."""

    cast: tuple[float, float, float]
    contrast: float
    saturation: float
    blur_px: float
    vignette: float
    noise: float
    """Standard deviation of the noise in steps of 1/255."""

    jpeg_quality: int


def develop(light: Floats, rng: np.random.Generator, *, sensor: Sensor) -> bytes:
    """Expose, develop and compress one photograph from linear light, (3, size, size)."""
    if sensor.blur_px > 0:
        blur_px = (0, sensor.blur_px, sensor.blur_px)
        light = ndimage.gaussian_filter(light, blur_px, truncate=2.5)
    exposed = light * np.float32(sensor.key / max(float(light.mean()), 1e-6))
    exposed *= np.array(sensor.cast, np.float32)[:, None, None]
    axis = np.linspace(-1, 1, light.shape[-1], dtype=np.float32)
    radius2 = (axis * axis)[:, None] + (axis * axis)[None, :]
    exposed *= 1 - np.float32(0.5 * sensor.vignette) * radius2
    # The display curve, with a soft shoulder for what is brighter than white.
    soft = exposed * (1 + exposed * np.float32(0.18)) / (1 + exposed * np.float32(0.55))
    shown = np.maximum(soft, 0) ** np.float32(1 / 2.2) * np.float32(1.08)
    shown = (shown - np.float32(0.46)) * np.float32(sensor.contrast) + np.float32(0.46)
    grey = (shown[0] + shown[1] + shown[2]) * np.float32(1 / 3)
    shown = grey + (shown - grey) * np.float32(sensor.saturation)
    grain = rng.standard_normal(light.shape, np.float32) * np.float32(sensor.noise / 255)
    levels = np.clip((shown + grain) * 255 + np.float32(0.5), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0)))
    picture.save(file, "JPEG", quality=sensor.jpeg_quality)
    return file.getvalue()


FOOTPRINT_M = 160.0
"""Side of the satellite's tile."""

REPAINTED = 0.05
FELLED = 0.06
OWN_SEASON = 0.03
"""Share of places that were photographed in another season than their campus."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Everything about a photograph but its place and its pose."""

    day: Day
    haze: Haze
    sensor: Sensor


def drone_conditions(rng: np.random.Generator, *, campus: Campus) -> Conditions:
    """Draw the day on which the drone flew around a place."""
    sky = _sky(rng, azimuth_deg=(80, 290), elevation_deg=(26, 66))
    season = _season(rng, campus.drone_season)
    day = Day(season=season, sky=sky, repainted=0.0, felled=0.0)
    haze = Haze(per_km=float(rng.uniform(0.1, 0.6)), colour=(0.40, 0.45, 0.52))
    sensor = Sensor(
        key=float(rng.uniform(0.17, 0.26)),
        cast=_cast(rng, spread=0.035),
        contrast=float(rng.uniform(0.88, 1.08)),
        saturation=float(rng.uniform(0.75, 1.15)),
        blur_px=float(rng.uniform(0.3, 0.7)),
        vignette=float(rng.uniform(0.03, 0.16)),
        noise=float(rng.uniform(1.0, 3.0)),
        jpeg_quality=int(rng.integers(85, 93)),
    )
    return Conditions(day=day, haze=haze, sensor=sensor)


def satellite_conditions(rng: np.random.Generator, *, campus: Campus) -> Conditions:
    """Draw the morning on which the satellite passed, in another season and year."""
    sky = _sky(rng, azimuth_deg=(110, 190), elevation_deg=(35, 62))
    season = _season(rng, campus.satellite_season)
    day = Day(season=season, sky=sky, repainted=REPAINTED, felled=FELLED)
    haze = Haze(per_km=float(rng.uniform(0.04, 0.24)), colour=(0.30, 0.36, 0.44))
    sensor = Sensor(
        key=float(rng.uniform(0.14, 0.24)),
        cast=_cast(rng, spread=0.045),
        contrast=float(rng.uniform(0.85, 1.15)),
        saturation=float(rng.uniform(0.55, 1.0)),
        blur_px=float(rng.uniform(0.4, 0.8)),
        vignette=0.0,
        noise=float(rng.uniform(0.8, 2.5)),
        jpeg_quality=int(rng.integers(86, 94)),
    )
    return Conditions(day=day, haze=haze, sensor=sensor)


def draw_tile(rng: np.random.Generator) -> Tile:
    """Draw where a satellite tile was cut: a little off the place, turned and scaled."""
    shift_m = np.clip(rng.normal(0, 2.0, 2), -5, 5)
    return Tile(
        side_m=FOOTPRINT_M * float(rng.uniform(0.94, 1.07)),
        x_m=float(shift_m[0]),
        y_m=float(shift_m[1]),
        turn_deg=float(np.clip(rng.normal(0, 1.5), -4, 4)),
    )


def _season(rng: np.random.Generator, campus_season: str) -> str:
    if rng.random() >= OWN_SEASON:
        return campus_season
    return str(rng.choice(list(SEASONS)))


def _sky(
    rng: np.random.Generator,
    *,
    azimuth_deg: tuple[float, float],
    elevation_deg: tuple[float, float],
) -> Sky:
    """Draw a sun; the lower it stands, the warmer its light."""
    elevation = float(rng.uniform(*elevation_deg))
    warmth = (66 - elevation) / 66
    clear = float(rng.uniform(0.75, 1.1))
    sun = (1.30 * clear, (1.24 - 0.10 * warmth) * clear, (1.12 - 0.30 * warmth) * clear)
    shade = float(rng.uniform(0.26, 0.42))
    return Sky(
        azimuth_deg=float(rng.uniform(*azimuth_deg)),
        elevation_deg=elevation,
        sun=sun,
        ambient=(0.88 * shade, 1.0 * shade, 1.22 * shade),
    )


def _cast(rng: np.random.Generator, *, spread: float) -> tuple[float, float, float]:
    red, green, blue = rng.normal(1, spread, 3)
    return float(red), float(green) * 0.5 + 0.5, float(blue)
