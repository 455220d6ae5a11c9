"""Shards from a real server, from a command and from a folder to the node's own disk."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from data_shards.errors import ShardError
from data_shards.manifest import Manifest, ShardEntry, read_manifest, write_manifest
from data_shards.remote import transport
from data_shards.remote.fetch import FETCHED_SUFFIX
from data_shards.remote.local_cache import LocalCache
from data_shards.remote.sources import NO_IMAGES, open_shards
from data_shards.schema import Role, View
from data_shards.shards import ShardSet
from tests.data_shards.remote.opening import Opening
from tests.data_shards.remote.shard_server import ShardServer, serving
from tests.data_shards.remote.tars import tars_in

TEST_ROLES = Role.QUERY | Role.GALLERY
TRAIN_TARS = {"train-drone-000000.tar", "train-satellite-000000.tar"}
TEST_TARS = {"test-drone-000000.tar", "test-satellite-000000.tar"}
DRONES = "train-drone-000000.tar"


@pytest.fixture
def server(folder: Path) -> Iterator[ShardServer]:
    with serving(folder) as server:
        yield server


def left_over(cache: LocalCache) -> list[str]:
    return [path.name for path in cache.folder.rglob("*" + FETCHED_SUFFIX)]


def test_training_fetches_the_training_tars_and_reads_the_same_bytes(
    server: ShardServer, cache: LocalCache, tiny_shards: ShardSet
) -> None:
    shards = open_shards(server.address, roles=Role.TRAIN, cache=cache)
    assert tars_in(shards.folder) == set(server.tars) == TRAIN_TARS
    assert shards.fingerprint == tiny_shards.fingerprint
    assert shards.source == server.address
    assert shards.images.key.tolist() == tiny_shards.images.key.tolist()
    for row in tiny_shards.images.where(role=Role.TRAIN, view=View.DRONE).tolist():
        assert bytes(shards.read(row)) == bytes(tiny_shards.read(row))
    other = int(tiny_shards.images.where(role=Role.QUERY, view=View.DRONE)[0])
    with pytest.raises(ShardError, match=r"test-drone-000000.tar cannot be read"):
        shards.read(other)


def test_the_tests_tars_come_when_they_are_asked_for(
    server: ShardServer, cache: LocalCache
) -> None:
    assert tars_in(open_shards(server.address, roles=NO_IMAGES, cache=cache).folder) == set()
    open_shards(server.address, roles=Role.TRAIN, cache=cache)
    both = open_shards(server.address, roles=TEST_ROLES, cache=cache)
    assert tars_in(both.folder) == TRAIN_TARS | TEST_TARS
    drones = open_shards(server.address, roles=Role.TRAIN, views=[View.DRONE], cache=cache)
    assert drones.folder == both.folder
    assert set(server.tars.values()) == {1}, "nothing is fetched twice"


def test_only_the_views_that_are_asked_for_come(server: ShardServer, cache: LocalCache) -> None:
    shards = open_shards(server.address, roles=Role.TRAIN, views=[View.SATELLITE], cache=cache)
    assert tars_in(shards.folder) == {"train-satellite-000000.tar"}


def test_a_damaged_copy_in_the_cache_is_fetched_again(
    server: ShardServer, cache: LocalCache
) -> None:
    copy = open_shards(server.address, roles=Role.TRAIN, cache=cache).folder
    os.truncate(copy / DRONES, 100)
    (copy / "train-drone-000000.index").write_bytes(b"nonsense")
    open_shards(server.address, roles=Role.TRAIN, cache=cache)
    assert (copy / DRONES).stat().st_size > 100
    assert server.tars == {DRONES: 2, "train-satellite-000000.tar": 1}


def test_a_changed_data_set_is_another_entry(
    server: ShardServer, folder: Path, cache: LocalCache
) -> None:
    first = open_shards(server.address, roles=Role.TRAIN, cache=cache)
    values = vars(read_manifest(folder)) | {"split": "another"}
    write_manifest(folder, Manifest(**values))
    second = open_shards(server.address, roles=Role.TRAIN, cache=cache)
    assert first.folder != second.folder
    assert tars_in(first.folder) == tars_in(second.folder) == TRAIN_TARS


def test_a_connection_that_is_cut_once_is_mended(server: ShardServer, cache: LocalCache) -> None:
    server.misbehaviour = {DRONES: "cut once", "manifest.json": "cut once"}
    shards = open_shards(server.address, roles=Role.TRAIN, cache=cache)
    assert server.requests[DRONES] == 2
    assert tars_in(shards.folder) == TRAIN_TARS


def test_redirects_are_followed_and_queries_kept(server: ShardServer, cache: LocalCache) -> None:
    server.misbehaviour = {DRONES: "redirect"}
    shards = open_shards(server.address + "/?sig=a%2Fb", roles=Role.TRAIN, cache=cache)
    assert tars_in(shards.folder) == TRAIN_TARS
    assert server.queries == {"sig=a%2Fb", "moved=1"}
    assert shards.source == server.address, "a signature is not written into reports"


def test_a_server_that_dies_is_told_and_a_re_run_goes_on(
    server: ShardServer, folder: Path, cache: LocalCache
) -> None:
    server.misbehaviour = {DRONES: "cut"}
    whole = (folder / DRONES).stat().st_size
    with pytest.raises(ShardError) as told:
        open_shards(server.address, roles=Role.TRAIN, views=[View.SATELLITE], cache=cache)
        open_shards(server.address, roles=Role.TRAIN, cache=cache)
    assert re.fullmatch(
        rf"{server.address}/{DRONES} cannot be fetched, tried 3 times: curl: .18. .* after "
        rf"{whole // 2:,} of {whole:,} bytes; see that the source is well and start again: "
        "files that are whole are kept",
        str(told.value),
    )
    assert server.requests[DRONES] == 3
    assert left_over(cache) == []
    server.misbehaviour = {}
    open_shards(server.address, roles=Role.TRAIN, cache=cache)
    assert server.tars == {DRONES: 4, "train-satellite-000000.tar": 1}


@pytest.mark.parametrize(
    ("name", "how", "tries", "says"),
    [
        ("manifest.json", "404", 1, r"/shards/manifest.json cannot be fetched: .*error: 404"),
        ("train-drone-000000.index", "404", 1, r"train-drone-000000.index cannot be .* 404"),
        (DRONES, "404", 1, rf"{DRONES} cannot be fetched: .* 404 after 0 of"),
        (DRONES, "503", 3, rf"{DRONES} cannot be fetched, tried 3 times: .* 503"),
        (DRONES, "longer", 1, rf"{DRONES} is not the file that its manifest names"),
        (DRONES, "silent", 3, rf"{DRONES} cannot be fetched, tried 3 times: nothing came for 0 s"),
        (DRONES, "slow", 3, rf"{DRONES} cannot be fetched, tried 3 times: nothing .* after [1-9]"),
    ],
)
def test_what_a_server_does_wrong_is_told(
    server: ShardServer,
    cache: LocalCache,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    how: str,
    tries: int,
    says: str,
) -> None:
    if how in ("silent", "slow"):
        monkeypatch.setattr(transport, "SILENCE_S", 0.3)
    server.misbehaviour = {name: how}
    with pytest.raises(ShardError, match=says) as told:
        open_shards(server.address, roles=Role.TRAIN, cache=cache)
    assert "\n" not in str(told.value)
    assert server.requests[name] == tries
    assert left_over(cache) == []


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [DRONES, "train-drone-000000.index"])
def test_a_source_that_differs_from_its_manifest_is_named(
    server: ShardServer, folder: Path, cache: LocalCache, name: str
) -> None:
    flip_a_byte(folder / name)
    with pytest.raises(ShardError, match=f"{server.address}/{name} is not the file that its"):
        open_shards(server.address, roles=Role.TRAIN, cache=cache)
    assert server.requests[name] == 1
    assert not list(cache.folder.rglob(name))
    assert left_over(cache) == []


def test_a_manifest_of_another_version_is_refused(
    server: ShardServer, folder: Path, cache: LocalCache
) -> None:
    values = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(values | {"schema_version": 99}))
    with pytest.raises(ShardError, match=f"{server.address}/manifest.json has schema version 99"):
        open_shards(server.address, roles=Role.TRAIN, cache=cache)
    assert not cache.folder.exists()


@pytest.mark.parametrize("name", ["../outside.tar", "/tmp/outside.tar", ".hidden.tar", "a.index"])
def test_a_manifest_cannot_write_outside_of_the_cache(
    server: ShardServer, folder: Path, cache: LocalCache, name: str
) -> None:
    text = (folder / "manifest.json").read_text()
    values = json.loads(text.replace(DRONES, name))
    del values["fingerprint"]
    entries = tuple(ShardEntry(**entry) for entry in values["shards"])
    write_manifest(folder, Manifest(**values | {"shards": entries}))
    with pytest.raises(ShardError, match="which is no plain file name"):
        open_shards(server.address, roles=Role.TRAIN, cache=cache)
    assert not cache.folder.exists()


def test_a_plan_is_made_from_indexes_alone(
    server: ShardServer, folder: Path, tmp_path: Path, skydistill: Callable[..., Any]
) -> None:
    words = ("plan", "--global-batch", 4, "--json", "--local-cache", tmp_path / "cache")
    assert (
        skydistill(*words, "--shards", server.address).out
        == skydistill(*words, "--shards", folder).out
        != ""
    )
    assert server.tars == {}


def test_a_verb_tells_in_one_sentence(
    server: ShardServer, tmp_path: Path, skydistill: Callable[..., Any]
) -> None:
    words = ("plan", "--global-batch", 4, "--local-cache", tmp_path / "cache", "--shards")
    gone = server.address.replace("/shards", "/gone")
    server.misbehaviour = {"manifest.json": "404"}
    assert skydistill(*words, gone).sentence.startswith(f"skydistill: {gone}/manifest.json cannot")
    assert "{name}" in skydistill(*words, "pipe:cat x").sentence
    assert "--local-cache-gib" in skydistill(*words, "x", "--local-cache-gib", 0).sentence


# Staging.


def test_a_folder_is_read_where_it_is(folder: Path, cache: LocalCache) -> None:
    shards = open_shards(str(folder), roles=Role.TRAIN, cache=cache)
    assert shards.folder == folder
    assert not cache.folder.exists()


def test_staging_copies_what_is_needed_once(folder: Path, cache: LocalCache) -> None:
    staged = open_shards(str(folder), roles=Role.TRAIN, cache=cache, is_staged=True)
    assert cache.folder in staged.folder.parents
    assert tars_in(staged.folder) == TRAIN_TARS
    assert staged.source == str(folder)
    times = {path: path.stat().st_mtime_ns for path in staged.folder.glob("*.tar")}
    again = open_shards(str(folder), roles=Role.TRAIN, cache=cache, is_staged=True)
    assert {path: path.stat().st_mtime_ns for path in again.folder.glob("*.tar")} == times


def test_without_room_reading_goes_on_from_the_source(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    small = LocalCache(tmp_path / "cache", gib=1e-6)
    shards = open_shards(str(folder), roles=Role.TRAIN, cache=small, is_staged=True)
    assert shards.folder == folder
    assert "not staged, read from where it is: " in caplog.text
    assert left_over(small) == []


def test_staging_notices_a_damaged_source(folder: Path, cache: LocalCache) -> None:
    flip_a_byte(folder / DRONES)
    with pytest.raises(ShardError, match=f"{folder}/{DRONES} is not the file that its manifest"):
        open_shards(str(folder), roles=Role.TRAIN, cache=cache, is_staged=True)


# Many processes.


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_eight_processes_at_once_fetch_each_tar_once(server: ShardServer, tmp_path: Path) -> None:
    server.misbehaviour = {DRONES: "slow"}
    ranks = [Opening(server.address, tmp_path / "cache") for _ in range(8)]
    digests = {rank.digest() for rank in ranks}
    assert server.tars == dict.fromkeys(TRAIN_TARS, 1)
    assert len(digests) == 1


def test_two_nodes_fetch_for_themselves_and_get_equal_bytes(
    server: ShardServer, tmp_path: Path
) -> None:
    ranks = [Opening(server.address, tmp_path / f"node{node}") for node in (0, 1) for _ in "ab"]
    assert len({rank.digest() for rank in ranks}) == 1
    assert server.tars == dict.fromkeys(TRAIN_TARS, 2)


def test_when_the_one_that_fetches_is_killed_the_next_takes_over(
    server: ShardServer, tmp_path: Path
) -> None:
    server.misbehaviour = {DRONES: "held"}
    cache = tmp_path / "cache"
    first = Opening(server.address, cache)
    wait_until(lambda: bool(list(cache.rglob(DRONES + FETCHED_SUFFIX))))
    second = Opening(server.address, cache)
    first.process.kill()
    server.go_on.set()
    second.digest()
    assert server.requests[DRONES] == 2
    assert not list(cache.rglob("*" + FETCHED_SUFFIX))
