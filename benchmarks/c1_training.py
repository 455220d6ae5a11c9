"""Goals C1 and C2 (CPU), T4 and C7 (GPU): what a teacher cache saves, and images a second.

The step is ours as `distill/train.py` takes it (model, terms, gradients, GroupedOptimizer), on a
GPU in bf16 with the backbone compiled; pixels lie on the device, the loader has its own goals. The
cache is a memory-mapped file of rows, read by number, decoded and sent to the device in every
step; its rows are the outputs of the very teacher that runs live, which is shown before anything
is timed. A cached step has two terms more than one of the student alone.

C2 compares with what cannot be beaten: on reuse S_max = (T_s + T_t) / T_s, in a first run of E
epochs over K slots (1 + r) / (1 + r K / E), where r = T_t / T_s is measured in the same run.

`--bicrossnet` takes BNext-T and a ConvNeXt-T of that method. `--toy` shrinks everything: it shows
that the script is right, and its times mean nothing.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from line import report

from distill.batches import DeviceBatch
from distill.config import DistillConfig, ModelConfig, ObjectivesConfig, TeacherConfig
from distill.config.objectives import (
    CrossEntropyConfig,
    FeatureDistillationConfig,
    InfoNceConfig,
    LogitDistillationConfig,
    TripletConfig,
)
from distill.methods import METHODS
from distill.models import RetrievalModel, to_device
from distill.optim import GroupedOptimizer
from distill.step import DistillStep, weigh
from distill.teacher.codec import CODECS
from distill.teacher.source import freeze, teacher_outputs

PLACES, SEED, NUM_BATCHES = 701, 0, 4
EPOCHS, SLOTS = 10, 2
T4_MUST, C1_MUST, C2_MUST = {224: 3000, 384: 1000}, 1.05, 0.95


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large everything is."""

    method: Literal["pfed", "bicrossnet"] = "pfed"
    arch: str = "convnext_tiny"
    teachers: tuple[str, ...] = ("vit_base_patch14_dinov2", "vit_large_patch14_dinov2")
    sizes: tuple[int, ...] = (224, 384)
    rows: int = 128
    warm_up: int = 6
    steps: int = 12
    rounds: int = 5


CPU = Scale(
    teachers=("vit_small_patch14_dinov2",), sizes=(224,), rows=16, warm_up=1, steps=1, rounds=5
)

BICROSSNET: dict[str, Any] = {
    "method": "bicrossnet",
    "arch": "bnext_tiny",
    "teachers": ("convnext_tiny",),
}

TOY = Scale(
    arch="convnext_micro",
    teachers=("convnext_milli",),
    sizes=(64,),
    rows=4,
    warm_up=1,
    steps=1,
    rounds=1,
)


def objectives(method: str, *, is_taught: bool) -> ObjectivesConfig:
    """Return the terms of a student alone, or of one that is taught."""
    weight = 1.0 if is_taught else 0.0
    if method == "bicrossnet":
        return ObjectivesConfig(
            cross_entropy=CrossEntropyConfig(weight=1.0),
            triplet=TripletConfig(weight=1.0),
            logit_distillation=LogitDistillationConfig(weight=2 * weight),
        )
    return ObjectivesConfig(
        cross_entropy=CrossEntropyConfig(weight=1.0),
        info_nce=InfoNceConfig(weight=1.0),
        logit_distillation=LogitDistillationConfig(weight=weight),
        feature_distillation=FeatureDistillationConfig(weight=weight),
    )


class Trainer:
    """One student and its step, as a session has them."""

    def __init__(self, scale: Scale, *, image_size: int, teacher: RetrievalModel | None) -> None:
        is_taught = teacher is not None
        if has_gpu := torch.cuda.is_available():
            torch.set_num_threads(1)  # as a session does
        self.config = DistillConfig(
            precision="bf16" if has_gpu else "fp32",
            method=scale.method,
            role="distilled" if is_taught else "alone",
            model=ModelConfig(arch=scale.arch, weights="none"),
            objectives=objectives(scale.method, is_taught=is_taught),
            teacher=TeacherConfig(run=Path("unused"), source="live"),
        )
        self.accelerator = Accelerator(cpu=not has_gpu)
        self.device, method = self.accelerator.device, METHODS[scale.method]
        torch.manual_seed(SEED)
        model = to_device(method.build(self.config.model, num_places=PLACES), self.device)
        if has_gpu:
            torch.compiler.reset()  # what another size or model has left would make shapes dynamic
            backbone: Any = model.backbone
            backbone.forward_intermediates = torch.compile(
                backbone.forward_intermediates, dynamic=False
            )
        step = DistillStep(
            self.config, method, model, teacher=teacher.shapes if teacher else None
        ).to(self.device)
        groups = method.groups(step, self.config)
        optimizer = GroupedOptimizer(groups, order=step.parameters(), max_grad_norm=1.0)
        self.step, self.optimizer = self.accelerator.prepare(step, optimizer)
        self.batches = [self.batch(number, scale.rows, image_size) for number in range(NUM_BATCHES)]

    def batch(self, number: int, rows: int, image_size: int) -> DeviceBatch:
        """Return random pixels on the device, one drone view a row."""
        numbers = torch.Generator().manual_seed(number)
        shape = (2 * rows, image_size, image_size, 3)
        images = torch.randint(0, 256, shape, generator=numbers, dtype=torch.uint8).to(self.device)
        place = torch.randperm(PLACES, generator=numbers)[:rows].to(self.device)
        keys = np.arange(2 * rows) + 2 * rows * number
        return DeviceBatch(
            step=0,
            satellite=images[:rows],
            drone=images[rows:],
            teacher_satellite=images[:rows],
            teacher_drone=images[rows:],
            place=place,
            keys=keys,
            slots=np.zeros_like(keys),
        )

    def train(self, number: int, ask: Callable[[DeviceBatch], DeviceBatch]) -> None:
        """Take one step of the loop on a batch that lies on the device."""
        self.step_on(ask(self.batches[number % NUM_BATCHES]))

    def step_on(self, batch: DeviceBatch) -> None:
        """Take one step of the loop."""
        terms, _ = self.step(batch, list(self.config.objectives.weights))
        total = weigh(terms, self.config.objectives.weights)
        self.accelerator.backward(total)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def seconds(self, scale: Scale, ask: Callable[[DeviceBatch], DeviceBatch]) -> float:
        """Return the seconds of a step, over `scale.steps` of them."""
        self.wait()
        begun = time.perf_counter()
        for number in range(scale.steps):
            self.train(number, ask)
        self.wait()
        return (time.perf_counter() - begun) / scale.steps

    def wait(self) -> None:
        """Return when the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def unchanged(batch: DeviceBatch) -> DeviceBatch:
    """Ask no teacher."""
    return batch


def by_turns(
    scale: Scale, runs: dict[str, tuple[Trainer, Callable[[DeviceBatch], DeviceBatch]]]
) -> dict[str, list[float]]:
    """Return the seconds of a step of every run, once a round."""
    for trainer, ask in runs.values():
        for number in range(scale.warm_up):
            trainer.train(number, ask)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(scale.rounds):
        for name, (trainer, ask) in runs.items():
            seconds[name].append(trainer.seconds(scale, ask))
    return seconds


def speed(scale: Scale) -> dict[str, dict[str, int]]:
    """Return images a second of a student alone, at every size."""
    found = {}
    for size in scale.sizes:
        trainer = Trainer(scale, image_size=size, teacher=None)
        seconds = by_turns(scale, {"alone": (trainer, unchanged)})["alone"]
        rates = sorted(round(2 * scale.rows / one) for one in seconds)
        found[str(size)] = {
            "img/s": round(median(rates)),
            "least": rates[0],
            "most": rates[-1],
        }
    return found


class Taught:
    """A teacher and its cache, as two ways to ask for the same outputs."""

    def __init__(
        self, scale: Scale, trainer: Trainer, teacher: RetrievalModel, folder: Path
    ) -> None:
        self.teacher, self.device = to_device(teacher, trainer.device), trainer.device
        self.codec, self.shapes = CODECS["float16"], METHODS[scale.method].teacher_outputs(teacher)
        self.live(trainer.batches[0])  # what a first pass alone pays
        trainer.wait()
        begun = time.perf_counter()
        num_rows = sum(len(batch.keys) for batch in trainer.batches)
        rows = np.lib.format.open_memmap(
            folder / "rows.npy", mode="w+", dtype=self.codec.dtype(self.shapes), shape=(num_rows,)
        )
        for batch in trainer.batches:
            rows[batch.keys] = self.codec.encode(self.live(batch).teacher)
        rows.flush()
        trainer.wait()
        self.build_seconds = (time.perf_counter() - begun) / NUM_BATCHES
        """Of the outputs of one batch, in one slot."""
        self.rows = np.load(folder / "rows.npy", mmap_mode="r")

    def live(self, batch: DeviceBatch) -> DeviceBatch:
        """Run the teacher."""
        images = torch.cat([batch.teacher_satellite, batch.teacher_drone])
        precision = "bf16" if self.device.type == "cuda" else "fp32"
        said = teacher_outputs(self.teacher, images, self.shapes, precision=precision)
        return replace(batch, teacher=said)

    def cached(self, batch: DeviceBatch) -> DeviceBatch:
        """Read what it said."""
        return replace(batch, teacher=self.codec.decode(self.rows[batch.keys], self.device))

    def assert_alike(self, batch: DeviceBatch) -> None:
        """Compare both."""
        said, kept = self.live(batch).teacher, self.cached(batch).teacher
        for name, values in said.items():
            error = float((values - kept[name]).norm() / values.norm())
            assert error < 1e-3, f"{name} of the cache is off by {error}"

    def seconds(self, scale: Scale, trainer: Trainer) -> float:
        """Return the seconds that the teacher alone takes over a batch."""
        taken = []
        for _ in range(scale.rounds):
            trainer.wait()
            begun = time.perf_counter()
            for batch in trainer.batches:
                self.live(batch)
            trainer.wait()
            taken.append((time.perf_counter() - begun) / NUM_BATCHES)
        return median(taken)


def saved(scale: Scale, arch: str, folder: Path) -> dict[str, Any]:
    """Return what the cache of one teacher saves, from runs that take turns."""
    bottleneck = 512 if scale.method == "bicrossnet" else 0
    config = ModelConfig(arch=arch, weights="none", bottleneck=bottleneck)
    teacher = METHODS[scale.method].build(config, num_places=PLACES)
    freeze(teacher)
    alone = Trainer(scale, image_size=scale.sizes[0], teacher=None)
    trainer = Trainer(scale, image_size=scale.sizes[0], teacher=teacher)
    taught = Taught(scale, trainer, teacher, folder)
    for batch in trainer.batches:
        taught.assert_alike(batch)
    runs: dict[str, tuple[Trainer, Callable[[DeviceBatch], DeviceBatch]]] = {
        "alone": (alone, unchanged),
        "cached": (trainer, taught.cached),
        "live": (trainer, taught.live),
    }
    seconds = by_turns(scale, runs)
    step = {name: median(values) for name, values in seconds.items()}
    of_teacher = taught.seconds(scale, trainer)
    most = (step["cached"] + of_teacher) / step["cached"]
    pairs = zip(seconds["cached"], seconds["alone"], strict=True)
    ratio = of_teacher / step["cached"]
    first = EPOCHS * step["live"] / (SLOTS * taught.build_seconds + EPOCHS * step["cached"])
    formula = (1 + ratio) / (1 + ratio * SLOTS / EPOCHS)
    return {
        "ms": {name: round(1000 * value, 2) for name, value in step.items()},
        "teacher ms": round(1000 * of_teacher, 2),
        "C1 cached / alone": round(median(cached / without for cached, without in pairs), 3),
        "live / cached": round(step["live"] / step["cached"], 3),
        "S_max": round(most, 3),
        "C2 of S_max": round(step["live"] / step["cached"] / most, 3),
        f"first run, E={EPOCHS} K={SLOTS}": round(first, 3),
        "C2 of the formula": round(first / formula, 3),
    }


def main() -> int:
    """Print one line per goal."""
    has_gpu, is_toy = torch.cuda.is_available(), "--toy" in sys.argv[1:]
    scale = TOY if is_toy else Scale() if has_gpu else CPU
    if "--bicrossnet" in sys.argv[1:]:
        scale = replace(scale, **BICROSSNET)
        if is_toy:
            scale = replace(scale, arch="bnext_micro", teachers=("convnext_milli",))
    device = torch.cuda.get_device_name() if has_gpu else f"{torch.get_num_threads()} CPU threads"
    facts = {"device": device, "torch": torch.__version__, "rows": scale.rows, "toy": is_toy}
    facts["method"] = scale.method
    codes = []
    if (has_gpu or is_toy) and scale.method == "pfed":
        rates = speed(scale)
        holds = all(rate["img/s"] >= T4_MUST.get(int(size), 0) for size, rate in rates.items())
        must = {f"img/s at {size}": rate for size, rate in T4_MUST.items()}
        codes.append(report("T4", value=facts | rates, must=must, passed=holds, seed=SEED))
    with tempfile.TemporaryDirectory() as folder:
        found = {arch: saved(scale, arch, Path(folder)) for arch in scale.teachers}
    first = found[scale.teachers[0]]
    holds = (
        first["C1 cached / alone"] <= C1_MUST
        and min(first["C2 of S_max"], first["C2 of the formula"]) >= C2_MUST
    )
    words = f"cached / alone <= {C1_MUST}, both speed-ups >= {C2_MUST} of their bounds"
    goal = "C7" if has_gpu else "C1 and C2"
    codes.append(report(goal, value=facts | found, must=words, passed=holds, seed=SEED))
    return 0 if is_toy else max(codes)


if __name__ == "__main__":
    sys.exit(main())
