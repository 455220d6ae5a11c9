"""Floor plans: how the wings of a building are laid out on its site."""

from collections.abc import Callable

import numpy as np

from data_shards.synth.grid import Rect

Wings = list[tuple[Rect, float]]
"""Rectangles, and the share of the building's height that each has."""

Shape = Callable[[Rect, np.random.Generator, float], Wings]


def block_shape(site: Rect, rng: np.random.Generator, depth_m: float) -> Wings:
    """One wing over the whole site."""
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
    """Two wings that meet in a corner."""
    u_side, v_side = rng.choice([-1, 1], 2)
    return [_edge_u(site, depth_m, v_side), (_edge_v(site, depth_m, u_side)[0], _lower(rng))]


def u_shape(site: Rect, rng: np.random.Generator, depth_m: float) -> Wings:
    """A main wing and two arms."""
    v_side = float(rng.choice([-1, 1]))
    arm = _lower(rng)
    arms = [(_edge_v(site, depth_m, side)[0], arm) for side in (-1.0, 1.0)]
    return [_edge_u(site, depth_m, v_side), *arms]


def court_shape(site: Rect, rng: np.random.Generator, depth_m: float) -> Wings:
    """Four wings around a courtyard."""
    low = _lower(rng)
    around = [_edge_v(site, depth_m, -1.0), _edge_v(site, depth_m, 1.0)]
    return [_edge_u(site, depth_m, -1.0), (_edge_u(site, depth_m, 1.0)[0], low), *around]


def tee_shape(site: Rect, rng: np.random.Generator, depth_m: float) -> Wings:
    """A main wing with a stem."""
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
