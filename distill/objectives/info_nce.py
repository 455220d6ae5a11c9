"""Contrast of each query with all gallery images of the global batch."""

# Shapes: B = queries on this rank, G = gallery over all ranks, D = descriptor width,
# c = queries of a chunk.

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_AT_ONCE = 2**24
"""Similarities of queries and gallery up to which autograd may keep them all."""

CHUNK = 1024
"""Queries that are compared at once beyond, at most."""

HOST_CHUNK = 2**21
"""Similarities of a chunk on a CPU: 8 MiB, which the allocator keeps. Larger ones are mapped anew
for each chunk, page by page."""


def info_nce(
    query_BD: Tensor,
    gallery_GD: Tensor,
    place_B: Tensor,
    place_G: Tensor,
    *,
    scale: Tensor | float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return InfoNCE of unit descriptors in one direction, -log p averaged over the positives.

    Oord et al. 2018; the form of several positives is L_out of Khosla et al. 2020; spec pfed 4.3.
    Beyond `MOST_AT_ONCE` similarities it takes memory for a chunk of them, at most `CHUNK` * G, and
    no longer has a second derivative.

    Args:
        query_BD: unit descriptors of this rank's queries, whose places the gallery shows.
        gallery_GD: unit descriptors of the other view over all ranks.
        place_B: place of each query.
        place_G: place of each image of the gallery, a positive of the queries of that place.
        scale: inverse temperature.
        label_smoothing: share of the target spread over the gallery.
    """
    if len(query_BD) * len(gallery_GD) > MOST_AT_ONCE:
        wide = torch.promote_types(query_BD.dtype, torch.float32)
        scale = torch.as_tensor(scale, dtype=wide, device=query_BD.device)
        loss: Tensor = _Chunked.apply(
            query_BD, gallery_GD, place_B, place_G, scale, label_smoothing
        )
        return loss
    similarity_BG = scale * query_BD @ gallery_GD.T
    positive_BG = (place_B[:, None] == place_G).to(similarity_BG.dtype)
    target_BG = positive_BG / positive_BG.sum(dim=1, keepdim=True)
    return F.cross_entropy(similarity_BG, target_BG, label_smoothing=label_smoothing)


def rows_at_once(gallery_GD: Tensor) -> int:
    """Return the queries of a chunk."""
    return CHUNK if gallery_GD.is_cuda else min(CHUNK, max(64, HOST_CHUNK // len(gallery_GD)))


class _Chunked(torch.autograd.Function):
    """The same over chunks of queries; the gradients of a chunk are added up when it is seen."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch types ctx as Any
        query_BD: Tensor,
        gallery_GD: Tensor,
        place_B: Tensor,
        place_G: Tensor,
        scale: Tensor,
        label_smoothing: float,
    ) -> Tensor:
        wide = scale.dtype  # sums are kept in it where descriptors are narrower
        target_BD, weight_B1 = _targets(gallery_GD.to(wide), place_B, place_G, label_smoothing)
        look = _compiled() if query_BD.is_cuda else _errors
        sum_of_losses = -scale * (query_BD * target_BD).sum()
        grad_query_BD = torch.empty_like(query_BD, dtype=wide)
        grad_gallery_GD = torch.zeros_like(gallery_GD, dtype=wide)
        rows = rows_at_once(gallery_GD)
        for at in range(0, len(query_BD), rows):
            query_cD, place_c1, weight_c1 = (
                part[at : at + rows] for part in (query_BD, place_B[:, None], weight_B1)
            )
            similarity_cG = _product((scale * query_cD).to(query_BD.dtype), gallery_GD.T, wide)
            normalizer_c, error_cG = look(
                similarity_cG, place_c1, place_G, weight_c1, label_smoothing, query_BD.dtype
            )
            sum_of_losses += normalizer_c.sum()
            grad_query_BD[at : at + rows] = _product(error_cG, gallery_GD, wide)
            grad_gallery_GD += _product(error_cG.T, query_cD, wide)
        ctx.save_for_backward(query_BD, gallery_GD, scale, grad_query_BD, grad_gallery_GD)
        return sum_of_losses / len(query_BD)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        query_BD, gallery_GD, scale, grad_query_BD, grad_gallery_GD = ctx.saved_tensors
        factor = grads[0] / len(query_BD)
        return (
            (factor * scale * grad_query_BD).to(query_BD.dtype),
            (factor * scale * grad_gallery_GD).to(gallery_GD.dtype),
            None,
            None,
            factor * (query_BD * grad_query_BD).sum(),
            None,
        )


def _targets(
    gallery_GD: Tensor, place_B: Tensor, place_G: Tensor, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """Return what each query should find, as a mean of the gallery, and the weight of a positive.

    Places are numbered by where they begin in a sorted gallery: the host waits for no count.
    """
    sorted_G = place_G.sort().values
    first_B, first_G = (torch.searchsorted(sorted_G, place) for place in (place_B, place_G))
    count_B = torch.searchsorted(sorted_G, place_B, right=True) - first_B
    weight_B1 = (1 - label_smoothing) / count_B[:, None].to(gallery_GD.dtype)
    sum_GD = torch.zeros_like(gallery_GD).index_add_(0, first_G, gallery_GD)
    return weight_B1 * sum_GD[first_B] + label_smoothing * gallery_GD.mean(dim=0), weight_B1


def _errors(
    similarity_cG: Tensor,
    place_c1: Tensor,
    place_G: Tensor,
    weight_c1: Tensor,
    label_smoothing: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Return log sum exp of each query's similarities, and all probabilities less their targets."""
    logp_cG = similarity_cG.log_softmax(dim=1)
    normalizer_c = similarity_cG[:, 0] - logp_cG[:, 0]
    even = label_smoothing / len(place_G)
    target_cG = torch.where(place_c1 == place_G, weight_c1 + even, even)
    return normalizer_c, logp_cG.exp_().sub_(target_cG).to(dtype)


@cache
def _compiled() -> Any:
    """Return `_errors` in one pass over memory: as several, it would outlast the products."""
    return torch.compile(_errors)


def _product(left: Tensor, right: Tensor, wide: torch.dtype) -> Tensor:
    """Return a product of matrices whose sums are kept in `wide`."""
    return left @ right if left.dtype == wide else torch.mm(left, right, out_dtype=wide)
