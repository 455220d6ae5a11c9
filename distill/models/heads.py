"""What stands behind the last feature map: PFED's pooled descriptor, and its class logits."""

# Shapes: B = images, D = width of a map or a descriptor, H x W = positions, C = training places.

from collections import OrderedDict
from collections.abc import Collection
from typing import Protocol

import torch
from torch import Tensor, nn

from distill.config import ModelConfig
from distill.models.outputs import Outputs, Shapes, at_least_float32


class Head(Protocol):
    """A module from the last feature map to what a model says of its images."""

    shapes: Shapes
    """Names and shapes of what `forward` returns for one image; `descriptor` is [parts, width]."""

    def __call__(self, map_BDHW: Tensor) -> Outputs:
        """Return descriptors and class logits, as training wants them."""

    def parts(self, map_BDHW: Tensor) -> Tensor:
        """Return descriptors [B, P, D] in their parts, not normalised: all that inference runs."""

    def learn(self, read: Collection[str]) -> None:
        """Keep out of the optimizer what makes outputs that no loss term reads."""


class GeM(nn.Module):
    """Generalized mean with a learned power (Radenovic et al. 2018); power 1 is the mean."""

    def __init__(self, power: float = 3.0, eps: float = 1e-6) -> None:
        """Start at `power`; activations below `eps` count as `eps` (spec pfed 2)."""
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power))
        self.eps = eps

    def forward(self, map_BDHW: Tensor) -> Tensor:
        """Return descriptors [B, D]."""
        clamped = at_least_float32(map_BDHW).clamp(min=self.eps)
        pooled: Tensor = clamped.pow(self.power).mean(dim=(2, 3)).pow(1 / self.power)
        return pooled


class Mean(nn.Module):
    """The mean over positions."""

    def forward(self, map_BDHW: Tensor) -> Tensor:
        """Return descriptors [B, D]."""
        return at_least_float32(map_BDHW).mean(dim=(2, 3))


POOLS: dict[str, type[nn.Module]] = {"gem": GeM, "mean": Mean}
"""Name in a recipe to module."""


def reduction(width: int, reduced: int) -> nn.Linear:
    layer = nn.Linear(width, reduced)
    nn.init.kaiming_normal_(layer.weight, a=0, mode="fan_out")
    nn.init.zeros_(layer.bias)
    return layer


def classifier_layer(width: int, num_places: int) -> nn.Linear:
    layer = nn.Linear(width, num_places)
    nn.init.normal_(layer.weight, std=0.001)
    nn.init.zeros_(layer.bias)
    return layer


def class_head(width: int, num_places: int, *, bottleneck: int, dropout: float) -> nn.Sequential:
    """Build Linear - BatchNorm - Dropout - classifier, no activation (spec pfed 3, class block).

    Without a `bottleneck` the classifier sees the descriptor itself.
    """
    seen = bottleneck or width
    layers = [reduction(width, bottleneck)] if bottleneck else []
    classifier = classifier_layer(seen, num_places)
    return nn.Sequential(*layers, nn.BatchNorm1d(seen), nn.Dropout(dropout), classifier)


class PooledHead(nn.Module):
    """The pooled map is the descriptor, or leads to it by a projection (spec pfed 2 and 3)."""

    def __init__(self, width: int, num_places: int, config: ModelConfig) -> None:
        super().__init__()
        assert config.descriptor_width != "teacher", "the session says which number that is"
        own = config.descriptor_width == "own"
        described = width if own else int(config.descriptor_width)
        self.pool = POOLS[config.pool]()
        self.classifier = class_head(
            described, num_places, bottleneck=config.bottleneck, dropout=config.dropout
        )
        self.projection: nn.Module = nn.Identity()
        if described != width:
            self.projection = nn.Linear(width, described, bias=False)
        self.shapes: Shapes = {"descriptor": (1, described), "logits": (num_places,)}

    def forward(self, map_BDHW: Tensor) -> Outputs:
        """Return `descriptor` [B, 1, D] and `logits` [B, C]."""
        parts_BPD = self.parts(map_BDHW)
        return Outputs(descriptor=parts_BPD, logits=self.classifier(parts_BPD.flatten(1)))

    def parts(self, map_BDHW: Tensor) -> Tensor:
        """Return descriptors [B, 1, D], not normalised."""
        projected: Tensor = self.projection(self.pool(map_BDHW))
        return projected.unsqueeze(1)

    def learn(self, read: Collection[str]) -> None:
        self.classifier.requires_grad_("logits" in read)


def stage_head(width: int, num_places: int, config: ModelConfig) -> nn.Sequential:
    """Build what makes class logits [B, C] of an earlier stage's map [B, D, H, W].

    It pools and classifies as the model does, with a power of its own, and exists in training only
    (spec pfed 3 and 4.1).
    """
    head = class_head(width, num_places, bottleneck=config.bottleneck, dropout=config.dropout)
    return nn.Sequential(OrderedDict(pool=POOLS[config.pool](), head=head))
