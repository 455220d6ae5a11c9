"""Addresses of every kind: commands, object stores, and what each does wrong."""

import os
import shutil
import time
from pathlib import Path

import pytest

from data_shards.errors import ShardError
from data_shards.remote import transport
from data_shards.remote.local_cache import LocalCache
from data_shards.remote.sources import NO_IMAGES, open_shards
from data_shards.schema import Role
from tests.data_shards.remote.tars import tars_in

DRONES, SATELLITES = "train-drone-000000.tar", "train-satellite-000000.tar"


def test_nobody_there_is_told(cache: LocalCache) -> None:
    with pytest.raises(ShardError, match=r"http://127.0.0.1:9/x/manifest.json cannot be fetched"):
        open_shards("http://user:secret@127.0.0.1:9/x?key=secret", roles=NO_IMAGES, cache=cache)
    with pytest.raises(ShardError) as told:
        open_shards("http://user:secret@127.0.0.1:9/x?key=secret", roles=NO_IMAGES, cache=cache)
    assert "secret" not in str(told.value)


def test_a_command_is_a_source(folder: Path, cache: LocalCache, tmp_path: Path) -> None:
    odd = folder.rename(tmp_path / "it's a folder")
    command = f'pipe:cat "{odd}"/{{name}} | cat  # the shell does this'
    shards = open_shards(command, roles=Role.TRAIN, cache=cache)
    assert tars_in(shards.folder) == {DRONES, SATELLITES}
    assert (shards.folder / DRONES).read_bytes() == (odd / DRONES).read_bytes()


def test_a_file_address_is_a_source(folder: Path, cache: LocalCache) -> None:
    shards = open_shards(folder.as_uri(), roles=Role.QUERY | Role.GALLERY, cache=cache)
    assert tars_in(shards.folder) == {"test-drone-000000.tar", "test-satellite-000000.tar"}


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("pipe:cat x", r"does not say which file to write; put \{name\} where"),
        ("pipe:nonsense-command {name}", r"nonsense-command manifest.json cannot be .*not found"),
        ("pipe:exit 3; cat {name}", r"tried 3 times: its program ended with status 3"),
        ("pipe:echo half a word >&2; exit 1; {name}", r"tried 3 times: half a word"),
        ("pipe:echo {name}", "manifest.json is damaged"),
        ("pipe:echo ' <!DOCTYPE html>' {name}", "manifest.json is a web page and no manifest"),
        ("s3://bucket/shards", "read by the program aws, which is not there; install it"),
        ("gs://bucket/shards", "read by the program gsutil, which is not there; install it"),
        ("strange://bucket/shards", r"cannot be opened .*no gopen handler"),
        ("file:///nowhere", r"file:///nowhere/manifest.json cannot be fetched: it cannot be op"),
    ],
)
def test_what_is_wrong_with_an_address_is_told(
    cache: LocalCache, monkeypatch: pytest.MonkeyPatch, address: str, says: str
) -> None:
    if address[0] in "sg":
        monkeypatch.setenv("PATH", "")
    with pytest.raises(ShardError, match=says) as told:
        open_shards(address, roles=NO_IMAGES, cache=cache)
    assert "\n" not in str(told.value)


def test_an_object_store_is_read_by_its_own_program(
    folder: Path, cache: LocalCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, word in (("aws", "$4"), ("gsutil", "$2")):
        (programs / name).write_text(f'#!/bin/sh\ncat {folder}/"$(basename "{word}")"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    for address in ("s3://bucket/shards", "gs://bucket/shards"):
        shards = open_shards(address, roles=Role.TRAIN, cache=cache)
        shutil.rmtree(shards.folder)
        assert shards.source == address


def test_a_silent_command_is_ended_with_its_children(
    cache: LocalCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "SILENCE_S", 0.3)
    pids = tmp_path / "pids"
    command = f"pipe:sleep 60 & echo $! >> {pids}; : {{name}}; wait"
    with pytest.raises(ShardError, match="nothing came for 0 s"):
        open_shards(command, roles=NO_IMAGES, cache=cache)
    children = [int(line) for line in pids.read_text().split()]
    assert len(children) == 3
    deadline = time.monotonic() + 10  # a busy machine takes a moment to end what was killed
    while any(is_running(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(is_running(pid) for pid in children)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
