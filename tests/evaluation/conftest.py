"""Worlds of flat colours in the folders of both data sets, and a model that never learned."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data_shards.layouts import read_layout
from data_shards.layouts.published import PUBLISHED
from data_shards.packing.stored_image import Profile
from data_shards.packing.write import write_shards
from data_shards.progress import show_progress
from data_shards.shards import ShardSet
from distill.config import DataConfig, DistillConfig, ModelConfig, ObjectivesConfig, ScheduleConfig
from distill.config.objectives import InfoNceConfig
from distill.models import build_model
from distill.run_folder import RunPaths, open_run_folder
from distill.weights_file import TrainingData, save_weights
from evaluation.cli import evaluate
from evaluation.efficiency import Cost
from evaluation.ranking import metrics, rank
from evaluation.report import Measurement, Report, Result
from evaluation.retrieval import Retrieval

TRAIN, TEST, DISTRACTORS, VIEWS = 20, 6, 3, 2
SUES_TRAIN, SUES_PLACES, SUES_HEIGHTS = 4, 7, (150, 300)


def save_image(path: Path, place: int, *noise_seed: int, size: int = 40) -> None:
    """Save a picture of the place's own colour with a little noise."""
    colour = np.random.default_rng(place).integers(30, 220, 3)
    noise = np.random.default_rng([place, *noise_seed]).integers(-25, 25, (size, size, 3))
    image = Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95)


def write_place(
    root: Path, place: int, satellite: list[str], drone: list[str], street: list[str] | None = None
) -> None:
    """Save the images of one place into the folders of University-1652."""
    sides = (("satellite", satellite, 1), ("drone", drone, VIEWS), ("street", street or [], 1))
    for view, folders, count in sides:
        for number in range(count):
            for folder in folders:
                path = root / folder / f"{place:04d}" / f"image-{number + 1:02d}.jpg"
                save_image(path, place, number, len(view))


def write_university(root: Path, *, has_street: bool) -> Path:
    """Write 20 training places, 6 test places and 3 distractors."""
    street = ["train/street"] if has_street else []
    for place in range(TRAIN):
        write_place(root, place, ["train/satellite"], ["train/drone"], street)
    views = ("satellite", "drone", "street") if has_street else ("satellite", "drone")
    for place in range(TRAIN, TRAIN + TEST):
        both = [[f"test/{role}_{view}" for role in ("query", "gallery")] for view in views]
        write_place(root, place, *both)
    for place in range(TRAIN + TEST, TRAIN + TEST + DISTRACTORS):
        write_place(root, place, ["test/gallery_satellite"], ["test/gallery_drone"])
    return root


def write_sues(root: Path) -> Path:
    """Write 4 training and 3 test places at two of the four heights, and the split."""
    for place in range(SUES_PLACES):
        name = f"{place + 1:04d}"
        save_image(root / "satellite-view" / name / "0.png", place, 7)
        for height in SUES_HEIGHTS:
            for number in range(VIEWS):
                path = root / "drone_view_512" / name / str(height) / f"{number}.jpg"
                save_image(path, place, number, height)
    names = [f"{place + 1:04d}" for place in range(SUES_PLACES)]
    split = {"train": names[:SUES_TRAIN], "test": names[SUES_TRAIN:]}
    (root / "split.yaml").write_text(json.dumps(split))
    return root


def sharded(raw: Path, layout: str, *, split: Path | None = None) -> ShardSet:
    """Write shards beside a raw folder."""
    dataset = read_layout(raw, layout=layout, split=split, name=layout)
    with show_progress("writing", enabled=False) as progress:
        write_shards(
            dataset, raw.parent / "shards", profile=Profile(), workers=1, progress=progress
        )
    return ShardSet.open(raw.parent / "shards")


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Shards of 20 training places, 6 test places and 3 distractors."""
    raw = tmp_path_factory.mktemp("world") / "raw"
    return sharded(write_university(raw, has_street=False), "university1652")


@pytest.fixture(scope="session")
def street_shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """The same places, with a street image of those that are queried."""
    raw = tmp_path_factory.mktemp("street") / "raw"
    return sharded(write_university(raw, has_street=True), "university1652")


@pytest.fixture(scope="session")
def sues_shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Shards of SUES-200 with 4 training and 3 test places at 150 and 300 m."""
    raw = write_sues(tmp_path_factory.mktemp("sues") / "raw")
    return sharded(raw, "sues200", split=raw / "split.yaml")


Evaluated = Callable[..., dict[str, Any]]


@pytest.fixture
def evaluated(run: RunPaths, shards: ShardSet, capsys: pytest.CaptureFixture[str]) -> Evaluated:
    """A function from words of the command line to the report that was printed."""

    def evaluated(*words: object, on: ShardSet = shards) -> dict[str, Any]:
        given = ["--checkpoint", run.folder, "--shards", on.folder, "--json", *words]
        given += ["--no-figures", "--no-mlflow", "--threads", "1", "--overwrite"]
        assert evaluate([str(word) for word in given]) == 0
        return dict(json.loads(capsys.readouterr().out))

    return evaluated


Command = Callable[..., list[str]]


@pytest.fixture
def command(run: RunPaths, shards: ShardSet) -> Command:
    """A function from further words to a whole command line, without MLflow."""

    def command(*words: object) -> list[str]:
        given = ["--checkpoint", run.folder, "--shards", shards.folder, "--no-mlflow", *words]
        return [str(word) for word in (*given, "--threads", "1")]

    return command


@pytest.fixture
def run(tmp_path: Path, shards: ShardSet) -> RunPaths:
    """A run folder whose model has the weights it was born with."""
    config = DistillConfig(
        name="newborn",
        out=tmp_path / "newborn",
        role="alone",
        data=DataConfig(shards=shards.folder, image_size=32, global_batch=8, threads=1),
        model=ModelConfig(arch="convnext_micro", weights="none"),
        objectives=ObjectivesConfig(info_nce=InfoNceConfig(weight=1)),
        schedule=ScheduleConfig(num_steps=10, warmup_steps=1),
    )
    paths = open_run_folder(config, world_size=1)
    torch.manual_seed(0)
    model = build_model(config.model, num_places=TRAIN)
    places = [f"{place:04d}" for place in range(TRAIN)]
    trained_on = TrainingData.of(shards)
    save_weights(
        paths.weights, paths.card, model, config, places=places, step=10, trained_on=trained_on
    )
    return paths


TITLES = {"d2s": "drone to satellite", "s2d": "satellite to drone"}

MakeResult = Callable[..., Result]
MakeReport = Callable[..., Report]


def measurement(*, dataset: str = "university1652", trained_on: str = "university1652", **how: Any):
    """Return how numbers on a public data set were measured; both are given by their layouts."""
    titles = {name: public.title for name, public in PUBLISHED.items()}
    usual: dict[str, Any] = {
        "dataset": titles.get(dataset, dataset),
        "protocol": dataset,
        "is_official": dataset in titles,
        "trained_on": titles.get(trained_on, trained_on),
        "trained_official": trained_on if trained_on in titles else "",
        "zero_shot": dataset != trained_on if trained_on else None,
        "shards_fingerprint": "0",
        "flip": False,
        "resampling": "pillow-bicubic",
        "decoder": "simplejpeg",
    }
    return Measurement(**usual | how)


def with_measurement(facts: dict[str, Any]) -> dict[str, Any]:
    """Return facts of a report, those of its measurement in one."""
    names = Measurement.__dataclass_fields__.keys() & facts.keys()
    how = measurement(**{name: facts[name] for name in names})
    return {key: facts[key] for key in facts if key not in names} | {"measurement": how}


MakeRetrieval = Callable[[list[list[float]], list[int], list[list[float]], list[int]], Retrieval]


@pytest.fixture
def result() -> MakeResult:
    """A function from recall@1 and what is unusual to a row."""

    def result(recall: float, direction: str = "d2s", **unusual: Any) -> Result:
        found = {"recall@1": recall, "recall@5": 0.9, "recall@10": 0.95, "recall@1%": 0.97}
        return Result(
            direction=direction,
            title=TITLES[direction],
            metrics=found | {"ap": recall + 0.01, "num_queries": 37_855, "num_gallery": 951},
            chance=1 / 951,
            **unusual,
        )

    return result


@pytest.fixture
def report() -> MakeReport:
    """A function from rows and what is unusual to a report."""

    def report(*results: Result, **unusual: Any) -> Report:
        usual: dict[str, Any] = {
            "name": "student_a&b",
            "method": "pfed",
            "role": "student",
            "arch": "convnext_tiny",
            "seed": 0,
            "step": 10,
            "cost": Cost(
                image_size=224, parameters=27_820_128, binary_parameters=0, macs=10**9, bops=0
            ),
            "image_size": 224,
            "descriptor_width": 768,
            "checkpoint": "model.safetensors",
            "checkpoint_sha256": "0",
            "shards": "shards",
            "ranks": 1,
            "seconds": 12.34,
            "ranking_seconds": 0.5,
        }
        return Report(results=results, **with_measurement(usual | unusual))

    return report


@pytest.fixture
def retrieval() -> MakeRetrieval:
    """A function from descriptors and places to a retrieval; queries are the first image rows."""

    def retrieval(
        queries: list[list[float]],
        query_places: list[int],
        gallery: list[list[float]],
        gallery_places: list[int],
    ) -> Retrieval:
        query_QD, gallery_GD = (
            torch.nn.functional.normalize(torch.tensor(rows), dim=1) for rows in (queries, gallery)
        )
        ranking = rank(
            query_QD,
            gallery_GD,
            query_labels_Q=torch.tensor(query_places),
            gallery_labels_G=torch.tensor(gallery_places),
        )
        return Retrieval(
            query_rows=np.arange(len(queries)),
            gallery_rows=len(queries) + np.arange(len(gallery)),
            query_QD=query_QD,
            gallery_GD=gallery_GD,
            ranking=ranking,
            metrics=metrics(ranking),
        )

    return retrieval
