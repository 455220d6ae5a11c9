"""Image files to tars and indexes: many threads prepare, one writes in order.

Threads read, check, resize and hash chunks of images, all of which release the interpreter; the
caller's thread appends the chunks to one tar after the other, and one more waits for the disk. So
the bytes do not depend on the number of threads, a tar is either finished or the one that was being
written, and no more images are in memory than the chunks in flight.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from data_shards.index import ROW, Rows, write_index
from data_shards.manifest import ShardEntry
from data_shards.packing.image_facts import ImageFacts
from data_shards.packing.shard_layout import TarContent
from data_shards.packing.stored_image import Profile, UnreadableError
from data_shards.packing.tar_chunk import TAR_END, Chunk, pack_chunk
from data_shards.schema import ImageRecord

IMAGES_PER_CHUNK = 16
CHUNKS_AHEAD_PER_WORKER = 2

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, kw_only=True)
class PackedTar:
    """What became of one tar."""

    entry: ShardEntry
    rows: Rows
    facts: ImageFacts


class GrowingTar:
    """One tar being written, or only hashed where there is no path."""

    def __init__(self, name: str, path: Path | None) -> None:
        self.name, self.path, self.rows = name, path, list[Rows]()
        self.size, self.sha256, self.facts = 0, hashlib.sha256(), ImageFacts()
        self.file = path.open("xb") if path is not None else None

    def append(self, chunk: Chunk) -> None:
        """Write some images behind those already there."""
        rows = np.frombuffer(chunk.rows, dtype=ROW)
        rows["offset"] += self.size
        self.rows.append(rows)
        self.facts.add(chunk.facts)
        self._write(chunk.content)

    def end(self) -> None:
        self._write(TAR_END)

    def _write(self, content: bytes) -> None:
        self.size += len(content)
        self.sha256.update(content)
        if self.file is not None:
            self.file.write(content)

    def settle(
        self, records: Sequence[ImageRecord], settled: Callable[[PackedTar], None]
    ) -> PackedTar:
        """Bring the tar to the disk, write its index, and tell `settled`."""
        rows, index_sha256 = np.concatenate(self.rows), ""
        if self.file is not None and self.path is not None:
            with self.file:
                self.file.flush()
                os.fsync(self.file.fileno())
            index_sha256 = write_index(
                self.path.with_suffix(".index"),
                rows,
                [record.key for record in records],
                tar_bytes=self.size,
                tar_sha256=self.sha256.hexdigest(),
            )
        entry = ShardEntry(
            name=self.name,
            images=len(rows),
            bytes=self.size,
            sha256=self.sha256.hexdigest(),
            index_sha256=index_sha256,
        )
        packed = PackedTar(entry=entry, rows=rows, facts=self.facts)
        settled(packed)
        return packed

    def close(self) -> None:
        """Give the tar up."""
        if self.file is not None:
            with suppress(OSError):  # what is buffered does not matter any more
                self.file.close()


def pack_tars(
    tars: Sequence[TarContent],
    folder: Path | None,
    *,
    profile: Profile,
    number: dict[str, int],
    is_decoded: bool,
    workers: int,
    count: Callable[[int], None],
    settled: Callable[[PackedTar], None],
) -> Generator[PackedTar, None, None]:
    """Write tars and their indexes into `folder`, or only hash them; yield each when it is done.

    Args:
        tars: what to write, in order.
        folder: where, or nowhere.
        profile: what becomes of the images.
        number: place to its number in the manifest.
        is_decoded: whether every image is decoded once.
        workers: threads.
        count: called with how many images were written.
        settled: called with each tar as soon as it is on the disk, also when a later one fails.

    Raises:
        UnreadableError: images are unreadable, all that are told; the other tars are there.
    """
    prepare = partial(pack_chunk, profile=profile, number=number, is_decoded=is_decoded)

    ahead = workers * CHUNKS_AHEAD_PER_WORKER
    records = (
        tar.records[start : start + IMAGES_PER_CHUNK]
        for tar in tars
        for start in range(0, len(tar.records), IMAGES_PER_CHUNK)
    )
    waiting, unreadable = deque[Future[PackedTar]](), list[tuple[ImageRecord, str]]()
    with (
        ThreadPoolExecutor(workers) as pool,
        ThreadPoolExecutor(1) as settling,
        closing(map_in_order(prepare, records, pool=pool, ahead=ahead)) as chunks,
    ):
        for tar in tars:
            file = GrowingTar(tar.name, None if folder is None else folder / tar.name)
            found = len(unreadable)
            with ExitStack() as given_up:
                given_up.callback(file.close)
                for chunk in islice(chunks, -(-len(tar.records) // IMAGES_PER_CHUNK)):
                    file.append(chunk)
                    count(chunk.num_images)
                    unreadable += chunk.unreadable
                file.end()
                if len(unreadable) == found:
                    given_up.pop_all()
                    waiting.append(settling.submit(file.settle, tar.records, settled))
            while waiting and (waiting[0].done() or len(waiting) > 2):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    if unreadable:
        raise UnreadableError(unreadable)


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
