"""Goal S2: planned pairs per second against the greedy list that this field shuffles with.

The reference is the batch maker of Sample4Geo and MEAN, written from its description (spec
performance 2.1): shuffle all pairs, pop the first, put it into the batch unless its place stands
there, else append it to the end; after 512 misses in a row stop. 7,010 places x 54 drone views =
378,540 pairs, 1,024 a batch, one thread. The plan's side is everything a rank needs: place, visit,
satellite and drone view of every row of an epoch.
"""

import random
import sys
import time

import numpy as np
from clock import ratio
from line import report
from tables import training_table

from data_shards.planning.plan import Plan, PlanRows

PLACES, VIEWS, BATCH, SEED = 7_010, 54, 1_024, 0
MISSES = 512
PLAN_RUNS = 3
"""Plans made on either side of each greedy list."""

ROUNDS = 5
MUST = 100


def greedy_list(pairs: list[tuple[int, int]], batch: int) -> list[tuple[int, int]]:
    """Return the pairs in batches without a place twice, as the reference makes them."""
    random.shuffle(pairs)
    done: list[tuple[int, int]] = []
    members: set[int] = set()
    current: list[tuple[int, int]] = []
    misses = 0
    while pairs and misses < MISSES:
        pair = pairs.pop(0)
        if pair[0] in members:
            pairs.append(pair)
            misses += 1
            continue
        members.add(pair[0])
        current.append(pair)
        misses = 0
        if len(current) == batch:
            done += current
            members, current = set(), []
    return done


def faults(places: np.ndarray, views: np.ndarray) -> int:
    """Count places that stand twice in a batch, and views that are shown twice."""
    batches = np.sort(places.reshape(-1, BATCH), axis=1)
    return int((np.diff(batches, axis=1) == 0).sum()) + len(views) - len(np.unique(views))


def list_seconds(pairs: list[tuple[int, int]]) -> tuple[float, list[tuple[int, int]]]:
    """Return the processor seconds of one greedy list, and the list."""
    copied = list(pairs)
    processor = time.process_time()
    shown = greedy_list(copied, BATCH)
    return time.process_time() - processor, shown


def plan_seconds(plan: Plan, epoch: int) -> tuple[float, PlanRows]:
    """Return the processor seconds of one epoch's plan with nothing at hand, and its rows."""
    fresh = plan.with_neighbours(None)
    processor = time.process_time()
    rows = fresh.epoch(epoch)
    return time.process_time() - processor, rows


def main() -> int:
    """Check both sides, time them in turn, and print one line."""
    shards = training_table([VIEWS] * PLACES)
    drones = shards.images.place[PLACES:].tolist()
    pairs = list(zip(drones, range(PLACES, len(shards.images)), strict=True))
    plan = Plan(shards, shards.train_places, seed=SEED, global_batch=BATCH)
    random.seed(SEED)
    plans, lists = [], []
    for epoch in range(ROUNDS):
        before = [plan_seconds(plan, epoch)[0] for _ in range(PLAN_RUNS)]
        seconds, shown = list_seconds(pairs)
        after = [plan_seconds(plan, epoch)[0] for _ in range(PLAN_RUNS)]
        plans.append(float(np.median(before + after)))
        lists.append(seconds)
        greedy, rows = np.array(shown), plan.epoch(epoch)
        wrong = faults(greedy[:, 0], greedy[:, 1]) + faults(rows.place, rows.drone[:, 0])
        assert wrong == 0, "both sides keep places apart and show no view twice"
        assert abs(len(greedy) - len(rows)) <= BATCH, "both sides leave out less than a batch"
    found = ratio(lists, plans)
    value = {
        "ratio": found,
        "plan_cpu_s": round(float(np.median(plans)), 4),
        "list_cpu_s": round(float(np.median(lists)), 2),
        "plan_pairs_per_s": round(plan.pairs_per_epoch / float(np.median(plans))),
    }
    passed = found["median"] >= MUST
    return report("S2", value=value, must=f"ratio >= {MUST}", passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
