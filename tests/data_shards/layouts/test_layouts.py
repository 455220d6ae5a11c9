"""Which data set a folder is, where it lies, and what is said about it."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from data_shards import layouts
from data_shards.errors import LayoutError
from data_shards.formats import HEIC_SUFFIXES, SUFFIXES
from data_shards.layouts import found_lines, read_layout

MakeRaw = Callable[[Path], Path]
NOBODY = 65534


@pytest.fixture
def university(tmp_path: Path, make_raw: MakeRaw) -> Path:
    return make_raw(tmp_path / "university")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Look at files as a user without rights, whoever runs the tests."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_each_layout_is_detected_and_said(
    university: Path, sues_raw: Path, sues_split: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    layouts = [read_layout(raw).layout for raw in (university, sues_raw, sues_split)]
    assert layouts == ["university1652", "sues200", "sues200"]
    said = [message.partition(" is read as ")[2] for message in caplog.messages]
    assert said == [
        "university1652 (train/VIEW/ID, test/ROLE_VIEW/ID)",
        "sues200 (raw: satellite-view/ID, drone_view_512/ID/HEIGHT)",
        "sues200 (already split: Training/HEIGHT/VIEW/ID, Testing/HEIGHT/ROLE_VIEW/ID)",
    ]


@pytest.mark.parametrize("above", [1, 2])
@pytest.mark.parametrize("layout", ["auto", "university1652"])
def test_the_folder_around_a_data_set_will_do(
    university: Path, tmp_path: Path, above: int, layout: str
) -> None:
    outer = tmp_path / "outer"
    inner = outer.joinpath(*["archive"] * above)
    inner.parent.mkdir(parents=True)
    university.rename(inner)
    (outer / "__MACOSX/train/drone/0001").mkdir(parents=True)
    (outer / "papers").mkdir()
    dataset = read_layout(outer, layout=layout)
    assert dataset.records[0].source.is_relative_to(inner)


def test_two_data_sets_in_one_folder_are_told_apart(university: Path, sues_raw: Path) -> None:
    both = university.parent
    with pytest.raises(LayoutError, match="several data sets: .*/sues .sues200., .*university "):
        read_layout(both)
    assert read_layout(both, layout="sues200").layout == "sues200"


def test_a_folder_without_a_data_set_is_told_what_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "train/images").mkdir(parents=True)
    with pytest.raises(
        LayoutError, match="no data set that is known; .*train/satellite/ID.*drone_"
    ):
        read_layout(tmp_path)


def test_a_layout_that_is_not_the_folders_own_is_refused(sues_raw: Path) -> None:
    with pytest.raises(LayoutError, match="sues is in layout sues200 .raw: .*; leave out --layout"):
        read_layout(sues_raw, layout="university1652")


@pytest.mark.parametrize("inside", ["train", "train/drone"])
@pytest.mark.parametrize("layout", ["auto", "university1652"])
def test_a_folder_inside_a_data_set_is_told_the_right_one(
    university: Path, inside: str, layout: str
) -> None:
    with pytest.raises(LayoutError, match="lies inside university1652 .*; give .*university$"):
        read_layout(university / inside, layout=layout)


def test_a_damaged_data_set_is_still_recognized(university: Path) -> None:
    shutil.rmtree(university / "train/satellite")
    told = found_lines(read_layout(university))
    assert (
        "  no satellite image to train on: 10 places (0001, 0002, 0003, ...), not trained on"
        in told
    )


def test_a_closed_folder_is_one_sentence(shared: Path, make_raw: MakeRaw) -> None:
    raw = make_raw(shared / "raw")
    (raw / "train/drone/0003").chmod(0)
    with as_nobody(), pytest.raises(LayoutError, match="drone/0003 cannot be read .Permission den"):
        read_layout(raw)
    (raw / "train").chmod(0)
    with as_nobody(), pytest.raises(LayoutError, match="raw/train cannot be read .Permission den"):
        read_layout(raw)
    shared.chmod(0)
    with as_nobody(), pytest.raises(LayoutError, match="cannot be read .Permission denied"):
        read_layout(raw)
    shared.chmod(0o755)


def test_closed_folders_beside_the_data_set_do_not_matter(shared: Path, make_raw: MakeRaw) -> None:
    (shared / "lost+found").mkdir(mode=0)
    with as_nobody(), pytest.raises(LayoutError, match=r"known \(.*lost\+found cannot be read\)"):
        read_layout(shared)
    make_raw(shared / "raw")
    with as_nobody():
        assert read_layout(shared).layout == "university1652"


def test_what_was_found_is_told_with_every_deviation(sues_raw: Path, tmp_path: Path) -> None:
    csv = tmp_path / "places.csv"
    csv.write_text("place,lat,lon\n0002,1,2\n")
    lines = found_lines(read_layout(sues_raw, coordinates=csv))
    assert lines[:2] == [
        "found 28 images of 4 places; layout sues200, split split.yaml",
        "coordinates of 1 place",
    ]
    assert len(lines) == 3
    assert "this is not the whole of SUES-200: 2 places to train on instead of 120" in lines[2]


def test_heic_is_counted_where_it_cannot_be_read(university: Path, monkeypatch) -> None:
    (university / "train/drone/0001/phone.HEIC").write_bytes(b"")
    assert "0001/drone/phone" in {record.key for record in read_layout(university).records}
    for module in (layouts, layouts.folders):
        monkeypatch.setattr(module, "SUFFIXES", SUFFIXES - set(HEIC_SUFFIXES))
    told = read_layout(university).left_out
    assert told == "left out: 1 HEIC image (install skydistill[heic] to read them)"
