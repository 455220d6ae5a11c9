"""What a method makes of the objectives; two ranks are in test_two_ranks.py."""

import math
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import distill.objectives
from distill.config import ObjectivesConfig
from distill.config.objectives import InfoNceConfig
from distill.methods import METHODS, Rows, StepTensors
from distill.methods.pfed import symmetric_info_nce
from distill.models import Outputs
from tests.distill.objectives.conftest import dot, part_of_a_rank, softmax

NOTHING = ObjectivesConfig()


@pytest.mark.parametrize("name", vars(NOTHING))
def test_a_term_has_one_name_everywhere_and_belongs_to_the_methods_that_its_weight_tells(name):
    assert callable(getattr(import_module(f"distill.objectives.{name}"), name))
    config = replace(getattr(NOTHING, name), weight=1.0)
    alone = replace(NOTHING, **{name: config})
    (weight,) = (one for one in config.__dataclass_fields__.values() if one.name == "weight")
    told = set(weight.metadata["methods"] or METHODS)
    assert told and told <= METHODS.keys()
    for method in told:
        assert list(METHODS[method].terms(alone)) == [name]
    for method in METHODS.keys() - told:
        with pytest.raises(KeyError, match=name):
            METHODS[method].terms(alone)


def test_every_objective_has_a_weight_and_what_has_none_is_no_term():
    files = Path(distill.objectives.__path__[0]).glob("[!_]*.py")
    assert {path.stem for path in files} == vars(NOTHING).keys()
    assert all(method.terms(NOTHING) == {} for method in METHODS.values())


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
    return part_of_a_rank(everyone, first)


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
    loss = symmetric_info_nce(step, InfoNceConfig(label_smoothing=0.0)).item()
    assert loss == pytest.approx((to_drones + to_satellites) / 2, rel=1e-5)
