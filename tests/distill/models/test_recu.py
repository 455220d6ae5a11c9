import math

import pytest
import torch
from torch import nn

from distill.config import ModelConfig
from distill.models import RetrievalModel, binary_parameters, build_model
from distill.models.recu import (
    BinaryResidual,
    ReCUConv2d,
    ReCUResNet34,
    SignWithTriangle,
    set_tau,
    tau_at,
)


def recu_conv(*sizes: int, **options) -> ReCUConv2d:
    torch.manual_seed(0)
    return ReCUConv2d(*sizes, bias=False, **options)


def test_tau_rises_ever_faster_and_stays_finite():
    assert tau_at(0) == 0.85 and tau_at(1) == pytest.approx(0.99)
    slope = 0.14 / (math.e - 1)
    assert tau_at(0.5) == pytest.approx(slope * math.exp(0.5) + 0.85 - slope)
    assert tau_at(1.5) == tau_at(2) == 0.99, "where the release divides by nothing from tau 1 on"


def test_weights_are_standardised_and_bounded_by_the_quantile():
    layer = recu_conv(8, 4, 3)
    weight = layer.weight.detach().double()
    expected = torch.zeros_like(weight)
    for filter_number in range(4):
        own = weight[filter_number]
        deviation = ((own - own.mean()) ** 2).mean().sqrt()
        expected[filter_number] = (own - own.mean()) * 2 * math.sqrt(2) / deviation
    used = layer.used_weight()
    assert torch.equal(used.double(), expected.sign())
    for progress in (0.0, 1.0):
        set_tau(layer, tau_at(progress))
        bound = -expected.abs().mean() * math.log(2 - 2 * layer.tau)
        assert math.isfinite(bound)
        # The gradient of a sum over standardised weights within the bound, by autograd in float64.
        free = weight.clone().requires_grad_()
        mean = free.mean(dim=(1, 2, 3), keepdim=True)
        deviation = ((free - mean) ** 2).mean(dim=(1, 2, 3), keepdim=True).sqrt()
        standard = (free - mean) * 2 * math.sqrt(2) / deviation
        factors = torch.randn_like(weight)
        ((standard.abs() <= bound) * standard * factors).sum().backward()
        (grad,) = torch.autograd.grad((layer.used_weight() * factors.float()).sum(), layer.weight)
        torch.testing.assert_close(grad.double(), free.grad, rtol=1e-3, atol=1e-3)


def test_the_sign_has_a_triangle_for_derivative():
    values = torch.tensor([-1.5, -1.0, -0.25, 0.0, 0.5, 0.75, 2.0], requires_grad=True)
    signs = SignWithTriangle.of(values)
    assert signs.tolist() == [-1, -1, -1, 0, 1, 1, 1]
    signs.sum().backward()
    assert values.grad.tolist() == [0, 0, 1.5, 2, 1, 0.5, 0]


def test_activations_are_divided_by_their_deviation_in_training_only():
    layer = recu_conv(4, 4, 3, padding=1)
    images = (10 * torch.randn(2, 4, 5, 5)).requires_grad_()
    training = layer(images)
    (grad,) = torch.autograd.grad(training.square().sum(), images)
    assert grad.any(), "at ten times the scale, the derivative would be zero almost everywhere"
    layer.eval()
    assert torch.equal(training, layer(images)), "a sign is a sign"
    assert torch.equal(training[:1], layer.train()(images[:1])), "an image depends on no other"
    assert layer(torch.zeros(1, 4, 5, 5)).eq(0).all(), "nor do even images divide by nothing"


def test_a_unit_scales_norms_adds_and_clips():
    torch.manual_seed(0)
    unit = BinaryResidual(4, 8, stride=2).eval()
    assert 0 <= unit.scale.min() and unit.scale.max() <= 1 and unit.scale.unique().numel() == 8
    images = torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        products = unit.conv(images)
        assert torch.equal(products, products.round())
        scaled = torch.stack([products[:, c] * unit.scale[c] for c in range(8)], dim=1)
        expected = (unit.norm(scaled) + unit.shortcut(images)).clamp(-1, 1)
        assert torch.equal(unit(images), expected)
    assert isinstance(BinaryResidual(4, 4, stride=1).shortcut, nn.Identity)


def test_the_network_is_resnet_34():
    with torch.device("meta"):
        network = ReCUResNet34()
    layers = [part for part in network.modules() if isinstance(part, ReCUConv2d)]
    real = [part for part in network.modules() if type(part) is nn.Conv2d]
    assert len(layers) == 32 and {part.kernel_size for part in layers} == {(3, 3)}
    assert [part.kernel_size[0] for part in real] == [7, 1, 1, 1]
    binary = 9 * (6 * 64**2 + 64 * 128 + 7 * 128**2 + 128 * 256 + 11 * 256**2)
    binary += 9 * (256 * 512 + 5 * 512**2)
    assert sum(part.numel() for part in binary_parameters(network).values()) == binary
    assert [info["num_chs"] for info in network.feature_info] == [64, 128, 256, 512]


def test_a_step_trains_it_in_bf16_at_the_last_tau():
    torch.manual_seed(0)
    config = ModelConfig(arch="recu_resnet34", weights="none", pool="mean")
    model: RetrievalModel = build_model(config, num_places=4)
    assert model.width == 512
    set_tau(model, tau_at(1))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randn(4, 3, 64, 64))["logits"]
    nn.functional.cross_entropy(logits.float(), torch.arange(4)).backward()
    learning = [part for part in model.parameters() if part.grad is not None]
    assert len(learning) == len(list(model.parameters()))
    assert all(part.grad.isfinite().all() for part in learning)
