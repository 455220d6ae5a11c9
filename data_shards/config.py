"""What the data stage can be told. No torch: a login node reads these in a blink."""

from dataclasses import dataclass
from pathlib import Path


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
