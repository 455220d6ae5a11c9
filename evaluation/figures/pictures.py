"""Figures of photographs: what was found, where a similarity comes from, weather and light."""

# Shapes: B = images, D = descriptor width, H, W = feature map, P = pixels of a side.

from collections.abc import Iterable, Mapping, Sequence
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
from evaluation.conditions import CONDITIONS
from evaluation.figures.style import (
    INK,
    RIGHT,
    RULE,
    SMALL,
    VALUE,
    WRONG,
    Pixels,
    pictures,
    show,
    styled,
    wrapped,
)
from evaluation.retrieval import Retrieval, chance

NUM_QUERIES = 6
NUM_QUERIES_PER_ALTITUDE = 2
NUM_HITS = 5
THUMBNAIL_PIXELS = 216
"""As many as the cell of a panel has."""

CELL, LINE = 1.0, 0.11
"""Inches of a picture, with six of which a figure is as wide as the text of a paper, and of a line
of the words below it."""

CONDITIONS_PER_ROW = 5

COLOURS = colormaps["inferno"]
STRENGTH = 0.6
"""How much of the image the heat hides."""

SAYS = {True: "\N{CHECK MARK} ", False: "\N{BALLOT X} "}
"""Before the place of a hit: whether it is right, for eyes and print without colours."""

Searches = Mapping[str, Retrieval]
"""Searches of one direction by altitude, in words; a single one may be called nothing."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A photograph in a coloured frame, and words below it."""

    pixels: Pixels
    edge: str
    caption: str


def draw_panel(searches: Searches, shards: ShardSet, *, title: str) -> Figure:
    """Draw what a few queries found first: six of a single search, else two of each altitude."""
    per_search = NUM_QUERIES if len(searches) == 1 else NUM_QUERIES_PER_ALTITUDE
    rows = [
        _row(found, shards, query, note=note)
        for note, found in searches.items()
        for query in evenly_spaced(len(found.query_rows), per_search)
    ]
    searched: dict[str, list[str]] = {}
    for note, found in searches.items():
        counts = "{num_queries:,} queries, {num_gallery:,} gallery images".format(**found.metrics)
        searched.setdefault(counts, []).append(note)
    if len(searched) == 1:
        subtitle = next(iter(searched)) + (" each" if len(searches) > 1 else "")
    else:
        subtitle = "; ".join(f"{', '.join(notes)}: {counts}" for counts, notes in searched.items())
    recalls = [f"{note} {found.metrics['recall@1']:.3f}" for note, found in searches.items()]
    if len(recalls) == 1:
        (some,) = searches.values()
        subtitle += f"  ·  recall@1 {some.metrics['recall@1']:.3f}"
        subtitle += f" (guessing {chance(some.ranking):.3f})  ·  AP {some.metrics['ap']:.3f}"
    else:
        subtitle += f"  ·  recall@1: {', '.join(recalls)}"
    return retrieval_panel(rows, title=title, subtitle=subtitle)


def retrieval_panel(rows: Sequence[Sequence[Picture]], *, title: str, subtitle: str) -> Figure:
    """Draw one line per query: the query, then what it found, right ones green and ticked."""
    subtitle += f"  ·  {SAYS[True]}same place, {SAYS[False]}another"
    most = max(picture.caption.count("\n") + 1 for row in rows for picture in row)
    columns = max(map(len, rows))
    figure, cells = pictures(
        len(rows), columns, title=title, subtitle=subtitle, caption=0.12 + LINE * most
    )
    for row, line in zip(rows, cells, strict=True):
        for picture, axes in zip(row, line, strict=False):
            show(axes, picture.pixels, edge=picture.edge, caption=picture.caption)
    for name, axes in zip(["query", *range(1, columns)], cells[0], strict=True):
        axes.set_title(str(name), loc="center", fontsize=SMALL)
    return figure


def _fitting(*lines: str) -> str:
    return "\n".join(wrapped(line, CELL, size=VALUE) for line in lines)


def evenly_spaced(length: int, count: int) -> list[int]:
    """Return the middle of each of `count` equal parts: not always the first view of a place."""
    count = min(count, length)
    return [int(middle) for middle in (np.arange(count) + 0.5) * length / count]


def _row(found: Retrieval, shards: ShardSet, query: int, *, note: str) -> list[Picture]:
    place, query_row = shards.images.place, int(found.query_rows[query])
    score_G = found.gallery_GD @ found.query_QD[query]
    best = score_G.topk(min(NUM_HITS, len(score_G)))
    ranks = found.ranking.of_query(query)
    first = f"first right: {ranks[0] + 1}" if ranks else "nothing to find"
    asked = ", ".join(word for word in (place_name(shards, query_row), note) if word)
    row = [Picture(pixels=_pixels(shards, query_row), edge=INK, caption=_fitting(asked, first))]
    rows = found.gallery_rows[best.indices.numpy()].tolist()
    for hit, similarity in zip(rows, best.values.tolist(), strict=True):
        is_right = bool(place[hit] == place[query_row])
        caption = _fitting(SAYS[is_right] + place_name(shards, hit), f"similarity {similarity:.2f}")
        edge = RIGHT if is_right else WRONG
        row.append(Picture(pixels=_pixels(shards, hit), edge=edge, caption=caption))
    return row


def place_name(shards: ShardSet, row: int) -> str:
    """Return the place of an image in words."""
    return f"place {shards.places[int(shards.images.place[row])]}"


def photograph(shards: ShardSet, row: int) -> Pixels:
    """Return an image as models see it, at its own size."""
    pixels = decode(shards.read(row), orientation=int(shards.images.orientation[row]))
    return square(pixels, shards.aspect)


def _pixels(shards: ShardSet, row: int) -> Pixels:
    return resize(photograph(shards, row), size=THUMBNAIL_PIXELS, resampling="pillow-bicubic")


@dataclass(frozen=True, kw_only=True)
class HeatPair:
    """A drone image and the satellite image of its place, and where their similarity comes from."""

    photos: Sequence[Pixels]
    heats: Sequence[npt.NDArray[np.float64]]
    """Share of the similarity of each place of the feature map [H, W], of either image."""

    place: str
    note: str
    """A second line under the pair."""

    @property
    def similarity(self) -> float:
        return float(self.heats[0].sum())


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
    found, head = [], model.head
    assert isinstance(head, PooledHead), "whose descriptors are sums over places"
    for *rows, note in pairs:
        photos = [photograph(shards, row) for row in rows]
        inputs = [resize(photo, size=image_size, resampling=resampling) for photo in photos]
        map_BDHW = feature_maps(model, np.stack(inputs))
        heat = contributions(map_BDHW, map_BDHW.flip(0), head.pool, head.projection)
        shown = [_pixels(shards, row) for row in rows]
        place = place_name(shards, rows[0])
        found.append(HeatPair(photos=shown, heats=list(heat.cpu().numpy()), place=place, note=note))
    return found


def feature_maps(model: RetrievalModel, images_BPP3: Pixels) -> Tensor:
    """Return the last feature maps [B, D, H, W], as the pool of the model sees them."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].detach())

    device, head = next(model.parameters()).device, model.head
    assert isinstance(head, PooledHead), "whose pool sees maps"
    with head.pool.register_forward_pre_hook(keep), inference(model):
        model.describe(normalize(torch.from_numpy(images_BPP3).to(device)))
    return seen[0]


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
    told = [_fitting(f"{pair.place}, {pair.similarity:.2f}", pair.note) for pair in pairs]
    height = LINE * (2 + max(caption.count("\n") for caption in told)) / 4
    figure, cells = pictures(4, len(pairs), title=title, subtitle=subtitle, caption=0.14 + height)
    for pair, column, caption in zip(pairs, zip(*cells, strict=True), told, strict=True):
        both = zip(pair.photos, pair.heats, strict=True)
        shown = [pixels for photo, heat in both for pixels in (photo, heated(photo, heat))]
        for axes, pixels in zip(column, shown, strict=True):
            show(axes, pixels, edge=RULE, width=0.8)
        column[-1].set_xlabel(caption, loc="left", color=INK, fontsize=VALUE)
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


@styled
def draw_conditions(
    clean: Pixels, key: str, names: Iterable[str], *, title: str, subtitle: str
) -> Figure:
    """Draw a photograph at the size that a model sees, clean and under the conditions of names."""
    changed = {name: CONDITIONS[name].apply(clean, seed_key=key) for name in names}
    shown = {key: clean} | changed
    rows = -(-len(shown) // CONDITIONS_PER_ROW)
    words = {"title": title, "subtitle": subtitle}
    figure, places = pictures(rows, CONDITIONS_PER_ROW, **words, cell=1.3, caption=0.34)
    for axes, (name, pixels) in zip(sum(places, []), shown.items(), strict=False):
        show(axes, pixels, edge=RULE, width=0.6, caption=wrapped(name, 1.3, size=VALUE))
    return figure
