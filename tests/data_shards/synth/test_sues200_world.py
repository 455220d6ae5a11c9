"""A world in the raw folders of SUES-200, and what the layout makes of it."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from data_shards.config import SynthConfig
from data_shards.layouts import read_layout
from data_shards.schema import Role, View
from data_shards.synth.world import WorldSummary, write_world

SMALL = {"layout": "sues200", "places": 2, "test_places": 1, "views": 2, "image_size": 32}


def write(out: Path, **changes: object) -> WorldSummary:
    config = SynthConfig(out=out, workers=1, **SMALL | changes)
    return write_world(config, progress=lambda done, total, **facts: None)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("worlds") / "small"
    summary = write(out)
    assert (summary.num_images, summary.num_rendered, summary.num_distractors) == (27, 27, 0)
    return out


def test_folders_are_those_of_sues200(small: Path) -> None:
    expected = {"world.json", "split.yaml"}
    for place in ("0001", "0002", "0003"):
        expected.add(f"satellite-view/{place}/0.png")
        expected |= {
            f"drone_view_512/{place}/{height}/{view}.jpg"
            for height in (150, 200, 250, 300)
            for view in (0, 1)
        }
    files = {p.relative_to(small).as_posix() for p in small.rglob("*") if p.is_file()}
    assert files == expected


def test_satellites_are_png_and_drone_views_jpeg(small: Path) -> None:
    tile = Image.open(small / "satellite-view/0001/0.png")
    view = Image.open(small / "drone_view_512/0001/300/1.jpg")
    assert (tile.format, tile.size, tile.mode) == ("PNG", (32, 32), "RGB")
    assert (view.format, view.size) == ("JPEG", (32, 32))


def test_the_layout_reads_it_with_its_split(small: Path) -> None:
    dataset = read_layout(small)
    assert (dataset.layout, dataset.split) == ("sues200", "split.yaml")
    train = {record.place for record in dataset.records if Role.TRAIN in record.roles}
    assert train == {"0001", "0002"}
    assert all(Role.GALLERY in record.roles for record in dataset.records)
    drones = [record for record in dataset.records if record.view is View.DRONE]
    assert Counter(record.altitude_m for record in drones) == dict.fromkeys(
        (150.0, 200.0, 250.0, 300.0), 6
    )


def test_a_whole_world_is_left_alone_and_a_lost_split_comes_back(
    small: Path, tmp_path: Path
) -> None:
    split = (small / "split.yaml").read_text()
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*") if path.is_file()}
    assert write(small).num_rendered == 0
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*") if path.is_file()} == before
    (small / "split.yaml").unlink()
    write(small)
    assert (small / "split.yaml").read_text() == split


def test_a_place_is_the_same_in_both_layouts_but_for_its_flight(
    small: Path, tmp_path: Path
) -> None:
    write(tmp_path / "other", layout="university1652", distractors=0)
    (tile,) = (tmp_path / "other/train/satellite/0001").iterdir()
    mine, other = Image.open(small / "satellite-view/0001/0.png"), Image.open(tile)
    assert mine.tobytes() == other.convert("RGB").tobytes()
