"""Headers are those of the standard library, byte for byte."""

import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_shards.errors import ShardError
from data_shards.packing.tar_chunk import MOST_BYTES, TAR_BLOCK, member_header, padding

NAMES = st.text("abcä09-_./", min_size=1, max_size=300).filter(lambda name: not name.endswith("/"))


@given(NAMES, st.integers(0, MOST_BYTES))
def test_a_header_is_that_of_the_standard_library(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    try:
        expected = info.tobuf(format=tarfile.USTAR_FORMAT)
    except ValueError:
        with pytest.raises(ShardError, match="does not fit into a tar .*; rename the file"):
            member_header(name, size)
        return
    header = member_header(name, size)
    read = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    assert (len(header), read.name, read.size) == (TAR_BLOCK, name, size)
    assert (read.mode, read.uid, read.gid, read.mtime, read.uname) == (0o644, 0, 0, 0, "")
    if len(name.encode()) <= 100:
        assert header == expected


def test_a_member_that_is_too_large_is_told() -> None:
    with pytest.raises(ShardError, match=f"{MOST_BYTES + 1} bytes"):
        member_header("a.jpg", MOST_BYTES + 1)


@pytest.mark.parametrize(("size", "zeros"), [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)])
def test_members_fill_whole_blocks(size: int, zeros: int) -> None:
    assert padding(size) == bytes(zeros)
