"""The backbones a recipe can name: timm's ConvNeXts, and two small ones for a CPU.

A backbone's layers say here how their cost is counted.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

import timm
from timm.models.convnext import ConvNeXt
from torch import nn

Backbone = Callable[[float], nn.Module]
"""Drop-path rate to a network that has `forward_features` and `num_features`."""


def _from_timm(name: str, drop_path: float) -> nn.Module:
    """Build a timm model without classifier or pooling, weights as initialised."""
    return _without_head(timm.create_model(name, pretrained=False, drop_path_rate=drop_path))


SMALL_KERNEL = 3
"""At 64 px the maps are 16 to 2 pixels wide, and 7 x 7 convolutions were half of a step."""


def _small(width: int, depths: tuple[int, ...], drop_path: float) -> nn.Module:
    """Build a ConvNeXt of four stages whose width doubles from stage to stage."""
    dims = tuple(width * 2**stage for stage in range(4))
    # No layer scale: at timm's 1e-6 a short training from nothing hardly uses its blocks.
    network = ConvNeXt(
        depths=depths,
        dims=dims,
        kernel_sizes=SMALL_KERNEL,
        drop_path_rate=drop_path,
        ls_init_value=None,
    )
    return _without_head(network)


def _without_head(network: nn.Module) -> nn.Module:
    """Drop everything behind the last feature map: descriptors take it raw (spec pfed 3)."""
    network.head = nn.Identity()
    return network


TIMM_ARCHS = (
    "convnext_atto",
    "convnext_femto",
    "convnext_pico",
    "convnext_nano",
    "convnext_tiny",
    "convnext_small",
    "convnext_base",
)

ARCHS: dict[str, Backbone] = {
    **{name: partial(_from_timm, name) for name in TIMM_ARCHS},
    "convnext_milli": partial(_small, 32, (1, 1, 4, 2)),
    "convnext_micro": partial(_small, 24, (1, 1, 3, 1)),
}
"""Name in a recipe to builder; `milli` and `micro` are sized to be trained from nothing on two CPU
cores."""


@runtime_checkable
class OneBitLayer(Protocol):
    """A layer whose products at inference are of one-bit weights and one-bit activations.

    Every multiply-accumulate inside its forward counts as a binary operation (spec bicrossnet 7.1);
    what it does besides, such as a batch norm or a channel scale, belongs into a layer of its own.
    """

    one_bit_parameters: tuple[str, ...]
    """Names of its own parameters that are stored in one bit each."""
