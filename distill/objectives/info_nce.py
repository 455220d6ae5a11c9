"""Contrast of each query with all gallery images of the global batch."""

# Shapes: B = queries on this rank, G = gallery over all ranks, D = descriptor width.

import torch.nn.functional as F
from torch import Tensor


def info_nce(
    query_BD: Tensor,
    gallery_GD: Tensor,
    positive_BG: Tensor,
    *,
    scale: Tensor | float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return InfoNCE of unit descriptors in one direction, -log p averaged over the positives.

    Oord et al. 2018; the form of several positives is L_out of Khosla et al. 2020; spec pfed 4.3.

    Args:
        query_BD: unit descriptors of this rank's queries.
        gallery_GD: unit descriptors of the other view over all ranks.
        positive_BG: whether both show one place; every query has a positive.
        scale: inverse temperature.
        label_smoothing: share of the target spread over the gallery.
    """
    similarity_BG = scale * query_BD @ gallery_GD.T
    positive_BG = positive_BG.to(similarity_BG.dtype)
    target_BG = positive_BG / positive_BG.sum(dim=1, keepdim=True)
    return F.cross_entropy(similarity_BG, target_BG, label_smoothing=label_smoothing)
