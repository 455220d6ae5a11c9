"""One search judged: what was asked, what was searched, and how it went."""

# Shapes: Q = queries, G = gallery images, D = descriptor width.

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from data_shards.shards import ImageTable, RowNumbers
from evaluation.describe import Descriptors
from evaluation.ranking import Ranking, metrics
from evaluation.ranking.top_k import top_k
from evaluation.ranking_together import rank_together


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How one direction of search went."""

    query_rows: RowNumbers
    gallery_rows: RowNumbers
    query_QD: Tensor
    gallery_GD: Tensor
    ranking: Ranking
    metrics: Mapping[str, float]
    """recall@1/5/10/1%, ap, num_queries, num_gallery."""

    @property
    def chance(self) -> float:
        """Recall@1 of a random order: the share of right images in the gallery, on average."""
        return chance(self.ranking)

    @cached_property
    def first_answers(self) -> Tensor:
        """The gallery image that each query [Q] finds first: its place among `gallery_rows`."""
        return top_k(self.query_QD, self.gallery_GD, k=1).index_QK[:, 0]


def chance(ranking: Ranking) -> float:
    """Return recall@1 of a random order: the share of right images in the gallery, on average."""
    num_queries = len(ranking.offsets) - 1
    return int(ranking.offsets[-1]) / (num_queries * ranking.num_gallery)


def judge(
    descriptors: Descriptors,
    images: ImageTable,
    *,
    query_rows: RowNumbers,
    gallery_rows: RowNumbers,
    queries: Descriptors | None = None,
) -> Verdict:
    """Search the gallery for every query; images of one place belong together. Every rank calls it.

    Args:
        descriptors: of the gallery, and of the queries unless `queries` has others of them.
        images: the table that rows count in.
        query_rows: what is asked.
        gallery_rows: what is searched.
        queries: descriptors of the queries under other conditions.
    """
    query_QD, gallery_GD = (queries or descriptors).of(query_rows), descriptors.of(gallery_rows)
    device = descriptors.device
    ranking = rank_together(
        query_QD.to(device),
        gallery_GD.to(device),
        query_labels_Q=torch.from_numpy(images.place[query_rows]).to(device),
        gallery_labels_G=torch.from_numpy(images.place[gallery_rows]).to(device),
    )
    ranking = replace(ranking, ranks_P=ranking.ranks_P.cpu(), offsets=ranking.offsets.cpu())
    return Verdict(
        query_rows=query_rows,
        gallery_rows=gallery_rows,
        query_QD=query_QD,
        gallery_GD=gallery_GD,
        ranking=ranking,
        metrics=metrics(ranking),
    )


def tracked(prefix: str, measured: Mapping[str, float]) -> dict[str, float]:
    """Name metrics for MLflow, which knows neither @ nor %: `probe/d2s/recall_at_1_percent`."""
    names = {name: name.replace("@", "_at_").replace("%", "_percent") for name in measured}
    return {
        f"{prefix}/{names[name]}": value
        for name, value in measured.items()
        if not name.startswith("num_")
    }
