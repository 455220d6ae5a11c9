import os
from collections.abc import Callable
from pathlib import Path

import pytest

from data_shards.errors import LayoutError
from data_shards.layouts import read_layout
from data_shards.layouts.folders import (
    child,
    image_names,
    key_name,
    natural,
    refuse_two_spellings,
    same_id,
    subfolders,
)
from data_shards.schema import View


def test_numbers_in_names_are_sorted_as_numbers() -> None:
    names = ["10.jpg", "9.jpg", "a10", "a9b", "a9", "image-02", "image-1", ""]
    assert sorted(names, key=natural) == [
        "",
        "9.jpg",
        "10.jpg",
        "a9",
        "a9b",
        "a10",
        "image-1",
        "image-02",
    ]


def test_digits_of_other_scripts_are_letters() -> None:
    assert sorted(["٣", "2", "a"], key=natural) == ["2", "a", "٣"]


@pytest.mark.parametrize(
    ("stem", "name"),
    [("image-01", "image-01"), ("a b.c", "a-b-c"), ("北 1", "-1"), ("x (2)", "x-2-")],
)
def test_a_key_holds_plain_letters(stem: str, name: str) -> None:
    assert key_name(stem) == name


def test_a_name_is_one_however_its_letters_are_composed(
    tmp_path: Path, make_raw: Callable[..., Path]
) -> None:
    one, other = "Caf\u00e9", "Cafe\u0301"
    assert (key_name(other), same_id(other)) == (key_name(one), same_id(one))
    raw = make_raw(tmp_path / "raw")
    (raw / "train/drone/0001").rename(raw / f"train/drone/{one}")
    (raw / "train/satellite/0001").rename(raw / f"train/satellite/{other}")
    records = read_layout(raw).records
    assert {(record.place, record.view) for record in records if "Caf" in record.place} == {
        (one, View.DRONE),
        (one, View.SATELLITE),
    }
    table = tmp_path / "coordinates.csv"
    table.write_text(f"place,latitude,longitude\n{other},48.1,11.5\n")
    assert read_layout(raw, coordinates=table).coordinates == {one: (48.1, 11.5)}


def test_leading_zeros_do_not_make_another_place(tmp_path: Path) -> None:
    assert same_id("0010") == same_id("10") == "10"
    assert same_id("a010") == "a010"
    refuse_two_spellings(tmp_path, ["0010", "0010", "1", "a1", "a01"])
    with pytest.raises(LayoutError, match="place 10 is called 0010 and 10"):
        refuse_two_spellings(tmp_path, ["10", "0010"])


def test_only_images_that_are_meant_to_be_seen_are_listed(tmp_path: Path) -> None:
    for name in ("2.JPG", "10.jpeg", "1.Png", ".hidden.jpg", "._1.png", "notes.txt", "jpg"):
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "3.jpg").symlink_to(tmp_path / "2.JPG")
    assert image_names(tmp_path) == ["1.Png", "2.JPG", "3.jpg", "10.jpeg"]


def test_no_file_is_asked_for_its_size_or_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1.jpg").touch()
    for name in ("stat", "lstat"):
        monkeypatch.setattr(os, name, lambda *_, **__: pytest.fail("asked"))
    assert len(image_names(tmp_path)) == 1
    assert subfolders(tmp_path) == []


def test_a_child_is_found_in_any_case_and_only_once(tmp_path: Path) -> None:
    (tmp_path / "Train").mkdir()
    (tmp_path / "test").touch()
    assert child(tmp_path, "train") == tmp_path / "Train"
    assert child(tmp_path, "test") is None
    (tmp_path / "TRAIN").mkdir()
    with pytest.raises(LayoutError, match="holds TRAIN and Train, two sources"):
        child(tmp_path, "train")
