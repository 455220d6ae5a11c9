import math

import pytest
import torch
import torch.nn.functional as F

from distill.objectives.feature_distillation import feature_distillation
from distill.objectives.logit_distillation import logit_distillation
from tests.distill.objectives.conftest import divergence, dot


def test_logit_distillation_by_hand():
    teacher, student = torch.tensor([[4 * math.log(3.0), 0.0]]), torch.tensor([[0.0, 0.0]])
    loss = logit_distillation(student, teacher, temperature=4.0).item()
    assert loss == pytest.approx(16 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)))


def test_logit_distillation_by_a_slow_loop(numbers: torch.Generator):
    student, teacher = (torch.randn(4, 5, generator=numbers) * 3 for _ in range(2))
    expected = 0.0
    for own, wanted in zip(student.tolist(), teacher.tolist(), strict=True):
        expected += divergence(wanted, own, 2) / 4
    loss = logit_distillation(student, teacher, temperature=2.0).item()
    assert loss == pytest.approx(expected, rel=1e-5)


def test_feature_distillation_by_hand():
    student, teacher = (
        torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
        torch.tensor([[3.0, 4.0], [0.0, 1.0]]),
    )
    assert feature_distillation(student, teacher).item() == pytest.approx(1 - (0.6 + 1.0) / 2)


def test_feature_distillation_by_a_slow_loop(numbers: torch.Generator):
    student, teacher = (torch.randn(5, 8, generator=numbers) for _ in range(2))
    expected = 1.0
    for a, b in zip(student.tolist(), teacher.tolist(), strict=True):
        expected -= dot(a, b) / math.sqrt(dot(a, a)) / math.sqrt(dot(b, b)) / 5
    loss = feature_distillation(student, teacher).item()
    assert loss == pytest.approx(expected, rel=1e-5)
    unit = F.normalize(student, dim=1) - F.normalize(teacher, dim=1)
    assert loss == pytest.approx(unit.square().sum(1).mean().item() / 2, rel=1e-5)


def test_distillation_is_zero_for_equals(numbers: torch.Generator):
    values = torch.randn(6, 9, generator=numbers)
    losses = [
        logit_distillation(values, values, temperature=4.0),
        feature_distillation(values, 3 * values),
    ]
    assert [loss.item() for loss in losses] == pytest.approx([0] * len(losses), abs=1e-6)
