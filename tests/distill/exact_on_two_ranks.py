"""Started by `accelerate launch` in test_exactness.py: whole models on two ranks, beside one."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from data_shards.recipe import build_config
from distill import collectives, step
from distill.batches import DeviceBatch
from distill.config import DistillConfig
from distill.methods import METHODS
from distill.models import normalize, rank_invariant
from distill.models.backbones import compile_units
from distill.session import join_ranks
from distill.step import MicroBatches
from tests.distill import on_two_ranks
from tests.distill.on_two_ranks import PLACES, gradients, part

SIZE, DRONES = 32, 2
PFED: dict[str, Any] = {
    "objectives": {
        "cross_entropy": {"weight": 1.0},
        "info_nce": {"weight": 1.0},
        "deep_supervision": {"weight": 1.0},
    },
    "model": {"arch": "convnext_micro", "bottleneck": 8, "dropout": 0.0, "norm": "global"},
}
DROPPING = {"dropout": 0.5, "drop_path": 0.3, "dropout_by_sample": True}
CASES: dict[str, dict[str, Any]] = {
    "batch statistics of both views": PFED,
    "batch statistics of each view": {
        "method": "bicrossnet",
        "objectives": {"cross_entropy": {"weight": 1.0}, "triplet": {"weight": 1.0}},
        "model": {**PFED["model"], "arch": "bnext_micro_float"},
    },
    "what is dropped": {**PFED, "model": {**PFED["model"], **DROPPING}},
    "what is compiled": {
        **PFED,
        "model": {**PFED["model"], **DROPPING, "arch": "bnext_micro_float", "drop_path": 0.0},
    },
    "micro batches": {
        "objectives": {name: {"weight": 1.0} for name in ("info_nce", "triplet", "proxy_anchor")},
        "model": {**PFED["model"], **DROPPING},
        "data": {"micro_batch": 2},
    },
}


def make_step(
    changes: dict[str, Any], dtype: torch.dtype, *, is_compiled: bool = False
) -> step.DistillStep:
    values = {"role": "alone", **changes, "model": {"weights": "none", **changes["model"]}}
    config = build_config(DistillConfig, values, where="test")
    torch.manual_seed(3)
    method = METHODS[config.method]
    model = method.build(config.model, num_places=PLACES)
    if is_compiled:
        compile_units(model.backbone, arch=config.model.arch)
    return step.DistillStep(config, method, model, teacher=None).to(dtype)


def whole_batch() -> DeviceBatch:
    with mock.patch.object(on_two_ranks, "SIZE", SIZE):
        return on_two_ranks.batch("pfed", DRONES, torch.float32)


def as_one_process() -> ExitStack:
    stack = ExitStack()
    for module in (collectives, rank_invariant):
        stack.enter_context(mock.patch.object(module, "world_size", lambda: 1))
    return stack


def total(said: tuple[dict[str, Tensor], dict[str, Tensor]]) -> Tensor:
    return torch.stack(list(said[0].values())).sum()


def statistics(module: nn.Module) -> dict[str, Tensor]:
    found = {name.removeprefix("module."): value for name, value in module.named_buffers()}
    return {name: value for name, value in found.items() if "running" in name}


def differences(
    accelerator: Accelerator, changes: dict[str, Any], dtype: torch.dtype
) -> Iterator[tuple[str, float]]:
    """Yield how far two ranks are from one process, as shares of the largest number."""
    alone = make_step(changes, dtype)
    shared = make_step(changes, dtype, is_compiled=changes is CASES["what is compiled"])
    whole, names = whole_batch(), list(alone.terms)
    own = part(whole, accelerator.process_index, DRONES)
    with as_one_process():
        loss = total(alone(whole, names))
        loss.backward()
    together: nn.Module = accelerator.prepare(shared)
    if rows := changes.get("data", {}).get("micro_batch"):
        divided = MicroBatches(shared, num_rows=rows)
        seen = total(divided(own, names))
        seen.backward()
        divided.backward()
    else:
        seen = total(together(own, names))
        seen.backward()
    pairs = {"loss": ({"": loss}, {"": accelerator.reduce(seen.detach(), "mean")})}
    pairs["gradients"] = gradients(alone), gradients(together)
    if not rows:
        pairs["statistics"] = statistics(alone), statistics(together)
    for name, (expected, found) in pairs.items():
        assert expected.keys() == found.keys() and expected
        largest = max(value.abs().max() for value in expected.values())
        error = max((found[key] - expected[key]).abs().max() for key in expected)
        yield name, float(error / largest)


def main(out: Path) -> None:
    accelerator = join_ranks()
    seen: dict[str, dict[str, float]] = {}
    torch.compile = partial(torch.compile, backend="aot_eager")  # g++ takes minutes
    for dtype in (torch.float32, torch.float64):
        with mock.patch.object(step, "normalize", lambda of, to=dtype: normalize(of).to(to)):
            for name, changes in CASES.items():
                found = differences(accelerator, changes, dtype)
                seen[f"{name} {str(dtype)[6:]}"] = dict(found)
    if accelerator.is_main_process:
        out.write_text(json.dumps(seen))
    collectives.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
