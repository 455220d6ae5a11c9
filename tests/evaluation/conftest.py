"""A world of flat colours in the folders of University-1652, and a model that never learned."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_shards.layouts import read_layout
from data_shards.packing.image_profile import Profile
from data_shards.packing.write import write_shards
from data_shards.progress import show_progress
from data_shards.shards import ShardSet
from distill.checkpoint import save_weights
from distill.config import (
    DataConfig,
    DistillConfig,
    InfoNceConfig,
    ModelConfig,
    ObjectivesConfig,
    ScheduleConfig,
)
from distill.models import build_model
from distill.run_folder import RunPaths, open_run_folder

TRAIN, TEST, DISTRACTORS, VIEWS = 20, 6, 3, 2


def write_place(root: Path, place: int, satellite: list[str], drone: list[str]) -> None:
    """Save one image per view, of the place's own colour with a little noise."""
    for view, folders, count in (("satellite", satellite, 1), ("drone", drone, VIEWS)):
        for number in range(count):
            colour = np.random.default_rng(place).integers(30, 220, 3)
            noise = np.random.default_rng([place, number, len(view)]).integers(-25, 25, (40, 40, 3))
            image = Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8))
            for folder in folders:
                path = root / folder / f"{place:04d}" / f"image-{number + 1:02d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path, quality=95)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Shards of 20 training places, 6 test places and 3 distractors."""
    root = tmp_path_factory.mktemp("world")
    for place in range(TRAIN):
        write_place(root / "raw", place, ["train/satellite"], ["train/drone"])
    for place in range(TRAIN, TRAIN + TEST):
        both = [
            [f"test/{role}_{view}" for role in ("query", "gallery")]
            for view in ("satellite", "drone")
        ]
        write_place(root / "raw", place, *both)
    for place in range(TRAIN + TEST, TRAIN + TEST + DISTRACTORS):
        write_place(root / "raw", place, ["test/gallery_satellite"], ["test/gallery_drone"])
    dataset = read_layout(root / "raw", layout="university1652")
    with show_progress("writing", enabled=False) as progress:
        write_shards(dataset, root / "shards", profile=Profile(), workers=1, progress=progress)
    return ShardSet.open(root / "shards")


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
    model = build_model(config.model, num_places=TRAIN)
    save_weights(paths, model, config, places=[str(place) for place in range(TRAIN)], step=10)
    return paths
