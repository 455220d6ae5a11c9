"""Counting for queries whose positives stand in the crowd: float64 products, rows sorted.

A rough score leaves too many pairs undecided there. The bound of a float64 product is so small that
only copies and the like are; those rows are counted survivor by survivor.
"""

# Shapes: R = queries of a tile, C = gallery columns, P = most thresholds of a query.

import numpy as np
import torch
from torch import Tensor

from evaluation.ranking.block import Block, Own, hide
from evaluation.ranking.screen import PLAIN
from evaluation.ranking.survivors import NO_LIMIT, Survivors, count_survivors
from evaluation.ranking.thresholds import Counts

NUMBERS_AT_ONCE = {"cpu": 2**20}
NUMBERS_ELSEWHERE = 2**28
FEW_THRESHOLDS = 4
"""So many are compared with every score sooner than a row is sorted."""


def count_densely(
    query_QD: Tensor, row_R: Tensor, margin_R: Tensor, block: Block, own: Own, counts: Counts
) -> None:
    """Count the block's negatives for the queries `row_R`."""
    numbers = NUMBERS_AT_ONCE.get(query_QD.device.type, NUMBERS_ELSEWHERE)
    num_rows = max(1, numbers // len(block))
    for row, margin in zip(row_R.split(num_rows), margin_R.split(num_rows), strict=True):
        if len(row):
            _count_tile(query_QD, row, margin, block, own.among(row), counts)


def _count_tile(
    query_QD: Tensor, row_R: Tensor, margin_R: Tensor, block: Block, own: Own, counts: Counts
) -> None:
    score_RC = query_QD[row_R].double() @ block.double().T
    place_N = own.query_N * len(block) + own.column_N
    own.check(hide(score_RC.view(-1), place_N), margin_R, PLAIN)
    threshold_RP = counts.thresholds.table(row_R)
    surely_RP, perhaps_RP = _reaching(
        score_RC, threshold_RP + margin_R[:, None], threshold_RP - margin_R[:, None]
    )
    is_sure_R = (surely_RP == perhaps_RP).all(dim=1)
    counts.add_rows(row_R[is_sure_R], surely_RP[is_sure_R])
    if bool(is_sure_R.all()):
        return
    floor_R = torch.where(is_sure_R, torch.inf, threshold_RP[:, 0] - margin_R)
    row_N, column_N = (score_RC >= floor_R[:, None]).nonzero(as_tuple=True)
    found = Survivors(row_N=row_N, column_N=column_N, score_N=score_RC[row_N, column_N])
    count_survivors(
        found,
        query_QD,
        block,
        row_R=row_R,
        margin_R=margin_R,
        screen=PLAIN,
        counts=counts,
        most_unsure=NO_LIMIT,
    )


def _reaching(score_RC: Tensor, high_RP: Tensor, low_RP: Tensor) -> tuple[Tensor, Tensor]:
    """How many scores of each row reach each of two lists of values."""
    num_columns = score_RC.shape[1]
    if high_RP.shape[1] <= FEW_THRESHOLDS:
        reaching = [
            torch.stack([(score_RC >= value_R[:, None]).sum(dim=1) for value_R in values.T], dim=1)
            for values in (high_RP, low_RP)
        ]
        return reaching[0], reaching[1]
    if score_RC.device.type == "cpu":
        # numpy's sort is vectorized, torch's carries an index along.
        score_RC = torch.from_numpy(np.sort(score_RC.numpy(), axis=1))
    else:
        score_RC = score_RC.sort(dim=1).values
    return (
        num_columns - torch.searchsorted(score_RC, high_RP),
        num_columns - torch.searchsorted(score_RC, low_RP),
    )
