"""Buildings of the campus's style, raised on lots: halls of several wings, and small houses."""

from collections.abc import Callable

import numpy as np

from data_shards.synth.campus import Campus
from data_shards.synth.canvas import Canvas, Facade
from data_shards.synth.grid import Floats, Rect, Window
from data_shards.synth.materials import Colour, Material, Surface, blend, vary

Wings = list[tuple[Rect, float]]
"""Rectangles, and the share of the building's height that each has."""

Shape = Callable[[Rect, np.random.Generator, float], Wings]


def block_shape(site: Rect, rng: np.random.Generator, depth_m: float) -> Wings:
    return [(site, 1.0)]


def bar_shape(site: Rect, rng: np.random.Generator, depth_m: float) -> Wings:
    """One long wing, and sometimes a low annex."""
    half = 0.5 * depth_m
    if site.half_u_m >= site.half_v_m:
        offset = float(rng.uniform(-1, 1)) * max(site.half_v_m - half, 0)
        bar = site.part(0, offset, site.half_u_m, half)
    else:
        offset = float(rng.uniform(-1, 1)) * max(site.half_u_m - half, 0)
        bar = site.part(offset, 0, half, site.half_v_m)
    annex = bar.part(float(rng.uniform(-8, 8)), float(rng.uniform(-8, 8)), 8, 8)
    return [(bar, 1.0), (annex, float(rng.uniform(0.4, 0.8)))]


def ell_shape(site: Rect, rng: np.random.Generator, depth_m: float) -> Wings:
    u_side, v_side = rng.choice([-1, 1], 2)
    return [_edge_u(site, depth_m, v_side), (_edge_v(site, depth_m, u_side)[0], _lower(rng))]


def u_shape(site: Rect, rng: np.random.Generator, depth_m: float) -> Wings:
    v_side = float(rng.choice([-1, 1]))
    arm = _lower(rng)
    arms = [(_edge_v(site, depth_m, side)[0], arm) for side in (-1.0, 1.0)]
    return [_edge_u(site, depth_m, v_side), *arms]


def court_shape(site: Rect, rng: np.random.Generator, depth_m: float) -> Wings:
    low = _lower(rng)
    around = [_edge_v(site, depth_m, -1.0), _edge_v(site, depth_m, 1.0)]
    return [_edge_u(site, depth_m, -1.0), (_edge_u(site, depth_m, 1.0)[0], low), *around]


def tee_shape(site: Rect, rng: np.random.Generator, depth_m: float) -> Wings:
    v_side = float(rng.choice([-1, 1]))
    stem = site.part(float(rng.uniform(-0.5, 0.5)) * site.half_u_m, 0, 0.5 * depth_m, site.half_v_m)
    return [_edge_u(site, depth_m, v_side), (stem, _lower(rng))]


def aitch_shape(site: Rect, rng: np.random.Generator, depth_m: float) -> Wings:
    """Two parallel wings and a link."""
    link = site.part(
        0, float(rng.uniform(-0.3, 0.3)) * site.half_v_m, site.half_u_m, 0.35 * depth_m
    )
    sides = [_edge_v(site, depth_m, -1.0), _edge_v(site, depth_m, 1.0)]
    return [*sides, (link, _lower(rng))]


def steps_shape(site: Rect, rng: np.random.Generator, depth_m: float) -> Wings:
    """A low podium with a tower and a middle part."""
    tower = site.part(
        float(rng.uniform(-0.5, 0.5)) * site.half_u_m,
        float(rng.uniform(-0.5, 0.5)) * site.half_v_m,
        max(0.4 * site.half_u_m, 7.0),
        max(0.4 * site.half_v_m, 7.0),
    )
    middle = site.part(0, 0, 0.75 * site.half_u_m, 0.6 * site.half_v_m)
    return [(site, 0.35), (middle, 0.6), (tower, float(rng.uniform(1.0, 1.7)))]


def choose_shape(
    site: Rect, rng: np.random.Generator, *, depth_m: float, is_landmark: bool
) -> Shape:
    """Choose how wings are laid out; a small site takes a plain block."""
    if min(site.half_u_m, site.half_v_m) < depth_m * 0.85:
        return block_shape
    shapes = (bar_shape, ell_shape, u_shape, court_shape, tee_shape, aitch_shape, steps_shape)
    chances = np.array([2.5, 2.0, 1.5, 1.0, 1.0, 1.0, 1.5])
    if is_landmark:
        chances[0] = 0.5
    return shapes[int(rng.choice(len(shapes), p=chances / chances.sum()))]


def _lower(rng: np.random.Generator) -> float:
    return float(rng.choice([1.0, 1.0, 0.8, 0.6]))


def _edge_u(site: Rect, depth_m: float, side: float) -> tuple[Rect, float]:
    half = 0.5 * depth_m
    return site.part(0, side * (site.half_v_m - half), site.half_u_m, half), 1.0


def _edge_v(site: Rect, depth_m: float, side: float) -> tuple[Rect, float]:
    half = 0.5 * depth_m
    return site.part(side * (site.half_u_m - half), 0, half, site.half_v_m), 1.0


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


def raise_building(
    canvas: Canvas, lot: Rect, rng: np.random.Generator, *, campus: Campus, is_landmark: bool
) -> None:
    """Put one building of the campus's style on a lot, unless something stands there."""
    site = lot.part(
        float(rng.uniform(-0.08, 0.08)) * lot.half_u_m,
        float(rng.uniform(-0.08, 0.08)) * lot.half_v_m,
        lot.half_u_m * float(rng.uniform(0.68, 0.92)),
        lot.half_v_m * float(rng.uniform(0.68, 0.92)),
    )
    if not canvas.is_free(site):
        return
    depth_m = campus.depth_m * float(rng.uniform(0.85, 1.15))
    wings = choose_shape(site, rng, depth_m=depth_m, is_landmark=is_landmark)(site, rng, depth_m)
    low, high = campus.storeys
    storeys = int(rng.integers(low, high + 1 + 2 * is_landmark))
    is_second = bool(rng.random() < campus.second_share)
    material = campus.second_material if is_second else campus.roof_material
    colours = campus.second_roofs if is_second else campus.roofs
    colour = vary(colours[int(rng.integers(len(colours)))], rng, spread=0.04)
    _raise_wings(
        canvas, wings, rng, campus=campus, storeys=storeys, material=material, colour=colour
    )


def raise_houses(canvas: Canvas, lot: Rect, rng: np.random.Generator, *, campus: Campus) -> None:
    """Put small detached houses on a lot, one per garden."""
    across = max(1, int(lot.half_u_m / 9.5))
    deep = max(1, int(lot.half_v_m / 11))
    for i in range(across):
        for j in range(deep):
            u_m = lot.half_u_m * ((2 * i + 1) / across - 1) + float(rng.normal(0, 1.2))
            v_m = lot.half_v_m * ((2 * j + 1) / deep - 1) + float(rng.normal(0, 1.2))
            house = lot.part(u_m, v_m, float(rng.uniform(4.5, 6.5)), float(rng.uniform(3.8, 5.5)))
            if rng.random() < 0.9 and canvas.is_free(house):
                colour = vary(campus.roofs[int(rng.integers(len(campus.roofs)))], rng, spread=0.1)
                wings: Wings = [(house, 1.0)]
                if rng.random() < 0.4:
                    wings.append((house.part(3, 3, 4.0, 3.6), 1.0))
                storeys = int(rng.integers(1, 3))
                _raise_wings(
                    canvas,
                    wings,
                    rng,
                    campus=campus,
                    storeys=storeys,
                    material=Material.TILE_ROOF,
                    colour=colour,
                )


def _raise_wings(
    canvas: Canvas,
    wings: Wings,
    rng: np.random.Generator,
    *,
    campus: Campus,
    storeys: int,
    material: Material,
    colour: Colour,
) -> None:
    """Raise all wings on one level base and give them one façade."""
    main = wings[0][0]
    base_m = float(
        canvas.ground_m.reshape(-1)[canvas.grid.index(np.array(main.x_m), np.array(main.y_m))]
    )
    facade = Facade(
        angle_rad=main.angle_rad,
        base_m=base_m,
        storey_m=campus.storey_m,
        bay_m=campus.bay_m * float(rng.uniform(0.9, 1.1)),
        window_width=campus.window_width,
        window_height=float(rng.uniform(0.42, 0.62)),
        wall=vary(campus.walls[int(rng.integers(len(campus.walls)))], rng),
        glass=vary((66, 76, 86), rng),
    )
    canvas.facades.append(facade)
    number = len(canvas.facades)
    height_m = storeys * campus.storey_m + 0.8
    for wing, share in wings:
        window = canvas.grid.window(wing, margin_m=canvas.grid.cell_m)
        cover = window.cover(wing.half_u_m, wing.half_v_m, cell_m=canvas.grid.cell_m)
        if not cover.any():
            continue
        top_m = base_m + max(height_m * share, campus.storey_m)
        if material is Material.FLAT_ROOF:
            flat_roof(canvas, wing, window, rng, top_m=top_m, colour=colour)
        else:
            pitched_roof(canvas, wing, window, rng, top_m, material, colour)
        canvas.building[window.box][cover > 0] = number
