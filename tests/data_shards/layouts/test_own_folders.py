"""Photographs of one's own, of which any part may be missing."""

from collections import Counter
from pathlib import Path

import pytest

from data_shards.errors import LayoutError
from data_shards.layouts import found_lines, leave_out, read_layout
from data_shards.schema import Role, View
from tests.data_shards.layouts.conftest import image_bytes

BOTH = Role.QUERY | Role.GALLERY


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(image_bytes(name))
    return root


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Two whole places, a tile without photographs, a photograph without a tile."""
    return write(
        tmp_path / "own",
        "satellite/harbour/tile.tif",
        "satellite/mill/1.png",
        "satellite/forest/1.png",
        "drone/harbour/80/a.JPG",
        "drone/harbour/100 m/a.JPG",
        "drone/mill/b.mpo",
        "drone/lost/c.jpg",
    )


def test_all_places_are_to_test_on_unless_something_is_said(own: Path) -> None:
    dataset = read_layout(own)
    roles = {record.key: record.roles for record in dataset.records}
    assert (dataset.layout, dataset.split) == ("folders", "test")
    assert roles == {
        "harbour/satellite/tile": BOTH,
        "mill/satellite/1": BOTH,
        "forest/satellite/1": Role.GALLERY,
        "harbour/drone/80-a": BOTH,
        "harbour/drone/100-a": BOTH,
        "mill/drone/b": BOTH,
        "lost/drone/c": BOTH,
    }
    heights = [r.altitude_m for r in dataset.records if r.view is View.DRONE]
    assert Counter(heights) == {80.0: 1, 100.0: 1, None: 2}


def test_what_is_missing_is_told_once(own: Path) -> None:
    told = "\n".join(found_lines(read_layout(own)))
    sentence = "no satellite image in the gallery: 1 place (lost)"
    assert told.count("(lost)") == told.count(f"{sentence}, distractors and queries without") == 1
    assert "no drone image in the gallery: 1 place (forest), distractors" in told
    assert "no place to train on" in told


def test_nothing_of_ones_own_is_other_than_published(own: Path) -> None:
    dataset = read_layout(own)
    told = found_lines(leave_out(dataset, dataset.records[:1], raw=own))
    assert "  forest/satellite/1 is left out, because it is unreadable" in told


@pytest.mark.parametrize("split", ["train", "mine.yaml", "split.yaml"])
def test_a_split_may_be_a_word_or_a_file(own: Path, split: str) -> None:
    (own / split).write_text("train: [harbour, forest]\n") if "." in split else None
    given = own / "mine.yaml" if split == "mine.yaml" else Path(split)
    dataset = read_layout(own, split=None if split == "split.yaml" else given)
    trained = {record.place for record in dataset.records if record.roles is Role.TRAIN}
    everyone = {"harbour", "mill", "forest", "lost"}
    assert trained == (everyone if split == "train" else {"harbour", "forest"})
    assert dataset.split == split


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["drone/a/1.jpg"], "no satellite gallery, so that drone to satellite cannot be searched"),
        (["satellite/a/1.jpg"], "no drone queries, so that drone to satellite cannot be searched"),
    ],
)
def test_one_view_is_enough(tmp_path: Path, names: list[str], sentence: str) -> None:
    dataset = read_layout(write(tmp_path / "own", *names))
    assert len(dataset.records) == 1
    assert f"  {sentence}" in found_lines(dataset)


def test_two_spellings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="place 1 is called 0001 and 1"):
        read_layout(write(tmp_path / "own", "satellite/0001/1.png", "drone/1/1.jpg"))
