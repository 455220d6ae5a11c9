"""The scores that negatives must reach, and the counts of those that do.

Only the number of negatives that score at least as high as a positive matters (ties are
pessimistic): with the positives of a query in the order of that number, the i-th stands at rank
number + i. So positives of one query are never compared with each other's columns, and counts of
any parts of the gallery add up.
"""

# Shapes: Q = queries, P = positives of all queries in a row, N = pairs of a query and an image.

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Every query with every gallery image of its label, in the order of the gallery's blocks."""

    query_P: Tensor
    column_P: Tensor
    """Gallery row; within a block the pairs stand query by query."""

    block_begin: tuple[int, ...]
    """Where each block's pairs begin, and at last their number."""

    @classmethod
    def find(
        cls, query_labels_Q: Tensor, gallery_labels_G: Tensor, starts: list[int], *, junk: int
    ) -> "Pairs":
        """Join the labels; blocks begin at the gallery rows `starts`."""
        sorted_labels, by_label = gallery_labels_G.sort(stable=True)
        begin_Q = torch.searchsorted(sorted_labels, query_labels_Q)
        end_Q = torch.searchsorted(sorted_labels, query_labels_Q, right=True)
        num_Q = torch.where(query_labels_Q == junk, 0, end_Q - begin_Q)
        query_P, place_P = spread(num_Q)
        column_P = by_label[begin_Q[query_P] + place_P]
        edges = torch.tensor(starts[1:], dtype=torch.int64, device=num_Q.device)
        block_P, order = torch.bucketize(column_P, edges, right=True).sort(stable=True)
        numbers = torch.arange(len(starts) + 1, device=num_Q.device)
        return cls(
            query_P=query_P[order],
            column_P=column_P[order],
            block_begin=tuple(torch.searchsorted(block_P, numbers).tolist()),
        )

    def of_block(self, number: int) -> tuple[Tensor, Tensor]:
        """The queries and gallery rows of one block's pairs."""
        part = slice(self.block_begin[number], self.block_begin[number + 1])
        return self.query_P[part], self.column_P[part]


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The exact scores of the positives: ragged, query by query, ascending."""

    score_P: Tensor
    query_P: Tensor
    offsets: Tensor
    """Where each query's scores begin and end: queries + 1 integers."""

    lowest_Q: Tensor
    """Each query's lowest score; infinity where it has no positive."""

    most: int
    """The largest number of positives that a query has."""

    low_keys_P: Tensor
    """Query and score, rounded down to float32, as one integer; ascending over the whole row."""

    high_keys_P: Tensor
    """The same, rounded up."""

    @classmethod
    def sort(cls, query_P: Tensor, score_P: Tensor, num_queries: int) -> "Thresholds":
        """Order scores of any order by query and size."""
        by_score = score_P.argsort(stable=True)
        order = by_score[query_P[by_score].argsort(stable=True)]
        num_Q = torch.bincount(query_P, minlength=num_queries)
        offsets = torch.cat([num_Q.new_zeros(1), num_Q.cumsum(0)])
        score_P, query_P = score_P[order], query_P[order]
        lowest_Q = score_P.new_full((num_queries,), torch.inf)
        lowest_Q[num_Q > 0] = score_P[offsets[:-1][num_Q > 0]]
        return cls(
            score_P=score_P,
            query_P=query_P,
            offsets=offsets,
            lowest_Q=lowest_Q,
            most=int(num_Q.max()),
            low_keys_P=keys(query_P, below(score_P)),
            high_keys_P=keys(query_P, above(score_P)),
        )

    def bounds(self, row_N: Tensor, low_N: Tensor, high_N: Tensor) -> tuple[Tensor, Tensor]:
        """How many thresholds a score reaches at least and at most, if it lies in [low, high]."""
        least_N = torch.searchsorted(self.high_keys_P, keys(row_N, below(low_N)), right=True)
        most_N = torch.searchsorted(self.low_keys_P, keys(row_N, above(high_N)), right=True)
        begin_N = self.offsets[row_N]
        return least_N.sub_(begin_N), most_N.sub_(begin_N)

    def reached(self, row_N: Tensor, score_N: Tensor) -> Tensor:
        """How many of its query's thresholds each float64 score reaches, to the last bit."""
        begin_N = low_N = self.offsets[row_N]
        high_N = self.offsets[row_N + 1]
        last = len(self.score_P) - 1
        for _ in range(self.most.bit_length()):
            middle_N = (low_N + high_N) >> 1
            is_reached_N = (self.score_P[middle_N.clamp(max=last)] <= score_N) & (low_N < high_N)
            low_N = torch.where(is_reached_N, middle_N + 1, low_N)
            high_N = torch.where(is_reached_N, high_N, middle_N)
        return low_N - begin_N

    def new_counts(self) -> "Counts":
        """Return counts of zero for these thresholds."""
        num_bins = len(self.score_P) + len(self.offsets) - 1
        return Counts(
            thresholds=self,
            reaching_P=torch.zeros_like(self.query_P),
            bins=self.query_P.new_zeros(num_bins),
        )


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many negatives reach each threshold, so far."""

    thresholds: Thresholds
    reaching_P: Tensor
    bins: Tensor
    """One bin more than thresholds per query: bin b holds the negatives that reach b of them."""

    def add_each(self, row_N: Tensor, bin_N: Tensor) -> None:
        """Count negatives of which each reaches the `bin_N` lowest thresholds of its query."""
        place_N = self.thresholds.offsets[row_N] + row_N + bin_N
        self.bins.index_add_(0, place_N, torch.ones_like(place_N))

    def total(self) -> Tensor:
        """How many negatives reach each threshold [P]; never rises within a query."""
        offsets, query_P = self.thresholds.offsets, self.thresholds.query_P
        up_to = self.bins.cumsum(0)
        bin_P = torch.arange(len(query_P), device=query_P.device) + query_P
        last_Q = offsets[1:] + torch.arange(len(offsets) - 1, device=query_P.device)
        return self.reaching_P + up_to[last_Q[query_P]] - up_to[bin_P]


def spread(num_R: Tensor) -> tuple[Tensor, Tensor]:
    """Repeat each index as often as `num_R` says, and number its repetitions."""
    index_P = torch.arange(len(num_R), device=num_R.device).repeat_interleave(num_R)
    first_R = num_R.cumsum(0) - num_R
    return index_P, torch.arange(len(index_P), device=num_R.device) - first_R[index_P]


def below(score: Tensor) -> Tensor:
    """Round float64 to a float32 that is surely smaller."""
    rounded = score.float()
    return torch.nextafter(rounded, torch.full_like(rounded[:1], -torch.inf))


def above(score: Tensor) -> Tensor:
    """Round float64 to a float32 that is surely larger."""
    return -below(-score)


def keys(row_N: Tensor, score_N: Tensor) -> Tensor:
    """Return one integer per query and float32 score that sorts like the pair of them."""
    bits_N = (score_N + 0.0).view(torch.int32)  # the sum turns -0 into 0
    ordered_N = bits_N ^ ((bits_N >> 31) & 0x7FFFFFFF)
    return (row_N << 32) + ordered_N
