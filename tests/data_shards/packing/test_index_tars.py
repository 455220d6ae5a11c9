"""Tars written by stock webdataset are indexed where they lie, and read by our reader."""

import errno
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset as wds
from PIL import Image

from data_shards.index import ENCODINGS, read_index
from data_shards.layouts import read_layout
from data_shards.schema import ImageRecord, Role, View
from data_shards.shards import ShardSet

Sample = dict[str, Any]


def samples(raw: Path, *, role: Role, json_of: bool = True) -> Iterator[Sample]:
    """Yield what a user would hand to webdataset."""
    for record in read_layout(raw).records:
        if record.roles & role:
            sample: Sample = {
                "__key__": record.key,
                f"{record.view.word}.jpg": record.source.read_bytes(),
            }
            if json_of:
                sample["json"] = described(record)
            yield sample


def described(record: ImageRecord) -> Sample:
    values = {"roles": record.roles.words, "position": record.position, "altitude_m": 150.5}
    return values | {"schema_version": 2, "key": record.key}


def write_tars(folder: Path, name: str, chosen: Iterator[Sample], *, each: int = 25) -> Path:
    folder.mkdir(exist_ok=True)
    with wds.ShardWriter(str(folder / f"{name}-%06d.tar"), maxcount=each, verbose=0) as writer:
        for sample in chosen:
            writer.write(sample)
    return folder


@pytest.fixture
def tars(tiny_raw: Path, tmp_path: Path) -> Path:
    folder = write_tars(tmp_path / "tars", "train", samples(tiny_raw, role=Role.TRAIN))
    return write_tars(folder, "test", samples(tiny_raw, role=Role.QUERY | Role.GALLERY))


def test_stock_tars_are_indexed_and_read(skydistill, tars: Path, tiny_shards: ShardSet) -> None:
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tars.iterdir()}
    ending = skydistill("shard", tars, "--index-only")
    assert ending.code == 0
    assert "indexed 90 images of 15 places in 5 tars" in ending.err
    assert all(
        (path.stat().st_mtime_ns, path.read_bytes()) == told for path, told in before.items()
    )
    shards = ShardSet.open(tars)
    assert shards.manifest.counts == tiny_shards.manifest.counts
    assert shards.manifest.content_sha256 == tiny_shards.manifest.content_sha256
    ours = {key: row for row, key in enumerate(tiny_shards.images.key.tolist())}
    for row, key in enumerate(shards.images.key.tolist()):
        assert bytes(shards.read(row)) == bytes(tiny_shards.read(ours[key]))
        for column in ("roles", "view", "position", "orientation"):
            assert (
                getattr(shards.images, column)[row]
                == getattr(tiny_shards.images, column)[ours[key]]
            )
    assert np.all(shards.images.altitude_m == 150.5)
    assert shards.train_places.tolist() == list(range(10))
    assert skydistill("verify", tars).code == 0


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def test_headers_of_other_kinds_and_folders_are_fine(skydistill, tiny_raw, tmp_path) -> None:
    folder = tmp_path / "tars"
    folder.mkdir()
    image = (tiny_raw / "train/drone/0001/image-01.jpeg").read_bytes()
    for kind, number in ((tarfile.GNU_FORMAT, 1), (tarfile.PAX_FORMAT, 2)):
        with tarfile.open(folder / f"train-{number}.tar", "w", format=kind) as tar:
            parent = tarfile.TarInfo(f"place-{number}")
            parent.type = tarfile.DIRTYPE
            tar.addfile(parent)
            for view in ("drone", "satellite"):
                add(tar, f"./place-{number}/{view}/{'long' * 40}.{view.upper()}.JPG", image)
                add(tar, f"./place-{number}/{view}/._a.{view}.jpg", b"what a Mac leaves")
    assert skydistill("shard", folder, "--index-only").code == 0
    shards = ShardSet.open(folder)
    assert shards.images.key.tolist() == [
        f"place-{n}/{view}/{'long' * 40}" for n in (1, 2) for view in ("drone", "satellite")
    ]
    assert bytes(shards.read(0)) == bytes(shards.read(3)) == image


def test_a_second_run_changes_nothing(skydistill, tars: Path) -> None:
    assert skydistill("shard", tars, "--index-only", "--json").code == 0
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in tars.iterdir()}
    ending = skydistill("shard", tars, tars, "--index-only", "--json")
    assert "unchanged: 90 images" in ending.err
    assert {path: (path.stat().st_ino, path.read_bytes()) for path in tars.iterdir()} == before
    result = json.loads(ending.out)
    assert result["profile"] == {"bytes": "original", "tars": "written by others"}


def test_damage_in_an_indexed_tar_is_named(skydistill, tars: Path) -> None:
    skydistill("shard", tars, "--index-only")
    shards = ShardSet.open(tars)
    path = tars / shards.manifest.shards[0].name
    content = bytearray(path.read_bytes())
    content[int(shards.images.offset[3]) + 5] ^= 1
    path.write_bytes(content)
    assert f"{path.name}: {shards.images.key[3]}: the image" in skydistill("verify", tars).sentence


def test_without_json_the_name_of_the_tar_tells_the_role(skydistill, tiny_raw, tmp_path) -> None:
    folder = tmp_path / "tars"
    for name, role in (("train", Role.TRAIN), ("gallery", Role.GALLERY)):
        write_tars(folder, name, samples(tiny_raw, role=role, json_of=False))
    assert skydistill("shard", folder, "--index-only").code == 0
    shards = ShardSet.open(folder)
    assert len(shards.images.where(role=Role.TRAIN, view=View.DRONE)) == 50
    assert len(shards.images.where(role=Role.GALLERY, view=View.SATELLITE)) == 5
    drones = shards.images.where(role=Role.TRAIN, view=View.DRONE, places=[0])
    assert shards.images.position[drones].tolist() == [1, 2, 3, 4, 5]


def test_without_json_the_user_can_tell_the_roles(skydistill, tiny_raw, tmp_path) -> None:
    folder = write_tars(
        tmp_path / "tars", "test", samples(tiny_raw, role=Role.GALLERY, json_of=False)
    )
    ending = skydistill("shard", folder, "--index-only")
    assert "does not say what 5001/drone/image-01 is for; say --roles train" in ending.sentence
    assert not list(folder.glob("*.index")) + list(folder.glob("*.json"))
    assert skydistill("shard", folder, "--index-only", "--roles", "query,gallery").code == 0
    assert ShardSet.open(folder).manifest.counts["query"]["drone"] == 25


def test_plain_suffixes_do_when_the_key_names_the_view(skydistill, tiny_raw, tmp_path) -> None:
    plain = (
        {"__key__": sample["__key__"], "jpg": next(v for k, v in sample.items() if "jpg" in k)}
        for sample in samples(tiny_raw, role=Role.TRAIN)
    )
    folder = write_tars(tmp_path / "tars", "train", plain)
    assert skydistill("shard", folder, "--index-only").code == 0
    assert ShardSet.open(folder).manifest.counts["train"]["satellite"] == 10


def test_a_format_in_disguise_is_known_by_its_bytes(skydistill, tmp_path: Path) -> None:
    png = io.BytesIO()
    Image.new("RGB", (4, 4)).save(png, "PNG")
    views = ("drone", "satellite")
    made = ({"__key__": f"0001/{view}/a", "jpg": png.getvalue()} for view in views)
    folder = write_tars(tmp_path / "tars", "train", made)
    assert skydistill("shard", folder, "--index-only").code == 0
    (entry,) = ShardSet.open(folder).manifest.shards
    index = read_index(folder / entry.index_name, tar=None, sha256=entry.index_sha256)
    assert {ENCODINGS[row["encoding"]] for row in index.rows} == {"png"}


def one_sample(tmp_path: Path, **members: Any) -> Path:
    key = members.pop("key", "0001/drone/a")
    return write_tars(tmp_path / "tars", "train", iter([{"__key__": key, **members}]))


JPEG = "a real image"


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"key": "0001-a", "drone.jpg": JPEG}, "the key '0001-a' is not PLACE/VIEW/NAME"),
        ({"key": "0001/plane/a", "jpg": JPEG}, "with a VIEW of satellite, drone, street, google"),
        ({"drone.jpg": JPEG, "satellite.jpg": JPEG}, "2 images (a.drone.jpg, a.satellite.jpg)"),
        ({"json": {"roles": ["train"]}}, "0001/drone/a has 0 images (a.json)"),
        ({"tif": b"II*"}, "0 images (a.tif); write one per sample, as .jpg, .jpeg, .png,"),
        ({"satellite.jpg": JPEG}, "0001/drone/a holds a satellite image; let the key name"),
        (
            {"drone.jpg": b"no image"},
            "0001/drone/a is not a readable image (no format that is read)",
        ),
        ({"drone.jpg": JPEG, "json": b"{"}, "the JSON of 0001/drone/a is wrong"),
        ({"drone.jpg": JPEG, "json": {"roles": ["trian"]}}, "(did you mean 'train'?)"),
        ({"drone.jpg": JPEG, "json": {"roles": ["trian"]}}, "the JSON of 0001/drone/a is wrong"),
        ({"drone.jpg": JPEG, "json": {"roles": "train"}}, "is wrong (roles is not a list)"),
        ({"drone.jpg": JPEG, "json": {"position": "first"}}, "the JSON of 0001/drone/a is wrong"),
        ({"drone.jpg": JPEG, "json": {"position": 70000}}, "the JSON of 0001/drone/a is wrong"),
    ],
)
def test_what_cannot_be_indexed_is_one_sentence(
    skydistill, tiny_raw: Path, tmp_path: Path, members, sentence
) -> None:
    real = (tiny_raw / "train/drone/0001/image-01.jpeg").read_bytes()
    given = {name: real if value == JPEG else value for name, value in members.items()}
    folder = one_sample(tmp_path, **given)
    told = skydistill("shard", folder, "--index-only").sentence
    assert sentence in told
    assert sorted(path.name for path in folder.iterdir()) == ["train-000000.tar"]


@pytest.mark.parametrize("keep", [0.0, 0.4, 0.7, 1.0])
def test_a_tar_that_is_cut_short_names_its_last_key(skydistill, tars: Path, keep: float) -> None:
    path = tars / "train-000001.tar"
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        end = tar.offset
    start, stop = members[0].offset_data + 700, end
    os.truncate(path, int(start + keep * (stop - start)))
    told = skydistill("shard", tars, "--index-only").sentence
    assert f"{path} is cut short behind " in told
    assert not list(tars.glob("*.index"))


def with_place(samples: Iterator[Sample], places: dict[str, str]) -> Iterator[Sample]:
    """Yield samples of some places, under other names."""
    for sample in samples:
        place, _, rest = sample["__key__"].partition("/")
        if place in places:
            yield sample | {"__key__": f"{places[place]}/{rest}"}


@pytest.mark.parametrize(
    ("places", "sentence"),
    [
        ({"5001": "0001"}, "place 0001 (1 in all) stands in train and in test"),
        ({"5001": "1"}, "place 1 is called 0001 and 1, two sources for one place"),
    ],
)
def test_places_are_checked_as_those_of_raw_folders(
    skydistill, tiny_raw: Path, tmp_path: Path, places, sentence
) -> None:
    folder = write_tars(tmp_path / "tars", "train", samples(tiny_raw, role=Role.TRAIN))
    tested = with_place(samples(tiny_raw, role=Role.QUERY), places)
    renamed = (sample | {"__key__": sample["__key__"] + "-again"} for sample in tested)
    write_tars(folder, "test", renamed)
    assert sentence in skydistill("shard", folder, "--index-only").sentence
    assert not list(folder.glob("*.index"))


def test_a_place_without_one_view_is_named(skydistill, tiny_raw: Path, tmp_path: Path) -> None:
    trained = samples(tiny_raw, role=Role.TRAIN)
    lacking = (one for one in trained if one["__key__"] != "0003/satellite/0003")
    folder = write_tars(tmp_path / "tars", "train", lacking)
    told = skydistill("shard", folder, "--index-only").err
    assert "no satellite image to train on: 1 place (0003), not trained on" in told


def test_all_unreadable_images_are_named_or_left_out(
    skydistill, tiny_raw: Path, tmp_path: Path
) -> None:
    damaged = {"0001/drone/image-02", "0007/drone/image-01"}

    def damage(sample: Sample) -> Sample:
        is_damaged = sample["__key__"] in damaged
        return sample | ({"drone.jpg": sample["drone.jpg"][:500]} if is_damaged else {})

    made = map(damage, samples(tiny_raw, role=Role.TRAIN))
    folder = write_tars(tmp_path / "tars", "train", made)
    ending = skydistill("shard", folder, "--index-only")
    assert "2 images are unreadable (listed above)" in ending.sentence
    assert all(f"{key} is not a readable image" in ending.err for key in damaged)
    assert skydistill("shard", folder, "--index-only", "--skip-unreadable").code == 0
    shards = ShardSet.open(folder)
    assert len(shards.images) == 58
    assert not damaged & set(shards.images.key.tolist())
    assert "0001/drone/image-02 is left out, because it is unreadable" in (
        shards.manifest.deviations
    )
    assert skydistill("verify", folder, "--decode").code == 0


def test_an_intact_copy_takes_the_place_of_a_damaged_one(
    skydistill, tiny_raw: Path, tmp_path: Path
) -> None:
    whole = list(samples(tiny_raw, role=Role.TRAIN))
    copied, lost = (sample | {"drone.jpg": b"cut"} for sample in whole[:2])
    folder = write_tars(tmp_path / "tars", "train-a", iter([copied, lost, *whole[2:]]))
    write_tars(folder, "train-b", iter([whole[0], lost | {"drone.jpg": b"cut too"}]))
    assert skydistill("shard", folder, "--index-only", "--skip-unreadable").code == 0
    shards = ShardSet.open(folder)
    keys = sorted(sample["__key__"] for sample in whole if sample is not whole[1])
    assert sorted(shards.images.key.tolist()) == keys
    told = [line for line in shards.manifest.deviations if "left out" in line]
    assert told == [f"{lost['__key__']} is left out, because it is unreadable"]
    assert skydistill("verify", folder, "--decode").code == 0


def test_tars_of_a_public_data_set_are_compared_with_it(
    skydistill, tars: Path, tmp_path: Path
) -> None:
    table = tmp_path / "coordinates.csv"
    table.write_text("place,latitude,longitude\n1,48.1,11.5\n")
    options = ("--index-only", "--layout", "university1652", "--coordinates", table)
    assert "this is not the whole of University-1652" in skydistill("shard", tars, *options).err
    manifest = ShardSet.open(tars).manifest
    assert (manifest.layout, manifest.coordinates) == ("university1652", {"0001": (48.1, 11.5)})
    told = skydistill("shard", tars, "--index-only", "--layout", "sues201").sentence
    assert "layout 'sues201' is unknown (did you mean 'sues200'?)" in told


def test_a_key_in_two_tars_is_refused(skydistill, tiny_raw: Path, tmp_path: Path) -> None:
    for name in ("train-a", "train-b"):
        write_tars(tmp_path / "tars", name, samples(tiny_raw, role=Role.TRAIN))
    told = skydistill("shard", tmp_path / "tars", "--index-only").sentence
    assert "stands in train-a-000000.tar too" in told


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_links_and_packed_tars_are_told(skydistill, tiny_raw: Path, tmp_path: Path, kind) -> None:
    folder = tmp_path / "tars"
    folder.mkdir()
    for name in ("query.tar.GZ", "query.tgz", "query.TAR", "query.tar.md5", "._query.tgz"):
        (folder / name).touch()
    told = skydistill("shard", folder, "--index-only").sentence
    assert "3 tars not called FOLDER/*.tar (query.TAR, query.tar.GZ, query.tgz)" in told
    (folder / "more").mkdir()
    (folder / "more/query.tar").touch()
    image = (tiny_raw / "train/drone/0001/image-01.jpeg").read_bytes()
    with tarfile.open(folder / "train-1.tar", "w") as tar:
        link = tarfile.TarInfo("0001/drone/again.jpg")
        link.type, link.linkname = kind, "0001/drone/a.jpg"
        tar.addfile(link)
        add(tar, "0001/drone/again.json", b"{}")
    told = skydistill("shard", folder, "--index-only").sentence
    assert "no image of " in told and "left out: 1 sample with links (tar -h" in told
    with tarfile.open(folder / "train-1.tar", "a") as tar:
        for view in ("drone", "satellite"):
            add(tar, f"0001/{view}/a.jpg", image)
        link.name = "0001/satellite/a.txt"  # nothing that is read
        tar.addfile(link)
    ending = skydistill("shard", folder, "--index-only")
    assert ending.code == 0
    told = "left out: 1 sample with links (tar -h --hard-dereference writes files); 4 tars"
    assert told in ending.err
    assert len(ShardSet.open(folder).images) == 2


def test_a_packed_tar_in_disguise_is_told(skydistill, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train-1.tar", "w:gz") as tar:
        add(tar, "0001/drone/a.jpg", b"")
    told = skydistill("shard", tmp_path, "--index-only").sentence
    assert "is cut short before its first image, or packed (" in told


def test_folders_of_something_else_are_refused(skydistill, tiny_shards, tmp_path: Path) -> None:
    assert "holds no tars" in skydistill("shard", tmp_path, "--index-only").sentence
    told = skydistill("shard", tmp_path / "nowhere", "--index-only").sentence
    assert "nowhere cannot be read (No such file or directory); give the folder" in told
    told = skydistill("shard", tiny_shards.folder, "--index-only").sentence
    assert "was written by skydistill shard and has its indexes" in told
    told = skydistill("shard", tmp_path, tmp_path / "out", "--index-only").sentence
    assert "--index-only writes beside the tars" in told
    assert "say where to write the shards" in skydistill("shard", tmp_path).sentence
    assert "--roles goes with" in skydistill("shard", tmp_path, "x", "--roles", "train").sentence


def test_a_full_disk_is_told_and_the_run_continued(
    skydistill, tars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        told = skydistill("shard", tars, "--index-only").sentence
    assert f"the indexes of {tars} could not be written (No space left on device); free" in told
    assert {path.suffix for path in tars.iterdir()} == {".tar"}
    assert skydistill("shard", tars, "--index-only").code == 0


def test_there_are_no_official_counts_of_tars_of_others(skydistill, tars: Path) -> None:
    assert skydistill("shard", tars, "--index-only").code == 0
    assert skydistill("verify", tars).code == 0
    told = skydistill("verify", tars, "--expect", "official").sentence
    assert "the layout is webdataset, which has no published counts" in told


def test_a_dry_run_writes_nothing(skydistill, tars: Path) -> None:
    (tars / "query.tgz").touch()
    ending = skydistill("shard", tars, "--index-only", "--dry-run")
    assert (ending.code, "would index 5 tars" in ending.err) == (0, True)
    assert "left out: 1 tar not called FOLDER/*.tar (query.tgz)" in ending.err
    assert not list(tars.glob("*.index"))
