"""The network every recipe trains: backbone, pooling to a descriptor, class logits for training."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from data_shards.errors import RecipeError
from data_shards.nearest import choose
from distill.config import ModelConfig
from distill.models.archs import ARCHS
from distill.models.pooling import POOLS


class Outputs(NamedTuple):
    """What a model says of a batch. B = images, D = descriptor width, C = training places."""

    descriptor: Tensor
    """Pooled features [B, D], not normalised."""

    logits: Tensor
    """Class logits [B, C]."""


class RetrievalModel(nn.Module):
    """One network for both views (spec pfed 3): the descriptor is the pooled last feature map."""

    def __init__(self, config: ModelConfig, *, num_places: int) -> None:
        """Build with fresh weights.

        Raises:
            RecipeError: the arch is unknown.
        """
        super().__init__()
        self.backbone = ARCHS[choose(config.arch, ARCHS, what="model.arch", error=RecipeError)](
            config.drop_path
        )
        self.width = int(self.backbone.num_features)  # type: ignore[arg-type]
        self.pool = POOLS[config.pool]()
        self.head = _class_head(
            self.width, num_places, bottleneck=config.bottleneck, dropout=config.dropout
        )

    def forward(self, images_BCHW: Tensor) -> Outputs:
        """Return descriptors and class logits of normalized images."""
        descriptor = self._pooled(images_BCHW)
        return Outputs(descriptor, self.head(descriptor))

    def describe(self, images_BCHW: Tensor, *, flip: bool = False) -> Tensor:
        """Return unit descriptors [B, D]: the only path that inference runs.

        With `flip` each is the sum of the image's and its mirror's, added before they are scaled.
        """
        descriptor = self._pooled(images_BCHW)
        if flip:
            descriptor = descriptor + self._pooled(images_BCHW.flip(3))
        return F.normalize(descriptor, dim=1)

    def _pooled(self, images_BCHW: Tensor) -> Tensor:
        features: Tensor = self.backbone.forward_features(images_BCHW)  # type: ignore[operator]
        pooled: Tensor = self.pool(features)
        return pooled


def _class_head(width: int, num_places: int, *, bottleneck: int, dropout: float) -> nn.Sequential:
    """Build Linear - BatchNorm - Dropout - classifier, no activation (spec pfed 3, class block)."""
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


def build_model(config: ModelConfig, *, num_places: int) -> RetrievalModel:
    """Build a model and give its backbone the weights that the recipe names.

    Raises:
        RecipeError: arch or weights are unknown, or the weights do not fit.
    """
    from distill.models.weights import load_backbone

    model = RetrievalModel(config, num_places=num_places)
    load_backbone(model.backbone, arch=config.arch, weights=config.weights)
    return model
