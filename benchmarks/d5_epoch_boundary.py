"""Goal D5: the gap between the last batch of an epoch and the first of the next, in batch times.

A reader that takes batches as fast as they come; University-1652 in full size (701 places x 54
views, 37,760 rows an epoch), every row pointing at one of a few real images, so that the plan has
its full cost and the images have theirs. A few batches on both sides of the boundary are timed, and
the boundary itself is compared with the median of the others.
"""

import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
from clock import ratio
from line import report
from photos import write_all
from tables import UNIVERSITY_1652, train_loader, training_table

from data_shards.planning.plan import Plan
from data_shards.schema import Role, View
from data_shards.shards import ShardSet

MUST, BATCH, AROUND, TIMES, SEED = 1.0, 64, 24, 5, 0


def full_size(small: ShardSet) -> ShardSet:
    """Return the image table of University-1652 over the images of `small`."""
    table = training_table(UNIVERSITY_1652)
    of_view = {
        view: small.images.where(role=Role.TRAIN, view=view)
        for view in (View.SATELLITE, View.DRONE)
    }
    shown = np.empty(len(table.images), dtype=np.int64)
    for view, rows in of_view.items():
        at = np.flatnonzero(table.images.view == view)
        shown[at] = np.resize(rows, len(at))

    class Repeated(ShardSet):
        """Every row reads one of the few images."""

        def read(self, row: int) -> "memoryview":
            return small.read(int(shown[row]))

    return Repeated(small.folder, table.manifest, table.images)


def main() -> int:
    """Time the batches around a boundary, several times, and print one line."""
    boundary: list[float] = []
    usual: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        shards = full_size(write_all(Path(folder), places=4)(256))
        for seed in range(TIMES):
            plan = Plan(shards, shards.train_places, seed=seed, global_batch=BATCH)
            loader = train_loader(shards, plan, image_size=256, threads=2)
            per_epoch = plan.steps_per_epoch
            waits, before = [], time.perf_counter()
            # A training that goes on: at the boundary the third epoch is planned too.
            batches = loader.batches(first_step=per_epoch - AROUND, num_steps=3 * per_epoch)
            for batch in islice(batches, 2 * AROUND):
                now = time.perf_counter()
                waits.append(now - before)
                before = now
                assert batch.step == per_epoch - AROUND + len(waits) - 1
            usual.append(median(waits[4:AROUND] + waits[AROUND + 1 :]))
            boundary.append(waits[AROUND])
            batches.close()  # type: ignore[attr-defined]
    gaps = ratio(boundary, usual)
    gap = round(gaps["median"] - 1.0, 3)
    value = {
        "rows per epoch": plan.pairs_per_epoch,
        "batch of the boundary / median batch": gaps,
        "gap beyond a usual batch": gap,
    }
    passed = gap <= MUST
    must = f"gap beyond a usual batch <= {MUST} batch times"
    return report("D5", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
