"""Goal S1: no place twice in any global batch, every pair once, over three whole epochs.

University-1652 in full size (701 places x 54 views), three drones per row, and places of unequal
counts. Counting is done the plain way, with sets and dictionaries, apart from the plan's own code.
Exact by simulation: plans are made in full, images are not read.
"""

import sys
from collections import Counter
from collections.abc import Sequence

from line import report
from tables import SUES_200_UNEVEN, UNIVERSITY_1652, training_table

from data_shards.plan import Plan

EPOCHS, SEED = 3, 0


def most_rows(rounds: Sequence[int], batch: int) -> int:
    """Return the most rows of whole batches without a place twice, counted up step by step."""
    steps = 0
    while sum(min(count, steps + 1) for count in rounds) >= (steps + 1) * batch:
        steps += 1
    return steps * batch


def measure(drones: Sequence[int], *, batch: int, drones_per_row: int) -> dict[str, int]:
    """Count duplicates, repeated views, rows missing from the possible, and misplaced views."""
    shards = training_table(drones)
    plan = Plan(
        shards,
        shards.train_places,
        seed=SEED,
        global_batch=batch,
        drones_per_row=drones_per_row,
    )
    wrong = Counter[str](duplicates=0, repeated_views=0, missing_rows=0, strangers=0)
    possible = most_rows([count // drones_per_row for count in drones], batch)
    for epoch in range(EPOCHS):
        rows = plan.epoch(epoch)
        places, views = rows.place.tolist(), rows.drone.tolist()
        for start in range(0, len(places), batch):
            wrong["duplicates"] += batch - len(set(places[start : start + batch]))
        shown = [view for row in views for view in row]
        wrong["repeated_views"] += len(shown) - len(set(shown))
        wrong["missing_rows"] += possible - len(rows)
        owner = shards.images.place.tolist()
        pairs = zip(places, views, rows.satellite.tolist(), strict=True)
        for place, row, satellite in pairs:
            wrong["strangers"] += sum(owner[image] != place for image in (*row, satellite))
    return {
        "rows_per_epoch": plan.pairs_per_epoch,
        "left_over": sum(count // drones_per_row for count in drones) - plan.pairs_per_epoch,
        **wrong,
    }


def main() -> int:
    """Run every case and print one line."""
    cases = {
        "701x54 B=128": (UNIVERSITY_1652, 128, 1),
        "701x54 B=512": (UNIVERSITY_1652, 512, 1),
        "701x54 B=701": (UNIVERSITY_1652, 701, 1),
        "701x54 B=128 k=3": (UNIVERSITY_1652, 128, 3),
        "120 uneven B=64": (SUES_200_UNEVEN, 64, 1),
        "120 uneven B=64 k=4": (SUES_200_UNEVEN, 64, 4),
    }
    value = {
        name: measure(drones, batch=batch, drones_per_row=k)
        for name, (drones, batch, k) in cases.items()
    }
    faults = ("duplicates", "repeated_views", "missing_rows", "strangers")
    passed = not any(case[fault] for case in value.values() for fault in faults)
    must = "0 of each fault; every pair but the least possible remainder"
    return report("S1", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
