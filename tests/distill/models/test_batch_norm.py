"""Statistics over all ranks, on one; two ranks are in test_exactness.py."""

import copy

import torch
from timm.layers import BatchNormAct2d
from torch import nn

from distill.models import rank_invariant
from distill.models.rank_invariant import normalize_over_all_ranks


def both(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    changed = copy.deepcopy(network)
    normalize_over_all_ranks(changed)
    return network, changed


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), BatchNormAct2d(4), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.BatchNorm1d(32))


def seen(net: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    result = net(images)
    (result**3).sum().backward()
    return [result, *(p.grad for p in net.parameters()), *net.state_dict().values()]


def test_one_rank_is_torch_s_own_to_the_bit_and_has_its_names():
    plain, changed = both(network())
    assert plain.state_dict().keys() == changed.state_dict().keys()
    images = torch.randn(5, 3, 8, 8)
    for net in (plain, changed):
        net[3].eval()
    for one, other in zip(seen(plain, images), seen(changed, images), strict=True):
        assert torch.equal(one, other)


def test_the_arithmetic_of_mrank_invariant_is_torch_s_own(monkeypatch):
    # Two ranks that have the same images: the statistics are those of one.
    monkeypatch.setattr(rank_invariant, "world_size", lambda: 2)
    monkeypatch.setattr(rank_invariant, "_gather", lambda part: torch.cat([part, part]))
    plain, changed = both(network().double())
    images = torch.randn(5, 3, 8, 8, dtype=torch.float64)
    expected, found = seen(plain, images), seen(changed, images)
    names = [name for name, _ in plain.named_parameters()] + list(plain.state_dict())
    for name, one, other in zip(["result", *names], expected, found, strict=True):
        if not name.endswith("running_var"):  # of twice as many values
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
