"""k-reciprocal re-ranking of Zhong et al., CVPR 2017, on lists of neighbours instead of matrices.

Written from the paper's formulas, for the images of queries and gallery together:

- R(i, k) holds the images that are among the `k` nearest of `i`, and `i` among theirs (eq. 3);
- R*(i) adds to R(i, k1) each R(j, k1/2) of a member `j` that shares two thirds of it (eq. 4);
- V(i, j) = exp(-d(i, j)) where `j` is in R*(i), else 0 (eq. 7), averaged over the `k2` nearest
  images, `i` itself among them (eq. 11);
- the Jaccard distance 1 - sum min(V_i, V_j) / sum max(V_i, V_j) (eq. 10) is mixed with the original
  distance: (1 - lambda) Jaccard + lambda d (eq. 12).

Where the paper leaves a choice: d is 1 - cosine, half the squared distance of unit vectors; an
image is not counted among its own `k1` neighbours and belongs to R in any case; k1/2 is rounded.

Only the `top` gallery images of a query change places. All others stay behind them in their
original order, so that the rank of every positive is exact. The neighbours take (Q + G) x k1
integers, the sets some hundred numbers per image; nothing of (Q + G) x (Q + G) is ever held.
"""

# Shapes: Q = queries, G = gallery images, D = descriptor width, K = images per list, M = Q + G,
# B = queries of a block, P = positives of all queries in a row, N = pairs.

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor

from evaluation.ranking.metrics import JUNK, Ranking
from evaluation.ranking.screen import exact_scores
from evaluation.ranking.top_k import TopK, top_k

Table = npt.NDArray[Any]

ROWS_AT_ONCE = 2048
"""Images whose sets are made, or compared, at once."""

LENGTH_TOLERANCE = 1e-2
"""Descriptors kept in half precision are unit vectors too."""


@dataclass(frozen=True, kw_only=True)
class RerankSettings:
    """The numbers of k-reciprocal re-ranking, as they stand beside its results."""

    top: int = 100
    """Gallery images of each query that change places."""

    k1: int = 20
    """Neighbours that must know each other."""

    k2: int = 6
    """Images, the image itself among them, whose sets are averaged."""

    lambda_: float = 0.3
    """Share of the original distance in the new one."""

    @property
    def words(self) -> str:
        """The settings in one line: `k-reciprocal, top 100, k1 20, k2 6, lambda 0.3`."""
        return f"k-reciprocal, top {self.top}, k1 {self.k1}, k2 {self.k2}, lambda {self.lambda_:g}"


def rank_again(
    ranking: Ranking, lists: TopK, *, query_labels_Q: Tensor, gallery_labels_G: Tensor
) -> Ranking:
    """Put the ranks that `lists` give before those that `ranking` gives to all other positives.

    The lists are those of `reorder` over the gallery without junk; their positives are the ones
    that ranked best before. Wrong images at an equal distance come first, as everywhere.
    """
    label_G = gallery_labels_G[gallery_labels_G != JUNK].cpu()
    is_right_QK = label_G[lists.index_QK] == query_labels_Q.cpu()[:, None]
    # Ascending distance, and of an equal one the wrong images first.
    order = is_right_QK.int().sort(dim=1, stable=True).indices
    score_QK, is_right_QK = lists.score_QK.gather(1, order), is_right_QK.gather(1, order)
    order = score_QK.sort(dim=1, descending=True, stable=True).indices
    query_N, rank_N = is_right_QK.gather(1, order).nonzero(as_tuple=True)
    offsets = ranking.offsets.cpu()
    ranks_P = ranking.ranks_P.cpu().clamp(min=is_right_QK.shape[1])
    before_N = torch.searchsorted(query_N, query_N)
    ranks_P[offsets[query_N] + torch.arange(len(query_N)) - before_N] = rank_N
    return Ranking(ranks_P=ranks_P, offsets=offsets, num_gallery=ranking.num_gallery)


@torch.no_grad()
def reorder(query_QD: Tensor, gallery_GD: Tensor, settings: RerankSettings) -> TopK:
    """Return the `top` gallery images of each query in their new order, on the CPU.

    The scores are negative distances, in float64; of equal ones the better image of the original
    order stands first.

    Raises:
        ValueError: the descriptors are not of unit length.
    """
    for name, part in (("query", query_QD), ("gallery", gallery_GD)):
        length = torch.cat([block.double().norm(dim=1) for block in part.split(ROWS_AT_ONCE)])
        if bool((length - 1).abs().max() > LENGTH_TOLERANCE):
            raise ValueError(f"{name} descriptors must be unit vectors to be ranked again")
    image_MD = torch.cat([query_QD, gallery_GD])
    sets = _encode(image_MD, settings)
    lists = top_k(query_QD, gallery_GD, k=settings.top)
    index_QK = lists.index_QK.cpu()
    distance_QK = settings.lambda_ * (1 - lists.score_QK.cpu())
    for rows in _blocks(len(index_QK)):
        jaccard_BK = _jaccard(sets, rows, len(query_QD) + index_QK[rows].numpy())
        distance_QK[rows] += (1 - settings.lambda_) * torch.from_numpy(jaccard_BK)
    distance_QK, order = distance_QK.sort(dim=1, stable=True)
    return TopK(index_QK=index_QK.gather(1, order), score_QK=-distance_QK)


def _encode(image_MD: Tensor, settings: RerankSettings) -> sparse.csr_array:
    """Return the weighted set of every image, a sparse row each: V of eq. (7) and (11)."""
    neighbour_MK = _neighbours(image_MD, k=max(settings.k1, settings.k2 - 1))
    mutual = _mutual(neighbour_MK[:, : settings.k1 + 1])
    nearer = _mutual(neighbour_MK[:, : max(1, round(settings.k1 / 2)) + 1])
    blocks = [_weighted(image_MD, rows, mutual, nearer) for rows in _blocks(len(image_MD))]
    sets = sparse.vstack(blocks, format="csr")
    averaged = neighbour_MK[:, : settings.k2]
    if averaged.shape[1] > 1:
        average = _links(averaged) / averaged.shape[1]
        blocks = [average[rows] @ sets for rows in _blocks(len(image_MD))]
        sets = sparse.vstack(blocks, format="csr")
    sets.sort_indices()
    return sets


def _neighbours(image_MD: Tensor, *, k: int) -> Table:
    """Return every image and its `k` nearest others, nearest first."""
    found_MK = top_k(image_MD, image_MD, k=k + 1).index_QK.cpu().numpy()
    itself_M = np.arange(len(found_MK))[:, None]
    # A copy of an image may stand before it; then the image is drawn to the front, or put there in
    # the place of the last where its copies fill the list.
    is_other_MK = found_MK != itself_M
    is_other_MK[is_other_MK.all(axis=1), -1] = False
    others = found_MK[is_other_MK].reshape(len(found_MK), -1)
    return np.concatenate([itself_M, others], axis=1)


def _links(neighbour_MK: Table) -> sparse.csr_array:
    """Return lists of neighbours as a sparse matrix of ones."""
    num_images, num_listed = neighbour_MK.shape
    begin = np.arange(0, num_images * num_listed + 1, num_listed)
    ones = np.ones(num_images * num_listed, dtype=np.float32)
    shape = (num_images, num_images)
    links = sparse.csr_array((ones, neighbour_MK.flatten(), begin), shape=shape)
    links.sort_indices()
    return links


def _mutual(neighbour_MK: Table) -> sparse.csr_array:
    """Return who is listed by whom it lists: R of eq. (3)."""
    links = _links(neighbour_MK)
    return links.multiply(links.T.tocsr()).tocsr()


def _weighted(
    image_MD: Tensor, rows: slice, mutual: sparse.csr_array, nearer: sparse.csr_array
) -> sparse.csr_array:
    """Return rows of V before the averaging: eq. (4), then (7)."""
    own = mutual[rows]
    shared = own.multiply(own @ nearer).tocoo()  # R is symmetric: a row of `nearer` is a column too
    enough = 3 * shared.data >= 2 * nearer.sum(axis=1)[shared.col]
    joining = sparse.csr_array(
        (shared.data[enough], (shared.row[enough], shared.col[enough])), shape=own.shape
    )
    pairs = (own + joining @ nearer).tocoo()
    row_N = torch.from_numpy(pairs.row.astype(np.int64) + rows.start).to(image_MD.device)
    column_N = torch.from_numpy(pairs.col.astype(np.int64)).to(image_MD.device)
    distance_N = 1 - exact_scores(image_MD, image_MD, row_N, column_N).cpu().numpy()
    return sparse.csr_array((np.exp(-distance_N), (pairs.row, pairs.col)), shape=own.shape)


def _jaccard(sets: sparse.csr_array, rows: slice, candidate_BK: Table) -> Table:
    """Return the Jaccard distance of each query of a block to its candidates: eq. (10)."""
    num_rows, num_candidates = candidate_BK.shape
    query_N = np.arange(rows.start, rows.start + num_rows).repeat(num_candidates)
    candidate_N = candidate_BK.ravel()
    both_N = np.empty(len(query_N))
    for block in _blocks(len(query_N)):
        smaller = sets[query_N[block]].minimum(sets[candidate_N[block]])
        both_N[block] = smaller.sum(axis=1)
    total_M = sets.sum(axis=1)
    jaccard_N: Table = 1 - both_N / (total_M[query_N] + total_M[candidate_N] - both_N)
    return jaccard_N.reshape(candidate_BK.shape)


def _blocks(length: int) -> Iterator[slice]:
    for begin in range(0, length, ROWS_AT_ONCE):
        yield slice(begin, min(begin + ROWS_AT_ONCE, length))
