"""A source that a test may spoil, a cache for what is fetched from it, and no waiting."""

import shutil
from pathlib import Path

import pytest

from data_shards.remote import fetch
from data_shards.remote.local_cache import LocalCache
from data_shards.shards import ShardSet


@pytest.fixture
def folder(tiny_shards: ShardSet, tmp_path: Path) -> Path:
    """A copy of the shards that a test may damage or move."""
    return shutil.copytree(tiny_shards.folder, tmp_path / "source")


@pytest.fixture
def cache(tmp_path: Path) -> LocalCache:
    """A cache that takes everything."""
    return LocalCache(tmp_path / "cache", gib=1)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(fetch, "PAUSES_S", (0.0, 0.0))
