"""A challenge without answers: flat folders, a list of queries, and tiles in WebP."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_shards.decode import decode
from data_shards.errors import LayoutError
from data_shards.layouts import read_layout
from data_shards.packing.stored_image import Profile
from data_shards.packing.write import write_shards
from data_shards.progress import show_progress
from data_shards.schema import Role, View
from data_shards.shards import ShardSet
from data_shards.verify import verify_shards

TILES = ("0AD9uIptRbTXM6h", "b-7", "a_12", "Zz")
QUERIES = ("9f", "0AyTW60A18vxzu7", "c1")


def save(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((24, 24, 3), shade, dtype=np.uint8)).save(path)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Four tiles, three queries in an order of their own, and one that the list leaves out."""
    root = tmp_path / "raw"
    for number, name in enumerate(TILES):
        save(root / f"gallery_satellite_160k/{name}.webp", 40 * number)
    for number, name in enumerate((*QUERIES, "unlisted")):
        save(root / f"query_drone_160k/{name}.jpeg", 30 * number)
    (root / "query_drone_name.txt").write_text("".join(f"{name}.jpeg\n" for name in QUERIES))
    return root


def test_tiles_are_places_and_queries_stand_in_the_order_of_the_list(raw: Path) -> None:
    dataset = read_layout(raw)
    assert (dataset.layout, dataset.deviations) == ("university160k", ())
    tiles = {r.place: r for r in dataset.records if r.view is View.SATELLITE}
    assert set(tiles) == set(TILES)
    assert {tile.roles for tile in tiles.values()} == {Role.GALLERY}
    queries = [record for record in dataset.records if record.view is View.DRONE]
    assert [(query.place, query.name) for query in queries] == [
        ("query-000001", "9f"),
        ("query-000002", "0AyTW60A18vxzu7"),
        ("query-000003", "c1"),
    ]
    assert {query.roles for query in queries} == {Role.QUERY}


def test_the_list_may_begin_with_a_byte_order_mark(raw: Path) -> None:
    before, order = read_layout(raw).records, raw / "query_drone_name.txt"
    order.write_text(order.read_text(), encoding="utf-8-sig")
    assert read_layout(raw).records == before


def test_the_edition_with_weather_is_packed_one_folder_deeper(raw: Path) -> None:
    before = [record.key for record in read_layout(raw).records]
    folder = raw / "query_drone160k_wx/query_drone_160k_wx_24"
    folder.parent.mkdir()
    (raw / "query_drone_160k").rename(folder)
    assert [record.key for record in read_layout(raw).records] == before


def test_a_gallery_alone_is_one_of_distractors(raw: Path) -> None:
    shutil.rmtree(raw / "query_drone_160k")
    (raw / "query_drone_name.txt").unlink()
    assert {record.place for record in read_layout(raw).records} == set(TILES)


def test_shards_of_it_are_whole_and_keep_order_names_and_pixels(raw: Path, tmp_path: Path) -> None:
    with show_progress("writing", enabled=False) as progress:
        write_shards(
            read_layout(raw), tmp_path / "out", profile=Profile(), workers=1, progress=progress
        )
        verdict = verify_shards(tmp_path / "out", expect="none", workers=1, progress=progress)
    assert verdict.problems == []
    shards = ShardSet.open(tmp_path / "out")
    images = shards.images
    rows = images.where(role=Role.QUERY, view=View.DRONE)
    assert [key.rpartition("/")[2] for key in images.key[rows]] == list(QUERIES)
    tile = raw / "gallery_satellite_160k/b-7.webp"
    (row,) = (images.key == "b-7/satellite/b-7").nonzero()[0]
    stored = bytes(shards.read(row))
    assert stored == tile.read_bytes()
    assert (decode(stored) == np.asarray(Image.open(tile))).all()


def drop_gallery(raw: Path) -> None:
    shutil.rmtree(raw / "gallery_satellite_160k")


def empty_gallery(raw: Path) -> None:
    drop_gallery(raw)
    (raw / "gallery_satellite_160k").mkdir()


def drop_list(raw: Path) -> None:
    (raw / "query_drone_name.txt").unlink()


def empty_list(raw: Path) -> None:
    (raw / "query_drone_name.txt").write_text("\n")


def name_a_stranger(raw: Path) -> None:
    with (raw / "query_drone_name.txt").open("a") as file:
        file.write("gone.jpeg\n")


def two_tiles_of_one_name(raw: Path) -> None:
    save(raw / "gallery_satellite_160k/Zz.png", 9)


def a_name_with_a_blank(raw: Path) -> None:
    save(raw / "gallery_satellite_160k/my tile.webp", 9)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (drop_gallery, "gallery_satellite_160k is missing"),
        (empty_gallery, "holds no images"),
        (drop_list, "query_drone_name.txt cannot be read .* one file name per line"),
        (empty_list, "query_drone_name.txt is empty"),
        (name_a_stranger, "names 'gone.jpeg' in line 4"),
        (two_tiles_of_one_name, "holds Zz.png and Zz.webp, which an answer cannot tell apart"),
        (a_name_with_a_blank, "my tile.webp has other characters"),
    ],
)
def test_a_folder_that_cannot_be_answered_is_refused(spoil, sentence: str, raw: Path) -> None:
    spoil(raw)
    with pytest.raises(LayoutError, match=sentence):
        read_layout(raw)


def test_no_place_trains(raw: Path) -> None:
    with pytest.raises(LayoutError, match="leave out --split"):
        read_layout(raw, split=raw / "split.yaml")
