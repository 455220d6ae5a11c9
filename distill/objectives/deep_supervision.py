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

    Lee et al. 2015; spec pfed 4.1, whose alpha are the weights. Logits [V, C] are those of the
    stages before the final one, first to last: that one is the term `cross_entropy`.
    """
    losses = [F.cross_entropy(logits_VC, target_V) for logits_VC in stage_logits]
    return torch.stack([w * loss for w, loss in zip(weights, losses, strict=True)]).sum()
