"""What one description costs, counted: parameters and multiply-accumulates of the inference path.

Convention: one multiply-accumulate (MAC) is two floating-point operations; convolutions, matrix
products and attention count, elementwise work and normalization do not
(`torch.utils.flop_counter`). MACs inside a `OneBitLayer` are binary (BOPs). What only training
needs, such as class heads and projections towards a teacher, is not on the path.

Nothing is computed with numbers, so a model on the meta device will do.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from distill.models import OneBitLayer, binary_parameters, inference
from evaluation.efficiency.cost import Cost

FLOPS_PER_MAC = 2


def cost(model: nn.Module, *, image_size: int) -> Cost:
    """Count what describing one image of `image_size` x `image_size` takes.

    Frozen parameters count, shared ones count once.
    """
    counter, reads = FlopCounterMode(display=False), _Reads()
    with (
        single_image(model, image_size) as describe,
        _one_bit_flops(model, counter) as one_bit,
        reads,
        counter,
    ):
        describe()
    read = {id(part) for part in model.parameters() if id(part) in reads.seen}
    return Cost(
        image_size=image_size,
        parameters=sum(part.numel() for part in model.parameters() if id(part) in read),
        binary_parameters=sum(
            part.numel() for part in binary_parameters(model).values() if id(part) in read
        ),
        macs=(counter.get_total_flops() - one_bit.flops) // FLOPS_PER_MAC,
        bops=one_bit.flops // FLOPS_PER_MAC,
    )


class _Reads(TorchDispatchMode):
    """Remembers which tensors operations read; parameters outlive it, so no number is reused."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        leaves = tree_leaves((args, kwargs))
        self.seen.update(id(leaf) for leaf in leaves if isinstance(leaf, Tensor))
        return func(*args, **(kwargs or {}))


class _OneBitFlops:
    """The part of a counter's total that fell inside one-bit layers."""

    def __init__(self, counter: FlopCounterMode) -> None:
        self.counter, self.flops = counter, 0
        self._depth, self._before = 0, 0

    def enter(self, layer: nn.Module, args: object) -> None:
        """Remember the total when the outermost layer begins."""
        if self._depth == 0:
            self._before = self.counter.get_total_flops()
        self._depth += 1

    def leave(self, layer: nn.Module, args: object, output: object) -> None:
        """Add what came since."""
        self._depth -= 1
        if self._depth == 0:
            self.flops += self.counter.get_total_flops() - self._before


@contextmanager
def _one_bit_flops(model: nn.Module, counter: FlopCounterMode) -> Iterator[_OneBitFlops]:
    """Watch the one-bit layers of a model."""
    inside = _OneBitFlops(counter)
    hooks = [
        hook
        for layer in model.modules()
        if isinstance(layer, OneBitLayer)
        for hook in (
            layer.register_forward_pre_hook(inside.enter),
            layer.register_forward_hook(inside.leave),
        )
    ]
    try:
        yield inside
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
