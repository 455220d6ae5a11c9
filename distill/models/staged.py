"""A network in stages that hands its maps on as timm's do."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class StagedNetwork(nn.Module):
    """A stem, blocks, and what is part of the last map behind the last of them."""

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList()
        self.act: nn.Module = nn.Identity()
        self.feature_info: list[dict[str, Any]] = []
        """Width and reduction of the map at the end of each stage, in timm's words."""
        self.ends: list[int] = []
        """Numbers of the blocks that end a stage."""

    def end_stage(self, width: int, reduction: int) -> None:
        """Say that the resolution changes behind the blocks so far."""
        self.feature_info.append({"num_chs": width, "reduction": reduction})
        self.ends.append(len(self.blocks) - 1)

    def forward_intermediates(
        self,
        images_BCHW: Tensor,
        *,
        indices: Sequence[int],
        norm: bool = False,
        intermediates_only: bool = True,
    ) -> list[Tensor]:
        """Return the maps [B, D, H, W] at the ends of some stages; there is no norm behind them."""
        current, maps = self.stem(images_BCHW), []
        for number, block in enumerate(self.blocks):
            current = block(current)
            if number in self.ends:
                maps.append(current)
        maps[-1] = self.act(current)
        return [maps[index] for index in indices]
