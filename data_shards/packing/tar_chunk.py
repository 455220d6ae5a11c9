"""Some images of a tar that follow each other, read, checked and hashed where they will be written.

They lie in memory that is used again and again. Fresh memory would be handed out page by page by
the system, which takes longer than to read a file from its cache.
"""

import hashlib
import json
import math
import os
import struct
import tarfile
from collections.abc import Sequence
from typing import Any

from data_shards.decode import Content
from data_shards.errors import ShardError
from data_shards.index import ENCODINGS
from data_shards.packing.stored_image import Profile, StoredImage, stored_image, unreadable
from data_shards.packing.summary import WORDS_OF_ROLES
from data_shards.schema import SCHEMA_VERSION, ImageRecord

TAR_BLOCK = tarfile.BLOCKSIZE
TAR_END = bytes(2 * TAR_BLOCK)
"""Two zero blocks, which end a tar."""

MOST_BYTES = 8**11 - 1
"""Largest member whose length fits into a ustar header."""


def member_header(name: str, size: int) -> bytes:
    """Return the 512 bytes that stand before a member of `size` bytes.

    Raises:
        ShardError: the name is too long for a tar or no UTF-8, or the member too large.
    """
    if size > MOST_BYTES:
        raise ShardError(f"{name} does not fit into a tar ({size} bytes); make the image smaller")
    member = tarfile.TarInfo(name)
    member.size = size
    try:
        return member.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
    except ValueError as error:
        raise ShardError(
            f"{name} does not fit into a tar ({error}); rename the file or its folder"
        ) from error


def padding(size: int) -> bytes:
    """Return the zeros that fill up the last block of a member."""
    return bytes(-size % TAR_BLOCK)


BYTES_AT_FIRST = 2**21

PACKED_ROW = struct.Struct("<QIIIHHfBBBB16s")
"""One row of an index, as `ROW` reads it; numpy would set its fields ten times as slowly."""


class Chunk:
    """Consecutive images of one tar, ready to be appended; `clear` makes room for others."""

    def __init__(self) -> None:
        self._memory = memoryview(bytearray(BYTES_AT_FIRST))
        self.clear()

    def clear(self) -> None:
        """Forget the images and keep the memory."""
        self.num_images, self.num_bytes = 0, 0
        self.rows = bytearray()
        """Rows of the index, with offsets counted from the start of the chunk."""

    @property
    def content(self) -> "memoryview[Any]":
        """The bytes of the tar."""
        return self._memory[: self.num_bytes]

    def add(self, record: ImageRecord, *, profile: Profile, place: int) -> None:
        """Read, check and hash one image, and describe it; `place` is its number in the manifest.

        Raises:
            ShardError: it is unreadable.
        """
        start = self.num_bytes + TAR_BLOCK
        source = self._read(record, start)
        image = stored_image(record, source, profile)
        size = len(image.content)
        if image.content is not source:
            self._put(start, image.content)
        sha256 = hashlib.sha256(image.content)
        self.rows += _row(record, image, start, place, sha256.digest())
        key = record.key
        header = member_header(f"{key}.{record.view.word}.{image.suffix}", size)
        self._put(start - TAR_BLOCK, header)
        text = sample_json(record, key, image, sha256.hexdigest())
        described = member_header(f"{key}.json", len(text)) + text + padding(len(text))
        self.num_bytes = self._put(start + size, padding(size) + described)
        self.num_images += 1

    def _read(self, record: ImageRecord, start: int) -> "memoryview[Any]":
        """Read a file to its end into the memory from `start`, and return it there."""
        end = start
        try:
            handle = os.open(record.path, os.O_RDONLY)
            try:
                while True:
                    self._reserve(end + 1)
                    got = os.readv(handle, [self._memory[end:]])
                    if not got:
                        return self._memory[start:end]
                    end += got
            finally:
                os.close(handle)
        except OSError as error:
            raise unreadable(record, error) from error

    def _put(self, start: int, content: Content) -> int:
        """Copy bytes into the memory, and return where they end."""
        end = start + len(content)
        self._reserve(end)
        self._memory[start:end] = content
        return end

    def _reserve(self, size: int) -> None:
        """Make sure that the memory holds `size` bytes."""
        if size > len(self._memory):
            larger = memoryview(bytearray(2 * size))
            larger[: len(self._memory)] = self._memory
            self._memory = larger


class SpareChunks:
    """Chunks whose bytes were written, to be filled again by any thread."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []

    def take(self) -> Chunk:
        """Return an empty chunk, a new one only if there is no other."""
        try:
            return self._chunks.pop()
        except IndexError:
            return Chunk()

    def put_back(self, chunk: Chunk) -> None:
        """Forget the images of a chunk and keep its memory."""
        chunk.clear()
        self._chunks.append(chunk)


def fill(
    chunk: Chunk, records: Sequence[ImageRecord], *, profile: Profile, number: dict[str, int]
) -> Chunk:
    """Put some images into an empty chunk; `number` is that of every place in the manifest.

    Raises:
        ShardError: one is unreadable.
    """
    for record in records:
        chunk.add(record, profile=profile, place=number[record.place])
    return chunk


def sample_json(record: ImageRecord, key: str, image: StoredImage, sha256: str) -> bytes:
    """Return the JSON member of one image."""
    told = {
        "altitude_m": record.altitude_m,
        "key": key,
        "orientation": image.orientation,
        "place": record.place,
        "position": record.position,
        "roles": WORDS_OF_ROLES[record.roles],
        "schema_version": SCHEMA_VERSION,
        "sha256": sha256,
        "view": record.view.word,
    }
    return json.dumps(told).encode()


def _row(record: ImageRecord, image: StoredImage, offset: int, place: int, sha256: bytes) -> bytes:
    return PACKED_ROW.pack(
        offset,
        len(image.content),
        place,
        0,  # start and length of the key are filled in when the index is written
        0,
        record.position,
        math.nan if record.altitude_m is None else record.altitude_m,
        record.view,
        record.roles,
        ENCODINGS.index(image.suffix),
        image.orientation,
        sha256[:16],
    )
