"""The best of the gallery for each query: tiled, exact, and the same list every time.

Float32 tiles screen a few more than `k` images per query; these are scored again in float64, in
which equal descriptors score equal bits, and equal scores are ordered by gallery index. Where the
rounding of float32 could mask a better image outside of the screened ones, the gallery is read
again for these queries with a threshold that misses nothing.
"""

# Shapes: Q = queries, R = queries of one block, G = gallery images, D = descriptor width,
# K = images kept per query, S = images screened per query, N = pairs of a query and an image.

from dataclasses import dataclass

import torch
from torch import Tensor

from evaluation.ranking.screen import exact_scores, sums_of_float32

TILE = {"cpu": (512, 8192)}
"""Queries and gallery images of one product, by device."""

TILE_ELSEWHERE = (4096, 16384)

SPARE = 16
"""Images screened beyond `k`: as many may lie within the rounding of the last one for nothing."""

SMALLEST, LARGEST = 2.0**-90, 1e37
"""Lengths and products beyond these would leave float32, or what the error bound knows of it."""

GROUP = 64
"""Neighbouring scores of which only the best is compared at first; few of a later tile are good."""


@dataclass(frozen=True, kw_only=True)
class TopK:
    """The most similar gallery images of every query, best first."""

    index_QK: Tensor
    """Rows of the gallery, int64; of equal scores the lower row stands first."""

    score_QK: Tensor
    """Dot products, float64."""


@torch.no_grad()
def top_k(query_QD: Tensor, gallery_GD: Tensor, *, k: int) -> TopK:
    """Find the `k` gallery images of the largest dot product; all of them if there are fewer.

    Memory is that of one tile and of the lists; nothing of queries x gallery is ever held.

    Raises:
        ValueError: a query is zero, a descriptor is not finite, or float32 cannot hold the scores.
    """
    assert k >= 1 and query_QD.shape[1] == gallery_GD.shape[1], "checked by the caller"
    k = min(k, len(gallery_GD))
    tile_rows, tile_columns = TILE.get(query_QD.device.type, TILE_ELSEWHERE)
    length_Q, length_G = (
        torch.cat([tile.double().norm(dim=1) for tile in part.split(tile_columns)])
        for part in (query_QD, gallery_GD)
    )
    longest = length_G.max()
    reach = torch.cat([length_Q, longest[None], length_Q * longest])
    if not bool(((reach >= SMALLEST) & (reach <= LARGEST)).all()):
        raise ValueError(
            "descriptors must be finite and not zero, and neither so long nor so short that "
            "float32 cannot multiply them"
        )
    with sums_of_float32():
        found = [
            _search(query_RD, gallery_GD, k=k, longest=longest, columns=tile_columns)
            for query_RD in query_QD.split(tile_rows)
        ]
    return TopK(
        index_QK=torch.cat([index for index, _ in found]),
        score_QK=torch.cat([score for _, score in found]),
    )


def _search(
    query_RD: Tensor, gallery_GD: Tensor, *, k: int, longest: Tensor, columns: int
) -> tuple[Tensor, Tensor]:
    """Return indices and scores of one block of queries."""
    screened_RS, index_RS = _screen(query_RD, gallery_GD, keep=k + SPARE, columns=columns)
    # In the order of the gallery first, so that a stable sort leaves equal scores in it.
    index_RS = index_RS.sort(dim=1).values
    least_R = screened_RS.amin(dim=1)
    row_N = torch.arange(len(query_RD), device=query_RD.device)
    row_N = row_N.repeat_interleave(index_RS.shape[1])
    score_N = exact_scores(query_RD, gallery_GD, row_N, index_RS.flatten())
    score_RS, order = score_N.view_as(index_RS).sort(dim=1, descending=True, stable=True)
    index_RK, score_RK = index_RS.gather(1, order)[:, :k], score_RS[:, :k]
    if index_RS.shape[1] < len(gallery_GD):
        # |float32 product - exact| <= (D + 4) 2^-24 |q| |g|, the rounding of the inputs included.
        width = query_RD.shape[1]
        error_R = 1.01 * (width + 4) * 2.0**-24 * query_RD.double().norm(dim=1) * longest
        floor_R = (score_RK[:, -1] - error_R).float()
        floor_R = floor_R.nextafter(torch.full_like(floor_R, -torch.inf))
        unsure = (least_R >= floor_R).nonzero().flatten()
        if len(unsure):
            score_RK[unsure], index_RK[unsure] = _search_again(
                query_RD[unsure], gallery_GD, floor_R[unsure], k=k, columns=columns
            )
    return index_RK, score_RK


def _screen(
    query_RD: Tensor, gallery_GD: Tensor, *, keep: int, columns: int
) -> tuple[Tensor, Tensor]:
    """Return the best float32 scores and their indices, in no order."""
    query_RD = query_RD.float()
    # One tile for all products, of whole groups; fresh memory would cost a third of the product.
    num_groups = -(-min(columns, len(gallery_GD)) // GROUP)
    tile = query_RD.new_empty(len(query_RD), num_groups * GROUP)
    best_RS = query_RD.new_empty(len(query_RD), 0)
    index_RS = torch.empty_like(best_RS, dtype=torch.int64)
    for begin in range(0, len(gallery_GD), columns):
        gallery = gallery_GD[begin : begin + columns].float()
        score_RG = torch.mm(query_RD, gallery.T, out=tile[:, : len(gallery)])
        if best_RS.shape[1] < keep:
            best, index = score_RG.topk(min(keep, len(gallery)), dim=1, sorted=False)
        else:
            tile[:, len(gallery) :] = -torch.inf
            best, index = _above(tile, best_RS.amin(dim=1))
        best_RS = torch.cat([best_RS, best], dim=1)
        index_RS = torch.cat([index_RS, index + begin], dim=1)
        if best_RS.shape[1] > keep:
            best_RS, kept = best_RS.topk(keep, dim=1, sorted=False)
            index_RS = index_RS.gather(1, kept)
    return best_RS, index_RS


def _above(score_RG: Tensor, floor_R: Tensor) -> tuple[Tensor, Tensor]:
    """Return the few scores above the floor of their row, and their columns, as tables."""
    groups = score_RG.view(len(score_RG), -1, GROUP)
    row_M, group_M = (groups.amax(dim=2) > floor_R[:, None]).nonzero(as_tuple=True)
    score_MG = groups[row_M, group_M]
    which_N, place_N = (score_MG > floor_R[row_M, None]).nonzero(as_tuple=True)
    column_N = group_M[which_N] * GROUP + place_N
    return _padded(row_M[which_N], column_N, score_MG[which_N, place_N], rows=len(score_RG))


def _search_again(
    query_RD: Tensor, gallery_GD: Tensor, floor_R: Tensor, *, k: int, columns: int
) -> tuple[Tensor, Tensor]:
    """Return the exact scores and indices of the best, given scores that all of them reach.

    `floor_R` lies one rounding error below the `k` th best score; so does the float32 score of
    every image that could take its place.
    """
    best_RK = query_RD.new_empty(len(query_RD), 0, dtype=torch.float64)
    index_RK = torch.empty_like(best_RK, dtype=torch.int64)
    rounded_RD = query_RD.float()
    for begin in range(0, len(gallery_GD), columns):
        score_RG = rounded_RD @ gallery_GD[begin : begin + columns].float().T
        row_N, column_N = (score_RG >= floor_R[:, None]).nonzero(as_tuple=True)
        exact_N = exact_scores(query_RD, gallery_GD, row_N, column_N + begin)
        best, index = _padded(row_N, column_N, exact_N, rows=len(query_RD))
        # Tiles come in the order of the gallery, so a stable sort keeps equal scores in it.
        best_RK, order = torch.cat([best_RK, best], dim=1).sort(dim=1, descending=True, stable=True)
        index_RK = torch.cat([index_RK, index + begin], dim=1).gather(1, order)
        best_RK, index_RK = best_RK[:, :k], index_RK[:, :k]
    return best_RK, index_RK


def _padded(
    row_N: Tensor, column_N: Tensor, score_N: Tensor, *, rows: int
) -> tuple[Tensor, Tensor]:
    """Turn pairs, sorted by row, into a table of scores and columns, filled up with -inf."""
    counts = torch.bincount(row_N, minlength=rows)
    begin = counts.cumsum(0) - counts
    slot_N = torch.arange(len(row_N), device=row_N.device) - begin[row_N]
    width = int(counts.max())
    score = score_N.new_full((rows, width), -torch.inf)
    column = column_N.new_zeros((rows, width))
    score[row_N, slot_N], column[row_N, slot_N] = score_N, column_N
    return score, column
