"""Retrieval panels of one direction: a few queries, evenly spaced, none picked by hand."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from data_shards.config import Resampling
from data_shards.decode import decode, resize
from data_shards.shards import ShardSet
from evaluation.figures.canvas import Pixels
from evaluation.figures.charts import Hit, PanelRow, retrieval_panel
from evaluation.retrieval import Retrieval

NUM_QUERIES = 6
NUM_QUERIES_PER_ALTITUDE = 2
NUM_HITS = 5
THUMBNAIL_PIXELS = 216
"""As many as the cell of a panel has."""

THUMBNAIL_RESAMPLING: Resampling = "pillow-bicubic"

Searches = Mapping[str, Retrieval]
"""Searches of one direction by altitude, in words; a single one may be called nothing."""


def draw_panel(searches: Searches, shards: ShardSet, *, title: str) -> Figure:
    """Draw what a few queries found first: six of a single search, else two of each altitude."""
    per_search = NUM_QUERIES if len(searches) == 1 else NUM_QUERIES_PER_ALTITUDE
    rows = [
        row
        for note, retrieval in searches.items()
        for row in panel_rows(retrieval, shards, count=per_search, note=note)
    ]
    return retrieval_panel(rows, title=title, subtitle=_subtitle(searches))


def panel_rows(
    retrieval: Retrieval, shards: ShardSet, *, count: int = NUM_QUERIES, note: str = ""
) -> list[PanelRow]:
    """Read the images of the chosen queries and of what they found."""
    chosen = evenly_spaced(len(retrieval.query_rows), count)
    return [_row(retrieval, shards, query, note=note) for query in chosen]


def evenly_spaced(length: int, count: int) -> list[int]:
    """Return the middle of each of `count` equal parts: not always the first view of a place."""
    count = min(count, length)
    return [int(middle) for middle in (np.arange(count) + 0.5) * length / count]


def _subtitle(searches: Searches) -> str:
    some = next(iter(searches.values())).metrics
    sizes = f"{some['num_queries']:,} queries, {some['num_gallery']:,} gallery images"
    if len(searches) == 1:
        (retrieval,) = searches.values()
        return (
            f"{sizes}  ·  recall@1 {some['recall@1']:.3f} (guessing {retrieval.chance:.3f})  ·  "
            f"AP {some['ap']:.3f}"
        )
    recalls = ", ".join(
        f"{note} {retrieval.metrics['recall@1']:.3f}" for note, retrieval in searches.items()
    )
    return f"{sizes} each  ·  recall@1: {recalls}"


def _row(retrieval: Retrieval, shards: ShardSet, query: int, *, note: str) -> PanelRow:
    images = shards.images
    query_row = int(retrieval.query_rows[query])
    score_G = retrieval.gallery_GD @ retrieval.query_QD[query]
    best = score_G.topk(min(NUM_HITS, len(score_G)))
    ranks = retrieval.ranking.of_query(query)
    hits = []
    for similarity, at in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        row = int(retrieval.gallery_rows[at])
        hits.append(
            Hit(
                image=_pixels(shards, row),
                place=place_name(shards, row),
                similarity=similarity,
                is_right=bool(images.place[row] == images.place[query_row]),
            )
        )
    found = f"first right at rank {ranks[0] + 1}" if ranks else "nothing to find"
    return PanelRow(
        image=_pixels(shards, query_row),
        place=", ".join(word for word in (place_name(shards, query_row), note) if word),
        note=found,
        hits=hits,
    )


def place_name(shards: ShardSet, row: int) -> str:
    """Return the place of an image in words."""
    return f"place {shards.places[int(shards.images.place[row])]}"


def _pixels(shards: ShardSet, row: int) -> Pixels:
    pixels = decode(shards.read(row), orientation=int(shards.images.orientation[row]))
    return resize(pixels, size=THUMBNAIL_PIXELS, resampling=THUMBNAIL_RESAMPLING)
