"""The style that the places of one campus share, so that colour alone cannot tell them apart."""

from dataclasses import dataclass, replace

import numpy as np

from data_shards.synth.materials import SEASONS, Colour, Material, hex_colours, vary
from data_shards.synth.noise import stream

PLACES_PER_CAMPUS = 12
LIKENESS = 3.0
"""How closely the land use of a place follows that of its campus."""

FLAT_ROOFS = hex_colours("989692 c4c1ba 7a7876 aaa094 5e5d5f d6d3ce 8a8076")
TILE_ROOFS = hex_colours("925844 7c483a 705e54 5e5858 a06c52 54525a")
METAL_ROOFS = hex_colours("8e969a 687e76 b2b4b6 606e7e 968c80")
WALLS = hex_colours("96604e c4b49c b0aaa4 d0cac0 867060 a49480 787c80")
GRASSES = hex_colours("5c6a40 647048 54623c 6e704a")
SOILS = hex_colours("968064 86705a a48c6e 7c7062")
ASPHALTS = hex_colours("626264 706e6c 545458 7a7672")
PAVINGS = hex_colours("aca498 9e9082 b8b4ac 969492")
CROWNS = hex_colours("40522e 485632 3a4a2e 505a36")
USES = ("built", "houses", "parking", "lawn", "sports", "wood", "pond", "field", "plaza")
USUAL_SHARES = (7.0, 1.5, 1.2, 2.6, 0.7, 1.1, 0.25, 0.35, 0.7)
"""How much of a campus is used so, in the order of `USES`."""

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
        uses=tuple(rng.dirichlet(np.array(USUAL_SHARES) * 1.6).tolist()),
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
