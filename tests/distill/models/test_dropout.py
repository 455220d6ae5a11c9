"""Masks that depend on (seed, step, sample) alone; whole models are in test_exactness.py."""

import numpy as np
import pytest
import torch
from timm.layers import DropPath
from torch import nn

from distill.models.rank_invariant import draw_by_sample, sample_seeds

KEYS = np.arange(4000)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Dropout(0.25), DropPath(0.5), nn.Dropout(0.25))


def masks(net: nn.Module, draws, keys, *, seed=1, step=7) -> list[torch.Tensor]:
    draws.seeds = sample_seeds(seed, step, keys)
    return [layer(torch.ones(len(keys), 3, 5)) for layer in net]


def test_as_much_is_dropped_as_is_said_and_the_mean_stays():
    net = network()
    first, path, last = masks(net, draw_by_sample(net), KEYS)
    assert first.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (first == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert (path == 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert torch.equal(path.amin(dim=(1, 2)), path.amax(dim=(1, 2))), "a path is dropped whole"
    # Positions, images and layers are dropped each for itself.
    both = ((first == 0) & (last == 0)).float().mean().item()
    assert both == pytest.approx(0.25**2, abs=0.01)
    pairs = (first.flatten(1)[:, :-1] == 0) & (first.flatten(1)[:, 1:] == 0)
    assert pairs.float().mean().item() == pytest.approx(0.25**2, abs=0.01)
    pairs = (first[:-1] == 0) & (first[1:] == 0)
    assert pairs.float().mean().item() == pytest.approx(0.25**2, abs=0.01)


def test_a_sample_has_its_masks_in_any_batch_and_others_in_another_step_or_seed():
    net = network()
    draws = draw_by_sample(net)
    whole = masks(net, draws, KEYS)
    for part in (slice(0, 10), slice(10, 4000, 7)):
        for one, other in zip(whole, masks(net, draws, KEYS[part]), strict=True):
            assert torch.equal(one[part], other)
    for changes in ({"seed": 2}, {"step": 8}):
        for one, other in zip(whole, masks(net, draws, KEYS, **changes), strict=True):
            assert not torch.equal(one, other)
    net.eval()
    assert all((mask == 1).all() for mask in masks(net, draws, KEYS))
