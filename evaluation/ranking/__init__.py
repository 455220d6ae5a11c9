"""Where the positives stand in the gallery: counted, never sorted; tensors in, tensors out."""

from evaluation.ranking.counts import rank, rank_gallery
from evaluation.ranking.gallery import Gallery, InMemory, OnDisk
from evaluation.ranking.metrics import JUNK, Ranking, metrics

__all__ = [
    "JUNK",
    "Gallery",
    "InMemory",
    "OnDisk",
    "Ranking",
    "metrics",
    "rank",
    "rank_gallery",
]
