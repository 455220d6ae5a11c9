"""The weights a backbone starts from: none, timm's, or a file; every key must fit."""

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import timm
from huggingface_hub import (
    get_hf_file_metadata,
    get_token,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from torch import Tensor, nn

from data_shards.errors import RecipeError
from distill.config import ModelConfig
from distill.models.backbones import build_backbone

BEHIND = ("head.", "mask_token")
"""What checkpoints of transformers may hold beside timm's network."""

WRAPPERS = ("module.", "model.")
"""What stands before every name where a network was saved within another one."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the weights of a backbone came from; it travels with whatever is trained from them."""

    source: str = "none"
    """`none` for fresh weights, a name of timm's, or the path that the recipe gave."""

    sha256: str = ""
    """Of the file."""

    licence: str = ""
    """As timm states it for these weights; empty where nobody stated it."""

    @property
    def licence_in_words(self) -> str:
        if self.source == "none":
            return "fresh weights, nothing to license"
        return self.licence or "not stated, ask whoever gave them"


def load_backbone(backbone: nn.Module, *, arch: str, weights: str) -> Origin:
    """Load `weights` (`none`, `timm` or a path) into a backbone, strictly.

    Random weights are never a fallback: `none` must be asked for.

    Raises:
        RecipeError: the weights cannot be had here, or do not fit; the sentence says what to fetch.
    """
    if weights == "none":
        return Origin()
    file = _find_timm_weights(arch) if weights == "timm" else Path(weights)
    state = fitting(read_weights(file), backbone)
    found = misfits(backbone.state_dict(), state)
    if any(found.values()):
        raise RecipeError(
            f"model.weights {weights} do not fit {arch}: {misfits_in_words(found)}; give the "
            "weights of this arch and size, in timm's naming where timm has it"
        )
    backbone.load_state_dict(state)
    # A file may be anybody's: its licence is not guessed.
    origin = origin_at_timm(arch) if weights == "timm" else Origin(source=weights)
    return replace(origin, sha256=file_sha256(file))


def misfits(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Return the names that are missing, unexpected and of another shape."""
    both = wanted.keys() & given.keys()
    return {
        "missing": sorted(wanted.keys() - given.keys()),
        "unexpected": sorted(given.keys() - wanted.keys()),
        "of another shape": sorted(key for key in both if wanted[key].shape != given[key].shape),
    }


def misfits_in_words(found: Mapping[str, list[str]]) -> str:
    return ", ".join(f"{len(keys)} keys {how} {keys[:3]}" for how, keys in found.items())


def origin_at_timm(arch: str) -> Origin:
    """Return source and licence of timm's weights of an arch; empty where it has or states none."""
    known = timm.get_pretrained_cfg(arch) if timm.is_model(arch) else None
    source, licence = (getattr(known, name, None) or "" for name in ("hf_hub_id", "license"))
    return Origin(source=source, licence=licence)


def cached_timm_weights() -> dict[str, Origin]:
    """Return arch to source and licence of timm's weights that are in this machine's cache."""
    origins = {arch: origin_at_timm(arch) for arch in timm.list_pretrained()}
    return {
        arch: origin
        for arch, origin in origins.items()
        if origin.source
        and isinstance(try_to_load_from_cache(origin.source, "model.safetensors"), str)
    }


def fitting(state: dict[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Return a state in the names of `backbone`, without what stands behind its last map.

    Names of the models' authors are translated as timm does it.
    """
    own = backbone.state_dict().keys()
    if own - state.keys():
        module = import_module(type(backbone).__module__)
        # Where they are not its authors' names either, the caller tells which they are.
        with suppress(KeyError, RuntimeError, AttributeError):
            state = module.checkpoint_filter_fn(state, backbone)
    behind: frozenset[str] = getattr(backbone, "keys_of_whole", frozenset())
    return {
        key: value
        for key, value in state.items()
        if key in own or not (key in behind or key.startswith(BEHIND))
    }


def read_weights(path: Path, *, what: str = "model.weights") -> dict[str, Tensor]:
    """Return the named tensors of a `.safetensors` or `.pth` file; `what` begins the sentences.

    Raises:
        RecipeError: it cannot be read, or holds something else.
    """
    try:
        state = timm.models.load_state_dict(str(path), use_ema=False, weights_only=True)
    except Exception as error:  # noqa: BLE001 - a damaged file fails torch and safetensors in many ways
        told = " ".join(str(error).split())[:200] or "no file"
        if "weights_only" in told:  # torch and timm advise to run what is in there
            told = "it holds other objects than tensors, or is damaged"
        raise RecipeError(
            f"{what}: {path} cannot be read ({told}); give the named tensors of a network, as "
            ".safetensors or as torch saves a state dict"
        ) from error
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise RecipeError(f"{what}: {path} holds other things than tensors; give a state dict")
    if bad := not_finite(state.items()):
        raise RecipeError(f"{what}: {path} holds {bad}; give the file of a training that went well")
    for prefix in WRAPPERS:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def not_finite(state: Iterable[tuple[str, Tensor]]) -> str:
    """Return how many tensors of some hold NaN or infinity, in words; empty where none does."""
    bad = [
        name for name, value in state if value.is_floating_point() and not value.isfinite().all()
    ]
    return f"NaN or infinity in {len(bad)} tensors ({bad[0]} is first)" if bad else ""


def file_sha256(path: Path) -> str:
    """Return the digest of a file, as checkpoints, caches and cards record it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_weights(config: ModelConfig) -> None:
    """Raise what `load_backbone` would, and fetch nothing."""
    if config.weights == "timm":
        _find_timm_weights(config.arch, is_fetched=False)
    elif config.weights != "none":
        backbone = build_backbone(config.arch, drop_path=config.drop_path)
        load_backbone(backbone, arch=config.arch, weights=config.weights)


def _find_timm_weights(arch: str, *, is_fetched: bool = True) -> Path:
    """Return the file of timm's weights: from the cache of this machine, else fetched once.

    Raises:
        RecipeError: timm has none, or they are not here and cannot be fetched.
    """
    hub, name = origin_at_timm(arch).source, "model.safetensors"
    if not hub:
        raise RecipeError(
            f"model.weights: timm has no weights of {arch}; set model.weights to none or to a path"
        )
    found = try_to_load_from_cache(hub, name)
    if isinstance(found, str):
        return Path(found)
    try:
        # Asked once: to fetch what cannot be reached is tried for half a minute.
        get_hf_file_metadata(hf_hub_url(hub, name), token=get_token())
        return Path(hf_hub_download(hub, name) if is_fetched else name)
    except Exception as error:  # noqa: BLE001 - hub, disk and network fail in many ways; all mean the same to a user
        raise RecipeError(
            f"model.weights: timm's weights of {arch} are not on this machine and could not be "
            f"fetched; on a machine with a network fetch {hub} ({name}), copy it here and give its "
            "path, or set model.weights to the path of a weight file, or to none to start from "
            "random weights"
        ) from error
