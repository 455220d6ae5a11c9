"""The style that the places of one campus share, so that colour alone cannot tell them apart."""

from dataclasses import dataclass, replace

import numpy as np

from data_shards.synth.materials import SEASONS, Colour, Material, vary
from data_shards.synth.noise import stream

PLACES_PER_CAMPUS = 12
LIKENESS = 3.0
"""How closely the land use of a place follows that of its campus."""

FLAT_ROOFS: tuple[Colour, ...] = (
    (152, 150, 146),
    (196, 193, 186),
    (122, 120, 118),
    (170, 160, 148),
    (94, 93, 95),
    (214, 211, 206),
    (138, 128, 118),
)
TILE_ROOFS: tuple[Colour, ...] = (
    (146, 88, 68),
    (124, 72, 58),
    (112, 94, 84),
    (94, 88, 88),
    (160, 108, 82),
    (84, 82, 90),
)
METAL_ROOFS: tuple[Colour, ...] = (
    (142, 150, 154),
    (104, 126, 118),
    (178, 180, 182),
    (96, 110, 126),
    (150, 140, 128),
)
WALLS: tuple[Colour, ...] = (
    (150, 96, 78),
    (196, 180, 156),
    (176, 170, 164),
    (208, 202, 192),
    (134, 112, 96),
    (164, 148, 128),
    (120, 124, 128),
)
GRASSES: tuple[Colour, ...] = ((92, 106, 64), (100, 112, 72), (84, 98, 60), (110, 112, 74))
SOILS: tuple[Colour, ...] = ((150, 128, 100), (134, 112, 90), (164, 140, 110), (124, 112, 98))
ASPHALTS: tuple[Colour, ...] = ((98, 98, 100), (112, 110, 108), (84, 84, 88), (122, 118, 114))
PAVINGS: tuple[Colour, ...] = ((172, 164, 152), (158, 144, 130), (184, 180, 172), (150, 148, 146))
CROWNS: tuple[Colour, ...] = ((64, 82, 46), (72, 86, 50), (58, 74, 46), (80, 90, 54))
USES = ("built", "houses", "parking", "lawn", "sports", "wood", "pond", "field", "plaza")

SEASONS_LATER = (0, 0, 0, 0, 0, 1)
"""How many seasons after the drone the satellite passed, each as likely as another."""


@dataclass(frozen=True, kw_only=True)
class Campus:
    """Palette, habits and climate of about a dozen neighbouring places."""

    angle_rad: float
    block_m: float
    street_m: float
    relief_m: float
    roof_material: Material
    roofs: tuple[Colour, ...]
    second_material: Material
    second_roofs: tuple[Colour, ...]
    second_share: float
    walls: tuple[Colour, ...]
    storeys: tuple[int, int]
    storey_m: float
    bay_m: float
    window_width: float
    depth_m: float
    grass: Colour
    soil: Colour
    asphalt: Colour
    paving: Colour
    crown: Colour
    conifer_share: float
    tree_factor: float
    street_tree_spacing_m: float
    river_chance: float
    uses: tuple[float, ...]
    drone_season: str
    satellite_season: str


def draw_campus(seed: int, split: str, number: int) -> Campus:
    """Draw the style of one campus; it depends on these three and on nothing else."""
    rng = stream(seed, split, "campus", number)
    materials = (Material.FLAT_ROOF, Material.TILE_ROOF, Material.METAL_ROOF)
    first, second = rng.choice(3, 2, replace=False, p=(0.5, 0.33, 0.17))
    low = int(rng.integers(1, 4))
    seasons, season = list(SEASONS), int(rng.integers(len(SEASONS)))
    return Campus(
        angle_rad=float(np.deg2rad(rng.uniform(-45, 45))),
        block_m=float(rng.uniform(70, 115)),
        street_m=float(rng.uniform(6.5, 9.5)),
        relief_m=float(rng.uniform(0.5, 5.0)),
        roof_material=materials[first],
        roofs=_palette(rng, _roof_colours(materials[first]), 3),
        second_material=materials[second],
        second_roofs=_palette(rng, _roof_colours(materials[second]), 2),
        second_share=float(rng.uniform(0.1, 0.35)),
        walls=_palette(rng, WALLS, 2),
        storeys=(low, low + int(rng.integers(2, 6))),
        storey_m=float(rng.uniform(3.2, 4.2)),
        bay_m=float(rng.uniform(2.6, 4.6)),
        window_width=float(rng.choice([0.45, 0.55, 0.65, 1.0])),
        depth_m=float(rng.uniform(13, 19)),
        grass=_palette(rng, GRASSES, 1)[0],
        soil=_palette(rng, SOILS, 1)[0],
        asphalt=_palette(rng, ASPHALTS, 1)[0],
        paving=_palette(rng, PAVINGS, 1)[0],
        crown=_palette(rng, CROWNS, 1)[0],
        conifer_share=float(rng.beta(0.7, 2.0)),
        tree_factor=float(rng.uniform(0.7, 2.0)),
        street_tree_spacing_m=float(rng.uniform(8, 16)),
        river_chance=float(rng.choice([0.0, 0.0, 0.1, 0.3])),
        uses=_use_shares(rng),
        drone_season=seasons[season],
        satellite_season=seasons[(season + int(rng.choice(SEASONS_LATER))) % len(seasons)],
    )


def lean(campus: Campus, rng: np.random.Generator) -> Campus:
    """Return the style of one place: its campus's, with some of its habits stronger than others.

    No colour is new, but a place may have more of one roof, more trees or lower houses.
    """
    low, high = campus.storeys
    lower = int(rng.integers(-1, 2))
    return replace(
        campus,
        roofs=tuple(campus.roofs[i] for i in rng.integers(0, len(campus.roofs), 3)),
        second_share=float(np.clip(campus.second_share * rng.lognormal(0, 0.7), 0, 0.6)),
        storeys=(max(low + lower, 1), max(high + lower, 2)),
        block_m=campus.block_m * float(rng.uniform(0.85, 1.2)),
        tree_factor=campus.tree_factor * float(rng.lognormal(0, 0.45)),
        uses=tuple(rng.dirichlet(np.array(campus.uses) * LIKENESS + 0.02)),
    )


def _roof_colours(material: Material) -> tuple[Colour, ...]:
    if material is Material.FLAT_ROOF:
        return FLAT_ROOFS
    return TILE_ROOFS if material is Material.TILE_ROOF else METAL_ROOFS


def _palette(
    rng: np.random.Generator, colours: tuple[Colour, ...], count: int
) -> tuple[Colour, ...]:
    """Choose some colours and shift each a little."""
    chosen = rng.choice(len(colours), count, replace=False)
    return tuple(vary(colours[i], rng) for i in chosen)


def _use_shares(rng: np.random.Generator) -> tuple[float, ...]:
    """Draw how the land of a campus is used, in the order of `USES`."""
    typical = np.array([7.0, 1.5, 1.2, 2.6, 0.7, 1.1, 0.25, 0.35, 0.7])
    shares = rng.dirichlet(typical * 1.6)
    return tuple(float(share) for share in shares)
