"""Damaged images are named, all at once, and left out only where that is said."""

import os
import shutil
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from data_shards.errors import LayoutError
from data_shards.layouts import found_lines, leave_out, read_layout
from data_shards.manifest import ShardSummary
from data_shards.packing.stored_image import Profile, UnreadableError
from data_shards.packing.write import write_shards
from data_shards.verify import verify_shards


def damage_scan(path: Path) -> None:
    """Write other bytes into the middle of a picture; its first and last bytes are those of one."""
    Image.effect_noise((64, 64), 60).convert("RGB").save(path, "JPEG", quality=90)
    content = bytearray(path.read_bytes())
    middle = len(content) * 2 // 3
    content[middle : middle + 60] = bytes(range(1, 61))
    path.write_bytes(content)


@pytest.fixture
def raw(tmp_path: Path, make_raw) -> Path:
    return make_raw(tmp_path / "raw")


def write(raw: Path, out: Path) -> ShardSummary:
    dataset = read_layout(raw, name="town")
    return write_shards(dataset, out, profile=Profile(), workers=1, progress=lambda *_, **__: None)


def test_all_unreadable_images_are_named_and_can_be_left_out(raw: Path, tmp_path: Path) -> None:
    damaged = [raw / f"train/drone/000{place}/image-0{place}.jpeg" for place in (1, 2)]
    for path in (*damaged, tile := raw / "test/gallery_satellite/5001/5001.jpg"):
        damage_scan(path)
    query = raw / "test/query_satellite/5001/5001.jpg"
    query.write_bytes(tile.read_bytes())
    out, dataset = tmp_path / "shards", read_layout(raw, name="town")
    with pytest.raises(
        UnreadableError, match=r"3 images are unreadable .*--skip-unreadable"
    ) as told:
        write(raw, out)
    assert {record.source for record in told.value.records} == {*damaged, tile}
    rest = leave_out(dataset, told.value.records, raw=raw)
    sentence = (
        "no satellite image in the gallery: 1 place (5001), distractors and queries without answer"
    )
    assert f"  {sentence}" in found_lines(rest)
    with pytest.raises(LayoutError, match="no image of .* is readable"):
        leave_out(dataset, dataset.records, raw=raw)
    shutil.copy(raw / "test/gallery_satellite/5002/5002.jpg", tile)
    shutil.copy(tile, query)
    with pytest.raises(UnreadableError) as told:
        write(raw, out)
    rest = leave_out(read_layout(raw, name="town"), told.value.records, raw=raw)
    done = write_shards(rest, out, profile=Profile(), workers=1, progress=lambda *_, **__: None)
    assert done.images == len(dataset.records) - 2
    sentence = "0001/drone/image-01 is left out, because it is unreadable"
    assert sentence in done.manifest.deviations
    with pytest.raises(UnreadableError):
        write(raw, out)


def test_what_is_no_plain_file_is_named_with_what_is_damaged(
    skydistill, raw: Path, tmp_path: Path
) -> None:
    damage_scan(raw / "train/drone/0001/image-01.jpeg")
    for place, make in (("0002", os.mkfifo), ("0003", lambda path: path.symlink_to("gone"))):
        (path := raw / f"train/drone/{place}/image-01.jpeg").unlink()
        make(path)
    ending = skydistill("shard", raw, tmp_path / "shards")
    assert "3 images are unreadable (listed above)" in ending.sentence
    assert "0002/image-01.jpeg cannot be read (it is no plain file)" in ending.err
    assert "0003/image-01.jpeg cannot be read (No such file or directory)" in ending.err
    assert skydistill("shard", raw, tmp_path / "shards", "--skip-unreadable").code == 0
    os.mkfifo(raw / "test/query_drone/5002/image-09.jpeg")
    os.mkfifo(raw / "test/gallery_drone/5002/image-09.jpeg")
    told = skydistill("shard", raw, tmp_path / "other").sentence
    assert "5002/image-09.jpeg cannot be read (it is no plain file)" in told


def test_a_damaged_scan_passes_only_where_nothing_is_decoded(raw: Path, tmp_path: Path) -> None:
    damage_scan(raw / "train/drone/0001/image-01.jpeg")
    dataset, out = read_layout(raw, layout="university1652"), tmp_path / "shards"
    quiet = partial(write_shards, workers=1, progress=lambda *_, **__: None)
    quiet(dataset, out, profile=Profile(), is_decoded=False)
    whole = partial(verify_shards, out, expect="none", workers=1, progress=lambda *_, **__: None)
    assert whole().is_ok
    (problem,) = whole(is_decoded=True).problems
    assert problem.key == "0001/drone/image-01" and "does not decode" in problem.problem
    with pytest.raises(UnreadableError):
        quiet(dataset, out, profile=Profile())
    with pytest.raises(UnreadableError):
        quiet(dataset, tmp_path / "small", profile=Profile(image_size=256))
