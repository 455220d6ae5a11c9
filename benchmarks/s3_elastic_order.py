"""Goal S3: the SHA-256 of the global (step -> keys) stream is the same for every world size.

Each rank's rows come through `TrainLoader.planned`, the path by which ranks choose what to
decode. 701 x 54 for the world sizes that divide its batch, 16,500 places for 16,384 ranks.
Exact by simulation: all ranks are played by one process, and images are not read. A third case
reads and varies real images: the same bytes for any number of ranks and of decode threads.
"""

import hashlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from line import report
from noise import noise_shards
from tables import UNIVERSITY_1652, train_loader, training_table

from data_shards.planning.plan import Plan
from data_shards.shards import ShardSet

SEED = 0
MANY_PLACES = [6] * 16_500


def stream(shards: ShardSet, plan: Plan, *, world_size: int, steps: int) -> Iterator[str]:
    """Yield `step key key ...` for every row of every rank, step by step."""
    keys = shards.images.key
    ranks = [
        train_loader(
            shards, plan, image_size=8, threads=1, rank=rank, world_size=world_size
        ).planned(first_step=0, num_steps=steps)
        for rank in range(world_size)
    ]
    for parts in zip(*ranks, strict=True):
        for step, rows in parts:
            satellites, drones = keys[rows.satellite].tolist(), keys[rows.drone].tolist()
            for satellite, row in zip(satellites, drones, strict=True):
                yield f"{step} {satellite} {' '.join(row)}\n"


def digest(shards: ShardSet, plan: Plan, *, world_size: int, steps: int) -> str:
    """Return the SHA-256 of the stream that all ranks see together."""
    sha = hashlib.sha256()
    for line in stream(shards, plan, world_size=world_size, steps=steps):
        sha.update(line.encode())
    return sha.hexdigest()


def digest_of_batches(shards: ShardSet, world_size: int, threads: int) -> str:
    """Return the SHA-256 of what all ranks load in one epoch: rows, slots and pixels."""
    plan = Plan(shards, shards.train_places, seed=SEED, global_batch=16)
    loaders = [
        train_loader(
            shards, plan, image_size=32, threads=threads, rank=rank, world_size=world_size
        ).batches(first_step=0, num_steps=plan.steps_per_epoch)
        for rank in range(world_size)
    ]
    sha = hashlib.sha256()
    for parts in zip(*loaders, strict=True):
        for name in ("drone_rows", "satellite_rows", "slot", "drone", "satellite"):
            for part in parts:
                sha.update(getattr(part, name).tobytes())
    return sha.hexdigest()


def main() -> int:
    """Compare all world sizes at each batch size and print one line."""
    value, passed = {}, True
    cases: Sequence[tuple[str, list[int], int, tuple[int, ...], int]] = (
        ("701x54 B=512", UNIVERSITY_1652, 512, (1, 2, 4, 8, 64), 2),
        ("16500x6 B=16384", MANY_PLACES, 16_384, (1, 2, 4, 8, 64, 16_384), 1),
    )
    for name, drones, batch, world_sizes, epochs in cases:
        shards = training_table(drones)
        plan = Plan(shards, np.arange(len(drones)), seed=SEED, global_batch=batch)
        steps = epochs * plan.steps_per_epoch
        digests = {
            str(world_size): digest(shards, plan, world_size=world_size, steps=steps)
            for world_size in world_sizes
        }
        passed &= len(set(digests.values())) == 1
        value[name] = {
            "steps": steps,
            "world_sizes": list(world_sizes),
            "sha256": digests["1"],
            "distinct": len(set(digests.values())),
        }
    with tempfile.TemporaryDirectory() as folder:
        shards = noise_shards(Path(folder), places=40, views=12)
        digests = {
            f"{world_size} x {threads}": digest_of_batches(shards, world_size, threads)
            for world_size in (1, 2, 8)
            for threads in (1, 3, 8)
        }
    passed &= len(set(digests.values())) == 1
    value["40x12 B=16 with pixels"] = {
        "ranks x threads": list(digests),
        "sha256": digests["1 x 1"],
        "distinct": len(set(digests.values())),
    }
    must = "one distinct digest per batch size"
    return report("S3", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
