"""Plain POSIX tar, byte for byte: headers without owner or time, the same in every Python."""

from data_shards.errors import ShardError

TAR_BLOCK = 512
TAR_END = bytes(2 * TAR_BLOCK)
"""Two zero blocks, which end a tar."""

NAME_BYTES, PREFIX_BYTES = 100, 155
MOST_BYTES = 8**11 - 1
"""Largest member whose length fits into a ustar header."""

MODE_AND_OWNER = b"0000644\0" + b"0000000\0" * 2
NO_TIME = b"00000000000\0"
REGULAR_FILE = b"0" + bytes(100) + b"ustar\0" + b"00" + bytes(64 + 16)

SUM_OF_THE_SAME = sum(MODE_AND_OWNER) + sum(NO_TIME) + sum(b" " * 8) + sum(REGULAR_FILE)
"""What is in every header, in its checksum; this counts itself as eight blanks."""


def member_header(name: str, size: int) -> bytes:
    """Return the 512 bytes that stand before a member of `size` bytes.

    Raises:
        ShardError: the name is too long for a tar, or the member too large.
    """
    prefix, last = _split_name(name)
    if size > MOST_BYTES:
        raise ShardError(f"{name} does not fit into a tar ({size} bytes); make the image smaller")
    length = b"%011o\0" % size
    checksum = b"%06o\0 " % (SUM_OF_THE_SAME + sum(last) + sum(length) + sum(prefix))
    before = last.ljust(NAME_BYTES, b"\0") + MODE_AND_OWNER + length + NO_TIME + checksum
    return before + REGULAR_FILE + prefix.ljust(PREFIX_BYTES + 12, b"\0")


def padding(size: int) -> bytes:
    """Return the zeros that fill up the last block of a member."""
    return bytes(-size % TAR_BLOCK)


def _split_name(name: str) -> tuple[bytes, bytes]:
    """Return prefix and name as ustar stores them: cut at the first slash that makes both fit."""
    encoded = name.encode()
    if len(encoded) <= NAME_BYTES:
        return b"", encoded
    at = encoded.find(b"/")
    while at != -1:
        prefix, last = encoded[:at], encoded[at + 1 :]
        if len(last) <= NAME_BYTES and len(prefix) <= PREFIX_BYTES:
            return prefix, last
        at = encoded.find(b"/", at + 1)
    raise ShardError(f"{name} does not fit into a tar (name is too long); rename the file")
