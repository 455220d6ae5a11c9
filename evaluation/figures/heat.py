"""Where in both images the similarity of a pair comes from: heat maps without gradients."""

# Shapes: B = images, D = descriptor width, H, W = feature map, P = pixels of a side.

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from torch import Tensor, nn

from data_shards.config import Resampling
from data_shards.decode import decode, resize, square
from data_shards.shards import ShardSet
from distill.models import RetrievalModel, inference, normalize
from distill.models.heads import GeM, Mean, PooledHead
from evaluation.figures.style import (
    INK,
    RULE,
    SMALL,
    Pixels,
    pictures,
    shortened,
    show,
    styled,
)

THUMBNAIL_PIXELS = 216
CELL = 1.0
"""Inches of a picture: with six pairs a figure is as wide as the text of a paper."""

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
        photos = [
            square(
                decode(shards.read(row), orientation=int(shards.images.orientation[row])),
                shards.aspect,
            )
            for row in (drone_row, satellite_row)
        ]
        inputs = [resize(photo, size=image_size, resampling=resampling) for photo in photos]
        map_BDHW = feature_maps(model, np.stack(inputs))
        head = pooled_head(model)
        heat = contributions(map_BDHW, map_BDHW.flip(0), head.pool, head.projection)
        heat_BHW = heat.cpu().numpy()
        drone, satellite = (
            resize(photo, size=THUMBNAIL_PIXELS, resampling="pillow-bicubic") for photo in photos
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
    assert isinstance(pool, GeM | Mean), "the pools of distill.models.pooling"
    power, least = (float(pool.power), pool.eps) if isinstance(pool, GeM) else (1.0, None)
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


@styled
def draw_heat_maps(pairs: Sequence[HeatPair], *, title: str, subtitle: str) -> Figure:
    """Draw a column per pair: drone image, its heat, satellite image, its heat."""
    figure, cells = pictures(4, len(pairs), title=title, subtitle=subtitle, caption=0.2)
    for pair, column in zip(pairs, zip(*cells, strict=True), strict=True):
        words = shortened(pair.place, CELL - 0.3, size=SMALL) + f", {pair.similarity:.2f}"
        caption = f"{words}\n{shortened(pair.note, CELL, size=SMALL)}"
        shown = (
            pair.drone,
            heated(pair.drone, pair.drone_heat),
            pair.satellite,
            heated(pair.satellite, pair.satellite_heat),
        )
        for axes, pixels in zip(column, shown, strict=True):
            show(axes, pixels, edge=RULE, width=0.8)
        column[-1].set_xlabel(caption, loc="left", color=INK)
    for (axes, *_), name in zip(cells, ("drone", "", "satellite", ""), strict=True):
        axes.set_ylabel(name, color=INK)
    scale = figure.colorbar(
        ScalarMappable(cmap=COLOURS), ax=sum(cells, []), orientation="horizontal", aspect=60
    )
    scale.set_ticks([])
    scale.set_label("share of the similarity, from none to the most of the image")
    return figure


def heated(pixels: Pixels, heat_HW: npt.NDArray[np.floating]) -> Pixels:
    """Lay a heat map over an image in grey; cold and negative places stay grey."""
    size = (pixels.shape[1], pixels.shape[0])
    share = np.clip(heat_HW, 0, None) / max(float(heat_HW.max()), 1e-12)
    share = np.clip(cv2.resize(share.astype(np.float32), size, interpolation=cv2.INTER_CUBIC), 0, 1)
    grey = pixels.mean(axis=2, keepdims=True).repeat(3, axis=2)
    mixed = (1 - STRENGTH) * grey + STRENGTH * 255 * COLOURS(share)[:, :, :3]
    return np.asarray(mixed.round().astype(np.uint8))
