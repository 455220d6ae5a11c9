"""Blocks cut into lots, and what each lot is used for."""

from dataclasses import dataclass

import numpy as np

from data_shards.synth.campus import USES, Campus
from data_shards.synth.grid import Rect

WHOLE_BLOCK_USES = ("sports", "wood", "pond", "field")


@dataclass(frozen=True)
class Lot:
    """A piece of land with one use."""

    rect: Rect
    use: str
    is_landmark: bool = False


def divide(blocks: tuple[Rect, ...], rng: np.random.Generator, *, campus: Campus) -> list[Lot]:
    """Cut every block into lots; the lot nearest the centre of the place carries its landmark."""
    lots: list[Lot] = []
    for block in blocks:
        block_use = str(rng.choice(USES, p=campus.uses))
        if block_use in WHOLE_BLOCK_USES and not _holds_centre(block):
            lots.append(Lot(block, block_use))
            continue
        pieces = _cut(block, rng, longest_m=float(rng.uniform(42, 75)))
        lots += [Lot(piece, _use(piece, rng, campus, block_use)) for piece in pieces]
    nearest = min(range(len(lots)), key=lambda i: np.hypot(lots[i].rect.x_m, lots[i].rect.y_m))
    lots[nearest] = Lot(lots[nearest].rect, "built", is_landmark=True)
    return lots


def _holds_centre(block: Rect) -> bool:
    return bool(np.hypot(block.x_m, block.y_m) < np.hypot(block.half_u_m, block.half_v_m))


def _use(piece: Rect, rng: np.random.Generator, campus: Campus, block_use: str) -> str:
    """Choose a lot's use: mostly that of its block, and lawn where nothing else fits."""
    use = block_use if rng.random() < 0.55 else str(rng.choice(USES, p=campus.uses))
    smallest_m = min(piece.half_u_m, piece.half_v_m)
    if use in WHOLE_BLOCK_USES or smallest_m < 9:
        return "lawn"
    return use


def _cut(rect: Rect, rng: np.random.Generator, *, longest_m: float) -> list[Rect]:
    """Halve a rectangle, off its middle, until no side is longer than `longest_m`."""
    if 2 * max(rect.half_u_m, rect.half_v_m) <= longest_m:
        return [rect]
    share = float(rng.uniform(0.35, 0.65))
    half_u_m, half_v_m = rect.half_u_m, rect.half_v_m
    if half_u_m >= half_v_m:
        near = rect.part(-half_u_m * (1 - share), 0, half_u_m * share, half_v_m)
        far = rect.part(half_u_m * share, 0, half_u_m * (1 - share), half_v_m)
    else:
        near = rect.part(0, -half_v_m * (1 - share), half_u_m, half_v_m * share)
        far = rect.part(0, half_v_m * share, half_u_m, half_v_m * (1 - share))
    return _cut(near, rng, longest_m=longest_m) + _cut(far, rng, longest_m=longest_m)
