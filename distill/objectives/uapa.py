"""Drone predictions towards those of the satellite, softened where the drone is less certain."""

# Shapes: B = pairs of a drone view and its satellite tile, C = training places.

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.objectives.logit_distillation import logit_distillation


def entropy(logits_BC: Tensor) -> Tensor:
    """Return the entropy [B] of the class probabilities, in nats (U of spec pfed 4.4)."""
    logp_BC = F.log_softmax(logits_BC, dim=1)
    return -(logp_BC.exp() * logp_BC).sum(dim=1)


def alignment_temperature(drone_N: Tensor, satellite_M: Tensor, *, base: float) -> Tensor:
    """Return T = T0 (1 + sigmoid(U_drone - U_satellite)), without a gradient (spec pfed 4.4).

    U are the means of the entropies of N drone views and M tiles.
    """
    return base * (1 + torch.sigmoid((drone_N.mean() - satellite_M.mean()).detach()))


def uapa(satellite_BC: Tensor, drone_BC: Tensor, *, temperature: Tensor) -> Tensor:
    """Return T^2 KL(softmax(satellite / T) || softmax(drone / T)), mean over B.

    Uncertainty-aware prediction alignment; spec pfed 4.4. Logits of each pair's tile
    teach those of its drone view, and get no gradient.
    """
    return logit_distillation(drone_BC, satellite_BC.detach(), temperature=temperature)
