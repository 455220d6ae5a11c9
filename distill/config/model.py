"""The network that learns, and the one it learns from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distill.config.fields import bounded

CodecName = Literal["float32", "float16", "int8"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network that learns."""

    arch: str = "convnext_tiny"
    """Backbone, one of `distill.models.ARCHS`."""

    weights: str = "timm"
    """Where the backbone starts: `timm` (pretrained, fetched or cached), `none`, or the path of a
    weight file."""

    pool: Literal["gem", "mean"] = "gem"
    """How the last feature map becomes the descriptor: generalized mean (learned power) or mean."""

    bottleneck: int = bounded(512, at_least=0)
    """Width between descriptor and class logits; 0 puts the classifier on the descriptor."""

    dropout: float = bounded(0.5, at_least=0, below=1)
    """Dropout before the classifier."""

    drop_path: float = bounded(0.0, at_least=0, below=1)
    """Stochastic depth of the backbone."""


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """The model a student learns from; unused by recipes without a distillation objective."""

    run: Path | None = None
    """Run folder or weight file of the teacher."""

    source: Literal["cache", "live"] = "cache"
    """`cache` reads the teacher's outputs from disk, `live` runs it in every step; both train the
    same, bit for bit with `codec` float32 (on CPUs)."""

    cache: Path | None = None
    """Folder of the teacher cache, made by `skydistill cache` from this recipe."""

    codec: CodecName = "float16"
    """How cached outputs are stored; int8 has one scale per output and row."""
