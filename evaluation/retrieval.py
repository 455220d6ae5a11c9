"""One search: descriptors of queries and gallery in, the ranks of the right images out."""

# Shapes: Q = queries, G = gallery images, D = descriptor width, N = queries whose place is known,
# M = distances at which guessing is known.

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data_shards.shards import ImageTable, RowNumbers, ShardSet
from distill import collectives
from evaluation.config import EvaluateConfig
from evaluation.describe import Descriptors
from evaluation.protocols import Search
from evaluation.ranking import InMemory, Ranking, metrics, rank_gallery
from evaluation.ranking.rerank import RerankSettings
from evaluation.ranking.top_k import top_k
from evaluation.report import CLEAN, Result

Floats = npt.NDArray[np.float64]

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of WGS 84; a sphere of it is off by less than 0.6 %."""

WITHIN_M = (10, 50, 100, 250, 500, 1000)
LEAST_M, MOST_M = 1.0, 2.1e7
GUESSED_M = np.unique([0.0, *np.geomspace(LEAST_M, MOST_M, 200), *WITHIN_M])


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


class DistributedExchange:
    """What all ranks of this job tell each other while each counts in its part of the gallery.

    The counts are integers and the thresholds exact, so the ranks are those of one process, to the
    last bit, for any number of ranks and any parts.
    """

    def gather(self, part: Tensor) -> Tensor:
        """Concatenate every rank's tensor in the order of ranks; their lengths may differ."""
        parts = collectives.gather_arrays(part.cpu().numpy())
        return torch.from_numpy(np.concatenate(parts)).to(part.device)

    sum = staticmethod(collectives.sum_integers)
    first_problem = staticmethod(collectives.first_problem)


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
    num_positives_Q = ranking.offsets.diff()
    return Result(
        direction=search.protocol.direction,
        title=search.protocol.title,
        altitude_m=search.protocol.altitude_m,
        gallery=search.gallery,
        condition=condition,
        rerank=rerank,
        metrics=metrics(ranking),
        num_unanswerable=int((num_positives_Q == 0).sum()),
        chance=chance(ranking),
    )


def chance(ranking: Ranking) -> float:
    """Return recall@1 of a random order: the share of right images in the gallery, on average."""
    num_queries = len(ranking.offsets) - 1
    return int(ranking.offsets[-1]) / (num_queries * ranking.num_gallery)


@dataclass(frozen=True, kw_only=True)
class Distances:
    """How far the place of the first answer lies from that of the query, where this is known."""

    metres_N: Floats
    """Over the great circle, ascending; 0 where the place is right, infinite for an answer of
    unknown position, which is wrong."""

    guessing_M: Floats
    """Share of the queries that a random answer brings within each of `GUESSED_M`."""

    num_left_out: int
    """Queries of unknown position."""

    @property
    def num_unknown(self) -> int:
        """Queries that an image of unknown position answers."""
        return int(np.isinf(self.metres_N).sum())

    def share_within(self, metres: float) -> float:
        """Return the share of the queries whose answer lies no further."""
        return float(np.searchsorted(self.metres_N, metres, side="right")) / len(self.metres_N)

    def numbers(self) -> dict[str, float]:
        """Return what a report keeps: shares as fractions, those of guessing, and the counts.

        There is no median where half of the answers are of unknown position.
        """
        shares = {f"within_{metres}m": self.share_within(metres) for metres in WITHIN_M}
        guessed = self.guessing_M[np.searchsorted(GUESSED_M, WITHIN_M)].tolist()
        shares |= {f"guessing_{name}": share for name, share in zip(shares, guessed, strict=True)}
        median = float(np.median(self.metres_N))
        if np.isfinite(median):
            shares["median_m"] = median
        counts = {"num_known": len(self.metres_N) - self.num_unknown}
        counts |= {"num_unknown": self.num_unknown, "num_left_out": self.num_left_out}
        return shares | counts


def distance_to_truth(retrieval: Retrieval, shards: ShardSet) -> Distances | None:
    """Measure from each query's place to that of its first answer; None if no query's is known."""
    known = shards.manifest.coordinates
    degrees_P2 = np.array([known.get(place, (np.nan, np.nan)) for place in shards.places])
    place_Q = shards.images.place[retrieval.query_rows]
    place_G = shards.images.place[retrieval.gallery_rows]
    is_known_Q = np.isfinite(degrees_P2[place_Q]).all(axis=1)
    if not is_known_Q.any():
        return None
    first_Q = top_k(retrieval.query_QD, retrieval.gallery_GD, k=1).index_QK[:, 0].numpy()
    answer_N = place_G[first_Q[is_known_Q]]
    place_N = place_Q[is_known_Q]
    metres_N = great_circle_m(degrees_P2[place_N], degrees_P2[answer_N])
    there, counts = np.unique(place_G, return_counts=True)
    guessing_M = np.zeros(len(GUESSED_M))
    for place, count in zip(*np.unique(place_N, return_counts=True), strict=True):
        metres = great_circle_m(degrees_P2[[place]], degrees_P2[there])
        at = np.searchsorted(GUESSED_M, metres[np.isfinite(metres)])
        weights = count * counts[np.isfinite(metres)]
        guessing_M += np.bincount(at, weights, minlength=len(GUESSED_M)).cumsum()
    return Distances(
        metres_N=np.sort(np.nan_to_num(metres_N, nan=np.inf)),
        guessing_M=guessing_M / (len(place_N) * len(place_G)),
        num_left_out=int((~is_known_Q).sum()),
    )


def great_circle_m(from_N2: Floats, to_N2: Floats) -> Floats:
    """Return metres between pairs of (latitude, longitude) in degrees, by the haversine formula."""
    latitude_from, longitude_from = np.radians(from_N2).T
    latitude_to, longitude_to = np.radians(to_N2).T
    north = np.sin((latitude_to - latitude_from) / 2) ** 2
    east = np.sin((longitude_to - longitude_from) / 2) ** 2
    chord = north + np.cos(latitude_from) * np.cos(latitude_to) * east
    metres: Floats = 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(chord, 0, 1)))
    return metres


def tracked(prefix: str, measured: Mapping[str, float]) -> dict[str, float]:
    """Name metrics for MLflow, which knows neither @ nor %: `probe/d2s/recall_at_1_percent`."""
    return {
        f"{prefix}/{name.replace('@', '_at_').replace('%', '_percent')}": value
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
