"""Dropout and stochastic depth drawn from (seed, step, sample): the same on any number of ranks."""

# Shapes: V = images of a forward pass.

import numpy as np
import numpy.typing as npt
import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

GOLDEN = -0x61C8864680B583EB
"""2^64 divided by the golden ratio, as an int64."""


class Draws:
    """What all masks of one forward pass are drawn from."""

    seeds: Tensor
    """A number of each image [V], int64, on the device."""


def sample_seeds(seed: int, step: int, keys: npt.NDArray[np.integer]) -> Tensor:
    """Return what the masks of images with these keys [V] are drawn from, on the host."""
    of_step = _mixed(_mixed(torch.tensor(seed)) + step)
    return _mixed(of_step + torch.from_numpy(keys.astype(np.int64)))


def draw_by_sample(network: nn.Module) -> Draws:
    """Let all that drops draw from what is returned, and from its place in the network."""
    draws = Draws()
    for number, module in enumerate(network.modules()):
        if type(module) in KINDS:
            module.__class__ = KINDS[type(module)]
            module.number, module.draws = number, draws  # type: ignore[assignment]
    return draws


class _DropsBySample(nn.Module):
    """Draws masks from the number of an image, its own, and a position's."""

    number: int
    draws: Draws

    def _scaled_mask(self, probability: float, shape: torch.Size) -> Tensor:
        """Return a mask of the images' rows, 0 or 1 / (1 - probability) each."""
        seeds_V = self.draws.seeds
        count = torch.arange(shape.numel() // len(seeds_V), device=seeds_V.device)
        drawn = _mixed(_mixed(seeds_V + self.number).unsqueeze(1) + count * GOLDEN)
        is_kept = _shifted(drawn, 40) >= round(probability * 2**24)
        return is_kept.view(shape) / (1 - probability)


class _Dropout(_DropsBySample, nn.Dropout):
    def forward(self, values: Tensor) -> Tensor:
        if not (self.training and self.p):
            return values
        return values * self._scaled_mask(self.p, values.shape).to(values.dtype)


class _DropPath(_DropsBySample, DropPath):
    """One draw for each image, whose path is dropped whole."""

    def forward(self, values: Tensor) -> Tensor:
        if not (self.training and self.drop_prob):
            return values
        shape = torch.Size((len(values), *(1,) * (values.ndim - 1)))
        return values * self._scaled_mask(self.drop_prob, shape).to(values.dtype)


KINDS = {nn.Dropout: _Dropout, DropPath: _DropPath}


def _mixed(numbers: Tensor) -> Tensor:
    """Return int64 numbers of which every bit depends on every bit (SplitMix64, Steele 2014)."""
    numbers = (numbers ^ _shifted(numbers, 30)) * -0x40A7B892E31B1A47
    numbers = (numbers ^ _shifted(numbers, 27)) * -0x6B2FB644ECCEEE15
    return numbers ^ _shifted(numbers, 31)


def _shifted(numbers: Tensor, bits: int) -> Tensor:
    """Shift int64 numbers to the right as if they had no sign."""
    return (numbers >> bits) & ((1 << (64 - bits)) - 1)
