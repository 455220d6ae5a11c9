"""A small trained or newborn teacher over a world or photographs, and what builds its cache."""

import json
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tables import large_table

from data_shards.cli import shard, synth
from data_shards.manifest import ShardEntry, write_json
from data_shards.progress import show_progress
from data_shards.recipe import build_config
from data_shards.shards import ShardSet
from distill.cli import train
from distill.config import DistillConfig, ModelConfig
from distill.models import build_model
from distill.preemption import StopFlag
from distill.run_folder import open_run_folder
from distill.teacher.build import build_cache
from distill.teacher.cache import META_NAME, CacheKey, FeatureCache, cached_shards, rows_name
from distill.teacher.source import LiveTeacher, class_places, load_teacher
from distill.weights_file import TrainingData, save_weights

CPU = torch.device("cpu")


def world_shards(folder: Path, *, places: int, views: int, seed: int) -> ShardSet:
    """Render a synthetic world with so many training places and shard it."""
    counts = {"places": places, "views": views, "test-places": 2, "distractors": 1, "seed": seed}
    words = [f"--{name}={value}" for name, value in counts.items()]
    layout = "--layout=university1652"
    with redirect_stderr(StringIO()):
        synth([str(folder / "raw"), layout, "--image-size=128", *words])
        shard([str(folder / "raw"), str(folder / "shards"), layout])
    return ShardSet.open(folder / "shards")


def save_teacher(
    folder: Path, shards: ShardSet, *, arch: str, image_size: int, num_steps: int = 0
) -> Path:
    """Return the run folder of a teacher that was trained for so many steps, or never."""
    values = {
        "name": "teacher",
        "out": str(folder),
        "role": "teacher",
        "data": {
            "shards": str(shards.folder),
            "image_size": image_size,
            "global_batch": 16,
            "validation_fraction": 0.0,
        },
        "model": {"arch": arch, "weights": "none", "bottleneck": 0, "dropout": 0.0},
        "objectives": {
            "cross_entropy": {"weight": 0.2, "label_smoothing": 0.1},
            "info_nce": {"weight": 1.0, "temperature": 0.1},
        },
        "optimizer": {"learning_rate": 3e-3, "weight_decay": 0.02},
        "schedule": {"num_steps": max(num_steps, 10), "warmup_steps": 5},
        "tracking": {"uri": f"sqlite:///{folder.parent}/mlflow.db"},
    }
    if num_steps:
        recipe = folder.with_suffix(".json")
        recipe.write_text(json.dumps(values))
        assert train([str(recipe)]) == 0
        return folder
    config = build_config(DistillConfig, values, where="teacher")
    torch.manual_seed(0)
    places = list(class_places(shards))
    model = build_model(ModelConfig(arch=arch, weights="none"), num_places=len(places))
    paths = open_run_folder(config, world_size=1)
    named = replace(config, model=ModelConfig(arch=arch, weights="none"))
    save_weights(
        paths.weights,
        paths.card,
        model,
        named,
        places=places,
        trained_on=TrainingData.of(shards),
        step=0,
    )
    return folder


def student_recipe(
    shards: ShardSet, run: Path, cache: Path, *, image_size: int, **changes: Mapping[str, Any]
) -> DistillConfig:
    """Return the recipe whose cache is measured; `changes` are laid over its sections."""
    values: dict[str, Any] = {
        "role": "distilled",
        "data": {"shards": str(shards.folder), "image_size": image_size, "threads": 1},
        "augment": {"slots": 4},
        "teacher": {"run": str(run), "cache": str(cache)},
        "objectives": {"feature_distillation": {"weight": 1.0}},
    }
    for section, change in changes.items():
        values[section] = values.get(section, {}) | change
    return build_config(DistillConfig, values, where="benchmark")


def build(config: DistillConfig, shards: ShardSet) -> bool | None:
    """Fill the cache of a recipe on one thread, silently."""
    assert config.teacher.cache is not None
    with show_progress("caching", enabled=False) as progress:
        return build_cache(
            LiveTeacher(config, shards, load_teacher(config, shards), CPU),
            config.teacher.cache,
            threads=1,
            progress=progress,
            flag=StopFlag(),
        )


def simulated_shards(*, images: int, num_shards: int) -> ShardSet:
    """Return a table of so many images over so many tars, none of which exists."""
    table = large_table(np.full(images // 10, 9))
    entries = tuple(
        ShardEntry(
            name=f"train-drone-{number:04d}.tar", images=0, bytes=0, sha256="", index_sha256=""
        )
        for number in range(num_shards)
    )
    shard_of = np.arange(len(table.images)) * num_shards // len(table.images)
    manifest = replace(table.manifest, shards=entries)
    return ShardSet(table.folder, manifest, replace(table.images, shard=shard_of))


def simulated_cache(folder: Path, shards: ShardSet, key: CacheKey) -> FeatureCache:
    """Write a cache whose rows are holes of a sparse file, as long as real ones; open it."""
    folder.mkdir()
    described = cached_shards(shards, key.altitudes)
    slots = int(key.augment["slots"])
    for name, images in described.items():
        path = folder / rows_name(name)
        header = np.lib.format.header_data_from_array_1_0(np.empty(0, dtype=key.row))
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header | {"shape": (len(images), slots)})
            file.truncate(file.tell() + len(images) * slots * key.row.itemsize)
    meta = {
        "key": asdict(key),
        "digest": key.digest,
        "sha256": {rows_name(n): "" for n in described},
    }
    write_json(folder / META_NAME, meta | {"teacher": "none", "seconds": 1.0})
    return FeatureCache.open(folder, shards=shards, key=key, recipe="")
