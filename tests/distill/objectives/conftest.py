"""Plain numbers, in which the slow loops spell the formulas, and the step that a rank sees."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import nn

from distill.methods import Rows, StepTensors
from distill.models import Outputs


@pytest.fixture
def numbers() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def softmax(row: Sequence[float]) -> list[float]:
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


def divergence(teaching: Sequence[float], learning: Sequence[float], temperature: float) -> float:
    """T^2 KL of one row's probabilities at T."""
    p, q = (softmax([value / temperature for value in row]) for row in (teaching, learning))
    return temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def part_of_a_rank(everyone: Rows, first: int, *, teacher: Outputs | None = None) -> StepTensors:
    """The step of a rank that has two of all rows, from `first` on; `teacher` is of its images."""
    rows = slice(first, first + 2)
    own = Rows(
        place=everyone.place[rows],
        num_drones=everyone.num_drones,
        satellite=everyone.satellite.map(lambda values: values[rows]),
        drone=everyone.drone.map(lambda values: values[rows]),
    )
    return StepTensors(
        student=Outputs(),
        teacher=teacher or Outputs(),
        place=torch.empty(0),
        own=own,
        everyone=everyone,
        scale=torch.tensor(8.0),
        parts=nn.Identity(),
        measures={},
    )
