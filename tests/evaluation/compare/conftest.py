"""Reports as `skydistill evaluate` writes them, without a model behind them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.efficiency import Cost, Speed
from evaluation.report import Report, Result
from launch.main import main
from tests.evaluation.conftest import with_measurement

WORDS = {"d2s": "drone to satellite", "s2d": "satellite to drone"}

UNIVERSITY_COUNTS = {"d2s": (37_855, 951), "s2d": (701, 51_355)}
SUES_COUNTS = {"d2s": (4_000, 200), "s2d": (80, 10_000)}


def result(direction: str, recall: float, ap: float, counts: tuple[int, int], **more) -> Result:
    metrics = {"recall@1": recall, "recall@5": recall, "recall@10": recall, "recall@1%": recall}
    metrics |= {"ap": ap, "num_queries": counts[0], "num_gallery": counts[1]}
    return Result(
        direction=direction, title=WORDS[direction], metrics=metrics, chance=0.001, **more
    )


def university_results(recall: float = 0.9, **more) -> tuple[Result, ...]:
    return tuple(
        result(way, recall + shift, recall + shift - 0.01, counts, **more)
        for (way, counts), shift in zip(UNIVERSITY_COUNTS.items(), (0, 0.02), strict=True)
    )


def sues_results(recall: float = 0.8, **more) -> tuple[Result, ...]:
    return tuple(
        result(way, recall + height / 2000, recall, counts, altitude_m=height, **more)
        for way, counts in SUES_COUNTS.items()
        for height in (150, 200, 250, 300)
    )


def make_report(
    name: str = "student",
    *,
    seed: int = 0,
    results: tuple[Result, ...] | None = None,
    parameters: int = 28_000_000,
    **more,
) -> Report:
    values = {
        "method": "pfed",
        "role": "distilled",
        "arch": "convnext_tiny",
        "step": 1000,
        "image_size": 224,
        "descriptor_width": 768,
        "flip": False,
        "resampling": "opencv-linear",
        "decoder": "simplejpeg",
        "checkpoint": f"outputs/{name}/model.safetensors",
        "checkpoint_sha256": f"{name}{seed}",
        "shards": "data/shards",
        "shards_fingerprint": "f" * 64,
        "ranks": 1,
        "seconds": 10.0,
        "ranking_seconds": 0.1,
    } | more
    cost = Cost(
        image_size=values["image_size"],
        parameters=parameters,
        binary_parameters=0,
        macs=160 * parameters,
        bops=0,
    )
    return Report(
        name=name,
        seed=seed,
        results=university_results() if results is None else results,
        cost=cost,
        **with_measurement(values),
    )


def make_speed(device: str = "a GPU", images_per_second: float = 1000.0) -> Speed:
    return Speed(
        device=device,
        precision="float32",
        threads=2,
        image_size=224,
        batch_size=64,
        warm_up=3,
        runs=10,
        median_ms=64_000 / images_per_second,
        least_ms=1.0,
        most_ms=100.0,
        peak_memory_mib=100.0,
    )


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run folder with a report, and a recipe if one is given."""

    def write(
        folder: str, report: Report, *, recipe: str = "", name: str = "university1652"
    ) -> Path:
        path = tmp_path / folder
        report.write(path / "evaluations" / name / "report.json")
        if recipe:
            (path / "recipe.yaml").write_text(recipe)
        return path

    return write


class Told:
    """What one call of the command said."""

    def __init__(self, words: tuple[object, ...], capsys: pytest.CaptureFixture[str]) -> None:
        self.code = main(["compare", *map(str, words)])
        captured = capsys.readouterr()
        self.out, self.err = captured.out, captured.err

    @property
    def sentence(self) -> str:
        assert self.code == 2 and self.out == "" and self.err.count("\n") == 1, self.err
        return self.err

    @property
    def table(self) -> dict:
        assert self.code == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def compare(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    return lambda *words: Told(words, capsys)


@pytest.fixture
def two_models(run_folder: Callable[..., Path]) -> Path:
    """Three seeds of a small model and two of a large one, on the public University-1652."""
    for seed, recall in enumerate((0.90, 0.91, 0.92)):
        report = make_report(
            f"small_seed{seed}",
            seed=seed,
            results=university_results(recall),
            speed=(make_speed(),),
        )
        folder = run_folder(f"runs/small{seed}", report)
    for seed, recall in enumerate((0.93, 0.95)):
        report = make_report(
            f"large_seed{seed}",
            seed=seed,
            results=university_results(recall),
            parameters=88_000_000,
            speed=(make_speed(images_per_second=300),),
        )
        run_folder(f"runs/large{seed}", report)
    return folder.parent
