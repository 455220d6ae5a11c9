"""The page docs/shards.md tells the truth: its examples run, its offsets are the code's."""

import json
import re
import tarfile
from pathlib import Path

import pytest

from data_shards.index import ENCODINGS, HEADER, ROW
from data_shards.schema import Role, View
from data_shards.shards import ShardSet

PAGE = (Path(__file__).parents[2] / "docs/shards.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize(
    "example", EXAMPLES, ids=["fingerprint", "one image", "pairs", "tars of others"]
)
def test_the_examples_run(tiny_shards: ShardSet, tmp_path, monkeypatch, example: str) -> None:
    (tmp_path / "shards").symlink_to(tiny_shards.folder)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/shards.md", "exec"), {})


def test_the_tars_of_others_are_indexed(tiny_shards, tmp_path, monkeypatch, skydistill) -> None:
    (tmp_path / "shards").symlink_to(tiny_shards.folder)
    monkeypatch.chdir(tmp_path)
    exec(EXAMPLES[3], {})
    assert skydistill("shard", "mine", "--index-only").code == 0
    mine = ShardSet.open(tmp_path / "mine")
    assert mine.manifest.counts["train"] == tiny_shards.manifest.counts["train"]
    assert len(mine.manifest.shards) == 2


def test_the_json_has_the_fields_that_the_page_lists(tiny_shards: ShardSet) -> None:
    table = PAGE.split("The JSON:")[1].split("## Order")[0]
    listed = re.findall(r"^\| `(\w+)` \|", table, re.M)
    with tarfile.open(tiny_shards.folder / "train-drone-000000.tar") as tar:
        member = tar.extractfile("0001/drone/image-01.json")
        assert member is not None
        assert sorted(json.load(member)) == sorted(listed)


def test_the_manifest_has_the_fields_that_the_page_lists(tiny_shards: ShardSet) -> None:
    table = PAGE.split("## manifest.json")[1].split("```python")[0]
    listed = re.findall(r"^\| `(\w+)` \|", table, re.M)
    assert sorted(json.loads((tiny_shards.folder / "manifest.json").read_text())) == sorted(listed)


def test_one_image_is_the_image_of_that_row(tiny_shards: ShardSet, monkeypatch) -> None:
    monkeypatch.chdir(tiny_shards.folder.parent)
    names: dict = {}
    exec(EXAMPLES[1], names)
    row = tiny_shards.images.key.tolist().index("0008/drone/image-01")
    assert names["jpeg"] == bytes(tiny_shards.read(row))
    assert names["row"].itemsize == ROW.itemsize


def test_every_drone_view_gets_the_tile_of_its_place(tiny_shards, tiny_raw, monkeypatch) -> None:
    monkeypatch.chdir(tiny_shards.folder.parent)
    names: dict = {}
    exec(EXAMPLES[2], names)
    pairs = list(names["pairs"])
    assert len(pairs) == 50
    for pair in pairs:
        tile = tiny_raw / "train/satellite" / pair["place"] / f"{pair['place']}.jpg"
        assert pair["satellite.jpg"] == tile.read_bytes()


def test_the_tables_of_bytes_are_those_of_the_code() -> None:
    header = [int(at) for at in re.findall(r"^\| (\d+) \|", PAGE.split("| header byte")[1], re.M)]
    assert header[:6] == [0, 8, 12, 16, 24, 32]
    assert HEADER.size == 64
    rows = [int(at) for at in re.findall(r"^\| (\d+) \|", PAGE.split("| row byte")[1], re.M)]
    assert rows == [ROW.fields[name][1] for name in ROW.names]
    assert ROW.itemsize == 48
    assert ENCODINGS == ("jpg", "png", "webp")
    assert [(view.value, view.word) for view in View] == [
        (0, "satellite"),
        (1, "drone"),
        (2, "street"),
        (3, "google"),
    ]
    assert [(role.value, *role.words) for role in Role] == [
        (1, "train"),
        (2, "query"),
        (4, "gallery"),
    ]
