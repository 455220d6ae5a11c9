"""Weights of BNext's, MCCG's and BiCrossNet's authors, in our names (spec bicrossnet 2 and 3).

Strictly: a tensor of theirs has a place in our network, or no output depends on it.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from data_shards.errors import RecipeError
from distill.config import ModelConfig
from distill.models.backbones import BNEXTS, build_backbone
from distill.models.binary import COLD
from distill.models.heads import MccgHead
from distill.models.retrieval import RetrievalModel
from distill.models.weights import misfits, misfits_in_words

IN_A_NETWORK = "model_1.convnext."
"""How their names of a backbone, BNext too, begin where a head follows."""


@dataclass(frozen=True)
class Kind:
    """One kind of file that the authors give away."""

    name: str
    """In sentences."""

    archs: tuple[str, ...]
    """Sizes it comes in."""

    role: Literal["teacher", "alone"] | None
    """What it is in a comparison; None for a backbone without a head."""

    attention_map: Literal["whole", "pooled"] = "whole"
    """What the authors' code shows to the attention of the head."""


KINDS = {
    "feature.": Kind("BNext checkpoint", tuple(BNEXTS), None),
    f"{IN_A_NETWORK}feature.": Kind("BiCrossNet student", tuple(BNEXTS), "alone", "pooled"),
    f"{IN_A_NETWORK}downsample_layers.": Kind("MCCG teacher", ("convnext_tiny",), "teacher"),
}
"""How some of their names begin to the kind that this tells."""

THEIR_WORDS: dict[str, str | Callable[[re.Match[str]], str]] = {
    # ConvNeXt
    r"^backbone\.stem\.(\d)": r"backbone.downsample_layers.0.\1",
    r"^backbone\.stages\.(\d)\.downsample": r"backbone.downsample_layers.\1",
    r"^(backbone\.stages\.\d)\.blocks": r"\1",
    r"\.conv_dw\.": ".dwconv.",
    r"\.mlp\.fc": ".pwconv",
    r"^head\.norm": "backbone.norm",
    # BNext
    r"^backbone\.stem\.conv": "backbone.feature.0.conv1",
    r"^backbone\.stem\.norm": "backbone.feature.0.bn1",
    r"^backbone\.act": "backbone.prelu",
    r"^backbone\.blocks\.(\d+)": lambda found: f"backbone.feature.{int(found[1]) + 1}",
    r"(spatial|pointwise\.\d)\.conv": r"\1.binary_conv",
    r"\.shift$": ".move.bias",
    r"\.mix$": ".scale",
    r"\.act(\d)": r".activation\1",
    r"\.se\.reduce": ".se.se.1",
    r"\.se\.expand": ".se.se.3",
    r"\.spatial": ".Attention",
    r"\.pointwise\.0": ".FFN_1",
    r"\.pointwise\.1": ".FFN_2",
    # The head
    r"^(head\.gates\.\d)\.norm": r"\1.bn",
    r"^head\.gates\.0": "model_1.tri_layer.cw.conv",
    r"^head\.gates\.1": "model_1.tri_layer.hc.conv",
    r"^(head\.blocks\.\d)\.reduce": r"\1.add_block.0",
    r"^(head\.blocks\.\d)\.norm": r"\1.add_block.1",
    r"^(head\.blocks\.\d)\.classifier": r"\1.classifier.0",
    r"^head\.blocks\.0": "model_1.classifier_mcb1",
    r"^head\.blocks\.1": "model_1.classifier_mcb2",
    r"^head\.blocks\.2": "model_1.classifier1",
}
"""Patterns in our names to their words, one after another."""

DEAD = re.compile(
    r".*\.temperature|.*\.activation1\.weight"
    r"|(model_1\.convnext\.)?(feature\.0\.prelu\.weight|(fc|head)\.(weight|bias))"
)
"""Their names of what no output depends on, where our network has no place for it."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a file of the authors holds."""

    kind: Kind
    config: ModelConfig
    num_places: int
    """Places its class logits stand for; 0 without a head."""

    def build(self) -> nn.Module:
        """Return the network with fresh weights; its backbone is `backbone`."""
        if self.kind.role is None:
            return nn.ModuleDict({"backbone": build_backbone(self.config.arch, drop_path=0.0)})
        return RetrievalModel(self.config, num_places=self.num_places, head=MccgHead)


def find_network(state: Mapping[str, Tensor], *, what: str) -> Found:
    """Find out which network a file is of; `what` names it in sentences.

    Raises:
        RecipeError: none known here, one of another size, or one that is not binary yet.
    """
    kinds = [kind for first, kind in KINDS.items() if any(name.startswith(first) for name in state)]
    if not kinds:
        known = ", ".join(kind.name for kind in KINDS.values())
        raise RecipeError(
            f"{what} holds {len(state)} tensors of no kind known here ({known}): "
            f"{sorted(state)[:3]}; give the state dict of its authors as it is"
        )
    (kind, *_), places = kinds, state.get("model_1.classifier1.classifier.0.bias", ())
    configs = [
        ModelConfig(arch=arch, weights="none", attention_map=kind.attention_map)
        for arch in kind.archs
    ]
    sizes = [Found(kind=kind, config=config, num_places=len(places)) for config in configs]
    found, wrong = min(
        ((size, _misfits(state, size)) for size in sizes),
        key=lambda size: sum(map(len, size[1].values())),
    )
    if any(wrong.values()):
        raise RecipeError(
            f"{what}, read as {kind.name}, does not fit {found.config.arch}, the nearest size: "
            f"{misfits_in_words(wrong)}; give the state dict of its authors as it is"
        )
    warm = [
        name
        for name, value in state.items()
        if name.endswith("binary_conv.temperature") and not (value < COLD).all()
    ]
    if warm:
        raise RecipeError(
            f"{what} is not binary yet: {len(warm)} layers ({warm[0]} is first) take "
            "clamp(weight / temperature) and not its sign; give a checkpoint whose temperatures "
            f"are below {COLD}"
        )
    return found


def import_network(state: Mapping[str, Tensor], found: Found) -> nn.Module:
    """Return the network of a file with its weights; a backbone alone is its `backbone`."""
    network = found.build()
    own = network.state_dict()
    theirs = their_names(own, kind=found.kind)
    network.load_state_dict({name: state[theirs[name]].view_as(own[name]) for name in own})
    return network


def their_names(names: Collection[str], *, kind: Kind) -> dict[str, str]:
    """Return what the authors call each of our names."""
    theirs = {}
    for name in names:
        theirs[name] = name
        for ours, words in THEIR_WORDS.items():
            theirs[name] = re.sub(ours, words, theirs[name])
        theirs[name] = re.sub(r"^backbone\.", IN_A_NETWORK if kind.role else "", theirs[name])
        if f"{name.partition('.pointwise.')[0]}.pointwise.1.shift" not in names:
            theirs[name] = theirs[name].replace("FFN_1", "FFN")
    return theirs


def _misfits(state: Mapping[str, Tensor], found: Found) -> dict[str, list[str]]:
    """Return their names that are missing, unexpected, and of another shape, for a network."""
    with torch.device("meta"):
        own = found.build().state_dict()
    wanted = {}
    for ours, name in their_names(own, kind=found.kind).items():
        is_channelwise = ours.endswith((".shift", ".mix"))
        wanted[name] = own[ours].view(1, -1, 1, 1) if is_channelwise else own[ours]
    alive = {name for name in state if name in wanted or not DEAD.fullmatch(name)}
    return misfits(wanted, {name: state[name] for name in alive})
