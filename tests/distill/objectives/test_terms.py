"""What a method makes of the objectives; two ranks are in test_two_ranks.py."""

import math

import pytest
import torch
import torch.nn.functional as F

from distill.methods import METHODS, Rows, StepTensors
from distill.methods.pfed import symmetric_info_nce
from distill.models import Outputs
from tests.distill.objectives.conftest import dot, softmax


def test_a_term_has_one_name_everywhere(distilled, make_config):
    objectives = distilled().objectives
    names = list(vars(objectives))
    assert list(METHODS["pfed"].terms(objectives)) == names == list(objectives.weights)
    for name in names:
        module = __import__(f"distill.objectives.{name}", fromlist=[name])
        assert callable(getattr(module, name))
    assert list(METHODS["pfed"].terms(make_config().objectives)) == ["info_nce"]


def random_step(numbers: torch.Generator, places: list[int], k: int, first: int) -> StepTensors:
    """The step of a rank that has two of all rows, from `first` on."""
    satellite = F.normalize(torch.randn(len(places), 5, generator=numbers), dim=1)
    drone = F.normalize(torch.randn(len(places), k, 5, generator=numbers), dim=2)
    everyone = Rows(
        place=torch.tensor(places),
        num_drones=k,
        satellite=Outputs(unit=satellite),
        drone=Outputs(unit=drone),
    )
    rows = slice(first, first + 2)
    own = Rows(
        place=everyone.place[rows],
        num_drones=k,
        satellite=everyone.satellite.map(lambda values: values[rows]),
        drone=everyone.drone.map(lambda values: values[rows]),
    )
    return StepTensors(
        student=Outputs(),
        teacher=Outputs(),
        place=torch.empty(0),
        own=own,
        everyone=everyone,
        scale=torch.tensor(8.0),
        parts=torch.nn.Identity(),
        measures={},
    )


def slow_info_nce(query: list[float], gallery: list[tuple[list[float], int]], own: int) -> float:
    probabilities = softmax([8 * dot(query, image) for image, _ in gallery])
    positives = [p for p, (_, place) in zip(probabilities, gallery, strict=True) if place == own]
    return -sum(map(math.log, positives)) / len(positives)


@pytest.mark.parametrize("places", [[4, 1, 2, 0], [4, 1, 2, 4]], ids=["once", "one twice"])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("first", [0, 2])
def test_symmetric_info_nce_by_a_slow_loop(
    numbers: torch.Generator, places: list[int], k: int, first: int
):
    step = random_step(numbers, places, k, first)
    tiles, views = step.everyone.satellite["unit"].tolist(), step.everyone.drone["unit"].tolist()
    all_tiles = list(zip(tiles, places, strict=True))
    all_views = [(view, place) for row, place in zip(views, places, strict=True) for view in row]
    to_drones = to_satellites = 0.0
    for row in (first, first + 1):
        to_drones += slow_info_nce(tiles[row], all_views, places[row]) / 2
        for view in views[row]:
            to_satellites += slow_info_nce(view, all_tiles, places[row]) / (2 * k)
    loss = symmetric_info_nce(step, smoothing=0.0).item()
    assert loss == pytest.approx((to_drones + to_satellites) / 2, rel=1e-5)
