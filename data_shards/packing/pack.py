"""Image files to tars and indexes: many threads prepare, one writes in order.

Threads read, check, resize and hash chunks of images, all of which release the interpreter; the
caller's thread appends the chunks to one tar after the other, while one more thread hashes the tar
and another waits for the disk, from early on. So the bytes do not depend on the number of threads,
a tar is either finished or the one that was being written, and no more images are in memory than
the chunks in flight.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from data_shards.decode import Content
from data_shards.index import ROW, Rows, write_index
from data_shards.manifest import ShardEntry
from data_shards.packing.shard_layout import TarContent
from data_shards.packing.stored_image import Profile
from data_shards.packing.tar_chunk import TAR_END, Chunk, pack_chunk
from data_shards.schema import ImageRecord

IMAGES_PER_CHUNK = 16
CHUNKS_AHEAD_PER_WORKER = 2

BYTES_PER_FLUSH = 2**24
"""How much of a tar is written before the disk is asked to begin: else it would idle until the
end, and the end would wait for all of it."""

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, kw_only=True)
class PackedTar:
    """What became of one tar."""

    entry: ShardEntry
    rows: Rows


class GrowingTar:
    """One tar being written, or only hashed where there is no path; a failure closes it."""

    def __init__(
        self, name: str, path: Path | None, *, hashing: ThreadPoolExecutor, disk: ThreadPoolExecutor
    ) -> None:
        self.name, self.path, self.hashing, self.disk = name, path, hashing, disk
        self.rows: list[Rows] = []
        self.size, self.sha256 = 0, hashlib.sha256()
        self.handle = -1
        self.flushed, self.flush = 0, Future[None]()
        self.flush.set_result(None)
        if path is not None:
            self.handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def append(self, chunk: Chunk) -> None:
        """Write some images behind those already there."""
        rows = np.frombuffer(chunk.rows, dtype=ROW)
        rows["offset"] += self.size
        self.rows.append(rows)
        self._write(chunk.content)

    def end(self) -> None:
        """Write what ends a tar."""
        self._write(TAR_END)

    def _write(self, content: Content) -> None:
        hashed = self.hashing.submit(self.sha256.update, content)
        self.size += len(content)
        if self.handle >= 0:
            write_all(self.handle, content)
            if self.size - self.flushed >= BYTES_PER_FLUSH and self.flush.done():
                self.flush.result()  # a disk that fails says so once only
                self.flushed, self.flush = self.size, self.disk.submit(os.fsync, self.handle)
        hashed.result()

    def settle(self, records: Sequence[ImageRecord]) -> PackedTar:
        """Bring the tar to the disk and write its index."""
        rows, index_sha256 = np.concatenate(self.rows), ""
        try:
            if self.path is not None:
                self.flush.result()
                os.fsync(self.handle)
                index_sha256 = write_index(
                    self.path.with_suffix(".index"),
                    rows,
                    [record.key for record in records],
                    tar_bytes=self.size,
                    tar_sha256=self.sha256.digest(),
                ).hex()
        finally:
            self.close()
        entry = ShardEntry(
            name=self.name,
            images=len(rows),
            bytes=self.size,
            sha256=self.sha256.hexdigest(),
            index_sha256=index_sha256,
        )
        return PackedTar(entry=entry, rows=rows)

    def __enter__(self) -> "GrowingTar":
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is not None:
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        if not self.flush.cancel():
            wait([self.flush])
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1


def write_all(handle: int, content: Content) -> None:
    """Write a buffer, however many calls the system wants for it."""
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]


def pack_tars(
    tars: Sequence[TarContent],
    folder: Path | None,
    *,
    profile: Profile,
    number: dict[str, int],
    workers: int,
    count: Callable[[int], None],
    settled: Callable[[PackedTar], None],
) -> Generator[PackedTar, None, None]:
    """Write tars and their indexes into `folder`, or only hash them where there is none.

    Args:
        tars: what to write, in order.
        folder: where, or nowhere.
        profile: what becomes of the images.
        number: place to its number in the manifest.
        workers: threads.
        count: called with how many images were written.
        settled: called with each tar as soon as it is on the disk, also when a later one fails.

    Yields:
        Every tar, in order, once it is on the disk.

    Raises:
        ShardError: an image is unreadable; the tars before stay, half a one may.
    """
    prepare = partial(pack_chunk, profile=profile, number=number)

    def settle(tar: GrowingTar, records: Sequence[ImageRecord]) -> PackedTar:
        packed = tar.settle(records)
        settled(packed)
        return packed

    ahead = workers * CHUNKS_AHEAD_PER_WORKER
    records = (
        tar.records[start : start + IMAGES_PER_CHUNK]
        for tar in tars
        for start in range(0, len(tar.records), IMAGES_PER_CHUNK)
    )
    waiting: deque[Future[PackedTar]] = deque()
    with (
        ThreadPoolExecutor(workers) as pool,
        ThreadPoolExecutor(1) as hashing,
        ThreadPoolExecutor(1) as settling,
        closing(map_in_order(prepare, records, pool=pool, ahead=ahead)) as chunks,
    ):
        for tar in tars:
            path = None if folder is None else folder / tar.name
            with GrowingTar(tar.name, path, hashing=hashing, disk=settling) as file:
                for chunk in islice(chunks, -(-len(tar.records) // IMAGES_PER_CHUNK)):
                    file.append(chunk)
                    count(chunk.num_images)
                file.end()
            waiting.append(settling.submit(settle, file, tar.records))
            while waiting and (waiting[0].done() or len(waiting) > 2):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def map_in_order(
    function: Callable[[T], U], items: Iterable[T], *, pool: ThreadPoolExecutor, ahead: int
) -> Generator[U, None, None]:
    """Yield `function(item)` for every item in order, computing at most `ahead` of them early."""
    waiting: deque[Future[U]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
