"""Batch statistics over all ranks, on CPUs too, where torch's SyncBatchNorm refuses to work."""

# Shapes: B = images of a rank, W = ranks, C = channels.

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from distill.collectives import gather_with_grad, world_size
from distill.models.outputs import at_least_float32


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


KINDS: dict[type[nn.Module], type] = {
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
        if type(module) in KINDS:
            module.__class__ = KINDS[type(module)]
