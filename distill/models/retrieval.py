"""The network every recipe trains: a backbone, and a head for descriptors and class logits."""

# Shapes: B = images, P = parts of a descriptor, D = width of a part, C = training places.

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn

from data_shards.errors import RecipeError
from distill.config import ModelConfig
from distill.models.backbones import (
    build_backbone,
    patch_of,
    pixel_statistics,
    stage_ends,
    train_last_blocks,
)
from distill.models.heads import MccgHead, PooledHead
from distill.models.outputs import Outputs, Shapes, unit
from distill.models.preprocess import renormalize
from distill.models.weights import Origin, load_backbone

Head = type[PooledHead] | type[MccgHead]
"""What stands behind the last feature map. It makes outputs of training (`forward`), descriptors
[B, P, D] in their parts, not normalised, of inference (`parts`), both of `shapes` for one image;
`learn` keeps out of the optimizer what makes outputs that no loss term reads."""


class RetrievalModel(nn.Module):
    """One network for both views: a backbone, and a head on its last feature map."""

    def __init__(self, config: ModelConfig, *, num_places: int, head: Head = PooledHead) -> None:
        super().__init__()
        self.backbone = build_backbone(config.arch, drop_path=config.drop_path)
        self.pixels = renormalize(*pixel_statistics(config.arch))
        self.has_norm = config.final_norm
        if self.has_norm and not list(getattr(self.backbone, "norm", nn.Identity()).parameters()):
            raise RecipeError(f"model.final_norm: {config.arch} has none; leave it out")
        if not self.has_norm and hasattr(self.backbone, "norm"):
            self.backbone.norm = nn.Identity()
        self.ends = stage_ends(self.backbone)
        info = self.backbone.feature_info
        self.stage_widths = [int(info[end]["num_chs"]) for end in self.ends]  # type: ignore[index]
        """Widths of the maps at the ends of the last stages, the deepest last."""
        self.head = head(self.stage_widths[-1], num_places, config)
        self.shapes: Shapes = self.head.shapes
        """Names and shapes of what `forward` returns for one image."""
        self.width = math.prod(self.shapes["descriptor"])
        """Numbers of a descriptor, over all its parts."""
        self.num_stages = 1
        """Maps that `forward` hands on; training asks for more where stage heads look at them."""
        self.origin = Origin()
        """Where the backbone's weights came from."""

    def forward(self, images_BCHW: Tensor) -> Outputs:
        """Return descriptor and class logits of normalized images, and the earlier stages' maps."""
        *earlier, last = self._maps(images_BCHW, self.num_stages)
        outputs: Outputs = self.head(last)
        outputs |= {f"stage_{number}": values for number, values in enumerate(earlier, start=1)}
        return outputs

    def parts(self, images_BCHW: Tensor) -> Tensor:
        """Return descriptors [B, P, D] in their parts, not normalised: all that inference runs."""
        (last,) = self._maps(images_BCHW, 1)
        return self.head.parts(last)

    def _maps(self, images_BCHW: Tensor, num_stages: int) -> list[Tensor]:
        """Return the maps [B, D, H, W] of the last stages, the deepest last.

        Of a transformer these are the patches alone, without class token and registers.
        """
        maps: list[Tensor] = self.backbone.forward_intermediates(  # type: ignore[operator]
            self.pixels(images_BCHW),
            indices=self.ends[-num_stages:],
            norm=self.has_norm,
            intermediates_only=True,
        )
        return maps

    def describe(self, images_BCHW: Tensor, *, flip: bool = False) -> Tensor:
        """Return unit descriptors [B, P * D].

        With `flip` each is the sum of the image's and its mirror's, added before they are scaled.
        """
        parts_BPD = self.parts(images_BCHW)
        if flip:
            parts_BPD = parts_BPD + self.parts(images_BCHW.flip(3))
        return unit(parts_BPD)

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's own signature
        """Enter training or eval mode; frozen parts of the backbone stay in eval mode.

        Their batch statistics do not move, and nothing in them is dropped.
        """
        super().train(mode)
        for module in self.backbone.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()
        return self

    def learn(self, read: Collection[str]) -> None:
        """Keep out of the optimizer what makes outputs that no loss term reads."""
        self.head.learn(read)

    def refuse_size(self, image_size: int, *, key: str) -> None:
        """Refuse images that it does not divide evenly; `key` of the recipe says their size.

        Raises:
            RecipeError: so it is, with the nearest sizes.
        """
        patch = patch_of(self.backbone)
        if image_size % patch:
            below = image_size // patch * patch
            raise RecipeError(
                f"{key} {image_size} is no multiple of the model's grid of {patch} px; give "
                f"{below or patch} or {below + patch}"
            )


def build_model(config: ModelConfig, *, num_places: int, head: Head = PooledHead) -> RetrievalModel:
    """Build a model and give its backbone the weights that the recipe names."""
    model = RetrievalModel(config, num_places=num_places, head=head)
    model.origin = load_backbone(model.backbone, arch=config.arch, weights=config.weights)
    if config.train_blocks is not None:
        train_last_blocks(model.backbone, config.train_blocks, arch=config.arch)
    return model


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode without gradients, and leave it as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def to_device(model: RetrievalModel, device: torch.device) -> RetrievalModel:
    """Move a model, with channels last in memory as its inputs are."""
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
