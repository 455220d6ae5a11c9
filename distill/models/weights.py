"""The weights a backbone starts from: none, timm's, or a file; every key must fit."""

import pickle
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from data_shards.errors import RecipeError

CLASSIFIER = ("head.fc.", "head.norm.", "head.weight", "head.bias", "norm.weight", "norm.bias")
"""What timm's ConvNeXt checkpoints hold behind the last feature map; descriptors do not use it."""

NOT_A_PICKLE = (pickle.UnpicklingError, EOFError, KeyError, AttributeError)
"""How `torch.load` refuses a file that is damaged, or holds more than tensors."""


def load_backbone(backbone: nn.Module, *, arch: str, weights: str) -> None:
    """Load `weights` (`none`, `timm` or a path) into a backbone, strictly.

    Raises:
        RecipeError: the weights cannot be had here, or do not fit; the sentence says what to fetch.
    """
    if weights == "none":
        return
    state = _from_timm(arch) if weights == "timm" else _from_file(Path(weights))
    state = {key: value for key, value in state.items() if not key.startswith(CLASSIFIER)}
    own = set(backbone.state_dict())
    missing, extra = sorted(own - state.keys()), sorted(state.keys() - own)
    if missing or extra:
        raise RecipeError(
            f"model.weights {weights} do not fit {arch}: {len(missing)} keys missing "
            f"{missing[:3]}, {len(extra)} unexpected {extra[:3]}; give "
            "the weights of this arch in timm's naming"
        )
    try:
        backbone.load_state_dict(state)
    except RuntimeError as error:
        raise RecipeError(
            f"model.weights {weights} do not fit {arch}: {' '.join(str(error).split())[:300]}"
        ) from error


def _from_file(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, *NOT_A_PICKLE) as error:
        raise RecipeError(
            f"model.weights: {path} cannot be read ({' '.join(str(error).split())[:200]}); "
            "give a .safetensors or .pth file, or none to start from random weights"
        ) from error
    if not isinstance(state, dict):
        raise RecipeError(
            f"model.weights: {path} holds a {type(state).__name__}, not named tensors; give a "
            "state dict"
        )
    for wrapper in ("state_dict", "model"):
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    return {key.removeprefix("module."): value for key, value in state.items()}


def _from_timm(arch: str) -> dict[str, Tensor]:
    advice = (
        "or set model.weights to the path of a weight file, or to none to start from random weights"
    )
    if arch not in timm.list_models(pretrained=True) and not timm.list_models(
        f"{arch}.*", pretrained=True
    ):
        raise RecipeError(
            f"model.weights: timm has no weights of {arch}; set model.weights to none or to a path"
        )
    try:
        return dict(timm.create_model(arch, pretrained=True).state_dict())
    except Exception as error:  # noqa: BLE001 - hub, disk and network fail in many ways; all mean the same to a user
        hub = timm.get_pretrained_cfg(arch)
        name = getattr(hub, "hf_hub_id", None) or arch
        raise RecipeError(
            f"model.weights: timm's weights of {arch} are not on this machine and could not be "
            f"fetched; on a machine with a network fetch {name} (model.safetensors), copy it here "
            f"and give its path, {advice}"
        ) from error
