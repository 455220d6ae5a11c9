"""Contrast of each query with all gallery images of the global batch."""

import torch.nn.functional as F
from torch import Tensor


def info_nce(
    query_BD: Tensor,
    gallery_GD: Tensor,
    target_B: Tensor,
    *,
    scale: Tensor | float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return InfoNCE of unit descriptors in one direction (Oord et al. 2018; spec pfed 4.3).

    Args:
        query_BD: unit descriptors of this rank's queries.
        gallery_GD: unit descriptors of the other view over all ranks, each place once.
        target_B: index in the gallery of each query's own place.
        scale: inverse temperature.
        label_smoothing: share of the target spread over the gallery.
    """
    similarity_BG = scale * query_BD @ gallery_GD.T
    return F.cross_entropy(similarity_BG, target_B, label_smoothing=label_smoothing)
