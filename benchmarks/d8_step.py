"""Goal D8 (GPU): a training step with the real loader over one on a batch that lies on the device.

The student of T4 alone, at its size. The loader reads shards of as many places as a step has rows
and more, decodes, varies and sends; both runs take turns, and the first steps of each turn are not
timed, so that batches which were loaded meanwhile do not count. With a folder of shards in
SKYDISTILL_SHARDS, those are loaded; else photographs made for it, stored at the size of the model.
Judged: PFED's family `mean` with its photometric part on the device. `--toy` shrinks everything.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from c1_training import SEED, TOY, Scale, Trainer, unchanged
from clock import ratio
from line import report
from noise import DIFFERENT, shards_of
from photos import photograph

from data_shards.augment.config import AugmentConfig
from data_shards.loader import Batch, TrainLoader
from data_shards.planning.plan import Plan
from data_shards.shards import ShardSet
from data_shards.usable_cpus import usable_cpus
from distill.batches import on_device

MUST, MUST_RATE, VIEWS = 1.03, 3000, 4
UNTIMED = 4
"""Steps, more than the batches that a loader has ready."""

JUDGED = "mean, colours on the device"
FAMILIES = {JUDGED: AugmentConfig(family="mean", device=True), "light": AugmentConfig()}


def open_shards(folder: Path, *, image_size: int, places: int) -> ShardSet:
    """Return the user's shards, or photographs of one size."""
    if told := os.environ.get("SKYDISTILL_SHARDS"):
        return ShardSet.open(Path(told))
    pictures = [photograph(seed)[:image_size, :image_size] for seed in range(DIFFERENT)]
    encoded = [simplejpeg.encode_jpeg(np.ascontiguousarray(one), quality=95) for one in pictures]
    return shards_of(encoded, folder, places=places, views=VIEWS)


def loader(shards: ShardSet, scale: Scale, augment: AugmentConfig) -> TrainLoader:
    """Return the loader of one rank."""
    plan = Plan(shards, shards.train_places, seed=SEED, global_batch=scale.rows)
    return TrainLoader(
        shards,
        plan,
        augment=augment,
        image_size=scale.sizes[0],
        resampling="opencv-linear",
        rank=0,
        world_size=1,
        threads=usable_cpus(),
    )


def seconds_of(trainer: Trainer, scale: Scale, begin: Callable[[int], None]) -> float:
    """Return the seconds of a step, over `scale.steps` of them behind some that are not timed."""
    for number in range(UNTIMED):
        begin(number)
    trainer.wait()
    begun = time.perf_counter()
    for number in range(scale.steps):
        begin(number)
    trainer.wait()
    return (time.perf_counter() - begun) / scale.steps


def compared(
    trainer: Trainer, shards: ShardSet, scale: Scale, augment: AugmentConfig
) -> dict[str, Any]:
    """Return the seconds of both, which take turns."""
    num_steps = (scale.rounds + 1) * (UNTIMED + scale.steps)
    coming = loader(shards, scale, augment).batches(first_step=0, num_steps=num_steps)

    def loaded(_: int) -> None:
        planned: Batch = next(coming)
        batch = on_device(planned, train_places=shards.train_places, device=trainer.device)
        trainer.step_on(batch)

    def resident(number: int) -> None:
        trainer.train(number, unchanged)

    taken: dict[str, list[float]] = {"loaded": [], "resident": []}
    for number in range(scale.rounds + 1):  # the first warms up
        for name, begin in (("loaded", loaded), ("resident", resident)):
            seconds = seconds_of(trainer, scale, begin)
            taken[name] += [seconds] if number else []
    rate = 2 * scale.rows / sorted(taken["loaded"])[scale.rounds // 2]
    return {"loaded / resident": ratio(taken["loaded"], taken["resident"]), "img/s": round(rate)}


def main() -> int:
    """Compare every family, and print one line."""
    is_toy, has_gpu = "--toy" in sys.argv[1:], torch.cuda.is_available()
    if not (has_gpu or is_toy):
        print("D8 needs a CUDA device, and there is none here", file=sys.stderr)
        return 0
    scale = replace(TOY, rounds=1) if is_toy else replace(Scale(), steps=10, rounds=3)
    device = torch.cuda.get_device_name() if has_gpu else "cpu"
    value: dict[str, object] = {"device": device, "toy": is_toy, "threads": usable_cpus()}
    trainer = Trainer(scale, image_size=scale.sizes[0], teacher=None)
    with tempfile.TemporaryDirectory() as folder:
        places = 2 * scale.rows
        shards = open_shards(Path(folder), image_size=scale.sizes[0], places=places)
        found = {name: compared(trainer, shards, scale, one) for name, one in FAMILIES.items()}
    judged = found[JUDGED]
    passed = judged["loaded / resident"]["median"] <= MUST and judged["img/s"] >= MUST_RATE
    must = f"{JUDGED}: <= {MUST} at >= {MUST_RATE} img/s"
    code = report("D8", value=value | found, must=must, passed=passed, seed=SEED)
    return 0 if is_toy else code


if __name__ == "__main__":
    sys.exit(main())
