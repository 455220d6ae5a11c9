"""Lots without buildings: lawns with paths, car parks, pitches, ponds, woods, fields, plazas."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from data_shards.synth.campus import Campus
from data_shards.synth.canvas import Canvas
from data_shards.synth.grid import Rect
from data_shards.synth.materials import Colour, Material, Surface, blend, hex_colours, vary

WHITE: Colour = (214, 214, 208)
COURT_COLOURS = hex_colours("4e705c 466288 965442 707670")


def lay_lawn(canvas: Canvas, lot: Rect, rng: np.random.Generator, *, campus: Campus) -> None:
    """Sow a lawn, mown or not, and tread some paths across it."""
    mown = rng.random() < 0.5
    lawn = Surface(
        material=Material.GRASS,
        colour=vary(campus.grass, rng),
        trees_per_hectare=float(rng.uniform(5, 55)) * campus.tree_factor,
        stripe_m=float(rng.uniform(3, 6)) if mown else 0.0,
        stripe_rad=lot.angle_rad,
        stripe_strength=0.05,
    )
    canvas.fill(lot, lawn)
    paving = Surface(material=Material.PAVING, colour=vary(campus.paving, rng))
    for _ in range(int(rng.choice([0, 0, 1, 2, 3]))):
        ends = rng.uniform(-1, 1, (2, 2)) * (lot.half_u_m, lot.half_v_m)
        side = int(rng.integers(2))
        ends[0, side] = -(lot.half_u_m, lot.half_v_m)[side]
        ends[1, side] = (lot.half_u_m, lot.half_v_m)[side]
        (u0, v0), (u1, v1) = ends
        half_m, wide_m = 0.5 * float(np.hypot(u1 - u0, v1 - v0)), max(0.9, 0.6 * canvas.grid.cell_m)
        path = replace(
            lot.part(0.5 * (u0 + u1), 0.5 * (v0 + v1), half_m, wide_m),
            angle_rad=lot.angle_rad + float(np.arctan2(v1 - v0, u1 - u0)),
        )
        canvas.fill(path, paving)


def lay_parking(canvas: Canvas, lot: Rect, rng: np.random.Generator, *, campus: Campus) -> None:
    """Asphalt a lot, mark its stalls in double rows, and note where cars may stand."""
    window = canvas.grid.window(lot)
    inside = window.inside(lot.half_u_m, lot.half_v_m)
    colour = vary(campus.asphalt, rng, spread=0.1)
    canvas.paint(window, inside, Surface(material=Material.ASPHALT, colour=colour))
    inner = window.inside(lot.half_u_m - 1.5, lot.half_v_m - 1.5)
    shifted = window.v_m + lot.half_v_m - 1.5
    in_row = np.mod(shifted, 16.4) < 10.2
    line = np.mod(window.u_m, 2.6) < max(0.2, 0.35 * canvas.grid.cell_m)
    cover = min(1.0, 0.25 / canvas.grid.cell_m)
    paint = Surface(material=Material.MARKING, colour=blend(colour, WHITE, 0.9 * cover))
    canvas.paint(window, inner & in_row & line, paint)
    if rng.random() >= 0.5:  # green islands at the row ends
        grass = Surface(material=Material.GRASS, colour=campus.grass, trees_per_hectare=160)
        for row_m in np.arange(6.6, 2 * lot.half_v_m - 4, 16.4):
            for side in (-1, 1):
                bed = lot.part(side * (lot.half_u_m - 3), row_m - lot.half_v_m, 1.6, 4.6)
                canvas.fill(bed, grass)
    chance = float(rng.uniform(0.1, 0.85))
    heading_rad = lot.angle_rad + 0.5 * float(np.pi)
    for row_m in np.arange(1.5, 2 * lot.half_v_m - 6.5, 16.4):
        for v_m in (row_m + 2.5, row_m + 7.6):
            if v_m < 2 * lot.half_v_m - 2.5:
                u_m = np.arange(-lot.half_u_m + 3, lot.half_u_m - 3, 2.6)
                u_m = np.floor(u_m / 2.6) * 2.6 + 1.3
                x_m, y_m = lot.at(u_m, np.full(u_m.shape, v_m - lot.half_v_m))
                canvas.mark_stalls(x_m, y_m, angle_rad=heading_rad, chance=chance)


def lay_sports(canvas: Canvas, lot: Rect, rng: np.random.Generator, *, campus: Campus) -> None:
    """Lay a football pitch with its track where there is room, courts otherwise."""
    lay_lawn(canvas, lot, rng, campus=campus)
    long_m, short_m = max(lot.half_u_m, lot.half_v_m), min(lot.half_u_m, lot.half_v_m)
    if long_m > 44 and short_m > 27:
        quarter = 0.0 if lot.half_u_m >= lot.half_v_m else 0.5 * float(np.pi)
        pitch = replace(
            lot,
            half_u_m=min(long_m - 5, 52),
            half_v_m=min(short_m - 5, 34),
            angle_rad=lot.angle_rad + quarter,
        )
        _stadium(canvas, pitch, rng)
        return
    colour = vary(COURT_COLOURS[int(rng.integers(len(COURT_COLOURS)))], rng)
    for u_m in np.arange(-lot.half_u_m + 10, lot.half_u_m - 9, 19.0):
        for v_m in np.arange(-lot.half_v_m + 18, lot.half_v_m - 17, 37.0):
            if rng.random() < 0.85:
                court = lot.part(u_m, v_m, 8.5, 17)
                canvas.fill(court, Surface(material=Material.COURT, colour=colour))
                _outline(canvas, court.part(0, 0, 5.5, 12), colour)


def _stadium(canvas: Canvas, pitch: Rect, rng: np.random.Generator) -> None:
    window = canvas.grid.window(pitch, margin_m=2.0)
    straight_m = pitch.half_u_m - pitch.half_v_m
    beyond_m = np.maximum(np.abs(window.u_m) - straight_m, 0)
    radius_m = np.hypot(beyond_m, window.v_m)
    lanes_m = 7.0 if rng.random() < 0.7 else 0.0
    if lanes_m:
        track = Surface(material=Material.COURT, colour=vary((148, 80, 64), rng))
        canvas.paint(window, radius_m < pitch.half_v_m, track)
    turf = Surface(
        material=Material.TURF,
        colour=vary((82, 116, 62), rng),
        stripe_m=11.0,
        stripe_rad=pitch.angle_rad,
        stripe_strength=0.09,
    )
    canvas.paint(window, radius_m < pitch.half_v_m - lanes_m, turf)
    half_u_m, half_v_m = straight_m + 0.25 * pitch.half_v_m, 0.72 * (pitch.half_v_m - lanes_m)
    _outline(canvas, pitch.part(0, 0, half_u_m, half_v_m), (82, 116, 62))


def _outline(canvas: Canvas, rect: Rect, under: Colour) -> None:
    """Draw the outline and the halfway line of a pitch."""
    width_m = max(0.25, canvas.grid.cell_m)
    window = canvas.grid.window(rect)
    border = window.inside(rect.half_u_m, rect.half_v_m)
    border &= ~window.inside(rect.half_u_m - width_m, rect.half_v_m - width_m)
    halfway = window.inside(0.5 * width_m, rect.half_v_m)
    cover = min(1.0, 0.2 / canvas.grid.cell_m)
    line = Surface(material=Material.MARKING, colour=blend(under, WHITE, 0.9 * cover))
    canvas.paint(window, border | halfway, line)


def lay_pond(canvas: Canvas, lot: Rect, rng: np.random.Generator, *, campus: Campus) -> None:
    """Dig a pond of wavy outline into a lawn."""
    lay_lawn(canvas, lot, rng, campus=campus)
    window = canvas.grid.window(lot)
    angle = np.arctan2(window.v_m / lot.half_v_m, window.u_m / lot.half_u_m)
    radius = np.hypot(window.u_m / lot.half_u_m, window.v_m / lot.half_v_m)
    shore = np.full(radius.shape, 0.62, np.float32)
    for lobes in (2, 3, 5):
        shore += np.float32(rng.normal(0, 0.07)) * np.sin(lobes * angle + rng.uniform(0, 6.28))
    bank = Surface(material=Material.SOIL, colour=(140, 132, 112), trees_per_hectare=20)
    canvas.paint(window, radius < shore + 0.05, bank)
    water = Surface(material=Material.WATER, colour=vary((60, 76, 70), rng, spread=0.12))
    canvas.paint(window, radius < shore, water)
    canvas.height_m[window.box][radius < shore] -= 0.8


def lay_wood(canvas: Canvas, lot: Rect, rng: np.random.Generator, *, campus: Campus) -> None:
    """Leave a lot to trees."""
    colour = blend(campus.grass, campus.soil, 0.45)
    dense = float(rng.uniform(150, 330))
    wood = Surface(material=Material.MEADOW, colour=colour, trees_per_hectare=dense)
    canvas.fill(lot, wood)


def lay_field(canvas: Canvas, lot: Rect, rng: np.random.Generator, *, campus: Campus) -> None:
    """Plough a lot in furrows, or leave it as a building site."""
    colour = blend(vary(campus.soil, rng, spread=0.12), campus.grass, float(rng.uniform(0, 0.7)))
    furrowed = Surface(
        material=Material.SOIL,
        colour=colour,
        stripe_m=float(rng.uniform(2.0, 4.0)),
        stripe_rad=lot.angle_rad + float(rng.choice([0.0, 0.5])) * float(np.pi),
        stripe_strength=0.10,
    )
    canvas.fill(lot, furrowed)


def lay_plaza(canvas: Canvas, lot: Rect, rng: np.random.Generator, *, campus: Campus) -> None:
    """Pave a lot, with beds of grass in a regular pattern."""
    window = canvas.grid.window(lot)
    paving = Surface(
        material=Material.PAVING,
        colour=vary(campus.paving, rng, spread=0.1),
        trees_per_hectare=12 * campus.tree_factor,
        stripe_m=float(rng.uniform(5, 9)),
        stripe_rad=lot.angle_rad,
        stripe_strength=0.05,
    )
    inside = window.inside(lot.half_u_m, lot.half_v_m)
    canvas.paint(window, inside, paving)
    pitch_m, bed_m = float(rng.uniform(11, 20)), float(rng.uniform(4, 8))
    beds = (np.mod(window.u_m, pitch_m) < bed_m) & (np.mod(window.v_m, 1.4 * pitch_m) < 1.2 * bed_m)
    grass = Surface(material=Material.GRASS, colour=vary(campus.grass, rng), trees_per_hectare=70)
    canvas.paint(window, window.inside(lot.half_u_m - 3, lot.half_v_m - 3) & beds, grass)


Layer = Callable[..., None]

GROUNDS: dict[str, Layer] = {
    "parking": lay_parking,
    "lawn": lay_lawn,
    "sports": lay_sports,
    "wood": lay_wood,
    "pond": lay_pond,
    "field": lay_field,
    "plaza": lay_plaza,
    "built": lay_lawn,
    "houses": lay_lawn,
}
"""What is laid on a lot of each use, before any building is raised on it."""
