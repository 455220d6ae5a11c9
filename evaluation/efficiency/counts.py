"""What one description costs, counted: parameters and multiply-accumulates of the inference path.

Convention: one multiply-accumulate (MAC) is two floating-point operations; convolutions, matrix
products and attention count (`torch.utils.flop_counter`). MACs inside a `OneBitLayer` are binary
(BOPs). Elementwise work is counted apart, as ptflops does it. What only training needs, such as
class heads and projections towards a teacher, is not on the path.

Nothing is computed with numbers, so a model on the meta device will do.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from distill.models import OneBitLayer, binary_parameters, inference
from evaluation.efficiency.cost import Cost

aten = torch.ops.aten

FLOPS_PER_MAC = 2

PTFLOPS = {
    aten.native_batch_norm.default: 2,
    aten.cudnn_batch_norm.default: 2,
    aten.native_layer_norm.default: 1,
    aten._prelu_kernel.default: 2,
    aten.relu.default: 2,
    aten.gelu.default: 2,
    aten.avg_pool2d.default: 2,
    aten.max_pool2d_with_indices.default: 2,
    aten.mean.dim: 2,
}
"""Operations per number that goes in, by ptflops 0.7.1 to 0.7.4 (backend `pytorch`), which count an
activation and a pooling twice: as the module, and as the function that the module calls."""


def cost(model: nn.Module, *, image_size: int) -> Cost:
    """Count what describing one image of `image_size` x `image_size` takes.

    Frozen parameters count, shared ones count once.
    """
    with single_image(model, image_size) as describe, _counting(model) as counter:
        describe()

    def numbers(tensors: Iterable[Tensor]) -> int:
        return sum(tensor.numel() for tensor in set(tensors) if id(tensor) in counter.seen)

    parameters = numbers(model.parameters())
    return Cost(
        image_size=image_size,
        parameters=parameters,
        binary_parameters=numbers(binary_parameters(model).values()),
        macs=counter.macs,
        bops=counter.bops,
        elementwise=counter.elementwise,
        buffers=numbers(model.state_dict(keep_vars=True).values()) - parameters,
    )


class _Counter(TorchDispatchMode):
    """Counts operations, and remembers which tensors they read; parameters outlive it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[int] = set()
        self.macs = self.bops = self.elementwise = 0
        self.depth = 0
        """One-bit layers that the current operation is inside of."""

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        result: Any = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs))
        self.seen.update(id(leaf) for leaf in leaves if isinstance(leaf, Tensor))
        if formula := flop_registry.get(func.overloadpacket):
            macs = formula(*args, **(kwargs or {}), out_val=result) // FLOPS_PER_MAC
            self.bops += macs if self.depth else 0
            self.macs += 0 if self.depth else macs
        is_plane_mean = func is aten.mean.dim and len(args[1]) == 1  # no pooling
        if func in PTFLOPS and not is_plane_mean:
            self.elementwise += PTFLOPS[func] * args[0].numel()
        has_bias = func is aten.convolution.default and args[2] is not None
        if has_bias or func is aten.addmm.default:
            self.elementwise += result.numel()
        return result

    def step(self, change: int) -> None:
        """Enter a one-bit layer, or leave it."""
        self.depth += change


@contextmanager
def _counting(model: nn.Module) -> Iterator[_Counter]:
    """Count, and let the one-bit layers of a model tell when they begin and end."""
    counter = _Counter()
    layers = [layer for layer in model.modules() if isinstance(layer, OneBitLayer)]
    hooks = [layer.register_forward_pre_hook(lambda *_: counter.step(1)) for layer in layers]
    hooks += [layer.register_forward_hook(lambda *_: counter.step(-1)) for layer in layers]
    try:
        with counter:
            yield counter
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def single_image(model: nn.Module, image_size: int) -> Iterator[Callable[[], Tensor]]:
    """Offer the description of one blank image in eval mode, and leave the model as it was."""
    describer: Any = model
    device = next(model.parameters()).device
    image = torch.zeros(1, 3, image_size, image_size, device=device)
    with inference(model):
        yield lambda: describer.describe(image)
