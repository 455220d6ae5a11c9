import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from distill.objectives.feature_distillation import feature_distillation
from distill.objectives.logit_distillation import logit_distillation
from distill.objectives.self_distillation import self_distillation
from distill.objectives.uapa import alignment_temperature, entropy, uapa
from tests.distill.objectives.conftest import divergence, dot, softmax

WEIGHTS = [0.1, 0.2, 0.3]

# Which stage teaches which, counted from 0, in the order of WEIGHTS.
LESSONS = [
    ("inverse", False, [(0, 3), (1, 3), (2, 3)]),
    ("inverse", True, [(0, 1), (1, 2), (2, 3)]),
    ("ordinary", False, [(3, 0), (3, 1), (3, 2)]),
    ("ordinary", True, [(1, 0), (2, 1), (3, 2)]),
]


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


def random_stages(numbers: torch.Generator, dtype=torch.float32) -> list[Tensor]:
    stages = [torch.randn(5, 6, generator=numbers, dtype=dtype) * 3 for _ in range(4)]
    return [stage.requires_grad_() for stage in stages]


def test_self_distillation_by_hand():
    stages = [torch.tensor([[2 * math.log(3.0), 0.0]]), torch.tensor([[0.0, 0.0]])]
    one = partial(self_distillation, stages, weights=[0.5], temperature=2.0, detach=True)
    inverse = one(direction="inverse", chain=False).item()
    assert inverse == pytest.approx(0.5 * 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)))
    ordinary = one(direction="ordinary", chain=False).item()
    assert ordinary == pytest.approx(0.5 * 4 * (0.5 * math.log(2 / 3) + 0.5 * math.log(2)))
    for direction, value in (("inverse", inverse), ("ordinary", ordinary)):
        assert one(direction=direction, chain=True).item() == value  # two stages are neighbours


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize(("direction", "chain", "lessons"), LESSONS)
def test_self_distillation_by_a_slow_loop(numbers, direction, chain, lessons, detach):
    stages = random_stages(numbers)
    expected = 0.0
    for weight, (teaching, learning) in zip(WEIGHTS, lessons, strict=True):
        rows = zip(stages[teaching].tolist(), stages[learning].tolist(), strict=True)
        expected += weight * sum(divergence(p, q, 4) for p, q in rows) / 5
    loss = self_distillation(
        stages, weights=WEIGHTS, temperature=4.0, direction=direction, chain=chain, detach=detach
    )
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize(("direction", "chain", "lessons"), LESSONS)
def test_self_distillation_moves_the_stages_that_learn(numbers, direction, chain, lessons, detach):
    stages = random_stages(numbers)
    loss = self_distillation(
        stages, weights=WEIGHTS, temperature=4.0, direction=direction, chain=chain, detach=detach
    )
    found = torch.autograd.grad(loss, stages, allow_unused=True, materialize_grads=True)
    expected = [torch.zeros(5, 6) for _ in stages]
    for weight, (teaching, learning) in zip(WEIGHTS, lessons, strict=True):
        p, q = (F.softmax(stages[at].detach() / 4, dim=1) for at in (teaching, learning))
        expected[learning] += weight * 4 / 5 * (q - p)
        if not detach:
            surprise = (p / q).log()
            mean = (p * surprise).sum(dim=1, keepdim=True)
            expected[teaching] += weight * 4 / 5 * p * (surprise - mean)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)
    assert any(not grad.any() for grad in found) is detach


def test_self_distillation_has_one_weight_for_each_earlier_stage(numbers: torch.Generator):
    with pytest.raises(ValueError, match="zip"):
        self_distillation(
            random_stages(numbers),
            weights=[1.0],
            temperature=4.0,
            direction="inverse",
            chain=False,
            detach=True,
        )


def test_entropy_by_hand_and_by_a_slow_loop(numbers: torch.Generator):
    logits = torch.tensor([[0.0] * 4, [1000.0, 0.0, 0.0, 0.0], [math.log(3.0), 0.0, -1e9, -1e9]])
    mixed = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert entropy(logits).tolist() == pytest.approx([math.log(4), 0, mixed], abs=1e-6)
    logits = torch.randn(3, 7, generator=numbers)
    expected = [-sum(p * math.log(p) for p in softmax(row)) for row in logits.tolist()]
    assert entropy(logits).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_temperature_of_alignment_rises_with_the_doubt_of_the_drone():
    most, unsure, sure = math.log(701), [0.0, 2 * math.log(3.0)], [0.0]
    for drone, satellite, expected in (
        ([2.0], [1.0, 3.0], 6.0),
        (unsure, sure, 4 * 1.75),
        (sure, unsure, 4 * 1.25),
        ([most], [0.0], 4 * (1 + 701 / 702)),
    ):
        temperature = alignment_temperature(torch.tensor(drone), torch.tensor(satellite), base=4.0)
        assert temperature.shape == () and temperature.item() == pytest.approx(expected)


def test_the_temperature_of_alignment_has_no_gradient(numbers: torch.Generator):
    logits = torch.randn(3, 7, generator=numbers).requires_grad_()
    temperature = alignment_temperature(entropy(logits), entropy(2 * logits), base=4.0)
    assert not temperature.requires_grad


def test_uapa_by_hand():
    satellite, drone = torch.tensor([[6 * math.log(3.0), 0.0]]), torch.tensor([[0.0, 0.0]])
    loss = uapa(satellite, drone, temperature=torch.tensor(6.0)).item()
    assert loss == pytest.approx(36 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)))


def test_uapa_by_a_slow_loop(numbers: torch.Generator):
    satellite, drone = (torch.randn(4, 5, generator=numbers) * 3 for _ in range(2))
    expected = 0.0
    for tile, view in zip(satellite.tolist(), drone.tolist(), strict=True):
        expected += divergence(tile, view, 5.0) / 4
    loss = uapa(satellite, drone, temperature=torch.tensor(5.0))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert torch.allclose(loss, logit_distillation(drone, satellite, temperature=5.0), rtol=1e-6)


def test_uapa_moves_the_drone_alone(numbers: torch.Generator):
    satellite, drone = (
        torch.randn(3, 4, generator=numbers, dtype=torch.float64).requires_grad_() for _ in range(2)
    )
    temperature = alignment_temperature(entropy(drone), entropy(satellite), base=4.0)
    assert gradcheck(partial(uapa, satellite.detach(), temperature=temperature), (drone,))
    uapa(satellite, drone, temperature=temperature).backward()
    assert satellite.grad is None and drone.grad.any()


def test_distillation_is_zero_for_equals(numbers: torch.Generator):
    values = torch.randn(6, 9, generator=numbers)
    losses = [
        logit_distillation(values, values, temperature=4.0),
        feature_distillation(values, 3 * values),
        uapa(values, values, temperature=torch.tensor(6.0)),
    ]
    for direction, chain, _ in LESSONS:
        stages = {"weights": WEIGHTS, "temperature": 4.0, "direction": direction, "chain": chain}
        losses.append(self_distillation([values] * 4, **stages, detach=True))
    assert [loss.item() for loss in losses] == pytest.approx([0] * len(losses), abs=1e-6)
