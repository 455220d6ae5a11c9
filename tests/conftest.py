"""Fixtures that tests of several stages share; a fixture of one stage lives in its own folder."""

import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_shards.layouts import read_layout
from data_shards.packing.stored_image import Profile
from data_shards.packing.write import write_shards
from data_shards.progress import show_progress
from data_shards.shards import ShardSet

# Tiny tensors are no work to share. Set before torch is imported; what a test starts inherits it.
os.environ["OMP_NUM_THREADS"] = "1"

TRAIN_PLACES = [f"{place:04d}" for place in range(1, 11)]
TEST_PLACES = ["5001", "5002", "5003"]
DISTRACTORS = ["5004", "5005"]
DRONE_VIEWS = 5


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have a slow test, so that two workers end at about one time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def save_image(path: Path, *, size: int = 32) -> None:
    """Save noise that the file's own place and name decide."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32("/".join(path.parts[-2:]).encode())
    colour = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    Image.fromarray(colour).resize((size, size), Image.Resampling.BICUBIC).save(path, quality=90)


def write_tiny_raw(root: Path) -> Path:
    """Write the folders of University-1652: 10 places to train on, 3 to query, 2 distractors."""
    for place in TRAIN_PLACES:
        save_image(root / "train/satellite" / place / f"{place}.jpg")
        for view in range(1, DRONE_VIEWS + 1):
            save_image(root / "train/drone" / place / f"image-{view:02d}.jpeg")
    for place in TEST_PLACES + DISTRACTORS:
        save_image(root / "test/gallery_satellite" / place / f"{place}.jpg")
        for view in range(1, DRONE_VIEWS + 1):
            save_image(root / "test/gallery_drone" / place / f"image-{view:02d}.jpeg")
    for place in TEST_PLACES:
        for view in ("satellite", "drone"):
            gallery = root / f"test/gallery_{view}" / place
            shutil.copytree(gallery, root / f"test/query_{view}" / place)
    return root


@pytest.fixture(scope="session")
def make_raw() -> Callable[[Path], Path]:
    """The function that writes a tiny raw folder, for tests that will damage it."""
    return write_tiny_raw


@pytest.fixture(scope="session")
def tiny_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny University-1652 folder; for reading only."""
    return write_tiny_raw(tmp_path_factory.mktemp("tiny") / "raw")


def shard(raw: Path, out: Path) -> None:
    """Write shards of a raw folder, or bring them up to date."""
    dataset = read_layout(raw, layout="university1652")
    with show_progress("writing", enabled=False) as progress:
        write_shards(dataset, out, profile=Profile(), workers=1, progress=progress)


@pytest.fixture(scope="session")
def tiny_shards(tiny_raw: Path) -> ShardSet:
    """The shards of `tiny_raw`; for reading only."""
    out = tiny_raw.parent / "shards"
    shard(tiny_raw, out)
    return ShardSet.open(out)
