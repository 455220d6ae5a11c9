"""Buildings of the campus's style, raised on lots: halls of several wings, and small houses."""

import numpy as np

from data_shards.synth.campus import Campus
from data_shards.synth.canvas import Canvas, Facade
from data_shards.synth.grid import Rect
from data_shards.synth.materials import Colour, Material, vary
from data_shards.synth.roofs import flat_roof, pitched_roof
from data_shards.synth.shapes import Wings, choose_shape


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
    canvas.facades.append(_facade(campus, rng, main.angle_rad, base_m))
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


def _facade(campus: Campus, rng: np.random.Generator, angle_rad: float, base_m: float) -> Facade:
    return Facade(
        angle_rad=angle_rad,
        base_m=base_m,
        storey_m=campus.storey_m,
        bay_m=campus.bay_m * float(rng.uniform(0.9, 1.1)),
        window_width=campus.window_width,
        window_height=float(rng.uniform(0.42, 0.62)),
        wall=vary(campus.walls[int(rng.integers(len(campus.walls)))], rng),
        glass=vary((66, 76, 86), rng),
    )
