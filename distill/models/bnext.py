"""BNext, the binary backbone of BiCrossNet (spec bicrossnet 2.2 to 2.4).

The residual stream is real; only the convolutions inside blocks are of one bit.
"""

# Shapes: B = images, C = channels of a sub-block, in and out, H x W = positions.

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.models.binary import BinaryConv2d, StagedNetwork

SQUEEZE = 8
"""Channels to one hidden unit of a gate."""


class Gate(nn.Module):
    """Squeeze and excitation: one factor from 0 to 1 per channel (spec 2.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(width, width // SQUEEZE, 1)
        self.expand = nn.Conv2d(width // SQUEEZE, width, 1)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Return factors [B, C, 1, 1]."""
        pooled = map_BCHW.mean(dim=(2, 3), keepdim=True)
        return torch.sigmoid(self.expand(F.relu(self.reduce(pooled))))


class SubBlock(nn.Module):
    """One binary convolution around which a real stream flows (spec 2.3).

    With a kernel of 3 it is ELM-Attention or, without `has_attention`, FFN-3x3; with a kernel of 1
    it is FFN-1x1.
    """

    def __init__(
        self, width: int, *, kernel: int, stride: int = 1, has_attention: bool, is_binary: bool
    ) -> None:
        """Start with a mean of stream and convolution in the gate, and no shift."""
        super().__init__()
        layer = BinaryConv2d if is_binary else nn.Conv2d
        self.is_pointwise, self.stride = kernel == 1, stride
        self.shift = nn.Parameter(torch.zeros(width))
        self.conv = layer(width, width, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.act1 = nn.PReLU(width) if has_attention else None
        self.act2 = nn.PReLU(width)
        self.mix = nn.Parameter(torch.full((width,), 0.5))
        self.se = Gate(width)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Return a map [B, C, H / stride, W / stride]."""
        own = self.act2(self.norm1(self.conv(map_BCHW + self.shift.view(-1, 1, 1))))
        stream = self._pooled(map_BCHW)
        # The optimizer keeps the mix within [0, 1]; weights of others may lie outside, and there
        # the two kinds differ (spec 2.3).
        is_clamped = self.training or self.is_pointwise
        mix = (self.mix.clamp(0, 1) if is_clamped else self.mix).view(-1, 1, 1)
        gated = self.se(mix * stream + (1 - mix) * own) * own
        if self.act1 is not None:
            stream = self._pooled(self.act1(map_BCHW))
            gated = gated * stream
        result: Tensor = self.norm2(gated) + stream
        return result

    def _pooled(self, map_BCHW: Tensor) -> Tensor:
        return F.avg_pool2d(map_BCHW, 2) if self.stride == 2 else map_BCHW


class Block(nn.Module):
    """A 3x3 sub-block, then one of 1x1, or two side by side that double the width (spec 2.3)."""

    def __init__(
        self, width: int, *, doubles: bool, stride: int, has_attention: bool, is_binary: bool
    ) -> None:
        super().__init__()
        self.spatial = SubBlock(
            width, kernel=3, stride=stride, has_attention=has_attention, is_binary=is_binary
        )
        self.pointwise = nn.ModuleList(
            SubBlock(width, kernel=1, has_attention=False, is_binary=is_binary)
            for _ in range(2 if doubles else 1)
        )

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Return a map [B, C or 2 C, H / stride, W / stride]."""
        spatial = self.spatial(map_BCHW)
        return torch.cat([pointwise(spatial) for pointwise in self.pointwise], dim=1)


class BNext(StagedNetwork):
    """A real stem at half of the resolution, and stages of binary blocks (spec 2.4).

    The first block of a stage doubles the width; but for the first stage it halves the resolution,
    too. No parameter is idle.
    """

    def __init__(self, stem_width: int, depths: Sequence[int], *, is_binary: bool = True) -> None:
        """Build with fresh weights; without `is_binary` convolutions and activations stay real."""
        conv = nn.Conv2d(3, stem_width, 3, stride=2, padding=1, bias=False)
        norm = nn.BatchNorm2d(stem_width)
        super().__init__(nn.Sequential(OrderedDict(conv=conv, norm=norm)))
        width = stem_width
        for stage, depth in enumerate(depths):
            for number in range(depth):
                is_first = number == 0
                block = Block(
                    width,
                    doubles=is_first,
                    stride=2 if is_first and stage else 1,
                    has_attention=len(self.blocks) % 2 == 1,
                    is_binary=is_binary,
                )
                self.blocks.append(block)
                width *= 2 if is_first else 1
            self.end_stage(width, reduction=2 ** (stage + 1))
        self.act = nn.PReLU(width)


def mixing_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the names and values of what is kept within [0, 1]: mixes of stream and own."""
    parts = network.named_modules()
    return {f"{name}.mix": part.mix for name, part in parts if isinstance(part, SubBlock)}
