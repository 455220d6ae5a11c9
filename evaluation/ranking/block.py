"""A block of the gallery while it is in memory, and the positives that stand in it."""

# Shapes: C = images of a block, D = descriptor width, N = pairs of a query and its positive.

from dataclasses import dataclass, field

import torch
from torch import Tensor

from evaluation.ranking.screen import Rounded, Screen


@dataclass(kw_only=True)
class Block:
    """Images of the gallery, junk left out, as they came; copies of them are made when needed."""

    rows_CD: Tensor
    buffers: "Buffers"
    _rounded: dict[Screen, Rounded] = field(default_factory=dict)
    _double_CD: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows_CD)

    def rounded(self, screen: Screen) -> Rounded:
        """Return the rows as a screen multiplies them."""
        if screen not in self._rounded:
            into = self.buffers.take(screen.precision, self.rows_CD, torch.float32)
            self._rounded[screen] = screen.round(self.rows_CD, into=into)
        return self._rounded[screen]

    def double(self) -> Tensor:
        """Return the rows in float64."""
        if self._double_CD is None:
            into = self.buffers.take("double", self.rows_CD, torch.float64)
            self._double_CD = into.copy_(self.rows_CD)
        return self._double_CD


class Buffers:
    """Memory that each block uses again: fresh pages cost more than the arithmetic."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}

    def take(self, name: str, rows_CD: Tensor, dtype: torch.dtype) -> Tensor:
        """Return room for as many rows."""
        if name not in self._tensors or len(self._tensors[name]) < len(rows_CD):
            self._tensors[name] = torch.empty_like(rows_CD, dtype=dtype)
        return self._tensors[name][: len(rows_CD)]


@dataclass(frozen=True, kw_only=True)
class Own:
    """Queries that have a positive in the block, ascending, with its column and exact score."""

    query_N: Tensor
    column_N: Tensor
    score_N: Tensor

    def among(self, row_R: Tensor) -> "Own":
        """Keep the queries `row_R` (ascending), numbered by their place there; column by column."""
        ends = torch.searchsorted(self.query_N, row_R[[0, -1]])
        begin, end = int(ends[0]), int(torch.searchsorted(self.query_N, row_R[-1], right=True))
        place_N = torch.searchsorted(row_R, self.query_N[begin:end])
        kept_N = (row_R[place_N] == self.query_N[begin:end]).nonzero().squeeze(1)
        column_N, order = self.column_N[begin:end][kept_N].sort()
        kept_N = kept_N[order]
        return Own(
            query_N=place_N[kept_N], column_N=column_N, score_N=self.score_N[begin:end][kept_N]
        )

    def hide(self, score_RC: Tensor, first: int, margin_R: Tensor) -> None:
        """Take the positives out of a tile that begins at a column, and check its scores by them.

        The queries must be numbered by the tile's rows and stand column by column.
        """
        edges = torch.tensor([first, first + score_RC.shape[1]], device=self.column_N.device)
        begin, end = torch.searchsorted(self.column_N, edges).tolist()
        if begin == end:
            return
        row_N = self.query_N[begin:end]
        place_N = row_N * score_RC.shape[1] + self.column_N[begin:end] - first
        rough_N = score_RC.view(-1)[place_N].double()
        is_near_N = (rough_N - self.score_N[begin:end]).abs() <= margin_R[row_N]
        assert bool(is_near_N.all()), "a score lies further from the exact one than it can"
        score_RC.view(-1)[place_N] = -torch.inf
