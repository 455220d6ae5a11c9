"""The binary index beside each tar: where every image lies and what it shows, one fixed row each.

The format is described in `docs/shards.md`; it is read by `numpy.memmap` without parsing.
"""

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_shards.errors import ShardError
from data_shards.schema import SCHEMA_VERSION

MAGIC = b"SKYINDEX"
HEADER = struct.Struct("<8sIIQQ32s")
"""Magic, schema version, rows, bytes of the tar, bytes of the key table, SHA-256 of the tar."""

ENCODINGS = ("jpg", "png", "webp")

ROW = np.dtype(
    [
        ("offset", "<u8"),
        ("size", "<u4"),
        ("place", "<u4"),
        ("key_start", "<u4"),
        ("key_size", "<u2"),
        ("position", "<u2"),
        ("altitude_m", "<f4"),
        ("view", "u1"),
        ("roles", "u1"),
        ("encoding", "u1"),
        ("orientation", "u1"),
        ("digest", "V16"),
    ]
)
"""One image in 48 bytes, little-endian; `place` indexes the manifest's places, `orientation` is the
EXIF value 1 to 8 that says how the stored pixels are to be turned, `digest` is the first half of
the image's SHA-256."""

Rows = npt.NDArray[np.void]

AGAIN = "run skydistill shard again into a new folder"


@dataclass(frozen=True, kw_only=True)
class Index:
    """What one index says."""

    rows: Rows
    keys: list[str]
    tar_bytes: int
    tar_sha256: str


def write_index(path: Path, rows: Rows, keys: list[str], *, tar_bytes: int, tar_sha256: str) -> str:
    """Write rows and keys to `path`, unless they stand there, and return the file's SHA-256.

    What `rows` say of the keys is filled in.
    """
    encoded = [key.encode() for key in keys]
    sizes = np.array([len(key) for key in encoded], dtype=np.uint32)
    rows["key_size"] = sizes
    rows["key_start"] = np.concatenate([[0], np.cumsum(sizes)[:-1]]) if len(sizes) else sizes
    table = b"".join(encoded)
    sha256 = bytes.fromhex(tar_sha256)
    header = HEADER.pack(MAGIC, SCHEMA_VERSION, len(rows), tar_bytes, len(table), sha256)
    content = header + rows.tobytes() + table
    if not (path.is_file() and path.read_bytes() == content):
        write_aside(path, content)
    return hashlib.sha256(content).hexdigest()


def write_aside(path: Path, content: bytes) -> None:
    """Write a file aside, bring it to the disk, then rename it; nothing stays of what fails."""
    aside = path.with_name(path.name + ".partial")
    file = aside.open("wb")
    try:
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def read_index(path: Path, *, tar: Path | None, sha256: str) -> Index:
    """Read one index, and check that it belongs to `tar` as it lies there.

    Args:
        path: the index.
        tar: the tar beside it; its length is compared, and its first and last image, which are
            others in a tar that was written again. None leaves it alone.
        sha256: digest of the index, as the manifest has it.

    Raises:
        ShardError: the index or the tar is missing, cut short, of another version or another set.
    """
    content = checked_content(path, sha256)
    _, _, count, tar_bytes, _, tar_sha256 = HEADER.unpack_from(content)
    rows = np.frombuffer(content, dtype=ROW, count=count, offset=HEADER.size)
    table = content[HEADER.size + count * ROW.itemsize :]
    keys = [
        table[start : start + size].decode()
        for start, size in zip(rows["key_start"].tolist(), rows["key_size"].tolist(), strict=True)
    ]
    index = Index(rows=rows, keys=keys, tar_bytes=tar_bytes, tar_sha256=tar_sha256.hex())
    if tar is not None:
        check_tar(tar, index.tar_bytes)
        try:
            with tar.open("rb") as file:
                for at in (0, -1) if len(index.rows) else ():
                    row = index.rows[at]
                    file.seek(int(row["offset"]))
                    digest = hashlib.sha256(file.read(int(row["size"]))).digest()
                    if digest[:16] != row["digest"].tobytes():
                        raise ShardError(
                            f"{tar} is newer than its index, or damaged: {index.keys[at]} is "
                            f"another image; look with skydistill verify, restore it or {AGAIN}"
                        )
        except OSError as error:
            raise ShardError(
                f"{tar} cannot be read ({error.strerror}); restore it or {AGAIN}"
            ) from error
    return index


def checked_content(path: Path, sha256: str) -> bytes:
    """Return the bytes of an index, if it is whole, of this version, and has this digest."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ShardError(f"{path} cannot be read ({error.strerror}); {AGAIN}") from error
    if len(content) < HEADER.size or content[:8] != MAGIC:
        raise ShardError(f"{path} is not a shard index; {AGAIN}")
    _, version, count, _, table_bytes, _ = HEADER.unpack_from(content)
    if version != SCHEMA_VERSION:
        raise ShardError(
            f"{path} has schema version {version}, this program reads {SCHEMA_VERSION}; {AGAIN}"
        )
    if len(content) != HEADER.size + count * ROW.itemsize + table_bytes:
        raise ShardError(f"{path} has a wrong length ({len(content)} bytes); {AGAIN}")
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ShardError(
            f"{path} is not the index that the manifest names (its digest differs); {AGAIN}"
        )
    return content


def check_tar(tar: Path, expected_bytes: int) -> None:
    """Check that a tar is there in full length."""
    try:
        actual = tar.stat().st_size
    except OSError as error:
        raise ShardError(f"{tar} is missing ({error.strerror}); restore it or {AGAIN}") from error
    if actual != expected_bytes:
        raise ShardError(
            f"{tar} has {actual} bytes and its index says {expected_bytes}: "
            f"the tar is truncated or was changed; {AGAIN}"
        )
