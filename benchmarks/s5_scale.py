"""Goal S5: 54 million pairs for 16,384 ranks of 8 workers, planned and verified on one core.

1,000,000 places x 54 drone views, 131,072 rows a batch: 8 rows a rank, one a worker. Every batch of
the epoch is made the way ranks make theirs, by `Plan.rows`, and checked apart from the plan's own
code: no place twice in a batch (a mark per place), no view twice in the epoch (a mark per image),
every view of its place, as many rows as can be. That the slices of all ranks are the batch, and
equal, is checked rank by rank for the first and the last step. Exact by simulation: images are not
read. Then the same for 250,000 places of 30 to 54 views.
"""

import resource
import sys
import time

import numpy as np
from line import report
from tables import large_table

from data_shards.planning.plan import Plan, rank_slice
from data_shards.planning.rounds import most_steps
from data_shards.schema import View
from data_shards.shards import ShardSet

PLACES, VIEWS, SEED = 1_000_000, 54, 0
RANKS, WORKERS = 16_384, 8
BATCH = RANKS * WORKERS
MUST_SECONDS, MUST_GIB = 60, 4


def verify(shards: ShardSet, plan: Plan) -> dict[str, int]:
    """Make every batch of epoch 0 and count what is wrong with them."""
    wrong = {"duplicates": 0, "repeated_views": 0, "strangers": 0, "uneven_ranks": 0}
    is_in_batch = np.zeros(len(shards.places), dtype=bool)
    is_shown = np.zeros(len(shards.images), dtype=bool)
    for step in range(plan.steps_per_epoch):
        rows = plan.rows(0, slice(step * BATCH, (step + 1) * BATCH))
        drone = rows.drone[:, 0]
        wrong["repeated_views"] += int(is_shown[drone].sum())
        is_shown[drone] = True
        is_in_batch[rows.place] = True
        wrong["duplicates"] += BATCH - int(np.count_nonzero(is_in_batch))
        is_in_batch[rows.place] = False
        wrong["strangers"] += int((shards.images.place[drone] != rows.place).sum())
        wrong["strangers"] += int((shards.images.place[rows.satellite] != rows.place).sum())
    for step in (0, plan.steps_per_epoch - 1):
        wrong["uneven_ranks"] += uneven_ranks(step)
    assert int(is_shown.sum()) + wrong["repeated_views"] == plan.pairs_per_epoch
    assert not is_shown[shards.images.view != View.DRONE].any()
    return wrong


def uneven_ranks(step: int) -> int:
    """Count ranks whose slice of a step is not the next 8 rows of the batch."""
    slices = (
        rank_slice(step, rank=rank, world_size=RANKS, global_batch=BATCH) for rank in range(RANKS)
    )
    first = step * BATCH
    return sum(
        part != slice(first + rank * WORKERS, first + (rank + 1) * WORKERS)
        for rank, part in enumerate(slices)
    )


def seek(plan: Plan, percent: int) -> float:
    """Return the processor seconds to the rows of a batch in an epoch that nobody has planned."""
    fresh, step = plan.with_neighbours(None), plan.steps_per_epoch * percent // 100
    processor = time.process_time()
    fresh.rows(1, slice(step * BATCH, (step + 1) * BATCH))
    return round(time.process_time() - processor, 2)


def measure(drones: np.ndarray) -> dict[str, object]:
    """Plan and verify one epoch over places with so many drone views each."""
    shards = large_table(drones)
    processor, wall = time.process_time(), time.perf_counter()
    plan = Plan(shards, shards.train_places, seed=SEED, global_batch=BATCH)
    assert plan.steps_per_epoch == most_steps(drones, BATCH)
    wrong = verify(shards, plan)
    seconds = time.process_time() - processor, time.perf_counter() - wall
    return {
        "pairs": plan.pairs_per_epoch,
        "left_over": int(drones.sum()) - plan.pairs_per_epoch,
        "steps_of_every_rank": plan.steps_per_epoch,
        "cpu_s": round(seconds[0], 1),
        "wall_s": round(seconds[1], 1),
        "seek_cpu_s": {f"{share} %": seek(plan, share) for share in (0, 90)},
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        **wrong,
    }


def main() -> int:
    """Measure equal places, then unequal ones, and print one line."""
    unequal = np.random.default_rng(SEED).integers(30, VIEWS + 1, PLACES // 4)
    value = {
        "equal": measure(np.full(PLACES, VIEWS)),
        "unequal": measure(unequal),
    }
    faults = ("duplicates", "repeated_views", "strangers", "uneven_ranks")
    passed = not any(case[fault] for case in value.values() for fault in faults)
    passed &= all(case["cpu_s"] <= MUST_SECONDS for case in value.values())  # type: ignore[operator]
    passed &= all(case["peak_gib"] <= MUST_GIB for case in value.values())  # type: ignore[operator]
    must = f"0 of each fault, <= {MUST_SECONDS} s on one core, <= {MUST_GIB} GiB with the table"
    return report("S5", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
