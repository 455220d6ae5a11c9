"""Hardest match and hardest miss of each image in the other view."""

# Shapes: B = anchors on this rank, G = the other view over all ranks, D = descriptor width,
# c = anchors of a chunk.

import math

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 1024
"""Anchors that are compared with the other view at once, to bound memory."""


def triplet(
    anchor_BD: Tensor, other_GD: Tensor, place_B: Tensor, place_G: Tensor, *, margin: float
) -> Tensor:
    """Return max(0, hardest positive - hardest negative + margin) of each anchor [B].

    Batch-hard triplets (Hermans et al. 2017) of Euclidean distances across views; spec pfed 4.3.
    An anchor without a positive or without a negative has no triplet and gives 0. Descriptors are
    unit vectors; `margin` is by how much a positive has to be nearer.
    """
    with torch.no_grad():
        chunks = [
            _hardest(anchor_cD, other_GD, place_c[:, None] == place_G)
            for anchor_cD, place_c in zip(anchor_BD.split(CHUNK), place_B.split(CHUNK), strict=True)
        ]
        positive_B, negative_B, has_both_B = map(torch.cat, zip(*chunks, strict=True))
    # Distances of the chosen alone: exact where vectors meet, and there with gradient 0.
    to_positive_B = torch.linalg.vector_norm(anchor_BD - other_GD[positive_B], dim=1)
    to_negative_B = torch.linalg.vector_norm(anchor_BD - other_GD[negative_B], dim=1)
    return F.relu(to_positive_B - to_negative_B + margin) * has_both_B


def _hardest(anchor_cD: Tensor, other_GD: Tensor, same_cG: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the indices of hardest positives and negatives, and whether there is one of each."""
    cosine_cG = anchor_cD @ other_GD.T  # the farther of two unit vectors has the smaller cosine
    positive_c = cosine_cG.masked_fill(~same_cG, math.inf).argmin(dim=1)
    negative_c = cosine_cG.masked_fill(same_cG, -math.inf).argmax(dim=1)
    return positive_c, negative_c, same_cG.any(dim=1) & ~same_cG.all(dim=1)
