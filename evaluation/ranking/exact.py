"""The score that decides: one float64 dot product per pair, the same bits wherever the pair stands.

A matrix product may round equal rows differently at different places of a tile. Here every product
of two numbers and every sum is made in blocks of one shape, so two copies of an image score equal
bits, and a tie is a tie on any tile, shard and number of ranks.
"""

# Shapes: N = pairs of one query and one gallery image, D = descriptor width.

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]
Kind = np.dtype[Any]

NUMBERS_AT_ONCE = 2**15
"""Products per block on a CPU: few enough to stay near its core."""

NUMBERS_ELSEWHERE = 2**22


def exact_scores(query_QD: Tensor, gallery_GD: Tensor, row_N: Tensor, column_N: Tensor) -> Tensor:
    """Return the float64 scores [N] of the pairs (row, column)."""
    return _scores(query_QD, gallery_GD, row_N, column_N, kind=torch.float64)


def near_scores(query_QD: Tensor, gallery_GD: Tensor, row_N: Tensor, column_N: Tensor) -> Tensor:
    """Return the scores [N] of pairs of float32 rows, added in float32: a third of the time."""
    return _scores(query_QD, gallery_GD, row_N, column_N, kind=torch.float32)


def _scores(
    query_QD: Tensor, gallery_GD: Tensor, row_N: Tensor, column_N: Tensor, *, kind: torch.dtype
) -> Tensor:
    if not len(row_N):
        return query_QD.new_empty(0, dtype=kind)
    at_once = NUMBERS_AT_ONCE if query_QD.device.type == "cpu" else NUMBERS_ELSEWHERE
    pairs = max(1, at_once // max(1, query_QD.shape[1]))
    padding = row_N.new_zeros(-len(row_N) % pairs)
    row_N, column_N = torch.cat([row_N, padding]), torch.cat([column_N, padding])
    if query_QD.device.type == "cpu":
        rows = _array(query_QD), _array(gallery_GD)
        wide = np.dtype(str(kind).removeprefix("torch."))
        score_N = torch.from_numpy(_on_cpu(*rows, row_N.numpy(), column_N.numpy(), pairs, wide))
    else:
        score_N = torch.cat(
            [
                (query_QD[row].to(kind) * gallery_GD[column].to(kind)).sum(dim=1)
                for row, column in zip(row_N.split(pairs), column_N.split(pairs), strict=True)
            ]
        )
    return score_N[: len(score_N) - len(padding)]


def _on_cpu(
    query_QD: Array, gallery_GD: Array, row_N: Array, column_N: Array, pairs: int, kind: Kind
) -> Array:
    """Score blocks of `pairs`, all full; einsum adds each row in one order, on one thread."""
    score_N = np.empty(len(row_N), kind)
    # The buffers are filled again and again: fresh memory would cost more than the arithmetic.
    left, right = _Gathered(query_QD, pairs, kind), _Gathered(gallery_GD, pairs, kind)
    for begin in range(0, len(row_N), pairs):
        part = slice(begin, begin + pairs)
        np.einsum("nd,nd->n", left.take(row_N[part]), right.take(column_N[part]), out=score_N[part])
    return score_N


class _Gathered:
    """Rows of a table, brought together and widened in buffers."""

    def __init__(self, rows_RD: Array, pairs: int, kind: Kind) -> None:
        self._rows_RD = rows_RD
        self._taken = np.empty((pairs, rows_RD.shape[1]), rows_RD.dtype)
        self._wide = self._taken if rows_RD.dtype == kind else np.empty_like(self._taken, kind)

    def take(self, row_N: Array) -> Array:
        """Return the rows, good until the next ones."""
        # "clip" writes into `out` at once; the indices are never outside.
        np.take(self._rows_RD, row_N, axis=0, out=self._taken, mode="clip")
        if self._wide is not self._taken:
            self._wide[:] = self._taken
        return self._wide


def _array(rows_RD: Tensor) -> Array:
    """Return the rows as numpy has them, which has no bfloat16."""
    array: Array = (rows_RD.float() if rows_RD.dtype == torch.bfloat16 else rows_RD).numpy()
    return array
