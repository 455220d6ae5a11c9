"""Shards opened for reading: what is there, and every way in which they can be damaged."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_shards.errors import ShardError
from data_shards.index import HEADER, ROW
from data_shards.layouts import read_layout
from data_shards.packing.stored_image import Profile
from data_shards.packing.write import write_shards
from data_shards.schema import Role, View
from data_shards.shards import ShardSet

TAR, INDEX = "train-drone-000000.tar", "train-drone-000000.index"


@pytest.fixture
def folder(tiny_shards: ShardSet, tmp_path: Path) -> Path:
    """A copy of the shards that a test may damage."""
    return shutil.copytree(tiny_shards.folder, tmp_path / "shards")


def test_rows_and_bytes_are_those_of_the_raw_files(tiny_shards: ShardSet, tiny_raw: Path) -> None:
    row = tiny_shards.images.key.tolist().index("0003/drone/image-02")
    source = tiny_raw / "train/drone/0003/image-02.jpeg"
    assert bytes(tiny_shards.read(row)) == source.read_bytes()
    assert tiny_shards.places[tiny_shards.images.place[row]] == "0003"
    assert tiny_shards.images.position[row] == 2
    assert np.isnan(tiny_shards.images.altitude_m[row])
    assert tiny_shards.describe(row) == f"{tiny_shards.folder / TAR}: 0003/drone/image-02"


def test_rows_of_a_role_come_by_place_and_position(tiny_shards: ShardSet) -> None:
    images = tiny_shards.images
    rows = images.where(role=Role.GALLERY, view=View.DRONE, places=[12, 10])
    assert images.key[rows].tolist() == [
        f"{place}/drone/image-{view:02d}" for place in (5001, 5003) for view in range(1, 6)
    ]
    assert len(images.where(role=Role.QUERY, view=View.SATELLITE)) == 3
    assert tiny_shards.train_places.tolist() == list(range(10))


def test_the_manifest_counts(tiny_shards: ShardSet) -> None:
    assert tiny_shards.manifest.counts == {
        "train": {"satellite": 10, "drone": 50, "places": 10},
        "query": {"satellite": 3, "drone": 15, "places": 3},
        "gallery": {"satellite": 5, "drone": 25, "places": 5},
    }


def test_hashes_depend_on_the_name_alone(tiny_shards: ShardSet) -> None:
    assert len(set(tiny_shards.key_hashes.tolist())) == len(tiny_shards.images)
    assert int(tiny_shards.place_hashes[0]) == 10684345787160923938


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 512)


def set_byte(at: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[at] ^= 0xFF
        path.write_bytes(content)

    return change


def set_manifest(**changes: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def take_index_of_another(path: Path) -> None:
    shutil.copy(path.with_name("test-drone-000000.index"), path)


@pytest.mark.parametrize(
    ("name", "damage", "sentence"),
    [
        (TAR, cut, "bytes and its index says .* the tar is truncated or was changed"),
        (TAR, Path.unlink, "is missing .*restore it or run skydistill shard again"),
        (INDEX, Path.unlink, "cannot be read .No such file"),
        (INDEX, cut, "has a wrong length"),
        (INDEX, set_byte(0), "is not a shard index"),
        (INDEX, lambda path: path.write_bytes(b""), "is not a shard index"),
        (INDEX, set_byte(8), "has schema version 253, this program reads 2"),
        (INDEX, set_byte(HEADER.size + ROW.itemsize), "is not the index that the manifest names"),
        (INDEX, take_index_of_another, "is not the index that the manifest names"),
        ("manifest.json", Path.unlink, "no shards at .*make them with skydistill shard RAW"),
        ("manifest.json", lambda path: path.write_text("{"), "is damaged"),
        ("manifest.json", lambda path: path.write_text("[]"), "is damaged"),
        ("manifest.json", set_manifest(shards=["a.tar"]), "is damaged"),
        ("manifest.json", set_manifest(mood="good"), "is damaged"),
        ("manifest.json", set_manifest(schema_version=1), "schema version 1, this program reads 2"),
        ("manifest.json", set_manifest(shards=[]), "was edited"),
        ("manifest.json", set_manifest(places=["0002", "0001"]), "was edited"),
    ],
)
def test_damage_is_told_with_file_and_remedy(folder, name, damage, sentence) -> None:
    damage(folder / name)
    with pytest.raises(ShardError, match=sentence) as told:
        ShardSet.open(folder)
    assert str(folder) in str(told.value)
    assert "\n" not in str(told.value)
    assert "skydistill shard" in str(told.value)


@pytest.mark.parametrize("at", [0, -1])
def test_a_tar_of_the_same_length_that_was_written_again_is_told(folder: Path, at: int) -> None:
    shards = ShardSet.open(folder)
    row = np.flatnonzero(shards.images.shard == 1)[at]
    tar = folder / shards.manifest.shards[1].name
    content = bytearray(tar.read_bytes())
    content[int(shards.images.offset[row]) + 40] ^= 1
    tar.write_bytes(content)
    told = f"{tar.name} is newer than its index, or damaged: {shards.images.key[row]} is another"
    with pytest.raises(ShardError, match=told):
        ShardSet.open(folder)


def test_a_manifest_that_cannot_be_read_is_told(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()
    with pytest.raises(ShardError, match=r"manifest.json cannot be read \(Is a directory\); make"):
        ShardSet.open(folder)


def test_any_edit_of_the_manifest_is_noticed(folder: Path) -> None:
    values = json.loads((folder / "manifest.json").read_text())
    values["counts"]["train"]["drone"] += 1
    (folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(ShardError, match="was edited"):
        ShardSet.open(folder)


READ_ALL = """
import resource, sys
from pathlib import Path
from data_shards.errors import ShardError
from data_shards.shards import ShardSet

folder, most = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (16, most))
shards = ShardSet.open(folder)
try:
    print(sum(len(shards.read(row)) for row in range(len(shards.images))))
except ShardError as error:
    print(error)
"""


@pytest.mark.parametrize(("most", "told"), [(64, None), (16, "allow more open files than the 17")])
def test_more_tars_are_open_than_a_process_may_open_files(
    tiny_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, told: str | None
) -> None:
    monkeypatch.setattr("data_shards.packing.shard_layout.PLACES_PER_SHARD", 1)
    out = tmp_path / "shards"
    done = write_shards(
        read_layout(tiny_raw), out, profile=Profile(), workers=1, progress=lambda *_, **__: None
    )
    assert len(done.manifest.shards) == 17
    words = [sys.executable, "-c", READ_ALL, str(out), str(most)]
    root = Path(__file__).parents[2]
    read = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True)
    size = int(ShardSet.open(out).images.size.sum())
    assert read.stdout.strip() == str(size) if told is None else told in read.stdout
