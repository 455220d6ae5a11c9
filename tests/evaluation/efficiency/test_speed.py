"""Measured speed: what it says of itself is what was done, and nothing is left changed."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from distill.config import ModelConfig
from distill.models import RetrievalModel
from evaluation.efficiency import Speed
from evaluation.efficiency.measure import MIB, device_name, measure_speed

ROOT = Path(__file__).parents[3]


class Watched(nn.Module):
    """Notes what it is asked to describe, and takes as much memory as it is told."""

    def __init__(self, numbers: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.numbers = numbers
        self.seen: list[tuple[tuple[int, ...], torch.dtype, int, bool, float]] = []

    def describe(self, images_BCHW: Tensor, flip: bool = False) -> Tensor:
        room = torch.ones(self.numbers)
        product = images_BCHW.flatten(1) @ images_BCHW.flatten(1).T
        facts = tuple(images_BCHW.shape), product.dtype, torch.get_num_threads(), self.training
        self.seen.append((*facts, float(images_BCHW[0, 0, 0, 0])))
        return product + room.sum()


def test_it_did_what_it_says() -> None:
    model = Watched().train()
    threads = torch.get_num_threads()
    speed = measure_speed(model, image_size=16, batch_size=3, threads=1, warm_up=4, runs=9)
    assert (speed.warm_up, speed.runs, speed.batch_size, speed.image_size) == (4, 9, 3, 16)
    assert len(model.seen) == 13
    assert {facts[:4] for facts in model.seen} == {((3, 3, 16, 16), torch.float32, 1, False)}
    assert len({facts[4] for facts in model.seen}) > 1, "inputs take turns"
    assert 0 < speed.least_ms <= speed.median_ms <= speed.most_ms
    assert speed.images_per_second == pytest.approx(3000 / speed.median_ms)
    assert speed.threads == 1
    assert speed.device == device_name(torch.device("cpu"))
    assert model.training and torch.get_num_threads() == threads


class Blank(nn.Module):
    """Describes on any device."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, device=device))

    def describe(self, images_BCHW: Tensor, flip: bool = False) -> Tensor:
        return images_BCHW.flatten(1) * self.weight


def measured_on(device: str) -> Speed:
    return measure_speed(Blank(device), image_size=8, batch_size=1, threads=2, runs=3, warm_up=1)


def test_threads_are_told_of_a_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured_on("cpu").machine == f"{device_name(torch.device('cpu'))}, float32, 2 threads"
    # `meta` stands for a GPU, which this machine may lack; autocast does not know it.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    elsewhere = measured_on("meta")
    assert elsewhere.threads == 0
    assert elsewhere.machine.endswith(", float32")


def test_a_slow_model_is_given_up_on_but_not_before_three_batches() -> None:
    model = Watched()
    speed = measure_speed(model, image_size=8, batch_size=1, threads=1, most_seconds=0)
    assert (speed.warm_up, speed.runs) == (1, 3)


def test_autocast_computes_in_the_precision_it_names() -> None:
    model = Watched()
    speed = measure_speed(
        model, image_size=8, batch_size=1, threads=1, runs=3, warm_up=1, precision="bfloat16"
    )
    assert speed.precision == "bfloat16"
    assert {facts[1] for facts in model.seen} == {torch.bfloat16}


class Keeping(Watched):
    """Keeps 64 MiB from its first batch on."""

    kept: Tensor | None = None

    def describe(self, images_BCHW: Tensor, flip: bool = False) -> Tensor:
        self.kept = torch.ones(64 * MIB // 4) if self.kept is None else self.kept
        return super().describe(images_BCHW)


PEAKS_MIB = """
import os
from tests.evaluation.efficiency.test_speed import MIB, Keeping, Watched, measure_speed

for model in (Watched(32 * MIB // 4), Keeping(16 * MIB // 4)):
    if not os.fork():
        found = measure_speed(model, image_size=8, batch_size=1, threads=1, warm_up=2, runs=3)
        print(found.peak_memory_mib, flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""


def test_peak_memory_is_that_of_describing_without_what_is_kept() -> None:
    """Measured in processes of their own: here other tests give memory back, who knows when."""
    child = subprocess.run(
        [sys.executable, "-c", PEAKS_MIB], cwd=ROOT, capture_output=True, text=True, check=True
    )
    taken, kept = map(float, child.stdout.split())
    assert 31 <= taken < 70
    assert 15 <= kept < 60  # malloc may keep a freed room or two


def test_a_real_model_is_measured() -> None:
    model = RetrievalModel(ModelConfig(arch="convnext_micro", weights="none"), num_places=2)
    speed = measure_speed(model, image_size=32, batch_size=2, threads=1, warm_up=1, runs=3)
    assert speed.images_per_second > 0
