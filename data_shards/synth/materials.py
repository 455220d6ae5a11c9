"""What surfaces are made of: colour, grain, stripes, and what the seasons do to them."""

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from data_shards.synth.grid import Floats, Indices

Colour = tuple[float, float, float]
"""An sRGB colour as a person would pick it from a photograph, 0..255."""


def hex_colours(colours: str) -> tuple[Colour, ...]:
    """Return colours that are written as hexadecimal digits, `98c0ff`."""
    return tuple((red, green, blue) for red, green, blue in map(bytes.fromhex, colours.split()))


class Material(IntEnum):
    """A kind of surface; the kind decides its grain and how it takes the seasons."""

    GRASS = 0
    MEADOW = 1
    SOIL = 2
    ASPHALT = 3
    PAVING = 4
    MARKING = 5
    WATER = 6
    COURT = 7
    TURF = 8
    FLAT_ROOF = 9
    TILE_ROOF = 10
    METAL_ROOF = 11
    EQUIPMENT = 12
    CROWN = 13
    CONIFER = 14
    CAR = 15


GRAIN: dict[Material, Colour] = {
    Material.GRASS: (0.12, 0.20, 0.22),
    Material.MEADOW: (0.18, 0.28, 0.26),
    Material.SOIL: (0.12, 0.16, 0.16),
    Material.ASPHALT: (0.06, 0.12, 0.16),
    Material.PAVING: (0.07, 0.12, 0.14),
    Material.MARKING: (0.10, 0.10, 0.05),
    Material.WATER: (0.02, 0.05, 0.14),
    Material.COURT: (0.03, 0.04, 0.05),
    Material.TURF: (0.05, 0.06, 0.07),
    Material.FLAT_ROOF: (0.05, 0.14, 0.16),
    Material.TILE_ROOF: (0.12, 0.13, 0.10),
    Material.METAL_ROOF: (0.03, 0.05, 0.05),
    Material.EQUIPMENT: (0.08, 0.04, 0.02),
    Material.CROWN: (0.22, 0.20, 0.06),
    Material.CONIFER: (0.20, 0.16, 0.04),
    Material.CAR: (0.05, 0.0, 0.0),
}
"""Relative strength of the grain at one cell, at a few metres and at tens of metres."""

SEASONS: dict[str, dict[Material, Colour]] = {
    "spring": {
        Material.GRASS: (0.98, 1.06, 0.92),
        Material.MEADOW: (1.00, 1.05, 0.90),
        Material.CROWN: (1.12, 1.14, 0.96),
    },
    "summer": {},
    "dry": {
        Material.GRASS: (1.34, 1.12, 0.98),
        Material.MEADOW: (1.32, 1.12, 1.00),
        Material.CROWN: (1.06, 0.98, 0.92),
        Material.SOIL: (1.12, 1.08, 1.02),
    },
    "autumn": {
        Material.GRASS: (1.08, 1.00, 0.88),
        Material.MEADOW: (1.20, 1.02, 0.86),
        Material.CROWN: (1.62, 1.06, 0.72),
        Material.CONIFER: (1.02, 0.98, 0.96),
    },
    "late winter": {
        Material.GRASS: (1.22, 1.06, 1.08),
        Material.MEADOW: (1.26, 1.10, 1.14),
        Material.CROWN: (1.34, 1.12, 1.36),
        Material.SOIL: (0.84, 0.84, 0.86),
    },
}
"""Factors on the colour of a material; what is not named stays as it is."""

VEGETATION = (Material.GRASS, Material.MEADOW, Material.CROWN, Material.CONIFER)


@dataclass(frozen=True, kw_only=True)
class Surface:
    """One painted thing: a lawn, a roof, a lane, the crown of a tree."""

    material: Material
    colour: Colour
    trees_per_hectare: float = 0.0
    stripe_m: float = 0.0
    """Width of one period of its stripes (mowing, seams, furrows); 0 for none."""

    stripe_rad: float = 0.0
    stripe_strength: float = 0.0


@dataclass
class SurfaceTable:
    """All surfaces of a scene by number, as columns that a raster of numbers looks up."""

    surfaces: list[Surface] = field(default_factory=list)

    def add(self, surface: Surface) -> int:
        self.surfaces.append(surface)
        return len(self.surfaces) - 1

    def colours(self) -> Floats:
        return np.array([surface.colour for surface in self.surfaces], np.float32)

    def materials(self) -> Indices:
        return np.array([int(surface.material) for surface in self.surfaces], np.int64)

    def trees_per_hectare(self) -> Floats:
        return np.array([surface.trees_per_hectare for surface in self.surfaces], np.float32)

    def stripes(self) -> Floats:
        """Period, direction and strength of the stripes of every surface, (surfaces, 3)."""
        rows = [(s.stripe_m, s.stripe_rad, s.stripe_strength) for s in self.surfaces]
        return np.array(rows, np.float32)


def season_factors(season: str) -> Floats:
    """Return the factor of every material in a season, as an array (materials, 3)."""
    factors = np.ones((len(Material), 3), np.float32)
    for material, factor in SEASONS[season].items():
        factors[material] = factor
    return factors


def vary(colour: Colour, rng: np.random.Generator, *, spread: float = 0.06) -> Colour:
    """Return a colour a little lighter, darker or warmer than the one given."""
    light = 1 + rng.normal(0, spread)
    warm = rng.normal(0, spread / 3)
    red, green, blue = colour
    return red * (light + warm), green * light, blue * (light - warm)


def blend(colour: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (a + (b - a) * share for a, b in zip(colour, other, strict=True))
    return red, green, blue


def to_linear(colour: Floats) -> Floats:
    """Turn sRGB 0..255 into light that adds up."""
    return (np.maximum(colour, 0) * np.float32(1 / 255)) ** np.float32(2.2)
