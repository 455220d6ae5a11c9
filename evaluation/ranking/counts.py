"""Where every positive stands in its query's gallery, by counting what beats it; nothing is sorted.

The gallery passes by twice, block by block, from memory or from a disk. The first pass scores
every query with its positives, exactly (`screen.py`): these are the thresholds. The second counts,
for each threshold, the negatives that reach it:

1. a rough product of rounded descriptors, whose error has a proven bound (`screen.py`), leaves the
   few candidates that may reach the lowest threshold of their query (`candidates.py`);
2. a candidate further from every threshold than the bound is counted as it is; the pairs nearer
   than that are scored exactly, by the very code of the first pass;
3. a query with too many candidates, as weak models have them, goes on in float32 products, whose
   bound is small, and of which what counts is sorted;
4. where even that leaves too many pairs to score again, as copies do, and where float32 cannot hold
   the products, every pair is scored exactly.

So memory does not grow with queries x gallery, counts of parts of the gallery add up over ranks,
and neither tiles nor ranks nor the kind of processor's matrix unit change a digit.
"""

# Shapes: Q = queries, G = gallery images, D = descriptor width, P = positives of all queries in
# a row, R = queries of a tile, C = its columns, N = pairs of one query and one gallery image.

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from evaluation.ranking.candidates import (
    Block,
    Buffers,
    Candidates,
    Positives,
    Tiles,
    count_candidates,
    count_sorted,
    find_candidates,
)
from evaluation.ranking.gallery import Exchange, Gallery, InMemory, LocalExchange, work_together
from evaluation.ranking.metrics import JUNK, Ranking
from evaluation.ranking.screen import (
    PLAIN,
    Rounded,
    Screen,
    exact_scores,
    fastest_screen,
    is_bounded,
    margins,
    sums_of_float32,
)
from evaluation.ranking.thresholds import Counts, Pairs, Thresholds

CPU_TILES = Tiles()
# E7 in 3.1 s and 2.8 GiB beside its gallery; half as many queries: 3.6 s, twice: 2.9 s and 5 GiB.
GPU_TILES = Tiles(queries=16384, block=65536, first_block=8192)
SCREENED, SORTED, EXACT = range(3)
"""The ways to count a query, each finer and dearer; no query goes back."""

CANDIDATES_AT_ONCE = 2**18
"""That are counted together, of as many tiles as it takes: each time, a host waits for its GPU."""

PAIRS_AT_ONCE = 2**20
"""That are scored exactly."""


@torch.no_grad()
def rank(
    query_QD: Tensor, gallery_GD: Tensor, *, query_labels_Q: Tensor, gallery_labels_G: Tensor
) -> Ranking:
    """Rank the gallery by dot product for each query; gallery label -1 is junk and is left out."""
    gallery = InMemory(gallery_GD, gallery_labels_G)
    return rank_gallery(query_QD, gallery, query_labels_Q=query_labels_Q)


@torch.no_grad()
def rank_gallery(
    query_QD: Tensor,
    gallery: Gallery,
    *,
    query_labels_Q: Tensor,
    exchange: Exchange | None = None,
    tiles: Tiles | None = None,
    screen: Screen | None = None,
) -> Ranking:
    """Rank a gallery that lies in memory, on a disk, or, with an `exchange`, a part on each rank.

    Every rank passes the same queries and gets the same ranking, that of the parts together. The
    work is done on the device of the queries.

    Raises:
        ValueError: shapes do not match, there is no query or no gallery image, a descriptor is not
            finite, a label is no integer, or another rank failed.
    """
    exchange = exchange or LocalExchange()
    device = query_QD.device
    num_gallery = int(exchange.sum(torch.tensor([len(gallery.labels_G)], device=device)))
    counter = _Counter(
        query_QD=query_QD,
        gallery=gallery,
        labels_G=gallery.labels_G.to(device, torch.int64),
        tiles=tiles or (GPU_TILES if device.type == "cuda" else CPU_TILES),
        screen=screen or fastest_screen(device),
    )

    def first_pass() -> tuple[Pairs, Tensor]:
        _check(query_QD, gallery, query_labels_Q, num_gallery)
        labels_Q = query_labels_Q.to(device, torch.int64)
        pairs = Pairs.find(labels_Q, counter.labels_G, counter.starts, junk=JUNK)
        return pairs, counter.score_pairs(pairs)

    def second_pass() -> Tensor:
        counts = thresholds.new_counts()
        with sums_of_float32():
            counter.count(pairs, positive_score_P, counts)
        return counts.total()

    pairs, positive_score_P = work_together(exchange, first_pass)
    thresholds = Thresholds.sort(
        exchange.gather(pairs.query_P), exchange.gather(positive_score_P), len(query_QD)
    )
    reaching_P = exchange.sum(work_together(exchange, second_pass))

    # Scores ascend within a query, so its best positive comes last: turn each query's row round.
    offsets, query_P = thresholds.offsets, thresholds.query_P
    number_P = torch.arange(len(query_P), device=device)
    turned_P = offsets[query_P] + offsets[query_P + 1] - 1 - number_P
    ranks_P = reaching_P[turned_P] + number_P - offsets[query_P]
    return Ranking(ranks_P=ranks_P, offsets=offsets, num_gallery=num_gallery)


@dataclass(frozen=True, kw_only=True)
class _Counter:
    """Two passes over the gallery."""

    query_QD: Tensor
    gallery: Gallery
    labels_G: Tensor
    tiles: Tiles
    screen: Screen

    @property
    def starts(self) -> list[int]:
        return self.tiles.starts(len(self.labels_G))

    def blocks(self) -> Iterator[slice]:
        ends = [*self.starts[1:], len(self.labels_G)]
        for start, end in zip(self.starts, ends, strict=True):
            yield slice(start, end)

    def read(self, rows: slice) -> Tensor:
        return self.gallery.read(rows).to(self.query_QD.device)

    def score_pairs(self, pairs: Pairs) -> Tensor:
        """First pass: the exact score of every query with its positives, in the pairs' order."""
        scores = [self.query_QD.new_empty(0, dtype=torch.float64)]
        for number, rows in enumerate(self.blocks()):
            query_N, column_N = pairs.of_block(number)
            if len(query_N):
                column_N = column_N - rows.start
                scores.append(exact_scores(self.query_QD, self.read(rows), query_N, column_N))
        return torch.cat(scores)

    def count(self, pairs: Pairs, positive_score_P: Tensor, counts: Counts) -> None:
        """Second pass: how many negatives reach each threshold."""
        rough = self.screen.round(self.query_QD)
        plain = PLAIN.round(self.query_QD, norm_R=rough.norm_R)
        finer = None if self.screen is PLAIN else plain
        way_Q = torch.where(is_bounded(plain.norm_R), SCREENED, EXACT)
        is_asking_Q = counts.thresholds.offsets.diff() > 0
        buffers = Buffers()
        for number, rows in enumerate(self.blocks()):
            block, positives = self.load(number, rows, pairs, positive_score_P, buffers)
            if not len(block):
                continue
            is_bounded_block = bool(is_bounded(block.rounded(self.screen).norm_R.max()))
            if is_bounded_block:
                is_counted_Q = self.count_screened(
                    is_asking_Q & (way_Q == SCREENED), rough, block, positives, counts, plain=finer
                )
                way_Q = torch.where((way_Q == SCREENED) & ~is_counted_Q, SORTED, way_Q)
                for row_R in self.tiles.rows(is_asking_Q & (way_Q == SORTED)):
                    positives_R, query = positives.among(row_R), plain.take(row_R)
                    is_counted_R = count_sorted(
                        self.query_QD, query, row_R, block, positives_R, counts
                    )
                    way_Q[row_R] = torch.where(is_counted_R, SORTED, EXACT)
            is_exact_Q = (way_Q == EXACT) | (not is_bounded_block)
            row_R = (is_asking_Q & is_exact_Q).nonzero().squeeze(1)
            if len(row_R):
                self.count_exactly(row_R, block, positives, counts)

    def count_exactly(
        self, row_R: Tensor, block: Block, positives: Positives, counts: Counts
    ) -> None:
        """Count the block's negatives for the queries `row_R` by the exact score of every pair."""
        column_C = torch.arange(len(block), device=row_R.device)
        for row in row_R.split(max(1, PAIRS_AT_ONCE // len(block))):
            row_N, column_N = row.repeat_interleave(len(block)), column_C.repeat(len(row))
            score_N = exact_scores(self.query_QD, block.rows_CD, row_N, column_N)
            positives.among(row).mask(score_N.view(len(row), len(block)))
            counts.add_each(row_N, counts.thresholds.reached(row_N, score_N))

    def load(
        self, number: int, rows: slice, pairs: Pairs, positive_score_P: Tensor, buffers: Buffers
    ) -> tuple[Block, Positives]:
        """Read a block, leave its junk out, and find the positives that stand in it."""
        read_CD, wanted_C = self.read(rows), self.labels_G[rows] != JUNK
        query_N, column_N = pairs.of_block(number)
        column_N = column_N - rows.start
        if not bool(wanted_C.all()):
            read_CD, column_N = read_CD[wanted_C], (wanted_C.cumsum(0) - 1)[column_N]
        begin = pairs.block_begin[number]
        score_N = positive_score_P[begin : begin + len(query_N)]
        positives = Positives(query_N=query_N, column_N=column_N, score_N=score_N)
        return Block(rows_CD=read_CD, buffers=buffers), positives

    def count_screened(
        self,
        is_wanted_Q: Tensor,
        query: Rounded,
        block: Block,
        positives: Positives,
        counts: Counts,
        *,
        plain: Rounded | None,
    ) -> Tensor:
        """Count the block's negatives for the wanted queries; returns which [Q] were counted.

        `query` has all as the screen multiplies them, `plain` in float32 if the screen is rougher.
        """
        screen = self.screen
        margin_Q = margins(query, block.rounded(screen), screen.unit)
        floor_Q = screen.floor(counts.thresholds.lowest_Q, margin_Q)
        # Integers stand for scores of half precision there, and are in their order above zero only.
        is_counted_Q = is_wanted_Q & ((floor_Q > 0) | (screen.kind != torch.bfloat16))
        tiles = self.tiles.rows(is_counted_Q)
        held: list[Candidates] = []
        for row_R in tiles:
            score_RC = block.scores(query.take(row_R), screen)
            positives.among(row_R).mask_and_check(score_RC, margin_Q[row_R], screen)
            found, is_counted_Q[row_R] = find_candidates(score_RC, floor_Q[row_R], row_R)
            held.append(found)
            if row_R is tiles[-1] or sum(len(part.query_N) for part in held) > CANDIDATES_AT_ONCE:
                is_counted_Q &= count_candidates(
                    Candidates(*map(torch.cat, zip(*held, strict=True))),
                    self.query_QD,
                    block,
                    margin_Q=margin_Q,
                    screen=screen,
                    counts=counts,
                    plain=plain,
                )
                held = []
        return is_counted_Q


def _check(query_QD: Tensor, gallery: Gallery, query_labels_Q: Tensor, num_gallery: int) -> None:
    """Refuse what has no ranking; callers tell their users in their own words."""
    for labels in (query_labels_Q, gallery.labels_G):
        if labels.is_floating_point() or labels.is_complex():
            raise ValueError(f"labels must be integers; they are {labels.dtype}")
    if query_QD.ndim != 2 or query_QD.shape[1] != gallery.width:
        shapes = f"{tuple(query_QD.shape)} and [G, {gallery.width}]"
        raise ValueError(f"queries and gallery must be [Q, D] and [G, D]; they are {shapes}")
    if query_labels_Q.shape != query_QD.shape[:1]:
        raise ValueError("there must be one label per query and one per gallery image")
    if not len(query_QD) or not num_gallery:
        raise ValueError("there must be at least one query and one gallery image")
