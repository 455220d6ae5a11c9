"""Feature map to descriptor."""

import torch
from torch import Tensor, nn


class GeM(nn.Module):
    """Generalized mean with a learned power (Radenovic et al. 2018); power 1 is the mean."""

    def __init__(self, power: float = 3.0, eps: float = 1e-6) -> None:
        """Start at `power`; activations below `eps` count as `eps` (spec pfed 2)."""
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power))
        self.eps = eps

    def forward(self, map_BDHW: Tensor) -> Tensor:
        """Return descriptors [B, D]."""
        clamped = map_BDHW.float().clamp(min=self.eps)
        pooled: Tensor = clamped.pow(self.power).mean(dim=(2, 3)).pow(1 / self.power)
        return pooled


class Mean(nn.Module):
    """The mean over positions."""

    def forward(self, map_BDHW: Tensor) -> Tensor:
        """Return descriptors [B, D]."""
        return map_BDHW.float().mean(dim=(2, 3))


POOLS: dict[str, type[nn.Module]] = {"gem": GeM, "mean": Mean}
"""Name in a recipe to module."""
