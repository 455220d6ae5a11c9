import errno
import fcntl
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import webdataset as wds
from PIL import Image

from data_shards.errors import ShardError
from data_shards.layouts import read_layout
from data_shards.manifest import ShardSummary, read_manifest
from data_shards.packing.notes import SOURCE_NAME
from data_shards.packing.stored_image import Profile
from data_shards.packing.write import write_shards
from data_shards.progress import show_progress
from data_shards.shards import ShardSet
from tests.data_shards.packing.test_unreadable import damage_scan

MakeRaw = Callable[[Path], Path]


def write(raw: Path, out: Path, *, workers: int = 1) -> ShardSummary:
    dataset = read_layout(raw, layout="university1652", name="town")
    with show_progress("writing", enabled=False) as progress:
        return write_shards(dataset, out, profile=Profile(), workers=workers, progress=progress)


def content(folder: Path) -> dict[str, bytes]:
    names = sorted(path.name for path in folder.iterdir() if path.name != SOURCE_NAME)
    return {name: (folder / name).read_bytes() for name in names}


def assert_only_whole_tars_left(out: Path) -> None:
    """No output, and beside it nothing but tars that the next run will use."""
    assert not out.exists()
    left = {path.name for path in out.parent.glob(f"{out.name}.partial/*")}
    finished = [name for name in left if name.endswith(".made")]
    assert left == {
        name.replace(".made", suffix) for name in finished for suffix in (".made", ".tar", ".index")
    }
    assert [path.name for path in out.parent.glob(f"{out.name}*")] == (
        [f"{out.name}.partial"] if finished else []
    )


def assert_nothing_left(out: Path) -> None:
    assert not [path.name for path in out.parent.glob(f"{out.name}*")]


@pytest.fixture
def raw(tmp_path: Path, make_raw: MakeRaw) -> Path:
    return make_raw(tmp_path / "raw")


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that several tars of each kind are written."""
    monkeypatch.setattr("data_shards.packing.shard_layout.PLACES_PER_SHARD", 3)
    monkeypatch.setattr("data_shards.packing.shard_layout.SATELLITES_PER_SHARD", 4)


@pytest.mark.usefixtures("small_shards")
def test_the_same_input_gives_the_same_bytes(tiny_raw: Path, tmp_path: Path) -> None:
    folders = [tmp_path / f"workers-{workers}" for workers in (1, 2, 5)]
    for folder, workers in zip(folders, (1, 2, 5), strict=True):
        write(tiny_raw, folder, workers=workers)
    one, *others = map(content, folders)
    assert len(one) == 2 * 11 + 1
    assert all(other == one for other in others)


def test_a_copied_raw_folder_gives_the_same_bytes(tiny_raw: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_raw, tmp_path / "copy")
    write(tmp_path / "copy", tmp_path / "shards")
    write(tiny_raw, tmp_path / "elsewhere")
    assert content(tmp_path / "shards") == content(tmp_path / "elsewhere")


def test_a_drone_tar_holds_view_round_by_view_round(tiny_shards: ShardSet) -> None:
    with tarfile.open(tiny_shards.folder / "train-drone-000000.tar") as tar:
        names = [name for name in tar.getnames() if not name.endswith(".json")]
    expected = [
        f"{place:04d}/drone/image-{view:02d}.drone.jpg"
        for view in range(1, 6)
        for place in range(1, 11)
    ]
    assert names == expected


def test_tar_reads_the_shards(tiny_shards: ShardSet) -> None:
    for entry in tiny_shards.manifest.shards:
        path = str(tiny_shards.folder / entry.name)
        listed = subprocess.run(["tar", "tf", path], capture_output=True, text=True, check=True)
        assert listed.stderr == ""
        with tarfile.open(path) as tar:
            assert tar.getnames() == listed.stdout.splitlines()
            assert all(info.mtime == info.uid == info.gid == 0 for info in tar.getmembers())


def test_webdataset_reads_one_image_and_its_json_per_sample(tiny_shards: ShardSet) -> None:
    rows = iter(range(len(tiny_shards.images)))
    for entry in tiny_shards.manifest.shards:
        url = str(tiny_shards.folder / entry.name)
        for sample in wds.WebDataset(url, shardshuffle=False, empty_check=False):
            row = next(rows)
            described = json.loads(sample["json"])
            image = sample[f"{described['view']}.jpg"]
            assert image == bytes(tiny_shards.read(row))
            assert sample["__key__"] == described["key"] == tiny_shards.images.key[row]
            inner = {name for name in sample if not name.startswith("__")}
            assert inner == {"json", f"{described['view']}.jpg"}
    assert next(rows, None) is None


def test_a_second_run_leaves_everything_alone(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    assert not write(raw, out).was_complete
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert write(raw, out).was_complete
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times


@pytest.mark.parametrize("note", [None, "not JSON", "[]"])
def test_touched_but_identical_images_are_accepted(raw: Path, tmp_path: Path, note) -> None:
    out = tmp_path / "shards"
    write(raw, out)
    os.utime(raw / "train/drone/0001/image-01.jpeg", (1, 1))
    if note is None:
        (out / SOURCE_NAME).unlink()
    else:
        (out / SOURCE_NAME).write_text(note)
    before = content(out)
    assert write(raw, out).was_complete
    assert content(out) == before
    assert json.loads((out / SOURCE_NAME).read_text())["source"] == str(raw)


def test_the_same_images_elsewhere_are_accepted(raw: Path, tmp_path: Path) -> None:
    write(raw, tmp_path / "shards")
    before = content(tmp_path / "shards")
    raw.rename(tmp_path / "moved")
    assert write(tmp_path / "moved", tmp_path / "shards").was_complete
    assert content(tmp_path / "shards") == before


def test_shards_of_another_folder_with_other_images_are_refused(raw, tmp_path: Path) -> None:
    write(raw, tmp_path / "shards")
    other = shutil.copytree(raw, tmp_path / "other")
    Image.new("RGB", (32, 32)).save(other / "train/drone/0001/image-01.jpeg")
    before = content(tmp_path / "shards")
    with pytest.raises(ShardError, match="of other images, made from .*/raw; choose a new folder"):
        write(other, tmp_path / "shards")
    assert content(tmp_path / "shards") == before


def test_shards_of_another_profile_or_split_are_refused(raw: Path, tmp_path: Path) -> None:
    write(raw, tmp_path / "shards")
    dataset = replace(read_layout(raw), split="mine.yaml")
    with pytest.raises(
        ShardError,
        match="split folders, not mine.yaml; profile bytes=original, not bytes=resized .*size=256",
    ):
        write_shards(
            dataset,
            tmp_path / "shards",
            profile=Profile(image_size=256),
            workers=1,
            progress=lambda *_, **__: None,
        )


def test_a_folder_of_something_else_is_refused_and_kept(tiny_raw: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/mine.txt").write_text("mine")
    with pytest.raises(ShardError, match="photos exists and holds no shards; choose a new folder"):
        write(tiny_raw, tmp_path / "photos")
    assert (tmp_path / "photos/mine.txt").read_text() == "mine"


def test_complete_looking_shards_with_a_truncated_tar_are_refused(raw, tmp_path: Path) -> None:
    write(raw, tmp_path / "shards")
    tar = tmp_path / "shards/train-drone-000000.tar"
    os.truncate(tar, tar.stat().st_size - 512)
    with pytest.raises(ShardError, match="the tar is truncated"):
        write(raw, tmp_path / "shards")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_bytes(b"Sorry, not found"), "no format that is read"),
        (lambda path: os.truncate(path, path.stat().st_size // 2), "the JPEG is cut short"),
        (lambda path: os.truncate(path, 12), "the JPEG is cut short"),
        (damage_scan, "Corrupt JPEG data"),
    ],
    ids=["empty", "text", "truncated", "stub", "scan"],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_an_unreadable_image_is_named(raw, tmp_path: Path, damage, reason, workers) -> None:
    damage(raw / "train/drone/0004/image-03.jpeg")
    out = tmp_path / "out" / "shards"
    sentence = f"0004/image-03.jpeg is not a readable image .*{reason}.*; replace it"
    with pytest.raises(ShardError, match=sentence) as told:
        write(raw, out, workers=workers)
    assert " finished tar" in str(told.value) and "--skip-unreadable" in str(told.value)
    assert_only_whole_tars_left(out)


def test_a_truncated_png_is_named(raw: Path, tmp_path: Path) -> None:
    path = raw / "train/satellite/0001/0001.png"
    Image.effect_noise((32, 32), 50).save(path)
    os.truncate(path, 300)
    with pytest.raises(ShardError, match="0001.png is not a readable image"):
        write(raw, tmp_path / "shards")
    assert_only_whole_tars_left(tmp_path / "shards")


def test_a_data_set_is_called_as_said_before_or_as_its_folder(raw: Path, tmp_path: Path) -> None:
    def name_of(out: str, raw: Path, name: str = "") -> tuple[str, str]:
        dataset = read_layout(raw, layout="university1652", name=name)
        progress = lambda *_, **__: None  # noqa: E731
        done = write_shards(
            dataset, tmp_path / out, profile=Profile(), workers=1, progress=progress
        )
        return done.manifest.name, read_manifest(tmp_path / out).fingerprint

    name, fingerprint = name_of("shards", raw)
    assert name == "raw"
    assert name_of("shards", raw, "My town") == ("My town", fingerprint)
    raw.rename(tmp_path / "moved")
    assert name_of("shards", tmp_path / "moved") == ("My town", fingerprint)
    assert name_of("others", tmp_path / "moved") == ("moved", fingerprint)


def test_a_file_that_vanishes_is_named(raw: Path, tmp_path: Path) -> None:
    dataset = read_layout(raw, layout="university1652")
    gone = dataset.records[7].source
    gone.unlink()
    with pytest.raises(ShardError, match=f"{gone.name} cannot be read"):
        write_shards(
            dataset,
            tmp_path / "shards",
            profile=Profile(),
            workers=1,
            progress=lambda *_, **__: None,
        )
    assert_only_whole_tars_left(tmp_path / "shards")


@pytest.mark.parametrize("out", ["empty", "made/for/it", "missing/../out", "missing/../empty"])
def test_an_empty_folder_will_do_and_missing_ones_are_made(
    skydistill, raw: Path, tmp_path: Path, out: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "out").mkdir()
    for told in ("wrote 90 images", "unchanged: 90 images"):
        assert told in skydistill("shard", raw, f"{tmp_path}/{out}").err
    assert skydistill("verify", os.path.normpath(tmp_path / out)).code == 0


def test_a_name_too_long_for_tar_is_named(raw: Path, tmp_path: Path) -> None:
    folder = raw / "train/drone/0001"
    (folder / "image-01.jpeg").rename(folder / f"{'long' * 40}.jpeg")
    with pytest.raises(ShardError, match="does not fit into a tar.*; rename the file"):
        write(raw, tmp_path / "shards")
    assert_only_whole_tars_left(tmp_path / "shards")


def test_what_an_interrupted_run_left_is_replaced(tiny_raw: Path, tmp_path: Path) -> None:
    partial = tmp_path / "shards.partial"
    partial.mkdir()
    (partial / "train-drone-000007.tar").write_bytes(b"half")
    write(tiny_raw, tmp_path / "shards")
    assert "train-drone-000007.tar" not in content(tmp_path / "shards")
    assert not partial.exists()


def test_a_second_writer_is_turned_away(tiny_raw: Path, tmp_path: Path) -> None:
    partial = tmp_path / "shards.partial"
    partial.mkdir()
    (partial / "train-drone-000000.tar").write_bytes(b"being written")
    handle = os.open(partial, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(ShardError, match="is being written by another process; wait"):
        write(tiny_raw, tmp_path / "shards")
    assert (partial / "train-drone-000000.tar").read_bytes() == b"being written"
    os.close(handle)
    assert not write(tiny_raw, tmp_path / "shards").was_complete


def test_a_disk_that_fails_is_told_and_nothing_is_left(tiny_raw, tmp_path, monkeypatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        ShardError, match=r"shards could not be written \(No space left.*free space"
    ):
        write(tiny_raw, tmp_path / "shards")
    assert_nothing_left(tmp_path / "shards")


def test_a_disk_that_fails_only_once_is_told(tiny_raw, tmp_path, monkeypatch) -> None:
    """As a system does: of bytes that never reached the disk it speaks to the first who asks."""
    failures, flush = [OSError(errno.EIO, os.strerror(errno.EIO))], os.fsync

    def fails_once(handle: int) -> None:
        if failures:
            raise failures.pop()
        flush(handle)

    monkeypatch.setattr("os.fsync", fails_once)
    with pytest.raises(ShardError, match=r"shards could not be written \(Input/output error\)"):
        write(tiny_raw, tmp_path / "shards")
    assert_only_whole_tars_left(tmp_path / "shards")
    assert not write(tiny_raw, tmp_path / "shards").was_complete
