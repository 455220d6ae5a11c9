import math

import pytest
from torch import nn

from distill.config import ScheduleConfig
from distill.optim import GroupedOptimizer, GroupSpec, learning_rate_factor, set_learning_rates


def test_learning_rate_warms_up_and_falls():
    schedule = ScheduleConfig(num_steps=110, warmup_steps=10, final_fraction=0.2)
    factor = [learning_rate_factor(schedule, step) for step in range(111)]
    assert factor[0] == pytest.approx(0.1) and factor[4] == pytest.approx(0.5)
    assert factor[9] == factor[10] == 1.0 == max(factor)
    assert factor[60] == pytest.approx(0.2 + 0.8 / 2)
    assert all(a > b for a, b in zip(factor[10:], factor[11:], strict=False))
    assert factor[110] == pytest.approx(0.2)  # one behind the last step
    assert factor[109] == pytest.approx(0.2 + 0.4 * (1 + math.cos(math.pi * 0.99)))


def test_no_warm_up_starts_at_the_peak():
    assert learning_rate_factor(ScheduleConfig(num_steps=5, warmup_steps=0), 0) == 1.0


def test_every_group_has_a_fraction_of_its_own_peak():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    groups = [
        GroupSpec(name="a", params=[*first.parameters()], rule="adamw", lr=0.1),
        GroupSpec(name="b", params=[*second.parameters()], rule="lion", lr=0.01),
    ]
    order = [*first.parameters(), *second.parameters()]
    optimizer = GroupedOptimizer(groups, order=order, max_grad_norm=1)
    schedule = ScheduleConfig(num_steps=8, warmup_steps=4)
    for step, factor in ((1, 0.5), (0, 0.25)):
        set_learning_rates(optimizer, schedule, step)
        assert [group["lr"] for group in optimizer.param_groups] == [0.1 * factor, 0.01 * factor]


def test_rates_drop_to_a_tenth_and_a_group_may_drop_later():
    schedule = ScheduleConfig(num_steps=300, warmup_steps=0, drop_steps=(80, 120))
    factor = [learning_rate_factor(schedule, step) for step in (0, 79, 80, 119, 120, 299)]
    assert factor == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert learning_rate_factor(schedule, 80, (111, 151)) == 1
    assert learning_rate_factor(schedule, 111, (111, 151)) == pytest.approx(0.1)
