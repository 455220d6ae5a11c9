"""Counting for queries whose positives stand in the crowd: float32 products, what counts sorted.

Too many negatives reach the lowest positive there to look at each. So those of a row are sorted,
and each threshold is looked up among them: those above it by more than the product's bound reach
it, those below it by more do not, and the few between are scored exactly. Each score carries its
column through the sort, as the low bits of one integer, so that these few have names.
"""

# Shapes: R = queries of a tile, C = gallery columns, N = scores that may reach a threshold,
# P = thresholds of the tile's queries, M = pairs of a threshold and a score too near to it.

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evaluation.ranking.block import Block, Own, hide
from evaluation.ranking.exact import exact_scores
from evaluation.ranking.screen import PLAIN, Rounded, margins
from evaluation.ranking.survivors import Limit, places_of
from evaluation.ranking.thresholds import Counts, Thresholds, above, below, keys, spread

COLUMN_BITS = 16
MOST_COLUMNS, MOST_ROWS = 2**COLUMN_BITS, 2**15
"""What one integer holds: 15 bits of row, 32 of score, 16 of column."""

NUMBERS_AT_ONCE = {"cpu": 2**20}
NUMBERS_ELSEWHERE = 2**26

MOST_UNSURE = Limit(share=1 / 64, together=2)
"""Beyond these, exact scores cost more than float64 products."""


def count_crowd(
    query_QD: Tensor, query: Rounded, row_R: Tensor, block: Block, own: Own, counts: Counts
) -> Tensor:
    """Count the block's negatives for the queries `row_R`, of which `query` holds the rows.

    Returns which [R] were counted; the others have too many scores too near to a threshold.
    """
    gallery = block.rounded(PLAIN)
    assert len(block) <= MOST_COLUMNS, f"a block of {len(block)} images has columns without names"
    margin_R = margins(query, gallery, PLAIN.unit)
    room = block.buffers.row("crowd", len(row_R) * len(block), gallery.value_RD, PLAIN.kind)
    score_RC = room.view(len(row_R), len(block))
    with PLAIN.arithmetic():
        torch.mm(query.value_RD, gallery.value_RD.T, out=score_RC)
    own.check(hide(room, own.query_N * len(block) + own.column_N), margin_R, PLAIN)
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
    is_counted_R = MOST_UNSURE.is_kept(num_unsure_R, len(gallery_CD))
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
    num_columns = score_RC.shape[1]
    place_N = places_of(score_RC, floor_R)
    row_N = place_N // num_columns
    score_N = score_RC.view(-1)[place_N]
    key_N = (keys(row_N, score_N) << COLUMN_BITS) + (place_N - row_N * num_columns)
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

        def first_from(key_P: Tensor) -> Tensor:
            return torch.searchsorted(key_N, key_P)

        sure_P = first_from(keys(row_P, above(score_P + margin_P)) << COLUMN_BITS)
        half_a_row = 1 << (31 + COLUMN_BITS)  # scores of a row lie so far to either side of zero
        end_P = first_from((row_P << (32 + COLUMN_BITS)) + half_a_row)
        first_P = first_from(keys(row_P, below(score_P - margin_P)) << COLUMN_BITS)
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
