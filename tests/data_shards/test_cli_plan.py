"""`skydistill plan` with hard samples, heights and a third view."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_shards.layouts import read_layout
from data_shards.packing.stored_image import Profile
from data_shards.packing.write import write_shards
from data_shards.planning.neighbours import Neighbours, write_neighbours
from data_shards.progress import show_progress
from data_shards.shards import ShardSet
from tests.conftest import TRAIN_PLACES, save_image


def rows_of(out: str) -> list[dict]:
    return [row for line in out.splitlines() for rank in json.loads(line)["ranks"] for row in rank]


@pytest.fixture
def ring(tmp_path: Path, tiny_shards: ShardSet) -> Path:
    """A table in which each place's nearest is the next one."""
    names = tuple(TRAIN_PLACES)
    table = (np.arange(10)[:, None] + np.arange(1, 4)) % 10
    write_neighbours(tmp_path / "ring.npz", Neighbours(table=table.astype(np.int32), places=names))
    return tmp_path / "ring.npz"


def test_a_table_brings_neighbours_together(skydistill, tiny_shards: ShardSet, ring: Path) -> None:
    words = ["plan", "--shards", tiny_shards.folder, "--global-batch", 5]
    mined = skydistill(*words, "--neighbours", ring, "--json")
    drawn = skydistill(*words, "--json")
    assert mined.code == 0 and mined.out != drawn.out
    shown = [sorted(json.dumps(row) for row in rows_of(one.out)) for one in (mined, drawn)]
    assert shown[0] == shown[1]
    for line in mined.out.splitlines()[::2]:  # a seed, then the four behind it on the ring
        places = [int(row["place"]) - 1 for row in rows_of(line)]
        assert places == [(places[0] + step) % 10 for step in range(5)]
    summary = skydistill(*words, "--neighbours", ring)
    assert "hard samples: table " in summary.err and ", 3 per place" in summary.err


def test_a_table_of_other_places_is_one_sentence(skydistill, tiny_shards, ring: Path) -> None:
    words = ["plan", "--shards", tiny_shards.folder, "--global-batch", 5, "--neighbours", ring]
    told = skydistill(*words, "--validation-fraction", 0.2).sentence
    assert "a table of 10 other places than the 8 planned; hold out the same ones" in told
    assert "cannot be read" in skydistill(*words[:-1], ring.with_name("none.npz")).sentence


def test_a_test_set_alone_is_one_sentence(skydistill, tiny_raw: Path, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half/test").symlink_to(tiny_raw / "test")
    skydistill("shard", tmp_path / "half", tmp_path / "shards")
    told = skydistill("plan", "--shards", tmp_path / "shards", "--global-batch", 4).sentence
    assert (
        "no place to train on has both views; shard images that have them, or say by --split"
        in told
    )


def test_heights_nobody_flew_at_are_one_sentence(skydistill, tiny_shards: ShardSet) -> None:
    words = ["plan", "--shards", tiny_shards.folder, "--global-batch", 5]
    told = skydistill(*words, "--altitudes", "[150]").sentence
    assert "no drone image to train on was taken at 150 m" in told
    assert "--altitudes" in skydistill(*words, "--altitudes", "low").sentence


def test_no_street_view_is_one_sentence(skydistill, tiny_shards: ShardSet) -> None:
    words = ["plan", "--shards", tiny_shards.folder, "--global-batch", 5]
    assert "has a street image" in skydistill(*words, "--third-view", "street").sentence


def test_places_without_a_street_view_are_left_out_and_counted(
    skydistill, make_raw: Callable[[Path], Path], tmp_path: Path
) -> None:
    raw = make_raw(tmp_path / "raw")
    for place in TRAIN_PLACES[:7]:
        for number in range(2):
            save_image(raw / "train/street" / place / f"{number}.jpg")
    with show_progress("writing", enabled=False) as progress:
        dataset = read_layout(raw, layout="university1652")
        write_shards(dataset, tmp_path / "out", profile=Profile(), workers=1, progress=progress)
    words = ["plan", "--shards", tmp_path / "out", "--global-batch", 5, "--third-view", "street"]
    rows = rows_of(skydistill(*words, "--json").out)
    assert {row["place"] for row in rows} == set(TRAIN_PLACES[:7])
    assert all(row["third"].startswith(f"{row['place']}/street/") for row in rows)
    summary = skydistill(*words).err
    assert "places 7, pairs 35 per epoch" in summary
    assert "places left out, because they lack a view: 3" in summary
