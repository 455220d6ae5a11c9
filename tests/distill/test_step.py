"""A step in one process; what two ranks see is in test_two_ranks.py."""

import numpy as np
import pytest
import torch

from data_shards.errors import RecipeError
from distill.batches import DeviceBatch
from distill.config import ModelConfig
from distill.methods import METHODS
from distill.methods.pfed import MAX_SCALE, Pfed
from distill.models import build_model, unit
from distill.step import DistillStep
from tests.distill.conftest import open_alone

ROWS, DRONES = 3, 2


def make_step(config, method=METHODS["pfed"]) -> DistillStep:
    torch.manual_seed(0)
    model = build_model(
        ModelConfig(arch="convnext_micro", weights="none", dropout=0.0), num_places=4
    )
    return DistillStep(config, method, model, teacher=None)


@pytest.fixture
def batch() -> DeviceBatch:
    numbers = torch.Generator().manual_seed(2)
    images = torch.randint(
        0, 256, (ROWS * (1 + DRONES), 32, 32, 3), generator=numbers, dtype=torch.uint8
    )
    return DeviceBatch(
        step=0,
        satellite=images[:ROWS],
        drone=images[ROWS:],
        place=torch.arange(ROWS),
        teacher_satellite=images[:ROWS],
        teacher_drone=images[ROWS:],
        keys=np.arange(len(images)),
        slots=np.zeros(len(images), dtype=np.int64),
    )


def test_the_learned_scale_stops_at_its_limit(make_config):
    session = open_alone(make_config())
    scale = session.whole.log_scale
    assert scale.exp().item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        scale.fill_(20.0)
    scale.grad = torch.ones(())
    session.groups.step()
    assert scale.exp().item() == pytest.approx(MAX_SCALE)


def test_only_the_terms_that_are_asked_for_are_computed(make_config, batch):
    step = make_step(make_config(objectives={"cross_entropy": {"weight": 1.0}}))
    assert list(step(batch, ["cross_entropy"])[0]) == ["cross_entropy"]
    assert list(step(batch, ["info_nce", "cross_entropy"])[0]) == ["info_nce", "cross_entropy"]


def test_views_apart_differ_by_their_batch_statistics_alone(make_config, batch):
    class Apart(Pfed):
        views = "apart"

    config = make_config(objectives={"cross_entropy": {"weight": 1.0}})
    names = ["info_nce", "cross_entropy"]
    joint, apart = make_step(config), make_step(config, Apart())
    (one, _), (two, _) = joint(batch, names), apart(batch, names)
    assert torch.allclose(one["info_nce"], two["info_nce"], rtol=1e-6)  # no statistics before it
    assert not torch.allclose(one["cross_entropy"], two["cross_entropy"], rtol=1e-6)
    joint, apart = make_step(config).eval(), make_step(config, Apart()).eval()
    (one, _), (two, _) = joint(batch, names), apart(batch, names)
    assert all(torch.allclose(one[name], two[name], rtol=1e-5) for name in names)


def test_unit_descriptors_have_parts_of_equal_length():
    parts = torch.randn(5, 3, 4)
    descriptor = unit(parts)
    assert descriptor.shape == (5, 12)
    lengths = descriptor.unflatten(1, (3, 4)).norm(dim=2)
    assert torch.allclose(lengths, torch.full((5, 3), 3**-0.5))
    cosine = torch.cosine_similarity(parts[:2], parts[2:4], dim=2).mean(1)
    assert torch.allclose((descriptor[:2] * descriptor[2:4]).sum(1), cosine, atol=1e-6)


def test_a_recipe_that_is_refused_leaves_no_run_folder(make_config):
    config = make_config(model={"final_norm": True})
    with pytest.raises(RecipeError, match="model.final_norm: convnext_micro has none"):
        open_alone(config)
    assert not config.run_folder.exists()
