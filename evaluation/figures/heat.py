"""Where in both images the similarity of a pair comes from: heat maps without gradients."""

# Shapes: B = images, D = descriptor width, H, W = feature map, P = pixels of a side.

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor, nn

from data_shards.config import Resampling
from data_shards.decode import decode, resize
from data_shards.shards import ShardSet
from distill.models import RetrievalModel, inference, normalize
from distill.models.heads import GeM, Mean, PooledHead
from evaluation.figures.canvas import (
    EDGE,
    QUIET,
    RULE,
    SMALL,
    VALUE,
    Headline,
    Pixels,
    blank,
    box,
    image,
    write,
)
from evaluation.figures.lettering import shortened, text_width

THUMBNAIL_PIXELS = 216
CELL, GAP, BELOW, ROW_NAMES, LEAST_WIDTH = 1.0, 0.08, 0.52, 0.54, 4.9
"""Sizes in inches: with six pairs it is as wide as the text of a paper."""

COLOURS = colormaps["inferno"]
STRENGTH = 0.6
"""How much of the image the heat hides."""


@dataclass(frozen=True, kw_only=True)
class HeatPair:
    """A drone image and the satellite image of its place, and where their similarity comes from."""

    drone: Pixels
    satellite: Pixels
    drone_heat: npt.NDArray[np.float64]
    """Share of the similarity of each place of the feature map [H, W]; sums to `similarity`."""

    satellite_heat: npt.NDArray[np.float64]
    place: str
    note: str
    """A second line under the pair."""

    similarity: float


def heat_pairs(
    model: RetrievalModel,
    shards: ShardSet,
    pairs: Sequence[tuple[int, int, str]],
    *,
    image_size: int,
    resampling: Resampling,
) -> list[HeatPair]:
    """Describe pairs of (drone row, satellite row, note) again, and divide their similarity up.

    Images are taken as they are, without their mirror image.
    """
    found = []
    for drone_row, satellite_row, note in pairs:
        pictures = [_pixels(shards, row) for row in (drone_row, satellite_row)]
        inputs = [resize(picture, size=image_size, resampling=resampling) for picture in pictures]
        map_BDHW = feature_maps(model, np.stack(inputs))
        head = pooled_head(model)
        heat = contributions(map_BDHW, map_BDHW.flip(0), head.pool, head.projection)
        heat_BHW = heat.cpu().numpy()
        drone, satellite = (
            resize(picture, size=THUMBNAIL_PIXELS, resampling="pillow-bicubic")
            for picture in pictures
        )
        found.append(
            HeatPair(
                drone=drone,
                satellite=satellite,
                drone_heat=heat_BHW[0],
                satellite_heat=heat_BHW[1],
                place=f"place {shards.places[int(shards.images.place[drone_row])]}",
                note=note,
                similarity=float(heat_BHW[0].sum()),
            )
        )
    return found


def feature_maps(model: RetrievalModel, images_BPP3: Pixels) -> Tensor:
    """Return the last feature maps [B, D, H, W], as the pool of the model sees them."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].detach())

    device = next(model.parameters()).device
    hook = pooled_head(model).pool.register_forward_pre_hook(keep)
    try:
        with inference(model):
            model.describe(normalize(torch.from_numpy(images_BPP3).to(device)))
    finally:
        hook.remove()
    return seen[0]


def pooled_head(model: RetrievalModel) -> PooledHead:
    """Return the head whose descriptors are sums over places: attention's are not."""
    assert isinstance(model.head, PooledHead)
    return model.head


@torch.no_grad()
def contributions(
    map_BDHW: Tensor, other_BDHW: Tensor, pool: nn.Module, projection: nn.Module
) -> Tensor:
    """Divide the cosine similarity of two images among the places of the first one [B, H, W].

    A generalized mean d_c = (mean_i x_ci^p)^(1/p) over n places i is the sum over them of
    x_ci^p / (n d_c^(p-1)), so cos(d, e) is the sum over places of

        sum_c x_ci^p / (n d_c^(p-1)) e_c / (|d| |e|),

    exactly; a linear projection W behind the pooling puts W' W e in the place of e, and |W d| |W e|
    below. For the plain mean (p = 1) this is the decomposition of Stylianou et al., "Visualizing
    deep similarity networks" (WACV 2019); negative places speak against the pair.
    """
    power, least = _power(pool)
    map_BDHW = map_BDHW.double()
    clamped_BDHW = map_BDHW if least is None else map_BDHW.clamp(min=least)
    own_BD = pool(map_BDHW.float()).double()
    described = [projection(pool(maps.float())).double() for maps in (map_BDHW, other_BDHW)]
    lengths_B = described[0].norm(dim=1) * described[1].norm(dim=1)
    is_linear = isinstance(projection, nn.Linear)
    towards_BD = described[1] @ projection.weight.double() if is_linear else described[1]
    scale_BD = towards_BD / lengths_B[:, None]
    if power != 1:
        scale_BD = scale_BD / own_BD ** (power - 1)
        clamped_BDHW = clamped_BDHW**power
    num_places = map_BDHW.shape[2] * map_BDHW.shape[3]
    return torch.einsum("bdhw,bd->bhw", clamped_BDHW, scale_BD / num_places)


def draw_heat_maps(pairs: Sequence[HeatPair], *, title: str, subtitle: str) -> Figure:
    """Draw a column per pair: drone image, its heat, satellite image, its heat."""
    width = max(2 * EDGE + ROW_NAMES + len(pairs) * (CELL + GAP) - GAP, LEAST_WIDTH)
    head = Headline(title=title, subtitle=subtitle, width=width)
    figure = blank(width, head.height + 4 * (CELL + GAP) + BELOW)
    head.write(figure)
    top = figure.get_figheight() - head.height
    bottoms = [top - (number + 1) * (CELL + GAP) + GAP for number in range(4)]
    for name, bottom in zip(("drone", "", "satellite", ""), bottoms, strict=True):
        write(figure, EDGE, bottom + CELL / 2, name, size=SMALL)
    for number, pair in enumerate(pairs):
        left = EDGE + ROW_NAMES + number * (CELL + GAP)
        shown = (
            pair.drone,
            heated(pair.drone, pair.drone_heat),
            pair.satellite,
            heated(pair.satellite, pair.satellite_heat),
        )
        for pixels, bottom in zip(shown, bottoms, strict=True):
            image(figure, pixels, box(figure, left, bottom, CELL, CELL), edge=RULE, thickness=0.8)
        similarity = f", {pair.similarity:.2f}"
        words = shortened(pair.place, CELL - text_width(similarity, size=SMALL), size=SMALL)
        write(figure, left, bottoms[-1] - 0.13, words + similarity, size=SMALL)
        note = shortened(pair.note, CELL, size=VALUE)
        write(figure, left, bottoms[-1] - 0.24, note, colour=QUIET, size=VALUE)
    scale = heated(np.full((8, 256, 3), 150, np.uint8), np.linspace(0, 1, 256)[None])
    place = box(figure, EDGE + ROW_NAMES, EDGE, 1.0, 0.1)
    image(figure, scale, place, edge=RULE, thickness=0.8)
    words = "share of the similarity, from none to the most of the image"
    write(figure, EDGE + ROW_NAMES + 1.1, EDGE + 0.01, words, colour=QUIET, size=SMALL)
    return figure


def heated(pixels: Pixels, heat_HW: npt.NDArray[np.floating]) -> Pixels:
    """Lay a heat map over an image in grey; cold and negative places stay grey."""
    size = (pixels.shape[1], pixels.shape[0])
    share = np.clip(heat_HW, 0, None) / max(float(heat_HW.max()), 1e-12)
    share = np.clip(cv2.resize(share.astype(np.float32), size, interpolation=cv2.INTER_CUBIC), 0, 1)
    grey = pixels.mean(axis=2, keepdims=True).repeat(3, axis=2)
    mixed = (1 - STRENGTH) * grey + STRENGTH * 255 * COLOURS(share)[:, :, :3]
    return np.asarray(mixed.round().astype(np.uint8))


def _power(pool: nn.Module) -> tuple[float, float | None]:
    """Return the power of a pool, and below which activation it sees only that one."""
    if isinstance(pool, GeM):
        return float(pool.power), pool.eps
    assert isinstance(pool, Mean), "the pools of distill.models.pooling"
    return 1.0, None


def _pixels(shards: ShardSet, row: int) -> Pixels:
    return decode(shards.read(row), orientation=int(shards.images.orientation[row]))
