"""The few scores of a tile that may reach a threshold: found, and counted to the last bit."""

# Shapes: R = queries of a tile, C = its gallery columns, N = survivors.

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from evaluation.ranking.exact import exact_scores
from evaluation.ranking.screen import Screen
from evaluation.ranking.thresholds import Counts

GROUP = 8
"""Columns whose largest score is compared first, in tiles so wide,"""

NARROWEST = 64
"""and fewer where groups would be fewer than this: the columns that a processor takes at once."""

WORD = 8

MOST_BUSY = 0.5
"""Share of rows with a survivor beyond which looking at all rows is quicker."""

MOST_GROUPS = 0.3
"""Share of groups with a survivor beyond which looking at every score is quicker."""


@dataclass(frozen=True, kw_only=True)
class Survivors:
    """Rows and columns of a tile, and the scores there."""

    row_N: Tensor
    column_N: Tensor
    score_N: Tensor

    @classmethod
    def join(cls, parts: "Sequence[Survivors]") -> "Survivors":
        """Concatenate the survivors of several tiles."""
        return cls(
            row_N=torch.cat([part.row_N for part in parts]),
            column_N=torch.cat([part.column_N for part in parts]),
            score_N=torch.cat([part.score_N for part in parts]),
        )

    def of_rows(self, is_kept_R: Tensor) -> "Survivors":
        """Keep those of some rows."""
        if bool(is_kept_R.all()):
            return self
        kept_N = is_kept_R[self.row_N].nonzero().squeeze(1)
        return Survivors(
            row_N=self.row_N[kept_N], column_N=self.column_N[kept_N], score_N=self.score_N[kept_N]
        )


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
        if float(num_R[is_dear_R].sum()) <= self.together * num_columns:
            return torch.ones_like(is_dear_R)
        return ~is_dear_R


NO_LIMIT = Limit(share=torch.inf, together=torch.inf)


def multiply(query_RD: Tensor, gallery_CD: Tensor, columns: int, score: Tensor) -> None:
    """Write all scores, tile [R, columns] after tile, into a row; the last tile may be narrower."""
    num_rows = len(query_RD)
    for tile_CD, tile in zip(
        gallery_CD.split(columns), score.split(num_rows * columns), strict=True
    ):
        torch.mm(query_RD, tile_CD.T, out=tile.view(num_rows, len(tile_CD)))


def find_survivors(score: Tensor, floor_R: Tensor, columns: int, first: int) -> Iterator[Survivors]:
    """Find each score of `multiply` that reaches its row's floor, columns counted from `first`.

    Floors of bfloat16 scores must be above zero: then the bits of both, taken as integers, are in
    the same order, as far as it matters, and compared several times as fast.
    """
    num_rows = len(floor_R)
    tiles = len(score) // (num_rows * columns)
    whole = tiles * columns
    if tiles:
        score_RC, floors_R = score[: whole * num_rows].view(-1, columns), floor_R.repeat(tiles)
        found = _find_busy(score_RC, floors_R)
        tile_N = found.row_N // num_rows
        yield Survivors(
            row_N=found.row_N - tile_N * num_rows,
            column_N=found.column_N + tile_N * columns + first,
            score_N=found.score_N,
        )
    if len(score) > whole * num_rows:
        found = _find_busy(score[whole * num_rows :].view(num_rows, -1), floor_R)
        yield replace(found, column_N=found.column_N + whole + first)


def _find_busy(score_RC: Tensor, floor_R: Tensor) -> Survivors:
    """Look at rows first, and closer at those whose largest score survives."""
    whole_RC = score_RC
    if score_RC.dtype == torch.bfloat16:
        whole_RC, floor_R = score_RC.view(torch.int16), floor_R.view(torch.int16)
    busy_R = (whole_RC.amax(dim=1) >= floor_R).nonzero().squeeze(1)
    if len(busy_R) <= MOST_BUSY * len(floor_R):
        row_N, column_N = _find(whole_RC[busy_R], floor_R[busy_R])
        row_N = busy_R[row_N]
    else:
        row_N, column_N = _find(whole_RC, floor_R)
    score_N = score_RC.view(-1)[row_N * score_RC.shape[1] + column_N]
    return Survivors(row_N=row_N, column_N=column_N, score_N=score_N)


def _find(score_RC: Tensor, floor_R: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and columns of the scores that reach their row's floor.

    A group holds every `stride`-th column, so that its largest is a maximum over rows of vectors,
    the fastest way a processor has to look at all scores once.
    """
    num_rows, num_columns = score_RC.shape
    stride = max(NARROWEST, num_columns // GROUP)
    members = num_columns // stride
    score, floor_R1 = score_RC.view(-1), floor_R[:, None]
    if not members:
        return _where(score_RC >= floor_R1)
    grouped = score_RC[:, : members * stride].unflatten(1, (members, stride))
    row_N, slot_N = _where(grouped.amax(dim=1) >= floor_R1)
    if len(row_N) > MOST_GROUPS * num_rows * stride:
        return _where(score_RC >= floor_R1)
    numbers = torch.arange(members, device=score.device)
    place_NG = (row_N * num_columns + slot_N)[:, None] + stride * numbers
    place_N = place_NG[score[place_NG] >= floor_R1[row_N]]
    if num_columns % stride:
        row_N, column_N = _where(score_RC[:, members * stride :] >= floor_R1)
        place_N = torch.cat([place_N, row_N * num_columns + members * stride + column_N])
    row_N = place_N // num_columns
    return row_N, place_N - row_N * num_columns


def _where(is_there_RC: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and columns of what is true; a word of eight is looked at at once."""
    num_columns = is_there_RC.shape[1]
    if num_columns % WORD or is_there_RC.device.type != "cpu":
        row_N, column_N = is_there_RC.nonzero(as_tuple=True)
        return row_N, column_N
    word_N = is_there_RC.view(-1).view(torch.int64).nonzero().squeeze(1)
    which_N, bit_N = is_there_RC.view(-1, WORD)[word_N].nonzero(as_tuple=True)
    place_N = word_N[which_N] * WORD + bit_N
    row_N = place_N // num_columns
    return row_N, place_N - row_N * num_columns


def count_survivors(
    found: Survivors,
    query_QD: Tensor,
    gallery_CD: Tensor,
    *,
    row_R: Tensor,
    margin_R: Tensor,
    screen: Screen,
    counts: Counts,
    most_unsure: Limit,
) -> Tensor:
    """Count negatives, where `row_R` are the queries of the tile's rows.

    Rows that have more survivors too near to a threshold than `most_unsure` allows are left out;
    the result [R] says which were not.
    """
    query_N, score_N = row_R[found.row_N], found.score_N.double()
    reach_N = screen.reach(score_N, margin_R[found.row_N])
    thresholds = counts.thresholds
    bin_N, most_N = thresholds.bounds(query_N, score_N - reach_N, score_N + reach_N)
    unsure_N = (bin_N != most_N).nonzero().squeeze(1)
    num_unsure_R = torch.bincount(found.row_N[unsure_N], minlength=len(row_R))
    is_counted_R = most_unsure.is_kept(num_unsure_R, len(gallery_CD))
    if not bool(is_counted_R.all()):
        unsure_N = unsure_N[is_counted_R[found.row_N[unsure_N]]]
    query = query_N[unsure_N]
    exact = exact_scores(query_QD, gallery_CD, query, found.column_N[unsure_N])
    bin_N[unsure_N] = thresholds.reached(query, exact)
    if not bool(is_counted_R.all()):
        counted_N = is_counted_R[found.row_N]
        query_N, bin_N = query_N[counted_N], bin_N[counted_N]
    counts.add_each(query_N, bin_N)
    return is_counted_R
