import math

import pytest
import torch
import torch.nn.functional as F

from distill.methods import METHODS
from distill.objectives.cross_entropy import cross_entropy
from distill.objectives.feature_distillation import feature_distillation
from distill.objectives.info_nce import info_nce
from distill.objectives.logit_distillation import logit_distillation

# Two ranks: test_two_ranks.py.


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


@pytest.fixture
def numbers() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_cross_entropy_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0]])
    assert cross_entropy(logits, torch.tensor([0])).item() == pytest.approx(math.log(4 / 3))
    smoothed = cross_entropy(logits, torch.tensor([0]), label_smoothing=0.2).item()
    assert smoothed == pytest.approx(-0.9 * math.log(3 / 4) - 0.1 * math.log(1 / 4))


def test_cross_entropy_by_a_slow_loop(numbers: torch.Generator):
    logits, target = torch.randn(5, 7, generator=numbers), torch.tensor([0, 3, 6, 6, 2])
    expected = 0.0
    for row, place in zip(logits.tolist(), target.tolist(), strict=True):
        for at, probability in enumerate(softmax(row)):
            wanted = 0.1 / 7 + (0.9 if at == place else 0.0)
            expected -= wanted * math.log(probability) / 5
    assert cross_entropy(logits, target, label_smoothing=0.1).item() == pytest.approx(expected)


def test_info_nce_by_hand():
    query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss = info_nce(query, gallery, torch.tensor([0]), scale=2.0).item()
    assert loss == pytest.approx(math.log(1 + math.exp(-2)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_info_nce_by_a_slow_loop(numbers: torch.Generator, smoothing: float):
    query = F.normalize(torch.randn(3, 4, generator=numbers), dim=1)
    gallery = F.normalize(torch.randn(6, 4, generator=numbers), dim=1)
    target = [4, 0, 2]
    expected = 0.0
    for row, own in zip(query.tolist(), target, strict=True):
        similar = [10 * sum(a * b for a, b in zip(row, g, strict=True)) for g in gallery.tolist()]
        for at, probability in enumerate(softmax(similar)):
            wanted = smoothing / 6 + (1 - smoothing if at == own else 0.0)
            expected -= wanted * math.log(probability) / 3
    loss = info_nce(query, gallery, torch.tensor(target), scale=10.0, label_smoothing=smoothing)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    by_torch = F.cross_entropy(
        10 * query @ gallery.T, torch.tensor(target), label_smoothing=smoothing
    )
    assert torch.equal(loss, by_torch)


def test_logit_distillation_by_hand():
    teacher, student = torch.tensor([[4 * math.log(3.0), 0.0]]), torch.tensor([[0.0, 0.0]])
    loss = logit_distillation(student, teacher, temperature=4.0).item()
    assert loss == pytest.approx(16 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)))


def test_logit_distillation_by_a_slow_loop(numbers: torch.Generator):
    student, teacher = (torch.randn(4, 5, generator=numbers) * 3 for _ in range(2))
    expected = 0.0
    for own, wanted in zip(student.tolist(), teacher.tolist(), strict=True):
        p, q = softmax([v / 2 for v in wanted]), softmax([v / 2 for v in own])
        expected += sum(4 * a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 4
    loss = logit_distillation(student, teacher, temperature=2.0).item()
    assert loss == pytest.approx(expected, rel=1e-5)


def test_distillation_is_zero_for_equals(numbers: torch.Generator):
    values = torch.randn(6, 9, generator=numbers)
    assert logit_distillation(values, values, temperature=4.0).item() == pytest.approx(0, abs=1e-6)
    assert feature_distillation(values, 3 * values).item() == pytest.approx(0, abs=1e-6)


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
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
        expected -= dot / lengths / 5
    loss = feature_distillation(student, teacher).item()
    assert loss == pytest.approx(expected, rel=1e-5)
    unit = F.normalize(student, dim=1) - F.normalize(teacher, dim=1)
    assert loss == pytest.approx(unit.square().sum(1).mean().item() / 2, rel=1e-5)


def test_a_term_has_one_name_everywhere(distilled, make_config):
    objectives = distilled().objectives
    names = list(vars(objectives))
    assert list(METHODS["pfed"].terms(objectives)) == names == list(objectives.weights)
    for name in names:
        module = __import__(f"distill.objectives.{name}", fromlist=[name])
        assert callable(getattr(module, name))
    assert list(METHODS["pfed"].terms(make_config().objectives)) == ["info_nce"]
