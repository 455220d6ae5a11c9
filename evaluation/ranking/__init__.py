"""Where the positives stand in the gallery: counted, never sorted; tensors in, tensors out."""

from evaluation.ranking.counts import JUNK, Ranking, metrics, rank

__all__ = ["JUNK", "Ranking", "metrics", "rank"]
