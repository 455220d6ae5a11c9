"""What the list of models can be told. No torch: a login node reads this in a blink."""

from dataclasses import dataclass
from typing import Literal

from data_shards.config import bounded, refuse_out_of_bounds
from evaluation.config import refuse_idle_options

Precision = Literal["float32", "bfloat16", "float16"]
"""What convolutions and matrix products compute in; all but float32 by autocast."""

LEAST_IMAGE_SIZE = 32
"""The backbones halve the image five times."""

PAPER_IMAGE_SIZE = 224

NEEDED_BY = dict.fromkeys(("batch_size", "threads", "precision", "most_seconds"), "measure_speed")
"""Option to the one without which it says nothing."""


@dataclass(frozen=True, kw_only=True)
class ModelsConfig:
    """Every model that a recipe can name as `model.arch`, and what describing an image costs."""

    names: tuple[str, ...] = ()
    """Models to list, in this order; by default all of them, the smallest first."""

    method: Literal["pfed", "bicrossnet"] = "pfed"
    """Whose head stands on the backbone; that of a recipe's `method`."""

    image_size: int = bounded(PAPER_IMAGE_SIZE, at_least=LEAST_IMAGE_SIZE, at_most=4096)
    """Width and height of model inputs in pixels."""

    measure_speed: bool = False
    """Also measure latency, images per second and peak memory, with fresh weights."""

    batch_size: int = bounded(1, at_least=1)
    """Images described at once, when measured."""

    threads: int = bounded(0, at_least=0, at_most=4096)
    """Threads that describe on a CPU, when measured; 0 means one per processor."""

    precision: Precision = "float32"
    """What to measure in."""

    most_seconds: float = bounded(60.0, at_least=0, at_most=86400)
    """Longest measurement of one model; as many batches as fit, at most 200."""

    json: bool = False
    """Print one JSON line, and nothing else, on standard output."""

    def __post_init__(self) -> None:
        """Refuse numbers with which nothing can be counted or measured, and what says nothing.

        Raises:
            RecipeError: every such number, as its option, or the option that needs another one.
        """
        refuse_out_of_bounds(self)
        refuse_idle_options(self, NEEDED_BY)
