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
from clock import ratio
from line import report
from noise import noise_shards
from tables import train_loader

from data_shards.loader import Batch
from data_shards.planning.plan import Plan
from data_shards.shards import ShardSet

PLACES, VIEWS, BATCH, SEED = 701, 54, 64, 0
ROUNDS, MUST = 15, 1.2


def first_batch(shards: ShardSet, step: int) -> tuple[Batch, float]:
    """Return the batch of one step, and the wall seconds until it was there."""
    before = time.perf_counter()
    plan = Plan(shards, shards.train_places, seed=SEED, global_batch=BATCH)
    loader = train_loader(shards, plan, image_size=64, threads=2)
    batches = loader.batches(first_step=step, num_steps=2 * plan.steps_per_epoch)
    batch = next(batches)
    seconds = time.perf_counter() - before
    batches.close()  # type: ignore[attr-defined]
    return batch, seconds


def main() -> int:
    """Check the batch that is sought, time both in turn, and print one line."""
    with tempfile.TemporaryDirectory() as folder:
        shards = noise_shards(Path(folder), places=PLACES, views=VIEWS)
        plan = Plan(shards, shards.train_places, seed=SEED, global_batch=BATCH)
        late = plan.steps_per_epoch * 9 // 10
        sought, _ = first_batch(shards, late)
        expected = plan.epoch(0)[slice(late * BATCH, (late + 1) * BATCH)]
        assert np.array_equal(sought.drone_rows, expected.drone), "seeking shows what going shows"
        assert np.array_equal(sought.satellite_rows, expected.satellite)
        starts, lates = [], []
        for _ in range(ROUNDS):
            starts.append(first_batch(shards, 0)[1])
            lates.append(first_batch(shards, late)[1])
    found = ratio(lates, starts)
    value = {
        "ratio": found,
        "start_wall_s": round(float(np.median(starts)), 4),
        "late_wall_s": round(float(np.median(lates)), 4),
        "late_step": late,
    }
    passed = found["median"] <= MUST
    return report("S4", value=value, must=f"ratio <= {MUST}", passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
