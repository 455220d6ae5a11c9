"""Where every positive stands in its query's gallery, by counting what beats it; nothing is sorted.

Only two numbers per query and positive matter: how many negatives score at least as high (ties
are pessimistic), and how many positives come before it. Counts add up over gallery tiles, so
memory does not grow with queries x gallery, and no tiling changes a digit:

1. every query-positive score is computed in float64;
2. float32 tiles decide each pair that lies further from all of its query's positives than the
   rounding error of a float32 product can reach;
3. the few pairs inside that band are scored in float64, by the very code of (1).
"""

# Shapes: Q = queries, G = gallery images, D = descriptor width, P = positives of all queries in
# a row, N = pairs of one query and one gallery image.

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

JUNK = -1
TILE = (512, 8192)
NUMBERS_AT_ONCE = {"cpu": 2**14}
"""Products per block of exact scores: on a CPU too few to wake a second thread."""

NUMBERS_ELSEWHERE = 2**22


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The 0-based ranks of every query's positives, best first, all queries in one ragged row."""

    ranks_P: Tensor
    """Ranks; the positives of query `q` are `ranks_P[offsets[q] : offsets[q + 1]]`, ascending."""

    offsets: Tensor
    """Where each query's positives begin and end: queries + 1 integers."""

    num_gallery: int
    """Gallery images, junk included: the official recall@1% counts them too."""

    def of_query(self, query: int) -> list[int]:
        """The ranks of one query's positives, best first."""
        begin, end = self.offsets[query : query + 2].tolist()
        ranks: list[int] = self.ranks_P[begin:end].tolist()
        return ranks


@torch.no_grad()
def rank(
    query_QD: Tensor,
    gallery_GD: Tensor,
    *,
    query_labels_Q: Tensor,
    gallery_labels_G: Tensor,
    tile: tuple[int, int] = TILE,
) -> Ranking:
    """Rank the gallery by dot product for each query; gallery label -1 is junk and is left out."""
    _check(query_QD, gallery_GD, query_labels_Q, gallery_labels_G)
    num_gallery = len(gallery_GD)
    wanted_G = gallery_labels_G != JUNK
    if not bool(wanted_G.all()):
        gallery_GD, gallery_labels_G = gallery_GD[wanted_G], gallery_labels_G[wanted_G]

    positives = _Positives.find(query_QD, gallery_GD, query_labels_Q, gallery_labels_G)
    beaten_P = torch.zeros_like(positives.query_P)
    if len(beaten_P):
        with _full_float32():
            for query, gallery in _tiles(len(query_QD), len(gallery_GD), tile):
                row_N, column_N, bin_N = _beaten(query_QD, gallery_GD, positives, query, gallery)
                is_negative_N = query_labels_Q[row_N] != gallery_labels_G[column_N]
                beaten_P += positives.tally(row_N[is_negative_N], bin_N[is_negative_N])

    # Scores ascend within a query, so its best positive comes last: turn each query's row round.
    order_P = positives.offsets[positives.query_P] + positives.after_P
    ranks_P = torch.empty_like(beaten_P)
    ranks_P[order_P] = beaten_P + positives.after_P
    return Ranking(ranks_P=ranks_P, offsets=positives.offsets, num_gallery=num_gallery)


def metrics(ranking: Ranking) -> dict[str, float]:
    """Recall and trapezoid average precision over all queries, as fractions, as the field has it.

    recall@1% reads the curve at index `round(0.01 * gallery)` counted from 0, one rank further than
    its name says; a query without positives scores 0 and is still divided by.
    """
    offsets, ranks_P = ranking.offsets.cpu(), ranking.ranks_P.cpu()
    num_positives_Q = offsets.diff()
    num_queries = len(num_positives_Q)
    first_Q = ranks_P[offsets[:-1][num_positives_Q > 0]]
    last_rank = {"recall@1": 0, "recall@5": 4, "recall@10": 9}
    last_rank["recall@1%"] = round(0.01 * ranking.num_gallery)
    found = {name: int((first_Q <= last).sum()) / num_queries for name, last in last_rank.items()}
    precision_P = _trapezoid(ranks_P, offsets) / num_positives_Q.repeat_interleave(num_positives_Q)
    ap = float(precision_P.sum()) / num_queries
    return {**found, "ap": ap, "num_queries": num_queries, "num_gallery": ranking.num_gallery}


def _trapezoid(ranks_P: Tensor, offsets: Tensor) -> Tensor:
    """Mean of the precision just before and just at each positive."""
    num_positives_Q = offsets.diff()
    before_P = torch.arange(len(ranks_P)) - offsets[:-1].repeat_interleave(num_positives_Q)
    here_P = (before_P + 1).double() / (ranks_P + 1)
    just_before_P = torch.where(ranks_P > 0, before_P.double() / ranks_P.clamp(min=1), 1.0)
    return (here_P + just_before_P) / 2


@dataclass(frozen=True, kw_only=True)
class _Positives:
    """The scores that negatives must beat: ragged, query by query, ascending."""

    score_P: Tensor
    query_P: Tensor
    offsets: Tensor
    after_P: Tensor
    """How many positives of the same query score higher (or equal, and stand later)."""

    keys_P: Tensor
    """Query and rounded score as one integer, ascending over the whole row."""

    @classmethod
    def find(
        cls, query_QD: Tensor, gallery_GD: Tensor, query_labels: Tensor, labels: Tensor
    ) -> "_Positives":
        """Pair every query with the gallery images of its label and score the pairs."""
        sorted_labels, by_label = labels.sort(stable=True)
        begin_Q = torch.searchsorted(sorted_labels, query_labels)
        num_Q = torch.searchsorted(sorted_labels, query_labels, right=True) - begin_Q
        offsets = torch.cat([num_Q.new_zeros(1), num_Q.cumsum(0)])
        query_P = torch.arange(len(num_Q), device=num_Q.device).repeat_interleave(num_Q)
        place_P = torch.arange(len(query_P), device=num_Q.device) - offsets[query_P]
        score_P = _exact_scores(query_QD, gallery_GD, query_P, by_label[begin_Q[query_P] + place_P])
        by_score = score_P.argsort(stable=True)
        ascending = by_score[query_P[by_score].argsort(stable=True)]
        after_P = num_Q[query_P] - 1 - place_P
        score_P = score_P[ascending]
        keys_P = _keys(query_P, score_P.float())
        return cls(
            score_P=score_P, query_P=query_P, offsets=offsets, after_P=after_P, keys_P=keys_P
        )

    def surely_reached(self, row_N: Tensor, score_N: Tensor) -> Tensor:
        """How many positives of its query each float32 score reaches, rounding aside."""
        return (
            torch.searchsorted(self.keys_P, _keys(row_N, score_N), right=True) - self.offsets[row_N]
        )

    def reached(self, row_N: Tensor, score_N: Tensor) -> Tensor:
        """How many positives of its query each float64 score reaches, to the last bit."""
        low_N, high_N = self.offsets[row_N], self.offsets[row_N + 1]
        for _ in range(int(self.offsets.diff().max()).bit_length()):
            middle_N = (low_N + high_N) // 2
            is_open_N = low_N < high_N
            score_there_N = self.score_P[middle_N.clamp(max=len(self.score_P) - 1)]
            is_reached_N = is_open_N & (score_there_N <= score_N)
            low_N = torch.where(is_reached_N, middle_N + 1, low_N)
            high_N = torch.where(is_open_N & ~is_reached_N, middle_N, high_N)
        return low_N - self.offsets[row_N]

    def tally(self, row_N: Tensor, bin_N: Tensor) -> Tensor:
        """For each positive, how many of these negatives reach it."""
        # One bin more than positives per query: bin b holds the negatives that reach b positives.
        num_bins = len(self.score_P) + len(self.offsets) - 1
        counts = torch.bincount(self.offsets[row_N] + row_N + bin_N, minlength=num_bins)
        total = counts.cumsum(0)
        bin_P = torch.arange(len(self.score_P), device=total.device) + self.query_P
        last_Q = self.offsets[1:] + torch.arange(len(self.offsets) - 1, device=total.device)
        return total[last_Q[self.query_P]] - total[bin_P]


def _beaten(
    query_QD: Tensor, gallery_GD: Tensor, positives: _Positives, query: slice, gallery: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs of one tile that may reach a positive: query, gallery image, positives reached."""
    tile_query, tile_gallery = query_QD[query].float(), gallery_GD[gallery].float()
    score_QG = tile_query @ tile_gallery.T
    # |float32 product - exact| <= (D + 4) 2^-24 |q| |g|, the rounding of the inputs included; the
    # margin is twice that, because the positives' scores are rounded for the search too.
    width = query_QD.shape[1]
    longest = tile_gallery.norm(dim=1).max().double()
    error_Q = 1.01 * (width + 4) * 2.0**-24 * tile_query.norm(dim=1).double() * longest
    begin_Q, end_Q = positives.offsets[:-1][query], positives.offsets[1:][query]
    lowest_Q = positives.score_P[begin_Q.clamp(max=len(positives.score_P) - 1)]
    floor_Q = torch.where(begin_Q < end_Q, lowest_Q - 2 * error_Q, torch.inf).float()
    row_N, column_N = (score_QG >= floor_Q[:, None]).nonzero(as_tuple=True)
    score_N, margin_N = score_QG[row_N, column_N], (2 * error_Q).float()[row_N]
    row_N, column_N = row_N + query.start, column_N + gallery.start

    bin_N = positives.surely_reached(row_N, score_N - margin_N)
    is_unsure_N = bin_N != positives.surely_reached(row_N, score_N + margin_N)
    row, column = row_N[is_unsure_N], column_N[is_unsure_N]
    exact = _exact_scores(query_QD, gallery_GD, row, column)
    bin_N[is_unsure_N] = positives.reached(row, exact)
    return row_N, column_N, bin_N


def _keys(row_N: Tensor, score_N: Tensor) -> Tensor:
    """One integer per query and float32 score that sorts like the pair of them."""
    bits_N = (score_N + 0.0).view(torch.int32).long()  # the sum turns -0 into 0
    return (row_N << 32) + torch.where(bits_N < 0, -(bits_N & 0x7FFFFFFF), bits_N)


def _exact_scores(query_QD: Tensor, gallery_GD: Tensor, row_N: Tensor, column_N: Tensor) -> Tensor:
    """Dot products in float64, in blocks of one shape, so that equal pairs score equal bits."""
    if not len(row_N):
        return query_QD.new_empty(0, dtype=torch.float64)
    width = query_QD.shape[1]
    pairs = max(1, NUMBERS_AT_ONCE.get(query_QD.device.type, NUMBERS_ELSEWHERE) // max(1, width))
    padding = row_N.new_zeros(-len(row_N) % pairs)
    row_N, column_N = torch.cat([row_N, padding]), torch.cat([column_N, padding])
    score_N = query_QD.new_empty(len(row_N), dtype=torch.float64)
    # The buffers are filled again and again: fresh memory would cost more than the arithmetic.
    query, gallery = query_QD.new_empty(pairs, width), gallery_GD.new_empty(pairs, width)
    product = query_QD.new_empty(pairs, width, dtype=torch.float64)
    for row, column, score in zip(
        *(part.split(pairs) for part in (row_N, column_N, score_N)), strict=True
    ):
        torch.index_select(query_QD, 0, row, out=query)
        torch.index_select(gallery_GD, 0, column, out=gallery)
        torch.sum(product.copy_(query).mul_(gallery), dim=1, out=score)
    return score_N[: len(score_N) - len(padding)]


def _tiles(
    num_queries: int, num_gallery: int, tile: tuple[int, int]
) -> Iterator[tuple[slice, slice]]:
    for query in range(0, num_queries, tile[0]):
        for gallery in range(0, num_gallery, tile[1]):
            yield slice(query, query + tile[0]), slice(gallery, gallery + tile[1])


@contextmanager
def _full_float32() -> Iterator[None]:
    """No TF32 and no bfloat16 inside float32 products: the error bound speaks of float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _check(
    query_QD: Tensor, gallery_GD: Tensor, query_labels_Q: Tensor, gallery_labels_G: Tensor
) -> None:
    """Refuse what has no ranking; callers tell their users in their own words."""
    if query_QD.ndim != 2 or gallery_GD.ndim != 2 or query_QD.shape[1] != gallery_GD.shape[1]:
        shapes = f"{tuple(query_QD.shape)} and {tuple(gallery_GD.shape)}"
        raise ValueError(f"queries and gallery must be [Q, D] and [G, D]; they are {shapes}")
    if query_labels_Q.shape != query_QD.shape[:1] or gallery_labels_G.shape != gallery_GD.shape[:1]:
        raise ValueError("there must be one label per query and one per gallery image")
    if not len(query_QD) or not len(gallery_GD):
        raise ValueError("there must be at least one query and one gallery image")
    if not bool(query_QD.isfinite().all()) or not bool(gallery_GD.isfinite().all()):
        raise ValueError("descriptors must be finite")
