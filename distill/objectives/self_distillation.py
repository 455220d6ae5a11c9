"""Soft labels among the stages of one network."""

# Shapes: V = images, C = training places.

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def self_distillation(
    stage_logits: Sequence[Tensor],
    *,
    weights: Sequence[float],
    temperature: float,
    direction: Literal["inverse", "ordinary"],
    chain: bool,
    detach: bool,
) -> Tensor:
    """Return sum_i w_i T^2 KL(softmax(teaching / T) || softmax(learning / T)), mean over V.

    Inverse is spec pfed 4.2; ordinary, its control, is Zhang et al. 2019 (Be Your Own Teacher).

    Logits [V, C] are those of all stages, the final head last; weights, one per stage before it.
    In `inverse` direction earlier stages teach, each the last or, with `chain`, the next one; with
    `detach` no gradient reaches the side that teaches.
    """
    stage_logp = [F.log_softmax(logits_VC / temperature, dim=1) for logits_VC in stage_logits]
    earlier, last = stage_logp[:-1], stage_logp[-1]
    pairs = zip(earlier, stage_logp[1:] if chain else [last] * len(earlier), strict=True)
    terms = []
    for weight, pair in zip(weights, pairs, strict=True):
        teaching_VC, learning_VC = pair if direction == "inverse" else pair[::-1]
        teaching_VC = teaching_VC.detach() if detach else teaching_VC
        kl = F.kl_div(learning_VC, teaching_VC, reduction="batchmean", log_target=True)
        terms.append(weight * kl)
    return temperature**2 * torch.stack(terms).sum()
