"""The score that decides: one float64 dot product per pair, the same bits wherever the pair stands.

A matrix product may round equal rows differently at different places of a tile. Here every product
of two numbers and every sum is made in blocks of one shape, so two copies of an image score equal
bits, and a tie is a tie on any tile, shard and number of ranks.
"""

# Shapes: N = pairs of one query and one gallery image, D = descriptor width.

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

NUMBERS_AT_ONCE = 2**15
"""Products per block on a CPU: few enough to stay near its core."""

NUMBERS_ELSEWHERE = 2**22


def exact_scores(query_QD: Tensor, gallery_GD: Tensor, row_N: Tensor, column_N: Tensor) -> Tensor:
    """Return the float64 scores [N] of the pairs (row, column)."""
    if not len(row_N):
        return query_QD.new_empty(0, dtype=torch.float64)
    at_once = NUMBERS_AT_ONCE if query_QD.device.type == "cpu" else NUMBERS_ELSEWHERE
    pairs = max(1, at_once // max(1, query_QD.shape[1]))
    padding = row_N.new_zeros(-len(row_N) % pairs)
    row_N, column_N = torch.cat([row_N, padding]), torch.cat([column_N, padding])
    if query_QD.device.type == "cpu":
        arrays = _array(query_QD), _array(gallery_GD), row_N.numpy(), column_N.numpy()
        score_N = torch.from_numpy(_on_cpu(*arrays, pairs))
    else:
        score_N = torch.cat(
            [
                (query_QD[row].double() * gallery_GD[column].double()).sum(dim=1)
                for row, column in zip(row_N.split(pairs), column_N.split(pairs), strict=True)
            ]
        )
    return score_N[: len(score_N) - len(padding)]


def _on_cpu(
    query_QD: npt.NDArray[np.generic],
    gallery_GD: npt.NDArray[np.generic],
    row_N: npt.NDArray[np.int64],
    column_N: npt.NDArray[np.int64],
    pairs: int,
) -> npt.NDArray[np.float64]:
    """Score blocks of `pairs`, all full; einsum adds each row in one order, on one thread."""
    width = query_QD.shape[1]
    score_N = np.empty(len(row_N))
    # The buffers are filled again and again: fresh memory would cost more than the arithmetic.
    query, gallery = (np.empty((pairs, width), rows.dtype) for rows in (query_QD, gallery_GD))
    left, right = np.empty((pairs, width)), np.empty((pairs, width))
    for begin in range(0, len(row_N), pairs):
        part = slice(begin, begin + pairs)
        # "clip" writes into `out` at once; the indices are never outside.
        np.take(query_QD, row_N[part], axis=0, out=query, mode="clip")
        np.take(gallery_GD, column_N[part], axis=0, out=gallery, mode="clip")
        left[:], right[:] = query, gallery
        np.einsum("nd,nd->n", left, right, out=score_N[part])
    return score_N


def _array(rows_RD: Tensor) -> npt.NDArray[np.generic]:
    """Return the rows as numpy has them, which has no bfloat16."""
    array: npt.NDArray[np.generic] = (
        rows_RD.float() if rows_RD.dtype == torch.bfloat16 else rows_RD
    ).numpy()
    return array
