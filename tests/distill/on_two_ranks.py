"""Started by `accelerate launch` in test_two_ranks.py: writes what two ranks saw as one JSON."""

import hashlib
import json
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from data_shards.errors import SkyDistillError
from data_shards.progress import show_progress
from data_shards.recipe import load_recipe
from data_shards.shards import ShardSet
from distill import collectives, step
from distill.batches import DeviceBatch
from distill.config import (
    DistillConfig,
    MiningConfig,
    ModelConfig,
    ObjectivesConfig,
    ScheduleConfig,
)
from distill.config.objectives import (
    CrossEntropyConfig,
    CrossViewConfig,
    FeatureDistillationConfig,
    InfoNceConfig,
    LogitDistillationConfig,
    TripletConfig,
)
from distill.config.optim import PhaseConfig
from distill.methods import METHODS, Phase, Rows
from distill.methods.pfed import GROUPS, Pfed
from distill.models import Outputs, Shapes
from distill.preemption import StopFlag
from distill.session import Session, make_accelerator
from distill.teacher.build import build_cache
from distill.teacher.source import LiveTeacher, load_teacher
from distill.tracking import Tracker
from distill.train import train
from tests.distill.loop_on_two_ranks import (
    run_on_a_full_disk,
    stop_answers,
    stopped_runs,
    waits_of_the_loop,
)

ROWS, PLACES, WIDTH, TEACHER_WIDTH, SIZE = 6, 5, 7, 9, 3
TEACHERS: dict[str, Shapes] = {
    "pfed": {"descriptor": (1, TEACHER_WIDTH), "logits": (PLACES,)},
    "bicrossnet": {"features": (2, WIDTH), "logits": (2, PLACES)},
}
BRANCHES = ObjectivesConfig(
    cross_entropy=CrossEntropyConfig(weight=0.5, label_smoothing=0.1),
    triplet=TripletConfig(weight=1.0),
    logit_distillation=LogitDistillationConfig(weight=0.5),
    feature_distillation=FeatureDistillationConfig(weight=2.0),
    cross_view=CrossViewConfig(weight=0.2),
)
"""All that bicrossnet has."""


class Toy(nn.Module):
    """As much of a `RetrievalModel` as a step needs, in any precision, with two parts."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.width, self.has_branches = 2 * WIDTH, method == "bicrossnet"
        self.body = nn.Linear(SIZE * SIZE * 3, 2 * WIDTH)
        self.head = nn.Linear(WIDTH if self.has_branches else 2 * WIDTH, PLACES)
        parts = (2, WIDTH)
        self.shapes = {"descriptor": parts, "logits": (PLACES,)}
        if self.has_branches:
            self.shapes |= {"features": parts, "logits": (2, PLACES)}
        self.stage_widths, self.num_stages = [3, 4, 5, 2 * WIDTH], 1

    def learn(self, read: Collection[str]) -> None:
        self.head.requires_grad_("logits" in read)

    def forward(self, images: Tensor) -> Outputs:
        descriptor = self.body(images.flatten(1).to(self.body.weight.dtype)).tanh()
        parts = descriptor.unflatten(1, (2, WIDTH))
        outputs = Outputs(descriptor=parts, features=parts + 0.1)
        outputs["logits"] = self.head(parts if self.has_branches else descriptor)
        for number, width in enumerate(self.stage_widths[: self.num_stages - 1], start=1):
            outputs[f"stage_{number}"] = descriptor[:, :width, None, None] + 1.5
        return outputs


def batch(method: str, k: int, dtype: torch.dtype) -> DeviceBatch:
    """Return the whole global batch of a step, with k drone views a row."""
    numbers = torch.Generator().manual_seed(k)
    views = ROWS * (1 + k)
    images = torch.randint(0, 256, (views, SIZE, SIZE, 3), generator=numbers, dtype=torch.uint8)
    teacher = {
        name: torch.randn(views, *shape, generator=numbers, dtype=dtype)
        for name, shape in TEACHERS[method].items()
    }
    return DeviceBatch(
        step=0,
        satellite=images[:ROWS],
        drone=images[ROWS:],
        place=torch.arange(ROWS) % PLACES,
        teacher_satellite=images[:ROWS],
        teacher_drone=images[ROWS:],
        keys=np.arange(views),
        slots=np.zeros(views, dtype=np.int64),
        teacher=Outputs(teacher),
    )


def part(whole: DeviceBatch, rank: int, k: int) -> DeviceBatch:
    """Cut a rank's rows out of a global batch, as plan and cache do."""
    own = slice(rank * ROWS // 2, (rank + 1) * ROWS // 2)
    views = slice(own.start * k, own.stop * k)
    assert whole.teacher is not None
    return replace(
        whole,
        satellite=whole.satellite[own],
        drone=whole.drone[views],
        place=whole.place[own],
        keys=np.r_[whole.keys[own], whole.keys[ROWS:][views]],
        teacher=whole.teacher.map(lambda t: torch.cat([t[:ROWS][own], t[ROWS:][views]])),
    )


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {
        name.removeprefix("module."): parameter.grad
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def worst_gradients(
    accelerator: Accelerator, method: str, objectives: ObjectivesConfig
) -> Iterator[tuple[str, float]]:
    """Compare the gradient of two ranks with that of one process which sees the whole batch."""
    weights = objectives.weights
    cases = {name: {name: 1.0} for name in weights} | {"total": weights}
    if "self_distillation" in cases:  # stages that only teach learn by their labels alone
        cases["self_distillation"] |= {"deep_supervision": 1.0, "cross_entropy": 1.0}
    for dtype in (torch.float32, torch.float64):
        for k in (1, 2):
            for name, chosen in cases.items():
                terms = {n: replace(getattr(objectives, n), weight=0.0) for n in weights}
                for n, weight in chosen.items():
                    terms[n] = replace(terms[n], weight=weight)
                here = mock.Mock(
                    objectives=replace(objectives, **terms),
                    model=ModelConfig(),
                    phases=(),
                    precision="fp32",
                    seed=0,
                )
                modules = []
                for _ in range(2):
                    torch.manual_seed(3)
                    module = step.DistillStep(
                        here,
                        METHODS[method],
                        Toy(method),  # type: ignore[arg-type]
                        teacher=TEACHERS[method],
                    )
                    module.parts.eval()  # batch statistics are each rank's own
                    modules.append(module.to(dtype))
                together, alone = accelerator.prepare(modules[0]), modules[1]
                whole = batch(method, k, dtype)
                found, _ = together(part(whole, accelerator.process_index, k), list(chosen))
                accelerator.backward(step.weigh(found, chosen))
                with mock.patch.object(step, "gather_with_grad", lambda tensor: tensor):
                    step.weigh(alone(whole, list(chosen))[0], chosen).backward()
                expected, seen = gradients(alone), gradients(together)
                assert expected.keys() == seen.keys() and expected
                largest = max(grad.abs().max() for grad in expected.values())
                error = max((seen[key] - expected[key]).abs().max() for key in expected)
                yield f"{method} {name} k={k} {str(dtype)[6:]}", float(error / largest)


def gathered_rows(rank: int) -> list[object]:
    """Gather rows whose numbers say which rank, row and view they are of."""
    rows = 10 * rank + torch.arange(2.0)
    own = Rows(
        place=rows.long(),
        num_drones=2,
        satellite=Outputs(unit=rows[:, None]),
        drone=Outputs(unit=rows[:, None, None] + torch.tensor([0.1, 0.2])[:, None]),
    )
    everyone = step.gather_rows(own, ["unit"])
    none = step.gather_rows(own, [])
    assert not none.satellite and not none.drone
    return [
        everyone.place.tolist(),
        everyone.satellite["unit"][:, 0].tolist(),
        [[round(value, 1) for value in row] for row in everyone.drone["unit"][..., 0].tolist()],
    ]


def gather_leaves_other_gradients_alone() -> list[float]:
    own, other = torch.ones(1, requires_grad=True), torch.ones(2, requires_grad=True)
    (collectives.gather_with_grad(own) + other).sum().backward()
    assert own.grad is not None and other.grad is not None
    return [*own.grad.tolist(), *other.grad.tolist()]


def wait_for_one_that_is_slow(rank: int, out: Path) -> bool:
    """Return whether the slow rank had done its work when the wait was over."""
    done = out / "slow_rank_is_done"
    if rank == 1:
        time.sleep(0.5)
        done.touch()
    collectives.wait_for_slow_ranks("test")
    return done.exists()


def wait_for_one_that_failed(rank: int) -> str:
    """Return what rank 0 is told when it waits for a rank that has failed."""
    try:
        if rank == 0:
            collectives.wait_for_slow_ranks("what never comes")
    except SkyDistillError as error:
        return str(error)
    return ""


def mined_run(config: DistillConfig, out: Path, *, stops: Sequence[int]) -> dict[str, object]:
    """Train 6 steps, those behind the fourth in mined order, in as many attempts as `stops`.

    Returns the digests of the table and of the weights that this rank ends with.
    """
    mining = MiningConfig(neighbours=3, drones=2)
    config = replace(
        config,
        out=out,
        role="alone",
        data=replace(
            config.data,
            global_batch=4,
            drones_per_row=2,
            validation_fraction=0.2,
            threads=1,
            mining=mining,
        ),
        model=ModelConfig(arch="convnext_micro", weights="none", bottleneck=0),
        objectives=ObjectivesConfig(info_nce=InfoNceConfig(weight=1.0)),
        schedule=ScheduleConfig(num_steps=6, warmup_steps=1),
        probe_every_steps=1,
    )
    shards = ShardSet.open(config.data.shards)
    for stop in stops:
        flag = StopFlag()

        def watch(model: nn.Module, step: int, stop: int = stop, flag: StopFlag = flag) -> dict:
            flag.raised = step == stop
            return {}

        with mock.patch.object(Tracker, "start", lambda self, **facts: None):
            session = Session(config, make_accelerator(config), shards, recipe="mined")
        with show_progress("training", enabled=False) as progress:
            train(session, probes=[watch], progress=progress, flag=flag)
    # Without the batch statistics, which are each rank's own (docs/training.md).
    weights = b"".join(value.detach().numpy().tobytes() for value in session.model.parameters())
    assert session.state.neighbours is not None
    return {
        "step": session.state.step,
        "table": session.state.neighbours.digest,
        "weights": hashlib.sha256(weights).hexdigest(),
    }


class TwoPhases(Pfed):
    """The class head is trained first: one phase leaves without a gradient what the other moves."""

    def phases(self, config: DistillConfig) -> tuple[Phase, ...]:
        first = Phase(steps=2, terms=("cross_entropy",), enabled_groups=frozenset(GROUPS))
        return first, Phase(terms=("info_nce",), enabled_groups=frozenset(GROUPS))


PHASED = {
    "pfed": {
        "model": ModelConfig(arch="convnext_micro", weights="none", bottleneck=0),
        "objectives": ObjectivesConfig(
            info_nce=InfoNceConfig(weight=1.0), cross_entropy=CrossEntropyConfig(weight=1.0)
        ),
    },
    "bicrossnet": {
        "model": ModelConfig(arch="bnext_micro", weights="none", bottleneck=8),
        "objectives": ObjectivesConfig(
            triplet=TripletConfig(weight=1.0), cross_entropy=CrossEntropyConfig(weight=1.0)
        ),
        "phases": (
            PhaseConfig(trains="head", steps=1),
            PhaseConfig(trains="real", steps=1),
            PhaseConfig(trains="all"),
        ),
    },
}


def phased_run(config: DistillConfig, out: Path, *, method: str) -> str:
    """Train in phases; return the digest of the weights of this rank."""
    config = replace(
        config,
        out=out,
        role="alone",
        method=method,
        data=replace(config.data, global_batch=8, validation_fraction=0, threads=1),
        schedule=ScheduleConfig(num_steps=4, warmup_steps=1),
        log_every_steps=1,
        **PHASED[method],
    )
    with (
        mock.patch.dict(METHODS, pfed=TwoPhases()),
        mock.patch.object(Tracker, "start", lambda self, **facts: None),
        show_progress("training", enabled=False) as progress,
    ):
        shards = ShardSet.open(config.data.shards)
        session = Session(config, make_accelerator(config), shards, recipe="phased")
        train(session, probes=[], progress=progress, flag=StopFlag())
    weights = b"".join(value.detach().numpy().tobytes() for value in session.model.parameters())
    return hashlib.sha256(weights).hexdigest()


def main(recipe: Path, out: Path) -> None:
    config = load_recipe(DistillConfig, recipe)
    accelerator = make_accelerator(config)
    rank = accelerator.process_index
    seen: dict[str, object] = {"num_processes": accelerator.num_processes}
    seen["gradients"] = dict(worst_gradients(accelerator, "pfed", config.objectives))
    seen["gradients"] |= dict(worst_gradients(accelerator, "bicrossnet", BRANCHES))
    seen["shared_gradient"] = gather_leaves_other_gradients_alone()
    seen["first_problem"] = collectives.first_problem(None if rank == 0 else "rank 1 has one")
    seen["everyone"] = gathered_rows(rank)
    seen["said"] = collectives.broadcast_object(f"by {rank}")
    seen["mined"] = mined_run(config, out / "straight", stops=[6])
    seen["mined_and_resumed"] = mined_run(config, out / "resumed", stops=[4, 6])  # seen after 5
    seen["phased"] = [phased_run(config, out / method, method=method) for method in PHASED]
    seen["waited"] = wait_for_one_that_is_slow(rank, out)
    seen["first_to_fail"] = [
        bool(x) for x in accelerator.gather(torch.tensor([collectives.is_first_to_fail()]))
    ]
    seen["left_alone"] = wait_for_one_that_failed(rank)

    seen["stop"], seen["seconds_to_ask"] = stop_answers(accelerator, out)
    seen["stopped"] = stopped_runs(config, out)
    seen["full"] = run_on_a_full_disk(config, out)
    seen["waits"] = waits_of_the_loop(config, out)

    shards = ShardSet.open(config.data.shards)
    assert config.teacher.cache is not None
    teacher = LiveTeacher(config, shards, load_teacher(config, shards), accelerator.device)
    for is_told in (rank == 1, False):  # one rank is told to stop, both do, and go on later
        flag = StopFlag()
        flag.raised = is_told
        with show_progress("caching", enabled=False) as progress:
            is_new = build_cache(
                teacher, config.teacher.cache, threads=1, progress=progress, flag=flag
            )
        seen.setdefault("cache", []).append(is_new)
    (out / f"rank{rank}.json").write_text(json.dumps(seen))
    accelerator.wait_for_everyone()
    collectives.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
