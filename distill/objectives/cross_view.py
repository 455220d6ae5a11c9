"""Class probabilities of one view against those of the other."""

import torch.nn.functional as F
from torch import Tensor


def cross_view(satellite_BC: Tensor, drone_BC: Tensor) -> Tensor:
    """Return KL(softmax(drone) || softmax(satellite)), mean over B (spec bicrossnet 4.1)."""
    return F.kl_div(
        satellite_BC.log_softmax(dim=1),
        drone_BC.log_softmax(dim=1),
        reduction="batchmean",
        log_target=True,
    )
