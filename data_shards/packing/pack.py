"""Image files to tars and indexes: many threads prepare, one writes in order.

Threads read, check, resize and hash chunks of images, all of which release the interpreter; the
caller's thread appends the chunks to one tar after the other, while one more thread hashes the tar
and another waits for the disk. So the bytes do not depend on the
number of threads, a tar is either finished or the one that was being written, and no more images
are in memory than the chunks in flight.
"""

import hashlib
import json
import os
import struct
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np

from data_shards.index import ENCODINGS, ROW, Rows, write_index
from data_shards.manifest import ShardEntry
from data_shards.packing.cut import TarContent
from data_shards.packing.image_profile import Profile
from data_shards.packing.stored_image import StoredImage, stored_image
from data_shards.packing.tar import TAR_BLOCK, TAR_END, member_header, padding
from data_shards.schema import SCHEMA_VERSION, ImageRecord, Role, View

IMAGES_PER_CHUNK = 16
CHUNKS_AHEAD_PER_WORKER = 2
PACKED_ROW = struct.Struct("<QIIIHHfBBBB16s")
"""One row of an index, as `ROW` reads it; numpy would set its fields ten times as slowly."""

NOT_KNOWN = float("nan")

VIEW_WORDS = {view: view.word for view in View}
ROLE_WORDS = {Role(number): Role(number).words for number in range(1, 8)}
"""Looked up, because enumerations work their words out again every time."""

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Consecutive images of one tar, ready to be appended."""

    parts: list[bytes]
    """Buffers that follow each other in the tar."""

    rows: bytearray
    """Rows of the index, with offsets counted from the start of the chunk."""

    num_images: int
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class PackedTar:
    """What became of one tar."""

    entry: ShardEntry
    rows: Rows


def prepare_chunk(
    records: Sequence[ImageRecord], *, profile: Profile, number: dict[str, int]
) -> Chunk:
    """Read, check and hash some images.

    Raises:
        ShardError: an image is unreadable.
    """
    parts, between, rows, offset = [], b"", bytearray(), 0
    for record in records:
        image = stored_image(record, profile)
        content, size = image.content, len(image.content)
        sha256 = hashlib.sha256(content)
        key = record.key
        between += member_header(f"{key}.{VIEW_WORDS[record.view]}.{image.suffix}", size)
        rows += _row(record, image, offset + TAR_BLOCK, number[record.place], sha256.digest())
        text = sample_json(record, key, image, sha256.hexdigest())
        described = member_header(f"{key}.json", len(text)) + text + padding(len(text))
        parts += [between, content]
        between = padding(size) + described
        offset += TAR_BLOCK + size + len(between)
    return Chunk(parts=[*parts, between], rows=rows, num_images=len(records), num_bytes=offset)


def sample_json(record: ImageRecord, key: str, image: StoredImage, sha256: str) -> bytes:
    """Return the JSON member of one image."""
    values = {
        "schema_version": SCHEMA_VERSION,
        "key": key,
        "place": record.place,
        "view": VIEW_WORDS[record.view],
        "roles": ROLE_WORDS[record.roles],
        "position": record.position,
        "altitude_m": record.altitude_m,
        "orientation": image.orientation,
        "sha256": sha256,
    }
    return json.dumps(values, sort_keys=True).encode()


def _row(record: ImageRecord, image: StoredImage, offset: int, place: int, sha256: bytes) -> bytes:
    return PACKED_ROW.pack(
        offset,
        len(image.content),
        place,
        0,  # start and length of the key are filled in when the index is written
        0,
        record.position,
        NOT_KNOWN if record.altitude_m is None else record.altitude_m,
        record.view,
        record.roles,
        ENCODINGS.index(image.suffix),
        image.orientation,
        sha256[:16],
    )


class GrowingTar:
    """One tar being written, or only hashed where there is no path."""

    def __init__(self, name: str, path: Path | None, *, hashing: ThreadPoolExecutor) -> None:
        self.name, self.path, self.hashing = name, path, hashing
        self.rows: list[Rows] = []
        self.size, self.sha256 = 0, hashlib.sha256()
        self.handle = -1
        if path is not None:
            self.handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def append(self, chunk: Chunk) -> None:
        """Write some images behind those already there."""
        rows = np.frombuffer(chunk.rows, dtype=ROW)
        rows["offset"] += self.size
        self.rows.append(rows)
        self._write(chunk.parts)

    def end(self) -> None:
        """Write what ends a tar."""
        self._write([TAR_END])

    def _write(self, parts: list[bytes]) -> None:
        hashed = self.hashing.submit(self._hash, parts)
        self.size += sum(map(len, parts))
        if self.handle >= 0:
            write_all(self.handle, parts)
        hashed.result()

    def _hash(self, parts: list[bytes]) -> None:
        for part in parts:
            self.sha256.update(part)

    def settle(self, records: Sequence[ImageRecord]) -> PackedTar:
        """Bring the tar to the disk and write its index."""
        rows, index_sha256 = np.concatenate(self.rows), ""
        try:
            if self.path is not None:
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

    def close(self) -> None:
        """Let go of the file."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1

    def __enter__(self) -> "GrowingTar":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.close()


def write_all(handle: int, parts: list[bytes]) -> None:
    """Write buffers one behind the other, however many calls the system wants for it."""
    views = [memoryview(part) for part in parts if part]
    while views:
        written = os.writev(handle, views[:512])
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]


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

    def prepare(records: Sequence[ImageRecord]) -> Chunk:
        return prepare_chunk(records, profile=profile, number=number)

    def settle(tar: GrowingTar, records: Sequence[ImageRecord]) -> PackedTar:
        packed = tar.settle(records)
        settled(packed)
        return packed

    ahead = workers * CHUNKS_AHEAD_PER_WORKER
    records = (chunk for tar in tars for chunk in _chunks(tar.records))
    waiting: deque[Future[PackedTar]] = deque()
    with (
        ThreadPoolExecutor(workers) as pool,
        ThreadPoolExecutor(1) as hashing,
        ThreadPoolExecutor(1) as settling,
        closing(map_in_order(prepare, records, pool=pool, ahead=ahead)) as chunks,
    ):
        for tar in tars:
            path = None if folder is None else folder / tar.name
            with GrowingTar(tar.name, path, hashing=hashing) as file:
                for chunk in islice(chunks, _num_chunks(tar)):
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


def _chunks(records: Sequence[ImageRecord]) -> Iterator[Sequence[ImageRecord]]:
    return (
        records[start : start + IMAGES_PER_CHUNK]
        for start in range(0, len(records), IMAGES_PER_CHUNK)
    )


def _num_chunks(tar: TarContent) -> int:
    return -(-len(tar.records) // IMAGES_PER_CHUNK)
