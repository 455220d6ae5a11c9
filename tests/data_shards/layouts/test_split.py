from pathlib import Path

import pytest

from data_shards.errors import LayoutError
from data_shards.layouts.split import choose_split, official_split, read_split

PLACES = ("0001", "0002", "0010")


def test_the_official_split_is_the_published_one() -> None:
    split = official_split("sues200")
    assert (split.name, len(split.train), len(split.test)) == ("official", 120, 80)
    assert split.train | split.test == {str(number) for number in range(1, 201)}
    assert {"8", "83", "195"} <= split.test
    assert {"1", "91", "200"} <= split.train


def test_a_data_set_whose_folders_say_it_has_no_official_split() -> None:
    assert official_split("university1652") is None


def test_ids_are_read_as_text_and_not_as_octal_numbers(tmp_path: Path) -> None:
    file = tmp_path / "split.yaml"
    file.write_text("train: [0010, 1]\n")
    split = choose_split(tmp_path, PLACES, file=file, layout="sues200")
    assert split.train_of(PLACES) == {"0001", "0010"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train: [1", "split.yaml is not YAML"),
        ("- 1\n- 2\n", "must hold a list of ids under train"),
        ("test: [1]\n", "must hold a list of ids under train"),
        ("train: [1]\ntset: [2]\n", "side 'tset' is unknown .did you mean 'test'.*known: train"),
        ("train: 0001\n", "train must be a list of ids, such as"),
        ("train:\n", "train must be a list of ids, such as"),
        ("train: [[1]]\n", "train must be a list of ids, such as"),
        ("train: [1, 0001]\n", "place 1 stands twice under train"),
        ("train: [1]\ntest: [2, 0001]\n", "place 1 stands under train and under test"),
        ("train: [7, 8]\n", r"names place 7 \(2 in all\), which has no folder"),
        ("train: [1]\ntest: [2]\n", r"does not say whether place 0010 \(1 in all\) is train or"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "split.yaml"
    file.write_text(text)
    with pytest.raises(LayoutError, match=sentence):
        choose_split(tmp_path, PLACES, file=None, layout="sues200")


def test_no_place_need_be_trained_on(tmp_path: Path) -> None:
    (tmp_path / "split.yaml").write_text("train: []\n", encoding="utf-8-sig")
    split = choose_split(tmp_path, PLACES, file=None, layout="sues200")
    assert split.train_of(PLACES) == set()


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="split file .*gone.yaml cannot be read"):
        read_split(tmp_path / "gone.yaml", name="gone")
