"""Whole runs by DeepSpeed's ZeRO on two gloo ranks, one launch per stage, beside those by DDP."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from data_shards.shards import ShardSet
from distill.run_folder import RunPaths
from tests.distill.conftest import (
    BRANCHES,
    CPU,
    launch,
    merge,
    metric_lines,
    tiny_config,
    write_recipe,
)
from tests.distill.on_zero import STOPS

SCRIPT = Path(__file__).with_name("on_zero.py")

BICROSSNET: dict[str, Any] = {
    **BRANCHES,
    "optimizer": {
        "rule": "adam",
        "learning_rate": 0.0006,
        "weight_decay": 0,
        "max_grad_norm": 0.5,
        "ema_decay": 0.5,
    },
    "schedule": {"warmup_steps": 0, "drop_steps": [4], "binary_drop_steps": [6], "num_steps": 7},
    "phases": [
        {"trains": "head", "steps": 3},
        {"trains": "real", "steps": 3},
        {"trains": "all"},
    ],
}
LION = BICROSSNET | {
    "schedule": {"warmup_steps": 0, "num_steps": 5},
    "phases": [{"trains": "real", "steps": 1}, {"trains": "all"}],
}
PFED: dict[str, Any] = {
    "data": {"mining": {"neighbours": 3, "drones": 2}},
    "model": {"norm": "global", "dropout_by_sample": True},
    "objectives": {"cross_entropy": {"weight": 1.0}},
    "optimizer": {"max_grad_norm": 0.5},
}
RECIPES = {
    "pfed": PFED,
    "bf16": {  # by sgd: Adam would enlarge what is rounded
        **PFED,
        "data": {},
        "precision": "bf16",
        "schedule": {"num_steps": 3},
        "optimizer": {"rule": "sgd", "learning_rate": 0.01, "fused": True},
    },
    # One step of Lion: the next would show in which of the smallest gradients the signs differ.
    "unfrozen": BICROSSNET,
    "stopped": BICROSSNET,
    "lion": LION,
    "lion_stopped": LION,
}
AT_STAGE_2 = ("lion", "lion_stopped")
EQUAL_TO_DDP = ("pfed", "unfrozen", "bf16")
COMMON = {"expected_world_size": 2, "probe_every_steps": 1, "data": {"global_batch": 8}}


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The run folders of one launch, by the name of their recipe."""

    folder: Path

    def weights(self, name: str) -> dict[str, Tensor]:
        paths = RunPaths(self.folder / name)
        return load_file(paths.weights) | load_file(paths.training_parts)

    def metrics(self, name: str) -> list[dict[str, float]]:
        """Of every step, without what is of the machine."""
        found: dict[int, dict[str, float]] = {}
        for line in metric_lines(RunPaths(self.folder / name)):
            found.setdefault(line["step"], {}).update(line["metrics"])
        return [
            {
                key: value
                for key, value in found[step].items()
                if not re.search("second|data_wait|memory", key)
            }
            for step in sorted(found)
        ]

    def exits(self, name: str) -> list[tuple[int, int]]:
        files = [f"exit-{stop}.json" for stop in (*STOPS.get(name, ()), None)]
        told = [json.loads((self.folder / name / file).read_text()) for file in files]
        return [(one["code"], one["step"]) for one in told]


def dividing_everything(stage: int, folder: Path) -> Path:
    """Copy a shipped configuration; ZeRO-3 would leave weights as small as ours in one piece."""
    shipped = CPU.with_name(f"zero{stage}.yaml")
    values = yaml.safe_load(shipped.read_text())
    engine = json.loads(shipped.with_suffix(".json").read_text())
    engine["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    values["deepspeed_config"]["deepspeed_config_file"] = str(folder / "engine.json")
    (folder / "engine.json").write_text(json.dumps(engine))
    (folder / "launch.yaml").write_text(json.dumps(values))
    return folder / "launch.yaml"


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, tiny_shards: ShardSet
) -> Callable[[int], Runs]:
    """A function from a stage of ZeRO, 0 for DDP, to what it trained; each is launched once."""
    known: dict[int, Runs] = {}

    def train(stage: int) -> Runs:
        if stage not in known:
            folder = tmp_path_factory.mktemp(f"zero{stage}")
            recipes = [
                write_recipe(
                    folder / f"{name}.yaml",
                    tiny_config(tiny_shards, folder / name, **merge(COMMON, changes)),
                )
                for name, changes in RECIPES.items()
                if stage == 2 or name in EQUAL_TO_DDP or (stage and name not in AT_STAGE_2)
            ]
            config_file = dividing_everything(stage, folder) if stage else CPU
            ended = launch(SCRIPT, *recipes, config_file=config_file)
            assert ended.code == 0, ended.output
            known[stage] = Runs(folder=folder)
        return known[stage]

    return train


STAGES = pytest.mark.parametrize("stage", [1, 2, 3])


@STAGES
def test_bf16_by_zero_is_that_by_ddp_and_rounds_no_weight(trained, stage):
    runs, others = trained(stage), trained(0)
    pairs = zip(runs.metrics("bf16"), others.metrics("bf16"), strict=True)
    assert all(one == pytest.approx(other, rel=3e-3, abs=1e-3) for one, other in pairs)
    (first, *_), (exact, *_) = runs.metrics("bf16"), runs.metrics("pfed")
    assert abs(first["train/total"] - exact["train/total"]) > 1e-5, "its products are as fp32's"
    for key, value in runs.weights("bf16").items():
        assert torch.allclose(value, others.weights("bf16")[key], rtol=1e-2, atol=1e-3), key
        assert value.numel() < 100 or not torch.equal(value, value.bfloat16().float())


@STAGES
@pytest.mark.parametrize("name", ["pfed", "unfrozen"])
def test_a_run_by_zero_is_that_by_ddp_within_rounding(trained, stage, name):
    runs, others = trained(stage), trained(0)
    for one, other in zip(runs.metrics(name), others.metrics(name), strict=True):
        if name == "unfrozen" and "described" in one:  # by signs, which the step of Lion decides
            one, other = ({**seen, "described": 0} for seen in (one, other))
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
    theirs = others.weights(name)
    for key, value in runs.weights(name).items():
        # Adam moves a scalar whose gradient is all but zero by what is rounded.
        close = torch.isclose(value, theirs[key], rtol=1e-5, atol=1e-6 if value.ndim else 1e-4)
        assert close.float().mean() > (0.99 if name == "unfrozen" else 0.9999), key


@STAGES
def test_a_run_resumed_in_the_middle_of_every_phase_is_the_uninterrupted_one(trained, stage):
    runs = trained(stage)
    assert runs.metrics("stopped") == runs.metrics("unfrozen")
    unfrozen = runs.weights("unfrozen")
    assert all(torch.equal(value, unfrozen[key]) for key, value in runs.weights("stopped").items())
    assert runs.exits("stopped") == [(75, 2), (75, 5), (0, 7)]
    assert runs.exits("pfed") == [(0, 6)]
    checkpoint = sorted(RunPaths(runs.folder / "pfed").checkpoints.iterdir())[-1]
    sealed = json.loads((checkpoint / "state.json").read_text())["sha256"]
    assert any(name.startswith("pytorch_model/") for name in sealed), "files in folders too"


def test_a_run_resumed_between_two_steps_of_lion_is_the_uninterrupted_one(trained):
    runs = trained(2)
    assert runs.exits("lion_stopped") == [(75, 3), (0, 5)]
    assert runs.metrics("lion_stopped") == runs.metrics("lion")
    whole = runs.weights("lion")
    assert all(
        torch.equal(value, whole[key]) for key, value in runs.weights("lion_stopped").items()
    )
