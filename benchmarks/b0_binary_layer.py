"""Goal B0: a binary layer in training over a float convolution of its shape, one CPU thread.

The layer is `BinaryConv2d`, signs of activations and weights included, forward and backward, on
maps of BNext-Tiny at 256 px, eight images, channels last as a training has them. Before it is timed
each is compared with the formula that autograd knows: a float convolution of signs, whose gradients
stop where an activation is beyond 1.5.
"""

import sys
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F
from clock import interleaved, ratios, threads
from line import report
from torch import Tensor, nn

from distill.models.binary import PASSING, BinaryConv2d

MUST, SEED, ROUNDS, STEPS, IMAGES = 1.25, 0, 9, 3, 8
THREE, ONE = ((32, 128), (128, 64), (256, 32), (512, 16), (1024, 8)), ((64, 64), (512, 16))
SHAPES = [(kernel, *shape) for kernel, shapes in ((3, THREE), (1, ONE)) for shape in shapes]
"""Kernel, width, and side of the map of some layers; all keep the resolution."""


def assert_like_the_formula(layer: BinaryConv2d, maps: Tensor, grad: Tensor) -> None:
    """Compare output and both gradients with autograd's own."""
    signs, weight = maps.detach().sign().requires_grad_(), layer.weight.sign().detach()
    found = F.conv2d(signs, weight.requires_grad_(), padding=layer.padding)
    grad_signs, grad_weight = torch.autograd.grad(found, (signs, weight), grad)
    ours = layer(maps)
    grad_maps, grad_latent = torch.autograd.grad(ours, (maps, layer.weight), grad)
    assert torch.equal(ours, found), "whole numbers"
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-3)
    close(grad_maps, grad_signs * (maps.abs() <= PASSING))
    close(grad_latent, grad_weight)


def stepping(layer: nn.Module, maps: Tensor, grad: Tensor) -> Callable[[], None]:
    """Return what runs a layer forward and backward, into its input and its weights, some times."""

    def run() -> None:
        for _ in range(STEPS):
            torch.autograd.grad(layer(maps), (maps, *layer.parameters()), grad)

    return run


def compare(kernel: int, width: int, size: int) -> dict[str, dict[str, float]]:
    """Return the ratios of one shape, after the binary layer was found right."""
    maps, grad = (
        torch.randn(IMAGES, width, size, size).to(memory_format=torch.channels_last)
        for _ in range(2)
    )
    maps.requires_grad_()
    binary = BinaryConv2d(width, width, kernel, padding=kernel // 2, bias=False)
    real = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False)
    assert_like_the_formula(binary, maps[:1], grad[:1])
    runs = {
        name: stepping(layer.to(memory_format=torch.channels_last), maps, grad)
        for name, layer in (("binary", binary), ("float", real))
    }
    with threads(1):
        seconds = interleaved(runs, rounds=ROUNDS)
    return ratios(seconds["binary"], seconds["float"])


def main() -> int:
    """Compare both layers at every shape, and print one line."""
    torch.manual_seed(SEED)
    found = {
        f"{kernel} x {kernel}, {width} channels, {size} px": compare(kernel, width, size)
        for kernel, width, size in SHAPES
    }
    medians = [ratio["cpu"]["median"] for ratio in found.values()]
    value = found | {"median of the shapes": round(median(medians), 3)}
    must = f"every median <= {MUST} by CPU"
    return report("B0", value=value, must=must, passed=max(medians) <= MUST, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
