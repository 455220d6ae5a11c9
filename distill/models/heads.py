"""Feature map to descriptor, and descriptor to class logits."""

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


def class_head(width: int, num_places: int, *, bottleneck: int, dropout: float) -> nn.Sequential:
    """Build Linear - BatchNorm - Dropout - classifier, no activation (spec pfed 3, class block).

    Without a `bottleneck` the classifier sees the descriptor itself.
    """
    layers: list[nn.Module] = []
    if bottleneck:
        reduce = nn.Linear(width, bottleneck)
        nn.init.kaiming_normal_(reduce.weight, a=0, mode="fan_out")
        nn.init.zeros_(reduce.bias)
        layers.append(reduce)
    classifier = nn.Linear(bottleneck or width, num_places)
    nn.init.normal_(classifier.weight, std=0.001)
    nn.init.zeros_(classifier.bias)
    return nn.Sequential(
        *layers, nn.BatchNorm1d(bottleneck or width), nn.Dropout(dropout), classifier
    )
