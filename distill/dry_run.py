"""What a training would be and take: no GPU is touched, no image read, nothing written."""

import json
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch._subclasses import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from data_shards.planning.place_views import held_out_places
from data_shards.planning.plan import ranks_share
from data_shards.recipe import to_values
from data_shards.shards import ShardSet
from distill.batches import DeviceBatch
from distill.config import DistillConfig
from distill.inputs import make_plan, open_without_images
from distill.launched import launched_rank, launched_world_size, log_on_rank_zero
from distill.methods import METHODS
from distill.models import Outputs, Shapes, to_device
from distill.models.weights import require_weights
from distill.optim import RULES
from distill.run_folder import refuse_other_recipe
from distill.step import DistillStep, weigh
from distill.teacher.build import REMEDY
from distill.teacher.cache import is_finished
from distill.teacher.source import cache_key, class_places, load_teacher


def dry_train(
    config: DistillConfig,
    *,
    as_json: bool,
    make_probes: Callable[[DistillConfig, ShardSet], object],
) -> None:
    """Print the resolved recipe and what training would do and take; write nothing.

    Raises:
        SkyDistillError: training would end with this sentence.
    """
    shards, data = open_without_images(config.data), config.data
    plan = make_plan(config, shards)
    make_probes(config, shards)
    refuse_other_recipe(config)
    world = config.expected_world_size or launched_world_size()
    rows = ranks_share(global_batch=data.global_batch, world_size=world)
    steps_per_epoch = plan.steps_per_epoch * data.crops_per_decode
    held_out = held_out_places(shards, fraction=data.validation_fraction, seed=data.validation_seed)
    key, digests = None, {"shards": shards.fingerprint}
    if config.objectives.needs_teacher:
        key = cache_key(config, shards, load_teacher(config, shards))
        digests |= {"teacher weights": key.teacher_sha256}
        if config.teacher.source == "cache":
            digests["teacher cache"] = key.digest
            folder = config.teacher.cache or Path()
            if not is_finished(folder, key, remedy=REMEDY, plan=shards.plan_digest):
                log_on_rank_zero(f"{folder} holds no teacher cache yet; run skydistill cache")
    if config.start is None:
        require_weights(config.model)
    memory = memory_of_a_rank(config, shards, key.shapes if key else None, rows=rows)
    checkpoint = memory["weights"] + memory["moments"]
    facts: dict[str, Any] = {
        "ranks": world,
        "global_batch": data.global_batch,
        "rows_per_rank": rows,
        "places": len(plan.places),
        "held_out_places": len(held_out),
        "steps": config.schedule.num_steps,
        "epochs": round(config.schedule.num_steps / steps_per_epoch, 1),
        "steps_per_epoch": steps_per_epoch,
        "run_folder": str(config.run_folder),
        "fingerprints": digests,
        "bytes_of_a_rank": memory | {"together": sum(memory.values())},
        "bytes_on_disk": {
            "checkpoints": (config.keep_checkpoints + 1) * checkpoint,  # one more while it is saved
            "weights": memory["weights"],
        },
    }
    if launched_rank() != 0:
        return
    if as_json:
        sys.stdout.write(json.dumps({"recipe": to_values(config)} | facts, default=str) + "\n")
        return
    sys.stdout.write(yaml.safe_dump(to_values(config), sort_keys=False))
    for name in ("bytes_of_a_rank", "bytes_on_disk"):
        facts[name] = {part: f"{size / 2**20:,.1f} MiB" for part, size in facts[name].items()}
    told = yaml.safe_dump(facts, sort_keys=False)
    log_on_rank_zero(f"would train (memory is without ZeRO):\n{told}")


def memory_of_a_rank(
    config: DistillConfig, shards: ShardSet, teacher: Shapes | None, *, rows: int
) -> dict[str, int]:
    """Return the bytes that torch holds at most in a training step of one rank, by what they are.

    A step is made of tensors without numbers: every operation tells the sizes of its results, and
    nothing is computed. A live teacher, images that wait and buffers of libraries are not counted.
    """
    method, data = METHODS[config.method], config.data
    config, device = config.with_width_of(teacher), torch.device("cpu")
    model = replace(config.model, weights="none")
    network = to_device(method.build(model, num_places=len(class_places(shards))), device)
    step = DistillStep(config, method, network, teacher=teacher)
    groups = method.groups(step, config)
    rows = min(rows, data.micro_batch or rows)
    weights = config.objectives.weights
    tensors, drones = step.state_dict(keep_vars=True), rows * data.drones_per_row
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        fakes: dict[str, torch.Tensor] = {
            name: fake.from_tensor(tensor) for name, tensor in tensors.items()
        }
        tiles, views = (
            torch.zeros(count, data.image_size, data.image_size, 3, dtype=torch.uint8)
            for count in (rows, drones)
        )
        said = {name: torch.zeros(rows + drones, *s) for name, s in (teacher or {}).items()}
        batch = DeviceBatch(
            step=0,
            satellite=tiles,
            drone=views,
            place=torch.zeros(rows, dtype=torch.long),
            keys=np.arange(rows + drones),
            slots=np.zeros(rows + drones, dtype=np.int64),
            teacher_satellite=tiles,
            teacher_drone=views,
            teacher=Outputs(said),
        )
        with Allocations() as allocations:
            weigh(functional_call(step, fakes, (batch, list(weights)))[0], weights).backward()
    has_average = config.optimizer.ema_decay > 0
    gradients = sum(p.nbytes for group in groups for p in group.params)
    return {
        "weights": sum(t.nbytes for t in step.state_dict().values()),
        "gradients": gradients,
        "moments": sum(
            (sum(name != "step" for name in RULES[group.rule]) + has_average) * parameter.nbytes
            for group in groups
            for parameter in group.params
        ),
        "activations": max(0, allocations.most - gradients),
    }


class Allocations(TorchDispatchMode):
    """Counts the bytes of results of operations that live at the same time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held = self.most = 0
        self._known = weakref.WeakSet[torch.UntypedStorage]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, torch.Tensor):
                storage = result.untyped_storage()
                if storage not in self._known:
                    self._known.add(storage)
                    weakref.finalize(storage, self._free, storage.nbytes())
                    self.held += storage.nbytes()
        self.most = max(self.most, self.held)
        return results

    def _free(self, size: int) -> None:
        self.held -= size
