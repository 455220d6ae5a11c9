import math

import pytest
import torch

from distill.objectives.deep_supervision import deep_supervision
from tests.distill.objectives.conftest import softmax


def test_deep_supervision_by_hand():
    stages = [torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([[0.0, 0.0]])]
    loss = deep_supervision(stages, torch.tensor([1]), weights=[0.1, 0.2]).item()
    assert loss == pytest.approx(0.1 * math.log(4) + 0.2 * math.log(2))


def test_deep_supervision_by_a_slow_loop(numbers: torch.Generator):
    stages = [torch.randn(4, 6, generator=numbers) for _ in range(3)]
    target, weights = [5, 0, 0, 2], [0.1, 0.2, 0.3]
    expected = 0.0
    for stage, weight in zip(stages, weights, strict=True):
        for row, place in zip(stage.tolist(), target, strict=True):
            expected -= weight * math.log(softmax(row)[place]) / 4
    loss = deep_supervision(stages, torch.tensor(target), weights=weights)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_deep_supervision_has_one_weight_for_each_stage():
    with pytest.raises(ValueError, match="zip"):
        deep_supervision([torch.zeros(1, 2)] * 2, torch.tensor([0]), weights=[1.0])
