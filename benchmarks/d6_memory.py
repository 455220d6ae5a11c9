"""Goal D6: growth of resident memory over 50 epochs, every image decoded and varied.

As many steps as 50 epochs of 64 places x 7 views have, in the two families of the methods in turn;
images of 64 px, so that the epochs pass quickly: memory grows with batches and epochs, not pixels.
"""

import sys
import tempfile
from pathlib import Path

from line import report
from photos import write_all
from tables import train_loader

from data_shards.augment.config import AugmentFamily
from data_shards.planning.plan import Plan

MUST_MIB, EPOCHS, BATCH, SEED = 50.0, 50, 8, 0
FAMILIES: tuple[AugmentFamily, ...] = ("mean", "mccg")


def resident_mib() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main() -> int:
    """Read the memory after every epoch, and print one line."""
    after: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        shards = write_all(Path(folder))(256)
        plan = Plan(shards, shards.train_places, seed=SEED, global_batch=BATCH)
        per_epoch = plan.steps_per_epoch
        for epoch in range(EPOCHS):
            if epoch % 10 == 0:
                loader = train_loader(
                    shards, plan, image_size=64, threads=2, family=FAMILIES[epoch // 10 % 2]
                )
                stream = loader.batches(
                    first_step=epoch * per_epoch, num_steps=(epoch + 10) * per_epoch
                )
            for _ in range(per_epoch):
                assert next(stream).satellite.any()
            after.append(resident_mib())
    growth = max(after[10:]) - max(after[:10])
    value = {
        "images": EPOCHS * per_epoch * BATCH * 2,
        "MiB after the first 10 epochs": round(max(after[:10]), 1),
        "MiB at most after": round(max(after[10:]), 1),
        "growth": round(growth, 1),
        "growth since the first epoch": round(max(after) - after[0], 1),
    }
    passed = max(after) - after[0] <= MUST_MIB
    return report("D6", value=value, must=f"<= {MUST_MIB} MiB", passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
