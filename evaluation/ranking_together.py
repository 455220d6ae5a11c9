"""The ranking on many ranks: each counts its part of the gallery, and all get the same ranks.

The counts are integers and the thresholds exact, so the ranks are those of one process, to the last
bit, for any number of ranks and any parts.
"""

# Shapes: Q = queries, G = gallery images, D = descriptor width.

import numpy as np
import torch
from torch import Tensor

from distill import collectives
from evaluation.ranking import Gallery, InMemory, Ranking, rank_gallery


class Together:
    """The exchange of all ranks of this job."""

    def gather(self, part: Tensor) -> Tensor:
        """Concatenate every rank's tensor in the order of ranks; their lengths may differ."""
        parts = collectives.gather_arrays(part.cpu().numpy())
        return torch.from_numpy(np.concatenate(parts)).to(part.device)

    def sum(self, part: Tensor) -> Tensor:
        """Add every rank's integers."""
        return collectives.sum_integers(part)

    def first_problem(self, problem: str | None) -> str | None:
        """Return the problem of the lowest rank that has one."""
        return collectives.first_problem(problem)


def rank_together(
    query_QD: Tensor, gallery_GD: Tensor, *, query_labels_Q: Tensor, gallery_labels_G: Tensor
) -> Ranking:
    """Rank a gallery that every rank holds whole; each counts in its own part of it.

    Raises:
        ValueError: as `rank` does, on every rank.
    """
    ranks, number, size = collectives.world_size(), collectives.rank(), len(gallery_GD)
    part = slice(size * number // ranks, size * (number + 1) // ranks)
    shard = InMemory(gallery_GD[part], gallery_labels_G[part])
    return rank_shards(query_QD, shard, query_labels_Q=query_labels_Q)


def rank_shards(query_QD: Tensor, shard: Gallery, *, query_labels_Q: Tensor) -> Ranking:
    """Rank a gallery of which every rank holds another part, none of any size; queries are alike.

    Raises:
        ValueError: as `rank` does, on every rank, though only one has what is wrong.
    """
    return rank_gallery(query_QD, shard, query_labels_Q=query_labels_Q, exchange=Together())
