"""The few scores of a tile that may reach a threshold: found, and counted to the last bit."""

# Shapes: R = queries of a tile, C = its gallery columns, N = survivors.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evaluation.ranking.block import Block
from evaluation.ranking.exact import exact_scores, near_scores
from evaluation.ranking.screen import PLAIN, Rounded, Screen, margins
from evaluation.ranking.thresholds import Counts


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


def find_survivors(score_RC: Tensor, floor_R: Tensor, first: int) -> Survivors:
    """Find each score that reaches its row's floor; columns are counted from `first`.

    Floors of bfloat16 scores must be above zero: then the bits of both, taken as integers, are in
    the same order, as far as it matters, and every library compares those at full speed.
    """
    num_columns = score_RC.shape[1]
    whole_RC = score_RC
    if score_RC.dtype == torch.bfloat16:
        whole_RC, floor_R = score_RC.view(torch.int16), floor_R.view(torch.int16)
    place_N = places_of(whole_RC, floor_R)
    row_N = place_N // num_columns
    column_N = place_N - row_N * num_columns + first
    return Survivors(row_N=row_N, column_N=column_N, score_N=score_RC.view(-1)[place_N])


def places_of(score_RC: Tensor, floor_R: Tensor) -> Tensor:
    """Return where, in the scores row after row, those stand that reach their row's floor."""
    if score_RC.device.type == "cpu":
        is_there_RC = score_RC.numpy() >= floor_R.numpy()[:, None]
        return torch.from_numpy(np.flatnonzero(is_there_RC))  # several times as fast as torch's
    return (score_RC >= floor_R[:, None]).view(-1).nonzero().squeeze(1)


def count_survivors(
    found: Survivors,
    query_QD: Tensor,
    block: Block,
    *,
    row_R: Tensor,
    margin_R: Tensor,
    screen: Screen,
    counts: Counts,
    most_unsure: Limit,
    plain: Rounded | None = None,
) -> Tensor:
    """Count negatives, where `row_R` are the queries of the tile's rows.

    Rows that have more survivors too near to a threshold than `most_unsure` allows are left out;
    the result [R] says which were not. With all queries in float32 (`plain`), such pairs are scored
    in float32 first, which decides nearly all of them for a third of the price.
    """
    query_N, score_N = row_R[found.row_N], found.score_N.double()
    reach_N = screen.reach(score_N, margin_R[found.row_N])
    thresholds = counts.thresholds
    bin_N, most_N = thresholds.bounds(query_N, score_N - reach_N, score_N + reach_N)
    unsure_N = (bin_N != most_N).nonzero().squeeze(1)
    num_unsure_R = torch.bincount(found.row_N[unsure_N], minlength=len(row_R))
    is_counted_R = most_unsure.is_kept(num_unsure_R, len(block))
    if not bool(is_counted_R.all()):
        unsure_N = unsure_N[is_counted_R[found.row_N[unsure_N]]]
    if plain is not None:
        near_query_N, column_N = query_N[unsure_N], found.column_N[unsure_N]
        gallery = block.rounded(PLAIN)
        near_N = near_scores(plain.value_RD, gallery.value_RD, near_query_N, column_N).double()
        reach_N = margins(plain, gallery, PLAIN.unit)[near_query_N]
        bin_N[unsure_N], most_N = thresholds.bounds(
            near_query_N, near_N - reach_N, near_N + reach_N
        )
        unsure_N = unsure_N[bin_N[unsure_N] != most_N]
    query = query_N[unsure_N]
    exact = exact_scores(query_QD, block.rows_CD, query, found.column_N[unsure_N])
    bin_N[unsure_N] = thresholds.reached(query, exact)
    if not bool(is_counted_R.all()):
        counted_N = is_counted_R[found.row_N]
        query_N, bin_N = query_N[counted_N], bin_N[counted_N]
    counts.add_each(query_N, bin_N)
    return is_counted_R
