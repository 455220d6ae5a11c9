"""Hardest match and hardest miss of each image in the other view."""

# Shapes: B = anchors on this rank, G = the other view over all ranks, D = descriptor width.

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def triplet(
    anchor_BD: Tensor, other_GD: Tensor, place_B: Tensor, place_G: Tensor, *, margin: float
) -> Tensor:
    """Return max(0, hardest positive - hardest negative + margin) of each anchor [B].

    Batch-hard triplets (Hermans et al. 2017) of Euclidean distances across views; spec pfed 4.3.
    An anchor without a positive or without a negative has no triplet and gives 0.

    Args:
        anchor_BD: unit descriptors of one view.
        other_GD: unit descriptors of the other view over all ranks.
        place_B: place of each anchor.
        place_G: place of each image of the other view.
        margin: by how much a positive has to be nearer.
    """
    same_BG = place_B[:, None] == place_G
    with torch.no_grad():  # the farther of two unit vectors has the smaller cosine
        cosine_BG = anchor_BD @ other_GD.T
        positive_B = cosine_BG.masked_fill(~same_BG, math.inf).argmin(dim=1)
        negative_B = cosine_BG.masked_fill(same_BG, -math.inf).argmax(dim=1)
    # Distances of the chosen alone: exact where vectors meet, and there with gradient 0.
    to_positive_B = torch.linalg.vector_norm(anchor_BD - other_GD[positive_B], dim=1)
    to_negative_B = torch.linalg.vector_norm(anchor_BD - other_GD[negative_B], dim=1)
    has_both_B = same_BG.any(dim=1) & ~same_BG.all(dim=1)
    return F.relu(to_positive_B - to_negative_B + margin) * has_both_B
