"""BNext against the equations, written a second time, and against the counts of the spec."""

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from data_shards.errors import RecipeError
from distill.config import ModelConfig
from distill.models import RetrievalModel, binary_parameters, build_model
from distill.models.backbones import build_backbone, stage_ends
from distill.models.binary import BinaryConv2d, set_temperature
from distill.models.bnext import SubBlock, mixing_parameters
from evaluation.efficiency.measure import cost

DEAD_FC_OF_TINY, DEAD_PRELUS_OF_TINY = 1_025_000, 8_960


def network(arch: str) -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(arch, drop_path=0.0)


def on_meta(arch: str, num_places: int = 701) -> RetrievalModel:
    with torch.device("meta"):
        return RetrievalModel(ModelConfig(arch=arch, weights="none"), num_places=num_places)


def count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def dead_prelus(network: nn.Module) -> int:
    """Slopes that the authors hold and never use: of every FFN-3x3 and FFN-1x1 of a network."""
    parts = [part for part in network.modules() if isinstance(part, SubBlock)]
    return sum(part.shift.numel() for part in parts if part.act1 is None)


def test_the_parameters_of_tiny():
    backbone = on_meta("bnext_tiny").backbone
    total, binary = count(backbone.parameters()), count(binary_parameters(backbone).values())
    assert binary == 28_253_184
    assert dead_prelus(backbone) + 32 == DEAD_PRELUS_OF_TINY, "the stem has one of 32 slopes"
    assert total - binary == 2_609_052 - DEAD_FC_OF_TINY - DEAD_PRELUS_OF_TINY
    assert total + DEAD_FC_OF_TINY + DEAD_PRELUS_OF_TINY == 30_862_236


@pytest.mark.parametrize(
    ("size", "millions"), [("tiny", 33.5), ("small", 72.0), ("middle", 137.9), ("large", 330.8)]
)
def test_the_parameters_of_students(size, millions):
    backbone = on_meta(f"bnext_{size}").backbone
    width = backbone.feature_info[-1]["num_chs"]
    dead = dead_prelus(backbone) + backbone.stem.conv.out_channels + 1000 * (width + 1)
    class_block = width * 512 + 512 + 2 * 512 + 512 * 701 + 701
    head = 3 * class_block + 2 * (2 * 7 * 7 + 2)  # MCCG's (spec 2.5)
    student = count(backbone.parameters()) + dead + head
    assert round(student / 1e6, 1) == millions
    if size == "tiny":
        assert student == 33_518_747


@pytest.mark.parametrize(
    ("size", "binary_millions", "real_millions"),
    [(224, 4816.9, 12.32), (256, 6291.5, 15.64), (384, 14155.8, 33.33)],
)
def test_the_operations_of_tiny(size, binary_millions, real_millions):
    counted = cost(on_meta("bnext_tiny"), image_size=size)
    assert round(counted.bops / 1e6, 1) == binary_millions
    assert round(counted.macs / 1e6, 2) == real_millions
    assert counted.binary_parameters == 28_253_184


@pytest.mark.parametrize(
    ("size", "binary_billions", "real_millions"),
    [("small", 10.838, 19.6), ("middle", 20.086, 22.7), ("large", 52.151, 37.4)],
)
def test_the_operations_of_larger_ones(size, binary_billions, real_millions):
    counted = cost(on_meta(f"bnext_{size}"), image_size=224)
    assert round(counted.bops / 1e9, 3) == binary_billions
    assert round(counted.macs / 1e6, 1) == real_millions


def test_the_blocks_of_tiny_are_those_of_the_table():
    backbone = on_meta("bnext_tiny").backbone
    binary, real = [], []
    for block in backbone.blocks:
        binary.append(count(binary_parameters(block).values()))
        real.append(count(block.parameters()) - binary[-1] + dead_prelus(block))
    seven_to_eleven = [2_621_440] * 5
    assert binary[:6] == [11_264, 45_056, 163_840, 180_224, 655_360, 720_896]
    assert binary[6:] == [*seven_to_eleven, 2_883_584, 10_485_760]
    assert real[:6] == [1_644, 4_824, 10_528, 15_792, 37_440, 56_160]
    assert real[6:] == [*[140_416] * 5, 210_624, 542_976]


@pytest.mark.parametrize("arch", ["bnext_micro", "bnext_tiny"])
def test_maps_end_where_the_resolution_changes(arch):
    bnext = network(arch).eval()
    images = torch.randn(1, 3, 64, 64)
    ends = stage_ends(bnext)
    maps = bnext.forward_intermediates(images, indices=ends)
    for end, found in zip(ends, maps, strict=True):
        info = bnext.feature_info[end]
        side = 64 // info["reduction"]
        assert found.shape == (1, info["num_chs"], side, side)
    assert len(maps) == 4 and maps[-1].shape[2] >= 2
    expected = bnext.stem(images)
    for block in bnext.blocks:
        expected = block(expected)
    assert torch.equal(maps[-1], bnext.act(expected)), "the last PReLU is part of the last map"


# The equations of spec 2.3, one image and one channel at a time.


def pooled(map_HW: Tensor, stride: int) -> Tensor:
    if stride == 1:
        return map_HW
    height, width = (side // 2 for side in map_HW.shape)
    result = torch.zeros(height, width)
    for row in range(height):
        for column in range(width):
            result[row, column] = map_HW[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean()
    return result


def convolved(signs_CHW: Tensor, weight_CKK: Tensor, stride: int) -> Tensor:
    side, kernel = signs_CHW.shape[1], weight_CKK.shape[1]
    reach = kernel // 2
    result = torch.zeros(side // stride, side // stride)
    for row in range(side // stride):
        for column in range(side // stride):
            for down in range(-reach, reach + 1):
                for right in range(-reach, reach + 1):
                    y, x = stride * row + down, stride * column + right
                    if 0 <= y < side and 0 <= x < side:
                        taps = weight_CKK[:, down + reach, right + reach]
                        result[row, column] += (signs_CHW[:, y, x] * taps).sum()
    return result


def normed(map_BHW: Tensor, norm: nn.BatchNorm2d, channel: int, *, training: bool) -> Tensor:
    mean, var = norm.running_mean[channel], norm.running_var[channel]
    if training:
        mean, var = map_BHW.mean(), map_BHW.var(correction=0)
    return (map_BHW - mean) / (var + 1e-5).sqrt() * norm.weight[channel] + norm.bias[channel]


def sloped(values: Tensor, slope: Tensor) -> Tensor:
    return torch.where(values >= 0, values, slope * values)


def slow(part: SubBlock, maps_BCHW: Tensor, *, stride: int, training: bool) -> Tensor:
    num_images, width = maps_BCHW.shape[:2]
    own, mixed, stream = [], [], []
    for channel in range(width):
        weight = part.conv.weight[channel].sign()
        signs = [(image + part.shift[:, None, None]).sign() for image in maps_BCHW]
        products = torch.stack([convolved(image, weight, stride) for image in signs])
        products = normed(products, part.norm1, channel, training=training)
        own.append(sloped(products, part.act2.weight[channel]))
        inputs = maps_BCHW[:, channel]
        mix = part.mix[channel]
        if training or part.is_pointwise:
            mix = mix.clamp(0, 1)
        half = torch.stack([pooled(image, stride) for image in inputs])
        mixed.append(mix * half + (1 - mix) * own[-1])
        if part.act1 is not None:
            inputs = sloped(inputs, part.act1.weight[channel])
        stream.append(torch.stack([pooled(image, stride) for image in inputs]))
    results = []
    se = part.se
    means_BC = torch.stack(mixed, dim=1).mean(dim=(2, 3))
    hidden = (means_BC @ se.reduce.weight[:, :, 0, 0].T + se.reduce.bias).clamp(min=0)
    factors_BC = 1 / (1 + (-(hidden @ se.expand.weight[:, :, 0, 0].T + se.expand.bias)).exp())
    for channel in range(width):
        gated = factors_BC[:, channel].view(num_images, 1, 1) * own[channel]
        if part.act1 is not None:
            gated = gated * stream[channel]
        results.append(normed(gated, part.norm2, channel, training=training) + stream[channel])
    return torch.stack(results, dim=1)


KINDS = {
    "ELM-Attention": {"kernel": 3, "has_attention": True},
    "FFN-3x3": {"kernel": 3, "has_attention": False},
    "FFN-1x1": {"kernel": 1, "has_attention": False},
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("kind", "stride"),
    [("ELM-Attention", 1), ("ELM-Attention", 2), ("FFN-3x3", 1), ("FFN-3x3", 2), ("FFN-1x1", 1)],
)
def test_a_sub_block_is_its_equations(kind, stride, training):
    torch.manual_seed(0)
    part = SubBlock(16, stride=stride, is_binary=True, **KINDS[kind]).train(training)
    with torch.no_grad():
        for name, parameter in part.named_parameters():
            if "conv" not in name and "se." not in name:
                parameter.add_(torch.randn_like(parameter))  # mixes outside [0, 1] among them
        for norm in (part.norm1, part.norm2):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
        maps = torch.randn(2, 16, 4, 4)
        expected = slow(part, maps, stride=stride, training=training)
        torch.testing.assert_close(part(maps), expected, rtol=1e-4, atol=1e-4)


def test_a_doubling_block_lays_two_pointwise_parts_side_by_side():
    block = network("bnext_micro").eval().blocks[1]
    maps = torch.randn(1, 16, 8, 8)
    spatial = block.spatial(maps)
    first, second = (part(spatial) for part in block.pointwise)
    assert torch.equal(block(maps), torch.cat([first, second], dim=1)) and spatial.shape[2] == 4
    assert not torch.equal(first, second)


@pytest.fixture
def used(monkeypatch) -> list[list[float]]:
    """Different values of the weights that each binary convolution was given, as they run."""
    seen: list[list[float]] = []
    convolve = BinaryConv2d._conv_forward

    def watch(layer, signs, weight, bias):
        assert set(signs.unique().tolist()) <= {-1, 0, 1}
        seen.append(weight.unique().tolist())
        return convolve(layer, signs, weight, bias)

    monkeypatch.setattr(BinaryConv2d, "_conv_forward", watch)
    return seen


def test_every_layer_uses_two_weight_values_unless_it_is_warm(used):
    backbone, images = network("bnext_micro"), torch.randn(1, 3, 64, 64)
    backbone.forward_intermediates(images, indices=[4])
    assert used == [[-1, 1]] * len(binary_parameters(backbone))
    used.clear()
    set_temperature(backbone, 1.0)
    backbone.forward_intermediates(images, indices=[4])
    assert used and all(len(values) > 2 for values in used)


def test_every_parameter_learns_and_the_mixes_are_named():
    backbone = network("bnext_tiny")  # of micro, a gate with one hidden unit may be born dead
    maps = backbone.forward_intermediates(torch.randn(4, 3, 64, 64), indices=[4])
    maps[0].square().sum().backward()
    idle = [
        name
        for name, parameter in backbone.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert idle == []
    mixes = mixing_parameters(backbone)
    assert "blocks.0.spatial.mix" in mixes and "blocks.6.pointwise.0.mix" in mixes
    assert all(dict(backbone.named_parameters())[name] is mix for name, mix in mixes.items())
    assert all(torch.equal(mix, torch.full_like(mix, 0.5)) for mix in mixes.values())


@pytest.mark.parametrize("arch", ["bnext_micro", "bnext_micro_float"])
def test_training_goes_down_also_in_bf16(arch):
    torch.manual_seed(0)
    model = build_model(ModelConfig(arch=arch, weights="none", dropout=0.0), num_places=4)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    images, places, losses = torch.randn(8, 3, 32, 32), torch.arange(8) % 4, []
    for _ in range(12):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)["logits"]
        loss = nn.functional.cross_entropy(logits.float(), places)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_the_twin_in_float_has_the_same_parameters_and_no_signs():
    binary, twin = network("bnext_micro"), network("bnext_micro_float")
    assert {name: part.shape for name, part in binary.named_parameters()} == {
        name: part.shape for name, part in twin.named_parameters()
    }
    assert binary_parameters(twin) == {} and mixing_parameters(twin).keys()
    assert not any(isinstance(part, BinaryConv2d) for part in twin.modules())


def test_a_size_that_cannot_be_halved_evenly_is_refused():
    for arch in ("bnext_micro", "bnext_tiny_float"):
        with pytest.raises(RecipeError, match="50 is no multiple .* 32 px; give 32 or 64"):
            on_meta(arch).refuse_size(50, key="data.image_size")
        on_meta(arch).refuse_size(96, key="data.image_size")
    recu = on_meta("recu_resnet34").eval()
    recu.refuse_size(50, key="data.image_size")
    assert recu(torch.zeros(1, 3, 50, 50, device="meta"))["logits"].shape == (1, 701)


def test_no_drop_path_and_no_weights_of_timm():
    with pytest.raises(RecipeError, match=r"^model\.drop_path: .* leave it out$"):
        build_backbone("bnext_micro", drop_path=0.1)
    with pytest.raises(RecipeError, match="timm has no weights of bnext_micro"):
        build_model(ModelConfig(arch="bnext_micro", weights="timm"), num_places=2)


def test_the_last_blocks_alone_learn():
    config = ModelConfig(arch="bnext_micro", weights="none", train_blocks=1)
    backbone = build_model(config, num_places=2).backbone
    parts = backbone.named_parameters()
    learning = {name.split(".")[0] for name, part in parts if part.requires_grad}
    assert learning == {"blocks", "act"}
    assert not backbone.blocks[5].spatial.shift.requires_grad
