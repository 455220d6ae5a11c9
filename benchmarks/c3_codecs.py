"""Goal C3: what each codec makes of a trained teacher's descriptors, and what its rows cost.

The teacher, a small ConvNeXt, learned for half a minute; its caches hold the same synthetic world
in every codec. `nearest` is how many rows keep their nearest neighbour: drone rows among the tiles
of all places in slot 0 (what retrieval asks), and all rows among all others (four variations of one
picture lie close together). Rows/s are lookups of 1,024 random rows of 768 numbers over 8 files,
page cache warm, by one thread.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from clock import threads
from line import report
from teachers import (
    CPU,
    build,
    save_teacher,
    simulated_cache,
    simulated_shards,
    student_recipe,
    world_shards,
)

from data_shards.schema import View
from data_shards.shards import ShardSet
from distill.config import CodecName
from distill.teacher.cache import CacheKey, FeatureCache
from distill.teacher.codec import CODECS
from distill.teacher.source import LiveTeacher, audit, cache_key, load_teacher

SEED, SIZE, STEPS = 0, 64, 300
MUST = {"float32": 0.0, "float16": 1e-3, "int8": 1e-2}
MUST_NEAREST, MUST_ROWS_PER_S = 0.999, 1e6
LOOKUP, LOOKUPS, ROUNDS = 1024, 200, 5


def descriptors(
    folder: Path, shards: ShardSet, teacher: Path, codec: CodecName
) -> tuple[torch.Tensor, CacheKey]:
    """Build one cache, have the live teacher check it, and return all its descriptors."""
    config = student_recipe(
        shards, teacher, folder / codec, image_size=SIZE, teacher={"codec": codec}
    )
    build(config, shards)
    loaded = load_teacher(config, shards)
    key = cache_key(config, shards, loaded)
    cache = FeatureCache.open(folder / codec, shards=shards, key=key, recipe="")
    audit(cache, LiveTeacher(config, shards, loaded, CPU))
    rows = np.repeat(np.flatnonzero(shards.images.roles & 1), cache.slots)
    slots = np.tile(np.arange(cache.slots), len(rows) // cache.slots)
    return cache.lookup(rows, slots)["descriptor"].flatten(1), key


def nearest(
    unit: torch.Tensor, is_satellite: torch.Tensor, is_tile: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the nearest tile of each drone row, and the nearest other row of each row."""
    scores = unit.double() @ unit.double().T
    cross = scores[~is_satellite][:, is_tile].argmax(1)
    return cross, scores.fill_diagonal_(-2).argmax(1)


def rows_per_second(folder: Path, key: CacheKey) -> list[int]:
    """Return the lookups of 768-number rows by CPU second of one thread: median, least, most."""
    shards = simulated_shards(images=100_000, num_shards=8)
    cache = simulated_cache(folder, shards, key)
    random, rates = np.random.default_rng(SEED), []
    rows = random.integers(0, len(shards.images), (LOOKUPS, LOOKUP))
    slots = random.integers(0, cache.slots, (LOOKUPS, LOOKUP))
    for _ in range(ROUNDS + 1):  # the first brings the pages into memory
        started = time.process_time()
        for asked, at in zip(rows, slots, strict=True):
            cache.lookup(asked, at)
        rates.append(LOOKUP * LOOKUPS / (time.process_time() - started))
    return [round(pick(rates[1:])) for pick in (median, min, max)]


def main() -> int:
    """Compare the codecs on one world, and print one line."""
    value: dict[str, object] = {}
    passed = True
    with tempfile.TemporaryDirectory() as name, threads(1):
        folder = Path(name)
        shards = world_shards(folder, places=48, views=9, seed=SEED)
        teacher = save_teacher(
            folder / "teacher", shards, arch="convnext_micro", image_size=SIZE, num_steps=STEPS
        )
        exact, key = descriptors(folder, shards, teacher, "float32")
        train_rows = np.flatnonzero(shards.images.roles & 1)
        is_satellite = torch.from_numpy(
            np.repeat(
                shards.images.view[train_rows] == View.SATELLITE, len(exact) // len(train_rows)
            )
        )
        is_tile = is_satellite & (torch.arange(len(exact)) % (len(exact) // len(train_rows)) == 0)
        wanted = nearest(F.normalize(exact), is_satellite, is_tile)
        for codec in CODECS:
            found, key = descriptors(folder, shards, teacher, codec)
            error = (found - exact).norm(dim=1) / exact.norm(dim=1)
            kept = [
                round(float((mine == its).float().mean()), 5)
                for mine, its in zip(
                    nearest(F.normalize(found), is_satellite, is_tile), wanted, strict=True
                )
            ]
            wide = CacheKey(**vars(key) | {"outputs": {"descriptor": [1, 768]}})
            rates = rows_per_second(folder / f"wide-{codec}", wide)
            value[codec] = {
                "relative L2, mean and most": [
                    float(f"{x:.2g}") for x in (error.mean(), error.max())
                ],
                "nearest tile, nearest row": kept,
                "bytes per row of 768": wide.row.itemsize,
                "rows/s per core": rates,
            }
            passed &= float(error.mean()) <= MUST[codec] and min(kept) >= MUST_NEAREST
            passed &= codec != "float16" or rates[0] >= MUST_ROWS_PER_S
        value["rows"] = len(exact)
    must = f"relative L2 <= {MUST}, nearest >= {MUST_NEAREST}, float16 >= 1 M rows/s"
    return report("C3", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
