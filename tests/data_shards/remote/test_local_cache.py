"""The cache of a node: bounded, the longest unused goes first, and never what somebody reads."""

import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_shards.errors import ShardError
from data_shards.lock import hold, hold_if_free
from data_shards.remote import fetch
from data_shards.remote.fetch import FETCHED_SUFFIX, WantedFile
from data_shards.remote.local_cache import CacheEntry, LocalCache, NoRoomError

KIB = 2**10
LIMIT = 100 * KIB


class Made:
    """A source of files that are their own name, repeated."""

    def describe(self, name: str) -> str:
        return f"made/{name}"

    def chunks(self, name: str, stop: threading.Event) -> Iterator[bytes]:
        size = int(name.rpartition("-")[2])
        yield (name.encode() * size)[:size]


def wanted(name: str, kib: int) -> WantedFile:
    name = f"{name}-{kib * KIB}"
    content = b"".join(Made().chunks(name, threading.Event()))
    return WantedFile(name=name, sha256=hashlib.sha256(content).hexdigest(), bytes=kib * KIB)


@pytest.fixture
def cache(tmp_path: Path) -> LocalCache:
    """A cache for 100 KiB."""
    return LocalCache(tmp_path / "cache", gib=LIMIT / 2**30)


def entry_name(letter: str) -> str:
    return letter * 64


def put(cache: LocalCache, letter: str, kib: int) -> CacheEntry:
    """Fetch one file into an entry, used one second after those before it."""
    entry = cache.hold(entry_name(letter))
    entry.fetch([wanted(letter, kib)], Made(), title=f"data set {letter}")
    lock = cache.locks / f"{entry_name(letter)}.use"
    os.utime(lock, (ord(letter), ord(letter)))
    return entry


def entries(cache: LocalCache) -> str:
    return "".join(sorted(path.name[0] for path in (cache.folder / "data").iterdir()))


def test_what_was_not_used_for_longest_goes_first(cache: LocalCache) -> None:
    for letter in "abc":
        put(cache, letter, 30).release()
    assert entries(cache) == "abc"
    put(cache, "d", 30).release()
    assert entries(cache) == "bcd"
    put(cache, "e", 50).release()
    assert entries(cache) == "de"


def test_a_use_is_remembered(cache: LocalCache) -> None:
    for letter in "abc":
        put(cache, letter, 30).release()
    cache.hold(entry_name("a")).release()
    put(cache, "d", 30).release()
    assert entries(cache) == "acd"


def test_what_is_in_use_stays(cache: LocalCache) -> None:
    kept = put(cache, "a", 30)
    for letter in "bc":
        put(cache, letter, 30).release()
    put(cache, "d", 30).release()
    assert entries(cache) == "acd"
    kept.release()
    put(cache, "e", 30).release()
    assert entries(cache) == "cde"


def test_an_entry_that_nobody_refers_to_is_not_in_use(cache: LocalCache) -> None:
    put(cache, "a", 60)
    put(cache, "b", 60).release()
    assert entries(cache) == "b"


def test_what_others_use_leaves_no_room(cache: LocalCache) -> None:
    kept = put(cache, "a", 60)
    with pytest.raises(NoRoomError) as told:
        put(cache, "b", 60)
    assert "data set b needs 0.06 MiB in the local cache" in str(told.value)
    assert "may hold 0.10 MiB, 0.06 MiB of them in use by other processes" in str(told.value)
    assert (kept.folder / f"a-{60 * KIB}").is_file()


def test_what_never_fits_evicts_nothing(cache: LocalCache) -> None:
    put(cache, "a", 60).release()
    with pytest.raises(NoRoomError, match="data set b needs 0.20 MiB .* may hold 0.10 MiB, on a d"):
        put(cache, "b", 200)
    assert (cache.folder / "data" / entry_name("a") / f"a-{60 * KIB}").is_file()


def test_an_entry_that_grows_counts_what_it_has(cache: LocalCache) -> None:
    entry = put(cache, "a", 60)
    with pytest.raises(NoRoomError, match=r"more a needs 0.11 MiB"):
        entry.fetch([wanted("a", 60), wanted("x", 50)], Made(), title="more a")
    entry.fetch([wanted("a", 60), wanted("x", 30)], Made(), title="more a")
    assert len([path for path in entry.folder.iterdir() if path.name[0] in "ax"]) == 2


def test_a_promise_of_another_process_counts(cache: LocalCache) -> None:
    other = cache.hold(entry_name("a"))
    cache.make_room(entry_name("a"), more=60 * KIB, title="a")
    with pytest.raises(NoRoomError):
        put(cache, "b", 60)
    other.release()
    put(cache, "b", 60)


def test_a_full_disk_evicts_and_is_told(cache: LocalCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk has 70 KiB; what lies in the cache takes its share."""

    def usage(folder: Path) -> SimpleNamespace:
        there = sum(path.stat().st_size for path in (folder / "data").glob("*/[a-z]*"))
        return SimpleNamespace(free=70 * KIB - there)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    put(cache, "a", 40).release()
    kept = put(cache, "b", 40)
    assert entries(cache) == "b"
    with pytest.raises(NoRoomError, match=r"on a disk with 0.03 MiB free; raise"):
        put(cache, "c", 40)
    kept.release()


def test_a_disk_that_fills_up_all_the_same_leaves_nothing_half_written(
    cache: LocalCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetch.os, "fsync", full)
    with pytest.raises(ShardError, match=r"cannot be used \(No space left on device\); set the"):
        put(cache, "a", 10)
    assert not list(cache.folder.rglob("*" + FETCHED_SUFFIX))
    monkeypatch.undo()
    put(cache, "a", 10)


def test_nobody_elses_folders_are_touched(cache: LocalCache) -> None:
    foreign = cache.folder / "data" / "holiday pictures"
    foreign.mkdir(parents=True)
    (foreign / "beach.jpg").write_bytes(bytes(LIMIT))
    for letter in "abcde":
        put(cache, letter, 60).release()
    assert (foreign / "beach.jpg").is_file()


def test_left_overs_of_a_dead_process_are_removed(cache: LocalCache) -> None:
    entry = cache.hold(entry_name("a"))
    (entry.folder / ("x" + FETCHED_SUFFIX)).write_bytes(bytes(10))
    put(cache, "a", 10)
    assert not list(cache.folder.rglob("*" + FETCHED_SUFFIX))


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ShardError, match=r"local cache .*/file/cache cannot be used \(Not a dir"):
        LocalCache(tmp_path / "file" / "cache", gib=1).hold(entry_name("a"))


def test_a_file_system_without_locks_is_told(
    cache: LocalCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("data_shards.lock.fcntl.flock", no_locks)
    with pytest.raises(ShardError, match=r"\(No locks available\); set the local cache to a fold"):
        cache.hold(entry_name("a"))


def test_the_default_folder_is_the_jobs_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("SKYDISTILL_CACHE", "SLURM_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert LocalCache(None, gib=1).folder == tmp_path / ".cache" / "skydistill"
    monkeypatch.setenv("SLURM_TMPDIR", "/scratch/7")
    assert LocalCache(None, gib=1).folder == Path("/scratch/7/skydistill")
    monkeypatch.setenv("SKYDISTILL_CACHE", "/ssd")
    assert LocalCache(None, gib=1).folder == Path("/ssd")


def test_locks_are_shared_or_alone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first, second = hold(path, is_shared=True), hold(path, is_shared=True)
    assert hold_if_free(path) is None
    first.release()
    assert hold_if_free(path) is None
    second.release()
    second.release()
    with hold(path):
        assert hold_if_free(path) is None
    alone = hold_if_free(path)
    assert alone is not None
    del alone
    assert hold_if_free(path) is not None
