"""Heat maps divide the similarity of a pair up exactly, and land where the pair agrees."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from data_shards.schema import Role, View
from data_shards.shards import ShardSet
from distill.models.heads import GeM, Mean
from distill.run_folder import RunPaths
from distill.weights_file import load_student
from evaluation.figures.pictures import (
    HeatPair,
    contributions,
    draw_heat_maps,
    feature_maps,
    heat_pairs,
    heated,
)


@pytest.mark.parametrize("pool", [GeM(), GeM(power=1.7), Mean()], ids=["gem", "gem 1.7", "mean"])
@pytest.mark.parametrize("projection", [nn.Identity(), nn.Linear(8, 5, bias=False)])
def test_shares_of_all_places_add_up_to_the_cosine_similarity(
    pool: nn.Module, projection: nn.Module
) -> None:
    drawn = torch.Generator().manual_seed(0)
    own, other = torch.randn(2, 3, 8, 4, 5, generator=drawn)
    heat_BHW = contributions(own, other, pool, projection)
    one, two = projection(pool(own)), projection(pool(other))
    cosine_B = F.cosine_similarity(one, two, dim=1).detach()
    assert heat_BHW.shape == (3, 4, 5)
    torch.testing.assert_close(heat_BHW.sum(dim=(1, 2)).float(), cosine_B, rtol=1e-5, atol=1e-6)


def test_the_heat_lies_where_the_other_image_has_the_same_feature() -> None:
    own, other = torch.full((2, 1, 2, 3, 3), 1e-3).unbind(0)
    own[0, 0, 0, 0] = own[0, 1, 2, 2] = 5.0  # two things, one in each corner
    other[0, 0, 1, 1] = 5.0  # the other image has the first of them alone
    heat_HW = contributions(own, other, GeM(), nn.Identity())[0]
    assert heat_HW.argmax() == 0
    assert heat_HW[0, 0] > 0.9 * heat_HW.sum() > 100 * heat_HW[2, 2]


def test_a_pair_is_described_as_the_search_described_it(run: RunPaths, shards: ShardSet) -> None:
    loaded = load_student(run.folder)
    drone = int(shards.images.where(role=Role.QUERY, view=View.DRONE)[3])
    places = shards.images.place
    satellites = shards.images.where(role=Role.GALLERY, view=View.SATELLITE)
    satellite = int(satellites[places[satellites] == places[drone]][0])
    was_training = loaded.model.training
    (pair,) = heat_pairs(
        loaded.model,
        shards,
        [(drone, satellite, "rank 1")],
        image_size=64,
        resampling=loaded.resampling,
    )
    assert loaded.model.training == was_training
    assert not loaded.model.head.pool._forward_pre_hooks, "the hook is taken off again"
    drone_heat, satellite_heat = pair.heats
    assert drone_heat.shape == satellite_heat.shape == (2, 2)
    assert drone_heat.sum() == pytest.approx(satellite_heat.sum(), abs=1e-5)
    assert 0 < pair.similarity <= 1 + 1e-6
    figure = draw_heat_maps([pair], title="", subtitle="")
    assert [len(axes.images) for axes in figure.axes[:4]] == [1, 1, 1, 1]
    assert f"{pair.similarity:.2f}" in figure.axes[3].get_xlabel()


def test_no_name_is_cut_short() -> None:
    grey, heat = np.full((8, 8, 3), 128, dtype=np.uint8), np.full((2, 2), 0.125)
    name = "place krakow-rynek-podgorski-and-a-very-long-addition-grodzyn-04"
    pair = HeatPair(photos=[grey, grey], heats=[heat, heat], place=name, note="rank 1")
    figure = draw_heat_maps([pair], title="", subtitle="")
    told = ["".join(axes.get_xlabel().split()) for axes in figure.axes]
    assert any("".join(name.split()) in caption for caption in told)
    assert not any("…" in caption for caption in told)


def test_the_maps_are_those_that_the_pool_sees(run: RunPaths) -> None:
    model = load_student(run.folder).model
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    assert feature_maps(model, images).shape == (2, model.width, 2, 2)


def test_hot_places_glow_and_cold_ones_darken() -> None:
    grey = np.full((20, 20, 3), 128, dtype=np.uint8)
    heat = np.array([[1.0, 0.0], [0.0, -1.0]])
    drawn = heated(grey, heat).astype(int)
    assert drawn.shape == grey.shape
    assert drawn[0, 0].sum() > 2 * max(drawn[0, -1].sum(), drawn[-1, -1].sum())
    assert drawn[0, 0, 0] > drawn[0, 0, 2], "hot is yellow, not blue"
