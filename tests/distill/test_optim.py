import math

import pytest
import torch

from distill.config import ModelConfig, OptimizerConfig, ScheduleConfig
from distill.models import RetrievalModel
from distill.optim import build_optimizer, learning_rate_factor, set_learning_rate
from distill.step import MAX_SCALE, DistillStep


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


def test_matrices_decay_and_vectors_do_not(make_config):
    model = RetrievalModel(ModelConfig(arch="convnext_micro", weights="none"), num_places=4)
    step = DistillStep(make_config(), model, teacher_width=None)
    optimizer = build_optimizer(step, OptimizerConfig(learning_rate=0.1, weight_decay=0.3))
    decayed, free = optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    names = {id(parameter): name for name, parameter in step.named_parameters()}
    assert {"model.pool.power", "log_scale"} <= {names[id(p)] for p in free["params"]}
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert all(parameter.ndim <= 1 for parameter in free["params"])
    # Every parameter that learns is there once; the class head learns nothing from InfoNCE.
    learning = [name for name, parameter in step.named_parameters() if parameter.requires_grad]
    assert sorted(names[id(p)] for group in optimizer.param_groups for p in group["params"]) == (
        sorted(learning)
    )
    assert not any(name.startswith("model.head") for name in learning)
    set_learning_rate(optimizer, peak=0.1, factor=0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.05]


def test_the_learned_scale_stops_at_its_limit_and_can_come_back(make_config):
    model = RetrievalModel(ModelConfig(arch="convnext_micro", weights="none"), num_places=4)
    step = DistillStep(make_config(), model, teacher_width=None)
    assert step.log_scale.exp().item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        step.log_scale.fill_(20.0)
    satellite = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    drone = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    step(satellite, drone, torch.arange(3), None)["info_nce"].backward()
    assert step.log_scale.exp().item() == pytest.approx(MAX_SCALE)
    assert step.log_scale.grad is not None and step.log_scale.grad.item() != 0
