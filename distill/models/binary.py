"""Convolutions of one-bit weights and one-bit activations, trained through their signs.

BNext's (spec bicrossnet 2.2). There is no factor behind the signs: a batch norm follows.
"""

# Shapes: B = images, C = input and D = output channels, K = side of a kernel, H x W = positions.

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.autograd import Function

PASSING = 1.5
"""Activations up to here, either side of zero, hand their gradient on (spec 2.2)."""

STOPPING = torch.nextafter(torch.tensor(PASSING), torch.tensor(torch.inf)).item()
"""The next number of float32, from which on they do not."""

COLD = 1e-7
"""Below this temperature a weight is its sign, exactly."""


@runtime_checkable
class OneBitLayer(Protocol):
    """A layer whose products at inference are of one-bit weights and one-bit activations.

    Every multiply-accumulate inside its forward counts as a binary operation (spec bicrossnet 7.1);
    what it does besides, such as a batch norm or a channel scale, belongs into a layer of its own.
    """

    one_bit_parameters: tuple[str, ...]
    """Names of its own parameters that are stored in one bit each."""


def binary_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the names and latent values of all parameters that are stored in one bit each."""
    layers = [layer for layer in network.modules() if isinstance(layer, OneBitLayer)]
    one_bit = {id(getattr(layer, name)) for layer in layers for name in layer.one_bit_parameters}
    return {name: part for name, part in network.named_parameters() if id(part) in one_bit}


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


class Sign(Function):
    """The sign of each value; how a gradient passes it is for subclasses to say."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: D102
        ctx.save_for_backward(values)
        return values.sign()

    @classmethod
    def of(cls, values: Tensor) -> Tensor:
        signs: Tensor = cls.apply(values)
        return signs


class SignOfActivation(Sign):
    """-1, 0 or 1 each; the gradient passes where a value is within `PASSING`."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # One pass. A mask of bytes would keep a quarter of the memory, and takes two passes more.
        (values,) = ctx.saved_tensors
        passed: Tensor = torch.ops.aten.hardtanh_backward(grad, values, -STOPPING, STOPPING)
        return passed


class _Replace(Function):
    @staticmethod
    def forward(ctx: Any, latent: Tensor, used: Tensor) -> Tensor:
        return used.view_as(used)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def straight_through(latent: Tensor, used: Tensor) -> Tensor:
    """Return `used`, to the bit; its gradient goes to `latent` as it is."""
    replaced: Tensor = _Replace.apply(latent, used.detach())
    return replaced


class BinaryConv2d(nn.Conv2d):
    """The convolution of the signs of its input with the signs of its weights (spec 2.2).

    Build it as `nn.Conv2d`, without bias; padding is zero, neither -1 nor 1.

    Whoever trains it clamps the latent weights to [-1.5, 1.5] after each of their steps. The spec
    clamps them before each use in training: at temperatures up to 1.5 these are the same numbers
    and the same gradients, and only weights saved by the spec can lie outside.
    """

    one_bit_parameters = ("weight",)

    temperature = 0.0
    """From `COLD` on the weights are clamp(weight / temperature, -1, 1), not yet binary."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.001)

    def used_weight(self) -> Tensor:
        """Return what the products take for the latent weights [D, C, K, K]."""
        with torch.no_grad():
            if self.temperature < COLD:
                used = self.weight.sign()
            else:
                used = (self.weight / self.temperature).clamp(-1, 1)
        return straight_through(self.weight, used)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Return a map [B, D, H / stride, W / stride], of whole numbers once it is cold."""
        signs_BCHW = SignOfActivation.of(map_BCHW)
        map_BDHW: Tensor = self._conv_forward(signs_BCHW, self.used_weight(), None)
        return map_BDHW


def set_temperature(network: nn.Module, temperature: float) -> None:
    """Set the temperature of every `BinaryConv2d`; it is no part of a checkpoint."""
    for layer in network.modules():
        if isinstance(layer, BinaryConv2d):
            layer.temperature = temperature
