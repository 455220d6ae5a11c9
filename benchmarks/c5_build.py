"""Goal C5: building a cache against the bare teacher forward of the same images; kill -9 meanwhile.

The bare forward, which has all images in memory as tensors, computes on one thread; the build
decodes, varies, computes (one thread each), encodes, writes and hashes. First the rows are compared
with those of the bare forward. Then a build is killed outright when its second file has begun, and
started again: it must end in the same bytes and leave the first file alone.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import median

import numpy as np
import torch
from clock import interleaved, ratios, threads
from line import report
from photos import write_all
from teachers import CPU, build, save_teacher, student_recipe

from data_shards.loader import image_batches, slot_variations
from data_shards.recipe import to_values
from data_shards.shards import ShardSet
from distill.config import DistillConfig
from distill.models import normalize, to_device
from distill.teacher.cache import FeatureCache, cached_shards
from distill.teacher.source import CPU_BATCH, cache_key, load_teacher, teacher_outputs

SEED, MUST, SIZE, ARCH = 0, 0.9, 128, "convnext_atto"
ROUNDS = 5
ROOT = Path(__file__).parents[1]


def varied_batches(config: DistillConfig, shards: ShardSet) -> Iterator[torch.Tensor]:
    """Yield the pixels of all rows, file after file, in the batches of the build."""
    slots = config.augment.slots
    for images_there in cached_shards(shards, config.data.altitudes).values():
        rows = np.repeat(images_there, slots)
        variations = slot_variations(
            shards,
            config.augment,
            rows,
            np.tile(np.arange(slots), len(images_there)),
        )
        for _, images in image_batches(
            shards,
            rows,
            image_size=SIZE,
            resampling=config.data.resampling,
            batch_size=CPU_BATCH,
            threads=1,
            variations=variations.__getitem__,
        ):
            yield torch.from_numpy(images.copy())


def rows_of(config: DistillConfig) -> dict[str, bytes]:
    """Return the bytes of every file of rows."""
    folder = config.teacher.cache or Path()
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npy"))}


def kill_and_resume(config: DistillConfig, recipe: Path, wanted: dict[str, bytes]) -> int:
    """Kill a build behind its first file of rows; return how many finished files were redone."""
    folder = config.teacher.cache or Path()
    recipe.write_text(json.dumps(to_values(config)))
    job = subprocess.Popen(
        [sys.executable, ROOT / "distill/cache.py", recipe],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (list(folder.glob("*.npy")) and list(folder.glob("*.partial"))):
        assert job.poll() is None, "the build ended before it was killed"
        time.sleep(0.002)
    time.sleep(0.2)
    job.kill()
    job.wait()
    assert not (folder / "cache.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*.npy")}
    subprocess.run([sys.executable, ROOT / "distill/cache.py", recipe], check=True)
    assert rows_of(config) == wanted
    return sum(path.stat().st_mtime_ns != written for path, written in kept.items())


def main() -> int:
    """Prove equality, time build and forward in turn, kill a build, and print one line."""
    with tempfile.TemporaryDirectory() as name, threads(1):
        folder = Path(name)
        shards = write_all(folder, places=8, views=15)(2 * SIZE)
        teacher = save_teacher(folder / "teacher", shards, arch=ARCH, image_size=SIZE)
        config = student_recipe(
            shards, teacher, folder / "cache", image_size=SIZE, teacher={"codec": "float32"}
        )
        assert build(config, shards)
        loaded = load_teacher(config, shards)
        model, key = to_device(loaded.model, CPU), cache_key(config, shards, loaded)
        batches = list(varied_batches(config, shards))
        cache = FeatureCache.open(folder / "cache", shards=shards, key=key, recipe="")
        rows = cache.described
        stored = cache.lookup(rows.repeat(cache.slots), np.tile(np.arange(cache.slots), len(rows)))
        said = [
            teacher_outputs(model, images, list(stored), precision="fp32") for images in batches
        ]
        for output, values in stored.items():
            assert torch.equal(values, torch.cat([part[output] for part in said]))
        numbers = count()

        def build_anew() -> None:
            target = folder / f"cache-{next(numbers)}"
            assert build(replace(config, teacher=replace(config.teacher, cache=target)), shards)

        def forward() -> None:
            with torch.no_grad():
                for images in batches:
                    model(normalize(images))

        seconds = interleaved({"forward": forward, "build": build_anew}, rounds=ROUNDS)
        speed = ratios(seconds["forward"], seconds["build"])
        killed = replace(config, teacher=replace(config.teacher, cache=folder / "killed"))
        redone = kill_and_resume(killed, folder / "recipe.json", rows_of(config))
    value = {
        "build / bare forward": speed,
        "rows": len(rows) * cache.slots,
        "rows/s": round(len(rows) * cache.slots / median(seconds["build"]["wall"]), 1),
        "finished files redone after kill -9": redone,
    }
    passed = speed["wall"]["median"] >= MUST and redone == 0
    return report("C5", value=value, must=f">= {MUST} by wall, 0", passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
