"""Plain POSIX tar: headers without owner or time, the same in every Python."""

import tarfile

from data_shards.errors import ShardError

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
