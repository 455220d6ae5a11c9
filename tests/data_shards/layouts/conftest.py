"""Tiny SUES-200 folders, raw and already split."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

HEIGHTS = (150, 200)
PLACES = ("0001", "0002", "0003", "0004")
TRAIN = ("0001", "0003")
VIEWS = 3

WriteSues = Callable[..., Path]


def image_bytes(*words: object) -> bytes:
    """Bytes that stand for an image file: layouts list and compare files, and decode none."""
    return " ".join(map(str, words)).encode()


def write_sues_raw(root: Path, places: Iterable[str] = PLACES, *, split: bool = True) -> Path:
    """Write the raw folders, with a `split.yaml` beside them unless told otherwise."""
    for place in places:
        tile = root / "satellite-view" / place / "0.png"
        tile.parent.mkdir(parents=True)
        tile.write_bytes(image_bytes("satellite", place))
        for height in HEIGHTS:
            folder = root / "drone_view_512" / place / str(height)
            folder.mkdir(parents=True)
            for view in range(VIEWS):
                (folder / f"{view}.jpg").write_bytes(image_bytes("drone", place, height, view))
    if split:
        (root / "split.yaml").write_text(f"train: [{', '.join(TRAIN)}]\n")
    return root


def write_sues_split(raw: Path, root: Path, *, train: Iterable[str] = TRAIN) -> Path:
    """Copy raw folders into the form that the data set's own script makes of them."""
    train = set(train)
    for drones in sorted((raw / "drone_view_512").glob("*/*")):
        place, height = drones.parent.name, drones.name
        sources = {"drone": drones, "satellite": raw / "satellite-view" / place}
        sides = ["Testing/{height}/gallery_{view}"]
        sides.append(
            "Training/{height}/{view}" if place in train else "Testing/{height}/query_{view}"
        )
        for side in sides:
            for view, source in sources.items():
                shutil.copytree(source, root / side.format(height=height, view=view) / place)
    return root


@pytest.fixture(scope="session")
def make_sues() -> WriteSues:
    """The function that writes a raw SUES-200 folder."""
    return write_sues_raw


@pytest.fixture
def sues_raw(tmp_path: Path) -> Path:
    """A raw SUES-200 folder of four places at two heights, with its `split.yaml`."""
    return write_sues_raw(tmp_path / "sues")


@pytest.fixture
def sues_split(sues_raw: Path, tmp_path: Path) -> Path:
    """The same places in the form that is already split."""
    return write_sues_split(sues_raw, tmp_path / "Dataset")
