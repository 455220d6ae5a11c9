from collections.abc import Callable
from pathlib import Path

import pytest

from data_shards.errors import LayoutError
from data_shards.layouts.duplicates import Comparisons, is_same_image, merge_duplicates
from data_shards.schema import ImageRecord, Role, View

Make = Callable[..., ImageRecord]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a file and return its record; the folder is part of no key."""

    def record(folder: str, name: str, content: str, role: Role = Role.GALLERY) -> ImageRecord:
        path = tmp_path / folder / f"{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        return ImageRecord(
            place="1",
            view=View.DRONE,
            roles=role,
            position=1,
            altitude_m=None,
            path=str(path),
            name=name,
        )

    return record


def merge(*records: ImageRecord) -> dict[str, Role]:
    merged = merge_duplicates(
        records, apart=lambda record: f"{record.name}-other", comparisons=Comparisons("")
    )
    assert len({record.key for record in merged}) == len(merged)
    return {record.name: record.roles for record in merged}


def test_equal_files_of_many_folders_are_one_record(make: Make) -> None:
    roles = (Role.TRAIN, Role.GALLERY, Role.GALLERY)
    files = [make(str(n), "a", "same", role) for n, role in enumerate(roles)]
    assert merge(*files) == {"a": Role.TRAIN | Role.GALLERY}


def test_different_files_stay_apart_and_equal_ones_of_them_are_one(make: Make) -> None:
    files = [make("1", "a", "one"), make("2", "a", "two"), make("3", "a", "two", Role.QUERY)]
    assert merge(*files) == {"a": Role.GALLERY, "a-other": Role.GALLERY | Role.QUERY}


def test_a_file_whose_name_was_given_away_is_not_lost(make: Make) -> None:
    taken = [make("1", "a", "one"), make("2", "a", "two"), make("1", "a-other", "three")]
    with pytest.raises(
        LayoutError, match=r"1/a-other.jpg and .*2/a.jpg would share the key 1/dron"
    ):
        merge(*taken)
    equal = [make("1", "a", "one"), make("2", "a", "two"), make("1", "a-other", "two", Role.QUERY)]
    assert merge(*equal) == {"a": Role.GALLERY, "a-other": Role.GALLERY | Role.QUERY}


def test_files_are_compared_by_size_before_they_are_read(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = make("1", "a", "short").source, make("2", "a", "a longer one").source
    linked = other.parent / "b.jpg"
    linked.hardlink_to(one)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read"))
    assert not is_same_image(one, other)
    assert is_same_image(one, linked)


def test_files_of_one_size_are_compared_to_the_last_byte(make: Make) -> None:
    one, other = make("1", "a", "x" * 9 + "1").source, make("2", "a", "x" * 9 + "2").source
    assert not is_same_image(one, other)


def test_files_found_equal_are_read_again_only_when_one_was_touched(make, monkeypatch) -> None:
    pair = (make("1", "a", "same").source, make("2", "a", "same").source)
    first = Comparisons("")
    assert first.of([pair]) == [True]
    assert first.made

    def unreadable(path: Path) -> bytes:
        raise AssertionError(f"{path} was read")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", unreadable)
        again = Comparisons(first.made)
        assert again.of([pair]) == [True]
        assert again.made == first.made
    pair[1].write_text("diff")
    changed = Comparisons(first.made)
    assert changed.of([pair]) == [False]
    assert not changed.made
