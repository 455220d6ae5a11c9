"""What the augmentation of training images can be told. No torch, no OpenCV."""

from dataclasses import dataclass, fields
from typing import Literal

from data_shards.config import bounded, refuse_out_of_bounds, seed
from data_shards.errors import RecipeError

AugmentFamily = Literal["light", "mean", "mccg"]

FAMILIES_OF: dict[str, tuple[AugmentFamily, ...]] = {
    "satellite_quarter_turns": ("light", "mean"),
    "min_crop_area": ("light",),
    "brightness": ("light",),
    "contrast": ("light",),
    "saturation": ("light",),
    "auto_augment": ("mccg",),
    "colour_jitter": ("mccg",),
}
"""Option of `augment` to the families that heed it; the others are heeded by all."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training images are varied; the same values reach teacher and student."""

    family: AugmentFamily = "light"
    """What is varied: light (crop, mirror, turn, colour), mean (as MEAN and Sample4Geo), mccg (as
    MCCG and BiCrossNet)."""

    slots: int = bounded(4, at_least=1)
    """Different variations of each image; a place's next visit takes the next slot."""

    seed: int = seed()
    """Names the set of variations; apart from the run's seed, so that seeds share a cache."""

    device: bool = False
    """Let the training device do the colours (light, mean), filter and dropout (mean) and the
    erased box (mccg), as batched operations; pixels may differ from the loader's by a level."""

    flip_probability: float = bounded(0.5, at_least=0, at_most=1)
    """Share of slots that are mirrored: all views of a place together (light, mean), or each image
    for itself (mccg)."""

    satellite_quarter_turns: bool = True
    """Turn satellite tiles by a random multiple of 90 degrees (light, mean)."""

    min_crop_area: float = bounded(0.8, above=0, at_most=1)
    """Smallest part of the image that a crop keeps, 1 for no crop (light)."""

    brightness: float = bounded(0.2, at_least=0, at_most=1)
    """Largest relative change of brightness (light)."""

    contrast: float = bounded(0.2, at_least=0, at_most=1)
    """Largest relative change of contrast (light)."""

    saturation: float = bounded(0.2, at_least=0, at_most=1)
    """Largest relative change of saturation (light)."""

    auto_augment: bool = True
    """Vary drone images by AutoAugment's ImageNet policy (mccg)."""

    colour_jitter: float = bounded(0.0, at_least=0, at_most=1)
    """Largest relative change of brightness, contrast and saturation (mccg; its teacher: 0.1)."""

    def __post_init__(self) -> None:
        """Refuse numbers that vary nothing or leave no image, and what the family does not know.

        Raises:
            RecipeError: every such number or option, as its key in a recipe.
        """
        refuse_out_of_bounds(self, before="augment.")
        idle = [
            f"augment.{option.name}"
            for option in fields(self)
            if self.family not in FAMILIES_OF.get(option.name, (self.family,))
            and getattr(self, option.name) != option.default
        ]
        if idle:
            raise RecipeError(
                f"augment.family {self.family} has no use for {', '.join(idle)}; leave that out, "
                "or choose a family that has"
            )
