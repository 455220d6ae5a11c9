import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from data_shards.errors import LayoutError
from data_shards.layouts import found_lines, read_layout
from data_shards.layouts.split import official_split
from data_shards.schema import ImageRecord, Role, View

WriteSues = Callable[..., Path]


def read(raw: Path, **options: object) -> dict[str, ImageRecord]:
    records = read_layout(raw, layout="sues200", **options).records
    assert [record.key for record in records] == sorted(record.key for record in records)
    return {record.key: record for record in records}


def test_raw_folders_give_every_image_once_with_its_altitude(sues_raw: Path) -> None:
    records = read(sues_raw)
    assert len(records) == 4 * (1 + 2 * 3)
    drone = records["0001/drone/150-2"]
    assert (drone.view, drone.altitude_m, drone.position) == (View.DRONE, 150.0, 3)
    assert drone.source == sues_raw / "drone_view_512/0001/150/2.jpg"
    tile = records["0001/satellite/0"]
    assert (tile.view, tile.altitude_m, tile.position, tile.suffix) == (
        View.SATELLITE,
        None,
        1,
        "png",
    )


def test_galleries_hold_training_places_too(sues_raw: Path) -> None:
    records = read(sues_raw)
    roles = {record.place: record.roles for record in records.values()}
    assert roles == {
        "0001": Role.TRAIN | Role.GALLERY,
        "0003": Role.TRAIN | Role.GALLERY,
        "0002": Role.QUERY | Role.GALLERY,
        "0004": Role.QUERY | Role.GALLERY,
    }


def test_positions_go_through_the_altitudes_one_after_the_other(sues_raw: Path) -> None:
    (sues_raw / "drone_view_512/0002/150/10.jpg").write_bytes(b"late")
    records = [r for r in read(sues_raw).values() if r.place == "0002" and r.view is View.DRONE]
    names = [r.name for r in sorted(records, key=lambda record: record.position)]
    assert names == ["150-0", "150-1", "150-2", "150-10", "200-0", "200-1", "200-2"]
    assert sorted(r.position for r in records) == list(range(1, 8))


def test_both_forms_give_the_same_records(sues_raw: Path, sues_split: Path) -> None:
    nowhere = "nowhere"
    raw = {k: replace(r, path=nowhere) for k, r in read(sues_raw).items()}
    split = {k: replace(r, path=nowhere) if r.suffix else r for k, r in read(sues_split).items()}
    assert raw == split


@pytest.mark.parametrize(("training", "testing"), [("train", "test"), ("TRAIN", "Test")])
def test_folder_names_of_any_case_are_the_same_folders(
    sues_split: Path, training: str, testing: str
) -> None:
    before = read(sues_split).keys()
    (sues_split / "Training").rename(sues_split / training)
    (sues_split / "Testing").rename(sues_split / testing)
    (sues_split / testing / "150/query_drone").rename(sues_split / testing / "150/Query_Drone")
    assert read(sues_split).keys() == before


def test_other_sizes_and_cases_of_the_raw_folders_are_taken(sues_raw: Path) -> None:
    before = read(sues_raw).keys()
    (sues_raw / "drone_view_512").rename(sues_raw / "Drone_View_256")
    (sues_raw / "satellite-view").rename(sues_raw / "Satellite_view")
    (sues_raw / "Drone_View_256/0001/150").rename(sues_raw / "Drone_View_256/0001/150m")
    tile = sues_raw / "Satellite_view/0001/0.png"
    tile.rename(tile.with_suffix(".PNG"))
    assert read(sues_raw).keys() == before


def test_satellites_that_differ_between_heights_stay_apart(sues_split: Path) -> None:
    for side in ("Testing/200/gallery_satellite", "Testing/200/query_satellite"):
        (sues_split / side / "0002/0.png").write_bytes(b"another day")
    records = read(sues_split)
    assert records["0002/satellite/0"].roles == Role.QUERY | Role.GALLERY
    other = records["0002/satellite/0-200"]
    assert other.roles == Role.QUERY | Role.GALLERY
    assert [records[f"0002/satellite/{name}"].position for name in ("0", "0-200")] == [1, 2]


def test_two_files_of_one_stem_are_told_apart_by_their_suffix(sues_raw: Path) -> None:
    (sues_raw / "satellite-view/0002/0.jpg").write_bytes(b"two tiles")
    names = {key for key in read(sues_raw) if key.startswith("0002/satellite/")}
    assert names == {"0002/satellite/0", "0002/satellite/0-png"}


def test_a_training_place_that_no_gallery_holds_is_for_training_alone(sues_split: Path) -> None:
    for folder in sues_split.glob("Testing/*/gallery_*"):
        for place in ("0001", "0003"):
            shutil.rmtree(folder / place)
    records = read(sues_split)
    assert records["0001/drone/150-0"].roles == Role.TRAIN
    assert records["0002/drone/150-0"].roles == Role.QUERY | Role.GALLERY


def test_the_split_is_named(sues_raw: Path, sues_split: Path) -> None:
    assert read_layout(sues_raw).split == "split.yaml"
    assert read_layout(sues_split).split == "folders"


def test_a_split_that_is_asked_for_goes_before_the_one_beside_the_folders(
    sues_raw: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("train: [2]\ntest: ['0001', 3, 0004]\n")
    dataset = read_layout(sues_raw, split=mine)
    assert dataset.split == "mine.yaml"
    assert {r.place for r in dataset.records if Role.TRAIN in r.roles} == {"0002"}


@pytest.mark.parametrize("width", [4, 1])
def test_the_official_split_is_used_where_all_200_ids_are(
    make_sues: WriteSues, tmp_path: Path, width: int
) -> None:
    raw = make_sues(tmp_path / "all", [f"{n:0{width}d}" for n in range(1, 201)], split=False)
    dataset = read_layout(raw)
    assert dataset.split == "official"
    train = {int(r.place) for r in dataset.records if Role.TRAIN in r.roles}
    assert len(train) == 120
    assert {1, 7, 9, 200} <= train
    assert train & {8, 12, 195} == set()
    names = [f"{n:0{width}d}" for n in range(1, 201)]
    official = official_split("sues200")
    (raw / "split.yaml").write_text(f"train: [{', '.join(sorted(official.train_of(names)))}]\n")
    assert read_layout(raw).split == "official"
    shutil.rmtree(raw / "satellite-view" / names[41])
    shutil.rmtree(raw / "drone_view_512" / names[41])
    (raw / "split.yaml").unlink()
    with pytest.raises(LayoutError, match="199 places and not the ids 1 to 200 .* with --split"):
        read(raw)


def test_fewer_places_need_a_split(make_sues: WriteSues, tmp_path: Path) -> None:
    raw = make_sues(tmp_path / "few", split=False)
    with pytest.raises(LayoutError, match="has 4 places and not the ids 1 to 200 .* --split FILE"):
        read(raw)


def test_an_already_split_copy_has_no_use_for_a_split(sues_split: Path, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="already split copy, whose folders say .* leave out"):
        read(sues_split, split=tmp_path / "split.yaml")


def test_raw_folders_beside_a_split_copy_are_two_sources(sues_raw: Path, sues_split: Path) -> None:
    for side in ("Training", "Testing"):
        (sues_split / side).rename(sues_raw / side)
    with pytest.raises(LayoutError, match="raw folders and an already split copy, two sources"):
        read(sues_raw)


def test_raw_folders_of_two_sizes_are_two_sources(sues_raw: Path) -> None:
    shutil.copytree(sues_raw / "drone_view_512", sues_raw / "drone_view_256")
    with pytest.raises(LayoutError, match="drone_view_256 and drone_view_512, two sources"):
        read(sues_raw)


def test_one_place_spelled_in_two_ways_is_refused(sues_raw: Path) -> None:
    shutil.copytree(sues_raw / "drone_view_512/0001", sues_raw / "drone_view_512/1")
    with pytest.raises(LayoutError, match="place 1 is called 0001 and 1, two sources"):
        read(sues_raw)


def test_one_height_spelled_in_two_ways_is_refused(sues_raw: Path) -> None:
    drone = sues_raw / "drone_view_512/0001"
    shutil.copytree(drone / "150", drone / "150m")
    with pytest.raises(LayoutError, match="150 and .*150m are two sources for one altitude"):
        read(sues_raw)


def test_a_place_that_trains_and_is_queried_is_refused(sues_split: Path) -> None:
    for view in ("satellite", "drone"):
        shutil.copytree(
            sues_split / f"Training/150/{view}/0001", sues_split / f"Testing/150/query_{view}/0001"
        )
    with pytest.raises(LayoutError, match=r"place 0001 \(1 in all\) stands in train and in test"):
        read(sues_split)


@pytest.mark.parametrize(
    ("gone", "sentence"),
    [
        ("satellite-view", "no satellite gallery, so that drone to satellite cannot be searched"),
        (
            "satellite-view/0002",
            "no satellite image in the gallery: 1 place (0002), distractors and",
        ),
        ("drone_view_512/0003", "no drone image to train on: 1 place (0003), not trained on"),
        ("drone_view_512/0003/150", "left out: 1 empty folder (drone_view_512/0003/150)"),
    ],
)
def test_any_part_of_a_raw_folder_may_be_missing(sues_raw: Path, gone: str, sentence: str) -> None:
    shutil.rmtree(sues_raw / gone)
    if sentence.startswith("left"):
        (sues_raw / gone).mkdir()
    (sues_raw / "split.yaml").write_text("train: ['0001', '0003']\n")
    told = found_lines(read_layout(sues_raw))
    assert any(line.strip().startswith(sentence) for line in told), told


@pytest.mark.parametrize(
    ("gone", "sentence"),
    [
        ("Training", "no place to train on"),
        ("Testing/*/query_drone", "no drone queries, so that drone to satellite cannot be"),
        ("Training/*/satellite/0001", "no satellite image to train on: 1 place (0001), not"),
    ],
)
def test_any_part_of_a_split_copy_may_be_missing(
    sues_split: Path, gone: str, sentence: str
) -> None:
    for folder in list(sues_split.glob(gone)):
        shutil.rmtree(folder)
    told = found_lines(read_layout(sues_split))
    assert any(line.strip().startswith(sentence) for line in told), told


def test_heights_of_other_names_are_named(sues_raw: Path) -> None:
    (sues_raw / "drone_view_512/0001/150").rename(sues_raw / "drone_view_512/0001/low")
    told = read_layout(sues_raw).left_out
    assert told.endswith("images in folders that are not of the layout (drone_view_512/0001/low)")
