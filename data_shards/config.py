"""What the data stage can be told. No torch: a login node reads these in a blink."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data_shards.errors import RecipeError

MOST_PLACES = 4999
"""Places that the four-digit folders of University-1652 hold, in training and in test each."""

MOST = 2**31 - 1
"""Largest count of anything; larger ones are slips of the keyboard, and overflow arithmetic."""

Bounds = tuple[float | None, bool, str]
"""A number, whether it is allowed, and what is allowed in words."""


def between(value: float, low: float, high: float) -> Bounds:
    """Return the bounds of a number that may be `low`, `high` or anything between."""
    return value, low <= value <= high, f"between {low} and {high}"


def at_least(value: int, low: int) -> Bounds:
    """Return the bounds of a count."""
    words = f"at least {low}" if value < low else f"at most {MOST}"
    return value, low <= value <= MOST, words


def seed_bounds(value: int) -> Bounds:
    """Return the bounds of a seed: what every library that draws numbers takes."""
    return between(value, 0, 2**32 - 1)


def share_bounds(value: float) -> Bounds:
    """Return the bounds of a part that leaves something over."""
    return value, 0 <= value < 1, "at least 0 and below 1"


def refuse_out_of_bounds(numbers: Mapping[str, Bounds]) -> None:
    """Refuse every number outside its bounds, all at once, under the names a user types.

    Raises:
        RecipeError: every such number, with what is allowed.
    """
    problems = [
        f"{name} ({value}) must be {words}"
        for name, (value, is_allowed, words) in numbers.items()
        if not is_allowed
    ]
    if problems:
        raise RecipeError("; ".join(problems))


@dataclass(frozen=True, kw_only=True)
class SynthConfig:
    """A procedural world, written in the exact folder layout of a public data set."""

    out: Path
    """Folder to write; it must not exist, or must hold this very world."""

    layout: str = "university1652"
    """Folder layout to imitate."""

    places: int = 200
    """Training places."""

    test_places: int = 60
    """Places that are queried in the test set, and stand in its galleries."""

    distractors: int = 20
    """Further places that stand only in the test galleries."""

    views: int = 54
    """Drone views per place, on the orbit of the data set: three turns, 256 m down to 121.5 m."""

    image_size: int = 512
    """Width and height of every image in pixels."""

    seed: int = 0
    """The world is a pure function of this seed and the counts above."""

    workers: int = 0
    """Processes that render; 0 means one per processor."""

    dry_run: bool = False
    """Say what would be written, and stop."""

    def __post_init__(self) -> None:
        """Refuse numbers that describe no world.

        Raises:
            RecipeError: every such number, as its option.
        """
        refuse_out_of_bounds(
            {
                "--places": between(self.places, 1, MOST_PLACES),
                "--test-places": between(self.test_places, 1, MOST_PLACES),
                "--distractors": between(self.distractors, 0, MOST_PLACES - 1),
                "--test-places and --distractors together": (
                    self.test_places + self.distractors,
                    self.test_places + self.distractors <= MOST_PLACES,
                    f"at most {MOST_PLACES}",
                ),
                "--views": between(self.views, 1, 999),
                "--image-size": between(self.image_size, 16, 4096),
                "--seed": seed_bounds(self.seed),
                "--workers": between(self.workers, 0, 4096),
            }
        )


@dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """Raw folders of a public data set to tar shards, an index beside each, a manifest over all."""

    raw: Path
    """Folder of the data set as it was downloaded."""

    out: Path
    """Folder to write; it appears when it is whole, and is left alone if it holds these shards."""

    layout: str
    """How the raw folders are arranged: university1652."""

    workers: int = 0
    """Threads that read and write; 0 means one per processor."""

    dry_run: bool = False
    """Count what would be written, and stop."""

    json: bool = False
    """Print the result as one JSON line."""

    def __post_init__(self) -> None:
        """Refuse a number of workers that cannot be.

        Raises:
            RecipeError: the number, as its option.
        """
        refuse_out_of_bounds({"--workers": between(self.workers, 0, 4096)})


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """The order in which one epoch shows every training pair, on any number of ranks."""

    shards: Path
    """Shard folder."""

    world_size: int = 1
    """Ranks that share each global batch."""

    global_batch: int = 64
    """Rows (places) per step over all ranks."""

    seed: int = 0
    """Seed of the run."""

    epoch: int = 0
    """Which epoch, counted from 0."""

    drones_per_row: int = 1
    """Drone views beside each satellite tile."""

    validation_fraction: float = 0.0
    """Part of the training places held out; 0 plans over all of them."""

    validation_seed: int = 0
    """Which places are held out."""

    json: bool = False
    """Print every step as one JSON line instead of a summary."""

    def __post_init__(self) -> None:
        """Refuse numbers for which there is no plan.

        Raises:
            RecipeError: every such number, as its option.
        """
        refuse_out_of_bounds(
            {
                "--world-size": at_least(self.world_size, 1),
                "--global-batch": at_least(self.global_batch, 1),
                "--seed": seed_bounds(self.seed),
                "--epoch": at_least(self.epoch, 0),
                "--drones-per-row": at_least(self.drones_per_row, 1),
                "--validation-fraction": share_bounds(self.validation_fraction),
                "--validation-seed": seed_bounds(self.validation_seed),
            }
        )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training images are varied; the same values reach teacher and student."""

    slots: int = 4
    """Different variations of each image; a place's next visit takes the next slot."""

    seed: int = 0
    """Names the set of variations; apart from the run's seed, so that seeds share a cache."""

    flip_probability: float = 0.5
    """Share of slots in which both views of a place are mirrored."""

    satellite_quarter_turns: bool = True
    """Turn satellite tiles by a random multiple of 90 degrees."""

    min_crop_area: float = 0.8
    """Smallest part of the image that a crop keeps, 1 for no crop."""

    brightness: float = 0.2
    """Largest relative change of brightness."""

    contrast: float = 0.2
    """Largest relative change of contrast."""

    saturation: float = 0.2
    """Largest relative change of saturation."""

    def __post_init__(self) -> None:
        """Refuse numbers that vary nothing or leave no image.

        Raises:
            RecipeError: every such number, as its key in a recipe.
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
            }
        )
