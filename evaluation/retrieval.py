"""One search: descriptors of queries and gallery in, the ranks of the right images out."""

# Shapes: Q = queries, G = gallery images, D = descriptor width.

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from data_shards.shards import ImageTable, RowNumbers
from distill import collectives
from evaluation.config import EvaluateConfig
from evaluation.describe import Descriptors
from evaluation.protocols import Search
from evaluation.ranking import InMemory, Ranking, metrics, rank_gallery
from evaluation.ranking.rerank import RerankSettings
from evaluation.ranking.top_k import top_k
from evaluation.report import CLEAN, Result


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """What was asked in one direction, what was searched, and how it went."""

    query_rows: RowNumbers
    gallery_rows: RowNumbers
    query_QD: Tensor
    gallery_GD: Tensor
    ranking: Ranking
    metrics: Mapping[str, float]
    """recall@1/5/10/1%, ap, num_queries, num_gallery."""

    @property
    def chance(self) -> float:
        """Recall@1 of a random order."""
        return chance(self.ranking)

    @cached_property
    def first_answers(self) -> Tensor:
        """The gallery image that each query [Q] finds first: its place among `gallery_rows`."""
        return top_k(self.query_QD, self.gallery_GD, k=1).index_QK[:, 0]


class DistributedExchange:
    """What all ranks of this job tell each other while each counts in its part of the gallery.

    The counts are integers and the thresholds exact, so the ranks are those of one process, to the
    last bit, for any number of ranks and any parts.
    """

    def gather(self, part: Tensor) -> Tensor:
        """Concatenate every rank's tensor in the order of ranks; their lengths may differ."""
        parts = collectives.gather_arrays(part.cpu().numpy())
        return torch.from_numpy(np.concatenate(parts)).to(part.device)

    def sum(self, part: Tensor) -> Tensor:
        """Add every rank's integers."""
        return collectives.sum_integers(part)

    def first_problem(self, problem: str | None) -> str | None:
        """Return the problem of the lowest rank that has one."""
        return collectives.first_problem(problem)


def rank_distributed(
    query_QD: Tensor, gallery_GD: Tensor, *, query_labels_Q: Tensor, gallery_labels_G: Tensor
) -> Ranking:
    """Rank a gallery that every rank holds whole; each counts in its own part of it.

    Raises:
        ValueError: as `rank` does, on every rank.
    """
    ranks, number, size = collectives.world_size(), collectives.rank(), len(gallery_GD)
    part = slice(size * number // ranks, size * (number + 1) // ranks)
    return rank_gallery(
        query_QD,
        InMemory(gallery_GD[part], gallery_labels_G[part]),
        query_labels_Q=query_labels_Q,
        exchange=DistributedExchange(),
    )


def retrieve(
    search: Search,
    descriptors: Descriptors,
    images: ImageTable,
    *,
    queries: Descriptors | None = None,
) -> Retrieval:
    """Search the gallery for every query; images of one place belong together. Every rank calls it.

    Args:
        search: what is asked, and what is searched.
        descriptors: of the gallery, and of the queries unless `queries` has others of them.
        images: the table that rows count in.
        queries: descriptors of the queries under other conditions, or of another network.
    """
    query_QD = (queries or descriptors).of(search.query_rows)
    gallery_GD, device = descriptors.of(search.gallery_rows), descriptors.device
    ranking = rank_distributed(
        query_QD.to(device),
        gallery_GD.to(device),
        query_labels_Q=torch.from_numpy(images.place[search.query_rows]).to(device),
        gallery_labels_G=torch.from_numpy(images.place[search.gallery_rows]).to(device),
    )
    ranking = replace(ranking, ranks_P=ranking.ranks_P.cpu(), offsets=ranking.offsets.cpu())
    return Retrieval(
        query_rows=search.query_rows,
        gallery_rows=search.gallery_rows,
        query_QD=query_QD,
        gallery_GD=gallery_GD,
        ranking=ranking,
        metrics=metrics(ranking),
    )


def result_of(
    search: Search, ranking: Ranking, *, condition: str = CLEAN, rerank: str = ""
) -> Result:
    """Return the row of a report."""
    return Result(
        direction=search.protocol.direction,
        title=search.protocol.title,
        altitude_m=search.protocol.altitude_m,
        gallery=search.gallery,
        condition=condition,
        rerank=rerank,
        metrics=metrics(ranking),
        chance=chance(ranking),
    )


def chance(ranking: Ranking) -> float:
    """Return recall@1 of a random order: the share of right images in the gallery, on average."""
    num_queries = len(ranking.offsets) - 1
    return int(ranking.offsets[-1]) / (num_queries * ranking.num_gallery)


def tracked(prefix: str, measured: Mapping[str, float]) -> dict[str, float]:
    """Name metrics for MLflow, which knows neither @ nor %: `probe/d2s/recall_at_1_percent`."""
    names = {name: name.replace("@", "_at_").replace("%", "_percent") for name in measured}
    return {
        f"{prefix}/{names[name]}": value
        for name, value in measured.items()
        if not name.startswith("num_")
    }


def rerank_settings(config: EvaluateConfig) -> RerankSettings:
    """Return the numbers of re-ranking that `--rerank` was given."""
    return RerankSettings(
        top=config.rerank_top,
        k1=config.rerank_k1,
        k2=config.rerank_k2,
        lambda_=config.rerank_lambda,
    )
