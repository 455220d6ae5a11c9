"""Layers that see the same on any number of ranks: batch statistics of all, masks by sample.

torch's SyncBatchNorm refuses to work on CPUs. Dropout and stochastic depth are drawn from (seed,
step, sample).
"""

# Shapes: B = images of a rank, V = of a forward pass, W = ranks, C = channels.

import numpy as np
import numpy.typing as npt
import torch
from timm.layers.drop import DropPath
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from distill.collectives import gather_with_grad, world_size
from distill.models.outputs import at_least_float32

GOLDEN = -0x61C8864680B583EB
"""2^64 divided by the golden ratio, as an int64."""


class _OverAllRanks(nn.modules.batchnorm._BatchNorm):
    """A batch norm of torch or timm that looks at all ranks while it trains; alone, torch's own."""

    def forward(self, values: Tensor) -> Tensor:
        """Return values [B, C, ...] by the statistics of every rank's, or those that are kept."""
        if not self.training or world_size() == 1:
            return super().forward(values)
        wide, shape = at_least_float32(values), (1, -1, *(1,) * (values.ndim - 2))
        own = torch.var_mean(wide, dim=[0, *range(2, values.ndim)], correction=0)
        var_WC, mean_WC = _gather(torch.stack(own).unsqueeze(0)).unbind(1)
        mean = mean_WC.mean(dim=0)  # every rank has as many images
        var = (var_WC + (mean_WC - mean).square()).mean(dim=0)
        num_values = world_size() * values.numel() // values.shape[1]
        with torch.no_grad():
            self.get_buffer("num_batches_tracked").add_(1)
            for name, seen in (("mean", mean), ("var", var * num_values / (num_values - 1))):
                self.get_buffer(f"running_{name}").lerp_(seen, self.momentum or 0.0)
        scale = self.weight * (var + self.eps).rsqrt()
        result: Tensor = wide * scale.view(shape) + (self.bias - mean * scale).view(shape)
        result = result.to(values.dtype)
        if isinstance(self, BatchNormAct2d):
            result = self.act(self.drop(result))
        return result


_gather = torch.compiler.disable(gather_with_grad)


NORMS: dict[type[nn.Module], type] = {
    kind: type(f"{kind.__name__}OverAllRanks", (_OverAllRanks, kind), {})
    for kind in (nn.BatchNorm1d, nn.BatchNorm2d, BatchNormAct2d)
}
"""Of batch norms: each, and itself over all ranks."""


def norms_that_learn(network: nn.Module) -> list[str]:
    """Return the names of all batch norms whose weights learn."""
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and any(parameter.requires_grad for parameter in module.parameters())
    ]


def normalize_over_all_ranks(network: nn.Module) -> None:
    """Let every batch norm look at all ranks; weights, statistics and their names stay."""
    for module in network.modules():
        if type(module) in NORMS:
            module.__class__ = NORMS[type(module)]


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
        if type(module) in DROPS:
            module.__class__ = DROPS[type(module)]
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


DROPS = {nn.Dropout: _Dropout, DropPath: _DropPath}


def _mixed(numbers: Tensor) -> Tensor:
    """Return int64 numbers of which every bit depends on every bit (SplitMix64, Steele 2014)."""
    numbers = (numbers ^ _shifted(numbers, 30)) * -0x40A7B892E31B1A47
    numbers = (numbers ^ _shifted(numbers, 27)) * -0x6B2FB644ECCEEE15
    return numbers ^ _shifted(numbers, 31)


def _shifted(numbers: Tensor, bits: int) -> Tensor:
    """Shift int64 numbers to the right as if they had no sign."""
    return (numbers >> bits) & ((1 << (64 - bits)) - 1)
