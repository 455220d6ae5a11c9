import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from distill.objectives.info_nce import info_nce
from tests.distill.objectives.conftest import dot, softmax


def random_units(numbers: torch.Generator, rows: int, dtype=torch.float32) -> Tensor:
    return F.normalize(torch.randn(rows, 4, generator=numbers, dtype=dtype), dim=1)


def test_info_nce_by_hand():
    query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss = info_nce(query, gallery, torch.tensor([[True, False]]), scale=2.0).item()
    assert loss == pytest.approx(math.log(1 + math.exp(-2)))
    both = info_nce(query, gallery, torch.tensor([[True, True]]), scale=2.0).item()
    assert both == pytest.approx(math.log(1 + math.exp(-2)) + 1)  # mean of log p at 2 and at 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_info_nce_by_a_slow_loop(numbers: torch.Generator, smoothing: float):
    query, gallery = random_units(numbers, 3), random_units(numbers, 6)
    positives = [[4], [0, 1, 5], [2, 3]]
    expected, positive = 0.0, torch.zeros(3, 6, dtype=torch.bool)
    for at_query, (row, own) in enumerate(zip(query.tolist(), positives, strict=True)):
        positive[at_query, own] = True
        similar = [10 * dot(row, image) for image in gallery.tolist()]
        for at, probability in enumerate(softmax(similar)):
            wanted = smoothing / 6 + ((1 - smoothing) / len(own) if at in own else 0.0)
            expected -= wanted * math.log(probability) / 3
    loss = info_nce(query, gallery, positive, scale=10.0, label_smoothing=smoothing)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_info_nce_of_one_positive_is_cross_entropy_of_its_index(
    numbers: torch.Generator, smoothing: float
):
    query, gallery = random_units(numbers, 3), random_units(numbers, 6)
    target = torch.tensor([4, 0, 2])
    positive = F.one_hot(target, 6).bool()
    loss = info_nce(query, gallery, positive, scale=10.0, label_smoothing=smoothing)
    by_index = F.cross_entropy(10 * query @ gallery.T, target, label_smoothing=smoothing)
    assert torch.allclose(loss, by_index, rtol=1e-6)
