"""What the augmentation of training images can be told. No torch, no OpenCV."""

from dataclasses import dataclass, fields
from typing import Literal

from data_shards.config import at_least, between, refuse_out_of_bounds, seed_bounds
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

    slots: int = 4
    """Different variations of each image; a place's next visit takes the next slot."""

    seed: int = 0
    """Names the set of variations; apart from the run's seed, so that seeds share a cache."""

    device: bool = False
    """Let the training device do the colours (light, mean), filter and dropout (mean) and the
    erased box (mccg), as batched operations; pixels may differ from the loader's by a level."""

    flip_probability: float = 0.5
    """Share of slots that are mirrored: all views of a place together (light, mean), or each image
    for itself (mccg)."""

    satellite_quarter_turns: bool = True
    """Turn satellite tiles by a random multiple of 90 degrees (light, mean)."""

    min_crop_area: float = 0.8
    """Smallest part of the image that a crop keeps, 1 for no crop (light)."""

    brightness: float = 0.2
    """Largest relative change of brightness (light)."""

    contrast: float = 0.2
    """Largest relative change of contrast (light)."""

    saturation: float = 0.2
    """Largest relative change of saturation (light)."""

    auto_augment: bool = True
    """Vary drone images by AutoAugment's ImageNet policy (mccg)."""

    colour_jitter: float = 0.0
    """Largest relative change of brightness, contrast and saturation (mccg; its teacher: 0.1)."""

    def __post_init__(self) -> None:
        """Refuse numbers that vary nothing or leave no image, and what the family does not know.

        Raises:
            RecipeError: every such number or option, as its key in a recipe.
        """
        area = self.min_crop_area
        refuse_out_of_bounds(
            {
                "augment.slots": at_least(self.slots, 1),
                "augment.seed": seed_bounds(self.seed),
                "augment.flip_probability": between(self.flip_probability, 0, 1),
                "augment.min_crop_area": (area, 0 < area <= 1, "above 0 and at most 1"),
                "augment.brightness": between(self.brightness, 0, 1),
                "augment.contrast": between(self.contrast, 0, 1),
                "augment.saturation": between(self.saturation, 0, 1),
                "augment.colour_jitter": between(self.colour_jitter, 0, 1),
            }
        )
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
