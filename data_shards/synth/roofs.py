"""Roofs: pitched ones of tile or metal, and flat ones with a parapet and what stands on them."""

import numpy as np

from data_shards.synth.canvas import Canvas
from data_shards.synth.grid import Floats, Rect, Window
from data_shards.synth.materials import Colour, Material, Surface, blend, vary


def pitched_roof(
    canvas: Canvas,
    wing: Rect,
    window: Window,
    rng: np.random.Generator,
    top_m: float,
    material: Material,
    colour: Colour,
) -> None:
    """Raise a gable, or a hip where both ends slope too."""
    cover = window.cover(wing.half_u_m, wing.half_v_m, cell_m=canvas.grid.cell_m)
    slope = float(rng.uniform(0.35, 0.7)) if material is Material.TILE_ROOF else 0.16
    from_u: Floats = np.float32(wing.half_u_m) - np.abs(window.u_m)
    from_v: Floats = np.float32(wing.half_v_m) - np.abs(window.v_m)
    if rng.random() < 0.4:
        inward = np.minimum(from_u, from_v)
    else:
        inward = from_v if wing.half_u_m >= wing.half_v_m else from_u
    across_u = wing.half_u_m >= wing.half_v_m
    surface = Surface(
        material=material,
        colour=colour,
        stripe_m=1.4 if material is Material.METAL_ROOF else 0.9,
        stripe_rad=wing.angle_rad + (0.0 if across_u else 0.5 * float(np.pi)),
        stripe_strength=0.06,
    )
    number = canvas.table.add(surface)
    tops_m = (top_m + slope * np.maximum(inward, 0)).astype(np.float32)
    canvas.raise_to(window, cover, tops_m, number)


def flat_roof(
    canvas: Canvas,
    wing: Rect,
    window: Window,
    rng: np.random.Generator,
    *,
    top_m: float,
    colour: Colour,
) -> None:
    """Raise a flat roof with a parapet, and set machines, skylights and panels on it."""
    edge_m = max(0.5, canvas.grid.cell_m)
    inner = window.inside(wing.half_u_m - edge_m, wing.half_v_m - edge_m)
    cover = window.cover(wing.half_u_m, wing.half_v_m, cell_m=canvas.grid.cell_m)
    tops = np.full(inner.shape, top_m, np.float32)
    roof = Surface(material=Material.FLAT_ROOF, colour=vary(colour, rng, spread=0.03))
    parapet = Surface(material=Material.EQUIPMENT, colour=blend(colour, (225, 222, 215), 0.45))
    canvas.raise_to(window, cover * ~inner, tops + np.float32(0.7), canvas.table.add(parapet))
    canvas.raise_to(window, inner, tops, canvas.table.add(roof))
    _equip(canvas, wing, rng, top_m=top_m)


def _equip(canvas: Canvas, wing: Rect, rng: np.random.Generator, *, top_m: float) -> None:
    area_m2 = 4 * wing.half_u_m * wing.half_v_m
    for _ in range(int(rng.poisson(min(area_m2 / 140, 9)))):
        size_u, size_v = rng.uniform(0.8, 2.6, 2)
        _box(canvas, wing, rng, size_u, size_v, top_m + float(rng.uniform(0.6, 2.6)))
    style = float(rng.random())
    if area_m2 > 260 and style < 0.3:
        _rows(canvas, wing, rng, top_m=top_m, colour=vary((58, 66, 88), rng), height_m=0.7)
    elif area_m2 > 260 and style < 0.5:
        _rows(canvas, wing, rng, top_m=top_m, colour=vary((190, 202, 206), rng), height_m=0.9)


def _box(
    canvas: Canvas,
    wing: Rect,
    rng: np.random.Generator,
    half_u_m: float,
    half_v_m: float,
    top_m: float,
) -> None:
    u_m = float(rng.uniform(-0.8, 0.8)) * wing.half_u_m
    v_m = float(rng.uniform(-0.8, 0.8)) * wing.half_v_m
    box = wing.part(u_m, v_m, half_u_m, half_v_m)
    window = canvas.grid.window(box)
    mask = window.inside(half_u_m, half_v_m)
    grey = float(rng.uniform(110, 215))
    number = canvas.table.add(
        Surface(material=Material.EQUIPMENT, colour=(grey, grey, grey * 0.98))
    )
    canvas.raise_to(window, mask, np.full(mask.shape, top_m, np.float32), number)


def _rows(
    canvas: Canvas,
    wing: Rect,
    rng: np.random.Generator,
    *,
    top_m: float,
    colour: Colour,
    height_m: float,
) -> None:
    """Cover part of a roof with rows of panels or skylights."""
    share = float(rng.uniform(0.3, 0.8))
    field = wing.part(
        (1 - share) * wing.half_u_m * float(rng.choice([-1, 1])) * 0.9,
        0,
        share * wing.half_u_m * 0.85,
        wing.half_v_m * 0.75,
    )
    window = canvas.grid.window(field)
    rows = np.mod(window.v_m + field.half_v_m, 3.6) < 2.0
    columns = np.mod(window.u_m + field.half_u_m, 6.0) < 5.2
    mask = window.inside(field.half_u_m, field.half_v_m) & rows & columns
    number = canvas.table.add(Surface(material=Material.EQUIPMENT, colour=colour))
    canvas.raise_to(window, mask, np.full(mask.shape, top_m + height_m, np.float32), number)
