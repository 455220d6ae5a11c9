"""Class logits against the place."""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits_BC: Tensor, target_B: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy over B images and C places (spec pfed 4.1, final stage)."""
    return F.cross_entropy(logits_BC, target_B, label_smoothing=label_smoothing)
