import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from data_shards.errors import LayoutError, ShardError
from data_shards.layouts import found_lines, read_layout
from data_shards.layouts.university1652 import orbit_altitude_m
from data_shards.packing.stored_image import Profile
from data_shards.packing.write import write_shards
from data_shards.schema import ImageRecord, Role, View

MakeRaw = Callable[[Path], Path]


def read(raw: Path) -> dict[str, ImageRecord]:
    records = read_layout(raw, layout="university1652").records
    assert [record.key for record in records] == sorted(record.key for record in records)
    return {record.key: record for record in records}


@pytest.fixture
def raw(tmp_path: Path, make_raw: MakeRaw) -> Path:
    return make_raw(tmp_path / "raw")


def test_every_image_of_the_official_folders_is_found_once(tiny_raw: Path) -> None:
    records = read(tiny_raw)
    assert len(records) == (10 + 3 + 2) * (1 + 5)
    drone = records["0003/drone/image-02"]
    assert (drone.view, drone.roles, drone.position) == (View.DRONE, Role.TRAIN, 2)
    assert drone.altitude_m is None
    assert drone.source == tiny_raw / "train/drone/0003/image-02.jpeg"
    assert records["0003/satellite/0003"].view is View.SATELLITE


def test_query_and_gallery_of_the_same_bytes_are_one_record_with_both_roles(tiny_raw: Path) -> None:
    records = read(tiny_raw)
    both, distractor = records["5001/drone/image-01"], records["5004/drone/image-01"]
    assert both.roles == Role.QUERY | Role.GALLERY
    assert distractor.roles == Role.GALLERY


def test_query_and_gallery_of_different_bytes_stay_apart(raw: Path) -> None:
    source = raw / "test/query_drone/5001/image-01.jpeg"
    Image.new("RGB", (32, 32)).save(source)
    records = read(raw)
    assert records["5001/drone/image-01"].roles == Role.GALLERY
    apart = records["5001/drone/image-01-query"]
    assert (apart.roles, apart.source) == (Role.QUERY, source)


def test_a_query_folder_of_few_views_does_not_change_their_positions(raw: Path) -> None:
    for view in (1, 2, 4):
        (raw / f"test/query_drone/5001/image-{view:02d}.jpeg").unlink()
    records = read(raw)
    queries = [r for r in records.values() if r.place == "5001" and Role.QUERY in r.roles]
    assert [r.position for r in queries if r.view is View.DRONE] == [3, 5]


def test_a_second_name_of_a_file_is_not_read_to_be_compared(raw: Path, monkeypatch) -> None:
    shutil.rmtree(raw / "test/query_drone")
    shutil.copytree(raw / "test/gallery_drone", raw / "test/query_drone", copy_function=hard_link)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("compared"))
    shutil.rmtree(raw / "test/query_satellite")
    gallery = raw / "test/gallery_satellite"
    shutil.copytree(gallery, raw / "test/query_satellite", copy_function=hard_link)
    assert read(raw)["5005/drone/image-01"].roles == Role.QUERY | Role.GALLERY


def hard_link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def test_a_full_orbit_has_altitudes(raw: Path) -> None:
    folder = raw / "train/drone/0001"
    first = folder / "image-01.jpeg"
    for view in range(6, 55):
        shutil.copy(first, folder / f"image-{view:02d}.jpeg")
    records = read(raw)
    assert records["0001/drone/image-01"].altitude_m == orbit_altitude_m(1) == 256.0
    assert records["0001/drone/image-54"].altitude_m == orbit_altitude_m(54) == 121.5


def test_the_stray_file_of_the_published_data_set_does_not_hide_the_flight(raw: Path) -> None:
    folder = raw / "test/gallery_drone/5004"
    first = folder / "image-01.jpeg"
    for view in range(6, 55):
        shutil.copy(first, folder / f"image-{view:02d}.jpeg")
    shutil.copy(first, folder / "image-07 (1).jpeg")
    records = read(raw)
    assert records["5004/drone/image-54"].altitude_m == 121.5
    assert records["5004/drone/image-08"].position == 8
    stray = records["5004/drone/image-07-1-"]
    assert (stray.position, stray.altitude_m) == (55, None)


def test_views_without_leading_zeros_stand_in_the_order_of_the_flight(raw: Path) -> None:
    folder = raw / "train/drone/0001"
    first = folder / "image-01.jpeg"
    for view in range(1, 55):
        shutil.copy(first, folder / f"view{view}.jpeg")
    for path in folder.glob("image-*"):
        path.unlink()
    records = read(raw)
    assert [records[f"0001/drone/view{n}"].position for n in (1, 2, 10, 54)] == [1, 2, 10, 54]


def test_street_and_google_images_are_views_of_their_own(raw: Path) -> None:
    for name in (
        "train/street/0001/1.jpg",
        "train/google/0001/7.png",
        "test/query_street/5001/1.JPG",
    ):
        (raw / name).parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(raw / name)
    shutil.copytree(raw / "test/query_street", raw / "test/gallery_street")
    records = read(raw)
    seen = {
        key: (records[key].view, records[key].roles)
        for key in ("0001/street/1", "0001/google/7", "5001/street/1")
    }
    assert seen == {
        "0001/street/1": (View.STREET, Role.TRAIN),
        "0001/google/7": (View.GOOGLE, Role.TRAIN),
        "5001/street/1": (View.STREET, Role.QUERY | Role.GALLERY),
    }


def test_empty_street_and_google_classes_are_allowed(raw: Path) -> None:
    before = read(raw).keys()
    for folder in ("train/street", "train/google/0001", "test/gallery_street/5004"):
        (raw / folder).mkdir(parents=True)
    assert read(raw).keys() == before


def test_folder_names_of_any_case_are_the_same_folders(raw: Path, tmp_path: Path) -> None:
    before = read(raw).keys()
    (raw / "train").rename(raw / "Train")
    (raw / "Train/drone").rename(raw / "Train/Drone")
    (raw / "test/gallery_satellite").rename(raw / "test/Gallery_Satellite")
    assert read(raw).keys() == before


def test_two_sources_for_one_place_are_refused(raw: Path) -> None:
    shutil.copytree(raw / "train", raw / "Train")
    with pytest.raises(LayoutError, match="holds Train and train, two sources for the same places"):
        read(raw)


def test_one_place_spelled_in_two_ways_is_refused(raw: Path) -> None:
    shutil.copytree(raw / "train/drone/0002", raw / "train/drone/2")
    with pytest.raises(LayoutError, match="place 2 is called 0002 and 2, two sources"):
        read(raw)


def test_linked_folders_are_followed_and_cycles_are_not(raw: Path, tmp_path: Path) -> None:
    before = read(raw).keys()
    (raw / "train/drone/0001").rename(tmp_path / "elsewhere")
    (raw / "train/drone/0001").symlink_to(tmp_path / "elsewhere")
    (raw / "train/drone/0001/loop").symlink_to(raw)
    (raw / "test").rename(tmp_path / "test")
    (raw / "test").symlink_to(tmp_path / "test")
    assert read(raw).keys() == before


def test_a_dangling_link_is_an_image_that_cannot_be_read(raw: Path) -> None:
    (raw / "train/drone/0001/image-06.jpeg").symlink_to(raw / "gone.jpeg")
    assert "0001/drone/image-06" in read(raw)


def test_a_split_has_no_use(raw: Path) -> None:
    with pytest.raises(LayoutError, match="whose folders are its split; leave out --split"):
        read_layout(raw, layout="university1652", split=raw / "split.yaml")


def test_upper_case_suffixes_and_png_count_as_images(raw: Path) -> None:
    folder = raw / "train/drone/0001"
    (folder / "image-01.jpeg").rename(folder / "image-01.JPG")
    Image.new("RGB", (32, 32)).save(folder / "image-02.PNG")
    (folder / "image-02.jpeg").unlink()
    records = read(raw)
    assert records["0001/drone/image-01"].suffix == "jpg"
    assert records["0001/drone/image-02"].suffix == "png"
    assert len([r for r in records.values() if r.place == "0001"]) == 6


def test_dots_and_blanks_in_a_file_name_do_not_reach_the_key(raw: Path) -> None:
    folder = raw / "train/drone/0001"
    (folder / "image-01.jpeg").rename(folder / "image 01.final.jpeg")
    assert "0001/drone/image-01-final" in read(raw)


@pytest.mark.parametrize(
    "stranger",
    [
        "train/4K_drone/0001/1.jpg",
        "test/4K_drone/5001/1.jpg",
        "train/drone/0001/notes.txt",
        "train/drone/0001/._image-01.jpeg",
        "train/drone/.cache/1.jpg",
        "train/drone/list.jpg",
    ],
)
def test_other_files_are_left_alone(raw: Path, stranger: str) -> None:
    before = read(raw).keys()
    (raw / stranger).parent.mkdir(parents=True, exist_ok=True)
    (raw / stranger).write_bytes(b"not for us")
    assert read(raw).keys() == before


@pytest.mark.parametrize(
    ("gone", "sentence"),
    [
        ("train", "no place to train on"),
        ("test", "no place to test on"),
        ("train/satellite/0002", "no satellite image to train on: 1 place (0002), not trained on"),
        ("train/drone/000*", "no drone image to train on: 9 places (0001, 0002, 0003, ...), not"),
        ("test/gallery_satellite/5004", "no satellite image in the gallery: 1 place (5004), dis"),
        (
            "test/gallery_satellite/5001",
            "no satellite image in the gallery: 1 place (5001), distractors and q",
        ),
        ("test/query_drone", "no drone queries, so that drone to satellite cannot be searched"),
        ("test/gallery_drone", "no drone gallery, so that satellite to drone cannot be searched"),
    ],
)
def test_any_part_may_be_missing_and_is_named(raw: Path, gone: str, sentence: str) -> None:
    assert not [line for line in found_lines(read_layout(raw)) if line.startswith("  no ")]
    for folder in list(raw.glob(gone)):
        shutil.rmtree(folder)
    told = found_lines(read_layout(raw))
    assert any(line.strip().startswith(sentence) for line in told), told


def test_half_of_a_data_set_is_called_as_its_folder(raw: Path, tmp_path: Path) -> None:
    shutil.rmtree(raw / "train")
    done = write_shards(
        read_layout(raw),
        tmp_path / "out",
        profile=Profile(),
        workers=1,
        progress=lambda *_, **__: None,
    )
    assert done.manifest.name == raw.name


@pytest.mark.parametrize(
    ("strangers", "sentence"),
    [
        (
            ["train/thermal/0001/1.jpg", "train/thermal/0002/1.tif", "val/drone/1/1.png"],
            "3 images in folders that are not of the layout (train/thermal, val)",
        ),
        (["train/drone/0001/80/1.jpg"], "1 image in folders .* (train/drone/0001/80)"),
        (["train/drone/1.jpg"], "1 image in folders .* (train/drone/*)"),
        (["train/drone/0001/1.mp4", "train/drone/0001/2.txt"], "2 other files (.mp4, .txt)"),
        (["train/drone/0777/.hidden"], "1 empty folder (train/drone/0777)"),
        (["README.md", "train/.cache/1.jpg", "__MACOSX/1.jpg"], ""),
    ],
)
def test_what_is_left_out_is_one_line_with_counts(raw: Path, strangers, sentence: str) -> None:
    for path in strangers:
        (raw / path).parent.mkdir(parents=True, exist_ok=True)
        (raw / path).write_bytes(b"")
    before, _, after = sentence.partition(".*")
    told = read_layout(raw).left_out
    assert before in told and told.endswith(after)
    assert bool(told) == bool(sentence)


def test_a_file_name_of_another_character_set_is_taken(raw: Path, tmp_path: Path) -> None:
    place = raw / "train/drone/0002"
    (place / "image-05.jpeg").rename(place / os.fsdecode(b"image-05\xff.jpeg"))
    dataset = read_layout(raw)
    assert "0002/drone/image-05-" in {record.key for record in dataset.records}
    done = write_shards(
        dataset, tmp_path / "out", profile=Profile(), workers=1, progress=lambda *_, **__: None
    )
    assert done.images == 90


def test_a_place_of_another_character_set_is_refused(raw: Path, tmp_path: Path) -> None:
    for view in ("drone", "satellite"):
        folder = raw / "train" / view
        (folder / "0002").rename(folder / os.fsdecode(b"place\xff"))
    dataset = read_layout(raw)
    with pytest.raises(ShardError, match=r"place\udcff/.* does not fit into a tar.* or its folder"):
        write_shards(
            dataset, tmp_path / "out", profile=Profile(), workers=1, progress=lambda *_, **__: None
        )
    assert not list(tmp_path.glob("out*"))


def test_a_place_in_train_and_test_is_refused(raw: Path) -> None:
    shutil.copytree(raw / "train/drone/0004", raw / "test/gallery_drone/0004")
    with pytest.raises(LayoutError, match=r"place 0004 \(1 in all\) stands in train and in test"):
        read(raw)


def test_three_files_of_one_name_are_refused(raw: Path) -> None:
    folder = raw / "train/drone/0001"
    for suffix in ("jpg", "PNG"):
        Image.new("RGB", (32, 32)).save(folder / f"image-01.{suffix}")
    with pytest.raises(LayoutError, match="would share the key 0001/drone/image-01-train; rename"):
        read(raw)


def test_an_unknown_layout_names_the_nearest(tiny_raw: Path) -> None:
    with pytest.raises(LayoutError, match="layout 'univercity1652' is unknown.*'university1652'"):
        read_layout(tiny_raw, layout="univercity1652")


def test_a_raw_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="nowhere is not a folder; give the folder that holds"):
        read_layout(tmp_path / "nowhere", layout="university1652")
