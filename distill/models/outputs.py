"""What a model says of images: named tensors, and how descriptors come to unit length."""

# Shapes: B = images, P = parts of a descriptor, D = width of a part, C = training places.

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
"""Names of outputs to their shapes, without the images' axis."""


class Outputs(dict[str, Tensor]):
    """Named tensors, one row per image; nobody counts positions.

    Every model says `descriptor` [B, P, D], not normalised, and `logits` [B, C] of its class head,
    or [B, P, C] where each part has one.
    """

    def map(self, change: Callable[[Tensor], Tensor]) -> "Outputs":
        return Outputs({name: change(tensor) for name, tensor in self.items()})

    def select(self, names: Iterable[str]) -> "Outputs":
        return Outputs({name: self[name] for name in names})


def at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def unit(parts_BPD: Tensor) -> Tensor:
    """Return descriptors [B, P * D] of length 1, each part scaled to 1 / sqrt(P).

    The product of two of them is the mean cosine of their parts (spec bicrossnet 1.4).
    """
    num_parts = parts_BPD.shape[1]
    return (F.normalize(parts_BPD, dim=2) / math.sqrt(num_parts)).flatten(1)
