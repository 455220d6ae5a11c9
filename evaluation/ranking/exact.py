"""The score that decides: one float64 dot product per pair, the same bits wherever the pair stands.

A matrix product may round equal rows differently at different places of a tile. Here every product
of two numbers and every sum is made in blocks of one shape, so two copies of an image score equal
bits, and a tie is a tie on any tile, shard and number of ranks.
"""

# Shapes: N = pairs of one query and one gallery image, D = descriptor width.

import torch
from torch import Tensor

NUMBERS_AT_ONCE = {"cpu": 2**14}
"""Products per block: on a CPU few enough to stay in its nearest cache and on one thread."""

NUMBERS_ELSEWHERE = 2**22


def exact_scores(query_QD: Tensor, gallery_GD: Tensor, row_N: Tensor, column_N: Tensor) -> Tensor:
    """Return the float64 scores [N] of the pairs (row, column)."""
    if not len(row_N):
        return query_QD.new_empty(0, dtype=torch.float64)
    width = query_QD.shape[1]
    pairs = max(1, NUMBERS_AT_ONCE.get(query_QD.device.type, NUMBERS_ELSEWHERE) // max(1, width))
    padding = row_N.new_zeros(-len(row_N) % pairs)
    row_N, column_N = torch.cat([row_N, padding]), torch.cat([column_N, padding])
    score_N = query_QD.new_empty(len(row_N), dtype=torch.float64)
    # The buffers are filled again and again: fresh memory would cost more than the arithmetic.
    query, gallery = query_QD.new_empty(pairs, width), gallery_GD.new_empty(pairs, width)
    left = query_QD.new_empty(pairs, width, dtype=torch.float64)
    right = torch.empty_like(left)
    for row, column, score in zip(
        *(part.split(pairs) for part in (row_N, column_N, score_N)), strict=True
    ):
        torch.index_select(query_QD, 0, row, out=query)
        torch.index_select(gallery_GD, 0, column, out=gallery)
        torch.sum(left.copy_(query).mul_(right.copy_(gallery)), dim=1, out=score)
    return score_N[: len(score_N) - len(padding)]
