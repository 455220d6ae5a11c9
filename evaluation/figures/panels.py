"""Retrieval panels of one direction: a few queries, evenly spaced, none picked by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from data_shards.decode import decode, resize
from data_shards.shards import ShardSet
from evaluation.figures.style import INK, RIGHT, SMALL, WRONG, Pixels, pictures, shortened, show
from evaluation.retrieval import Retrieval

NUM_QUERIES = 6
NUM_QUERIES_PER_ALTITUDE = 2
NUM_HITS = 5
THUMBNAIL_PIXELS = 216
"""As many as the cell of a panel has."""

SAYS = {True: "\N{CHECK MARK} ", False: "\N{BALLOT X} "}
"""Before the place of a hit: whether it is right, for eyes and print without colours."""

Searches = Mapping[str, Retrieval]
"""Searches of one direction by altitude, in words; a single one may be called nothing."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One gallery image that a query found."""

    image: Pixels
    place: str
    similarity: float
    is_right: bool


@dataclass(frozen=True, kw_only=True)
class PanelRow:
    """One query and the gallery images most like it, best first."""

    image: Pixels
    place: str
    note: str
    """A second line under the query: where its first right image stands."""

    hits: Sequence[Hit]


def draw_panel(searches: Searches, shards: ShardSet, *, title: str) -> Figure:
    """Draw what a few queries found first: six of a single search, else two of each altitude."""
    per_search = NUM_QUERIES if len(searches) == 1 else NUM_QUERIES_PER_ALTITUDE
    rows = [
        _row(found, shards, query, note=note)
        for note, found in searches.items()
        for query in evenly_spaced(len(found.query_rows), per_search)
    ]
    some = next(iter(searches.values()))
    subtitle = "{num_queries:,} queries, {num_gallery:,} gallery images".format(**some.metrics)
    recalls = {note: found.metrics["recall@1"] for note, found in searches.items()}
    if len(recalls) == 1:
        subtitle += f"  ·  recall@1 {some.metrics['recall@1']:.3f} (guessing {some.chance:.3f})"
        subtitle += f"  ·  AP {some.metrics['ap']:.3f}"
    else:
        told = ", ".join(f"{note} {recall:.3f}" for note, recall in recalls.items())
        subtitle += f" each  ·  recall@1: {told}"
    return retrieval_panel(rows, title=title, subtitle=subtitle)


def retrieval_panel(rows: Sequence[PanelRow], *, title: str, subtitle: str) -> Figure:
    """Draw one line per query: the query, then what it found, right ones green and ticked."""
    num_hits = max(len(row.hits) for row in rows)
    subtitle += f"  ·  {SAYS[True]}same place, {SAYS[False]}another"
    figure, cells = pictures(len(rows), 1 + num_hits, title=title, subtitle=subtitle)
    for row, (query, *others) in zip(rows, cells, strict=True):
        show(query, row.image, edge=INK, caption=f"{_fitting(row.place)}\n{_fitting(row.note)}")
        for hit, axes in zip(row.hits, others, strict=False):
            place = _fitting(SAYS[hit.is_right] + hit.place)
            caption = f"{place}\nsimilarity {hit.similarity:.2f}"
            show(axes, hit.image, edge=RIGHT if hit.is_right else WRONG, caption=caption)
        for axes in others[len(row.hits) :]:
            axes.set_axis_off()
    for name, axes in zip(["query", *range(1, num_hits + 1)], cells[0], strict=True):
        axes.set_title(str(name), loc="center", fontsize=SMALL)
    return figure


def _fitting(text: str) -> str:
    return shortened(text, 1.05, size=SMALL)


def evenly_spaced(length: int, count: int) -> list[int]:
    """Return the middle of each of `count` equal parts: not always the first view of a place."""
    count = min(count, length)
    return [int(middle) for middle in (np.arange(count) + 0.5) * length / count]


def _row(found: Retrieval, shards: ShardSet, query: int, *, note: str) -> PanelRow:
    images = shards.images
    query_row = int(found.query_rows[query])
    score_G = found.gallery_GD @ found.query_QD[query]
    best = score_G.topk(min(NUM_HITS, len(score_G)))
    ranks = found.ranking.of_query(query)
    hits = [
        Hit(
            image=_pixels(shards, row),
            place=place_name(shards, row),
            similarity=similarity,
            is_right=bool(images.place[row] == images.place[query_row]),
        )
        for similarity, row in zip(
            best.values.tolist(), found.gallery_rows[best.indices.numpy()].tolist(), strict=True
        )
    ]
    return PanelRow(
        image=_pixels(shards, query_row),
        place=", ".join(word for word in (place_name(shards, query_row), note) if word),
        note=f"first right: {ranks[0] + 1}" if ranks else "nothing to find",
        hits=hits,
    )


def place_name(shards: ShardSet, row: int) -> str:
    """Return the place of an image in words."""
    return f"place {shards.places[int(shards.images.place[row])]}"


def _pixels(shards: ShardSet, row: int) -> Pixels:
    pixels = decode(shards.read(row), orientation=int(shards.images.orientation[row]))
    return resize(pixels, size=THUMBNAIL_PIXELS, resampling="pillow-bicubic")
