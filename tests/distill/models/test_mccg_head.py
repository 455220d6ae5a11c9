"""MCCG's head against the equations of spec bicrossnet 2.5, and the counts of sections 3 and 8."""

# Shapes: B = images, C = channels of a map, H x W = its positions, P = parts, D = width of a part.

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_shards.errors import RecipeError
from distill.config import ModelConfig
from distill.methods import METHODS
from distill.models import RetrievalModel, binary_parameters, unit
from distill.models.heads import MccgHead

B, C, H, W, D, PLACES = 3, 6, 5, 4, 7, 9


def head(**changes) -> MccgHead:
    """A head whose gates and statistics are none that it could be born with."""
    torch.manual_seed(0)
    values = {"arch": "bnext_micro", "weights": "none", "bottleneck": D} | changes
    built = MccgHead(C, PLACES, ModelConfig(**values))
    with torch.no_grad():
        for norm in (part for part in built.modules() if isinstance(part, nn.BatchNorm2d)):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            norm.weight.fill_(1.7)
            norm.bias.fill_(-0.3)
    return built


@pytest.fixture
def whole() -> Tensor:
    """A map [B, C, H, W]."""
    return torch.randn(B, C, H, W, generator=torch.Generator().manual_seed(1))


def gated(first: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, *, training: bool) -> Tensor:
    """Gate(T) of a tensor [B, d1, d2, d3], with the 7 x 7 taps one by one."""
    planes = [first.max(dim=1).values, first.mean(dim=1)]
    _, rows, columns = planes[0].shape
    padded = [F.pad(plane, (3, 3, 3, 3)) for plane in planes]
    found = torch.zeros_like(planes[0])
    for plane, kernel in zip(padded, conv.weight[0], strict=True):
        for down in range(7):
            for right in range(7):
                moved = plane[:, down : down + rows, right : right + columns]
                found = found + kernel[down, right] * moved
    mean, var = norm.running_mean, norm.running_var
    if training:
        mean, var = found.mean(), found.var(correction=0)
    normed = (found - mean) / (var + 1e-5).sqrt() * norm.weight + norm.bias
    return first * torch.sigmoid(normed).unsqueeze(1)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("arch", ["bnext_micro", "convnext_micro"])
def test_the_three_parts_are_their_equations(whole, arch, training):
    built = head(arch=arch).train(training)
    pairs = [(gate.conv, gate.norm) for gate in built.gates]
    with torch.no_grad():
        along_height = gated(whole.permute(0, 2, 1, 3), *pairs[0], training=training)
        along_width = gated(whole.permute(0, 3, 2, 1), *pairs[1], training=training)
        pooled = whole.mean(dim=(2, 3))
        if arch == "convnext_micro":
            pooled = F.layer_norm(pooled, (C,), eps=1e-6)
        vectors = [
            along_height.permute(0, 2, 1, 3).mean(dim=(2, 3)),
            along_width.permute(0, 3, 2, 1).mean(dim=(2, 3)),
            pooled,
        ]
        expected = [
            F.batch_norm(block.reduce(vector), None, None, training=True)
            if training
            else block.reduce(vector) / (1 + 1e-5) ** 0.5
            for block, vector in zip(built.blocks, vectors, strict=True)
        ]
        found = built(whole)
    assert {name: (B, *shape) for name, shape in built.shapes.items()} == {
        name: tuple(values.shape) for name, values in found.items()
    }
    assert torch.allclose(found["descriptor"], torch.stack(expected, dim=1), rtol=1e-4, atol=1e-5)
    assert {gate.norm.momentum for gate in built.gates} == {0.01}


def test_a_pooled_map_is_a_map_of_one_position(whole):
    built, pooled = head().eval(), head(attention_map="pooled").eval()
    assert torch.equal(pooled.parts(whole), built.parts(whole.mean((2, 3), keepdim=True)))
    assert not torch.allclose(pooled.parts(whole), built.parts(whole), rtol=1e-2)
    # Maximum and mean are one, and only the middle of a kernel meets data.
    vector = whole.mean((2, 3))
    gate = built.gates[0]
    taps = gate.conv.weight.sum(1)[:, :, 3].unsqueeze(1)
    normed = gate.norm(F.conv1d(vector.unsqueeze(1), taps, padding=3).unsqueeze(3)).flatten(1)
    block = built.blocks[0]
    assert torch.allclose(pooled.parts(whole)[:, 0], block(vector * normed.sigmoid()), atol=1e-5)


def test_features_and_logits_stand_behind_dropout_and_the_descriptor_does_not(whole):
    built = head(dropout=0.5)
    found = built(whole)
    kept = found["features"] != 0
    assert torch.equal(found["features"], found["descriptor"] * kept * 2)
    assert 0.3 < kept.float().mean() < 0.7 and not torch.equal(kept[:, 0], kept[:, 1])
    logits = [
        block.classifier(part)
        for block, part in zip(built.blocks, found["features"].unbind(1), strict=True)
    ]
    assert torch.equal(found["logits"], torch.stack(logits, dim=1))
    found = built.eval()(whole)
    assert torch.equal(found["features"], found["descriptor"])
    assert torch.equal(found["descriptor"], built.parts(whole))


def test_a_head_starts_as_the_authors_start_it():
    torch.manual_seed(0)
    config = ModelConfig(arch="bnext_tiny", weights="none", bottleneck=512)
    for block in MccgHead(256, 300, config).blocks:
        assert block.reduce.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)
        assert block.classifier.weight.std().item() == pytest.approx(0.001, rel=0.02)
        assert not block.reduce.bias.any() and not block.classifier.bias.any()


def test_classifiers_learn_only_where_logits_are_read():
    built = head()
    for read in ({"features"}, {"features", "logits"}):
        built.learn(read)
        learns = {name for name, part in built.named_parameters() if part.requires_grad}
        assert any("classifier" in name for name in learns) is ("logits" in read)
        assert {name for name, _ in built.named_parameters() if "classifier" not in name} <= learns


def test_parts_need_a_width():
    with pytest.raises(RecipeError, match="model.bottleneck is 0.*512"):
        head(bottleneck=0)


def test_a_descriptor_has_1536_numbers_and_the_mirror_is_added_before_its_parts_are_scaled():
    model = on("cpu", "bnext_micro", num_places=4).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        added = model.parts(images) + model.parts(images.flip(3))
        found = model.describe(images, flip=True)
    assert found.shape == (2, 1536) and model.width == 1536
    for part, own in zip(found.unflatten(1, (3, 512)).unbind(1), added.unbind(1), strict=True):
        scaled = own / own.norm(dim=1, keepdim=True) / 3**0.5
        assert torch.allclose(part, scaled, atol=1e-6)
    assert torch.equal(found, unit(added))


def on(device: str, arch: str, num_places: int) -> RetrievalModel:
    config = ModelConfig(arch=arch, weights="none")
    with torch.device(device):
        return METHODS["bicrossnet"].build(config, num_places=num_places)


DEAD_OF_BNEXT_TINY = 1_025_000 + 8_960
"""An ImageNet classifier and slopes that the authors hold and never use (spec 2.4)."""

DEAD_OF_CONVNEXT_TINY = 768 * 1000 + 1000


@pytest.mark.parametrize(
    ("arch", "num_places", "dead", "total"),
    [
        ("bnext_tiny", 701, DEAD_OF_BNEXT_TINY, 33_518_747),
        ("bnext_tiny", 120, DEAD_OF_BNEXT_TINY, 32_624_588),
        ("convnext_tiny", 701, DEAD_OF_CONVNEXT_TINY, 30_852_423),
    ],
)
def test_the_parameters_of_student_and_teacher(arch, num_places, dead, total):
    model = on("meta", arch, num_places)
    assert sum(parameter.numel() for parameter in model.parameters()) == total - dead


def test_the_parameters_that_inference_needs():
    model = on("meta", "bnext_tiny", 701)
    needed = {name: p for name, p in model.named_parameters() if "classifier" not in name}
    assert sum(parameter.numel() for parameter in needed.values()) == 31_405_948
    binary = sum(parameter.numel() for parameter in binary_parameters(model).values())
    assert (binary, 31_405_948 - binary) == (28_253_184, 3_152_764)
