"""The network every recipe trains: backbone, descriptor, class logits for training."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from data_shards.errors import RecipeError
from data_shards.nearest import choose
from distill.config import ModelConfig
from distill.models.backbones import ARCHS
from distill.models.heads import POOLS, class_head
from distill.models.outputs import Outputs, Shapes, unit
from distill.models.weights import load_backbone


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
        """Numbers of a descriptor, over all its parts."""
        self.pool = POOLS[config.pool]()
        self.head = class_head(
            self.width, num_places, bottleneck=config.bottleneck, dropout=config.dropout
        )
        self.shapes: Shapes = {"descriptor": (1, self.width), "logits": (num_places,)}
        """Names and shapes of what `forward` returns for one image."""

    def forward(self, images_BCHW: Tensor) -> Outputs:
        """Return descriptor and class logits of normalized images."""
        parts_BPD = self.parts(images_BCHW)
        return Outputs(descriptor=parts_BPD, logits=self.head(parts_BPD.flatten(1)))

    def parts(self, images_BCHW: Tensor) -> Tensor:
        """Return descriptors [B, P, D] in their parts, not normalised; the class head is left out.

        What inference runs, and what another network overrides.
        """
        features: Tensor = self.backbone.forward_features(images_BCHW)  # type: ignore[operator]
        pooled_BD: Tensor = self.pool(features)
        return pooled_BD.unsqueeze(1)

    def describe(self, images_BCHW: Tensor, *, flip: bool = False) -> Tensor:
        """Return unit descriptors [B, P * D].

        With `flip` each is the sum of the image's and its mirror's, added before they are scaled.
        """
        parts_BPD = self.parts(images_BCHW)
        if flip:
            parts_BPD = parts_BPD + self.parts(images_BCHW.flip(3))
        return unit(parts_BPD)

    def learn(self, read: Collection[str]) -> None:
        """Keep out of the optimizer what makes outputs that no loss term reads."""
        self.head.requires_grad_("logits" in read)


def build_model(config: ModelConfig, *, num_places: int) -> RetrievalModel:
    """Build a model and give its backbone the weights that the recipe names.

    Raises:
        RecipeError: arch or weights are unknown, or the weights do not fit.
    """
    model = RetrievalModel(config, num_places=num_places)
    load_backbone(model.backbone, arch=config.arch, weights=config.weights)
    return model


def to_device(model: RetrievalModel, device: torch.device) -> RetrievalModel:
    """Move a model, with channels last in memory as its inputs are."""
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
