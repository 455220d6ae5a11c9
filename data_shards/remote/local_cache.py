"""Files of a data set on a disk of this node: bounded, checked by digest, shared by its processes.

    CACHE/data/NAME/         one folder per data set or teacher cache, NAME is its fingerprint
    CACHE/locks/NAME.use     held by everybody who reads it, and alone by who evicts it
    CACHE/locks/NAME.fetch   held by the one process of the node that fetches into it
    CACHE/locks/room         held while somebody counts, promises and evicts

A file appears under its name when it is whole and has its digest. A process that is killed lets go
of its locks, and the next one goes on with the files that are there. Several nodes have a cache
each: the locks of a network file system are not to be relied on.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from data_shards.errors import ShardError
from data_shards.lock import HeldLock, hold, hold_if_free
from data_shards.remote.fetch import FETCHED_SUFFIX, WantedFile, fetch_files
from data_shards.remote.transport import ShardSource

log = logging.getLogger(__name__)

CACHE_VARIABLE, SLURM_VARIABLE = "SKYDISTILL_CACHE", "SLURM_TMPDIR"

PROMISE_NAME = ".promised"
"""How many bytes an entry will have when all that was asked for has come."""

_NAME = re.compile(r"[0-9a-f]{64}")


class NoRoomError(ShardError):
    """The cache or its disk cannot take what is asked for."""


class _Size(NamedTuple):
    """Bytes of one entry."""

    there: int
    in_the_end: int
    """When all that was promised has come."""


class LocalCache:
    """The cache of one node; every process of the node opens it by the same folder."""

    def __init__(self, folder: Path | None, *, gib: float) -> None:
        """Name the cache; nothing is touched yet.

        Args:
            folder: where it lies; by default $SKYDISTILL_CACHE, else $SLURM_TMPDIR/skydistill, else
                ~/.cache/skydistill.
            gib: how much it may hold, in GiB.
        """
        above = os.environ.get(SLURM_VARIABLE) or Path.home() / ".cache"
        told = folder or os.environ.get(CACHE_VARIABLE)
        self.folder = Path(told) if told else Path(above) / "skydistill"
        self.most_bytes = int(gib * 2**30)

    @property
    def locks(self) -> Path:
        """Folder of the lock files, which stay: to remove one would let two processes hold it."""
        return self.folder / "locks"

    def hold(self, name: str) -> "CacheEntry":
        """Open an entry, new or old; it cannot be evicted while the result is alive.

        Raises:
            ShardError: the cache cannot be written to, or lies where there are no locks.
        """
        assert _NAME.fullmatch(name), name
        with self.disk_errors():
            self.locks.mkdir(parents=True, exist_ok=True)
            lock = hold(self.locks / f"{name}.use", is_shared=True)
            os.utime(self.locks / f"{name}.use")
            entry = CacheEntry(self, self.folder / "data" / name, lock)
            entry.folder.mkdir(parents=True, exist_ok=True)
        return entry

    @contextmanager
    def disk_errors(self) -> Iterator[None]:
        """Turn what the system says of this disk into a sentence."""
        try:
            yield
        except OSError as error:
            raise ShardError(
                f"local cache {self.folder} cannot be used ({error.strerror or error}); set the "
                "local cache to a folder on a disk of this node with room and locks"
            ) from error

    def make_room(self, name: str, *, more: int, title: str) -> None:
        """Promise an entry `more` bytes, evicting what was not used for longest and is not in use.

        Raises:
            NoRoomError: it does not fit.
        """
        with hold(self.locks / "room"):
            others = self._sizes()
            own = others.pop(name, _Size(there=0, in_the_end=0)).there + more
            free = shutil.disk_usage(self.folder).free
            if own > self.most_bytes or more > free + sum(size.there for size in others.values()):
                raise self._no_room(own, {}, title)  # evictions would be made in vain
            while self._is_tight(own, more, others):
                for oldest in others:
                    if lock := hold_if_free(self.locks / f"{oldest}.use"):
                        break
                else:
                    raise self._no_room(own, others, title)
                with lock:
                    log.info("local cache %s: evicting %s", self.folder, oldest[:12])
                    shutil.rmtree(self.folder / "data" / oldest)
                del others[oldest]
            (self.folder / "data" / name / PROMISE_NAME).write_text(str(own))

    def _is_tight(self, own: int, more: int, others: dict[str, _Size]) -> bool:
        in_the_end = sum(size.in_the_end for size in others.values())
        to_come = in_the_end - sum(size.there for size in others.values())
        free = shutil.disk_usage(self.folder).free
        return own + in_the_end > self.most_bytes or free < more + to_come

    def _sizes(self) -> dict[str, _Size]:
        """Return every entry with its size, those used longest ago first."""
        used: dict[str, float] = {}
        for name in filter(_NAME.fullmatch, os.listdir(self.folder / "data")):
            lock = self.locks / f"{name}.use"
            used[name] = lock.stat().st_mtime if lock.exists() else 0.0
        sizes = {}
        for name in sorted(used, key=used.__getitem__):
            folder, there, promised = self.folder / "data" / name, 0, 0
            for path in folder.iterdir():
                with suppress(FileNotFoundError):  # another process has renamed it a moment ago
                    there += path.stat().st_size
            with suppress(OSError, ValueError):
                promised = int((folder / PROMISE_NAME).read_text())
            sizes[name] = _Size(there=there, in_the_end=max(there, promised))
        return sizes

    def _no_room(self, own: int, in_use: dict[str, _Size], title: str) -> NoRoomError:
        held = sum(size.in_the_end for size in in_use.values())
        by_others = f", {_gib(held)} of them in use by other processes" if in_use else ""
        free = shutil.disk_usage(self.folder).free
        return NoRoomError(
            f"{title} needs {_gib(own)} in the local cache {self.folder}, which may hold "
            f"{_gib(self.most_bytes)}{by_others}, on a disk with {_gib(free)} free; raise the "
            "local cache's limit, free space, or set the local cache to a larger disk"
        )


class CacheEntry:
    """One data set in the cache; keep it alive for as long as its files are read."""

    def __init__(self, cache: LocalCache, folder: Path, lock: HeldLock) -> None:
        self.cache, self.folder, self._lock = cache, folder, lock

    def release(self) -> None:
        self._lock.release()

    def fetch(self, files: Sequence[WantedFile], source: ShardSource, *, title: str) -> None:
        """Make sure that `files` are there; one process of the node fetches, the others wait.

        Raises:
            NoRoomError: they do not fit.
            ShardError: the source is broken off, lacks one, or is not what the digests say.
        """
        path = self.cache.locks / f"{self.folder.name}.fetch"
        with self.cache.disk_errors():
            if not self._missing(files):
                return
            lock = hold_if_free(path)
            if lock is None:
                log.info("%s: another process of this node fetches it, waiting", title)
                lock = hold(path)
            with lock:
                if missing := self._missing(files):
                    for left_over in self.folder.glob("*" + FETCHED_SUFFIX):
                        left_over.unlink()
                    more = sum(file.bytes or 0 for file in missing)
                    self.cache.make_room(self.folder.name, more=more, title=title)
                    fetch_files(missing, source, self.folder, title=title)

    def _missing(self, files: Sequence[WantedFile]) -> list[WantedFile]:
        return [file for file in files if not file.is_in(self.folder)]


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**27 else f"{count / 2**20:.2f} MiB"
