"""Class logits of the earlier stages against the place."""

# Shapes: V = images, C = training places.

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def deep_supervision(
    stage_logits: Sequence[Tensor], target_V: Tensor, *, weights: Sequence[float]
) -> Tensor:
    """Return the weighted sum of the earlier stages' cross-entropies, each the mean over V.

    Lee et al. 2015; spec pfed 4.1, where the final stage is the term `cross_entropy`.

    Args:
        stage_logits: logits [V, C] of the stages before the final one, first to last.
        target_V: class of each image.
        weights: alpha of the spec, one per stage.
    """
    terms = [
        weight * F.cross_entropy(logits_VC, target_V)
        for weight, logits_VC in zip(weights, stage_logits, strict=True)
    ]
    return torch.stack(terms).sum()
