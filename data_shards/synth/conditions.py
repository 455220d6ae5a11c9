"""How the two cameras see a place differently: day, weather, aim and electronics."""

from dataclasses import dataclass

import numpy as np

from data_shards.synth.campus import Campus
from data_shards.synth.dress import Day
from data_shards.synth.light import Sky
from data_shards.synth.materials import SEASONS
from data_shards.synth.render import Haze, Tile
from data_shards.synth.sensor import Sensor

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
