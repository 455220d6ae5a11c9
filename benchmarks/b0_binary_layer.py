"""Goal B0: a binary layer in training over a float convolution of its shape, one CPU thread.

The layer is `BinaryConv2d`, signs of activations and weights included, forward and backward, on
maps of BNext-Tiny at 256 px, eight images, channels last as a training has them. The 3x3 layers,
nine tenths of its binary operations, are judged; the 1x1 stand beside them. Before it is timed each
is compared with the formula that autograd knows: float convolution of signs, gradients of a clamp.
"""

import sys
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from clock import interleaved, ratios, threads
from line import report
from torch import Tensor, nn

from distill.models.binary import PASSING, BinaryConv2d

MUST, SEED, ROUNDS, IMAGES = 1.25, 0, 9, 8
SHAPES = {
    "3x3": ((32, 128), (128, 64), (256, 32), (512, 16), (1024, 8)),
    "1x1": ((64, 64), (128, 64), (512, 16), (1024, 8)),
}
"""Width and side of the map of some layers; all keep the resolution."""


def gradients(found: Tensor, grad: Tensor, *into: Tensor) -> list[Tensor]:
    """Return an output and the gradients of some tensors."""
    return [found, *torch.autograd.grad(found, into, grad)]


def assert_like_the_formula(layer: BinaryConv2d, maps: Tensor, grad: Tensor) -> None:
    """Compare output and both gradients with autograd's own, in float64."""
    layer64 = BinaryConv2d(*layer.weight.shape[:2], layer.kernel_size, bias=False).double()
    free, weight = maps.detach().double().requires_grad_(), layer.weight.detach().double()
    layer64.weight.data = weight
    layer64.padding = layer.padding
    ours = gradients(layer64(free), grad.double(), free, layer64.weight)
    signs, used = free.sign().detach(), weight.sign().requires_grad_()
    signs.requires_grad_()
    found = F.conv2d(signs, used, padding=layer.padding)
    output, grad_signs, grad_weight = gradients(found, grad.double(), signs, used)
    expected = [output, grad_signs * (free.abs() <= PASSING), grad_weight]
    for own, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(own, other)
    assert torch.equal(layer(maps).double(), output), "whole numbers, in float32 too"


def stepping(layer: nn.Module, maps: Tensor, grad: Tensor) -> Callable[[], None]:
    """Return what runs a layer forward and backward, into its input and its weights."""

    def step() -> None:
        torch.autograd.grad(layer(maps), (maps, *layer.parameters()), grad)

    return step


def main() -> int:
    """Compare both layers at every shape, and print one line."""
    torch.manual_seed(SEED)
    value: dict[str, object] = {}
    medians: dict[str, list[float]] = {kernel: [] for kernel in SHAPES}
    for kernel, shapes in SHAPES.items():
        side = int(kernel[0])
        for width, size in shapes:
            maps, grad = (
                torch.randn(IMAGES, width, size, size).to(memory_format=torch.channels_last)
                for _ in range(2)
            )
            maps.requires_grad_()
            layers: dict[str, nn.Conv2d] = {
                name: kind(width, width, side, padding=side // 2, bias=False)
                for name, kind in (("binary", BinaryConv2d), ("float", nn.Conv2d))
            }
            assert_like_the_formula(layers["binary"], maps[:1], grad[:1])
            runs = {
                name: stepping(layer.to(memory_format=torch.channels_last), maps, grad)
                for name, layer in layers.items()
            }
            with threads(1):
                seconds = interleaved(runs, rounds=ROUNDS)
            found = ratios(seconds["binary"], seconds["float"])
            value[f"{kernel}, {width} channels, {size} x {size}"] = found
            medians[kernel].append(found["cpu"]["median"])
    value |= {f"{kernel}, median": round(median(medians[kernel]), 3) for kernel in SHAPES}
    must = f"every 3x3 <= {MUST} by CPU"
    return report("B0", value=value, must=must, passed=max(medians["3x3"]) <= MUST, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
