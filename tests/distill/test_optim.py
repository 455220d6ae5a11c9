"""One optimizer of several rules against the libraries' own, to the bit."""

import copy

import pytest
import torch
from timm.optim.lion import Lion
from torch import nn
from torch.nn.utils import clip_grad_norm_

from distill.config import ModelConfig
from distill.methods import METHODS
from distill.models import build_model
from distill.optim import RULES, GroupedOptimizer, GroupSpec
from distill.step import DistillStep

DECAY = 0.9
"""Of a moving average."""

NEVER = 1e9
"""A gradient norm that is never reached."""

REFERENCES = {
    "adamw": lambda p, **of: torch.optim.AdamW(p, foreach=False, **of),
    "adam": lambda p, **of: torch.optim.Adam(p, foreach=False, **of),
    "lion": lambda p, **of: Lion(p, foreach=False, **of),
    "sgd": lambda p, **of: torch.optim.SGD(
        p, momentum=of.pop("betas")[0], nesterov=True, foreach=False, **of
    ),
}


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.GELU(), nn.Linear(7, 3))


def group(name: str, module: nn.Module, rule: str = "adamw", **of) -> GroupSpec:
    of = {"lr": 0.01, **of}
    return GroupSpec(name=name, params=[*module.parameters()], rule=rule, **of)


def backward(model: nn.Module, number: int) -> None:
    model.zero_grad()
    numbers = torch.Generator().manual_seed(number)
    model(torch.randn(6, 5, generator=numbers)).square().sum().backward()


def same(one: nn.Module, two: nn.Module) -> bool:
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_the_library_s_to_the_bit_also_after_a_resume(rule):
    ours, theirs = network(), network()
    facts = {"betas": (0.8, 0.95), "weight_decay": 0.1}

    def optimizer() -> GroupedOptimizer:
        spec = group("all", ours, rule, **facts)
        return GroupedOptimizer([spec], order=ours.parameters(), max_grad_norm=0.5)

    mine = optimizer()
    reference = REFERENCES[rule](theirs.parameters(), lr=0.01, **facts)
    for number in range(6):
        if number == 3:
            state = copy.deepcopy(mine.state_dict())
            mine = optimizer()
            mine.load_state_dict(state)
        backward(ours, number)
        mine.step()
        backward(theirs, number)
        norm = clip_grad_norm_(theirs.parameters(), 0.5)
        reference.step()
        assert same(ours, theirs)
        assert mine.grad_norm == norm and norm > 0.5


@pytest.mark.parametrize("rule", ["adamw", "adam", "sgd"])
def test_a_fused_rule_is_the_library_s_fused_one_and_lion_has_none(rule):
    ours, theirs = network(), network()
    specs = [group("real", ours[:2], rule), group("binary", ours[3], "lion")]
    mine = GroupedOptimizer(specs, order=ours.parameters(), max_grad_norm=NEVER, fused=True)
    assert [group["fused"] for group in mine.param_groups] == [True, False]
    kind, of = {
        "adamw": (torch.optim.AdamW, {"weight_decay": 0.0}),
        "adam": (torch.optim.Adam, {}),
        "sgd": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    }[rule]
    reference = kind(theirs[:2].parameters(), lr=0.01, fused=True, **of)
    lion = Lion(theirs[3].parameters(), lr=0.01, betas=(0.9, 0.99), foreach=False)
    for number in range(3):
        backward(ours, number)
        mine.step()
        backward(theirs, number)
        reference.step()
        lion.step()
        assert same(ours, theirs)


def test_two_rules_in_one_object_are_two_optimizers():
    ours, theirs = network(), network()
    mine = GroupedOptimizer(
        [
            group("real", ours[:2], "adam", lr=0.03),
            group("binary", ours[3], "lion", lr=0.005, betas=(0.9, 0.99)),
        ],
        order=ours.parameters(),
        max_grad_norm=NEVER,
    )
    adam = torch.optim.Adam(theirs[:2].parameters(), lr=0.03, foreach=False)
    lion = Lion(theirs[3].parameters(), lr=0.005, betas=(0.9, 0.99), foreach=False)
    for number in range(5):
        backward(ours, number)
        mine.step()
        backward(theirs, number)
        adam.step()
        lion.step()
        assert same(ours, theirs)


def test_under_deepspeed_a_group_of_nothing_is_dropped_and_one_that_waits_has_no_gradient():
    weights = {name: torch.nn.Parameter(torch.ones(2)) for name in "ac"}
    specs = [
        GroupSpec(name=name, params=held, rule="lion", lr=0.1)
        for name, held in (("a", [weights["a"]]), ("b", []), ("c", [weights["c"]]))
    ]
    groups = GroupedOptimizer(specs, order=weights.values(), max_grad_norm=1)
    groups.leave_clipping()
    groups.enable(frozenset("bc"))
    sum(3 * weight for weight in weights.values()).sum().backward()
    assert [group["name"] for group in groups.param_groups] == ["a", "c"]
    assert {name: weight.grad.tolist() for name, weight in weights.items()} == {
        "a": [0, 0],
        "c": [3, 3],
    }


def test_a_group_that_is_not_enabled_keeps_every_bit_and_is_not_clipped_for():
    model = network()
    mine = GroupedOptimizer(
        [group("first", model[:2]), group("last", model[3])],
        order=model.parameters(),
        max_grad_norm=0.5,
    )
    for number, names in enumerate([{"first", "last"}, {"last"}, {"first"}]):
        mine.enable(frozenset(names))
        backward(model, number)
        gradient = {name: p.grad.clone() for name, p in model.named_parameters()}
        before = copy.deepcopy([model.state_dict(), mine.state_dict()["state"]])
        mine.step()
        moving = ["0", "1"] * ("first" in names) + ["3"] * ("last" in names)
        norm = torch.stack(
            [g.norm() for name, g in gradient.items() if name.partition(".")[0] in moving]
        ).norm()
        assert torch.isclose(mine.grad_norm, norm)
        for index, (name, parameter) in enumerate(model.named_parameters()):
            moves = name.partition(".")[0] in moving
            assert torch.equal(parameter, before[0][name]) != moves
            state = mine.state_dict()["state"]
            if not moves:
                assert torch.equal(state[index]["exp_avg"], before[1][index]["exp_avg"])
                assert torch.equal(parameter.grad, gradient[name])
    with pytest.raises(AssertionError, match="middle"):
        mine.enable(frozenset({"middle"}))


def test_a_clamp_holds_after_the_steps_of_its_group():
    model = network()
    mine = GroupedOptimizer(
        [group("first", model[:2], lr=1.0, clamp=(-0.2, 0.1)), group("last", model[3])],
        order=model.parameters(),
        max_grad_norm=NEVER,
    )
    mine.enable(frozenset({"last"}))
    backward(model, 0)
    mine.step()
    assert model[0].weight.abs().max() > 0.2
    mine.enable(frozenset({"first"}))
    backward(model, 1)
    mine.step()
    weight = model[0].weight
    assert (weight.min().item(), weight.max().item()) == pytest.approx((-0.2, 0.1))
    assert model[3].weight.abs().max() > 0.2


def test_what_learns_is_in_one_group_and_a_group_has_a_name_of_its_own():
    model = network()
    model[0].requires_grad_(False)
    rest = GroupSpec(
        name="rest",
        params=[p for p in model.parameters() if p.requires_grad],
        rule="adam",
        lr=0.1,
    )
    GroupedOptimizer([rest], order=model.parameters(), max_grad_norm=1)
    for forgetful in ([group("last", model[3])], [rest, group("first", model[0])]):
        with pytest.raises(AssertionError, match="one group"):
            GroupedOptimizer(forgetful, order=model.parameters(), max_grad_norm=1)
    twice = [group("a", model[1]), group("a", model[3])]
    with pytest.raises(AssertionError, match="one name"):
        GroupedOptimizer(twice, order=model.parameters(), max_grad_norm=1)


def test_a_resume_takes_the_moments_and_leaves_how_a_group_learns():
    model = network()

    def optimizer(name: str, **of) -> GroupedOptimizer:
        spec = group(name, model, **of)
        return GroupedOptimizer([spec], order=model.parameters(), max_grad_norm=NEVER)

    old = optimizer("all", weight_decay=0.5)
    backward(model, 0)
    old.step()
    new = optimizer("all", lr=0.2, weight_decay=0.1)
    new.load_state_dict(old.state_dict())
    facts = new.param_groups[0]
    assert (facts["initial_lr"], facts["weight_decay"], facts["enabled"]) == (0.2, 0.1, True)
    assert new.state_dict()["state"][0]["step"] == 1
    with pytest.raises(ValueError, match="all"):
        optimizer("other").load_state_dict(old.state_dict())
    unnamed = old.state_dict()
    del unnamed["param_groups"][0]["name"]
    with pytest.raises(ValueError, match="None"):
        new.load_state_dict(unnamed)


def test_an_average_follows_what_has_moved_also_while_it_waits_and_after_a_resume():
    model = network()

    def optimizer() -> GroupedOptimizer:
        specs = [group("first", model[:2], clamp=(-0.3, 0.3)), group("last", model[3], "lion")]
        return GroupedOptimizer(specs, order=model.parameters(), max_grad_norm=0.5, ema_decay=DECAY)

    mine = optimizer()
    expected = {name: value.clone() for name, value in model.named_parameters()}
    for number, names in enumerate(({"first"}, {"first", "last"}, {"last"}, {"last"})):
        mine.enable(frozenset(names))
        backward(model, number)
        mine.step()
        averages = dict(mine.averages())
        moved = {"0", "1", "3"} if number else {"0", "1"}
        for name, value in model.named_parameters():
            expected[name].lerp_(value.detach(), 1 - DECAY)
            assert (value in averages) == (name.partition(".")[0] in moved)
            assert torch.allclose(averages.get(value, value), expected[name], rtol=1e-6)
        assert not torch.equal(averages[model[0].weight], model[0].weight)
        state = copy.deepcopy(mine.state_dict())
        mine = optimizer()
        mine.load_state_dict(state)


def test_groups_change_no_bit_of_the_gradient_norm():
    model = network()
    backward(model, 0)
    alike = [[model[0].weight, model[3].weight], [*model[1].parameters()]]
    alike.append([model[3].bias, model[0].bias])
    norms = []
    for groups in ([[*model.parameters()]], alike):
        specs = [
            GroupSpec(name=str(i), params=ps, rule="sgd", lr=0.0) for i, ps in enumerate(groups)
        ]
        mine = GroupedOptimizer(specs, order=model.parameters(), max_grad_norm=NEVER)
        mine.step()
        norms.append(mine.grad_norm)
    assert norms[0] == norms[1] == clip_grad_norm_(model.parameters(), NEVER)


def test_matrices_decay_and_the_backbone_learns_at_its_own_rate(make_config):
    model = build_model(ModelConfig(arch="convnext_micro", weights="none"), num_places=4)
    step = DistillStep(make_config(), METHODS["pfed"], model, teacher=None)
    config = make_config(
        optimizer={"learning_rate": 0.1, "weight_decay": 0.3, "backbone_factor": 0.1}
    )
    groups = {group.name: group for group in METHODS["pfed"].groups(step, config)}
    names = {id(parameter): name for name, parameter in step.named_parameters()}
    for name, group in groups.items():
        is_free = name == "scale" or name.endswith("not_decayed")
        is_backbone = name.startswith("backbone")
        assert group.weight_decay == (0.0 if is_free else 0.3)
        assert group.lr == pytest.approx(0.01 if is_backbone else 0.1)
        assert all((parameter.ndim <= 1) == is_free for parameter in group.params)
        where = {names[id(p)].startswith("model.backbone") for p in group.params}
        assert where <= {is_backbone}
    free = [*groups["head_not_decayed"].params, *groups["scale"].params]
    assert {"model.head.pool.power", "log_scale"} <= {names[id(p)] for p in free}
    # Every parameter that learns is there once; the class head learns nothing from InfoNCE.
    learning = [name for name, parameter in step.named_parameters() if parameter.requires_grad]
    grouped = [names[id(p)] for group in groups.values() for p in group.params]
    assert sorted(grouped) == sorted(learning)
    assert not any(name.startswith("model.head.classifier") for name in learning)
