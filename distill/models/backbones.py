"""The backbones a recipe can name: any of timm's with feature maps, small ones, binary ones."""

# Shapes: B = images, D = width of a map, H x W = its positions.

from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
from timm.models.convnext import ConvNeXt
from torch import nn

from data_shards.errors import RecipeError, require_known
from distill.models.bnext import BNext
from distill.models.preprocess import MEAN, STD
from distill.models.recu import ReCUResNet34

SMALL_KERNEL = 3
"""At 64 px the maps are 16 to 2 pixels wide, and 7 x 7 convolutions were half of a step."""

NUM_STAGES = 4
"""Maps that stage heads look at, the last one included."""


def _from_timm(name: str, drop_path: float) -> nn.Module:
    """Build a timm model, weights as initialised; transformers take any multiple of their patch."""
    options: dict[str, Any] = {"pretrained": False, "num_classes": 0}
    try:
        with torch.device("meta"):
            whole: nn.Module = timm.create_model(name, pretrained=False)
        if hasattr(whole, "dynamic_img_size"):
            options["dynamic_img_size"] = True
        if drop_path:
            options["drop_path_rate"] = drop_path
        network: nn.Module = timm.create_model(name, **options)
    except (RuntimeError, TypeError) as error:
        raise RecipeError(
            f"model.arch {name} cannot be built by timm ({' '.join(str(error).split())[:200]}); "
            "choose another name or tag, and leave out model.drop_path where it takes none"
        ) from error
    network.keys_of_whole = frozenset(whole.state_dict())  # type: ignore[assignment]
    if prune := getattr(network, "prune_intermediate_layers", None):
        prune(1, prune_norm=False, prune_head=True)  # what some have behind their last map
    network.head = nn.Identity()  # descriptors take the last map raw (spec pfed 3)
    return network


def _small(width: int, depths: tuple[int, ...], drop_path: float) -> nn.Module:
    """Build a ConvNeXt of four stages whose width doubles from stage to stage."""
    dims = tuple(width * 2**stage for stage in range(4))
    # No layer scale: at timm's 1e-6 a short training from nothing hardly uses its blocks.
    network: nn.Module = ConvNeXt(
        depths=depths,
        dims=dims,
        kernel_sizes=SMALL_KERNEL,
        drop_path_rate=drop_path,
        ls_init_value=None,
    )
    network.head = nn.Identity()
    return network


def _binary(build: Callable[[], nn.Module], drop_path: float) -> nn.Module:
    """Build a network that knows no drop path."""
    if drop_path:
        raise RecipeError(
            "model.drop_path: binary networks and their twins have none; leave it out"
        )
    return build()


TIMM_ARCHS = (
    "convnext_atto convnext_femto convnext_pico convnext_nano convnext_tiny "
    "convnext_tiny.dinov3_lvd1689m convnext_small convnext_base "
    "vit_small_patch14_dinov2 vit_small_patch14_reg4_dinov2 vit_base_patch14_dinov2 "
    "vit_base_patch14_reg4_dinov2 vit_large_patch14_dinov2 vit_large_patch14_reg4_dinov2 "
    "vit_small_patch16_dinov3 vit_base_patch16_dinov3 vit_large_patch16_dinov3 "
    "vit_large_patch16_dinov3.sat493m"
).split()

BNEXTS = {
    "bnext_micro": (8, (1, 1, 2, 2, 2)),
    "bnext_tiny": (32, (1, 2, 2, 6, 2)),
    "bnext_small": (48, (1, 2, 2, 6, 2)),
    "bnext_middle": (48, (1, 4, 4, 8, 4)),
    "bnext_large": (64, (1, 4, 4, 16, 4)),
}
"""Width of the stem, and blocks of each stage (spec bicrossnet 2.4)."""

ARCHS: dict[str, Callable[[float], nn.Module]] = {
    **{name: partial(_from_timm, name) for name in TIMM_ARCHS},
    "convnext_milli": partial(_small, 32, (1, 1, 4, 2)),
    "convnext_micro": partial(_small, 24, (1, 1, 3, 1)),
    **{
        f"{name}{suffix}": partial(_binary, partial(BNext, *sizes, is_binary=not suffix))
        for name, sizes in BNEXTS.items()
        for suffix in ("", "_float")
    },
    "recu_resnet34": partial(_binary, ReCUResNet34),
}
"""First-class names to builders: from a drop-path rate to a network of timm's kind without anything
behind its last feature map. `milli` and `micro` are sized to be trained from nothing on two CPU
cores, and a `float` is the same network without signs. Any other model of timm that has
intermediate feature maps can be named too."""


def build_backbone(arch: str, *, drop_path: float) -> nn.Module:
    """Build a backbone with fresh weights.

    Raises:
        RecipeError: neither we nor timm know the arch (the nearest name is told), or it has no
            feature maps.
    """
    if arch not in ARCHS and not timm.is_model(arch):
        require_known(arch, ARCHS, what="model.arch", error=RecipeError)
    network = ARCHS.get(arch, partial(_from_timm, arch))(drop_path)
    if not hasattr(network, "forward_intermediates"):
        raise RecipeError(
            f"model.arch {arch} has no intermediate feature maps in timm; choose one of "
            f"{', '.join(ARCHS)}, or another timm model that has"
        )
    return network


def pixel_statistics(arch: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of the pixels, from 0 to 1, that a backbone was pretrained on."""
    if not timm.is_model(arch):
        return MEAN, STD
    known = timm.get_pretrained_cfg(arch)
    return (tuple(known.mean), tuple(known.std)) if known else (MEAN, STD)


def stage_ends(network: nn.Module) -> list[int]:
    """Return which of timm's intermediate maps end the last stages, at most four, the deepest last.

    A transformer has no stages: its blocks are divided evenly.
    """
    depth = len(network.feature_info)  # type: ignore[arg-type]
    num_stages = depth if depth <= NUM_STAGES + 1 else NUM_STAGES
    ends = [depth * (number + 1) // num_stages - 1 for number in range(num_stages)]
    return ends[-NUM_STAGES:]


def train_last_blocks(network: nn.Module, count: int, *, arch: str) -> None:
    """Let the last `count` transformer blocks, or stages of a convolutional network, learn.

    What comes before them, patch embedding included, keeps its weights and its batch statistics;
    autograd records nothing of it, so its activations are not stored.

    Raises:
        RecipeError: the network has fewer.
    """
    units = units_of(network)
    if count > len(units):
        raise RecipeError(
            f"model.train_blocks is {count} and {arch} has {len(units)} blocks; give at most "
            f"{len(units)}, or null to train all of it"
        )
    network.requires_grad_(requires_grad=False)
    for unit in units[len(units) - count :]:
        unit.requires_grad_(requires_grad=True)
    for name in ("norm", "act"):  # behind the last block
        if isinstance(last := getattr(network, name, None), nn.Module):
            last.requires_grad_(requires_grad=count > 0)


def compile_units(network: nn.Module, *, arch: str) -> None:
    """Compile each block or stage in place, where it is first run; names of weights stay.

    Raises:
        RecipeError: the network has none.
    """
    if not (units := units_of(network)):
        raise RecipeError(f"model.compile: {arch} has no blocks or stages; leave it out")
    # One compiled form for each width, rate of drop path and number of images.
    torch._dynamo.config.recompile_limit = 4 * len(units) + 8
    for unit in units:
        unit.compile(dynamic=False)


def units_of(network: nn.Module) -> list[nn.Module]:
    """Return the blocks of a transformer, or the stages of a convolutional network."""
    return list(getattr(network, "blocks", None) or getattr(network, "stages", []))


def patch_of(network: nn.Module) -> int:
    """Return the side in pixels that images must be a multiple of; 1 where any will do.

    It is a transformer's patch, or what one position of a BNext's last map stands for.
    """
    if isinstance(network, BNext):
        return int(network.feature_info[-1]["reduction"])
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", 1)
    return int(patch if isinstance(patch, int) else patch[0])
