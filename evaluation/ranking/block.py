"""A block of the gallery while it is in memory, how it is cut, and the positives in it."""

# Shapes: C = images of a block, D = descriptor width, N = pairs of a query and its positive.

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from evaluation.ranking.screen import Rounded, Screen


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """How work is cut; results do not depend on it."""

    queries: int = 1024

    strip: int = 8192
    """Gallery images whose scores are in memory at once."""

    block: int = 8192
    """Those that are read, rounded and kept together."""

    first_block: int = 1024
    """A small block comes first: it tells which queries have too many survivors."""

    def starts(self, num_gallery: int) -> list[int]:
        """The gallery rows at which blocks begin."""
        return [0, *range(min(self.first_block, self.block), num_gallery, self.block)]

    def rows(self, is_wanted_Q: Tensor) -> Iterator[Tensor]:
        """Yield the queries that are wanted, at most `queries` at once."""
        for row_R in is_wanted_Q.nonzero().squeeze(1).split(self.queries):
            if len(row_R):
                yield row_R


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
            norm_C = next((known.norm_R for known in self._rounded.values()), None)
            into = self.buffers.take(str(screen), self.rows_CD, screen.kind)
            self._rounded[screen] = screen.round(self.rows_CD, into=into, norm_R=norm_C)
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
        return self.row(name, rows_CD.numel(), rows_CD, dtype).view(rows_CD.shape)

    def row(self, name: str, length: int, beside: Tensor, dtype: torch.dtype) -> Tensor:
        """Return room for so many numbers on the device of a tensor."""
        if name not in self._tensors or len(self._tensors[name]) < length:
            self._tensors[name] = beside.new_empty(length, dtype=dtype)
        return self._tensors[name][:length]


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

    def places(self, num_columns: int, strip: int) -> tuple[Tensor, ...]:
        """Return where the pairs stand in the scores of each strip, as `hide` takes it.

        The queries must be numbered by the scores' rows and stand column by column.
        """
        strip_N = self.column_N // strip
        begin_N = strip_N * strip
        place_N = self.query_N * (num_columns - begin_N).clamp(max=strip) + self.column_N - begin_N
        num_strips = -(-num_columns // strip)
        per_strip: list[int] = torch.bincount(strip_N, minlength=num_strips).tolist()
        return torch.split(place_N, per_strip)

    def check(self, rough_N: Tensor, margin_R: Tensor, screen: Screen) -> None:
        """Compare scores of a screen with the exact ones."""
        rough_N = rough_N.double()
        reach_N = screen.reach(rough_N, margin_R[self.query_N])
        is_near_N = (rough_N - self.score_N).abs() <= reach_N
        assert bool(is_near_N.all()), "a score lies further from the exact one than it can"


def hide(score: Tensor, place_N: Tensor) -> Tensor:
    """Take scores out of a row of them; returns what they were."""
    hidden_N = score[place_N]
    score[place_N] = -torch.inf
    return hidden_N
