"""Costs counted by hand."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluation.efficiency.counts import macs, parameters


class Tiny(nn.Module):
    """A convolution and a linear layer that describe, and a head that only training uses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.power = nn.Parameter(torch.tensor(3.0))
        self.project = nn.Linear(4, 5, bias=False)
        self.head = nn.Linear(5, 700)

    def describe(self, images_BCHW: Tensor) -> Tensor:
        maps = self.norm(self.conv(images_BCHW)).clamp(min=1e-6).pow(self.power)
        return F.normalize(self.project(maps.mean((2, 3))), dim=1)


def test_a_conv_and_a_linear_layer_worked_by_hand() -> None:
    assert macs(Tiny(), image_size=8) == 8 * 8 * 3 * 3 * 3 * 4 + 4 * 5
    assert parameters(Tiny(), image_size=8) == (3 * 3 * 3 * 4 + 4) + 2 * 4 + 1 + 4 * 5


def test_macs_follow_the_image_and_parameters_do_not() -> None:
    model = Tiny()
    assert macs(model, image_size=16) - 20 == 4 * (macs(model, image_size=8) - 20)
    assert parameters(model, image_size=16) == parameters(model, image_size=8)


def test_counting_leaves_the_model_in_its_mode() -> None:
    model = Tiny().train()
    model.conv.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    macs(model, image_size=8)
    assert model.training and model.norm.training and not model.conv.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_frozen_parameters_count() -> None:
    model = Tiny().requires_grad_(False)
    assert parameters(model, image_size=8) == 141
