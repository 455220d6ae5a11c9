"""What stands behind the last feature map: PFED's pooled descriptor, and MCCG's head."""

# Shapes: B = images, D = width of a map or a descriptor, H x W = positions, C = training places; of
# MCCG's head (spec bicrossnet 2.5): C = channels of the map, D = width of a part, N = places.

from collections import OrderedDict
from collections.abc import Collection

import torch
from torch import Tensor, nn

from data_shards.errors import RecipeError
from distill.config import ModelConfig
from distill.models.outputs import Outputs, Shapes, at_least_float32


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


NUM_PARTS = 3
"""Attention along the height, attention along the width, global."""


class MccgHead(nn.Module):
    """Three vectors of a map, and the descriptor and the class logits of each."""

    def __init__(self, width: int, num_places: int, config: ModelConfig) -> None:
        super().__init__()
        if not config.bottleneck:
            raise RecipeError("model.bottleneck is 0, and parts of a descriptor need a width; 512")
        self.attention_map = config.attention_map
        is_convnext = config.arch.startswith("convnext")
        self.norm = nn.LayerNorm(width, eps=1e-6) if is_convnext else nn.Identity()
        self.gates = nn.ModuleList(Gate() for _ in range(NUM_PARTS - 1))
        self.blocks = nn.ModuleList(
            ClassBlock(width, config.bottleneck, num_places) for _ in range(NUM_PARTS)
        )
        self.dropout = nn.Dropout(config.dropout)
        part = (NUM_PARTS, config.bottleneck)
        self.shapes: Shapes = {
            "descriptor": part,
            "features": part,
            "logits": (NUM_PARTS, num_places),
        }

    def forward(self, map_BCHW: Tensor) -> Outputs:
        """Return `descriptor` [B, 3, D], `features` (it behind dropout), and `logits` [B, 3, N]."""
        parts_BPD = self.parts(map_BCHW)
        # A part's own mask: the parts are three heads.
        features_BPD = self.dropout(parts_BPD)
        logits = [
            block.get_submodule("classifier")(part)
            for block, part in zip(self.blocks, features_BPD.unbind(1), strict=True)
        ]
        return Outputs(
            descriptor=parts_BPD, features=features_BPD, logits=torch.stack(logits, dim=1)
        )

    def parts(self, map_BCHW: Tensor) -> Tensor:
        """Return descriptors [B, 3, D] in their parts, not normalised."""
        map_BCHW = at_least_float32(map_BCHW)
        if self.attention_map == "pooled":
            map_BCHW = map_BCHW.mean(dim=(2, 3), keepdim=True)
        vectors = [
            # The gate is one along the axis it was made over, so that axis can be averaged first.
            self.gates[0](*_planes(map_BCHW, along=2)).mean(dim=2),
            self.gates[1](*(plane.mT for plane in _planes(map_BCHW, along=3))).mean(dim=1),
            self.norm(map_BCHW.mean(dim=(2, 3))),
        ]
        described = [block(vector) for block, vector in zip(self.blocks, vectors, strict=True)]
        return torch.stack(described, dim=1)

    def learn(self, read: Collection[str]) -> None:
        for block in self.blocks:
            block.get_submodule("classifier").requires_grad_("logits" in read)


def _planes(map_BCHW: Tensor, *, along: int) -> tuple[Tensor, Tensor]:
    """Return maximum and mean of a map along one of its axes."""
    return map_BCHW.amax(dim=along), map_BCHW.mean(dim=along)


class Gate(nn.Module):
    """Z-pool, 7 x 7 convolution and sigmoid of triplet attention (Misra et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, largest_BXY: Tensor, mean_BXY: Tensor) -> Tensor:
        """Return the mean plane [B, X, Y] times its gate."""
        planes_B2XY = torch.stack([largest_BXY, mean_BXY], dim=1)
        gate_BXY: Tensor = self.norm(self.conv(planes_B2XY)).squeeze(1).sigmoid()
        return mean_BXY * gate_BXY


class ClassBlock(nn.Module):
    """Linear and BatchNorm to a part of the descriptor, and the classifier of that part."""

    def __init__(self, width: int, part_width: int, num_places: int) -> None:
        super().__init__()
        self.reduce = reduction(width, part_width)
        self.norm = nn.BatchNorm1d(part_width)
        self.classifier = classifier_layer(part_width, num_places)

    def forward(self, vector_BC: Tensor) -> Tensor:
        """Return the part [B, D] of the descriptor."""
        part_BD: Tensor = self.norm(self.reduce(vector_BC))
        return part_BD
