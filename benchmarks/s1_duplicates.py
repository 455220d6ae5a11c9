"""Goal S1: no place twice in any global batch, every pair once, over three whole epochs.

University-1652 in full size (701 places x 54 views), several drones per row, hard samples brought
together, places of unequal counts, and one height of the four of SUES-200. Counting is done the
plain way, with sets and dictionaries, apart from the plan's own code.
Exact by simulation: plans are made in full, images are not read.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from line import report
from tables import SUES_200_UNEVEN, UNIVERSITY_1652, training_table

from data_shards.planning.neighbours import Neighbours
from data_shards.planning.plan import Plan
from data_shards.shards import ShardSet

EPOCHS, SEED = 3, 0
HEIGHTS = (150.0, 200.0, 250.0, 300.0)


def most_rows(rounds: Sequence[int], batch: int) -> int:
    """Return the most rows of whole batches without a place twice, counted up step by step."""
    steps = 0
    while sum(min(count, steps + 1) for count in rounds) >= (steps + 1) * batch:
        steps += 1
    return steps * batch


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of plan."""

    drones: Sequence[int]
    batch: int
    drones_per_row: int = 1
    altitude_m: float | None = None
    """Height that is chosen of the four; None takes all."""

    is_mined: bool = False
    """Order the rounds by a table of 16 neighbours; any table will do."""

    def plan(self) -> tuple[ShardSet, Plan]:
        """Return the shards and the plan over all their places."""
        shards = training_table(self.drones, HEIGHTS)
        plan = Plan(
            shards,
            shards.train_places,
            seed=SEED,
            global_batch=self.batch,
            drones_per_row=self.drones_per_row,
            altitudes=() if self.altitude_m is None else (self.altitude_m,),
        )
        return shards, plan.with_neighbours(any_table(plan) if self.is_mined else None)

    def counts(self) -> list[int]:
        """Return the drone views of each place that the plan may show."""
        if self.altitude_m is None:
            return list(self.drones)
        at = HEIGHTS.index(self.altitude_m)
        return [len(range(at, count, len(HEIGHTS))) for count in self.drones]


def any_table(plan: Plan) -> Neighbours:
    """Return 16 wrong places of every place, drawn."""
    count = len(plan.places)
    step = np.random.default_rng(SEED).integers(1, count, (count, 16))
    table = (np.arange(count)[:, None] + step) % count
    return Neighbours(table=table.astype(np.int32), places=plan.place_names)


def measure(case: Case) -> dict[str, int]:
    """Count duplicates, repeated views, rows missing from the possible, and misplaced views."""
    shards, plan = case.plan()
    batch, rounds = case.batch, [count // case.drones_per_row for count in case.counts()]
    wrong = Counter[str](duplicates=0, repeated_views=0, missing_rows=0, strangers=0)
    possible = most_rows(rounds, batch)
    if len(set(rounds)) == 1:
        assert possible == sum(rounds) - sum(rounds) % batch, "equal places leave n mod B over"
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
        "left_over": sum(rounds) - plan.pairs_per_epoch,
        **wrong,
    }


def main() -> int:
    """Run every case and print one line."""
    cases = {
        "701x54 B=128": Case(drones=UNIVERSITY_1652, batch=128),
        "701x54 B=512": Case(drones=UNIVERSITY_1652, batch=512),
        "701x54 B=701": Case(drones=UNIVERSITY_1652, batch=701),
        "701x54 B=128 k=3": Case(drones=UNIVERSITY_1652, batch=128, drones_per_row=3),
        "701x54 B=128 mined": Case(drones=UNIVERSITY_1652, batch=128, is_mined=True),
        "701x54 B=512 k=2 mined": Case(
            drones=UNIVERSITY_1652, batch=512, drones_per_row=2, is_mined=True
        ),
        "120 uneven B=64": Case(drones=SUES_200_UNEVEN, batch=64),
        "120 uneven B=64 k=4": Case(drones=SUES_200_UNEVEN, batch=64, drones_per_row=4),
        "120 uneven B=120 k=3": Case(drones=SUES_200_UNEVEN, batch=120, drones_per_row=3),
        "120 uneven B=24 mined": Case(drones=SUES_200_UNEVEN, batch=24, is_mined=True),
        "120 uneven at 200 m B=24": Case(drones=SUES_200_UNEVEN, batch=24, altitude_m=200.0),
        "120 uneven at 300 m B=24 k=2": Case(
            drones=SUES_200_UNEVEN, batch=24, drones_per_row=2, altitude_m=300.0
        ),
    }
    value = {name: measure(case) for name, case in cases.items()}
    faults = ("duplicates", "repeated_views", "missing_rows", "strangers")
    passed = not any(case[fault] for case in value.values() for fault in faults)
    must = "0 of each fault; every pair but the least possible remainder"
    return report("S1", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
