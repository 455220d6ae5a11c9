"""ResNet-34 of one-bit 3x3 convolutions, with ReCU's rectified weights (spec bicrossnet 2.6).

What the spec leaves open: weights are standardised per filter, activations divided by the deviation
of their own image, which depends on no other; and every 3x3 convolution has a shortcut around it.
"""

# Shapes: B = images, C = input and D = output channels, K = side of a kernel, H x W = positions.

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.models.binary import Sign, StagedNetwork, straight_through

FIRST_TAU, LAST_TAU = 0.85, 0.99

LEAST_DEVIATION = 1e-5
"""An image whose activations are all alike is divided by this."""


def tau_at(progress: float) -> float:
    """Return tau when `progress`, from 0 to 1, of the steps are done: 0.85 to 0.99, ever faster.

    It stays there, as at 1 the bound of the weights would be infinite.
    """
    slope = (LAST_TAU - FIRST_TAU) / (math.e - 1)
    return min(LAST_TAU, FIRST_TAU + slope * (math.exp(progress) - 1))


class SignWithTriangle(Sign):
    """-1, 0 or 1 each, with the derivative max(0, 2 - 2 |value|)."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        values: Tensor = ctx.saved_tensors[0]
        return (2 - 2 * values.abs()).clamp(min=0) * grad


class ReCUConv2d(nn.Conv2d):
    """The convolution of the signs of its input with the signs of its standardised weights."""

    one_bit_parameters = ("weight",)

    tau = FIRST_TAU
    """Standardised weights beyond this quantile of a Laplace distribution have no gradient."""

    def used_weight(self) -> Tensor:
        """Return what the products take for the latent weights [D, C, K, K]."""
        dims = (1, 2, 3)
        std, mean = torch.std_mean(self.weight, dim=dims, correction=0, keepdim=True)
        standard = (self.weight - mean) * (2 * math.sqrt(2) / std)
        bound = -standard.detach().abs().mean() * math.log(2 - 2 * self.tau)
        rectified = standard.clamp(-bound, bound)
        return straight_through(rectified, rectified.sign())

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Return a map [B, D, H / stride, W / stride] of whole numbers."""
        if self.training:  # in eval mode the signs are the same without it
            std = map_BCHW.std(dim=(1, 2, 3), correction=0, keepdim=True)
            map_BCHW = map_BCHW / std.clamp(min=LEAST_DEVIATION)
        map_BDHW: Tensor = self._conv_forward(
            SignWithTriangle.of(map_BCHW), self.used_weight(), None
        )
        return map_BDHW


class BinaryResidual(nn.Module):
    """One binary convolution, a real scale per channel, and a shortcut around both."""

    def __init__(self, width_in: int, width: int, *, stride: int) -> None:
        """Start with scales from 0 to 1; a shortcut that must change the map is a real 1x1."""
        super().__init__()
        self.conv = ReCUConv2d(width_in, width, 3, stride=stride, padding=1, bias=False)
        self.scale = nn.Parameter(torch.rand(width))
        self.norm = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if (width_in, stride) != (width, 1):
            change = nn.Conv2d(width_in, width, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(change, nn.BatchNorm2d(width))

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Return a map [B, D, H / stride, W / stride] from -1 to 1."""
        scaled = self.conv(map_BCHW) * self.scale.view(-1, 1, 1)
        return F.hardtanh(self.norm(scaled) + self.shortcut(map_BCHW))


class ReCUResNet34(StagedNetwork):
    """A real stem at a quarter of the resolution, and 32 binary convolutions to a width of 512."""

    def __init__(self) -> None:
        conv = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        pool = nn.MaxPool2d(3, stride=2, padding=1)
        super().__init__(nn.Sequential(conv, nn.BatchNorm2d(64), nn.Hardtanh(), pool))
        width_in = 64
        for stage, num_pairs in enumerate((3, 4, 6, 3)):
            width = 64 * 2**stage
            for number in range(2 * num_pairs):
                stride = 2 if stage and number == 0 else 1
                self.blocks.append(BinaryResidual(width_in, width, stride=stride))
                width_in = width
            self.end_stage(width, reduction=4 * 2**stage)


def set_tau(network: nn.Module, tau: float) -> None:
    """Set tau of every `ReCUConv2d`; it is no part of a checkpoint."""
    for layer in network.modules():
        if isinstance(layer, ReCUConv2d):
            layer.tau = tau
