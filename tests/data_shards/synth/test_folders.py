"""Ids, folders and names of worlds of any size, without rendering them."""

from pathlib import Path

import yaml

from data_shards.config import SynthConfig
from data_shards.layouts.split import official_split
from data_shards.synth.folders import sues200_places, sues200_split, university1652_places


def config(layout: str, **changes: int) -> SynthConfig:
    return SynthConfig(out=Path("out"), layout=layout, **changes)


def test_a_university_has_54_views_and_twenty_distractors_unless_told() -> None:
    places = university1652_places(config("university1652"))
    assert len(places) == 200 + 60 + 20
    assert {len(place.drone_names) for place in places} == {54}
    assert places[0].drone_names[-1] == "image-54.jpeg"
    assert (places[200].place_id, len(places[200].drone)) == ("5001", 2)
    assert (places[-1].place_id, len(places[-1].drone)) == ("5080", 1)


def test_200_places_of_sues200_have_the_official_split() -> None:
    asked = config("sues200", places=120, test_places=80)
    places = sues200_places(asked)
    assert {place.place_id for place in places} == {f"{n:04d}" for n in range(1, 201)}
    official = official_split("sues200")
    assert {str(int(p.place_id)) for p in places if p.key.split == "train"} == official.train
    split = yaml.safe_load(sues200_split(asked)["split.yaml"])
    assert {str(int(place)) for place in split["test"]} == official.test
    assert len(split["train"]) == 120


def test_of_other_numbers_the_first_places_train() -> None:
    asked = config("sues200", places=3, test_places=2, views=2)
    places = sues200_places(asked)
    assert [(p.place_id, p.key.split, p.key.index) for p in places] == [
        ("0001", "train", 0),
        ("0002", "train", 1),
        ("0003", "train", 2),
        ("0004", "test", 0),
        ("0005", "test", 1),
    ]
    assert yaml.safe_load(sues200_split(asked)["split.yaml"]) == {
        "train": ["0001", "0002", "0003"],
        "test": ["0004", "0005"],
    }
    assert places[0].satellite == (Path("satellite-view/0001"),)
    assert places[0].satellite_name == "0.png"
    assert places[0].drone_names[:3] == ("150/0.jpg", "150/1.jpg", "200/0.jpg")


def test_200_places_in_other_parts_are_not_the_official_ones() -> None:
    places = sues200_places(config("sues200", places=119, test_places=81))
    assert [p.place_id for p in places if p.key.split == "train"][-1] == "0119"
