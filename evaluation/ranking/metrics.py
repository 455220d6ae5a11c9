"""Ranks of positives in, the field's numbers out."""

# Shapes: P = positives of all queries in a row, Q = queries.

from dataclasses import dataclass

import torch
from torch import Tensor

JUNK = -1


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The 0-based ranks of every query's positives, best first, all queries in one ragged row."""

    ranks_P: Tensor
    """Ranks; the positives of query `q` are `ranks_P[offsets[q] : offsets[q + 1]]`, ascending."""

    offsets: Tensor
    """Where each query's positives begin and end: queries + 1 integers."""

    num_gallery: int
    """Gallery images, junk included: the official recall@1% counts them too."""

    def of_query(self, query: int) -> list[int]:
        """The ranks of one query's positives, best first."""
        begin, end = self.offsets[query : query + 2].tolist()
        ranks: list[int] = self.ranks_P[begin:end].tolist()
        return ranks


def metrics(ranking: Ranking) -> dict[str, float]:
    """Recall and trapezoid average precision over all queries, as fractions, as the field has it.

    recall@1% reads the curve at index `round(0.01 * gallery)` counted from 0, one rank further than
    its name says; a query without positives scores 0 and is still divided by.
    """
    offsets, ranks_P = ranking.offsets.cpu(), ranking.ranks_P.cpu()
    num_positives_Q = offsets.diff()
    num_queries = len(num_positives_Q)
    first_Q = ranks_P[offsets[:-1][num_positives_Q > 0]]
    last_rank = {"recall@1": 0, "recall@5": 4, "recall@10": 9}
    last_rank["recall@1%"] = round(0.01 * ranking.num_gallery)
    found = {name: int((first_Q <= last).sum()) / num_queries for name, last in last_rank.items()}
    # The mean of the precision just before and just at each positive.
    before_P = torch.arange(len(ranks_P)) - offsets[:-1].repeat_interleave(num_positives_Q)
    here_P = (before_P + 1).double() / (ranks_P + 1)
    just_before_P = torch.where(ranks_P > 0, before_P.double() / ranks_P.clamp(min=1), 1.0)
    precision_P = (here_P + just_before_P) / 2
    precision_P = precision_P / num_positives_Q.repeat_interleave(num_positives_Q)
    ap = float(precision_P.sum()) / num_queries
    return {**found, "ap": ap, "num_queries": num_queries, "num_gallery": ranking.num_gallery}
