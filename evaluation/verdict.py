"""One protocol measured: descriptors of queries and gallery in, ranking and metrics out."""

# Shapes: Q = queries, G = gallery images, D = descriptor width.

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from data_shards.shards import ImageTable, RowNumbers
from evaluation.describe import Descriptors
from evaluation.ranking import Ranking, metrics, rank


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
        pairs = int(self.ranking.offsets[-1])
        return pairs / (len(self.query_rows) * len(self.gallery_rows))


def judge(
    descriptors: Descriptors,
    images: ImageTable,
    *,
    query_rows: RowNumbers,
    gallery_rows: RowNumbers,
) -> Verdict:
    """Search the gallery for every query; images of one place belong together."""
    query_QD, gallery_GD = descriptors.of(query_rows), descriptors.of(gallery_rows)
    ranking = rank(
        query_QD,
        gallery_GD,
        query_labels_Q=torch.from_numpy(images.place[query_rows]),
        gallery_labels_G=torch.from_numpy(images.place[gallery_rows]),
    )
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
