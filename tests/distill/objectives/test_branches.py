"""BiCrossNet's terms, branch by branch (spec bicrossnet 4.1); two ranks in test_two_ranks.py."""

# Shapes: G = rows of all ranks, k = drone views of a row, P = branches, D = width of a branch.

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from distill.config import ObjectivesConfig
from distill.methods import METHODS, Rows, StepTensors
from distill.models import Outputs
from distill.objectives.cross_view import cross_view
from tests.distill.objectives.conftest import divergence, dot, part_of_a_rank, softmax

PLACES = [4, 1, 2, 0]
BRANCHES, WIDTH = range(3), 5


def term(name: str, step: StepTensors, **options: Any) -> float:
    """The value of one term as the method computes it from a recipe."""
    config = type(getattr(ObjectivesConfig(), name))(weight=1.0, **options)
    return METHODS["bicrossnet"].terms(ObjectivesConfig(**{name: config}))[name].loss(step).item()


def rows(*, place: list[int], k: int = 1, **outputs: tuple[Any, Any]) -> Rows:
    """Rows of these outputs, each given of the tiles [G, P, .] and of the drone views."""
    both = [
        Outputs({name: torch.as_tensor(two[view]) for name, two in outputs.items()})
        for view in (0, 1)
    ]
    return Rows(place=torch.tensor(place), num_drones=k, satellite=both[0], drone=both[1])


def random_rows(numbers: torch.Generator, k: int, *names: str) -> Rows:
    shapes = (len(PLACES), 3, WIDTH), (len(PLACES), k, 3, WIDTH)
    outputs = {name: tuple(torch.randn(s, generator=numbers) for s in shapes) for name in names}
    return rows(place=PLACES, k=k, **outputs)


def random_teacher(numbers: torch.Generator, k: int, name: str) -> Outputs:
    """Of two rows: two tiles, then the drone views of the first, then those of the second."""
    return Outputs({name: torch.randn(2 + 2 * k, 3, WIDTH, generator=numbers)})


def test_the_views_cross_entropies_are_added_and_the_branches_averaged():
    # Three branches: 3/4 for the place, 1/4, and evenly divided; of the drone view always even.
    tile = [[[math.log(3.0), 0.0], [0.0, math.log(3.0)], [0.0, 0.0]]]
    step = part_of_a_rank(rows(place=[0], logits=(tile, [[[[0.0, 0.0]] * 3]])), 0)
    expected = (math.log(4 / 3) + math.log(4) + math.log(2)) / 3 + math.log(2)
    assert term("cross_entropy", step) == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 2])
def test_cross_entropy_of_branches_by_a_slow_loop(numbers: torch.Generator, k: int):
    everyone = random_rows(numbers, k, "logits")
    tiles, drones = (view["logits"].tolist() for view in (everyone.satellite, everyone.drone))
    expected = 0.0
    for row, branch in product((2, 3), BRANCHES):
        for views in ([tiles[row]], drones[row]):
            for view in views:
                probabilities = softmax(view[branch])
                smooth = -0.1 / WIDTH * sum(map(math.log, probabilities))
                own = -0.9 * math.log(probabilities[PLACES[row]])
                expected += (smooth + own) / 3 / 2 / len(views)
    loss = term("cross_entropy", part_of_a_rank(everyone, 2), label_smoothing=0.1)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_the_triplets_of_a_branch_by_hand():
    # Lengths do not count. Branch 1: each is at its place, sqrt(2) from the other. Branches 2, 3:
    # each drone view is where the other tile is, so all four anchors lose by sqrt(2).
    right, up = [2.0, 0.0], [0.0, 3.0]
    tiles, views = [[right] * 3, [up] * 3], [[[right, up, up]], [[up, right, right]]]
    step = part_of_a_rank(rows(place=[7, 8], features=(tiles, views)), 0)
    assert term("triplet", step) == pytest.approx((0 + 2 * (math.sqrt(2) + 0.3)) / 3)
    assert step.measures["triplet_active"] == pytest.approx(2 / 3)
    assert term("triplet", step, margin=2.0) == pytest.approx(2 + math.sqrt(2) / 3)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("first", [0, 2])
def test_triplet_of_branches_by_a_slow_loop(numbers: torch.Generator, k: int, first: int):
    everyone, losses = random_rows(numbers, k, "features"), []
    for branch in BRANCHES:
        drone = labelled(everyone.drone["features"][:, :, branch].flatten(0, 1), k)
        tile = labelled(everyone.satellite["features"][:, branch], 1)
        own_drone, own_tile = drone[first * k : (first + 2) * k], tile[first : first + 2]
        for anchors, others in ((own_tile, drone), (own_drone, tile)):
            for own, anchor in anchors:
                farthest = max(math.dist(anchor, other) for place, other in others if place == own)
                nearest = min(math.dist(anchor, other) for place, other in others if place != own)
                losses.append(max(0.0, farthest - nearest + 0.3))
    assert len(losses) == 3 * 2 * (1 + k)
    loss = term("triplet", part_of_a_rank(everyone, first))
    assert loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def labelled(vectors: Tensor, k: int) -> list[tuple[int, list[float]]]:
    """Place and unit vector of each of k images of every place."""
    units = [[x / math.sqrt(dot(row, row)) for x in row] for row in vectors.tolist()]
    return [(PLACES[number // k], row) for number, row in enumerate(units)]


def test_squared_differences_from_the_teacher_by_hand():
    # Of the tile 1, 2 and 3 on two numbers each: their squares' mean is 14/3; of the drone view 1.
    teacher = Outputs(logits=torch.zeros(2, 3, 2))
    tile, view = [[[1.0] * 2, [2.0] * 2, [3.0] * 2]], [[[[1.0, -1.0]] * 3]]
    step = part_of_a_rank(rows(place=[0], logits=(tile, view)), 0, teacher=teacher)
    assert term("logit_distillation", step) == pytest.approx((14 / 3 + 1) / 2)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(
    ("name", "own", "taught", "options"),
    [
        ("logit_distillation", "logits", "logits", {}),
        ("feature_distillation", "descriptor", "features", {}),
        ("feature_distillation", "features", "features", {"behind_dropout": True}),
    ],
)
def test_squared_differences_by_a_slow_loop(numbers, k, name, own, taught, options):
    everyone = random_rows(numbers, k, "logits", "descriptor", "features")
    teacher, expected = random_teacher(numbers, k, taught), 0.0
    answers, at = teacher[taught].tolist(), 2
    for answer, row in enumerate((2, 3)):
        tile, views = everyone.satellite[own][row].tolist(), everyone.drone[own][row].tolist()
        pairs = [(tile, answers[answer], 1)]
        for view in views:
            pairs.append((view, answers[at], k))
            at += 1
        for (student, wanted, of_a_row), branch in product(pairs, BRANCHES):
            gaps = zip(student[branch], wanted[branch], strict=True)
            squares = sum((a - b) ** 2 for a, b in gaps)
            expected += squares / (2 * of_a_row * 3 * WIDTH) / 2
    loss = term(name, part_of_a_rank(everyone, 2, teacher=teacher), **options)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_cross_view_by_hand_moves_both_views(numbers: torch.Generator):
    tile, view = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    by_hand = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert cross_view(tile, view).item() == pytest.approx(by_hand)
    both = [torch.randn(4, 3, generator=numbers, dtype=torch.float64) for _ in range(2)]
    assert gradcheck(cross_view, [logits.requires_grad_() for logits in both])
    assert all(grad.any() for grad in torch.autograd.grad(cross_view(*both), both))


@pytest.mark.parametrize("k", [1, 2])
def test_cross_view_of_branches_by_a_slow_loop(numbers: torch.Generator, k: int):
    everyone = random_rows(numbers, k, "logits")
    tiles, drones = (view["logits"].tolist() for view in (everyone.satellite, everyone.drone))
    expected = 0.0
    for row, number, branch in product((0, 1), range(k), BRANCHES):
        expected += divergence(drones[row][number][branch], tiles[row][branch], 1) / (2 * k * 3)
    assert term("cross_view", part_of_a_rank(everyone, 0)) == pytest.approx(expected, rel=1e-5)
