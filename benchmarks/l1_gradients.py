"""Goal L1: gradients of 2, 4 and 8 ranks against those of one process that sees the whole batch.

Through DDP as accelerate makes it, for each term that looks at other ranks or at a teacher, and
for rows that share their places (several positives). The value is the largest difference, as a
fraction of the largest gradient.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from line import report
from ranks import on_ranks

from distill import step as steps
from distill.batches import DeviceBatch
from distill.config import DistillConfig, ModelConfig, ObjectivesConfig, TeacherConfig
from distill.config.objectives import (
    FeatureDistillationConfig,
    InfoNceConfig,
    LogitDistillationConfig,
    TripletConfig,
)
from distill.methods import METHODS
from distill.models import Outputs, build_model, normalize
from distill.session import join_ranks

MUST = {torch.float64: 1e-12, torch.float32: 1e-5}
ROWS, DRONES, PLACES, SIZE, WIDTH, SEED = 16, 2, 20, 32, 24, 0
TERMS = {
    "info_nce": ObjectivesConfig(info_nce=InfoNceConfig(weight=1.0)),
    "triplet": ObjectivesConfig(triplet=TripletConfig(weight=1.0)),
    "distillation": ObjectivesConfig(
        logit_distillation=LogitDistillationConfig(weight=1.0),
        feature_distillation=FeatureDistillationConfig(weight=1.0),
    ),
}
CASES = {(name, ROWS): name for name in TERMS} | {("several positives", 5): "info_nce"}
"""Name and number of different places in the batch, to the terms."""


def whole_batch(num_places: int, dtype: torch.dtype) -> DeviceBatch:
    """Return the images of a global batch, and what a teacher says of them."""
    numbers = torch.Generator().manual_seed(SEED)
    views = ROWS * (1 + DRONES)
    images = torch.randint(0, 256, (views, SIZE, SIZE, 3), generator=numbers, dtype=torch.uint8)
    shapes = {"descriptor": (1, WIDTH), "logits": (PLACES,)}
    return DeviceBatch(
        step=0,
        satellite=images[:ROWS],
        drone=images[ROWS:],
        place=torch.arange(ROWS) % num_places,
        teacher_satellite=images[:ROWS],
        teacher_drone=images[ROWS:],
        keys=np.arange(views),
        slots=np.zeros(views, dtype=np.int64),
        teacher=Outputs(
            (name, torch.randn(views, *shape, generator=numbers).to(dtype))
            for name, shape in shapes.items()
        ),
    )


def own_part(whole: DeviceBatch, rank: int, world: int) -> DeviceBatch:
    """Return the rows of one rank."""
    own = slice(rank * ROWS // world, (rank + 1) * ROWS // world)
    views = slice(own.start * DRONES, own.stop * DRONES)
    return replace(
        whole,
        satellite=whole.satellite[own],
        drone=whole.drone[views],
        place=whole.place[own],
        keys=np.r_[whole.keys[own], whole.keys[ROWS:][views]],
        teacher=whole.teacher.map(lambda said: torch.cat([said[own], said[ROWS:][views]])),
    )


def make_step(objectives: ObjectivesConfig, dtype: torch.dtype) -> steps.DistillStep:
    """Return the same step on every rank."""
    torch.manual_seed(SEED)
    model = ModelConfig(arch="convnext_micro", weights="none", bottleneck=0, dropout=0.0)
    config = DistillConfig(
        role="distilled" if objectives.needs_teacher else "alone",
        model=model,
        objectives=objectives,
        teacher=TeacherConfig(run=Path("unused"), source="live"),
    )
    shapes = {"descriptor": (1, WIDTH), "logits": (PLACES,)}
    network = build_model(model, num_places=PLACES)
    step = steps.DistillStep(config, METHODS["pfed"], network, teacher=shapes)
    return step.eval().to(dtype)  # batch statistics are each rank's own


def errors() -> dict[tuple[str, torch.dtype], float]:
    """Return the error of each case on this rank."""
    accelerator, found = join_ranks(), {}
    for dtype in MUST:
        for (name, num_places), terms in CASES.items():
            objectives = TERMS[terms]
            weights, whole = objectives.weights, whole_batch(num_places, dtype)
            alone = make_step(objectives, dtype)
            together = accelerator.prepare(make_step(objectives, dtype))
            part = own_part(whole, accelerator.process_index, accelerator.num_processes)
            with mock.patch.object(steps, "normalize", lambda x, to=dtype: normalize(x).to(to)):
                accelerator.backward(steps.weigh(together(part, list(weights))[0], weights))
                with mock.patch.object(steps, "gather_with_grad", lambda tensor: tensor):
                    steps.weigh(alone(whole, list(weights))[0], weights).backward()
            pairs = list(gradient_pairs(accelerator.unwrap_model(together), alone))
            largest = max(float(expected.abs().max()) for _, expected in pairs)
            worst = max(float((seen - expected).abs().max()) for seen, expected in pairs)
            assert largest > 0, "nothing learns"
            found[name, dtype] = worst / largest
    accelerator.wait_for_everyone()
    return found


def gradient_pairs(
    together: torch.nn.Module, alone: torch.nn.Module
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the gradients of the same parameter."""
    for one, other in zip(together.parameters(), alone.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), "one of them has no gradient"
        if one.grad is not None and other.grad is not None:
            yield one.grad, other.grad


def main() -> int:
    """Compare at every number of ranks, and print one line."""
    worlds = (2,) if "--toy" in sys.argv else (2, 4, 8)
    value: dict[str, dict[str, float]] = {}
    passed = True
    for world in worlds:
        for found in on_ranks(world, errors):
            for (name, dtype), error in found.items():
                key = f"{name}, {str(dtype)[6:]}"
                cases = value.setdefault(f"{world} ranks", {})
                cases[key] = max(cases.get(key, 0.0), float(f"{error:.1e}"))
                passed = passed and error <= MUST[dtype]
    must = "<= 1e-12 in float64, <= 1e-5 in float32, of the largest gradient"
    return report("L1", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
