"""What one description costs: parameters and multiply-accumulates of the path that inference runs.

Convention: one multiply-accumulate (MAC) is two floating-point operations; convolutions, matrix
products and attention count, elementwise work and normalization do not
(`torch.utils.flop_counter`). What only training needs, such as class heads and projections towards
a teacher, is not on the path.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from distill.models import inference

FLOPS_PER_MAC = 2


def parameters(model: nn.Module, *, image_size: int) -> int:
    """Count the parameters, frozen ones too, that describing one image reads."""
    with _single_image(model, image_size) as describe, _Reads() as reads:
        describe()
    return sum(part.numel() for part in model.parameters() if part.data_ptr() in reads.addresses)


def macs(model: nn.Module, *, image_size: int) -> int:
    """Count the multiply-accumulates of describing one image of `image_size` x `image_size`."""
    counter = FlopCounterMode(display=False)
    with _single_image(model, image_size) as describe, counter:
        describe()
    return counter.get_total_flops() // FLOPS_PER_MAC


class _Reads(TorchDispatchMode):
    """Remembers where the tensors lie that operations read."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.addresses: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        leaves = tree_leaves((args, kwargs))
        self.addresses.update(leaf.data_ptr() for leaf in leaves if isinstance(leaf, Tensor))
        return func(*args, **(kwargs or {}))


@contextmanager
def _single_image(model: nn.Module, image_size: int) -> Iterator[Callable[[], Tensor]]:
    """Offer the description of one blank image in eval mode, and leave the model as it was."""
    describer: Any = model
    device = next(model.parameters()).device
    image = torch.zeros(1, 3, image_size, image_size, device=device)
    with inference(model):
        yield lambda: describer.describe(image)
