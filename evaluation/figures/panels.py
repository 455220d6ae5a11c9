"""Retrieval panels of a verdict: a few queries, evenly spaced, none picked by hand."""

import numpy as np
from matplotlib.figure import Figure

from data_shards.config import Resampling
from data_shards.decode import decode, resize
from data_shards.shards import ShardSet
from evaluation.figures.canvas import Pixels
from evaluation.figures.charts import Hit, PanelRow, retrieval_panel
from evaluation.verdict import Verdict

NUM_QUERIES = 6
NUM_HITS = 5
THUMBNAIL_PIXELS = 216
"""As many as the cell of a panel has."""

THUMBNAIL_RESAMPLING: Resampling = "pillow-bicubic"


def draw_panel(verdict: Verdict, shards: ShardSet, *, title: str) -> Figure:
    """Draw what `NUM_QUERIES` queries found first."""
    measured = verdict.metrics
    subtitle = (
        f"{measured['num_queries']:,} queries, {measured['num_gallery']:,} gallery images  ·  "
        f"recall@1 {measured['recall@1']:.3f} (guessing {verdict.chance:.3f})  ·  "
        f"AP {measured['ap']:.3f}"
    )
    return retrieval_panel(panel_rows(verdict, shards), title=title, subtitle=subtitle)


def panel_rows(verdict: Verdict, shards: ShardSet) -> list[PanelRow]:
    """Read the images of the chosen queries and of what they found."""
    num_queries = len(verdict.query_rows)
    count = min(NUM_QUERIES, num_queries)
    # The middle of each of `count` equal parts: not always the first view of a place.
    chosen = (np.arange(count) + 0.5) * num_queries / count
    return [_row(verdict, shards, int(query)) for query in chosen]


def _row(verdict: Verdict, shards: ShardSet, query: int) -> PanelRow:
    images = shards.images
    query_row = int(verdict.query_rows[query])
    score_G = verdict.gallery_GD @ verdict.query_QD[query]
    best = score_G.topk(min(NUM_HITS, len(score_G)))
    ranks = verdict.ranking.of_query(query)
    hits = []
    for similarity, at in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        row = int(verdict.gallery_rows[at])
        hits.append(
            Hit(
                image=_pixels(shards, row),
                place=_place(shards, row),
                similarity=similarity,
                is_right=bool(images.place[row] == images.place[query_row]),
            )
        )
    return PanelRow(
        image=_pixels(shards, query_row),
        place=_place(shards, query_row),
        note=f"first right at rank {ranks[0] + 1}" if ranks else "nothing to find",
        hits=hits,
    )


def _pixels(shards: ShardSet, row: int) -> Pixels:
    pixels = decode(shards.read(row), orientation=int(shards.images.orientation[row]))
    return resize(pixels, size=THUMBNAIL_PIXELS, resampling=THUMBNAIL_RESAMPLING)


def _place(shards: ShardSet, row: int) -> str:
    return f"place {shards.places[int(shards.images.place[row])]}"
