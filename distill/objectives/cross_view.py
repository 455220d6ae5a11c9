"""Class probabilities of one view against those of the other."""

from torch import Tensor

from distill.objectives.logit_distillation import logit_distillation


def cross_view(satellite_BC: Tensor, drone_BC: Tensor) -> Tensor:
    """Return KL(softmax(drone) || softmax(satellite)), mean over B (spec bicrossnet 4.1)."""
    return logit_distillation(satellite_BC, drone_BC, temperature=1.0)
