"""One row of a report: one search, measured one way. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Gallery = Literal["full", "no-distractors"]
"""`full` keeps the places that nobody asks for, as the official evaluators do; `no-distractors`
leaves them out, as Sample4Geo, MEAN and their descendants do (spec pfed 1.3)."""

Pairing = Literal["query-network", "gallery-network", "asymmetric"]
"""Who described what: the one network, or that of `--gallery-checkpoint`, queries and gallery; or
the one the queries, and that the gallery."""

SINGLE, CLEAN = "single", "clean"
ONE_NETWORK: Pairing = "query-network"

METRICS = ("recall@1", "recall@5", "recall@10", "recall@1%", "ap")
"""As fractions, in the order of tables."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was searched, under which conditions, and what was found."""

    direction: str
    """`d2s` drone to satellite, `s2d` satellite to drone, `street2s`, ..."""

    title: str
    """In words: `drone to satellite`."""

    altitude_m: int | None = None
    """Height of the drone images in metres, where the protocol is split by it."""

    gallery: Gallery = "full"

    pairing: Pairing = ONE_NETWORK

    views: str = SINGLE
    """Drone images per description: `single`, `mean`, `random-10`, `refined-10`."""

    seed: int | None = None
    """Of the draw, where views were drawn."""

    condition: str = CLEAN
    """Weather or light that was laid over the drone queries."""

    rerank: str = ""
    """How the list was ranked again, with all parameters; empty for not at all."""

    metrics: Mapping[str, float]
    """recall@1/5/10/1% and ap as fractions, num_queries, num_gallery; where K drone views are
    chosen, also num_places that are fused and, of these, num_few_views that have no more than K."""

    chance: float
    """Recall@1 of a random order."""

    @property
    def name(self) -> str:
        """Short and unique within a report: `d2s`, `d2s/150m`, `s2d/no-distractors/asymmetric`."""
        parts = [self.direction]
        if self.altitude_m is not None:
            parts.append(f"{self.altitude_m}m")
        if self.gallery != "full":
            parts.append(self.gallery)
        if self.pairing != ONE_NETWORK:
            parts.append(self.pairing)
        if self.views != SINGLE:
            parts.append(self.views)
        if self.seed is not None:
            parts.append(f"seed{self.seed}")
        if self.condition != CLEAN:
            parts.append(self.condition)
        if self.rerank:
            parts.append("reranked")
        return "/".join(parts)

    @property
    def is_headline(self) -> bool:
        """Whether this is the plain official protocol: full gallery, one clean image, no tricks."""
        return (
            self.gallery == "full"
            and self.pairing == ONE_NETWORK
            and self.views == SINGLE
            and self.condition == CLEAN
            and not self.rerank
        )
