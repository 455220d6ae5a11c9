"""Batch statistics over all ranks, on CPUs too, where torch's SyncBatchNorm refuses to work."""

# Shapes: B = images of a rank, W = ranks, C = channels.

from collections.abc import Callable
from typing import Any

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.autograd import Function

from distill.collectives import gather_with_grad, world_size
from distill.models.outputs import at_least_float32


class _Standardize(Function):
    """(values - mean) / deviation * weight + bias by the statistics of all ranks.

    As in DDP, the gradient of what enters is that of the sum of all ranks' losses, and those of
    weight and bias are each rank's own part of it.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        dims, shape = [0, *range(2, values.ndim)], (1, -1, *(1,) * (values.ndim - 2))
        wide = at_least_float32(values)
        own = torch.stack(torch.var_mean(wide, dim=dims, correction=0))
        var_WC, mean_WC = gather_with_grad(own.unsqueeze(0)).unbind(1)
        mean = mean_WC.mean(dim=0)  # every rank has as many images
        var = (var_WC + (mean_WC - mean).square()).mean(dim=0)
        scale = (var + eps).rsqrt()
        ctx.save_for_backward(values, weight, mean, scale)
        standard = (wide - mean.view(shape)) * scale.view(shape)
        result = standard * weight.view(shape) + bias.view(shape)
        ctx.mark_non_differentiable(mean, var)
        return result.to(values.dtype), mean, var

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor, *of_statistics: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        values, weight, mean, scale = ctx.saved_tensors
        dims, shape = [0, *range(2, values.ndim)], (1, -1, *(1,) * (values.ndim - 2))
        grad = at_least_float32(grad)
        standard = (at_least_float32(values) - mean.view(shape)) * scale.view(shape)
        own = torch.stack([grad.sum(dim=dims), (grad * standard).sum(dim=dims)])
        num_values = world_size() * values.numel() // values.shape[1]
        both = gather_with_grad(own.unsqueeze(0)).sum(dim=0) / num_values
        centred = grad - both[0].view(shape) - standard * both[1].view(shape)
        of_values = centred * (scale * weight).view(shape)
        return of_values.to(values.dtype), own[1], own[0], None


_standardize: Callable[..., tuple[Tensor, Tensor, Tensor]] = torch.compiler.disable(
    _Standardize.apply  # ranks meet in it
)


class _OverAllRanks(nn.modules.batchnorm._BatchNorm):
    """A batch norm of torch or timm that looks at all ranks while it trains."""

    def forward(self, values: Tensor) -> Tensor:
        """Return values [B, C, ...] by the statistics of every rank's, or those that are kept."""
        if not self.training or world_size() == 1:
            return super().forward(values)
        result, mean, var = _standardize(values, self.weight, self.bias, self.eps)
        num_values = world_size() * values.numel() // values.shape[1]
        with torch.no_grad():
            self.get_buffer("num_batches_tracked").add_(1)
            for name, seen in (("mean", mean), ("var", var * num_values / (num_values - 1))):
                self.get_buffer(f"running_{name}").lerp_(seen, self.momentum or 0.0)
        if isinstance(self, BatchNormAct2d):
            result = self.act(self.drop(result))
        return result


class _OverAllRanks1d(_OverAllRanks, nn.BatchNorm1d): ...


class _OverAllRanks2d(_OverAllRanks, nn.BatchNorm2d): ...


class _OverAllRanksAct2d(_OverAllRanks, BatchNormAct2d): ...


KINDS = {
    nn.BatchNorm1d: _OverAllRanks1d,
    nn.BatchNorm2d: _OverAllRanks2d,
    BatchNormAct2d: _OverAllRanksAct2d,
}


def normalize_over_all_ranks(network: nn.Module) -> None:
    """Let every batch norm look at all ranks; weights, statistics and their names stay."""
    for module in network.modules():
        if type(module) in KINDS:
            module.__class__ = KINDS[type(module)]
