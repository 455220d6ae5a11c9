"""Goal C6: an epoch with four crops of every decoding against one crop per decoding.

The same number of batches and images in both, from 512 px photographs, and nothing but the loader
running: what a run that waits for its loader gains. That the pixels of a slot are the same however
they were decoded is shown first. `mean` with its geometry and colours, as PFED has it, is told
whole; the goal is asked of its geometry, since the rest of `mean` is no decoding.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from clock import interleaved, ratios
from line import report
from photos import write_all

from data_shards.augment.config import AugmentConfig
from data_shards.loader import TrainLoader
from data_shards.planning.plan import Plan
from data_shards.shards import ShardSet

CROPS, BATCH, THREADS, SEED, STEPS, SIZE = 4, 16, 2, 0, 24, 224
MUST, JUDGED = 0.5, "light, geometry"
FAMILIES = {
    "light, geometry": AugmentConfig(slots=8, brightness=0.0, contrast=0.0, saturation=0.0),
    "light": AugmentConfig(slots=8),
    "mean": AugmentConfig(slots=8, family="mean"),
}


def loader(shards: ShardSet, family: str, *, crops: int) -> TrainLoader:
    """Return the loader of one rank."""
    return TrainLoader(
        shards,
        Plan(shards, shards.train_places, seed=SEED, global_batch=BATCH),
        augment=FAMILIES[family],
        image_size=SIZE,
        resampling="opencv-linear",
        rank=0,
        world_size=1,
        threads=THREADS,
        crops_per_decode=crops,
    )


def drained(one: TrainLoader) -> Callable[[], None]:
    """Return what loads all batches."""

    def run() -> None:
        for _ in one.batches(first_step=0, num_steps=STEPS):
            pass

    return run


def assert_alike(shards: ShardSet, family: str) -> None:
    """Compare the images that both loaders show in one slot."""
    once = next(iter(loader(shards, family, crops=1).batches(first_step=0, num_steps=1)))
    for batch in loader(shards, family, crops=CROPS).batches(first_step=0, num_steps=CROPS):
        alike = batch.slot == once.slot
        assert np.array_equal(batch.drone[alike], once.drone[alike])


def main() -> int:
    """Time both, and print one line."""
    with tempfile.TemporaryDirectory() as folder:
        shards = write_all(Path(folder))(512)
        value = {}
        for family in FAMILIES:
            assert_alike(shards, family)
            runs = {
                "four": drained(loader(shards, family, crops=CROPS)),
                "one": drained(loader(shards, family, crops=1)),
            }
            seconds = interleaved(runs)
            value[family] = ratios(seconds["four"], seconds["one"])
    passed = value[JUDGED]["wall"]["median"] <= MUST
    must = f"<= {MUST} by wall, {JUDGED}"
    return report("C6", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
