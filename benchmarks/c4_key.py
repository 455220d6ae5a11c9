"""Goal C4: whatever could change a number in a cache is a miss, and nothing else is.

Every mutation is made for real (one byte of the weight file, one byte of one raw picture that is
sharded again, one word of the recipe) but for versions of code and libraries, which stand in the
key as words. Before that the live teacher checks the rows (`audit`).
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from clock import threads
from line import report
from photos import write_raw
from teachers import CPU, build, save_teacher, student_recipe

from data_shards.cli import shard
from data_shards.errors import CacheError
from data_shards.shards import ShardSet
from distill.config import DistillConfig
from distill.run_folder import RunPaths
from distill.teacher.cache import CacheKey, FeatureCache
from distill.teacher.source import LiveTeacher, audit, cache_key, load_teacher

SEED, SIZE, BYTES = 0, 32, 8

RECIPE: dict[str, list[dict[str, Any]]] = {
    "augmentation": [
        {"augment": {name: value}}
        for name, value in {
            "family": "mean",
            "slots": 5,
            "seed": 1,
            "flip_probability": 0.4,
            "satellite_quarter_turns": False,
            "min_crop_area": 0.7,
            "brightness": 0.1,
            "contrast": 0.1,
            "saturation": 0.1,
        }.items()
    ],
    "decoder": [
        {"data": {"resampling": name}}
        for name in ("opencv-area", "pillow-bilinear", "pillow-bicubic")
    ],
    "codec": [{"teacher": {"codec": name}} for name in ("float32", "int8")],
}


def is_hit(config: DistillConfig, shards: ShardSet, **changed: object) -> bool:
    """Return whether the cache that a recipe names is its own, with these words of the key."""
    key = replace(cache_key(config, shards, load_teacher(config, shards)), **changed)  # type: ignore[arg-type]
    return opens(config, shards, key)


def opens(config: DistillConfig, shards: ShardSet, key: CacheKey) -> bool:
    """Return whether the cache opens as `key`."""
    try:
        FeatureCache.open(config.teacher.cache or Path(), shards=shards, key=key, recipe="")
    except CacheError as error:
        # Rows of images that were replaced are made anew: their cache is not finished.
        assert any(word in str(error) for word in ("made from another", "no finished")), error
        return False
    return True


def other_weights(folder: Path, teacher: Path) -> Iterator[Path]:
    """Yield copies of a teacher in which one byte of one tensor is another."""
    random = np.random.default_rng(SEED)
    for number in range(BYTES):
        other = folder / f"teacher-{number}"
        shutil.copytree(teacher, other)
        content = bytearray(RunPaths(other).weights.read_bytes())
        first = 8 + int.from_bytes(content[:8], "little")  # behind the names of the tensors
        content[int(random.integers(first, len(content)))] ^= 1 << int(random.integers(8))
        RunPaths(other).weights.write_bytes(content)
        yield other


def other_shards(folder: Path, raw: Path) -> Iterator[ShardSet]:
    """Yield shards of the same pictures, but for one byte of one that is trained on."""
    pictures = sorted((raw / "train").rglob("*.jp*g"))
    random = np.random.default_rng(SEED)
    for number in range(BYTES):
        path = pictures[int(random.integers(len(pictures)))]
        before = path.read_bytes()
        content = bytearray(before)
        content[int(random.integers(len(content) // 2, len(content) - 64))] ^= 1
        path.write_bytes(content)
        shard([str(raw), str(folder / f"shards-{number}"), "--layout=university1652"])
        path.write_bytes(before)
        yield ShardSet.open(folder / f"shards-{number}")


def main() -> int:
    """Mutate one thing after the other, and print one line."""
    with tempfile.TemporaryDirectory() as name, threads(1):
        folder = Path(name)
        raw = write_raw(folder / "raw", places=2, views=3)
        shard([str(raw), str(folder / "shards"), "--layout=university1652"])
        shards = ShardSet.open(folder / "shards")
        teacher = save_teacher(folder / "teacher", shards, arch="convnext_micro", image_size=SIZE)

        def recipe(run: Path = teacher, **changes: Any) -> DistillConfig:
            return student_recipe(shards, run, folder / "cache", image_size=SIZE, **changes)

        config = recipe()
        assert build(config, shards)
        loaded = load_teacher(config, shards)
        key = cache_key(config, shards, loaded)
        cache = FeatureCache.open(folder / "cache", shards=shards, key=key, recipe="")
        audit(cache, LiveTeacher(config, shards, loaded, CPU))
        words: dict[str, dict[str, Any]] = {
            "code": {"version": -1, "augment_version": -1, "preprocessing": "none"},
            "output layer": {"outputs": {"descriptor": [1, 192]}},
            "image size": {"image_size": 2 * SIZE},
        }
        libraries = [key.libraries | {library: "0"} for library in key.libraries]
        hits = {
            "weight byte": [is_hit(recipe(run), shards) for run in other_weights(folder, teacher)],
            "image byte": [is_hit(config, other) for other in other_shards(folder, raw)],
            **{
                what: [is_hit(recipe(**change), shards) for change in changes]
                for what, changes in RECIPE.items()
            },
            **{
                what: [is_hit(config, shards, **{word: value}) for word, value in changed.items()]
                for what, changed in words.items()
            },
            "library": [is_hit(config, shards, libraries=changed) for changed in libraries],
        }
        shutil.copytree(folder / "shards", folder / "elsewhere")
        shutil.copytree(teacher, folder / "teacher elsewhere")
        nothing = [
            is_hit(recipe(), ShardSet.open(folder / "shards")),
            is_hit(recipe(), ShardSet.open(folder / "elsewhere")),
            is_hit(recipe(folder / "teacher elsewhere"), shards),
            is_hit(recipe(data={"threads": 2, "global_batch": 8}), shards),
            not build(config, shards),
        ]
    value: dict[str, object] = {
        f"{what}: misses of": [len(found) - sum(found), len(found)] for what, found in hits.items()
    }
    value["nothing: hits of"] = [sum(nothing), len(nothing)]
    passed = all(nothing) and not any(hit for found in hits.values() for hit in found)
    return report("C4", value=value, must="every miss, every hit", passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
