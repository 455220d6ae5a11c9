"""BiCrossNet's phases and two rules in a real run (spec bicrossnet 5): to the bit, also resumed."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from timm.optim.lion import Lion
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from distill.config import DistillConfig
from distill.methods import METHODS
from distill.methods.bicrossnet import Bicrossnet
from distill.models import RetrievalModel, binary_parameters
from distill.models.binary import BinaryConv2d
from distill.models.bnext import mixing_parameters
from distill.session import Session
from tests.distill.conftest import BRANCHES, open_alone, run_alone, tiny_config, train_alone

RATE, DROP, BINARY_DROP, NORM = 0.006, 3, 5, 0.5
TRAINS = ["head"] * 2 + ["real"] * 2 + ["all"] * 2
"""What learns in each step of the run."""

REAL = {"head", "backbone", "backbone statistics", "mixing"}
MOVED = {"head": {"head"}, "real": REAL, "all": REAL | {"binary"}}
"""What a phase trains to the parts that move, beside the statistics of the head."""


class Wild(Bicrossnet):
    """Many latent weights and mixes are born outside their limits, as weights of others may be."""

    def build(self, config, *, num_places):
        model = super().build(config, num_places=num_places)
        with torch.no_grad():
            for weight in binary_parameters(model).values():
                weight.mul_(2000)
            for mix in mixing_parameters(model).values():
                mix.copy_(torch.linspace(-0.5, 1.5, len(mix)))
        return model


@pytest.fixture(autouse=True, scope="module")
def _wild() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "bicrossnet", Wild())
        yield


@pytest.fixture(scope="module")
def make(tiny_shards, tmp_path_factory) -> Callable[..., DistillConfig]:
    def make(name: str, **changes: object) -> DistillConfig:
        values = {
            **BRANCHES,
            "optimizer": {
                "rule": "adam",
                "learning_rate": RATE,
                "weight_decay": 0,
                "max_grad_norm": NORM,
            },
            "schedule": {
                "warmup_steps": 0,
                "drop_steps": [DROP],
                "binary_drop_steps": [BINARY_DROP],
            },
            "phases": [
                {"trains": "head", "steps": 2},
                {"trains": "real", "steps": 2},
                {"trains": "all"},
            ],
            "probe_every_steps": 1,
        }
        return tiny_config(tiny_shards, tmp_path_factory.mktemp(name), **(values | changes))

    return make


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One run: its weights before the first and after each step, and what each step was given."""

    session: Session
    states: list[dict[str, Tensor]]
    gradients: list[dict[str, Tensor]]
    rates: list[dict[str, float]]
    norms: list[Tensor]


def copied(tensors: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in tensors.items() if one is not None}


@pytest.fixture(scope="module")
def seen(make) -> Seen:
    """The run that nothing interrupts."""
    session = open_alone(make("straight"))
    model, move = session.model, session.groups.step
    found = Seen(
        session=session, states=[copied(model.state_dict())], gradients=[], rates=[], norms=[]
    )

    def step(closure: None) -> None:
        found.gradients.append(copied({name: p.grad for name, p in model.named_parameters()}))
        found.rates.append({group["name"]: group["lr"] for group in session.groups.param_groups})
        move()
        found.norms.append(session.groups.grad_norm)
        found.states.append(copied(model.state_dict()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session.groups, "step", step)
        train_alone(session)
    return found


def parts(model: RetrievalModel) -> dict[str, str]:
    """Name of every tensor of a model to what it is part of."""
    binary, mixing = binary_parameters(model), mixing_parameters(model)
    parameters = dict(model.named_parameters())

    def part(name: str) -> str:
        where = name.partition(".")[0]
        if name in binary or name in mixing:
            return "binary" if name in binary else "mixing"
        return where if name in parameters else f"{where} statistics"

    return {name: part(name) for name in model.state_dict()}


def digests(state: Mapping[str, Tensor], part_of: Mapping[str, str]) -> dict[str, str]:
    """Of all tensors of each part."""
    found = defaultdict(hashlib.sha256)
    for name, value in state.items():
        found[part_of[name]].update(value.numpy().tobytes())
    return {part: one.hexdigest() for part, one in found.items()}


def test_what_a_phase_does_not_train_keeps_every_bit(seen):
    part_of = parts(seen.session.model)
    told = [digests(state, part_of) for state in seen.states]
    assert len(told) == 7 and len(told[0]) == 6
    for trains, (before, after) in zip(TRAINS, pairwise(told), strict=True):
        moved = {part for part in before if before[part] != after[part]}
        assert moved == MOVED[trains] | {"head statistics"}


@pytest.mark.parametrize(
    ("trains", "first", "end"), [("head", 0, 2), ("real", 2, 4), ("all", 4, 6)]
)
def test_everything_moves_in_its_phase(seen, trains, first, end):
    for name, part in parts(seen.session.model).items():
        is_equal = torch.equal(seen.states[first][name], seen.states[end][name])
        assert is_equal == (part not in MOVED[trains] | {"head statistics"}), name


@pytest.mark.parametrize(
    ("part", "limits", "waits"), [("mixing", (0, 1), 2), ("binary", (-1.5, 1.5), 4)]
)
def test_a_clamp_holds_from_the_first_step_of_its_group_on(seen, part, limits, waits):
    for number, state in enumerate(seen.states):
        values = [state[name] for name, one in parts(seen.session.model).items() if one == part]
        found = min(one.min() for one in values), max(one.max() for one in values)
        if number <= waits:
            assert found[0] < limits[0] and found[1] > limits[1]
        else:
            assert found == limits


def test_the_weights_are_those_of_adam_and_lion_stepped_by_hand(seen):
    model = METHODS["bicrossnet"].build(seen.session.config.model, num_places=10)
    model.load_state_dict(seen.states[0])
    named, part_of = dict(model.named_parameters()), parts(model)
    binary = [parameter for name, parameter in named.items() if part_of[name] == "binary"]
    real = [parameter for name, parameter in named.items() if part_of[name] != "binary"]
    adam = torch.optim.Adam(real, lr=RATE, foreach=False, fused=False)
    lion = Lion(binary, lr=RATE * (1 / 6), betas=(0.9, 0.99), foreach=False)
    for step, (trains, gradients) in enumerate(zip(TRAINS, seen.gradients, strict=True)):
        moving = [name for name in named if part_of[name] in MOVED[trains]]
        for name, parameter in named.items():
            parameter.grad = gradients[name].clone() if name in moving else None
        norm = clip_grad_norm_([named[name] for name in moving], NORM)
        adam.param_groups[0]["lr"] = RATE * (0.1 if step >= DROP else 1)
        lion.param_groups[0]["lr"] = RATE * (1 / 6) * (0.1 if step >= BINARY_DROP else 1)
        adam.step()
        lion.step()
        with torch.no_grad():
            for name in moving:
                if part_of[name] in ("binary", "mixing"):
                    limit = 1.5 if part_of[name] == "binary" else 1.0
                    named[name].clamp_(-1.5 if part_of[name] == "binary" else 0.0, limit)
        assert norm > NORM and torch.equal(norm, seen.norms[step])
        assert all(torch.equal(named[name], seen.states[step + 1][name]) for name in named)


def test_each_group_has_its_rate_and_its_drops(seen):
    for step, rates in enumerate(seen.rates):
        factor, binary_factor = (0.1 if step >= drop else 1 for drop in (DROP, BINARY_DROP))
        assert rates == pytest.approx(
            dict.fromkeys(("head", "backbone", "mixing"), RATE * factor)
            | {"binary": RATE / 6 * binary_factor}
        )


def test_a_run_resumed_in_the_middle_of_every_phase_is_the_uninterrupted_one(seen, make):
    config = make("stopped")
    for stop in (1, 3, 5):
        assert run_alone(config, stop_after=stop).state.step == stop
    resumed, straight = run_alone(config).step.state_dict(), seen.session.step.state_dict()
    assert resumed.keys() == straight.keys()
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)


@pytest.mark.parametrize("steps", [0, 8])
def test_weights_cool_to_two_values(make, steps):
    model = {"arch": "bnext_micro", "bottleneck": 8, "anneal_steps": steps}
    config = make("cool", model=model, schedule={"num_steps": 9, "warmup_steps": 0})
    method, model = METHODS["bicrossnet"], Bicrossnet().build(config.model, num_places=10)
    layers = [layer for layer in model.modules() if isinstance(layer, BinaryConv2d)]
    assert layers
    for step in (0, 1, 4, 8, 9):
        method.before_step(model, step, config.model)
        for layer in layers:
            used, weight = layer.used_weight(), layer.weight
            if step < steps:
                assert torch.equal(used, (weight / 10**-step).clamp(-1, 1))
                assert len(used.unique()) > 2
            else:
                assert used.unique().tolist() == [-1, 1]
