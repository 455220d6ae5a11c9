"""The few scores of a tile that may reach a threshold: found, and counted to the last bit.

Candidates come from a rough product; those nearer to a threshold than its bound are scored again,
exactly. Where the positives of a query are ranked so low that too many scores reach them, the
scores of a float32 product are sorted, and each threshold is looked up among them: those above it
by more than the bound reach it, those below it by more do not, and the few between are scored
exactly. Each score carries its column through the sort, as the low bits of one integer.
"""

# Shapes: R = queries of a tile, C = its gallery columns, D = descriptor width, N = candidates, or
# pairs of a query and its positive, P = thresholds of the tile's queries, M = pairs of a threshold
# and a score too near to it.

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from evaluation.ranking.screen import PLAIN, Rounded, Screen, exact_scores, margins, near_scores
from evaluation.ranking.thresholds import Counts, Thresholds, above, below, keys, spread


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """How work is cut; results do not depend on it."""

    queries: int = 1024
    """Those whose scores are in memory at once."""

    block: int = 8192
    """Gallery images that are read, rounded and kept together."""

    first_block: int = 1024
    """A small block comes first: it tells which queries have too many candidates."""

    def starts(self, num_gallery: int) -> list[int]:
        """The gallery rows at which blocks begin."""
        return [0, *range(min(self.first_block, self.block), num_gallery, self.block)]

    def rows(self, is_wanted_Q: Tensor) -> list[Tensor]:
        """Return the queries that are wanted, at most `queries` at once."""
        parts = is_wanted_Q.nonzero().squeeze(1).split(self.queries)
        return [row_R for row_R in parts if len(row_R)]


@dataclass(kw_only=True)
class Block:
    """Images of the gallery, junk left out, as they came; copies of them are made when needed."""

    rows_CD: Tensor
    buffers: "Buffers"
    _rounded: dict[Screen, Rounded] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows_CD)

    def rounded(self, screen: Screen) -> Rounded:
        """Return the rows as a screen multiplies them."""
        if screen not in self._rounded:
            norm_C = next((known.norm_R for known in self._rounded.values()), None)
            into = self.buffers.take(str(screen), self.rows_CD.shape, self.rows_CD, screen.kind)
            self._rounded[screen] = screen.round(self.rows_CD, into=into, norm_R=norm_C)
        return self._rounded[screen]

    def scores(self, query: Rounded, screen: Screen) -> Tensor:
        """Return a screen's scores [R, C] of some queries, good until the next ones."""
        gallery_CD, shape = self.rounded(screen).value_RD, (len(query.value_RD), len(self))
        score_RC = self.buffers.take("scores", shape, gallery_CD, screen.kind)
        return torch.mm(query.value_RD, gallery_CD.T, out=score_RC)


class Buffers:
    """Memory that each block uses again: fresh pages cost more than the arithmetic."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], beside: Tensor, dtype: torch.dtype) -> Tensor:
        """Return room for a table of numbers, on the device of a tensor."""
        num_bytes = math.prod(shape) * dtype.itemsize
        if name not in self._tensors or len(self._tensors[name]) < num_bytes:
            self._tensors[name] = beside.new_empty(num_bytes, dtype=torch.uint8)
        return self._tensors[name][:num_bytes].view(dtype).view(shape)


@dataclass(frozen=True, kw_only=True)
class Positives:
    """Queries that have a positive in the block, ascending, with its column and exact score."""

    query_N: Tensor
    column_N: Tensor
    score_N: Tensor

    def among(self, row_R: Tensor) -> "Positives":
        """Keep the queries `row_R` (ascending), numbered by their place there."""
        if not len(self.query_N):
            return self
        ends = torch.searchsorted(self.query_N, row_R[[0, -1]])
        begin, end = int(ends[0]), int(torch.searchsorted(self.query_N, row_R[-1], right=True))
        place_N = torch.searchsorted(row_R, self.query_N[begin:end])
        kept_N = (row_R[place_N] == self.query_N[begin:end]).nonzero().squeeze(1)
        return Positives(
            query_N=place_N[kept_N],
            column_N=self.column_N[begin:end][kept_N],
            score_N=self.score_N[begin:end][kept_N],
        )

    def mask(self, score_RC: Tensor) -> Tensor:
        """Take the pairs out of the scores, whose rows the queries number; returns them."""
        rough_N = score_RC[self.query_N, self.column_N]
        score_RC[self.query_N, self.column_N] = -torch.inf
        return rough_N

    def mask_and_check(self, score_RC: Tensor, margin_R: Tensor, screen: Screen) -> None:
        """Do so with scores of a screen, and compare them with the exact ones."""
        if not len(self.query_N):
            return
        rough_N = self.mask(score_RC).double()
        reach_N = screen.reach(rough_N, margin_R[self.query_N])
        is_near_N = (rough_N - self.score_N).abs() <= reach_N
        assert bool(is_near_N.all()), "a score lies further from the exact one than it can"


@dataclass(frozen=True, kw_only=True)
class Limit:
    """When a row of a tile is dear enough to be counted in another way."""

    share: float
    """More than this share of the columns in the row itself,"""

    together: float
    """and in all such rows more per column, since the other way has a price for each column."""

    def is_kept(self, num_R: Tensor, num_columns: int) -> Tensor:
        """Return which rows [R] stay, given how many scores of each cost something."""
        is_dear_R = num_R > self.share * num_columns
        are_many = torch.where(is_dear_R, num_R, 0).sum() > self.together * num_columns
        return ~(is_dear_R & are_many)


MOST_CANDIDATES = Limit(share=1 / 5, together=8)
"""Beyond these, sorting a query's scores is quicker than looking at each candidate."""

MOST_UNSURE = Limit(share=1 / 40, together=1)
"""Beyond these, exact scores of candidates cost more than the next finer product."""

MOST_UNSURE_SORTED = Limit(share=2, together=2)
"""Beyond these, as copies have them, one exact score per pair costs less than looking them up."""


class Candidates(NamedTuple):
    """Queries and columns of a block, and the scores there."""

    query_N: Tensor
    column_N: Tensor
    score_N: Tensor


def find_candidates(score_RC: Tensor, floor_R: Tensor, row_R: Tensor) -> tuple[Candidates, Tensor]:
    """Find each score that reaches its row's floor, where `row_R` are the queries of the rows.

    Rows that have too many are left out; the second result [R] says which were not.
    Floors of bfloat16 scores must be above zero: then the bits of both, taken as integers, are in
    the same order, as far as it matters, and every library compares those at full speed.
    """
    whole_RC = score_RC
    if score_RC.dtype == torch.bfloat16:
        whole_RC, floor_R = score_RC.view(torch.int16), floor_R.view(torch.int16)
    row_N, column_N = _reaching(whole_RC, floor_R)
    num_columns, is_kept_R = score_RC.shape[1], torch.ones_like(row_R, dtype=torch.bool)
    if len(row_N) > MOST_CANDIDATES.together * num_columns:
        num_R = torch.bincount(row_N, minlength=len(row_R))
        is_kept_R = MOST_CANDIDATES.is_kept(num_R, num_columns)
        kept_N = is_kept_R[row_N]
        row_N, column_N = row_N[kept_N], column_N[kept_N]
    return Candidates(row_R[row_N], column_N, score_RC[row_N, column_N]), is_kept_R


def _reaching(score_RC: Tensor, floor_R: Tensor) -> tuple[Tensor, Tensor]:
    """Return row [N] and column [N] of each score that reaches its row's floor."""
    if score_RC.device.type == "cpu":
        is_there_RC = score_RC.numpy() >= floor_R.numpy()[:, None]
        place_N = torch.from_numpy(np.flatnonzero(is_there_RC))  # several times as fast as torch's
        row_N = place_N // score_RC.shape[1]
        return row_N, place_N - row_N * score_RC.shape[1]
    # A maximum is read at the speed of memory, and most rows of a good model have nothing there.
    row_M = (score_RC.amax(dim=1) >= floor_R).nonzero().squeeze(1)
    which_N, column_N = (score_RC[row_M] >= floor_R[row_M, None]).nonzero(as_tuple=True)
    return row_M[which_N], column_N


def count_candidates(
    found: Candidates,
    query_QD: Tensor,
    block: Block,
    *,
    margin_Q: Tensor,
    screen: Screen,
    counts: Counts,
    plain: Rounded | None,
) -> Tensor:
    """Count negatives that may reach a threshold.

    Queries that have too many candidates too near to one are left out; the result [Q] says which
    were not. With all queries in float32 (`plain`), such pairs are scored in float32 first, which
    decides nearly all of them for a third of the price.
    """
    query_N, column_N, score_N = found.query_N, found.column_N, found.score_N.double()
    reach_N = screen.reach(score_N, margin_Q[query_N])
    thresholds = counts.thresholds
    bin_N, most_N = thresholds.bounds(query_N, score_N - reach_N, score_N + reach_N)
    num_unsure_Q = torch.bincount(query_N[bin_N != most_N], minlength=len(query_QD))
    is_counted_Q = MOST_UNSURE.is_kept(num_unsure_Q, len(block))
    if not bool(is_counted_Q.all()):
        kept_N = is_counted_Q[query_N]
        query_N, column_N, bin_N, most_N = (
            part_N[kept_N] for part_N in (query_N, column_N, bin_N, most_N)
        )
    unsure_N = (bin_N != most_N).nonzero().squeeze(1)
    if plain is not None:
        query, column = query_N[unsure_N], column_N[unsure_N]
        gallery = block.rounded(PLAIN)
        near_N = near_scores(plain.value_RD, gallery.value_RD, query, column).double()
        reach_N = margins(plain, gallery, PLAIN.unit)[query]
        bin_N[unsure_N], most_N = thresholds.bounds(query, near_N - reach_N, near_N + reach_N)
        unsure_N = unsure_N[bin_N[unsure_N] != most_N]
    query = query_N[unsure_N]
    exact = exact_scores(query_QD, block.rows_CD, query, column_N[unsure_N])
    bin_N[unsure_N] = thresholds.reached(query, exact)
    counts.add_each(query_N, bin_N)
    return is_counted_Q


COLUMN_BITS = 16
MOST_COLUMNS, MOST_ROWS = 2**COLUMN_BITS, 2**15
"""What one integer holds: 15 bits of row, 32 of score, 16 of column."""

NUMBERS_AT_ONCE = {"cpu": 2**20}
NUMBERS_ELSEWHERE = 2**26


def count_sorted(
    query_QD: Tensor,
    query: Rounded,
    row_R: Tensor,
    block: Block,
    positives: Positives,
    counts: Counts,
) -> Tensor:
    """Count the block's negatives for the queries `row_R`, of which `query` holds the rows.

    Returns which [R] were counted; the others have too many scores too near to a threshold.
    """
    assert len(block) <= MOST_COLUMNS, f"a block of {len(block)} images has columns without names"
    margin_R = margins(query, block.rounded(PLAIN), PLAIN.unit)
    score_RC = block.scores(query, PLAIN)
    positives.mask_and_check(score_RC, margin_R, PLAIN)
    numbers = NUMBERS_AT_ONCE.get(score_RC.device.type, NUMBERS_ELSEWHERE)
    num_rows = min(MOST_ROWS - 1, max(1, numbers // len(block)))
    parts = [part.split(num_rows) for part in (score_RC, row_R, margin_R)]
    return torch.cat(
        [
            _count_rows(score, query_QD, row, margin, block.rows_CD, counts)
            for score, row, margin in zip(*parts, strict=True)
        ]
    )


def _count_rows(
    score_RC: Tensor,
    query_QD: Tensor,
    row_R: Tensor,
    margin_R: Tensor,
    gallery_CD: Tensor,
    counts: Counts,
) -> Tensor:
    """Count what reaches the thresholds of some rows; returns which of them [R] were counted."""
    thresholds = counts.thresholds
    floor_R = PLAIN.floor(thresholds.lowest_Q[row_R], margin_R)
    bands = _Bands.find(_sorted(score_RC, floor_R), thresholds, row_R, margin_R)
    num_unsure_R = row_R.new_zeros(len(row_R)).index_add_(0, bands.row_P, bands.num_unsure_P)
    is_counted_R = MOST_UNSURE_SORTED.is_kept(num_unsure_R, len(gallery_CD))
    is_counted_P = is_counted_R[bands.row_P]
    counts.reaching_P[bands.place_P[is_counted_P]] += bands.num_sure_P[is_counted_P]
    which_M, column_M = bands.unsure(is_counted_P)
    place_M, tile_row_M = bands.place_P[which_M], bands.row_P[which_M]
    # A score may be near to several thresholds of its query, and is made once.
    pair_N, of_pair_M = (tile_row_M * MOST_COLUMNS + column_M).unique(return_inverse=True)
    row_N, column_N = row_R[pair_N // MOST_COLUMNS], pair_N % MOST_COLUMNS
    score_M = exact_scores(query_QD, gallery_CD, row_N, column_N)[of_pair_M]
    reaches_M = (score_M >= thresholds.score_P[place_M]).to(torch.int64)
    counts.reaching_P.index_add_(0, place_M, reaches_M)
    return is_counted_R


def _sorted(score_RC: Tensor, floor_R: Tensor) -> Tensor:
    """Return row, score and column of what reaches its row's floor, as integers that ascend."""
    row_N, column_N = _reaching(score_RC, floor_R)
    key_N = (keys(row_N, score_RC[row_N, column_N]) << COLUMN_BITS) + column_N
    if key_N.device.type == "cpu":
        return torch.from_numpy(np.sort(key_N.numpy()))  # vectorized, as torch's is not
    return key_N.sort().values


@dataclass(frozen=True, kw_only=True)
class _Bands:
    """Where each threshold of some rows falls among the sorted scores of its row."""

    key_N: Tensor
    row_P: Tensor
    """Row of the tile."""

    place_P: Tensor
    """Number among all thresholds."""

    first_P: Tensor
    """The first score that may reach the threshold; those that surely do come after it."""

    num_unsure_P: Tensor
    num_sure_P: Tensor

    @classmethod
    def find(
        cls, key_N: Tensor, thresholds: Thresholds, row_R: Tensor, margin_R: Tensor
    ) -> "_Bands":
        """Look the thresholds of the queries `row_R` up."""
        begin_R = thresholds.offsets[row_R]
        num_R = thresholds.offsets[row_R + 1] - begin_R
        row_P, number_P = spread(num_R)
        place_P = begin_R[row_P] + number_P
        score_P, margin_P = thresholds.score_P[place_P], margin_R[row_P]
        sure_P = torch.searchsorted(key_N, keys(row_P, above(score_P + margin_P)) << COLUMN_BITS)
        half_a_row = 1 << (31 + COLUMN_BITS)  # scores of a row lie so far to either side of zero
        end_P = torch.searchsorted(key_N, (row_P << (32 + COLUMN_BITS)) + half_a_row)
        first_P = torch.searchsorted(key_N, keys(row_P, below(score_P - margin_P)) << COLUMN_BITS)
        return cls(
            key_N=key_N,
            row_P=row_P,
            place_P=place_P,
            first_P=first_P,
            num_sure_P=end_P - sure_P,
            num_unsure_P=sure_P - first_P,
        )

    def unsure(self, is_wanted_P: Tensor) -> tuple[Tensor, Tensor]:
        """Return the threshold [M] and the column [M] of each score too near to it."""
        which_M, number_M = spread(torch.where(is_wanted_P, self.num_unsure_P, 0))
        return which_M, self.key_N[self.first_P[which_M] + number_M] & (MOST_COLUMNS - 1)
