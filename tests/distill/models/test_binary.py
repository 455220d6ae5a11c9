import pytest
import torch
import torch.nn.functional as F
from torch import nn

from distill.models import OneBitLayer, binary_parameters
from distill.models.binary import (
    BinaryConv2d,
    SignOfActivation,
    set_temperature,
    straight_through,
)


def binary_conv(*sizes: int, **options) -> BinaryConv2d:
    torch.manual_seed(0)
    return BinaryConv2d(*sizes, bias=False, **options)


def test_the_gradient_of_an_activation_passes_up_to_one_and_a_half():
    beyond = torch.nextafter(torch.tensor(1.5), torch.tensor(2.0)).item()
    values = torch.tensor([-2.0, -beyond, -1.5, -0.1, 0.0, 1e-30, 1.5, beyond], requires_grad=True)
    signs = SignOfActivation.of(values)
    assert signs.tolist() == [-1, -1, -1, -1, 0, 1, 1, 1]
    signs.backward(torch.arange(1.0, 9.0))
    assert values.grad.tolist() == [0, 0, 3, 4, 5, 6, 7, 0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_signs_and_gradients_keep_type_and_layout(dtype):
    values = torch.randn(2, 8, 4, 4, dtype=dtype).to(memory_format=torch.channels_last)
    values[0, 0, 0, :2] = torch.tensor([1.5, -1.5])
    signs = SignOfActivation.of(values.requires_grad_())
    (grad,) = torch.autograd.grad(signs, values, 2 * torch.ones_like(signs))
    assert torch.equal(signs, values.sign())
    assert torch.equal(grad, 2 * (values.abs() <= 1.5).to(dtype))
    for tensor in (signs, grad):
        assert tensor.dtype == dtype and tensor.is_contiguous(memory_format=torch.channels_last)


def test_the_gradient_of_a_weight_passes_whole():
    latent = torch.tensor([-3.0, 0.001, 0.3], requires_grad=True)
    used = straight_through(latent, latent.sign())
    assert used.tolist() == [-1, 1, 1], "to the bit: latent + (sign - latent) is not"
    used.backward(torch.tensor([1.0, -2.0, 4.0]))
    assert latent.grad.tolist() == [1, -2, 4]


def test_a_fresh_layer_is_binary_and_its_latent_weights_are_small():
    layer = binary_conv(64, 64, 3, padding=1)
    assert layer.weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert layer.used_weight().unique().tolist() == [-1, 1]
    assert layer.bias is None and isinstance(layer, OneBitLayer)
    assert not list(layer.buffers()) and list(layer.state_dict()) == ["weight"]


def test_a_weight_grows_cold():
    network = nn.Sequential(binary_conv(2, 2, 1), nn.ReLU(), binary_conv(2, 2, 1))
    layer = network[0]
    weight = torch.tensor([-1.2, -0.25, 0.1, 0.6]).view(2, 2, 1, 1)
    layer.weight.data = weight
    for temperature, expected in (
        (1.0, [-1, -0.25, 0.1, 0.6]),
        (0.5, [-1, -0.5, 0.2, 1]),
        (1.1e-7, [-1, -1, 1, 1]),
        (0.9e-7, [-1, -1, 1, 1]),
        (0.0, [-1, -1, 1, 1]),
    ):
        set_temperature(network, temperature)
        used = layer.used_weight()
        assert used.flatten().tolist() == pytest.approx(expected)
        (grad,) = torch.autograd.grad(used.sum(), layer.weight)
        assert torch.equal(grad, torch.ones_like(weight)), "the gradient is the identity"
    tiny = torch.full_like(weight, 1e-9)
    layer.weight.data = tiny
    set_temperature(network, 1e-7)
    assert layer.used_weight().max() < 0.02
    set_temperature(network, 0.99e-7)
    assert layer.used_weight().unique().tolist() == [1], "below 1e-7 it is the sign"


@pytest.mark.parametrize("stride", [1, 2])
def test_a_pixel_is_what_counting_bits_gives(stride):
    layer = binary_conv(16, 4, 3, stride=stride, padding=1)
    images = torch.randn(2, 16, 6, 6)
    found = layer(images)
    bits, weight_bits = images > 0, layer.weight > 0
    below = slice(stride - 1, stride + 2)  # what lies below the kernel at output pixel 1, 1
    patch = bits[:, :, below, below]
    differing = (patch[:, None] ^ weight_bits[None]).sum(dim=(2, 3, 4))
    assert torch.equal(found[:, :, 1, 1], 16 * 9 - 2.0 * differing)
    corner = bits[:, :, :2, :2]
    differing = (corner[:, None] ^ weight_bits[None, :, :, 1:, 1:]).sum(dim=(2, 3, 4))
    assert torch.equal(found[:, :, 0, 0], 16 * 4 - 2.0 * differing), "padding is zero"


def test_the_gradients_are_those_of_the_formula_autograd_knows():
    layer = binary_conv(3, 5, 3, padding=1)
    images = torch.randn(2, 3, 4, 4, requires_grad=True)
    layer(images).square().sum().backward()
    free = images.detach().clone().requires_grad_()
    clamped = free.clamp(-1.5, 1.5)
    weight = layer.weight.detach().clone().requires_grad_()
    signs = clamped + (free.sign() - clamped).detach()
    used = weight + (weight.sign() - weight).detach()
    F.conv2d(signs, used, padding=1).square().sum().backward()
    torch.testing.assert_close(images.grad, free.grad)
    torch.testing.assert_close(layer.weight.grad, weight.grad)


def test_binary_parameters_have_names_and_count_once():
    network = nn.Sequential(binary_conv(2, 2, 1), nn.BatchNorm2d(2), binary_conv(2, 2, 1))
    assert list(binary_parameters(network)) == ["0.weight", "2.weight"]
    network[2].weight = network[0].weight
    assert list(binary_parameters(network)) == ["0.weight"]
    assert binary_parameters(network[1]) == {}
