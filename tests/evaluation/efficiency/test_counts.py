"""Costs counted by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.config import ModelConfig
from distill.models import RetrievalModel
from evaluation.efficiency.measure import cost


class Tiny(nn.Module):
    """A convolution and a linear layer that describe, and a head that only training uses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.power = nn.Parameter(torch.tensor(3.0))
        self.project = nn.Linear(4, 5, bias=False)
        self.head = nn.Linear(5, 700)

    def describe(self, images_BCHW: Tensor, flip: bool = False) -> Tensor:
        maps = self.norm(self.conv(images_BCHW)).clamp(min=1e-6).pow(self.power)
        return F.normalize(self.project(maps.mean((2, 3))), dim=1)


class SignConv(nn.Module):
    """A convolution of signs without bias, as BNext has them."""

    one_bit_parameters = ("weight",)

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, channels, kernel, kernel))

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        padding = self.weight.shape[-1] // 2
        return F.conv2d(maps_BCHW.sign(), self.weight.sign(), padding=padding)


class Binary(nn.Module):
    """BNext's block 3: a 3x3 and a 1x1 binary convolution of 128 channels behind a real stem."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 128, 4, stride=4, bias=False)
        self.layers = nn.Sequential(SignConv(128, 3), nn.BatchNorm2d(128), SignConv(128, 1))

    def describe(self, images_BCHW: Tensor, flip: bool = False) -> Tensor:
        return F.normalize(self.layers(self.stem(images_BCHW)).mean((2, 3)), dim=1)


class Attentive(nn.Module):
    """One head of attention over patches, both of its projections the same matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 8, stride=8, bias=False)
        self.shared = nn.Linear(16, 16, bias=False)
        self.again = self.shared

    def describe(self, images_BCHW: Tensor, flip: bool = False) -> Tensor:
        tokens = self.embed(images_BCHW).flatten(2).transpose(1, 2)
        seen = F.scaled_dot_product_attention(self.shared(tokens), self.again(tokens), tokens)
        return F.normalize(seen.mean(1), dim=1)


def test_a_conv_and_a_linear_layer_worked_by_hand() -> None:
    counted = cost(Tiny(), image_size=8)
    assert counted.macs == 8 * 8 * 3 * 3 * 3 * 4 + 4 * 5
    assert counted.parameters == (3 * 3 * 3 * 4 + 4) + 2 * 4 + 1 + 4 * 5
    assert (counted.binary_parameters, counted.bops, counted.image_size) == (0, 0, 8)
    assert (counted.flops, counted.ops) == (2 * counted.macs, counted.macs)


def test_attention_and_shared_parameters_worked_by_hand() -> None:
    counted = cost(Attentive(), image_size=32)
    tokens = 4 * 4
    embedding, projections = tokens * 8 * 8 * 3 * 16, 2 * tokens * 16 * 16
    assert counted.macs == embedding + projections + 2 * tokens * tokens * 16
    assert counted.parameters == 3 * 16 * 8 * 8 + 16 * 16


def test_one_bit_layers_are_counted_apart() -> None:
    """Block 3 at 384 px, 96 x 96 maps: 1,510 MMAC and 163,840 weights (spec bicrossnet 2.4)."""
    counted = cost(Binary(), image_size=384)
    assert counted.bops == 96 * 96 * (128 * 128 * 9 + 128 * 128)
    assert round(counted.bops / 1e6) == 1510
    assert counted.binary_parameters == 163_840
    assert counted.parameters == 163_840 + 128 * 3 * 4 * 4 + 2 * 128
    assert counted.macs == 96 * 96 * 128 * 3 * 4 * 4
    assert counted.ops == counted.bops / 64 + counted.macs
    assert counted.ops_per_pair == 2 * counted.ops


def test_one_bit_layers_inside_one_bit_layers_count_once() -> None:
    class Outer(SignConv):
        def __init__(self) -> None:
            super().__init__(4, 1)
            self.inner = SignConv(4, 3)

        def forward(self, maps_BCHW: Tensor) -> Tensor:
            return super().forward(self.inner(maps_BCHW))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.outer = Outer()

        def describe(self, images_BCHW: Tensor, flip: bool = False) -> Tensor:
            return self.outer(F.pad(images_BCHW, (0, 0, 0, 0, 0, 1))).mean((2, 3))

    counted = cost(Model(), image_size=8)
    assert (counted.macs, counted.bops) == (0, 8 * 8 * (4 * 4 * 9 + 4 * 4))
    assert counted.parameters == counted.binary_parameters == 4 * 4 * 9 + 4 * 4


@pytest.mark.parametrize(
    ("arch", "image_size", "giga_macs"),
    [
        ("convnext_tiny", 224, 4.4548),
        ("convnext_tiny", 384, 13.0915),
        ("convnext_base", 384, 45.1211),
    ],
)
def test_the_counts_are_those_of_the_published_tables(
    arch: str, image_size: int, giga_macs: float
) -> None:
    """PFED's 4.45 G, half of MEAN's 26.18 G, half of Sample4Geo's 90.24 G (spec pfed 7.4)."""
    with torch.device("meta"):
        model = RetrievalModel(ModelConfig(arch=arch, weights="none"), num_places=701)
    assert round(cost(model, image_size=image_size).macs / 1e9, 4) == giga_macs


def test_the_meta_device_counts_as_the_processor_does() -> None:
    real = RetrievalModel(ModelConfig(arch="convnext_micro", weights="none"), num_places=3)
    with torch.device("meta"):
        blank = RetrievalModel(ModelConfig(arch="convnext_micro", weights="none"), num_places=701)
    assert cost(blank, image_size=64) == cost(real, image_size=64)


def test_macs_follow_the_image_and_parameters_do_not() -> None:
    small, large = (cost(Tiny(), image_size=size) for size in (8, 16))
    assert large.macs - 20 == 4 * (small.macs - 20)
    assert large.parameters == small.parameters


def test_counting_leaves_the_model_as_it_was() -> None:
    model = Tiny().train()
    model.conv.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cost(model, image_size=8)
    assert model.training and model.norm.training and not model.conv.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    binary = Binary()
    cost(binary, image_size=32)
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in binary.modules())


def test_frozen_parameters_count() -> None:
    model = Tiny().requires_grad_(False)
    assert cost(model, image_size=8).parameters == 141
