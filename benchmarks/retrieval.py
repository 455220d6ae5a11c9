"""Descriptors of models of three strengths in the two shapes of University-1652, and references."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from evaluation.ranking import rank

WIDTH, PLACES, DISTRACTOR_PLACES, VIEWS = 512, 701, 250, 54
JUDGED = "realistic"
STRENGTHS = {"near perfect": 1.4, "realistic": 0.8, "weak": 0.0}
"""What of a descriptor its place decides, against 1 that its image decides."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """Queries and a gallery, with labels, as `rank` takes them."""

    query_QD: Tensor
    gallery_GD: Tensor
    query_labels_Q: Tensor
    gallery_labels_G: Tensor


def satellite_to_drone(strength: str, *, seed: int) -> Search:
    """701 queries, 51,355 gallery images, 54 positives each (one query has 55)."""
    generator = torch.Generator().manual_seed(seed)
    labels_G = torch.arange(PLACES + DISTRACTOR_PLACES).repeat_interleave(VIEWS)
    labels_G = torch.cat([labels_G, labels_G.new_zeros(1)])
    labels_Q = torch.arange(PLACES)
    return _search(labels_Q, labels_G, strength, generator)


def drone_to_satellite(strength: str, *, seed: int, num_queries: int = 500) -> Search:
    """Drone queries, the 168,437 satellite tiles of University-160k, one positive each."""
    generator = torch.Generator().manual_seed(seed)
    labels_G = torch.randperm(168_437, generator=generator)
    labels_Q = torch.arange(num_queries) % PLACES
    return _search(labels_Q, labels_G, strength, generator)


def _search(
    labels_Q: Tensor, labels_G: Tensor, strength: str, generator: torch.Generator
) -> Search:
    """Unit vectors: what their place is, as clear as this place's images are, and noise.

    Places lie in 60 neighbourhoods, whose members resemble each other, as universities do; how
    clear an image is varies by place and image, so that a realistic model has a tail of failures.
    """
    num_places = int(labels_G.max()) + 1
    area_AD = _directions(60, generator)
    area = torch.randint(0, 60, (num_places,), generator=generator)
    place_ND = 0.6 * area_AD[area] + 0.8 * _directions(num_places, generator)
    clear_N = 1 + 0.2 * torch.randn(num_places, generator=generator)
    sides = []
    for labels in (labels_Q, labels_G):
        own = 1 + 0.2 * torch.randn(len(labels), generator=generator)
        share = STRENGTHS[strength] * (clear_N[labels] * own).clamp(min=0.05)
        noise = _directions(len(labels), generator)
        rows = share[:, None] * place_ND[labels] + noise
        sides.append(rows / rows.norm(dim=1, keepdim=True))
    return Search(
        query_QD=sides[0], gallery_GD=sides[1], query_labels_Q=labels_Q, gallery_labels_G=labels_G
    )


def _directions(count: int, generator: torch.Generator) -> Tensor:
    rows = torch.randn(count, WIDTH, generator=generator)
    return F.normalize(rows)


def sort_per_query(search: Search, queries: range) -> Iterator[npt.NDArray[np.int64]]:
    """The field's loop from its formula: sort a query's scores, drop junk, look for positives."""
    gallery, labels = search.gallery_GD.numpy(), search.gallery_labels_G.numpy()
    junk = np.argwhere(labels == -1)
    for number in queries:
        score = gallery @ search.query_QD[number].numpy()
        order = np.argsort(score)[::-1]
        positives = np.argwhere(labels == int(search.query_labels_Q[number]))
        order = order[np.isin(order, junk, invert=True)]
        yield np.flatnonzero(np.isin(order, positives))


def keywords(search: Search) -> dict[str, Tensor]:
    """Return a search's labels as `rank` names them."""
    return {
        "query_labels_Q": search.query_labels_Q,
        "gallery_labels_G": search.gallery_labels_G,
    }


def assert_like_the_loop(search: Search, queries: range) -> None:
    """Refuse to go on unless the ranks of some queries are those of the sorted reference.

    The reference sorts float64 scores here: those of float32 are only nearly in order.
    """
    part = slice(queries.start, queries.stop)
    ranking = rank(
        search.query_QD[part],
        search.gallery_GD,
        query_labels_Q=search.query_labels_Q[part],
        gallery_labels_G=search.gallery_labels_G,
    )
    exact = replace(
        search, query_QD=search.query_QD.double(), gallery_GD=search.gallery_GD.double()
    )
    for number, expected in enumerate(sort_per_query(exact, queries)):
        assert ranking.of_query(number) == expected.tolist(), f"query {number}"
