"""BiCrossNet's student and teacher in operations and bytes, beside the figures of its spec."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from distill.config import ModelConfig
from distill.methods import METHODS
from distill.models import RetrievalModel, binary_parameters
from distill.models.binary import BinaryConv2d
from evaluation.cli import models
from evaluation.efficiency import Cost
from evaluation.efficiency.measure import cost

MIB = 2**20
DOCS = Path(__file__).parents[3] / "docs/bicrossnet.md"


def built(**config: Any) -> RetrievalModel:
    return METHODS["bicrossnet"].build(ModelConfig(weights="none", **config), num_places=701)


def counted(arch: str, image_size: int, attention_map: str = "whole") -> Cost:
    with torch.device("meta"):
        return cost(built(arch=arch, attention_map=attention_map), image_size=image_size)


@pytest.mark.parametrize(
    ("image_size", "binary_macs", "real_macs"),
    [(224, 4816.9, 12.32), (256, 6291.5, 15.64), (384, 14155.8, 33.33)],
)
def test_the_command_counts_the_student_as_the_spec_does(
    capsys: pytest.CaptureFixture[str], image_size: int, binary_macs: float, real_macs: float
) -> None:
    """PFED's head multiplies nothing: beside it stand the MACs of the backbone alone."""
    costs = {}
    for method in ("pfed", "bicrossnet"):
        words = ["bnext_tiny", "--method", method, "--image-size", str(image_size), "--json"]
        assert models(words) == 0
        (model,) = json.loads(capsys.readouterr().out)
        assert model["method"] == method
        costs[method] = model["cost"]
    student = costs["bicrossnet"]
    assert (student["parameters"], student["binary_parameters"]) == (31_405_948, 28_253_184)
    assert round(student["bops"] / 1e6, 1) == binary_macs
    assert round(costs["pfed"]["macs"] / 1e6, 2) == real_macs
    assert student["ops"] == student["bops"] / 64 + student["macs"]
    assert student["ops_per_pair"] == 2 * student["ops"]
    assert student["ptflops_per_pair"] == 2 * (student["ops"] + student["elementwise"])
    packed = (student["packed_bytes"] / MIB, student["packed_float16_bytes"] / MIB)
    assert [round(size, 2) for size in packed] == [
        round(3.368 + real, 2) for real in (12.027, 6.013)
    ]
    assert student["stored_bytes"] == 4 * (student["parameters"] + student["buffers"])


@pytest.mark.parametrize(
    ("arch", "image_size", "backbone"),
    [("bnext_tiny", 256, 113.9), ("bnext_tiny", 384, 254.5)],
)
def test_the_head_adds_its_reductions_and_its_gates(
    arch: str, image_size: int, backbone: float
) -> None:
    """The spec's 1.6 M are the reductions; gates over the whole map cost as much again."""
    reductions, kernel = 3 * 1024 * 512, 2 * 7 * 7
    strips = {"pooled": 2 * 1024, "whole": 2 * 1024 * image_size // 32}
    for attention_map, positions in strips.items():
        ops = counted(arch, image_size, attention_map).ops
        assert round((ops - reductions - kernel * positions) / 1e6, 1) == backbone


@pytest.mark.parametrize(
    ("arch", "image_size", "pooled", "whole"),
    [
        ("bnext_tiny", 256, "3.557e+08", "3.583e+08"),
        ("bnext_tiny", 384, "7.92e+08", "7.96e+08"),
        ("bnext_small", 384, "1.522e+09", "1.528e+09"),
        ("bnext_middle", 256, "1.167e+09", "1.171e+09"),
        ("bnext_middle", 384, "2.604e+09", "2.609e+09"),
        ("bnext_large", 256, "2.677e+09", "2.683e+09"),
    ],
)
def test_pairs_are_counted_as_the_spec_does_with_ptflops(
    arch: str, image_size: int, pooled: str, whole: str
) -> None:
    """Over the whole map the spec takes the global mean for no pooling; we count it, twice."""
    digits = f".{len(pooled) - 6}e"
    costs = [counted(arch, image_size, attention_map) for attention_map in ("pooled", "whole")]
    assert format(2 * costs[0].ptflops, digits) == pooled
    width = {"bnext_tiny": 1024, "bnext_large": 2048}.get(arch, 1536)
    last_map = width * (image_size // 32) ** 2
    assert format(2 * (costs[1].ptflops - 2 * last_map), digits) == whole
    assert 2 * costs[1].ptflops == pytest.approx(float(whole), rel=2e-3)


@pytest.mark.parametrize(("image_size", "per_pair"), [(256, 1.17e10), (384, 2.63e10)])
def test_the_teacher_is_near_the_spec(image_size: int, per_pair: float) -> None:
    assert 2 * counted("convnext_tiny", image_size).ptflops == pytest.approx(per_pair, rel=4e-3)


class Modules(nn.Module):
    """Every kind of layer that is counted, each as torch's own module."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.PReLU(8),
            BinaryConv2d(8, 16, 3, padding=1, bias=False),
            nn.AvgPool2d(2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 16, 1, bias=False),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.LayerNorm(16),
            nn.Linear(16, 4),
            nn.BatchNorm1d(4),
        )

    def forward(self, images_BCHW: Tensor, flip: bool = False) -> Tensor:
        return self.layers(images_BCHW)

    describe = forward


def test_layers_are_counted_as_ptflops_counts_them() -> None:
    """Real MACs are whole numbers; the binary 16 x 16 x 16 x 8 x 3 x 3 are a multiple of 64."""
    ptflops = pytest.importorskip("ptflops", reason="make setup installs it")

    def hook(layer: Any, _: object, output: Tensor) -> None:
        layer.__flops__ += output.numel() * layer.weight[0].numel() // 64

    theirs, _ = ptflops.get_model_complexity_info(
        Modules(),
        (3, 16, 16),
        as_strings=False,
        print_per_layer_stat=False,
        backend="pytorch",
        custom_modules_hooks={BinaryConv2d: hook},
    )
    assert cost(Modules(), image_size=16).ptflops == theirs


def test_stored_and_packed_bytes_are_those_of_files(tmp_path: Path) -> None:
    model = built(arch="bnext_micro")
    counted = cost(model, image_size=32)
    path = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if "classifier" not in name and "num_batches_tracked" not in name
    }
    save_file(path, tmp_path / "path.safetensors")
    with (tmp_path / "path.safetensors").open("rb") as file:
        header = 8 + int.from_bytes(file.read(8), "little")
    assert (tmp_path / "path.safetensors").stat().st_size == header + counted.stored_bytes
    bits = sum(tensor.numel() for tensor in binary_parameters(model).values())
    statistics = sum(tensor.numel() for name, tensor in path.items() if ".running_" in name)
    real = sum(tensor.numel() for tensor in path.values()) - bits - statistics
    assert (counted.packed_bytes(), counted.packed_bytes(real=2)) == (
        bits / 8 + 4 * real,
        bits / 8 + 2 * real,
    )


ARCHS = {
    "BNext-Tiny": "bnext_tiny",
    "BNext-Small": "bnext_small",
    "BNext-Middle": "bnext_middle",
    "BNext-Large": "bnext_large",
    "ConvNeXt-T": "convnext_tiny",
}


def documented(second: re.Pattern[str]) -> Iterator[list[str]]:
    """Yield the rows of networks in whose second column stands such a number."""
    for line in DOCS.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in ARCHS and second.fullmatch(cells[1]):
            yield cells


@pytest.mark.parametrize("image_size", [224, 256, 384])
def test_the_documented_operations_are_what_is_counted(image_size: int) -> None:
    rows = list(documented(re.compile(str(image_size))))
    assert [row[0] for row in rows] == list(ARCHS)
    for network, _, *cells in rows:
        found = counted(ARCHS[network], image_size)
        numbers = (found.macs, found.bops, found.ops, 2 * found.ops)
        numbers += (found.ptflops, 2 * found.ptflops)
        assert cells == [f"{number / 1e6:,.1f}" for number in numbers]


def test_the_documented_sizes_are_what_is_counted() -> None:
    rows = list(documented(re.compile(r"[\d,]{9,}")))
    assert [row[0] for row in rows] == list(ARCHS)
    for network, *cells in rows:
        found = counted(ARCHS[network], 64)
        sizes = (found.stored_bytes, found.packed_bytes(), found.packed_bytes(real=2))
        numbers = [f"{number:,}" for number in (found.parameters, found.binary_parameters)]
        assert cells == numbers + [f"{size / MIB:,.1f}" for size in sizes]
