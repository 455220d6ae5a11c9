"""Phases as arithmetic, and a run in two of them: what is frozen keeps its bits, also resumed."""

import pytest
import torch

from distill.methods import METHODS, Phase, phase_at
from distill.methods.pfed import Pfed
from distill.optim import GroupSpec
from tests.distill.conftest import run_alone

HEAD_ONLY = Phase(
    steps=2,
    terms=("cross_entropy",),
    enabled_groups=frozenset({"head"}),
    eval_modules=("head.classifier.0",),
)
ALL = Phase(terms=("info_nce", "cross_entropy"), enabled_groups=frozenset({"head", "other"}))


def test_the_phase_of_a_step():
    last = Phase(terms=("c",), enabled_groups=frozenset())
    phases = (HEAD_ONLY, Phase(steps=3, terms=("b",), enabled_groups=frozenset()), last)
    found = [phase_at(phases, step) for step in range(7)]
    assert [phases.index(phase) for phase in found] == [0, 0, 1, 1, 1, 2, 2]


class Unfreezing(Pfed):
    """The class head for two steps on its own, then everything."""

    def groups(self, step, config):
        head = [*step.model.head.classifier.parameters()]
        known = {id(parameter) for parameter in head}
        other = [p for p in step.parameters() if id(p) not in known and p.requires_grad]
        return [
            GroupSpec(name="head", params=head, rule="lion", lr=1e-3),
            GroupSpec(name="other", params=other, rule="adamw", lr=1e-3),
        ]

    def phases(self, config):
        return (HEAD_ONLY, ALL)

    def before_step(self, model, step, config):
        model.head.classifier[0].momentum = 1 / (2 + step)  # statistics tell whether it was set


@pytest.fixture
def unfreezing(make_config, monkeypatch):
    monkeypatch.setitem(METHODS, "pfed", Unfreezing())
    return make_config(objectives={"cross_entropy": {"weight": 1.0}}, probe_every_steps=1)


def test_a_frozen_group_keeps_its_bits_until_its_phase(unfreezing):
    seen = {}

    def look(model, step):
        state = {name: value.clone() for name, value in model.state_dict().items()}
        seen[step] = (state, model.head.classifier[0].training, model.backbone.training)
        return {}

    session = run_alone(unfreezing, probes=[look])
    assert session.phase == ALL and session.model.head.classifier[0].momentum == 1 / 7
    assert [(seen[step][1:]) for step in (1, 2, 3, 6)] == [(False, True)] * 2 + [(True, True)] * 2
    first, second, third = (seen[step][0] for step in (1, 2, 3))
    for name, value in first.items():
        is_statistic = "running" in name or "num_batches" in name
        if (
            name.startswith("head.classifier.0")
            and is_statistic
            or not name.startswith("head.classifier")
        ):
            assert torch.equal(value, second[name]), name
        elif not is_statistic:
            assert not torch.equal(value, second[name]), name
    changed = {name for name, value in second.items() if not torch.equal(value, third[name])}
    assert changed == set(second)


def test_a_run_resumed_in_each_phase_is_the_uninterrupted_one(unfreezing, make_config, tmp_path):
    straight = run_alone(unfreezing)
    for stop in (1, 2, 4):
        config = make_config(
            objectives={"cross_entropy": {"weight": 1.0}},
            probe_every_steps=1,
            out=str(tmp_path / f"stopped_{stop}"),
        )
        assert run_alone(config, stop_after=stop).state.step == stop
        resumed = run_alone(config)
        one, two = straight.step.state_dict(), resumed.step.state_dict()
        assert all(torch.equal(one[name], two[name]) for name in one)
