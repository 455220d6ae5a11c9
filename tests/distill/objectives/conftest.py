"""Plain numbers, in which the slow loops spell the formulas."""

import math
from collections.abc import Sequence

import pytest
import torch


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
