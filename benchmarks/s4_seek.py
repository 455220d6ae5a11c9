"""Goal S4: seconds from asking for a step to its first batch, at 90 % of an epoch and at its start.

A real loader over real shards: the folders of University-1652 hold noise of 64 px, 701 places x 54
views, sharded once into a temporary folder. Each measurement makes a fresh plan and a fresh loader,
so that nothing is at hand; the page cache is warm. The batch at 90 % is first compared with the
rows of the whole epoch.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from line import report
from noise import noise_shards

from data_shards.augment.config import AugmentConfig
from data_shards.loader import Batch, TrainLoader
from data_shards.planning.plan import Plan
from data_shards.shards import ShardSet

PLACES, VIEWS, BATCH, SEED = 701, 54, 64, 0
ROUNDS, MUST = 15, 1.2


def first_batch(shards: ShardSet, step: int) -> tuple[Batch, float, float]:
    """Return the batch of one step, and the processor and wall seconds until it was there."""
    processor, wall = time.process_time(), time.perf_counter()
    plan = Plan(shards, shards.train_places, seed=SEED, global_batch=BATCH)
    loader = TrainLoader(
        shards,
        plan,
        augment=AugmentConfig(),
        image_size=64,
        resampling="opencv-linear",
        rank=0,
        world_size=1,
        threads=2,
    )
    batches = loader.batches(first_step=step, num_steps=2 * plan.steps_per_epoch)
    batch = next(batches)
    seconds = time.process_time() - processor, time.perf_counter() - wall
    batches.close()  # type: ignore[attr-defined]
    return batch, *seconds


def main() -> int:
    """Check the batch that is sought, time both in turn, and print one line."""
    with tempfile.TemporaryDirectory() as folder:
        shards = noise_shards(Path(folder), places=PLACES, views=VIEWS)
        plan = Plan(shards, shards.train_places, seed=SEED, global_batch=BATCH)
        late = plan.steps_per_epoch * 9 // 10
        sought, *_ = first_batch(shards, late)
        expected = plan.epoch(0)[slice(late * BATCH, (late + 1) * BATCH)]
        assert np.array_equal(sought.drone_rows, expected.drone), "seeking shows what going shows"
        assert np.array_equal(sought.satellite_rows, expected.satellite)
        ratios, starts, lates = [], [], []
        for _ in range(ROUNDS):
            _, _, start_s = first_batch(shards, 0)
            _, _, late_s = first_batch(shards, late)
            ratios.append(late_s / start_s)
            starts.append(start_s)
            lates.append(late_s)
    value = {
        "ratio": round(float(np.median(ratios)), 3),
        "min": round(min(ratios), 3),
        "max": round(max(ratios), 3),
        "start_wall_s": round(float(np.median(starts)), 4),
        "late_wall_s": round(float(np.median(lates)), 4),
        "late_step": late,
    }
    passed = value["ratio"] <= MUST
    return report("S4", value=value, must=f"ratio <= {MUST}", passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
