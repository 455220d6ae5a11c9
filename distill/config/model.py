"""The network that learns, and the one it learns from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_shards.config import bounded

CodecName = Literal["float32", "float16", "int8"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network that learns."""

    arch: str = "convnext_tiny"
    """Backbone: one that `skydistill models` lists, or any model of timm with feature maps. A tag
    (`convnext_tiny.dinov3_lvd1689m`) names timm's weights of it."""

    weights: str = "timm"
    """Where the backbone starts: `timm` (pretrained, fetched or cached), `none`, or the path of a
    weight file."""

    pool: Literal["gem", "mean"] = bounded("gem", methods=("pfed",))
    """How the last feature map becomes the descriptor: generalized mean (learned power) or mean."""

    attention_map: Literal["whole", "pooled"] = bounded("whole", methods=("bicrossnet",))
    """What attention looks at: the whole last map, or its mean, as the released code does."""

    bottleneck: int = bounded(512, at_least=0)
    """Width between descriptor and class logits; 0 puts the classifier on the descriptor. Of
    bicrossnet, the width of each of the three parts of the descriptor."""

    dropout: float = bounded(0.5, at_least=0, below=1)
    """Dropout before the classifier."""

    dropout_by_sample: bool = False
    """Draw what dropout and stochastic depth drop from (seed, step, sample), not from the random
    numbers of each rank: any number of ranks and micro batches then drops the same."""

    norm: Literal["rank", "global"] = "rank"
    """Whose images batch norms of a model that learns take their statistics from: each rank's own,
    or those of all ranks."""

    train_blocks: int | None = bounded(None, at_least=0)
    """Last transformer blocks (stages of a convolutional network) that learn; what comes before
    keeps its weights and batch statistics, drops nothing and stores no activations. null trains
    all."""

    final_norm: bool = False
    """Whether the final norm of a transformer stands between its patches and the pooling."""

    descriptor_width: Literal["own", "teacher"] | int = bounded(
        "own", at_least=1, methods=("pfed",)
    )
    """Width of the descriptor: the backbone's `own`, or a number that a linear projection leads to.
    `teacher` keeps the projection in which feature_distillation brings a student into the space of
    its teacher, so that each can search the other's gallery."""

    drop_path: float = bounded(0.0, at_least=0, below=1)
    """Stochastic depth of the backbone."""

    compile: bool = False
    """Compile each block or stage of the backbone by torch.compile for training; probes, mining and
    evaluation run as they are. The first step takes minutes, later starts find the result."""

    anneal_steps: int = bounded(0, at_least=0, methods=("bicrossnet",))
    """Steps until the weights of a binary network are really binary (BNext) or their clamp has
    reached its end (ReCU); 0 is there from the first step on."""


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

    image_size: int | None = bounded(None, at_least=1)
    """Size in pixels at which the teacher looks at the same augmented crops; by default the size it
    was trained at."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the teacher's forward pass, live or for the cache."""

    any_altitude: bool = False
    """Whether the teacher may have been trained on drone views of other heights than these."""

    mode: Literal["eval", "train"] = bounded("eval", methods=("bicrossnet",))
    """`train` runs a live teacher with batch statistics and dropout, as the released code does."""

    codec: CodecName = "float16"
    """How cached outputs are stored; int8 has one scale per output and row."""
