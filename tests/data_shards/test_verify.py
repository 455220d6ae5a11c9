"""`skydistill verify`: every damage is found and named by tar and key; whole shards pass."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_shards.errors import ShardError
from data_shards.index import ROW, read_index, write_index
from data_shards.manifest import Manifest, content_digest, read_manifest, write_manifest
from data_shards.schema import Role
from data_shards.shards import ShardSet
from data_shards.verify import Problem, verify_shards

TAR, INDEX = "train-drone-000000.tar", "train-drone-000000.index"
KEY = "0004/drone/image-02"


@pytest.fixture
def folder(tiny_shards: ShardSet, tmp_path: Path) -> Path:
    """A copy of the shards that a test may damage."""
    return shutil.copytree(tiny_shards.folder, tmp_path / "shards")


def problems(folder: Path, *, expect: str = "none", workers: int = 2) -> list[Problem]:
    verdict = verify_shards(folder, expect=expect, workers=workers, progress=lambda *_, **__: None)
    return verdict.problems


def place_of(folder: Path, key: str) -> tuple[int, int]:
    """Return offset and size of an image in `TAR`."""
    shards = ShardSet.open(folder)
    row = shards.images.key.tolist().index(key)
    return int(shards.images.offset[row]), int(shards.images.size[row])


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("workers", [1, 3])
def test_whole_shards_pass(tiny_shards: ShardSet, workers: int) -> None:
    told: list[tuple[int, int]] = []
    verdict = verify_shards(
        tiny_shards.folder,
        expect="none",
        workers=workers,
        progress=lambda done, total, **_: told.append((done, total)),
    )
    assert (verdict.is_ok, verdict.problems) == (True, [])
    assert verdict.images == 90
    assert verdict.bytes == sum(entry.bytes for entry in tiny_shards.manifest.shards)
    assert told[-1][0] == told[-1][1] > 0


def test_a_small_data_set_is_not_the_official_one(tiny_shards: ShardSet) -> None:
    (problem,) = problems(tiny_shards.folder, expect="official")
    assert "this is not the whole of University-1652" in problem.problem


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (lambda at, size: at, "the image is not the one that was written"),
        (lambda at, size: at + size - 1, "the image is not the one that was written"),
        (lambda at, size: at - 512 + 3, "the header before the image is damaged"),
        (lambda at, size: at - 512 + 130, "the header before the image is damaged"),
        (lambda at, size: at + size + -size % 512 + 5, "the JSON is damaged"),
        (lambda at, size: at + size + -size % 512 + 512 + 30, "the JSON is damaged"),
    ],
    ids=["first byte", "last byte", "name", "size", "header of the JSON", "JSON"],
)
def test_a_flipped_bit_is_named_by_tar_and_key(folder: Path, part, sentence: str) -> None:
    flip(folder / TAR, part(*place_of(folder, KEY)))
    (problem,) = problems(folder)
    assert (problem.shard, problem.key) == (TAR, KEY)
    assert sentence in problem.problem


def test_damaged_padding_is_named(folder: Path) -> None:
    shards = ShardSet.open(folder)
    sizes = {
        key: int(size) for key, size in zip(shards.images.key, shards.images.size, strict=True)
    }
    key = next(key for key, size in sizes.items() if size % 512 and "01/drone" in key)
    at, size = place_of(folder, key)
    flip(folder / TAR, at + size)
    (problem,) = problems(folder)
    assert (problem.key, problem.problem) == (key, "the padding behind the image is damaged")


def test_every_bit_of_a_tar_matters(folder: Path) -> None:
    path = folder / "train-satellite-000000.tar"
    whole = path.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(whole), 40).tolist():
        path.write_bytes(whole)
        flip(path, at)
        (problem,) = problems(folder)
        assert problem.shard == path.name


def test_a_truncated_tar_names_the_first_lost_key(folder: Path) -> None:
    at, size = place_of(folder, KEY)
    os.truncate(folder / TAR, at + size - 1)
    (problem,) = problems(folder)
    assert (problem.shard, problem.key) == (TAR, KEY)
    assert "cut short" in problem.problem
    lost = 50 - ShardSet.open(folder, has_all_tars=False).images.key[10:60].tolist().index(KEY)
    assert f"{lost} images lost, from this one on" in problem.problem


def test_a_tar_without_its_end_or_with_more_is_told(folder: Path) -> None:
    size = (folder / TAR).stat().st_size
    os.truncate(folder / TAR, size - 512)
    assert "cut short behind the last image" in problems(folder)[0].problem
    os.truncate(folder / TAR, size + 512)
    assert "longer than it was written" in problems(folder)[0].problem


def test_several_damages_are_all_listed(folder: Path) -> None:
    for key in (KEY, "0007/drone/image-05"):
        flip(folder / TAR, place_of(folder, key)[0] + 9)
    (folder / "test-drone-000000.tar").unlink()
    shutil.copy(folder / "test-satellite-000000.index", folder / "train-satellite-000000.index")
    found = {(problem.shard, problem.key) for problem in problems(folder)}
    assert found == {
        (TAR, KEY),
        (TAR, "0007/drone/image-05"),
        ("test-drone-000000.tar", ""),
        ("train-satellite-000000.tar", ""),
    }


def test_an_index_of_an_older_tar_is_found(folder: Path, tmp_path: Path) -> None:
    """Someone replaced a tar by one of the same length."""
    path = folder / TAR
    shards = ShardSet.open(folder)
    first, second = (shards.images.key.tolist().index(f"000{n}/drone/image-01") for n in (2, 3))
    content = bytearray(path.read_bytes())
    at, other = int(shards.images.offset[first]), int(shards.images.offset[second])
    size = min(int(shards.images.size[first]), int(shards.images.size[second]))
    content[at : at + size], content[other : other + size] = (
        content[other : other + size],
        content[at : at + size],
    )
    path.write_bytes(content)
    ShardSet.open(folder)
    assert {problem.key for problem in problems(folder)} == {
        "0002/drone/image-01",
        "0003/drone/image-01",
    }


def rewrite(folder: Path, change: Callable[[np.ndarray, list[str]], None], **manifest) -> None:
    """Change an index and make the manifest agree with it, as a buggy writer would."""
    old = read_manifest(folder)
    entry = next(entry for entry in old.shards if entry.name == TAR)
    index = read_index(folder / INDEX, tar=None, sha256=entry.index_sha256)
    rows, keys = index.rows.copy(), index.keys
    change(rows, keys)
    digest = write_index(
        folder / INDEX,
        rows,
        keys,
        tar_bytes=entry.bytes,
        tar_sha256=entry.sha256,
    )
    shards = tuple(
        replace(known, index_sha256=digest) if known.name == TAR else known for known in old.shards
    )
    indexes = [
        read_index(folder / known.index_name, tar=None, sha256=known.index_sha256)
        for known in shards
    ]
    content = content_digest(
        [key for index in indexes for key in index.keys], [index.rows for index in indexes]
    )
    new: Manifest = replace(old, shards=shards, content_sha256=content, **manifest)
    write_manifest(folder, new)


def no_train_drone(rows: np.ndarray, keys: list[str]) -> None:
    chosen = [number for number, key in enumerate(keys) if key.startswith("0003/")]
    rows["roles"][chosen] = Role.GALLERY


def twice(rows: np.ndarray, keys: list[str]) -> None:
    keys[7] = keys[0]


def out_of_range(rows: np.ndarray, keys: list[str]) -> None:
    rows["place"][4] = 99


@pytest.mark.parametrize(
    ("change", "sentences"),
    [
        (
            no_train_drone,
            ["train, drone: 45, and the manifest says 50"],
        ),
        (twice, ["stands in the tars 2 times"]),
        (out_of_range, ["an index names place number 99, which the manifest has not"]),
    ],
)
def test_what_does_not_fit_together_is_told(folder: Path, change, sentences: list[str]) -> None:
    rewrite(folder, change)
    told = [str(problem) for problem in problems(folder)]
    for sentence in sentences:
        assert any(sentence in line for line in told), told


def test_a_manifest_of_another_version_is_one_sentence(folder: Path) -> None:
    values = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(values | {"schema_version": 1}))
    with pytest.raises(ShardError, match="schema version 1, this program reads 2"):
        problems(folder)


def test_the_row_of_an_index_is_the_one_described() -> None:
    assert ROW.itemsize == 48


def test_the_command_tells_what_it_read(skydistill, tiny_shards: ShardSet) -> None:
    ending = skydistill("verify", tiny_shards.folder, "--json")
    assert ending.code == 0
    assert json.loads(ending.out) == {
        "ok": True,
        "images": 90,
        "bytes": sum(entry.bytes for entry in tiny_shards.manifest.shards),
        "problems": [],
    }
    assert "is whole: 90 images" in ending.err
    assert "GB/s" in ending.err


def test_the_command_lists_damage_and_ends_with_one_sentence(skydistill, folder: Path) -> None:
    flip(folder / TAR, place_of(folder, KEY)[0])
    ending = skydistill("verify", folder, "--json")
    assert f"has 1 problem ({TAR}: {KEY}: the image is not" in ending.sentence
    (problem,) = json.loads(ending.out)["problems"]
    assert (problem["shard"], problem["key"]) == (TAR, KEY)


def test_the_command_counts_what_it_does_not_list(skydistill, folder: Path) -> None:
    shards = ShardSet.open(folder)
    tar = bytearray((folder / TAR).read_bytes())
    for row in np.flatnonzero(shards.images.shard == 1)[:30].tolist():
        tar[int(shards.images.offset[row])] ^= 1
    (folder / shards.manifest.shards[1].name).write_bytes(tar)
    ending = skydistill("verify", folder)
    assert "has 30 problems (the first 20 of them listed above)" in ending.sentence
    assert ending.err.count("its digest differs") == 20


def test_shards_that_are_whole_and_not_official_are_not_called_damaged(
    skydistill, tiny_shards: ShardSet
) -> None:
    told = skydistill("verify", tiny_shards.folder, "--expect", "official").sentence
    assert "has 1 problem (this is not the whole of University-1652" in told
    assert "the shards are whole: complete the raw folders" in told
    assert "restore" not in told


def test_missing_shards_are_one_sentence(skydistill, tmp_path: Path) -> None:
    assert "no shards at" in skydistill("verify", tmp_path / "nowhere").sentence
