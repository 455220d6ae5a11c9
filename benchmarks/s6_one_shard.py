"""Goal S6: 8 ranks of 4 workers read one shard to the end of its epoch, without hang or repeat.

Eight real processes, started fresh; each opens the shards, loads its slice of every batch with 4
decode threads, and writes down what it was shown. There is one tar of drone views, fewer shards
than ranks or workers, where readers that hand whole shards to workers starve or repeat (webdataset
issue 188). A process that has not ended after the deadline counts as a hang.
"""

import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from line import report
from noise import noise_shards
from tables import train_loader

from data_shards.planning.plan import Plan
from data_shards.schema import Role, View
from data_shards.shards import ShardSet

RANKS, WORKERS = 8, 4
PLACES, VIEWS, BATCH, SEED = 40, 12, 32, 0
EPOCHS, DEADLINE_S = 2, 90


def read_as_rank(rank: int, shards: Path, out: Path) -> None:
    """Load every batch of one rank and write (step, place, drone row, first pixels) of each row."""
    opened = ShardSet.open(shards)
    plan = Plan(opened, opened.train_places, seed=SEED, global_batch=BATCH)
    loader = train_loader(opened, plan, image_size=32, threads=WORKERS, rank=rank, world_size=RANKS)
    shown = [
        [batch.step, place, row[0], int(pixels.sum())]
        for batch in loader.batches(first_step=0, num_steps=EPOCHS * plan.steps_per_epoch)
        for place, row, pixels in zip(
            batch.place.tolist(), batch.drone_rows.tolist(), batch.drone, strict=True
        )
    ]
    (out / f"{rank}.json").write_text(json.dumps(shown))


def faults(rows: list[list[int]], *, steps: int) -> dict[str, int]:
    """Count what is wrong with the rows of all ranks together."""
    wrong = {"duplicates": 0, "repeated_views": 0, "missing_rows": 0, "empty_images": 0}
    by_step: dict[int, list[int]] = {}
    by_epoch: dict[int, list[int]] = {}
    for step, place, row, pixels in rows:
        by_step.setdefault(step, []).append(place)
        by_epoch.setdefault(step // steps, []).append(row)
        wrong["empty_images"] += pixels == 0
    for places in by_step.values():
        wrong["duplicates"] += len(places) - len(set(places))
    for images in by_epoch.values():
        wrong["repeated_views"] += len(images) - len(set(images))
    wrong["missing_rows"] = EPOCHS * steps * BATCH - len(rows)
    return wrong


def main() -> int:
    """Start the ranks, wait for them, compare, and print one line."""
    start = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        shards = noise_shards(out, places=PLACES, views=VIEWS)
        rows = shards.images.where(role=Role.TRAIN, view=View.DRONE)
        drone_tars = np.unique(shards.images.shard[rows])
        began = time.perf_counter()
        ranks = [
            start.Process(target=read_as_rank, args=(rank, shards.folder, out), daemon=True)
            for rank in range(RANKS)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(max(0.0, began + DEADLINE_S - time.perf_counter()))
        hung = sum(process.is_alive() for process in ranks)
        failed = sum(process.exitcode not in (0, None) for process in ranks)
        shown = [row for part in sorted(out.glob("*.json")) for row in json.loads(part.read_text())]
        steps = Plan(shards, shards.train_places, seed=SEED, global_batch=BATCH).steps_per_epoch
        value = {
            "ranks": RANKS,
            "workers": WORKERS,
            "drone_tars": len(drone_tars),
            "epochs": EPOCHS,
            "rows": len(shown),
            "hung": hung,
            "failed": failed,
            **faults(shown, steps=steps),
            "wall_s": round(time.perf_counter() - began, 1),
        }
    wrong = ("hung", "failed", "duplicates", "repeated_views", "missing_rows", "empty_images")
    passed = not any(value[fault] for fault in wrong)
    return report("S6", value=value, must="0 of each fault", passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
